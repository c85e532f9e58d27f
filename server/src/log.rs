//! What a relay remembers of one channel, and the changes that it makes durable. Pure.
//!
//! A [`Log`] is the fold of the [`Change`]s made to it: the relay applies them in memory, a store writes them down
//! and can fold them again. Envelopes stay in the store; a log holds only their marks.

use std::collections::BTreeMap;

use martlet_proto::{
    ChannelId, Class, Day, Digest, EntryId, Envelope, Head, Incarnation, Kind, Seq, TokenHash,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Who added an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hand {
    /// A holder of `write`.
    Writer,
    /// A holder of `keep`: the entry was sealed in.
    Keeper,
}

/// Whether an entry's envelope is still kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Presence {
    /// It is, until it expires.
    Here,
    /// It expired or was trimmed.
    Gone,
}

/// What a log knows of one entry besides its envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// What it holds.
    pub kind: Kind,
    /// The name its sender gave it.
    pub id: EntryId,
    /// SHA-256 of its envelope.
    pub digest: Digest,
    /// The envelope's size.
    pub size_bytes: u32,
    /// The first day on which it is forgotten.
    pub expires: Day,
    /// Who added it.
    pub by: Hand,
    /// Whether the envelope is still kept.
    pub presence: Presence,
}

/// What the lives of all channels of a store are named by, besides their records: another one whenever an old copy of the
/// store was put back, which has forgotten what was acknowledged since. SPEC.md 3.4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Era(Option<[u8; 16]>);

impl Era {
    /// The era of this name.
    pub const fn new(name: [u8; 16]) -> Self {
        Self(Some(name))
    }

    /// The incarnation that clients are told of a channel of which this one was recorded.
    pub fn life(&self, recorded: &Incarnation) -> Incarnation {
        let Some(name) = self.0 else { return *recorded };
        let mut hash = Sha256::new();
        hash.update(b"martlet/1 era");
        hash.update(name);
        hash.update(recorded.as_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        let mut life = [0; 16];
        life.copy_from_slice(digest.first_chunk::<16>().unwrap_or(&[0; 16]));
        Incarnation::new(life)
    }
}

/// One channel, as the relay remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    era: Era,
    /// What its record says.
    pub record: Record,
    /// Its entries, by position.
    pub marks: Vec<Mark>,
    /// The chain over all entries.
    pub head: Head,
    /// Whether only the keeper may add.
    pub sealed: bool,
    /// Bytes of the envelopes that are kept.
    held_bytes: u64,
    /// Where each entry stands.
    ids: BTreeMap<EntryId, Seq>,
    /// The chain after every so many entries, so that an earlier head costs little.
    heads: Vec<Head>,
}

/// Entries between heads that are remembered.
const HEADS_EVERY: usize = 64;

/// What a channel was created with, and how long it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What it is for.
    pub class: Class,
    /// Hash of the token that may read.
    pub read: TokenHash,
    /// Hash of the token that may open and append.
    pub write: TokenHash,
    /// Hash of the token that may seal, trim and drop.
    pub keep: TokenHash,
    /// Which life of the channel this is, as it was recorded; clients are told [`Log::life`].
    pub incarnation: Incarnation,
    /// The first day on which the channel is forgotten.
    pub expires: Day,
}

/// One durable step of one channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The channel it is about.
    pub channel: ChannelId,
    /// What happened to it.
    pub step: Step,
}

/// What can happen to a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// It was created. Anything an earlier life of it held is gone.
    Opened(Record),
    /// It will be kept until this day at least.
    Renewed(Day),
    /// An entry was added at the end.
    Placed {
        /// Which life of the channel it belongs to.
        incarnation: Incarnation,
        /// Where it stands.
        seq: Seq,
        /// What it holds.
        kind: Kind,
        /// The name its sender gave it.
        id: EntryId,
        /// SHA-256 of the envelope.
        digest: Digest,
        /// The first day on which it is forgotten.
        expires: Day,
        /// Who added it; by the keeper, it seals the log.
        by: Hand,
        /// The envelope.
        envelope: Envelope,
    },
    /// Written by a store when it gives room back: the channel is there, and had this entry, which is gone.
    Remembered(Record, Option<(Seq, Mark)>),
    /// The entries before this position were forgotten; their marks stay.
    Trimmed(Seq),
    /// The channel was forgotten.
    Dropped,
}

