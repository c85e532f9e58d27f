//! Writing: one frame a family, one sync a file; after a write that found no room all files are as they were.

use std::{collections::BTreeMap, os::unix::fs::FileExt};

use martlet_proto::{ChannelId, Class};

use super::{
    Segments, State, Sync, failed,
    file::{Family, Segment, frame},
    index::Position,
};
use crate::{
    log::{Change, Hand, Step},
    store::StoreError,
};

impl Segments {
    fn family(
        &mut self,
        change: &Change,
        opened: &BTreeMap<ChannelId, Class>,
    ) -> Result<Option<Family>, StoreError> {
        let class = match &change.step {
            Step::Opened(record) | Step::Remembered(record, _) => Some(record.class),
            Step::Renewed(_) | Step::Placed { .. } | Step::Trimmed(_) | Step::Dropped => {
                match opened.get(&change.channel) {
                    Some(class) => Some(*class),
                    None => self
                        .index
                        .get(&change.channel)?
                        .map(|indexed| indexed.record.class),
                }
            }
        };
        Ok(class.map(|class| match (class, &change.step) {
            (Class::Case, Step::Placed { by: Hand::Writer, .. }) => Family::Case,
            (Class::Case, _) => Family::Keep,
            (Class::Inbox | Class::Card, _) => Family::Inbox,
            (Class::File, _) => Family::File,
        }))
    }

    /// Writes changes, each to its family, and waits until the disk has them.
    pub(super) fn write(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        let mut frames: BTreeMap<Family, Vec<u8>> = BTreeMap::new();
        let mut placed = Vec::with_capacity(changes.len());
        let mut opened = BTreeMap::new();
        for change in changes {
            if let Step::Opened(record) = &change.step {
                opened.insert(change.channel, record.class);
            }
            let Some(family) = self.family(change, &opened)? else {
                continue;
            };
            let payload = frames.entry(family).or_insert_with(frame::begin);
            frame::push(payload, change)?;
            placed.push((change, family, payload.len()));
        }
        let starts = self.write_frames(&mut frames)?;
        for (change, family, end) in placed {
            let (number, start) = starts
                .get(&family)
                .copied()
                .ok_or(StoreError::Damaged("a frame vanished"))?;
            let end = start.saturating_add(u64::try_from(end).unwrap_or(u64::MAX));
            self.index.apply(change, Position { family, number, end })?;
        }
        Ok(())
    }

    /// Writes what gives room back: where there is none left, it takes what was set aside.
    pub(super) fn write_from_reserve(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        match self.write(changes) {
            Err(StoreError::Full) => {
                let _ = std::fs::remove_file(self.dir.join("reserve"));
                self.write(changes)
            }
            other => other,
        }
    }

    /// Where each family's frame begins. After a write that found no room, all files are as they were.
    fn write_frames(
        &mut self,
        frames: &mut BTreeMap<Family, Vec<u8>>,
    ) -> Result<BTreeMap<Family, (u32, u64)>, StoreError> {
        let mut starts = BTreeMap::new();
        for (family, bytes) in frames.iter_mut() {
            frame::finish(bytes)?;
            let segment = match self.segment(*family) {
                Ok(segment) => segment,
                Err(error) => return Err(self.undo(&starts, error)),
            };
            starts.insert(*family, (segment.number, segment.length));
            if let Err(error) = segment.file.write_all_at(bytes, segment.length) {
                return Err(self.undo(&starts, error));
            }
        }
        // In the order of `Family`: `keep` comes last.
        for (family, bytes) in frames.iter() {
            let Some(segment) = self.open.get_mut(family) else {
                continue;
            };
            if self.options.sync == Sync::On
                && let Err(error) = segment.file.sync_data()
            {
                self.state = State::Poisoned;
                return Err(failed(error));
            }
            segment.length = segment
                .length
                .saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        }
        Ok(starts)
    }

    fn undo(&mut self, starts: &BTreeMap<Family, (u32, u64)>, error: std::io::Error) -> StoreError {
        for (family, (_, start)) in starts {
            let cut = self
                .open
                .get(family)
                .map_or(Ok(()), |segment| segment.file.set_len(*start));
            if cut.is_err() {
                self.state = State::Poisoned;
                return failed(error);
            }
        }
        if error.kind() == std::io::ErrorKind::StorageFull {
            StoreError::Full
        } else {
            self.state = State::Poisoned;
            failed(error)
        }
    }

    /// The open segment of a family; begins the next where it is large enough.
    fn segment(&mut self, family: Family) -> std::io::Result<&mut Segment> {
        let number = match self.open.get(&family) {
            Some(segment) if segment.length < self.options.segment_bytes => None,
            Some(segment) => Some(segment.number.saturating_add(1)),
            None => Some(1),
        };
        if let Some(number) = number {
            let segment = Segment::create(&self.dir.join("segments"), family, number)?;
            self.open.insert(family, segment);
        }
        self.open
            .get_mut(&family)
            .ok_or_else(|| std::io::Error::other("a segment vanished"))
    }
}
