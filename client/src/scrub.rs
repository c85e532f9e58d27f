//! A working copy of an image without what it says beside its pixels: where, when, by whom and with what it was made. Pure.
//!
//! Only what is on a list of what pixels need is copied; all else is left out, known or not. Pixels stay bit by bit what
//! they were, for they are copied as they are compressed. Kept beside them is how the image is turned, alone. Colour
//! profiles are left out: they name devices, and viewers then take the usual colours.

mod exif;
mod jpeg;
mod png;
mod webp;

use std::collections::BTreeSet;

/// The largest image that is scrubbed.
pub const BYTES_MAX: u64 = 256 << 20;

/// Something that an image carries beside its pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// Where it was made.
    Position,
    /// When it was made.
    Time,
    /// The device or program that made it.
    Device,
    /// Somebody's name, or whose rights it is.
    Author,
    /// A smaller image, which may show what was cut off.
    Thumbnail,
    /// Words.
    Comment,
    /// A maker's own notes: often serial numbers.
    MakerNote,
    /// Metadata of a form that is not read: XMP, IPTC, other notes.
    Metadata,
    /// A colour profile.
    Profile,
    /// Data behind the end of the image, such as a second one or a film.
    Trailing,
}

impl Finding {
    /// A stable name for programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Position => "position",
            Self::Time => "time",
            Self::Device => "device",
            Self::Author => "author",
            Self::Thumbnail => "thumbnail",
            Self::Comment => "comment",
            Self::MakerNote => "maker-note",
            Self::Metadata => "metadata",
            Self::Profile => "profile",
            Self::Trailing => "trailing",
        }
    }
}

/// A working copy, and what it lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scrubbed {
    /// The image without it.
    pub bytes: Vec<u8>,
    /// What was found and left out.
    pub found: BTreeSet<Finding>,
}

/// Why there is no working copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unscrubbed {
    /// It is no JPEG, PNG or WebP.
    #[error("only JPEG, PNG and WebP can be scrubbed")]
    Kind,
    /// It is larger than [`BYTES_MAX`].
    #[error("the image is too large to be scrubbed")]
    TooLarge,
    /// It is cut off, or not built as its standard says.
    #[error("the image is damaged, or of a rare form")]
    Damaged,
}

/// Makes a working copy of an image. Scrubbing a working copy gives the same again.
///
/// # Errors
///
/// [`Unscrubbed`]: then nothing may be taken for clean.
pub fn scrub(image: &[u8]) -> Result<Scrubbed, Unscrubbed> {
    if u64::try_from(image.len()).unwrap_or(u64::MAX) > BYTES_MAX {
        return Err(Unscrubbed::TooLarge);
    }
    let mut found = BTreeSet::new();
    let bytes = if image.starts_with(b"\xff\xd8\xff") {
        jpeg::scrub(image, &mut found)
    } else if image.starts_with(png::SIGNATURE) {
        png::scrub(image, &mut found)
    } else if image.starts_with(b"RIFF") && image.get(8..12) == Some(b"WEBP") {
        webp::scrub(image, &mut found)
    } else {
        return Err(Unscrubbed::Kind);
    };
    let bytes = bytes.ok_or(Unscrubbed::Damaged)?;
    Ok(Scrubbed { bytes, found })
}

/// Takes so many bytes from the front.
fn take<'a>(from: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = from.split_at_checked(count)?;
    *from = rest;
    Some(taken)
}

#[cfg(test)]
mod tests;
