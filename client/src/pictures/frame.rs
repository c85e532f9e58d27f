//! What the child says: pictures, then how it ended. Little-endian; the parent believes none of it.
//!
//! ```text
//! picture = 01 ‖ width u32 ‖ height u32 ‖ width × height × 3 bytes, red green blue
//! done    = 02
//! failed  = 03 ‖ why u8
//! ```

use std::io::{self, Write};

use super::{PIXELS_MAX, SIDE_MAX, Undrawn};

const PICTURE: u8 = 1;
const DONE: u8 = 2;
const FAILED: u8 = 3;
const REASONS: [Undrawn; 6] = [
    Undrawn::Kind,
    Undrawn::TooLarge,
    Undrawn::Damaged,
    Undrawn::TooSlow,
    Undrawn::Broke,
    Undrawn::NotConfined,
];

/// One thing that the child says.
pub enum Frame {
    /// A picture: rows from above, red, green and blue of each pixel.
    Picture {
        /// Pixels to the right.
        width: u32,
        /// Pixels down.
        height: u32,
        /// Three bytes for each.
        pixels: Vec<u8>,
    },
    /// All pictures were made.
    Done,
    /// No more pictures can be made.
    Failed(Undrawn),
}

impl Frame {
    /// Writes it.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Picture {
                width,
                height,
                pixels,
            } => {
                to.write_all(&[PICTURE])?;
                to.write_all(&width.to_le_bytes())?;
                to.write_all(&height.to_le_bytes())?;
                to.write_all(pixels)
            }
            Self::Done => to.write_all(&[DONE]),
            Self::Failed(why) => {
                let at = REASONS
                    .iter()
                    .position(|reason| reason == why)
                    .unwrap_or_default();
                to.write_all(&[FAILED, u8::try_from(at).unwrap_or_default()])
            }
        }
    }
}

/// The beginning of a frame, as far as it can be read without its pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// A picture of this width and height follows.
    Picture(u32, u32),
    /// All pictures were made.
    Done,
    /// No more pictures can be made.
    Failed(Undrawn),
}

impl Head {
    /// The bytes that follow a frame's first byte.
    pub const fn rest(first: u8) -> Option<usize> {
        match first {
            PICTURE => Some(8),
            DONE => Some(0),
            FAILED => Some(1),
            _ => None,
        }
    }

    /// Reads the first byte and what follows it; nothing for what no honest child says.
    pub fn parse(first: u8, rest: &[u8]) -> Option<Self> {
        match (first, rest) {
            (PICTURE, [a, b, c, d, e, f, g, h]) => {
                let (width, height) = (
                    u32::from_le_bytes([*a, *b, *c, *d]),
                    u32::from_le_bytes([*e, *f, *g, *h]),
                );
                is_within_limits(width, height).then_some(Self::Picture(width, height))
            }
            (DONE, []) => Some(Self::Done),
            (FAILED, [why]) => REASONS.get(usize::from(*why)).copied().map(Self::Failed),
            _ => None,
        }
    }

    /// How many bytes of pixels follow.
    pub fn pixel_bytes(self) -> usize {
        match self {
            Self::Picture(width, height) => {
                let pixels = u64::from(width).saturating_mul(u64::from(height));
                usize::try_from(pixels.saturating_mul(3)).unwrap_or(usize::MAX)
            }
            Self::Done | Self::Failed(_) => 0,
        }
    }
}

/// Whether a picture may be as large.
pub(super) fn is_within_limits(width: u32, height: u32) -> bool {
    let sides = (1..=SIDE_MAX).contains(&width) && (1..=SIDE_MAX).contains(&height);
    sides && u64::from(width).saturating_mul(u64::from(height)) <= PIXELS_MAX
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]
mod tests {
    use super::*;

    fn written(frame: &Frame) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame.write(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        let picture = written(&Frame::Picture {
            width: 2,
            height: 1,
            pixels: vec![7; 6],
        });
        let head = Head::parse(picture[0], &picture[1..9]).unwrap();
        assert_eq!(head, Head::Picture(2, 1));
        assert_eq!(head.pixel_bytes(), 6);
        assert_eq!(Head::parse(written(&Frame::Done)[0], &[]), Some(Head::Done));
        for why in REASONS {
            let bytes = written(&Frame::Failed(why));
            assert_eq!(Head::parse(bytes[0], &bytes[1..]), Some(Head::Failed(why)));
        }
    }

    #[test]
    fn what_no_honest_child_says_is_refused() {
        for (width, height) in [
            (0, 1),
            (1, 0),
            (SIDE_MAX + 1, 1),
            (16_000, 16_000),
            (u32::MAX, u32::MAX),
        ] {
            let rest = [width.to_le_bytes(), height.to_le_bytes()].concat();
            assert_eq!(Head::parse(1, &rest), None, "{width} x {height}");
        }
        assert_eq!(Head::parse(3, &[6]), None);
        assert_eq!(Head::rest(0), None);
        assert_eq!(Head::parse(4, &[]), None);
    }
}