impl Log {
    /// An empty log.
    pub fn new(channel: &ChannelId, record: Record, era: Era) -> Self {
        Self {
            head: Head::first(channel, &era.life(&record.incarnation)),
            era,
            record,
            marks: Vec::new(),
            sealed: false,
            held_bytes: 0,
            ids: BTreeMap::new(),
            heads: Vec::new(),
        }
    }

    /// Which life of the channel this is, as clients are told.
    pub fn life(&self) -> Incarnation {
        self.era.life(&self.record.incarnation)
    }

    /// The position the next entry gets.
    pub fn next(&self) -> Seq {
        Seq::new(u64::try_from(self.marks.len()).unwrap_or(u64::MAX))
    }

    /// Bytes of the envelopes that are kept.
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// Forgets the envelopes that expire on this day or before: they count no more against the quota.
    pub fn expire(&mut self, today: Day) {
        for mark in &mut self.marks {
            if mark.presence == Presence::Here && mark.expires <= today {
                self.held_bytes = self.held_bytes.saturating_sub(u64::from(mark.size_bytes));
                mark.presence = Presence::Gone;
            }
        }
    }

    /// The chain over the entries before a position; `None` if the log is not that long.
    pub fn head_at(&self, channel: &ChannelId, seq: Seq) -> Option<Head> {
        let end = usize::try_from(seq.as_u64()).ok()?;
        let passed = end.checked_div(HEADS_EVERY)?;
        let (mut at, mut head) = match passed.checked_sub(1) {
            Some(index) => (passed.checked_mul(HEADS_EVERY)?, *self.heads.get(index)?),
            None => (0, Head::first(channel, &self.life())),
        };
        for mark in self.marks.get(at..end)? {
            head = head.after(Seq::new(u64::try_from(at).ok()?), mark.kind, &mark.digest);
            at = at.checked_add(1)?;
        }
        Some(head)
    }

    /// Where the entry of this name stands.
    pub fn find(&self, id: &EntryId) -> Option<Seq> {
        self.ids.get(id).copied()
    }

    /// Adds a mark as it was remembered, at the end.
    pub fn push(&mut self, mark: Mark) {
        let seq = self.next();
        self.head = self.head.after(seq, mark.kind, &mark.digest);
        self.sealed |= mark.by == Hand::Keeper;
        if mark.presence == Presence::Here {
            self.held_bytes = self.held_bytes.saturating_add(u64::from(mark.size_bytes));
        }
        self.ids.insert(mark.id, seq);
        self.marks.push(mark);
        if self.marks.len().checked_rem(HEADS_EVERY) == Some(0) {
            self.heads.push(self.head);
        }
    }

    /// The mark at a position, if the log is that long.
    pub fn mark(&self, seq: Seq) -> Option<&Mark> {
        self.marks.get(usize::try_from(seq.as_u64()).ok()?)
    }

    /// Folds one step into what is remembered; the log after it, or `None` if the channel is then forgotten.
    ///
    /// Steps that do not fit (an entry that is not the next, or of another life) change nothing.
    pub fn fold(log: Option<Self>, channel: &ChannelId, step: &Step, era: Era) -> Option<Self> {
        match (log, step) {
            (_, Step::Opened(record)) | (None, Step::Remembered(record, _)) => {
                Some(Self::new(channel, *record, era))
            }
            (None, _) | (Some(_), Step::Dropped) => None,
            (Some(mut log), step) => {
                log.take(step);
                Some(log)
            }
        }
    }

    /// Applies a step that neither creates nor forgets the channel.
    pub fn take(&mut self, step: &Step) {
        match step {
            Step::Opened(_) | Step::Dropped | Step::Remembered(..) => {}
            Step::Renewed(day) => self.record.expires = self.record.expires.max(*day),
            Step::Placed {
                incarnation,
                seq,
                kind,
                id,
                digest,
                expires,
                by,
                envelope,
            } => {
                if *incarnation != self.record.incarnation || *seq != self.next() {
                    return;
                }
                self.push(Mark {
                    kind: *kind,
                    id: *id,
                    digest: *digest,
                    size_bytes: u32::try_from(envelope.size_bytes()).unwrap_or(u32::MAX),
                    expires: *expires,
                    by: *by,
                    presence: Presence::Here,
                });
            }
            Step::Trimmed(before) => {
                let count = usize::try_from(before.as_u64()).unwrap_or(usize::MAX);
                for mark in self.marks.iter_mut().take(count) {
                    if mark.presence == Presence::Here {
                        self.held_bytes = self.held_bytes.saturating_sub(u64::from(mark.size_bytes));
                        mark.presence = Presence::Gone;
                    }
                }
            }
        }
    }
}
