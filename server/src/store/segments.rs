//! Channels on disk: append-only segments are the truth, sled is an index that can be rebuilt from them.
//!
//! A commit is one write and one sync for each file it touches, and it returns after the last sync. There is one open
//! segment for each family of lifetimes: `case` (ordinary entries of cases), `inbox` (inboxes and cards), `file`
//! (documents), `keep` (records of cases and what was sealed in). Within a commit `keep` is synced last, so that a
//! seal is never on disk without the entries before it.
//!
//! **Format, version 1.** `segments/FAMILY-NUMBER.seg` begins with 32 bytes: `"martlet segment 1\n"`, the family's
//! letter, zeros. Then frames: `u32 length ‖ u32 CRC-32 ‖ payload`, big-endian; the payload is [`Change`]s in postcard,
//! one after the other. The envelope is the last field of a change that has one. A frame that is cut short or
//! fails its checksum at the very end of the last segment of its family was never acknowledged, and is cut off; one
//! that whole frames follow, or in an earlier segment, is damage, and the store does not open.

mod file;
mod index;
mod replay;
mod write;

use std::{
    collections::BTreeMap,
    fs::File,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use martlet_proto::{ChannelId, Day, Digest, Envelope, Seq};

pub use self::replay::Report;
use self::{
    file::{Family, Segment},
    index::{Index, Indexed, Position},
};
use super::{Store, StoreError, Totals};
use crate::log::{Change, Era, Log, Mark, Presence, Step};

/// How a store is kept.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes after which a segment is closed and the next begun.
    pub segment_bytes: u64,
    /// Free bytes of the disk below which nothing new is taken; 0 for no such floor.
    pub floor_bytes: u64,
    /// Whether a commit waits until the disk has it.
    pub sync: Sync,
}

/// Whether a commit waits until the disk has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// It does.
    On,
    /// It does not: only for showing that the power-cut harness notices.
    Off,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            floor_bytes: 32 << 20,
            sync: Sync::On,
        }
    }
}

/// Bytes set aside so that trims and drops can be written on a full disk.
const RESERVE_BYTES: usize = 1 << 20;

/// How often, and after which pauses, another process is waited for that has the store.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Free bytes without which the index is not written: sled does not survive a write that finds no room.
const INDEX_ROOM_BYTES: u64 = 8 << 20;

/// The store on disk.
pub struct Segments {
    dir: PathBuf,
    options: Options,
    /// The last segment of each family, which is written to.
    open: BTreeMap<Family, Segment>,
    /// Segments opened for reading.
    readers: BTreeMap<(Family, u32), File>,
    index: Index,
    day: Day,
    era: Era,
    state: State,
    _lock: File,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Alive,
    Poisoned,
}

impl std::fmt::Debug for Segments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Segments(..)")
    }
}

fn failed(error: std::io::Error) -> StoreError {
    StoreError::Failed(error)
}

