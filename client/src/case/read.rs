//! The reading half of a case: slots in, letters and epochs out. SPEC.md 10.2 and 10.3.

use martlet_proto::{
    Cursor, Entry, Head, Kind, Secret, Seq, Slot, Time, Token,
    call::{Slots, Tip},
    case::{KeepShare, Role},
    letter::{Body, Letter, LetterId},
    limits::COUNSEL_DEVICES_MAX,
};

use super::{Case, Epoch, HEADS_KEPT, Turn, internal, keep_info, member, parse_context};
use crate::{
    entropy::Entropy,
    error::Error,
    identity::behind_leaf,
    me::Me,
    mls::{Group, MlsError, Processed, Staged},
    record::{LetterRecord, OutRecord, Reading, Standing},
    sealed,
    view::{Event, Warning, name_of},
};

/// Whether reading the rest of a page makes sense.
#[derive(PartialEq, Eq)]
enum Flow {
    On,
    /// The epoch ended, or this device's part in the case.
    Stop,
}

impl Case {
    /// The channel is open: begins to read it, or finds that it is another life of it.
    pub(super) fn opened(&mut self, tip: &Tip) -> Result<Turn, Error> {
        let mut turn = Turn::default();
        self.must_open = false;
        self.caught_up = false;
        match self.record.reading.at {
            Some((cursor, _)) if cursor.incarnation == tip.incarnation => {}
            other => {
                if other.is_some() {
                    self.other_incarnation(&mut turn.events);
                }
                let head = Head::first(&self.epoch.channel, &tip.incarnation);
                let cursor = Cursor {
                    incarnation: tip.incarnation,
                    seq: Seq::FIRST,
                };
                self.record.reading = Reading {
                    at: Some((cursor, head)),
                    heads: vec![(Seq::FIRST, head)],
                };
                self.save_record(&mut turn.batch)?;
            }
        }
        Ok(turn)
    }

