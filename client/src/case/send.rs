//! The sending half of a case: what waits, in which order, under which keys. SPEC.md 10.2 and 10.3.

use martlet_proto::{
    Append, Call, Envelope, Kind, Placed, Read, Seq, Time,
    call::Item,
    card::Mailbox,
    envelope::NONCE,
    letter::{Body, Letter, LetterId},
    limits::{ITEMS_MAX, RECEIPT_IDS_MAX},
    log::Digest,
};

use super::{Case, Next, Purpose, Turn, internal};
use crate::{
    entropy::Entropy,
    error::{Error, Usage},
    me::Me,
    record::{LetterRecord, OutRecord, SealedItem, SealedLetter, Standing, encode},
    vault::Batch,
    view::{Event, name_of},
};

/// Whether a letter is only for programs, and not kept among the letters.
const fn is_quiet(body: &Body) -> bool {
    matches!(
        body,
        Body::Receipt(_)
            | Body::Beat
            | Body::Refresh(_)
            | Body::Retention(_)
            | Body::Device(_)
            | Body::WithoutDevice(_)
            | Body::Recovery(_)
    )
}

impl Case {
    /// Writes a letter: it waits in the outbox from then on, and is kept among the letters unless it is a receipt.
    ///
    /// # Errors
    ///
    /// [`Usage::CaseEnded`], and [`Usage::TextTooLong`] for a body beyond its limits.
    pub fn write(&mut self, me: &Me, id: LetterId, body: &Body, now: Time) -> Result<Batch, Error> {
        self.writable()?;
        let letter = Letter::new(id, now, None, body).map_err(|_| Error::Usage(Usage::TextTooLong))?;
        let mut batch = Batch::default();
        if !is_quiet(body) {
            self.record.last = Some(now);
            let kept = self.own_letter(me, letter.clone(), now);
            self.keep_letter(kept, &mut batch)?;
        }
        self.put_out(OutRecord::Letter { letter, sealed: None }, &mut batch)?;
        self.save_record(&mut batch)?;
        Ok(batch)
    }

    /// Keeps a document's letter among the letters; it waits until [`document_stored`](Self::document_stored).
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub fn write_document(&mut self, me: &Me, id: LetterId, body: &Body, now: Time) -> Result<Batch, Error> {
        self.writable()?;
        let letter =
            Letter::new(id, now, None, body).map_err(|_| Error::Internal("a manifest is malformed"))?;
        let mut batch = Batch::default();
        self.record.last = Some(now);
        let kept = self.own_letter(me, letter, now);
        self.keep_letter(kept, &mut batch)?;
        self.save_record(&mut batch)?;
        Ok(batch)
    }

    /// A document's chunks are all at the relay: its letter goes into the outbox.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] if a record cannot be written.
    pub fn document_stored(&mut self, id: &LetterId) -> Result<Batch, Error> {
        let mut batch = Batch::default();
        let kept = self.by_id.get(id).and_then(|at| self.letters.get(at));
        let waiting = |item: &OutRecord| matches!(item, OutRecord::Letter { letter, .. } if letter.id == *id);
        if let Some(letter) = kept.filter(|kept| kept.queued).map(|kept| kept.letter.clone())
            && !self.outbox.values().any(waiting)
        {
            self.put_out(OutRecord::Letter { letter, sealed: None }, &mut batch)?;
            self.save_record(&mut batch)?;
        }
        Ok(batch)
    }

    /// A letter of the owner's, to everybody else who is in the case now.
    fn own_letter(&self, me: &Me, letter: Letter, now: Time) -> LetterRecord {
        let mine = me.identity().public();
        let others = self.epoch.context.people.iter().map(|person| person.identity);
        LetterRecord::own(letter, mine, others.filter(|other| *other != mine).collect(), now)
    }

    pub(super) fn keep_letter(&mut self, letter: LetterRecord, batch: &mut Batch) -> Result<(), Error> {
        let at = self.record.next_letter;
        self.record.next_letter = at.saturating_add(1);
        self.put_letter(at, letter, batch)
    }

    pub(super) fn put_out(&mut self, item: OutRecord, batch: &mut Batch) -> Result<(), Error> {
        let out = self.record.next_out;
        self.record.next_out = out.saturating_add(1);
        self.outbox.insert(out, item);
        self.save_out(out, batch)
    }

