//! What the turn thread counts while it runs: how calls ended and how long turns took. Never whose, nor on what.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use martlet_proto::Refusal;

use crate::{metrics::Calls, relay::Effect};

/// Counts since the relay began.
#[derive(Debug, Default)]
pub struct Counts {
    answered: AtomicU64,
    full: AtomicU64,
    busy: AtomicU64,
    not_admitted: AtomicU64,
    other: AtomicU64,
    slowest_ms: AtomicU64,
}

impl Counts {
    /// Counts one turn: what it answered, and how long it took.
    pub(super) fn turn(&self, effects: &[Effect], took: Duration) {
        for effect in effects {
            let place = match effect {
                Effect::Answer(_, Ok(_)) => &self.answered,
                Effect::Answer(_, Err(Refusal::Full)) => &self.full,
                Effect::Answer(_, Err(Refusal::Busy)) => &self.busy,
                Effect::Answer(_, Err(Refusal::NotAdmitted)) => &self.not_admitted,
                Effect::Answer(_, Err(_)) => &self.other,
                Effect::Push(..) | Effect::Gap(_) => continue,
            };
            place.fetch_add(1, Ordering::Relaxed);
        }
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.slowest_ms.fetch_max(ms, Ordering::Relaxed);
    }

    /// How calls ended since the relay began.
    pub fn calls(&self) -> Calls {
        let read = |place: &AtomicU64| place.load(Ordering::Relaxed);
        Calls {
            answered: read(&self.answered),
            full: read(&self.full),
            busy: read(&self.busy),
            not_admitted: read(&self.not_admitted),
            other: read(&self.other),
        }
    }

    /// The longest turn since this was asked last.
    pub fn take_slowest(&self) -> Duration {
        Duration::from_millis(self.slowest_ms.swap(0, Ordering::Relaxed))
    }
}
