//! What time brings: letters sent again, a beat, fresh keys, silence noticed. SPEC.md 8.4 and 10.3.

use martlet_proto::{
    Time,
    case::Role,
    letter::{Body, NOTICE_KIND},
    limits::{CASE_ENTRY_DAYS, REFRESH_DAYS, RESEND_DAYS, SILENCE_HOURS},
};

use super::Case;
use crate::{
    entropy::Entropy,
    error::Error,
    me::Me,
    mls::keypackage,
    record::{LetterRecord, OutRecord, Standing},
    vault::Batch,
    view::Warning,
};

/// Seconds in an hour and in a day.
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
/// Days for which the key package of a refresh is offered: three times as many as pass until the next.
const OFFER_DAYS: u32 = 3 * REFRESH_DAYS;
/// Days back from which somebody who comes back is sent what they missed: twice the life of a letter on the relay.
const CAUGHT_UP_DAYS: u32 = 2 * CASE_ENTRY_DAYS;

impl Case {
    /// Does what is due by the clock, once a round.
    pub(super) fn tend(&mut self, me: &Me, now: Time, entropy: &mut Entropy) -> Result<Batch, Error> {
        let mut batch = Batch::default();
        self.round.tended = true;
        let old = |placed: Time| since(placed, now) >= u64::from(RESEND_DAYS) * DAY;
        self.queue_again(&mut batch, |case, kept| {
            kept.placed.is_some_and(old) && case.lacks_receipt(kept)
        })?;
        if self.is_committer(me) && self.record.beat != Some(now.day()) {
            self.record.beat = Some(now.day());
            batch.merge(self.write(me, entropy.letter(), &Body::Beat, now)?);
        }
        if self.is_refresh_due(me, now) {
            let package = keypackage(
                entropy.secret(),
                me.leaf(),
                Some(me.keep_public()),
                now.as_secs().saturating_sub(DAY),
                now.as_secs().saturating_add(u64::from(OFFER_DAYS) * DAY),
            )
            .map_err(|_| Error::Internal("a key package cannot be made"))?;
            self.keep_package(&package);
            self.record.refreshed = now;
            batch.merge(self.write(me, entropy.letter(), &Body::Refresh(package.public), now)?);
            self.save(&mut batch)?;
        }
        Ok(batch)
    }

    /// The committer's keys are fresh with each of its commits; other devices ask.
    fn is_refresh_due(&self, me: &Me, now: Time) -> bool {
        self.epoch.context.committer.is_some()
            && !self.is_committer(me)
            && self.record.asking.is_none()
            && since(self.record.refreshed, now) >= u64::from(REFRESH_DAYS) * DAY
    }

    /// Puts letters into the outbox again that the relay may have lost.
    pub(super) fn send_again(&mut self, now: Time, batch: &mut Batch) -> Result<(), Error> {
        let alive = |placed: Time| since(placed, now) < u64::from(CASE_ENTRY_DAYS) * DAY;
        self.queue_again(batch, |case, kept| {
            kept.placed.is_some_and(alive) && case.lacks_receipt(kept)
        })
    }

    /// Puts letters into the outbox again that somebody lost who has come back with this device: those for which it sent no
    /// receipt. Letters to the owner's own devices never get one.
    pub(super) fn send_again_to(
        &mut self,
        me: &Me,
        (identity, leaf): &([u8; 32], [u8; 32]),
        now: Time,
        batch: &mut Batch,
    ) -> Result<(), Error> {
        let own = *identity == me.identity().public();
        let alive = |placed: Time| since(placed, now) < u64::from(CAUGHT_UP_DAYS) * DAY;
        self.queue_again(batch, |_, kept| {
            kept.placed.is_some_and(alive)
                && (own || kept.to.contains(identity))
                && !kept.confirmed_by.contains(leaf)
        })
    }

    /// Whether somebody who is still here sent no receipt.
    fn lacks_receipt(&self, kept: &LetterRecord) -> bool {
        let mut to = kept.to.iter();
        to.any(|identity| self.has(identity) && !kept.delivered_to.contains(identity))
    }

    fn queue_again(
        &mut self,
        batch: &mut Batch,
        which: impl Fn(&Self, &LetterRecord) -> bool,
    ) -> Result<(), Error> {
        let due: Vec<u64> = self
            .letters
            .iter()
            .filter(|(_, kept)| !kept.queued && kept.letter.kind != NOTICE_KIND && which(self, kept))
            .map(|(at, _)| *at)
            .collect();
        for at in due {
            let Some(kept) = self.letters.get_mut(&at) else {
                continue;
            };
            kept.queued = true;
            let letter = kept.letter.clone();
            self.save_letter(at, batch)?;
            self.put_out(OutRecord::Letter { letter, sealed: None }, batch)?;
        }
        Ok(())
    }

    /// Whether counsel's devices were not heard of for so long that it must be the relay's silence.
    pub(super) fn silence(&self, me: &Me, now: Time) -> Option<Warning> {
        let heard = self.record.heard?;
        let others = self
            .epoch
            .context
            .people
            .iter()
            .any(|person| person.role == Role::Counsel && person.identity != me.identity().public());
        let silent = since(heard, now) > SILENCE_HOURS * HOUR;
        (others && silent && !self.is_committer(me) && self.record.standing == Standing::Member)
            .then_some(Warning::Silent)
    }
}

fn since(then: Time, now: Time) -> u64 {
    now.as_secs().saturating_sub(then.as_secs())
}