impl Segments {
    /// Opens the store of a folder, which is made if it is not there, and says what had to be mended.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`], and [`StoreError::Failed`] if the disk fails or another process has the store.
    pub fn open(dir: &Path, options: Options) -> Result<(Self, Report), StoreError> {
        let segments = dir.join("segments");
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&segments)
            .map_err(failed)?;
        let lock = lock(dir)?;
        let (mut index, open, report) = replay::open(dir)?;
        let day = read_day(dir)?;
        if report.rebuilt {
            index.forget_expired(day)?;
        }
        let mut store = Self {
            dir: dir.to_path_buf(),
            options,
            open,
            readers: BTreeMap::new(),
            index,
            day,
            era: read_era(dir)?,
            state: State::Alive,
            _lock: lock,
        };
        store.set_reserve();
        store.checkpoint()?;
        Ok((store, report))
    }

    /// Says of a folder's store, which nobody may have open, that it is an old copy: all of its channels get another
    /// incarnation, and lose nothing. `name` is random.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`] if the disk fails or a process has the store.
    pub fn restored(dir: &Path, name: [u8; 16]) -> Result<(), StoreError> {
        let _lock = lock(dir)?;
        replace(dir, "era", &name).map_err(failed)
    }

    fn alive(&self) -> Result<(), StoreError> {
        if self.state == State::Alive {
            Ok(())
        } else {
            Err(StoreError::Poisoned)
        }
    }

    /// Writes the index down, if there is room; what it lacks is read from the segments at the next opening.
    fn checkpoint(&mut self) -> Result<(), StoreError> {
        if self.free_bytes() < INDEX_ROOM_BYTES {
            return Ok(());
        }
        let ends = self
            .open
            .iter()
            .map(|(family, segment)| (*family, (segment.number, segment.length)))
            .collect();
        self.index.checkpoint(ends)
    }

    fn free_bytes(&self) -> u64 {
        rustix::fs::statvfs(&self.dir).map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Sets room aside, if there is room.
    fn set_reserve(&mut self) {
        let path = self.dir.join("reserve");
        let there = std::fs::metadata(&path).is_ok_and(|file| file.len() >= RESERVE_BYTES as u64);
        if !there && std::fs::write(&path, vec![0xa5; RESERVE_BYTES]).is_err() {
            let _ = std::fs::remove_file(&path);
        }
    }

    fn reader(&mut self, family: Family, number: u32) -> Result<&File, StoreError> {
        if self.readers.len() > 256 {
            self.readers.clear();
        }
        match self.readers.entry((family, number)) {
            std::collections::btree_map::Entry::Occupied(there) => Ok(there.into_mut()),
            std::collections::btree_map::Entry::Vacant(place) => {
                let path = self.dir.join("segments").join(family.file_name(number));
                Ok(place.insert(File::open(path).map_err(failed)?))
            }
        }
    }

    /// What must be written again before a segment can go: that these channels are there, and had these entries.
    fn remembered(&self, channel: ChannelId, indexed: &Indexed, doomed: &[(Family, u32)]) -> Vec<Change> {
        let within = |position: &Position| doomed.contains(&(position.family, position.number));
        let record = indexed.record;
        let mut changes = Vec::new();
        if within(&indexed.opened) {
            changes.push(Change {
                channel,
                step: Step::Remembered(record, None),
            });
        }
        for (at, (mark, position)) in indexed.marks.iter().enumerate() {
            if within(position) {
                let seq = Seq::new(u64::try_from(at).unwrap_or(u64::MAX));
                let mark = Mark {
                    presence: Presence::Gone,
                    ..*mark
                };
                changes.push(Change {
                    channel,
                    step: Step::Remembered(record, Some((seq, mark))),
                });
            }
        }
        changes
    }
}

impl Store for Segments {
    fn load(&mut self, channel: &ChannelId) -> Result<Option<Log>, StoreError> {
        self.alive()?;
        let Some(indexed) = self.index.get(channel)? else {
            return Ok(None);
        };
        let mut log = Log::new(channel, indexed.record, self.era);
        for (mark, _) in &indexed.marks {
            log.push(*mark);
        }
        Ok(Some(log))
    }

    fn era(&mut self) -> Result<Era, StoreError> {
        Ok(self.era)
    }

    fn envelope(&mut self, channel: &ChannelId, seq: Seq) -> Result<Option<Envelope>, StoreError> {
        self.alive()?;
        let at = usize::try_from(seq.as_u64()).unwrap_or(usize::MAX);
        let Some((mark, position)) = self.index.mark(channel, at)? else {
            return Ok(None);
        };
        if mark.presence == Presence::Gone {
            return Ok(None);
        }
        let size = u64::from(mark.size_bytes);
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        let offset = position
            .end
            .checked_sub(size)
            .ok_or(StoreError::Damaged("an entry's place"))?;
        let file = self.reader(position.family, position.number)?;
        file.read_exact_at(&mut bytes, offset).map_err(failed)?;
        let envelope = Envelope::new(bytes.into()).ok_or(StoreError::Damaged("an entry's size"))?;
        if Digest::of(&envelope) != mark.digest {
            return Err(StoreError::Damaged("an entry's bytes"));
        }
        Ok(Some(envelope))
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        self.alive()?;
        let grows = changes
            .iter()
            .any(|change| matches!(change.step, Step::Placed { .. } | Step::Opened(_)));
        if grows && self.options.floor_bytes > 0 && self.free_bytes() < self.options.floor_bytes {
            return Err(StoreError::Full);
        }
        match grows {
            true => self.write(changes)?,
            false => self.write_from_reserve(changes)?,
        }
        if self.index.wants_checkpoint() {
            if self.free_bytes() >= self.options.floor_bytes.max(INDEX_ROOM_BYTES) {
                self.set_reserve();
            }
            self.checkpoint()?;
        }
        Ok(())
    }

