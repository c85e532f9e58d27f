//! PNG (W3C, third edition) and its animations: chunks.

use std::collections::BTreeSet;

use super::{Finding, exif, take};

pub(super) const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Copies the chunks that pixels need.
pub(super) fn scrub(image: &[u8], found: &mut BTreeSet<Finding>) -> Option<Vec<u8>> {
    let mut rest = image.strip_prefix(SIGNATURE)?;
    let mut copy = SIGNATURE.to_vec();
    let (mut begun, mut pixels) = (false, false);
    loop {
        let length = u32::from_be_bytes(take(&mut rest, 4)?.try_into().ok()?);
        let name = take(&mut rest, 4)?;
        let data = take(&mut rest, usize::try_from(length).ok()?)?;
        take(&mut rest, 4)?;
        if begun == (name == b"IHDR") {
            return None;
        }
        begun = true;
        match name {
            b"IHDR" if data.len() == 13 => keep(&mut copy, name, data)?,
            b"PLTE" | b"tRNS" | b"gAMA" | b"cHRM" | b"sRGB" | b"cICP" | b"acTL" | b"fcTL" | b"fdAT" => {
                keep(&mut copy, name, data)?;
            }
            b"IDAT" => {
                keep(&mut copy, name, data)?;
                pixels = true;
            }
            b"IEND" => {
                keep(&mut copy, name, &[])?;
                if !data.is_empty() || !rest.is_empty() {
                    found.insert(Finding::Trailing);
                }
                return pixels.then_some(copy);
            }
            b"eXIf" => {
                if let Some(turned) = exif::read(data, found) {
                    keep(&mut copy, b"eXIf", &exif::only_turned(turned))?;
                }
            }
            b"tIME" => {
                found.insert(Finding::Time);
            }
            b"tEXt" | b"zTXt" | b"iTXt" => {
                found.insert(Finding::Comment);
            }
            b"iCCP" => {
                found.insert(Finding::Profile);
            }
            // Without a critical chunk that is not known, what is left would not be the same image.
            [b'A'..=b'Z', ..] => return None,
            _ => {
                found.insert(Finding::Metadata);
            }
        }
    }
}

/// Writes a chunk, with a checksum of what it holds now.
fn keep(to: &mut Vec<u8>, name: &[u8], data: &[u8]) -> Option<()> {
    to.extend(u32::try_from(data.len()).ok()?.to_be_bytes());
    to.extend(name);
    to.extend(data);
    let mut sum = crc32fast::Hasher::new();
    sum.update(name);
    sum.update(data);
    to.extend(sum.finalize().to_be_bytes());
    Some(())
}
