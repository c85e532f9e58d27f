//! Fetching a document: into a part beside its place, verified whole before it has its name.

use std::{
    fs::{File, OpenOptions},
    io::{BufReader, Read as _, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use martlet_proto::{
    Call, Grant, Kind, Read, Refusal, Seq, Slot,
    call::Answer,
    derive::FileKeys,
    letter::{CHUNK_BYTES, LetterId, Manifest},
};
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;

use super::{
    chunk::Chunks,
    name::{safe_name, unused_name},
    spool::fill,
};
use crate::{
    error::{Error, Mismatch, Missing},
    kind,
    link::{Link, LinkError},
    view::Fetched,
};

/// Pages that are asked for at a time.
const AHEAD: usize = 8;
/// Chunks in one page.
const PAGE_CHUNKS: u64 = 4;

fn failed(error: std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::StorageFull {
        Error::DiskFull
    } else {
        Error::File(error)
    }
}

/// What has arrived: the part file, and the hash of what is in it.
struct Part {
    path: PathBuf,
    file: File,
    hash: Sha256,
    chunks: u64,
    size_bytes: u64,
}

impl Part {
    /// Opens what an interrupted fetch left, or begins. Never through a link.
    fn open(dir: &Path, id: &LetterId, manifest: &Manifest) -> Result<Self, Error> {
        let path = dir.join(format!(".martlet-{}.part", id.to_text()));
        let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .custom_flags(no_follow)
            .open(&path)
            .map_err(failed)?;
        let mut part = Self {
            path,
            file,
            hash: Sha256::new(),
            chunks: 0,
            size_bytes: 0,
        };
        let whole = manifest.size_bytes.checked_div(CHUNK_BYTES as u64).unwrap_or(0);
        let mut from = BufReader::with_capacity(1 << 20, part.file.try_clone().map_err(failed)?);
        let mut buffer = vec![0; CHUNK_BYTES];
        while part.chunks < whole && fill(&mut from, &mut buffer).map_err(failed)? == CHUNK_BYTES {
            part.hash.update(&buffer);
            part.chunks = part.chunks.saturating_add(1);
            part.size_bytes = part.size_bytes.saturating_add(CHUNK_BYTES as u64);
        }
        part.file.set_len(part.size_bytes).map_err(failed)?;
        part.file.seek(SeekFrom::Start(part.size_bytes)).map_err(failed)?;
        Ok(part)
    }

    fn take(&mut self, plain: &[u8], manifest: &Manifest) -> Result<(), Error> {
        let wanted = manifest.size_bytes.saturating_sub(self.size_bytes);
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX).min(plain.len());
        let content = plain.get(..wanted).unwrap_or_default();
        self.hash.update(content);
        self.file.write_all(content).map_err(failed)?;
        self.chunks = self.chunks.saturating_add(1);
        self.size_bytes = self
            .size_bytes
            .saturating_add(u64::try_from(wanted).unwrap_or(u64::MAX));
        Ok(())
    }

    /// Gives the part its name, if it is what its letter says.
    fn finish(mut self, dir: &Path, manifest: &Manifest) -> Result<Fetched, Error> {
        let sha256: [u8; 32] = self.hash.finalize().into();
        if self.size_bytes != manifest.size_bytes || sha256 != manifest.sha256 {
            let _ = std::fs::remove_file(&self.path);
            return Err(Error::Verification(Mismatch::Document));
        }
        self.file.sync_all().map_err(failed)?;
        let mut head = Vec::new();
        self.file.rewind().map_err(failed)?;
        let limit = u64::try_from(kind::HEAD_BYTES).unwrap_or(u64::MAX);
        (&self.file).take(limit).read_to_end(&mut head).map_err(failed)?;
        let kind = kind::of(&head);
        let safe = safe_name(&manifest.name);
        for _ in 0..1000 {
            let name = unused_name(&safe, |name| std::fs::symlink_metadata(dir.join(name)).is_ok());
            let path = dir.join(name);
            // A hard link never overwrites.
            match std::fs::hard_link(&self.path, &path) {
                Ok(()) => {
                    std::fs::remove_file(&self.path).map_err(failed)?;
                    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
                    return Ok(Fetched {
                        path,
                        sha256,
                        size_bytes: self.size_bytes,
                        kind,
                        name_differs: kind::differs(&safe, kind),
                    });
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(Error::File(std::io::Error::other("no name is free")))
    }
}

/// Fetches a document into a folder; goes on with what an interrupted fetch left there.
///
/// `progress` is told bytes done and bytes in all.
///
/// # Errors
///
/// [`Error::Verification`] if it is not what its letter says, with nothing left; [`Missing::Expired`] if the relay no
/// longer holds it; [`Error::Partly`] if the relay does not hold all of it yet.
///
/// # Cancel safety
///
/// What arrived stays in the part, and the next call goes on from there.
pub async fn fetch(
    link: Arc<dyn Link>,
    id: &LetterId,
    manifest: &Manifest,
    dir: &Path,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<Fetched, Error> {
    let keys = FileKeys::derive(&manifest.key);
    let grant = Grant {
        channel: keys.channel(&manifest.keep),
        token: keys.read.clone(),
    };
    let count = manifest.chunks();
    let chunks = Chunks::new(&keys, count).ok_or(Error::Protocol("a document is too large"))?;
    let mut part = Part::open(dir, id, manifest)?;
    let needed = manifest.size_bytes.div_ceil(CHUNK_BYTES as u64);
    let mut pages: JoinSet<(u64, Result<Answer, LinkError>)> = JoinSet::new();
    let mut arrived = std::collections::BTreeMap::new();
    let mut asked = part.chunks;
    progress(part.size_bytes, manifest.size_bytes);
    while part.chunks < needed {
        while asked < needed && pages.len().saturating_add(arrived.len()) < AHEAD {
            let (link, from) = (Arc::clone(&link), asked);
            let call = Call::new(&grant, Read { from: Seq::new(from) });
            pages.spawn(async move { (from, link.call(call).await) });
            asked = asked.saturating_add(PAGE_CHUNKS);
        }
        if let Some(slots) = arrived.remove(&part.chunks) {
            let before = part.chunks;
            take_page(
                &chunks,
                slots,
                needed.min(before.saturating_add(PAGE_CHUNKS)),
                &mut part,
                manifest,
            )?;
            progress(part.size_bytes, manifest.size_bytes);
            if part.chunks == before {
                return Err(Error::Partly);
            }
            continue;
        }
        let Some(page) = pages.join_next().await else {
            // A page was shorter than it could be: ask again from where it ended.
            asked = part.chunks;
            arrived.clear();
            continue;
        };
        let (from, answer) = page.map_err(|_| Error::Internal("a task was lost"))?;
        match answer {
            Ok(Answer::Slots(page)) => arrived.insert(from, page.slots),
            Ok(_) => return Err(Error::Protocol("the relay answered another question")),
            Err(LinkError::Refused(Refusal::Closed)) => return Err(Error::NotFound(Missing::Expired)),
            Err(error) => return Err(error.into()),
        };
    }
    part.finish(dir, manifest)
}

fn take_page(
    chunks: &Chunks,
    slots: Vec<Slot>,
    until: u64,
    part: &mut Part,
    manifest: &Manifest,
) -> Result<(), Error> {
    for slot in slots {
        if part.chunks >= until {
            break;
        }
        let entry = match slot {
            Slot::Here(entry) if entry.seq.as_u64() == part.chunks && entry.kind == Kind::Chunk => entry,
            Slot::Here(_) => return Err(Error::Protocol("the relay's log has a hole")),
            Slot::Gone { .. } => return Err(Error::NotFound(Missing::Expired)),
        };
        let at = u32::try_from(part.chunks).map_err(|_| Error::Protocol("a document is too large"))?;
        let Ok(plain) = chunks.open(at, &entry.envelope) else {
            let _ = std::fs::remove_file(&part.path);
            return Err(Error::Verification(Mismatch::Document));
        };
        part.take(&plain, manifest)?;
    }
    Ok(())
}
