//! A store in memory: for tests, simulations, and as the model the others are held against.

use std::collections::BTreeMap;

use martlet_proto::{ChannelId, Day, Envelope, Seq};

use super::{Store, StoreError, Totals};
use crate::log::{Change, Era, Log, Presence, Step};

/// Channels in memory; gone with the process.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    logs: BTreeMap<ChannelId, Log>,
    envelopes: BTreeMap<(ChannelId, Seq), Envelope>,
    day: Day,
    era: Era,
}

impl Memory {
    /// Begins another era, as when an old copy was put back.
    pub fn begin_era(&mut self, era: Era) {
        self.era = era;
        for (channel, log) in &mut self.logs {
            let marks = std::mem::take(&mut log.marks);
            *log = Log::new(channel, log.record, era);
            for mark in marks {
                log.push(mark);
            }
        }
    }

    fn forget_envelopes(&mut self, channel: &ChannelId, before: Seq) {
        let doomed: Vec<_> = self
            .envelopes
            .range((*channel, Seq::FIRST)..(*channel, before))
            .map(|(place, _)| *place)
            .collect();
        for place in doomed {
            self.envelopes.remove(&place);
        }
    }
}

impl Store for Memory {
    fn load(&mut self, channel: &ChannelId) -> Result<Option<Log>, StoreError> {
        Ok(self.logs.get(channel).cloned())
    }

    fn era(&mut self) -> Result<Era, StoreError> {
        Ok(self.era)
    }

    fn envelope(&mut self, channel: &ChannelId, seq: Seq) -> Result<Option<Envelope>, StoreError> {
        Ok(self.envelopes.get(&(*channel, seq)).cloned())
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        for Change { channel, step } in changes {
            match step {
                Step::Opened(_) | Step::Dropped => self.forget_envelopes(channel, Seq::new(u64::MAX)),
                Step::Trimmed(before) => self.forget_envelopes(channel, *before),
                Step::Placed { seq, envelope, .. } => {
                    self.envelopes.insert((*channel, *seq), envelope.clone());
                }
                Step::Renewed(_) | Step::Remembered(..) => {}
            }
            if let Some(log) = Log::fold(self.logs.remove(channel), channel, step, self.era) {
                self.logs.insert(*channel, log);
            }
        }
        Ok(())
    }

    fn sweep(&mut self, today: Day) -> Result<(), StoreError> {
        let logs = &self.logs;
        self.envelopes.retain(|(channel, seq), _| {
            let log = logs.get(channel).filter(|log| log.record.expires > today);
            log.and_then(|log| log.mark(*seq))
                .is_some_and(|mark| mark.expires > today)
        });
        self.logs.retain(|_, log| log.record.expires > today);
        Ok(())
    }

    fn day(&mut self) -> Result<Day, StoreError> {
        Ok(self.day)
    }

    fn set_day(&mut self, day: Day) -> Result<(), StoreError> {
        self.day = day;
        Ok(())
    }

    fn close(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn totals(&self) -> Totals {
        let here = self
            .logs
            .values()
            .flat_map(|log| &log.marks)
            .filter(|mark| mark.presence == Presence::Here);
        let (entries, bytes) = here.fold((0u64, 0u64), |(entries, bytes), mark| {
            (
                entries.saturating_add(1),
                bytes.saturating_add(u64::from(mark.size_bytes)),
            )
        });
        Totals {
            channels: u64::try_from(self.logs.len()).unwrap_or(u64::MAX),
            entries,
            bytes,
        }
    }
}
