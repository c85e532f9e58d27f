//! JPEG (ITU-T T.81): markers and segments.

use std::collections::BTreeSet;

use super::{Finding, exif, take};

const END: u8 = 0xd9;
const SCAN: u8 = 0xda;
const EXIF: &[u8] = b"Exif\0\0";

/// Copies the segments that pixels need.
pub(super) fn scrub(image: &[u8], found: &mut BTreeSet<Finding>) -> Option<Vec<u8>> {
    let mut rest = image.strip_prefix(b"\xff\xd8")?;
    let (mut head, mut body) = (b"\xff\xd8".to_vec(), Vec::with_capacity(image.len()));
    let (mut turned, mut scans) = (None, 0u32);
    loop {
        let marker = marker(&mut rest)?;
        if marker == END {
            break;
        }
        let length = u16::from_be_bytes(take(&mut rest, 2)?.try_into().ok()?);
        let segment = take(&mut rest, usize::from(length.checked_sub(2)?))?;
        match marker {
            0xc0..=0xcf | 0xdb | 0xdd => keep(&mut body, marker, segment)?,
            SCAN => {
                keep(&mut body, marker, segment)?;
                let coded = coded_bytes(rest);
                body.extend(take(&mut rest, coded)?);
                scans = scans.checked_add(1)?;
            }
            0xe0 if segment.starts_with(b"JFIF\0") => {
                let jfif = segment.get(..12)?;
                if segment.len() > 14 {
                    found.insert(Finding::Thumbnail);
                }
                // Version, units and density; no thumbnail.
                keep(&mut head, marker, &[jfif, &[0, 0]].concat())?;
            }
            // How colours are told apart: without it they are shown wrongly.
            0xee if segment.starts_with(b"Adobe") => keep(&mut head, marker, segment.get(..12)?)?,
            0xe1 if segment.starts_with(EXIF) => {
                let tiff = segment.get(EXIF.len()..)?;
                turned = turned.or(exif::read(tiff, found));
            }
            0xe2 if segment.starts_with(b"ICC_PROFILE\0") => {
                found.insert(Finding::Profile);
            }
            0xe2 if segment.starts_with(b"MPF\0") => {
                found.insert(Finding::Thumbnail);
            }
            0xfe => {
                found.insert(Finding::Comment);
            }
            0xe0..=0xef => {
                found.insert(Finding::Metadata);
            }
            _ => return None,
        }
    }
    if scans == 0 {
        return None;
    }
    if !rest.is_empty() {
        found.insert(Finding::Trailing);
    }
    if let Some(turned) = turned {
        keep(&mut head, 0xe1, &[EXIF, &exif::only_turned(turned)].concat())?;
    }
    head.append(&mut body);
    head.extend([0xff, END]);
    Some(head)
}

/// The next marker, behind any number of fill bytes.
fn marker(rest: &mut &[u8]) -> Option<u8> {
    if take(rest, 1)? != [0xff] {
        return None;
    }
    loop {
        match take(rest, 1)? {
            [0xff] => {}
            [marker] => return Some(*marker),
            _ => return None,
        }
    }
}

/// How far compressed pixels go: to the next marker that is neither a stuffed byte nor a restart.
fn coded_bytes(rest: &[u8]) -> usize {
    let ends = |pair: &[u8]| matches!(pair, [0xff, second] if !matches!(second, 0 | 0xd0..=0xd7 | 0xff));
    rest.windows(2).position(ends).unwrap_or(rest.len())
}

fn keep(to: &mut Vec<u8>, marker: u8, segment: &[u8]) -> Option<()> {
    let length = u16::try_from(segment.len().checked_add(2)?).ok()?;
    to.extend([0xff, marker]);
    to.extend(length.to_be_bytes());
    to.extend(segment);
    Some(())
}