    /// What to ask of the relay next; `None` when there is nothing to do until something happens.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] if the group fails.
    pub fn next(&mut self, me: &Me, now: Time, entropy: &mut Entropy) -> Result<Option<Next>, Error> {
        if self.record.standing == Standing::Removed {
            return Ok(None);
        }
        let batch = if self.must_ask(now) {
            self.ask_by_itself(me, now, entropy)?
        } else {
            self.tend_ask(me, now, entropy)?
        };
        if !batch.is_empty() {
            return Ok(self.next_rescue().map(|next| Next { batch, ..next }));
        }
        if self.record.standing == Standing::Lost {
            return Ok(self.next_rescue());
        }
        if let Some(next) = self.next_packet().or_else(|| self.next_rescue()) {
            return Ok(Some(next));
        }
        if self.round.must_open {
            return Ok(Some(self.next_open()));
        }
        if !self.round.caught_up {
            let from = self
                .record
                .reading
                .at
                .map_or(Seq::FIRST, |(cursor, _)| cursor.seq);
            let read = Call::new(&self.epoch.reader(), Read { from });
            return Ok(Some(Next::new(read, Purpose::Read)));
        }
        if self.pending.is_some() {
            return Ok(self.next_commit());
        }
        if self.round.draft.is_none() && self.is_commit_wished(me, now) {
            self.draft_commit(me, entropy)?;
        }
        if let Some(next) = self.next_draft() {
            return Ok(Some(next));
        }
        if self.record.held_since.is_some() {
            return Ok(None);
        }
        self.next_letters(me, now, entropy)
    }

    fn next_letters(&mut self, me: &Me, now: Time, entropy: &mut Entropy) -> Result<Option<Next>, Error> {
        let sealed = self.sealed_now();
        if !sealed.is_empty() {
            return Ok(Some(self.next_append(sealed, Batch::default())));
        }
        let mut batch = Batch::default();
        if !self.round.tended {
            batch.merge(self.tend(me, now, entropy)?);
        }
        self.write_receipt(me, now, entropy, &mut batch)?;
        let sealed = self.seal_letters(entropy, &mut batch)?;
        if sealed.is_empty() {
            return Ok(None);
        }
        self.save(&mut batch)?;
        Ok(Some(self.next_append(sealed, batch)))
    }

    fn next_packet(&self) -> Option<Next> {
        let (out, to, sealed) = self.packet()?;
        if self.round.closed == Some(to.channel()) {
            return Some(self.next_open_mailbox(to));
        }
        let items = vec![Item {
            kind: Kind::Packet,
            id: sealed.entry,
            envelope: sealed.envelope.clone(),
        }];
        let append = Call::new(&to.writer(), Append { within: None, items });
        Some(Next::new(append, Purpose::Packet(out)))
    }

    /// The next packet to bring to a mailbox.
    fn packet(&self) -> Option<(u64, &Mailbox, &SealedItem)> {
        let mut waiting = self.outbox.iter().filter(|_| !self.round.packet_refused);
        waiting.find_map(|(out, item)| match item {
            OutRecord::Packet { to, sealed } => Some((*out, to, sealed)),
            OutRecord::Letter { .. } => None,
        })
    }

    pub(super) fn packet_mailbox(&self) -> Option<Mailbox> {
        self.packet().map(|(_, to, _)| to.clone())
    }

    pub(super) fn next_open_mailbox(&self, mailbox: &Mailbox) -> Next {
        let open = Call::new(&mailbox.writer(), mailbox.opening(self.record.admission.clone()));
        Next::new(open, Purpose::OpenMailbox(mailbox.channel()))
    }

    fn next_open(&self) -> Next {
        Next::new(self.epoch.open(self.record.admission.as_ref()), Purpose::Open)
    }

    /// The items of the outbox that are encrypted for this epoch, as many as go in one call.
    fn sealed_now(&self) -> Vec<u64> {
        let epoch = self.group.epoch();
        let now = |item: &OutRecord| matches!(item, OutRecord::Letter { sealed: Some(sealed), .. } if sealed.epoch == epoch);
        self.outbox
            .iter()
            .filter(|(_, item)| now(item))
            .map(|(out, _)| *out)
            .take(ITEMS_MAX)
            .collect()
    }

    fn next_append(&self, sent: Vec<u64>, batch: Batch) -> Next {
        let items = sent.iter().filter_map(|out| match self.outbox.get(out)? {
            OutRecord::Letter {
                sealed: Some(sealed), ..
            } => Some(Item {
                kind: Kind::Letter,
                id: sealed.item.entry,
                envelope: sealed.item.envelope.clone(),
            }),
            OutRecord::Letter { sealed: None, .. } | OutRecord::Packet { .. } => None,
        });
        let within = self.record.reading.at.map(|(cursor, _)| cursor.incarnation);
        let call = Call::new(
            &self.epoch.writer(),
            Append {
                within,
                items: items.collect(),
            },
        );
        Next {
            batch,
            ..Next::new(call, Purpose::Letters(sent))
        }
    }

