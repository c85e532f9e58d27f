//! Opening: the index as far as it goes, then what the segments hold beyond it.

use std::{collections::BTreeMap, path::Path};

use martlet_proto::{ChannelId, Incarnation, Seq};

use super::{
    failed,
    file::{self, Family, HEADER, Segment, frame},
    index::{Index, Position},
};
use crate::{
    log::{Change, Step},
    store::StoreError,
};

/// What had to be mended when a store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Whether the index was built anew from the segments.
    pub rebuilt: bool,
    /// Bytes at the ends of segments that were never acknowledged, and were cut off.
    pub cut_bytes: u64,
}

/// Entries that wait for those before them, which stand in another family.
type Waiting = BTreeMap<(ChannelId, Seq), Vec<(Change, Position)>>;

type Opened = (Index, BTreeMap<Family, Segment>, Report);

pub(super) fn open(dir: &Path) -> Result<Opened, StoreError> {
    let segments = dir.join("segments");
    let mut report = Report::default();
    let mut index = match Index::open(dir)? {
        Some(index) => index,
        None => {
            report.rebuilt = !file::list(&segments).map_err(failed)?.is_empty();
            Index::anew(dir)?
        }
    };
    let all = file::list(&segments).map_err(failed)?;
    let begins = index.ends().clone();
    let mut open = BTreeMap::new();
    let mut waiting = Waiting::new();
    // Records of cases stand in `keep`: it goes first, and what is sealed in waits for the entries before it.
    for family in [Family::Keep, Family::Case, Family::Inbox, Family::File] {
        let numbers: Vec<u32> = all
            .iter()
            .filter(|(of, _)| *of == family)
            .map(|(_, number)| *number)
            .collect();
        let (first, offset) = begins.get(&family).copied().unwrap_or((0, HEADER));
        for (at, number) in numbers.iter().enumerate() {
            if *number < first {
                continue;
            }
            let from = if *number == first { offset } else { HEADER };
            let is_last = at.saturating_add(1) == numbers.len();
            let path = segments.join(family.file_name(*number));
            let length = replay(
                &path,
                family,
                *number,
                from,
                is_last,
                &mut index,
                &mut waiting,
                &mut report,
            )?;
            if is_last {
                let file = super::create(&path).map_err(failed)?;
                open.insert(
                    family,
                    Segment {
                        file,
                        number: *number,
                        length,
                    },
                );
            }
        }
    }
    settle(&mut index, waiting)?;
    Ok((index, open, report))
}

#[expect(
    clippy::too_many_arguments,
    reason = "one segment's place, and the three things that reading it fills"
)]
fn replay(
    path: &Path,
    family: Family,
    number: u32,
    from: u64,
    is_last: bool,
    index: &mut Index,
    waiting: &mut Waiting,
    report: &mut Report,
) -> Result<u64, StoreError> {
    let bytes = std::fs::read(path).map_err(failed)?;
    if bytes.len() < HEADER as usize && is_last {
        // The power failed while it was begun: nothing in it was acknowledged.
        let segment = Segment::create(path.parent().unwrap_or(path), family, number).map_err(failed)?;
        return Ok(segment.length);
    }
    if bytes.get(..HEADER as usize) != Some(family.header().as_slice()) {
        return Err(StoreError::Damaged(
            "a segment's header, or it is of a later version",
        ));
    }
    let mut at = usize::try_from(from).map_err(|_| StoreError::Damaged("a segment's length"))?;
    if at > bytes.len() {
        return Err(StoreError::Damaged("a segment that lost its end"));
    }
    while at < bytes.len() {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(payload) = frame::payload(rest) else {
            if !is_last || whole_frame_follows(rest) {
                return Err(StoreError::Damaged("a frame in the middle of a segment"));
            }
            report.cut_bytes = report
                .cut_bytes
                .saturating_add(u64::try_from(rest.len()).unwrap_or(u64::MAX));
            let file = super::create(path).map_err(failed)?;
            file.set_len(u64::try_from(at).unwrap_or(u64::MAX))
                .map_err(failed)?;
            file.sync_all().map_err(failed)?;
            break;
        };
        let start = at.saturating_add(frame::PREFIX);
        take(payload, start, family, number, index, waiting)?;
        at = start.saturating_add(payload.len());
    }
    Ok(u64::try_from(at).unwrap_or(u64::MAX))
}

/// Whether a whole frame begins anywhere after the first byte.
fn whole_frame_follows(bytes: &[u8]) -> bool {
    (1..bytes.len()).any(|at| bytes.get(at..).and_then(frame::payload).is_some())
}

fn take(
    payload: &[u8],
    start: usize,
    family: Family,
    number: u32,
    index: &mut Index,
    waiting: &mut Waiting,
) -> Result<(), StoreError> {
    let mut rest = payload;
    while !rest.is_empty() {
        let (change, after) = postcard::take_from_bytes::<Change>(rest)
            .map_err(|_| StoreError::Damaged("a change in a segment"))?;
        let done = payload.len().saturating_sub(after.len());
        let end = u64::try_from(start.saturating_add(done)).unwrap_or(u64::MAX);
        let position = Position { family, number, end };
        let next = index
            .get(&change.channel)?
            .map_or(Seq::FIRST, super::index::Indexed::next);
        match &change.step {
            Step::Placed { seq, .. } | Step::Remembered(_, Some((seq, _))) | Step::Trimmed(seq)
                if *seq > next =>
            {
                waiting
                    .entry((change.channel, *seq))
                    .or_default()
                    .push((change, position));
            }
            Step::Opened(_) | Step::Dropped => {
                for key in keys_of(waiting, &change.channel) {
                    waiting.remove(&key);
                }
                index.apply(&change, position)?;
            }
            _ => index.apply(&change, position)?,
        }
        rest = after;
    }
    Ok(())
}

fn keys_of(waiting: &Waiting, channel: &ChannelId) -> Vec<(ChannelId, Seq)> {
    waiting
        .range((*channel, Seq::FIRST)..=(*channel, Seq::new(u64::MAX)))
        .map(|(key, _)| *key)
        .collect()
}

/// Applies what waited, in the order of positions; what belongs to another life of its channel is left out.
fn settle(index: &mut Index, waiting: Waiting) -> Result<(), StoreError> {
    for changes in waiting.into_values() {
        for (change, position) in changes {
            let alive: Option<Incarnation> = index
                .get(&change.channel)?
                .map(|indexed| indexed.record.incarnation);
            let of = match &change.step {
                Step::Placed { incarnation, .. } => Some(*incarnation),
                Step::Remembered(record, _) => Some(record.incarnation),
                Step::Opened(_) | Step::Renewed(_) | Step::Trimmed(_) | Step::Dropped => alive,
            };
            if alive.is_some() && alive == of {
                index.apply(&change, position)?;
            }
        }
    }
    Ok(())
}
