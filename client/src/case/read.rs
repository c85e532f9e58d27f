//! The reading half of a case: slots in, letters and epochs out. SPEC.md 10.2 and 10.3.

use martlet_proto::{
    Cursor, Entry, Head, Kind, Seq, Slot, Time,
    call::{Slots, Tip},
    letter::Letter,
};

use super::{Case, HEADS_KEPT, Turn, epoch::is_item};
use crate::{
    entropy::Entropy,
    error::Error,
    me::Me,
    mls::Processed,
    record::{OutRecord, Reading, Standing},
    view::Warning,
};

/// Whether reading the rest of a page makes sense.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    On,
    /// The epoch ended, or this device's part in the case.
    Stop,
    /// The rest of what belongs to this entry has not been read: read it again with what follows.
    Again,
}

/// Whether nothing follows these slots in the log.
pub(super) fn goes_to_end(slots: &[Slot], tip: &Tip) -> bool {
    slots.last().and_then(|last| last.seq().next()) == Some(tip.next)
}

/// What reading needs besides the case, and where its outcome goes.
pub(super) struct Reader<'a> {
    pub(super) me: &'a Me,
    pub(super) now: Time,
    /// Whether what is read goes to the end of the log: nothing was sealed in with its last entry that is not there.
    pub(super) to_end: bool,
    pub(super) entropy: &'a mut Entropy,
    pub(super) turn: &'a mut Turn,
}

impl Case {
    /// The channel is open: begins to read it, or finds that it is another life of it.
    pub(super) fn opened(&mut self, tip: &Tip, now: Time) -> Result<Turn, Error> {
        let mut turn = Turn::default();
        self.round.must_open = false;
        self.round.caught_up = false;
        if self.record.reading.at.is_some() && self.is_known(tip) {
            return Ok(turn);
        }
        if !self.is_known(tip) {
            self.other_incarnation(now, &mut turn)?;
        }
        self.read_from_start(tip);
        self.save_record(&mut turn.batch)?;
        Ok(turn)
    }

    /// Whether this is the incarnation that was read so far, or else the one that was named; or none is known yet.
    fn is_known(&self, tip: &Tip) -> bool {
        let reading = &self.record.reading;
        let known = reading.at.map(|(cursor, _)| cursor.incarnation);
        known
            .or(reading.named)
            .is_none_or(|known| known == tip.incarnation)
    }

    /// The place before the first entry of the epoch's channel.
    fn read_from_start(&mut self, tip: &Tip) {
        let head = Head::first(&self.epoch.channel, &tip.incarnation);
        let cursor = Cursor {
            incarnation: tip.incarnation,
            seq: Seq::FIRST,
        };
        self.record.reading = Reading {
            named: self.record.reading.named,
            at: Some((cursor, head)),
            heads: vec![(Seq::FIRST, head)],
        };
    }

    /// The relay forgot the channel, and somebody created it again: letters wait for the next epoch, where those that
    /// may be lost are sent again.
    fn other_incarnation(&mut self, now: Time, turn: &mut Turn) -> Result<(), Error> {
        self.record.held_since.get_or_insert(now);
        self.record.commit_due |= self.may_commit();
        self.send_again(now, &mut turn.batch)?;
        self.warn(Warning::RelayForgot, &mut turn.events);
        Ok(())
    }

    /// The relay's log is shorter than it was: what was in it is sent again, and all of it is read again.
    fn rolled_back(&mut self, tip: &Tip, now: Time, turn: &mut Turn) -> Result<(), Error> {
        self.warn(Warning::RelayDiffers, &mut turn.events);
        self.send_again(now, &mut turn.batch)?;
        self.read_from_start(tip);
        self.round.caught_up = false;
        self.save_record(&mut turn.batch)
    }

    /// Reads a page: all it says is in one batch, with the place to read on from.
    pub(super) fn take_slots(
        &mut self,
        me: &Me,
        page: Slots,
        now: Time,
        entropy: &mut Entropy,
    ) -> Result<Turn, Error> {
        let mut turn = Turn::default();
        if self.record.standing != Standing::Member {
            return Ok(turn);
        }
        if !self.is_known(&page.tip) {
            self.round.must_open = true;
            return Ok(turn);
        }
        if self.record.reading.at.is_none() {
            self.read_from_start(&page.tip);
        }
        let Some((cursor, _)) = self.record.reading.at else {
            return Ok(turn);
        };
        if page.tip.next < cursor.seq {
            self.rolled_back(&page.tip, now, &mut turn)?;
            return Ok(turn);
        }
        let slots: Vec<Slot> = page
            .slots
            .into_iter()
            .skip_while(|slot| slot.seq() < cursor.seq)
            .collect();
        if slots.is_empty() && page.tip.next > cursor.seq {
            return Err(Error::Protocol("the relay leaves out entries"));
        }
        let epoch = self.group.epoch();
        let moved = !slots.is_empty();
        let alone = slots.len() == 1;
        let to_end = goes_to_end(&slots, &page.tip);
        let flow = self.take_each(
            slots,
            &mut Reader {
                me,
                now,
                to_end,
                entropy,
                turn: &mut turn,
            },
        )?;
        if flow == Flow::Again && alone {
            return Err(Error::Protocol("the relay cuts what was sealed together"));
        }
        if self.group.epoch() == epoch
            && let Some((cursor, head)) = self.record.reading.at
        {
            self.round.caught_up = cursor.seq >= page.tip.next;
            if cursor.seq == page.tip.next && head != page.tip.head {
                self.warn(Warning::RelayDiffers, &mut turn.events);
            }
        }
        if moved || !turn.events.is_empty() {
            self.save(&mut turn.batch)?;
        }
        Ok(turn)
    }

