//! The index: which channels there are and where their entries stand. Everything in it can be rebuilt.
//!
//! What changed since the last checkpoint is in memory; a checkpoint writes it into sled, syncs sled's file (its own
//! flush does not), and then writes how far it goes into `index.mark`. An index whose checkpoint is not the one of
//! the mark is not believed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    os::unix::fs::FileExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use martlet_proto::{ChannelId, Day, Seq};
use serde::{Deserialize, Serialize};

use super::{create, failed, file::Family};
use crate::{
    log::{Change, Mark, Presence, Record, Step},
    store::{StoreError, Totals},
};

/// Where an entry's envelope ends, or a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    pub(super) family: Family,
    pub(super) number: u32,
    pub(super) end: u64,
}

/// One channel in the index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Indexed {
    pub(super) record: Record,
    pub(super) opened: Position,
    pub(super) marks: Vec<(Mark, Position)>,
}

/// How far an index goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    pub(super) counter: u64,
    pub(super) ends: BTreeMap<Family, (u32, u64)>,
    channels: u64,
    entries: u64,
    bytes: u64,
}

const CHECKPOINT: &[u8] = b"checkpoint";
/// Changes after which a checkpoint is due.
const CHANGES_MAX: u64 = 64 << 10;
/// Marks in memory after which clean channels are let go.
const MARKS_MAX: usize = 64 << 10;

pub(super) struct Index {
    dir: PathBuf,
    db: sled::Db,
    /// Channels in memory; `None` for one that is gone.
    held: BTreeMap<ChannelId, Option<Indexed>>,
    dirty: BTreeSet<ChannelId>,
    checkpoint: Checkpoint,
    changes: u64,
    marks_held: usize,
}

/// sled panics on some damage; that must not end the relay before it has said why.
fn guarded<T>(work: impl FnOnce() -> Result<T, sled::Error>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(error))) => Err(failed(error)),
        Ok(Err(_)) | Err(_) => Err(StoreError::Damaged("the index")),
    }
}

fn open_db(dir: &Path) -> Result<sled::Db, StoreError> {
    let path = dir.join("index");
    guarded(|| {
        sled::Config::new()
            .path(path)
            .cache_capacity(4 << 20)
            .flush_every_ms(None)
            .open()
    })
}

/// A value with its checksum before it.
fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, StoreError> {
    let bytes = postcard::to_extend(value, vec![0; 4]).map_err(|_| StoreError::Damaged("an index value"))?;
    let mut bytes = bytes;
    if let Some((sum, value)) = bytes.split_first_chunk_mut::<4>() {
        *sum = crc32fast::hash(value).to_be_bytes();
    }
    Ok(bytes)
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (sum, value) = bytes.split_first_chunk::<4>()?;
    if crc32fast::hash(value).to_be_bytes() != *sum {
        return None;
    }
    postcard::from_bytes(value).ok()
}

impl Index {
    /// The index of a store, if it can be believed.
    pub(super) fn open(dir: &Path) -> Result<Option<Self>, StoreError> {
        let mark = std::fs::read(dir.join("index.mark")).unwrap_or_default();
        let Some(counter) = decode::<u64>(&mark) else {
            return Ok(None);
        };
        let Ok(db) = open_db(dir) else { return Ok(None) };
        let Ok(Some(found)) = guarded(|| db.get(CHECKPOINT)) else {
            return Ok(None);
        };
        let Some(checkpoint) = decode::<Checkpoint>(&found) else {
            return Ok(None);
        };
        if checkpoint.counter != counter {
            return Ok(None);
        }
        Ok(Some(Self::with(dir, db, checkpoint)))
    }

