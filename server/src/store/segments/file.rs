//! Segment files and the frames in them.

use std::{fs::File, os::unix::fs::FileExt, path::Path};

use serde::{Deserialize, Serialize};

/// Which lifetimes a segment holds. In the order in which a commit syncs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Family {
    Case,
    Inbox,
    File,
    Keep,
}

pub(super) const MAGIC: &[u8; 18] = b"martlet segment 1\n";
/// Bytes before the first frame.
pub(super) const HEADER: u64 = 32;

impl Family {
    pub(super) const ALL: [Self; 4] = [Self::Case, Self::Inbox, Self::File, Self::Keep];

    fn name(self) -> &'static str {
        match self {
            Self::Case => "case",
            Self::Inbox => "inbox",
            Self::File => "file",
            Self::Keep => "keep",
        }
    }

    pub(super) fn file_name(self, number: u32) -> String {
        format!("{}-{number:08}.seg", self.name())
    }

    pub(super) fn header(self) -> Vec<u8> {
        let mut header = MAGIC.to_vec();
        header.extend_from_slice(self.name().as_bytes().get(..1).unwrap_or_default());
        header.resize(HEADER as usize, 0);
        header
    }
}

/// The segments in a folder, in order.
pub(super) fn list(dir: &Path) -> std::io::Result<Vec<(Family, u32)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let Some((family, number)) = name
            .to_str()
            .and_then(|name| name.strip_suffix(".seg")?.split_once('-'))
        else {
            continue;
        };
        let family = Family::ALL.into_iter().find(|known| known.name() == family);
        if let (Some(family), Ok(number)) = (family, number.parse()) {
            found.push((family, number));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// A segment that is written to.
pub(super) struct Segment {
    pub(super) file: File,
    pub(super) number: u32,
    /// Where the next frame goes.
    pub(super) length: u64,
}

impl Segment {
    /// Begins a segment; it and its name are durable when this returns.
    pub(super) fn create(dir: &Path, family: Family, number: u32) -> std::io::Result<Self> {
        let file = super::create(&dir.join(family.file_name(number)))?;
        file.set_len(0)?;
        file.write_all_at(&family.header(), 0)?;
        file.sync_all()?;
        File::open(dir)?.sync_all()?;
        Ok(Self {
            file,
            number,
            length: HEADER,
        })
    }
}

/// Frames: `u32 length ‖ u32 CRC-32 ‖ payload`.
pub(super) mod frame {
    use crate::{log::Change, store::StoreError};

    /// Bytes before the payload.
    pub(in super::super) const PREFIX: usize = 8;
    /// The most bytes of a payload: far more than a turn can hold.
    pub(in super::super) const MAX: usize = 512 << 20;

    pub(in super::super) fn begin() -> Vec<u8> {
        vec![0; PREFIX]
    }

    pub(in super::super) fn push(frame: &mut Vec<u8>, change: &Change) -> Result<(), StoreError> {
        let whole = postcard::to_extend(change, std::mem::take(frame));
        *frame = whole.map_err(|_| StoreError::Damaged("a change that cannot be written"))?;
        Ok(())
    }

    pub(in super::super) fn finish(frame: &mut [u8]) -> Result<(), StoreError> {
        let damaged = StoreError::Damaged("a frame that is too large");
        let Some((prefix, payload)) = frame.split_first_chunk_mut::<PREFIX>() else {
            return Err(damaged);
        };
        let length = u32::try_from(payload.len()).map_err(|_| damaged)?;
        let number = u64::from(length) << 32 | u64::from(crc32fast::hash(payload));
        *prefix = number.to_be_bytes();
        Ok(())
    }

    /// The payload of the frame that begins here, if it is whole.
    pub(in super::super) fn payload(bytes: &[u8]) -> Option<&[u8]> {
        let (prefix, rest) = bytes.split_first_chunk::<PREFIX>()?;
        let number = u64::from_be_bytes(*prefix);
        let length = usize::try_from(number >> 32).ok()?;
        if length == 0 || length > MAX {
            return None;
        }
        let payload = rest.get(..length)?;
        (u64::from(crc32fast::hash(payload)) == number & 0xffff_ffff).then_some(payload)
    }
}
