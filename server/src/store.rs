//! Where channels rest. A store is told what changed and makes it durable at once, or not at all.

pub mod memory;
#[cfg(feature = "shell")]
pub mod segments;

use martlet_proto::{ChannelId, Day, Envelope, Seq};

use crate::log::{Change, Era, Log};

/// How much a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Channels that are remembered.
    pub channels: u64,
    /// Entries whose envelopes are kept.
    pub entries: u64,
    /// Bytes of those envelopes.
    pub bytes: u64,
}

/// Why a store did not do what it was told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no room. Nothing of this commit was kept, nothing older was lost, and the store goes on.
    #[error("the disk is full")]
    Full,
    /// Something below failed, and what was kept is not known. The store answers nothing more: start again.
    #[error("the store failed; restart the relay")]
    Failed(#[source] std::io::Error),
    /// What is on the disk is not what this program wrote.
    #[error("the store is damaged: {0}")]
    Damaged(&'static str),
    /// An earlier commit failed.
    #[error("the store stopped after an earlier failure; restart the relay")]
    Poisoned,
}

/// A place to keep channels.
pub trait Store {
    /// What is remembered of a channel, expired or not.
    ///
    /// # Errors
    ///
    /// Any but [`StoreError::Full`].
    fn load(&mut self, channel: &ChannelId) -> Result<Option<Log>, StoreError>;

    /// The era: it changes only while nothing has the store open.
    ///
    /// # Errors
    ///
    /// Any but [`StoreError::Full`].
    fn era(&mut self) -> Result<Era, StoreError>;

    /// The envelope at a position; `None` if it was trimmed, swept or never there.
    ///
    /// # Errors
    ///
    /// Any but [`StoreError::Full`].
    fn envelope(&mut self, channel: &ChannelId, seq: Seq) -> Result<Option<Envelope>, StoreError>;

    /// Makes all of `changes` durable before it returns, or none of them.
    ///
    /// # Errors
    ///
    /// [`StoreError::Full`] if nothing was kept for lack of room; any other poisons the store.
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError>;

    /// Forgets what expires on `today` or before, and gives its room back.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit).
    fn sweep(&mut self, today: Day) -> Result<(), StoreError>;

    /// The latest day this store was ever told of: the high-water mark against clocks set back.
    ///
    /// # Errors
    ///
    /// Any but [`StoreError::Full`].
    fn day(&mut self) -> Result<Day, StoreError>;

    /// Remembers that it is `day`, even if that is earlier than before.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit).
    fn set_day(&mut self, day: Day) -> Result<(), StoreError>;

    /// Makes the next opening quick. A store that is dropped without it loses nothing.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit).
    fn close(&mut self) -> Result<(), StoreError>;

    /// How much is held.
    fn totals(&self) -> Totals;
}
