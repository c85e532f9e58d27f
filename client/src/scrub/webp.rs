//! WebP (RFC 9649): chunks of RIFF.

use std::collections::BTreeSet;

use super::{Finding, exif, take};

const HEAD: usize = 12;
/// Flags of `VP8X`: a colour profile, EXIF, XMP.
const PROFILE: u8 = 0x20;
const EXIF: u8 = 0x08;
const XMP: u8 = 0x04;

/// Copies the chunks that pixels need.
pub(super) fn scrub(image: &[u8], found: &mut BTreeSet<Finding>) -> Option<Vec<u8>> {
    let size = u32::from_le_bytes(image.get(4..8)?.try_into().ok()?);
    let end = usize::try_from(size).ok()?.checked_add(8)?;
    let mut rest = image.get(HEAD..end)?;
    if image.len() > end {
        found.insert(Finding::Trailing);
    }
    let (mut body, mut extended, mut turned) = (Vec::with_capacity(image.len()), None, None);
    while !rest.is_empty() {
        let (name, data) = chunk(&mut rest)?;
        match name {
            b"VP8X" if extended.is_none() && body.is_empty() => {
                extended = Some(<[u8; 10]>::try_from(data.get(..10)?).ok()?);
            }
            b"VP8 " | b"VP8L" | b"ALPH" | b"ANIM" => keep(&mut body, name, data)?,
            b"ANMF" => keep(&mut body, name, &frame(data, found)?)?,
            b"EXIF" => turned = turned.or(exif::read(data.strip_prefix(b"Exif\0\0").unwrap_or(data), found)),
            b"ICCP" => {
                found.insert(Finding::Profile);
            }
            _ => {
                found.insert(Finding::Metadata);
            }
        }
    }
    let mut copy = b"RIFF\0\0\0\0WEBP".to_vec();
    if let Some(mut flags) = extended {
        let first = flags.first_mut()?;
        *first &= !(PROFILE | EXIF | XMP);
        if turned.is_some() {
            *first |= EXIF;
        }
        keep(&mut copy, b"VP8X", &flags)?;
    }
    copy.append(&mut body);
    if copy.len() <= HEAD.checked_add(8)? {
        return None;
    }
    // Only an extended image may say how it is turned.
    if let (Some(turned), Some(_)) = (turned, extended) {
        keep(&mut copy, b"EXIF", &exif::only_turned(turned))?;
    }
    let size = u32::try_from(copy.len().checked_sub(8)?).ok()?;
    copy.get_mut(4..8)?.copy_from_slice(&size.to_le_bytes());
    Some(copy)
}

/// A frame of an animation: 16 bytes of where and how long, then chunks of pixels.
fn frame(data: &[u8], found: &mut BTreeSet<Finding>) -> Option<Vec<u8>> {
    let mut rest = data;
    let mut copy = take(&mut rest, 16)?.to_vec();
    while !rest.is_empty() {
        let (name, data) = chunk(&mut rest)?;
        match name {
            b"VP8 " | b"VP8L" | b"ALPH" => keep(&mut copy, name, data)?,
            _ => {
                found.insert(Finding::Metadata);
            }
        }
    }
    Some(copy)
}

/// The next chunk: name, size, data, and a zero where the size is odd.
fn chunk<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8; 4], &'a [u8])> {
    let name = take(rest, 4)?.try_into().ok()?;
    let size = u32::from_le_bytes(take(rest, 4)?.try_into().ok()?);
    let data = take(rest, usize::try_from(size).ok()?)?;
    if size % 2 == 1 && !rest.is_empty() {
        take(rest, 1)?;
    }
    Some((name, data))
}

fn keep(to: &mut Vec<u8>, name: &[u8], data: &[u8]) -> Option<()> {
    to.extend(name);
    to.extend(u32::try_from(data.len()).ok()?.to_le_bytes());
    to.extend(data);
    if data.len() % 2 == 1 {
        to.push(0);
    }
    Some(())
}
