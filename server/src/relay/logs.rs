//! The logs that are kept in memory: the ones used last, within a bound. Any of them can be loaded again.

use std::collections::BTreeMap;

use martlet_proto::ChannelId;

use crate::log::Log;

/// Marks of all logs in memory together, at about 130 bytes each, unless one log alone has more.
const MARKS_MAX: usize = 512 << 10;
/// Logs in memory.
const LOGS_MAX: usize = 16 << 10;

/// Logs by channel, and in which order they were last used.
#[derive(Debug, Default)]
pub(super) struct Logs {
    logs: BTreeMap<ChannelId, Kept>,
    by_use: BTreeMap<u64, ChannelId>,
    uses: u64,
    marks: usize,
}

#[derive(Debug)]
struct Kept {
    log: Log,
    used: u64,
}

impl Logs {
    /// The log of a channel, if it is in memory.
    pub(super) fn get(&self, channel: &ChannelId) -> Option<&Log> {
        self.logs.get(channel).map(|kept| &kept.log)
    }

    /// Whether a channel's log is in memory; if so, it is now the one used last.
    pub(super) fn touch(&mut self, channel: &ChannelId) -> bool {
        let Some(kept) = self.logs.get_mut(channel) else {
            return false;
        };
        self.by_use.remove(&kept.used);
        self.uses = self.uses.wrapping_add(1);
        kept.used = self.uses;
        self.by_use.insert(kept.used, *channel);
        true
    }

    /// Keeps a log as the one used last, in place of what was there.
    pub(super) fn insert(&mut self, channel: ChannelId, log: Log) {
        self.remove(&channel);
        self.uses = self.uses.wrapping_add(1);
        let used = self.uses;
        self.marks = self.marks.saturating_add(log.marks.len());
        self.by_use.insert(used, channel);
        self.logs.insert(channel, Kept { log, used });
    }

    /// Takes a log out.
    pub(super) fn remove(&mut self, channel: &ChannelId) -> Option<Log> {
        let kept = self.logs.remove(channel)?;
        self.by_use.remove(&kept.used);
        self.marks = self.marks.saturating_sub(kept.log.marks.len());
        Some(kept.log)
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Forgets those that were not used for longest until the rest is within the bounds. Not to be called within a
    /// turn, in which the logs are ahead of the store.
    pub(super) fn shrink(&mut self) {
        self.shrink_to(MARKS_MAX, LOGS_MAX);
    }

    fn shrink_to(&mut self, marks_max: usize, logs_max: usize) {
        while (self.marks > marks_max && self.logs.len() > 1) || self.logs.len() > logs_max {
            let Some((_, oldest)) = self.by_use.pop_first() else {
                return;
            };
            self.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use martlet_proto::{Class, Day, Digest, EntryId, Envelope, Incarnation, Kind, TokenHash};

    use super::*;
    use crate::log::{Era, Hand, Mark, Presence, Record};

    fn channel(number: u8) -> ChannelId {
        ChannelId::new([number; 32])
    }

    fn log(number: u8, marks: u8) -> Log {
        let hash = TokenHash::new([0; 32]);
        let record = Record {
            class: Class::Case,
            read: hash,
            write: hash,
            keep: hash,
            incarnation: Incarnation::new([0; 16]),
            expires: Day(1),
        };
        let envelope = Envelope::new(vec![0; 2048].into()).unwrap();
        let mut log = Log::new(&channel(number), record, Era::default());
        for id in 0..marks {
            log.push(Mark {
                kind: Kind::Letter,
                id: EntryId::new([id; 16]),
                digest: Digest::of(&envelope),
                size_bytes: 2048,
                expires: Day(1),
                by: Hand::Writer,
                presence: Presence::Here,
            });
        }
        log
    }

    fn held(logs: &Logs) -> Vec<u8> {
        (0..9)
            .filter(|number| logs.get(&channel(*number)).is_some())
            .collect()
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let mut logs = Logs::default();
        for number in 0..4 {
            logs.insert(channel(number), log(number, 2));
        }
        assert!(logs.touch(&channel(0)));
        logs.shrink_to(usize::MAX, 2);
        assert_eq!(held(&logs), [0, 3]);
        assert!(!logs.touch(&channel(1)));
    }

    #[test]
    fn marks_are_counted_as_logs_come_grow_and_go() {
        let mut logs = Logs::default();
        logs.insert(channel(0), log(0, 3));
        logs.insert(channel(1), log(1, 3));
        logs.insert(channel(0), log(0, 5));
        logs.shrink_to(8, 9);
        assert_eq!(held(&logs), [0, 1]);
        logs.shrink_to(7, 9);
        assert_eq!(held(&logs), [0]);
        logs.shrink_to(1, 9);
        assert_eq!(held(&logs), [0], "one log may be larger than the bound");
        logs.remove(&channel(0));
        assert_eq!((logs.marks, logs.by_use.len()), (0, 0));
    }
}
