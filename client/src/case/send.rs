//! The sending half of a case: what waits, in which order, under which keys. SPEC.md 10.2 and 10.3.

use martlet_proto::{
    Append, Bind, Call, Class, Envelope, Grant, Kind, Open, Placed, Read, Seal, Time,
    call::Item,
    case::{KeepShare, Role},
    envelope::NONCE,
    letter::{Body, Letter, LetterId},
    limits::{ITEMS_MAX, RECEIPT_IDS_MAX},
    log::Digest,
};

use super::{Case, Next, Purpose, Turn, internal, keep_info};
use crate::{
    entropy::Entropy,
    error::{Error, Usage},
    identity::behind_leaf,
    me::Me,
    mls::Change,
    record::{LetterRecord, OutRecord, PendingCommit, SealedLetter, Standing, encode},
    sealed,
    vault::Batch,
    view::{Event, name_of},
};

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
        if !matches!(body, Body::Receipt(_) | Body::Beat) {
            self.record.last = Some(now);
            self.keep_letter(
                LetterRecord::own(letter.clone(), me.identity().public(), now),
                &mut batch,
            )?;
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
        self.keep_letter(LetterRecord::own(letter, me.identity().public(), now), &mut batch)?;
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

    pub(super) fn keep_letter(&mut self, letter: LetterRecord, batch: &mut Batch) -> Result<(), Error> {
        let at = self.record.next_letter;
        self.record.next_letter = at.saturating_add(1);
        self.by_id.insert(letter.letter.id, at);
        self.letters.insert(at, letter);
        self.save_letter(at, batch)
    }

    pub(super) fn put_out(&mut self, item: OutRecord, batch: &mut Batch) -> Result<(), Error> {
        let out = self.record.next_out;
        self.record.next_out = out.saturating_add(1);
        batch.put(self.out_name(out), encode(&item)?);
        self.outbox.insert(out, item);
        Ok(())
    }

    /// What to ask of the relay next; `None` when there is nothing to do until something happens.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] if the group fails.
    pub fn next(&mut self, me: &Me, now: Time, entropy: &mut Entropy) -> Result<Option<Next>, Error> {
        if self.record.standing != Standing::Member {
            return Ok(None);
        }
        if let Some(next) = self.next_contact() {
            return Ok(Some(next));
        }
        if self.must_open || self.record.reading.at.is_none() {
            return Ok(Some(self.next_open()));
        }
        let Some((cursor, _)) = self.record.reading.at else {
            return Ok(None);
        };
        if !self.caught_up {
            let call = Call::new(&self.epoch.reader(), Read { from: cursor.seq });
            return Ok(Some(Next {
                batch: Batch::default(),
                call,
                purpose: Purpose::Read,
            }));
        }
        if self.pending.is_some() {
            return Ok(self.next_commit(Batch::default()));
        }
        let sealed = if self.record.holding {
            Vec::new()
        } else {
            self.sealed_now()
        };
        if !sealed.is_empty() {
            return Ok(Some(self.next_append(sealed, Batch::default())));
        }
        if self.record.commit_due && self.keep.is_some() {
            let batch = self.make_commit(me, entropy)?;
            return Ok(self.next_commit(batch));
        }
        if self.record.holding {
            return Ok(None);
        }
        let mut batch = Batch::default();
        self.write_receipt(me, now, entropy, &mut batch)?;
        let sealed = self.seal_letters(entropy, &mut batch)?;
        if sealed.is_empty() {
            return Ok(None);
        }
        self.save(&mut batch)?;
        Ok(Some(self.next_append(sealed, batch)))
    }

    fn next_contact(&self) -> Option<Next> {
        let (out, inbox, entry, envelope) = self.outbox.iter().find_map(|(out, item)| match item {
            OutRecord::Contact {
                inbox,
                entry,
                envelope,
            } => Some((*out, inbox, entry, envelope)),
            OutRecord::Letter { .. } => None,
        })?;
        let batch = Batch::default();
        if self.inbox_must_open {
            let call = Call::new(&inbox.writer(), inbox.opening(self.record.admission.clone()));
            return Some(Next {
                batch,
                call,
                purpose: Purpose::OpenInbox,
            });
        }
        let items = vec![Item {
            kind: Kind::Packet,
            id: *entry,
            envelope: envelope.clone(),
        }];
        let call = Call::new(&inbox.writer(), Append { within: None, items });
        Some(Next {
            batch,
            call,
            purpose: Purpose::Contact(out),
        })
    }

    fn next_open(&self) -> Next {
        let open = Open {
            class: Class::Case,
            read: self.epoch.keys.read.hash(),
            keep: self.epoch.context.keep,
            bind: Bind::NONE,
            admission: self.record.admission.clone(),
        };
        let call = Call::new(&self.epoch.writer(), open);
        Next {
            batch: Batch::default(),
            call,
            purpose: Purpose::Open,
        }
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
                id: sealed.entry,
                envelope: sealed.envelope.clone(),
            }),
            OutRecord::Letter { sealed: None, .. } | OutRecord::Contact { .. } => None,
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
            call,
            purpose: Purpose::Letters(sent),
        }
    }

    fn next_commit(&self, batch: Batch) -> Option<Next> {
        let (pending, keep) = (self.pending.as_ref()?, self.keep.as_ref()?);
        let items = vec![Item {
            kind: Kind::Commit,
            id: pending.entry,
            envelope: pending.envelope.clone(),
        }];
        let within = self.record.reading.at.map(|(cursor, _)| cursor.incarnation);
        let grant = Grant {
            channel: self.epoch.channel,
            token: keep.clone(),
        };
        Some(Next {
            batch,
            call: Call::new(&grant, Seal { within, items }),
            purpose: Purpose::Commit,
        })
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
                entry: entropy.entry(),
                envelope,
            });
            let item = OutRecord::Letter {
                letter: letter.clone(),
                sealed: sealed.clone(),
            };
            batch.put(self.out_name(*out), encode(&item)?);
        }
        Ok(waiting)
    }

    /// Makes the commit that refreshes this device's keys and makes it the committer. It stays pending.
    fn make_commit(&mut self, me: &Me, entropy: &mut Entropy) -> Result<Batch, Error> {
        let keep = entropy.keeper();
        let mut context = self.epoch.context.clone();
        context.committer = Some(*me.leaf_public());
        context.keep = keep.hash();
        let shares = self.keep_shares(&keep, entropy)?;
        let change = Change {
            context: Some(encode(&context)?.to_vec()),
            aad: encode(&shares)?.to_vec(),
            ..Change::default()
        };
        let commit = self.group.commit(change).map_err(internal)?;
        let nonce: [u8; NONCE] = entropy.bytes();
        let envelope = Envelope::seal(
            &self.epoch.keys.envelope,
            nonce,
            &self.epoch.channel,
            Kind::Commit,
            &commit.message,
        )
        .map_err(|_| Error::Internal("a commit does not fit an envelope"))?;
        self.pending = Some(PendingCommit {
            entry: entropy.entry(),
            envelope,
            keep,
        });
        let mut batch = Batch::default();
        self.save(&mut batch)?;
        Ok(batch)
    }

    /// The next keep token, sealed to each of counsel's devices.
    fn keep_shares(
        &self,
        keep: &martlet_proto::Token<martlet_proto::Keeper>,
        entropy: &mut Entropy,
    ) -> Result<Vec<KeepShare>, Error> {
        let info = keep_info(&self.record.id, &keep.hash());
        let mut shares = Vec::new();
        for leaf in self.group.members() {
            let Some(key) = &leaf.keep_key else { continue };
            let identity = behind_leaf(&leaf.credential, &leaf.signature_key);
            if identity.and_then(|identity| self.role_of(&identity)) == Some(Role::Counsel)
                && let Ok(sealed) = sealed::seal(key, &info, keep.secret().expose(), entropy)
            {
                shares.push(KeepShare {
                    device: leaf.signature_key,
                    sealed,
                });
            }
        }
        Ok(shares)
    }

    pub(super) fn contact_made(&mut self, out: u64) -> Turn {
        let mut turn = Turn::default();
        self.outbox.remove(&out);
        turn.batch.delete(self.out_name(out));
        turn
    }

    /// Letters were stored. If nothing came between, they need not be read again.
    pub(super) fn letters_placed(&mut self, sent: &[u64], placed: &Placed) -> Result<Turn, Error> {
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
                    let head = head.after(cursor.seq, Kind::Letter, &Digest::of(&sealed.envelope));
                    cursor.seq = cursor.seq.next()?;
                    heads.push((cursor.seq, head));
                    Some((cursor, head))
                });
            }
            self.letter_sent(*out, &mut turn)?;
        }
        match after {
            Some((cursor, head)) if head == placed.head => {
                self.record.reading.at = Some((cursor, head));
                self.remember_heads(heads);
            }
            Some(_) | None => self.caught_up = false,
        }
        self.save_record(&mut turn.batch)?;
        Ok(turn)
    }

    /// An item of the outbox is at the relay.
    pub(super) fn letter_sent(&mut self, out: u64, turn: &mut Turn) -> Result<(), Error> {
        let Some(OutRecord::Letter { letter, .. }) = self.outbox.remove(&out) else {
            return Ok(());
        };
        turn.batch.delete(self.out_name(out));
        if let Some(at) = self.by_id.get(&letter.id).copied() {
            if let Some(kept) = self.letters.get_mut(&at) {
                kept.queued = false;
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
        self.caught_up = false;
        Turn::default()
    }
}
