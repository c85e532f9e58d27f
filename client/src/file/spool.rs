//! Documents on their way out: sealed chunks in the vault's folder, so that they go out though the original is gone.

use std::{
    fs::{File, OpenOptions},
    io::{BufReader, Read, Write},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use martlet_proto::{
    Envelope, Secret,
    derive::FileKeys,
    letter::{CHUNK_BYTES, LetterId},
    limits::DOCUMENT_BYTES_MAX,
    pad,
};
use sha2::{Digest, Sha256};

use super::chunk::Chunks;
use crate::error::{Error, Usage};

const ENVELOPE_BYTES: u64 = 64 << 10;

/// Where a document's content comes from.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// A file.
    File(&'a Path),
    /// Memory.
    Memory(&'a [u8]),
}

/// A vault's spool.
#[derive(Debug)]
pub struct Spool {
    dir: PathBuf,
}

/// What was sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The content's size.
    pub size_bytes: u64,
    /// SHA-256 of the content.
    pub sha256: [u8; 32],
}

fn failed(error: std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::StorageFull {
        Error::DiskFull
    } else {
        Error::File(error)
    }
}

impl Spool {
    /// The spool of a vault's folder.
    pub fn new(home: &Path) -> Self {
        Self {
            dir: home.join("spool"),
        }
    }

    fn path(&self, id: &LetterId) -> PathBuf {
        self.dir.join(id.to_text())
    }

    /// Seals a file into the spool, in memory of a few chunks. What was begun and not finished is begun again.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for what is no regular file or too large; [`Error::File`] for what cannot be read, or changed
    /// while it was read; [`Error::DiskFull`].
    pub fn seal(
        &self,
        id: &LetterId,
        source: Source<'_>,
        document: &Secret<32>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Sealed, Error> {
        let done = self.seal_whole(id, source, document, progress);
        if done.is_err() {
            let _ = std::fs::remove_file(self.path(id));
        }
        done
    }

    fn seal_whole(
        &self,
        id: &LetterId,
        source: Source<'_>,
        document: &Secret<32>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Sealed, Error> {
        let size_bytes = match source {
            Source::File(path) => {
                let about = std::fs::metadata(path).map_err(failed)?;
                if !about.is_file() {
                    return Err(Error::Usage(Usage::NotAFile));
                }
                about.len()
            }
            Source::Memory(content) => u64::try_from(content.len()).unwrap_or(u64::MAX),
        };
        if size_bytes > DOCUMENT_BYTES_MAX {
            return Err(Error::Usage(Usage::DocumentTooLarge));
        }
        let count = pad::padme(size_bytes.div_ceil(CHUNK_BYTES as u64));
        let chunks =
            Chunks::new(&FileKeys::derive(document), count).ok_or(Error::Usage(Usage::DocumentTooLarge))?;
        let mut from: Box<dyn Read + '_> = match source {
            Source::File(path) => Box::new(BufReader::with_capacity(
                1 << 20,
                File::open(path).map_err(failed)?,
            )),
            Source::Memory(content) => Box::new(content),
        };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .map_err(failed)?;
        let to = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(self.path(id));
        let mut to = std::io::BufWriter::with_capacity(1 << 20, to.map_err(failed)?);
        let (mut hash, mut read_bytes) = (Sha256::new(), 0u64);
        let mut buffer = vec![0; CHUNK_BYTES];
        for at in 0..count {
            let filled = fill(&mut from, &mut buffer).map_err(failed)?;
            let content = buffer.get(..filled).unwrap_or_default();
            hash.update(content);
            read_bytes = read_bytes.saturating_add(u64::try_from(filled).unwrap_or(u64::MAX));
            let at = u32::try_from(at).map_err(|_| Error::Usage(Usage::DocumentTooLarge))?;
            let envelope = chunks
                .seal(at, content)
                .map_err(|_| Error::Internal("a chunk cannot be sealed"))?;
            to.write_all(envelope.as_bytes()).map_err(failed)?;
            progress(read_bytes.min(size_bytes), size_bytes);
        }
        let more = from.read(&mut [0; 1]).map_err(failed)?;
        if read_bytes != size_bytes || more != 0 {
            return Err(Error::File(std::io::Error::other(
                "the file changed while it was read",
            )));
        }
        let file = to.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().map_err(failed)?;
        File::open(&self.dir)
            .and_then(|dir| dir.sync_all())
            .map_err(failed)?;
        Ok(Sealed {
            size_bytes,
            sha256: hash.finalize().into(),
        })
    }

    /// Some sealed chunks from the spool.
    ///
    /// # Errors
    ///
    /// [`Error::VaultDamaged`] if the spooled document is missing or cut.
    pub fn read(&self, id: &LetterId, from: u64, count: usize) -> Result<Vec<Envelope>, Error> {
        let damaged = || Error::VaultDamaged("a document that waits to be sent");
        let file = File::open(self.path(id)).map_err(|_| damaged())?;
        (0..count)
            .map(|step| {
                let at = from.saturating_add(u64::try_from(step).unwrap_or(u64::MAX));
                let mut bytes = vec![0; ENVELOPE_BYTES as usize];
                file.read_exact_at(&mut bytes, at.saturating_mul(ENVELOPE_BYTES))
                    .map_err(|_| damaged())?;
                Envelope::new(Bytes::from(bytes)).ok_or_else(damaged)
            })
            .collect()
    }

    /// Forgets a document that is at the relay.
    pub fn remove(&self, id: &LetterId) {
        let _ = std::fs::remove_file(self.path(id));
    }

    /// Forgets all but these: what an interrupted sealing left.
    pub fn clean(&self, keep: &[LetterId]) {
        let Ok(entries) = std::fs::read_dir(&self.dir) else {
            return;
        };
        for entry in entries.flatten() {
            let kept = keep
                .iter()
                .any(|id| entry.file_name() == std::ffi::OsStr::new(&id.to_text()));
            if !kept {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

/// Reads until the buffer is full or there is no more.
pub(super) fn fill(from: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0usize;
    while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
        match from.read(room) {
            Ok(0) => break,
            Ok(count) => filled = filled.saturating_add(count),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: LetterId = LetterId::new([3; 16]);
    const SIZE: usize = 5 * CHUNK_BYTES;

    /// Seals a file that is changed while it is read.
    fn sealed_while(change: impl Fn(&File)) -> (Result<Sealed, Error>, bool) {
        let home = tempfile::tempdir().unwrap();
        let source = home.path().join("paper");
        // Larger than what is read ahead.
        std::fs::write(&source, vec![7; 20 * SIZE]).unwrap();
        let file = OpenOptions::new().append(true).open(&source).unwrap();
        let spool = Spool::new(home.path());
        let mut once = false;
        let done = spool.seal(&ID, Source::File(&source), &Secret::new([5; 32]), &mut |_, _| {
            if !std::mem::replace(&mut once, true) {
                change(&file);
            }
        });
        (done, spool.path(&ID).exists())
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_is_not_sent() {
        let (same, left) = sealed_while(|_| {});
        assert!(same.unwrap().size_bytes == 20 * SIZE as u64 && left);
        let (shrunk, left) = sealed_while(|file| file.set_len(SIZE as u64).unwrap());
        assert!(matches!(shrunk, Err(Error::File(_))) && !left);
        let (grown, left) = sealed_while(|mut file| file.write_all(&[8; 100]).unwrap());
        assert!(matches!(grown, Err(Error::File(_))) && !left);
    }

    #[test]
    fn a_spooled_document_that_was_cut_is_damage() {
        let home = tempfile::tempdir().unwrap();
        let source = home.path().join("paper");
        std::fs::write(&source, vec![7; SIZE]).unwrap();
        let spool = Spool::new(home.path());
        spool
            .seal(&ID, Source::File(&source), &Secret::new([5; 32]), &mut |_, _| {})
            .unwrap();
        assert_eq!(spool.read(&ID, 1, 4).unwrap().len(), 4);
        let file = OpenOptions::new().write(true).open(spool.path(&ID)).unwrap();
        file.set_len(5 * ENVELOPE_BYTES - 1).unwrap();
        assert!(matches!(spool.read(&ID, 1, 4), Err(Error::VaultDamaged(_))));
    }
}