    /// Turns the receipts that are due into a letter of their own.
    fn write_receipt(
        &mut self,
        me: &Me,
        now: Time,
        entropy: &mut Entropy,
        batch: &mut Batch,
    ) -> Result<(), Error> {
        let count = self.record.receipts_due.len().min(RECEIPT_IDS_MAX);
        if count == 0 {
            return Ok(());
        }
        let ids = self.record.receipts_due.drain(..count).collect();
        batch.merge(self.write(me, entropy.letter(), &Body::Receipt(ids), now)?);
        Ok(())
    }

    /// Encrypts the next letters for this epoch; gives the items of the outbox that they are.
    fn seal_letters(&mut self, entropy: &mut Entropy, batch: &mut Batch) -> Result<Vec<u64>, Error> {
        let epoch = self.group.epoch();
        let seen = self.record.reading.at.map(|(cursor, head)| (cursor.seq, head));
        let waiting: Vec<u64> = self
            .outbox
            .iter()
            .filter(|(_, item)| matches!(item, OutRecord::Letter { .. }))
            .map(|(out, _)| *out)
            .take(ITEMS_MAX)
            .collect();
        for out in &waiting {
            let Some(OutRecord::Letter { letter, sealed }) = self.outbox.get_mut(out) else {
                continue;
            };
            letter.seen = seen;
            let message = self.group.encrypt(&encode(letter)?, &[]).map_err(internal)?;
            let nonce: [u8; NONCE] = entropy.bytes();
            let envelope = Envelope::seal(
                &self.epoch.keys.envelope,
                nonce,
                &self.epoch.channel,
                Kind::Letter,
                &message,
            )
            .map_err(|_| Error::Internal("a letter does not fit an envelope"))?;
            *sealed = Some(SealedLetter {
                epoch,
                item: SealedItem {
                    entry: entropy.entry(),
                    envelope,
                },
            });
            self.save_out(*out, batch)?;
        }
        Ok(waiting)
    }

    pub(super) fn packet_placed(&mut self, out: u64) -> Turn {
        let mut turn = Turn::default();
        self.outbox.remove(&out);
        turn.batch.delete(self.out_name(out));
        turn
    }

    /// Letters were stored. If nothing came between, they need not be read again.
    pub(super) fn letters_placed(&mut self, sent: &[u64], placed: &Placed, now: Time) -> Result<Turn, Error> {
        let mut turn = Turn::default();
        let mut after = self
            .record
            .reading
            .at
            .filter(|(cursor, _)| cursor.seq == placed.first && cursor.incarnation == placed.incarnation);
        let mut heads = Vec::new();
        for out in sent {
            if let Some(OutRecord::Letter {
                sealed: Some(sealed), ..
            }) = self.outbox.get(out)
            {
                after = after.and_then(|(mut cursor, head)| {
                    let head = head.after(cursor.seq, Kind::Letter, &Digest::of(&sealed.item.envelope));
                    cursor.seq = cursor.seq.next()?;
                    heads.push((cursor.seq, head));
                    Some((cursor, head))
                });
            }
            self.letter_sent(*out, now, &mut turn)?;
        }
        match after {
            Some((cursor, head)) if head == placed.head => {
                self.record.reading.at = Some((cursor, head));
                self.remember_heads(heads);
            }
            Some(_) | None => self.round.caught_up = false,
        }
        self.save_record(&mut turn.batch)?;
        Ok(turn)
    }

    /// An item of the outbox is at the relay.
    pub(super) fn letter_sent(&mut self, out: u64, now: Time, turn: &mut Turn) -> Result<(), Error> {
        let Some(OutRecord::Letter { letter, .. }) = self.outbox.remove(&out) else {
            return Ok(());
        };
        turn.batch.delete(self.out_name(out));
        self.keep_own_wish(&letter, now);
        if let Some(at) = self.by_id.get(&letter.id).copied() {
            if let Some(kept) = self.letters.get_mut(&at) {
                kept.queued = false;
                kept.placed = Some(now);
            }
            self.save_letter(at, &mut turn.batch)?;
            turn.events.push(Event::Sent {
                case: name_of(&self.record.id),
                id: letter.id,
            });
        }
        Ok(())
    }

    /// The relay knows other bytes under these names: encrypt anew, under fresh ones.
    pub(super) fn forget_sealed(&mut self, sent: &[u64]) -> Turn {
        for out in sent {
            if let Some(OutRecord::Letter { sealed, .. }) = self.outbox.get_mut(out) {
                *sealed = None;
            }
        }
        self.round.caught_up = false;
        Turn::default()
    }
}
