//! Where a case lives: moving it, and finding it again when its relay is gone. SPEC.md 10.6.

use martlet_proto::{
    Call, Kind, Read, Seq, Slot, Time,
    call::Slots,
    case::{CaseContext, Home},
    limits::HOMES_MAX,
};

use super::{
    Case, Turn,
    read::{Flow, Reader, goes_to_end},
};
use crate::{
    entropy::Entropy,
    error::{Error, Usage},
    me::Me,
    record::{Reading, Standing, Wish},
    vault::Batch,
};

impl Case {
    /// The relay that the members agreed on, and where to look when it is gone.
    pub fn homes(&self) -> &[Home] {
        &self.epoch.context.homes
    }

    /// Whether this device may move the case.
    pub fn may_move(&self, me: &Me) -> bool {
        self.check_entitled(me).is_ok()
    }

    /// Has the case live on another relay from the next epoch on.
    ///
    /// # Errors
    ///
    /// [`Usage::NotCounsel`], [`Usage::NotCommitter`], [`Usage::CaseEnded`].
    pub fn move_to(&mut self, me: &Me, home: Home) -> Result<Batch, Error> {
        self.check_entitled(me)?;
        let here = |known: &Home| known.relay == home.relay && known.admission == home.admission;
        if self.homes().first().is_some_and(here) {
            return Ok(Batch::default());
        }
        self.wish(Wish::Move { home })
    }

    /// Names a relay where to look when the present one is gone.
    ///
    /// # Errors
    ///
    /// As [`move_to`](Self::move_to), and [`Usage::TooManyRelays`].
    pub fn add_home(&mut self, me: &Me, home: Home) -> Result<Batch, Error> {
        self.check_entitled(me)?;
        if self.homes().iter().any(|known| known.relay.pin == home.relay.pin) {
            return Ok(Batch::default());
        }
        if self.homes().len() >= HOMES_MAX {
            return Err(Error::Usage(Usage::TooManyRelays));
        }
        self.wish(Wish::Fallback { home })
    }

    /// The relay is gone: the present epoch's channel is opened on another one, where this device's commit goes.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] if the record cannot be written.
    pub fn settle_at(&mut self, home: &Home) -> Result<Batch, Error> {
        self.record.relay = home.relay.clone();
        self.record.admission = home.admission.clone();
        self.record.reading = Reading::default();
        self.drop_draft();
        self.look_again();
        let mut batch = Batch::default();
        self.save_record(&mut batch)?;
        Ok(batch)
    }

    /// What to ask of another relay to see whether the case has moved there.
    pub fn peek(&self) -> Option<Call> {
        let reads = self.record.standing == Standing::Member;
        reads.then(|| Call::new(&self.epoch.reader(), Read { from: Seq::FIRST }))
    }

    /// Takes what another relay has of the present epoch's channel: only a commit counts, which leads to where the case
    /// lives now.
    ///
    /// # Errors
    ///
    /// As [`answered`](Self::answered).
    pub fn peeked(&mut self, me: &Me, page: &Slots, now: Time, entropy: &mut Entropy) -> Result<Turn, Error> {
        let mut turn = Turn::default();
        if self.record.standing != Standing::Member {
            return Ok(turn);
        }
        let mut reader = Reader {
            me,
            now,
            to_end: goes_to_end(&page.slots, &page.tip),
            entropy,
            turn: &mut turn,
        };
        let mut slots = page.slots.as_slice();
        while let Some((slot, rest)) = slots.split_first() {
            slots = rest;
            let Slot::Here(entry) = slot else { continue };
            let sealed = entry
                .envelope
                .open(&self.epoch.keys.envelope, &self.epoch.channel, entry.kind);
            let (Kind::Commit, Ok(message)) = (entry.kind, sealed) else {
                continue;
            };
            if self.take_commit(&mut reader, &message, rest)? == Flow::Stop {
                self.save(&mut turn.batch)?;
                break;
            }
        }
        Ok(turn)
    }

    /// Looks for the case where its members agreed that it lives, if they agreed on something new.
    pub(super) fn go_home(&mut self, old: &CaseContext) {
        let Some(home) = self.epoch.context.homes.first() else {
            return;
        };
        let known = self.record.relay.pin == home.relay.pin;
        if old.homes.first() != Some(home) || !known {
            (self.round.closed, self.round.openings) = (None, 0);
            self.record.relay = home.relay.clone();
            self.record.admission = home.admission.clone().or(self.record.admission.take());
        }
    }
}