    /// The relay forgot the channel, and somebody created it again: letters wait for the next epoch.
    fn other_incarnation(&mut self, events: &mut Vec<Event>) {
        self.record.holding = true;
        if self.keep.is_some() {
            self.record.commit_due = true;
        }
        self.warn(Warning::RelayForgot, events);
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
        let Some((cursor, _)) = self.record.reading.at else {
            return Ok(turn);
        };
        if cursor.incarnation != page.tip.incarnation {
            self.must_open = true;
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
        if page.tip.next < cursor.seq {
            self.warn(Warning::RelayDiffers, &mut turn.events);
        }
        let epoch = self.group.epoch();
        let moved = !slots.is_empty();
        self.take_each(me, slots, now, entropy, &mut turn)?;
        if self.group.epoch() == epoch
            && let Some((cursor, head)) = self.record.reading.at
        {
            self.caught_up = cursor.seq >= page.tip.next;
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
        let Some((cursor, _)) = self.record.reading.at.filter(|_| self.caught_up) else {
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
                self.caught_up = false;
                return Ok(turn);
            }
            Some(_) => {}
        }
        self.take_each(me, slots, now, entropy, &mut turn)?;
        self.save(&mut turn.batch)?;
        Ok(turn)
    }

    fn take_each(
        &mut self,
        me: &Me,
        slots: Vec<Slot>,
        now: Time,
        entropy: &mut Entropy,
        turn: &mut Turn,
    ) -> Result<(), Error> {
        let mut heads = Vec::new();
        let mut flow = Flow::On;
        for slot in slots {
            let Some((mut cursor, head)) = self.record.reading.at else {
                break;
            };
            if slot.seq() != cursor.seq {
                return Err(Error::Protocol("the relay's log has a hole"));
            }
            let head = slot.head_after(&head);
            cursor.seq = cursor
                .seq
                .next()
                .ok_or(Error::Protocol("the relay's log has no end"))?;
            self.record.reading.at = Some((cursor, head));
            heads.push((cursor.seq, head));
            flow = match slot {
                Slot::Here(entry) => self.take_entry(me, &entry, now, entropy, turn)?,
                Slot::Gone {
                    kind: Kind::Commit, ..
                } => self.lose(turn),
                Slot::Gone { .. } => Flow::On,
            };
            if flow == Flow::Stop {
                break;
            }
        }
        if flow == Flow::On {
            self.remember_heads(heads);
        }
        Ok(())
    }

    pub(super) fn remember_heads(&mut self, heads: Vec<(Seq, Head)>) {
        let kept = &mut self.record.reading.heads;
        kept.extend(heads);
        kept.drain(..kept.len().saturating_sub(HEADS_KEPT));
    }

    fn take_entry(
        &mut self,
        me: &Me,
        entry: &Entry,
        now: Time,
        entropy: &mut Entropy,
        turn: &mut Turn,
    ) -> Result<Flow, Error> {
        if let Some(out) = self.out_with(entry) {
            self.letter_sent(out, turn)?;
            return Ok(Flow::On);
        }
        if self
            .pending
            .as_ref()
            .is_some_and(|pending| pending.entry == entry.id && pending.envelope == entry.envelope)
        {
            return self.merge_own(turn);
        }
        let Ok(message) = entry
            .envelope
            .open(&self.epoch.keys.envelope, &self.epoch.channel, entry.kind)
        else {
            return Ok(Flow::On);
        };
        if entry.kind == Kind::Commit {
            return self.take_commit(me, &message, entropy, turn);
        }
        if let Ok(Processed::Letter { sender, body, .. }) = self.group.process(&message)
            && let Some(from) = self.identity_at(sender)
            && let Ok((letter, [])) = postcard::take_from_bytes::<Letter>(&body)
        {
            self.take_letter(me, letter, from, now, turn)?;
        }
        Ok(Flow::On)
    }

    /// The item of the outbox that this entry is.
    fn out_with(&self, entry: &Entry) -> Option<u64> {
        self.outbox.iter().find_map(|(out, item)| match item {
            OutRecord::Letter {
                sealed: Some(sealed), ..
            } if sealed.entry == entry.id && sealed.envelope == entry.envelope => Some(*out),
            OutRecord::Letter { .. } | OutRecord::Contact { .. } => None,
        })
    }

    fn take_letter(
        &mut self,
        me: &Me,
        letter: Letter,
        from: [u8; 32],
        now: Time,
        turn: &mut Turn,
    ) -> Result<(), Error> {
        let mine = me.identity().public();
        let Ok(body) = letter.parse_body() else {
            return Ok(());
        };
        if let Some((seq, head)) = letter.seen
            && self
                .record
                .reading
                .heads
                .iter()
                .any(|(at, own)| *at == seq && *own != head)
        {
            self.warn(Warning::RelayDiffers, &mut turn.events);
        }
        match body {
            Body::Receipt(ids) => return self.take_receipt(&ids, from, turn),
            Body::Beat => return Ok(()),
            Body::Text(_)
            | Body::Document(_)
            | Body::Notice(_)
            | Body::Leave
            | Body::Refresh(_)
            | Body::Unknown(_) => {}
        }
        if from != mine {
            self.record.receipts_due.push(letter.id);
        }
        if self.by_id.contains_key(&letter.id) {
            return Ok(());
        }
        self.record.last = Some(now);
        self.record.unread = self.record.unread.saturating_add(1);
        let record = LetterRecord {
            letter,
            from,
            received: now,
            read: false,
            queued: false,
            delivered_to: Vec::new(),
        };
        let view = self.letter_view(&record, &mine);
        self.keep_letter(record, &mut turn.batch)?;
        turn.events.push(Event::Letter {
            case: name_of(&self.record.id),
            letter: view,
        });
        Ok(())
    }

    fn take_receipt(&mut self, ids: &[LetterId], from: [u8; 32], turn: &mut Turn) -> Result<(), Error> {
        for id in ids {
            let Some(at) = self.by_id.get(id).copied() else {
                continue;
            };
            let Some(kept) = self.letters.get_mut(&at) else {
                continue;
            };
            if kept.from == from || kept.delivered_to.contains(&from) {
                continue;
            }
            kept.delivered_to.push(from);
            self.save_letter(at, &mut turn.batch)?;
            let to = name_of_member(&from);
            turn.events.push(Event::Delivered {
                case: name_of(&self.record.id),
                id: *id,
                to,
            });
        }
        Ok(())
    }

    /// A commit of another device: applied if it is the first that every member must find valid, skipped if every
    /// member must find it invalid; anything else ends this device's part until it is taken in again.
    fn take_commit(
        &mut self,
        me: &Me,
        message: &[u8],
        entropy: &mut Entropy,
        turn: &mut Turn,
    ) -> Result<Flow, Error> {
        let before = self.group.to_blob().map_err(internal)?;
        if self.group.has_pending() {
            self.group.clear_pending().map_err(internal)?;
        }
        match self.group.process(message) {
            Ok(Processed::Commit(staged)) if self.is_valid(&staged) => self.merge_theirs(me, *staged, turn),
            Err(MlsError::Inapplicable) => Ok(self.lose(turn)),
            Ok(_) | Err(_) => {
                self.group = Group::from_blob(entropy.secret(), me.leaf(), &before).map_err(internal)?;
                Ok(Flow::On)
            }
        }
    }

    /// What every member judges alike: that the committer, or before there is one a counsel's device, made it, and
    /// that it names itself committer and changes nobody's role.
    fn is_valid(&self, staged: &Staged) -> bool {
        let members = self.group.members();
        let Some(leaf) = members.iter().find(|leaf| leaf.index == staged.sender()) else {
            return false;
        };
        let Ok(context) = parse_context(staged.context()) else {
            return false;
        };
        let identity = behind_leaf(&leaf.credential, &leaf.signature_key);
        let counsel = identity.and_then(|identity| self.role_of(&identity)) == Some(Role::Counsel);
        let entitled = match self.epoch.context.committer {
            Some(committer) => committer == leaf.signature_key,
            None => true,
        };
        counsel && entitled && context.committer.is_some() && context.roles == self.epoch.context.roles
    }

    fn merge_own(&mut self, turn: &mut Turn) -> Result<Flow, Error> {
        self.group.merge_pending().map_err(internal)?;
        let pending = self.pending.take();
        self.record.commit_due = false;
        self.enter_epoch(pending.map(|pending| pending.keep), turn)
    }

    fn merge_theirs(&mut self, me: &Me, staged: Staged, turn: &mut Turn) -> Result<Flow, Error> {
        if staged.removes_us() {
            self.record.standing = Standing::Removed;
            return Ok(Flow::Stop);
        }
        let context = parse_context(staged.context())?;
        let keep = open_keep(me, &self.record.id, staged.aad(), &context.keep);
        self.group.merge(staged).map_err(internal)?;
        self.pending = None;
        self.enter_epoch(keep, turn)
    }

    /// The next epoch begins: another channel, other keys; what waits is encrypted again when it is sent.
    fn enter_epoch(
        &mut self,
        keep: Option<Token<martlet_proto::Keeper>>,
        turn: &mut Turn,
    ) -> Result<Flow, Error> {
        self.keep = keep;
        self.epoch = Epoch::of(&self.group)?;
        self.record.reading = Reading::default();
        self.record.holding = false;
        self.record
            .warnings
            .retain(|warning| *warning != Warning::RelayForgot);
        self.caught_up = false;
        self.must_open = false;
        for out in self.outbox.values_mut() {
            if let OutRecord::Letter { sealed, .. } = out {
                *sealed = None;
            }
        }
        self.refresh_members();
        let _ = turn;
        Ok(Flow::Stop)
    }

    fn refresh_members(&mut self) {
        let roles = &self.epoch.context.roles;
        self.record
            .members
            .retain(|known| roles.iter().any(|(identity, _)| *identity == known.identity));
        for (identity, role) in roles {
            match self
                .record
                .members
                .iter_mut()
                .find(|known| known.identity == *identity)
            {
                Some(known) => known.role = *role,
                None => self.record.members.push(member(*identity, "", *role)),
            }
        }
    }

    fn lose(&mut self, turn: &mut Turn) -> Flow {
        self.record.standing = Standing::Lost;
        self.warn(Warning::Lost, &mut turn.events);
        Flow::Stop
    }
}

/// This device's share of the next keep token, if the commit has one that fits.
fn open_keep(
    me: &Me,
    group: &[u8; 16],
    aad: &[u8],
    hash: &martlet_proto::TokenHash,
) -> Option<Token<martlet_proto::Keeper>> {
    let shares: Vec<KeepShare> = postcard::from_bytes(aad).ok()?;
    if shares.len() > COUNSEL_DEVICES_MAX {
        return None;
    }
    let share = shares.iter().find(|share| share.device == *me.leaf_public())?;
    let keep = sealed::open(me.keep_seed(), &keep_info(group, hash), &share.sealed).ok()?;
    let keep = Token::new(Secret::from_slice(&keep)?);
    (keep.hash() == *hash).then_some(keep)
}

/// By which commands name a member: the first bytes of the identity key.
pub(super) fn name_of_member(identity: &[u8; 32]) -> String {
    let (first, _) = identity.split_at(10);
    data_encoding::BASE32_NOPAD.encode(first).to_lowercase()
}