    /// Reads what was pushed while following; a hole makes the case read again. What is not up to date takes nothing.
    ///
    /// # Errors
    ///
    /// As [`answered`](Self::answered).
    pub fn pushed(
        &mut self,
        me: &Me,
        slots: Vec<Slot>,
        now: Time,
        entropy: &mut Entropy,
    ) -> Result<Turn, Error> {
        let mut turn = Turn::default();
        if self.record.standing != Standing::Member {
            // What stands behind a commit that ended this device's part must not be taken for the first.
            return Ok(turn);
        }
        let Some((cursor, _)) = self.record.reading.at.filter(|_| self.round.caught_up) else {
            // A push does not say in which incarnation it is; what is not up to date learns that by reading.
            return Ok(turn);
        };
        let slots: Vec<Slot> = slots
            .into_iter()
            .skip_while(|slot| slot.seq() < cursor.seq)
            .collect();
        match slots.first() {
            None => return Ok(turn),
            Some(first) if first.seq() != cursor.seq => {
                self.round.caught_up = false;
                return Ok(turn);
            }
            Some(_) => {}
        }
        let flow = self.take_each(
            slots,
            &mut Reader {
                me,
                now,
                to_end: false,
                entropy,
                turn: &mut turn,
            },
        )?;
        if flow == Flow::Again {
            self.round.caught_up = false;
        }
        self.save(&mut turn.batch)?;
        Ok(turn)
    }

    fn take_each(&mut self, slots: Vec<Slot>, reader: &mut Reader<'_>) -> Result<Flow, Error> {
        let mut heads = Vec::new();
        let mut flow = Flow::On;
        let mut slots = slots.as_slice();
        while let Some((slot, rest)) = slots.split_first() {
            slots = rest;
            let Some((mut cursor, head)) = self.record.reading.at else {
                break;
            };
            if slot.seq() != cursor.seq {
                return Err(Error::Protocol("the relay's log has a hole"));
            }
            let (before, head) = (self.record.reading.at, slot.head_after(&head));
            cursor.seq = cursor
                .seq
                .next()
                .ok_or(Error::Protocol("the relay's log has no end"))?;
            self.record.reading.at = Some((cursor, head));
            flow = match slot {
                Slot::Here(entry) => self.take_entry(entry, rest, reader)?,
                Slot::Gone {
                    kind: Kind::Commit, ..
                } => self.lose(reader.turn),
                Slot::Gone { .. } => Flow::On,
            };
            match flow {
                Flow::On => heads.push((cursor.seq, head)),
                Flow::Stop => break,
                Flow::Again => {
                    self.record.reading.at = before;
                    break;
                }
            }
        }
        if flow != Flow::Stop {
            self.remember_heads(heads);
        }
        Ok(flow)
    }

    pub(super) fn remember_heads(&mut self, heads: Vec<(Seq, Head)>) {
        let kept = &mut self.record.reading.heads;
        kept.extend(heads);
        kept.drain(..kept.len().saturating_sub(HEADS_KEPT));
    }

    fn take_entry(&mut self, entry: &Entry, rest: &[Slot], reader: &mut Reader<'_>) -> Result<Flow, Error> {
        if let Some(out) = self.out_with(entry) {
            self.letter_sent(out, reader.now, reader.turn)?;
            return Ok(Flow::On);
        }
        let pending = self.pending.as_ref().and_then(|pending| pending.items.first());
        if pending.is_some_and(|commit| is_item(entry, commit)) {
            return self.merge_own(reader);
        }
        let Ok(message) = entry
            .envelope
            .open(&self.epoch.keys.envelope, &self.epoch.channel, entry.kind)
        else {
            return Ok(Flow::On);
        };
        if entry.kind == Kind::Commit {
            return self.take_commit(reader, &message, rest);
        }
        if let Ok(Processed::Letter { sender, body, .. }) = self.group.process(&message)
            && let Some(from) = self.sender(sender)
            && let Ok((letter, [])) = postcard::take_from_bytes::<Letter>(&body)
        {
            self.take_letter(letter, from, reader)?;
        }
        Ok(Flow::On)
    }

    /// The item of the outbox that this entry is.
    fn out_with(&self, entry: &Entry) -> Option<u64> {
        self.outbox.iter().find_map(|(out, item)| match item {
            OutRecord::Letter {
                sealed: Some(sealed), ..
            } if is_item(entry, &sealed.item) => Some(*out),
            OutRecord::Letter { .. } | OutRecord::Packet { .. } => None,
        })
    }
}