    fn sweep(&mut self, today: Day) -> Result<(), StoreError> {
        self.alive()?;
        self.checkpoint()?;
        let mut live = std::collections::BTreeSet::new();
        self.index.forget_expired(today)?;
        for channel in self.index.channels()? {
            let Some(indexed) = self.index.get(&channel)? else {
                continue;
            };
            let here = |mark: &Mark| mark.presence == Presence::Here && mark.expires > today;
            for (_, position) in indexed.marks.iter().filter(|(mark, _)| here(mark)) {
                live.insert((position.family, position.number));
            }
        }
        let open: Vec<(Family, u32)> = self
            .open
            .iter()
            .map(|(family, open)| (*family, open.number))
            .collect();
        let all = file::list(&self.dir.join("segments")).map_err(failed)?;
        let doomed: Vec<_> = all
            .into_iter()
            .filter(|segment| !live.contains(segment) && !open.contains(segment))
            .collect();
        if !doomed.is_empty() {
            for channel in self.index.channels()? {
                let Some(indexed) = self.index.get(&channel)?.cloned() else {
                    continue;
                };
                let changes = self.remembered(channel, &indexed, &doomed);
                if !changes.is_empty() {
                    self.write_from_reserve(&changes)?;
                }
            }
        }
        self.checkpoint()?;
        for (family, number) in doomed {
            self.readers.remove(&(family, number));
            std::fs::remove_file(self.dir.join("segments").join(family.file_name(number))).map_err(failed)?;
        }
        self.set_reserve();
        Ok(())
    }

    fn day(&mut self) -> Result<Day, StoreError> {
        Ok(self.day)
    }

    fn set_day(&mut self, day: Day) -> Result<(), StoreError> {
        match write_day(&self.dir, day) {
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                // Without another day nothing expires, and nothing gives room back.
                let _ = std::fs::remove_file(self.dir.join("reserve"));
                write_day(&self.dir, day)
            }
            other => other,
        }
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::StorageFull => StoreError::Full,
            _ => failed(error),
        })?;
        self.day = day;
        Ok(())
    }

    fn close(&mut self) -> Result<(), StoreError> {
        self.alive()?;
        self.checkpoint()
    }

    fn totals(&self) -> Totals {
        self.index.totals()
    }
}

fn create(path: &Path) -> std::io::Result<File> {
    std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(path)
}

/// Takes the store for this process. One that was just ended, or is about to become another program, may have it for a
/// moment more.
fn lock(dir: &Path) -> Result<File, StoreError> {
    let lock = create(&dir.join("lock")).map_err(failed)?;
    for _ in 0..LOCK_TRIES {
        if lock.try_lock().is_ok() {
            return Ok(lock);
        }
        std::thread::sleep(LOCK_PAUSE);
    }
    Err(failed(std::io::Error::other("another process has this store")))
}

fn write_day(dir: &Path, day: Day) -> std::io::Result<()> {
    replace(dir, "day", format!("{}\n", day.0).as_bytes())
}

/// Replaces a small file as a whole.
fn replace(dir: &Path, name: &str, content: &[u8]) -> std::io::Result<()> {
    let draft = dir.join(format!("{name}.new"));
    let file = create(&draft)?;
    file.set_len(0)?;
    file.write_all_at(content, 0)?;
    file.sync_all()?;
    std::fs::rename(&draft, dir.join(name))?;
    File::open(dir)?.sync_all()
}

fn read_era(dir: &Path) -> Result<Era, StoreError> {
    match std::fs::read(dir.join("era")) {
        Ok(name) => name
            .as_slice()
            .try_into()
            .map(Era::new)
            .map_err(|_| StoreError::Damaged("the era file")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Era::default()),
        Err(error) => Err(failed(error)),
    }
}

fn read_day(dir: &Path) -> Result<Day, StoreError> {
    match std::fs::read_to_string(dir.join("day")) {
        Ok(text) => text
            .trim()
            .parse()
            .map(Day)
            .map_err(|_| StoreError::Damaged("the day file")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Day::default()),
        Err(error) => Err(failed(error)),
    }
}
