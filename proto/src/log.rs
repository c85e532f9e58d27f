//! The values a channel's log is made of, and the chain of hashes over it. SPEC.md, sections 2 and 3.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    Envelope,
    grant::{Bind, TokenHash},
};

/// Seconds since the Unix epoch. Always an argument, never asked of the system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Time(u64);

impl Time {
    /// So many seconds after the Unix epoch.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs)
    }

    /// Seconds since the Unix epoch.
    pub const fn as_secs(self) -> u64 {
        self.0
    }

    /// This much later; the end of time if that is beyond it.
    pub const fn plus_secs(self, secs: u64) -> Self {
        Self(self.0.saturating_add(secs))
    }

    /// The day that this time is in.
    pub const fn day(self) -> Day {
        let day = self.0 / 86_400;
        if day > u32::MAX as u64 {
            Day(u32::MAX)
        } else {
            Day(day as u32)
        }
    }
}

/// Whole days since the Unix epoch: the finest time a relay writes to its disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Day(pub u32);

impl Day {
    /// So many days later.
    pub const fn plus(self, days: u32) -> Self {
        Self(self.0.saturating_add(days))
    }

    /// The first second of this day.
    pub const fn start(self) -> Time {
        Time((self.0 as u64).saturating_mul(86_400))
    }
}

macro_rules! opaque {
    ($($(#[$doc:meta])* $name:ident: $len:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Takes the bytes as they are.
            pub const fn new(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    )*};
}

opaque! {
    /// A channel's name: the hash of what its rights are guarded by. It says nothing about who uses it.
    ChannelId: 32;
    /// A client-chosen random name of one entry: sending it again with the same bytes changes nothing.
    EntryId: 16;
    /// Random bytes given to a channel each time it is created: a channel that vanished and came back differs.
    Incarnation: 16;
    /// The hash chain over a log up to some position.
    Head: 32;
    /// SHA-256 of an envelope.
    Digest: 32;
}

impl ChannelId {
    /// The id that commits to a channel's class and rights. SPEC.md 2.2.
    pub fn commit(class: Class, read: &TokenHash, write: &TokenHash, keep: &TokenHash, bind: &Bind) -> Self {
        Self::from_mark(class, read, &Mark::commit(write, keep, bind))
    }

    /// The same, for one who knows `M` but not what it is made of (the holder of an invite).
    pub fn from_mark(class: Class, read: &TokenHash, mark: &Mark) -> Self {
        let hash = Sha256::new_with_prefix(b"martlet/1 channel")
            .chain_update([class as u8])
            .chain_update(read.as_bytes())
            .chain_update(mark.as_bytes());
        Self(hash.finalize().into())
    }
}

opaque! {
    /// `M`: the hash over a channel's write and keep rights and what it is bound to. SPEC.md 2.2.
    Mark: 32;
}

impl Mark {
    /// `SHA-256(H(write) ‖ H(keep) ‖ bind)`.
    pub fn commit(write: &TokenHash, keep: &TokenHash, bind: &Bind) -> Self {
        let hash = Sha256::new_with_prefix(write.as_bytes())
            .chain_update(keep.as_bytes())
            .chain_update(bind.as_bytes());
        Self(hash.finalize().into())
    }
}

/// What a channel is for; it decides how long things live and how much may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum Class {
    /// One epoch of a case.
    Case = 0,
    /// First contact and rescue.
    Inbox = 1,
    /// One document.
    File = 2,
    /// What an invite points to.
    Card = 3,
}

/// What an entry holds, as far as the relay may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum Kind {
    /// An MLS application message.
    Letter = 0,
    /// An MLS commit.
    Commit = 1,
    /// First contact: something sealed to an inbox's key.
    Packet = 2,
    /// A piece of a document.
    Chunk = 3,
    /// A card.
    Card = 4,
}

/// A position in a log. The first entry is `Seq::FIRST`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Seq(u64);

impl Seq {
    /// Where the first entry stands.
    pub const FIRST: Self = Self(0);

    /// The position with this number, counted from 0.
    pub const fn new(position: u64) -> Self {
        Self(position)
    }

    /// The number of this position, counted from 0.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The position after this one; `None` when the log is full.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

/// A place to read on from: positions of one incarnation mean nothing in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Which life of the channel.
    pub incarnation: Incarnation,
    /// The next position wanted.
    pub seq: Seq,
}

impl Head {
    /// The head of an empty log. SPEC.md 3.2.
    pub fn first(channel: &ChannelId, incarnation: &Incarnation) -> Self {
        let hash = Sha256::new_with_prefix(b"martlet/1 head")
            .chain_update(channel.as_bytes())
            .chain_update(incarnation.as_bytes());
        Self(hash.finalize().into())
    }

    /// The head after one more entry at `seq`.
    pub fn after(&self, seq: Seq, kind: Kind, digest: &Digest) -> Self {
        let hash = Sha256::new_with_prefix(self.0)
            .chain_update(seq.0.to_be_bytes())
            .chain_update([kind as u8])
            .chain_update(digest.as_bytes());
        Self(hash.finalize().into())
    }
}

impl Digest {
    /// SHA-256 of the whole envelope.
    pub fn of(envelope: &Envelope) -> Self {
        Self(Sha256::digest(envelope.as_bytes()).into())
    }
}

/// One envelope and its place in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where it stands.
    pub seq: Seq,
    /// What it holds, as far as the relay may know.
    pub kind: Kind,
    /// The name its sender gave it.
    pub id: EntryId,
    /// The sealed bytes.
    pub envelope: Envelope,
}

/// What a reader finds at a position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Slot {
    /// An entry.
    Here(Entry),
    /// An entry that has expired or was trimmed; its digest keeps the chain of heads whole.
    Gone {
        /// Where it stood.
        seq: Seq,
        /// What it held.
        kind: Kind,
        /// SHA-256 of its envelope.
        digest: Digest,
    },
}

impl Slot {
    /// Where it stands or stood.
    pub fn seq(&self) -> Seq {
        match self {
            Self::Here(entry) => entry.seq,
            Self::Gone { seq, .. } => *seq,
        }
    }

    /// The head after this slot, given the head before it.
    pub fn head_after(&self, before: &Head) -> Head {
        match self {
            Self::Here(entry) => before.after(entry.seq, entry.kind, &Digest::of(&entry.envelope)),
            Self::Gone { seq, kind, digest } => before.after(*seq, *kind, digest),
        }
    }
}