    /// An empty index, in place of whatever is there.
    pub(super) fn anew(dir: &Path) -> Result<Self, StoreError> {
        for gone in [
            std::fs::remove_file(dir.join("index.mark")),
            std::fs::remove_dir_all(dir.join("index")),
        ] {
            match gone {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(Self::with(dir, open_db(dir)?, Checkpoint::default()))
    }

    fn with(dir: &Path, db: sled::Db, checkpoint: Checkpoint) -> Self {
        Self {
            dir: dir.to_path_buf(),
            db,
            held: BTreeMap::new(),
            dirty: BTreeSet::new(),
            checkpoint,
            changes: 0,
            marks_held: 0,
        }
    }

    /// How far it went when it was last written.
    pub(super) fn ends(&self) -> &BTreeMap<Family, (u32, u64)> {
        &self.checkpoint.ends
    }

    pub(super) fn totals(&self) -> Totals {
        let Checkpoint {
            channels,
            entries,
            bytes,
            ..
        } = self.checkpoint;
        Totals {
            channels,
            entries,
            bytes,
        }
    }

    pub(super) fn wants_checkpoint(&self) -> bool {
        self.changes >= CHANGES_MAX
    }

    fn hold(&mut self, channel: &ChannelId) -> Result<(), StoreError> {
        if self.held.contains_key(channel) {
            return Ok(());
        }
        if self.marks_held > MARKS_MAX {
            let dirty = &self.dirty;
            self.held.retain(|channel, _| dirty.contains(channel));
            self.marks_held = self
                .held
                .values()
                .flatten()
                .map(|indexed| indexed.marks.len())
                .sum();
        }
        let found = guarded(|| self.db.get(channel.as_bytes()))?;
        let indexed = match found {
            Some(bytes) => Some(decode::<Indexed>(&bytes).ok_or(StoreError::Damaged("the index"))?),
            None => None,
        };
        self.marks_held = self
            .marks_held
            .saturating_add(indexed.as_ref().map_or(0, |found| found.marks.len()));
        self.held.insert(*channel, indexed);
        Ok(())
    }

    pub(super) fn get(&mut self, channel: &ChannelId) -> Result<Option<&Indexed>, StoreError> {
        self.hold(channel)?;
        Ok(self.held.get(channel).and_then(Option::as_ref))
    }

    pub(super) fn mark(
        &mut self,
        channel: &ChannelId,
        at: usize,
    ) -> Result<Option<(Mark, Position)>, StoreError> {
        Ok(self
            .get(channel)?
            .and_then(|indexed| indexed.marks.get(at).copied()))
    }

    /// Every channel there is.
    pub(super) fn channels(&self) -> Result<Vec<ChannelId>, StoreError> {
        let stored = guarded(|| self.db.iter().keys().collect::<Result<Vec<_>, _>>())?;
        let stored = stored
            .iter()
            .filter_map(|key| Some(ChannelId::new(key.as_ref().try_into().ok()?)));
        let all: BTreeSet<ChannelId> = stored.chain(self.held.keys().copied()).collect();
        Ok(all
            .into_iter()
            .filter(|channel| !matches!(self.held.get(channel), Some(None)))
            .collect())
    }

    /// Takes what a commit wrote.
    pub(super) fn apply(&mut self, change: &Change, position: Position) -> Result<(), StoreError> {
        self.hold(&change.channel)?;
        self.dirty.insert(change.channel);
        self.changes = self.changes.saturating_add(1);
        let held = self.held.entry(change.channel).or_default();
        let totals = &mut self.checkpoint;
        match (&change.step, held.as_mut()) {
            (Step::Opened(record), _) => {
                forget(held, totals);
                totals.channels = totals.channels.saturating_add(1);
                *held = Some(Indexed {
                    record: *record,
                    opened: position,
                    marks: Vec::new(),
                });
            }
            (Step::Remembered(record, None), None) => {
                totals.channels = totals.channels.saturating_add(1);
                *held = Some(Indexed {
                    record: *record,
                    opened: position,
                    marks: Vec::new(),
                });
            }
            (Step::Dropped, _) => forget(held, totals),
            (Step::Renewed(day), Some(indexed)) => {
                indexed.record.expires = indexed.record.expires.max(*day);
                // The record's own bytes say an earlier day: it must be written again before this segment goes.
                indexed.opened = indexed.opened.earlier(position);
            }
            (Step::Remembered(record, at), Some(indexed))
                if record.incarnation == indexed.record.incarnation =>
            {
                indexed.record.expires = indexed.record.expires.max(record.expires);
                match at {
                    None => indexed.opened = position,
                    Some((seq, mark)) => indexed.remember(*seq, *mark, position, totals),
                }
            }
            (
                Step::Placed {
                    incarnation,
                    seq,
                    kind,
                    id,
                    digest,
                    expires,
                    by,
                    envelope,
                },
                Some(indexed),
            ) if *incarnation == indexed.record.incarnation && indexed.next() == *seq => {
                let size_bytes = u32::try_from(envelope.size_bytes()).unwrap_or(u32::MAX);
                let (kind, id, digest, expires, by) = (*kind, *id, *digest, *expires, *by);
                let mark = Mark {
                    kind,
                    id,
                    digest,
                    size_bytes,
                    expires,
                    by,
                    presence: Presence::Here,
                };
                indexed.marks.push((mark, position));
                self.marks_held = self.marks_held.saturating_add(1);
                totals.entries = totals.entries.saturating_add(1);
                totals.bytes = totals.bytes.saturating_add(u64::from(size_bytes));
            }
            (Step::Trimmed(before), Some(indexed)) => {
                let count = usize::try_from(before.as_u64()).unwrap_or(usize::MAX);
                for (mark, _) in indexed.marks.iter_mut().take(count) {
                    vanish(mark, totals);
                }
            }
            (Step::Renewed(_) | Step::Placed { .. } | Step::Trimmed(_) | Step::Remembered(..), _) => {}
        }
        Ok(())
    }

    /// Forgets the channels that expire on `today` or before.
    pub(super) fn forget_expired(&mut self, today: Day) -> Result<(), StoreError> {
        for channel in self.channels()? {
            if self
                .get(&channel)?
                .is_some_and(|indexed| indexed.record.expires <= today)
            {
                self.dirty.insert(channel);
                forget(self.held.entry(channel).or_default(), &mut self.checkpoint);
            }
        }
        Ok(())
    }

    /// Writes down all that changed, and how far it goes.
    pub(super) fn checkpoint(&mut self, ends: BTreeMap<Family, (u32, u64)>) -> Result<(), StoreError> {
        self.checkpoint.ends = ends;
        self.checkpoint.counter = self.checkpoint.counter.saturating_add(1);
        let mut batch = sled::Batch::default();
        for channel in &self.dirty {
            match self.held.get(channel) {
                Some(Some(indexed)) => batch.insert(channel.as_bytes().as_slice(), encode(indexed)?),
                Some(None) | None => batch.remove(channel.as_bytes().as_slice()),
            }
        }
        batch.insert(CHECKPOINT, encode(&self.checkpoint)?);
        guarded(|| {
            self.db.apply_batch(batch)?;
            self.db.flush()?;
            Ok(())
        })?;
        File::open(self.dir.join("index").join("db"))
            .and_then(|db| db.sync_data())
            .map_err(failed)?;
        let mark = create(&self.dir.join("index.mark")).map_err(failed)?;
        mark.write_all_at(&encode(&self.checkpoint.counter)?, 0)
            .map_err(failed)?;
        mark.sync_data().map_err(failed)?;
        self.dirty.clear();
        self.changes = 0;
        Ok(())
    }
}

fn vanish(mark: &mut Mark, totals: &mut Checkpoint) {
    if mark.presence == Presence::Here {
        mark.presence = Presence::Gone;
        totals.entries = totals.entries.saturating_sub(1);
        totals.bytes = totals.bytes.saturating_sub(u64::from(mark.size_bytes));
    }
}

fn forget(held: &mut Option<Indexed>, totals: &mut Checkpoint) {
    if let Some(mut indexed) = held.take() {
        for (mark, _) in &mut indexed.marks {
            vanish(mark, totals);
        }
        totals.channels = totals.channels.saturating_sub(1);
    }
}

impl Position {
    /// The one in the older segment.
    fn earlier(self, other: Self) -> Self {
        if other.number < self.number { other } else { self }
    }
}

impl Indexed {
    pub(super) fn next(&self) -> Seq {
        Seq::new(u64::try_from(self.marks.len()).unwrap_or(u64::MAX))
    }

    /// An entry that is gone: its mark stands elsewhere from now on.
    fn remember(&mut self, seq: Seq, mark: Mark, position: Position, totals: &mut Checkpoint) {
        let at = usize::try_from(seq.as_u64()).unwrap_or(usize::MAX);
        let length = self.marks.len();
        match self.marks.get_mut(at) {
            Some((known, place)) => {
                vanish(known, totals);
                *place = position;
            }
            None if at == length => self.marks.push((mark, position)),
            None => {}
        }
    }
}
