//! A hostile document shown without harm: its pages become plain pixels, drawn by a child process that can read its
//! standard input, write its standard output, and nothing else. PDF, JPEG, PNG, WebP, GIF and TIFF.
//!
//! ```text
//! parent: the document's bytes ──► child: confine, read, draw ──► parent: size and pixels checked, written as PNG
//! ```
//!
//! The child is this program again ([`serve`]), so that nothing else needs to be installed. What it says is not
//! trusted and has bounds. A child that breaks a bound, asks the kernel for anything else or takes too long is ended, and
//! only the pictures that were whole by then remain.

#[cfg(target_os = "linux")]
mod confine;
mod draw;
mod frame;
mod parent;

use std::{
    io::{Read as _, Write as _},
    time::Duration,
};

pub use crate::error::Undrawn;
pub use frame::{Frame, Head};
pub use parent::{Drawn, Renderer};

/// The largest document that is drawn.
pub const DOCUMENT_BYTES_MAX: u64 = 256 << 20;
/// The most pictures of one document.
pub const PICTURES_MAX: u32 = 2_000;
/// The most pixels of one picture, and of its longer side.
pub const PIXELS_MAX: u64 = 40_000_000;
/// The longest side of a picture.
pub const SIDE_MAX: u32 = 16_000;
/// Pixels to the inch at which pages are drawn, if that is not too many.
pub const DOTS_PER_INCH: f32 = 150.0;
/// Address space of the child.
pub const MEMORY_BYTES_MAX: u64 = 2 << 30;
/// Processor time of the child.
pub const PROCESSOR_TIME_MAX: Duration = Duration::from_secs(600);
/// How long the child may go without another picture.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Keeps this process, for good, from everything but reading standard input, writing standard output and error, and its
/// own memory. To be called before any other thread runs.
///
/// # Errors
///
/// [`Undrawn::NotConfined`] where the kernel does not do it: on other systems than Linux, or without seccomp. Landlock is
/// a second fence where there is one.
pub fn confine() -> Result<(), Undrawn> {
    #[cfg(target_os = "linux")]
    {
        confine::confine().map_err(|_| Undrawn::NotConfined)
    }
    #[cfg(not(target_os = "linux"))]
    {
        Err(Undrawn::NotConfined)
    }
}

/// The child: draws what standard input holds onto standard output, as [`Frame`]s. Whatever goes wrong is a last frame.
pub fn serve() {
    let mut out = std::io::stdout().lock();
    let end = match confine() {
        Ok(()) => served(&mut out),
        Err(error) => Err(error),
    };
    let last = end.map_or_else(Frame::Failed, |()| Frame::Done);
    // The parent is gone, or reads no more: there is nobody to tell.
    let _ = last.write(&mut out).and_then(|()| out.flush());
}

fn served(out: &mut dyn std::io::Write) -> Result<(), Undrawn> {
    let mut document = Vec::new();
    let limit = DOCUMENT_BYTES_MAX.saturating_add(1);
    let read = std::io::stdin().lock().take(limit).read_to_end(&mut document);
    let read = read.map_err(|_| Undrawn::Broke)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > DOCUMENT_BYTES_MAX {
        return Err(Undrawn::TooLarge);
    }
    draw::draw(document, &mut |picture| {
        picture.write(out).map_err(|_| Undrawn::Broke)
    })
}
