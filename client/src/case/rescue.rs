//! Asking counsel to be taken in again, and hearing who asks. SPEC.md 10.4.

use std::collections::{BTreeMap, BTreeSet};

use martlet_proto::{
    Append, Call, Cursor, Entry, Envelope, Kind, Read, Seq, Slot, Time,
    call::{Item, Slots},
    card::Mailbox,
    case::{Packet, Rescue, RescueSeeds, Signature},
    derive::RescueKeys,
    envelope::NONCE,
    limits::{HOLD_DAYS, PERSON_DEVICES_MAX},
};

use super::{
    Case, Next, Purpose, Turn,
    begin::{kept, rescue_records, welcomed_back},
    commit::seeds_of,
};
use crate::{
    entropy::Entropy,
    error::{Error, Usage},
    identity::behind_leaf,
    me::Me,
    mls::{Package, inspect_package, keypackage},
    record::{Ask, Asking, CaseRecord, LetterRecord, OutRecord, SealedItem, Standing, encode},
    shown::name_of_member,
    vault::Batch,
    view::{Event, Warning, name_of},
};

/// Seconds in a day.
const DAY: u64 = 86_400;
/// Days for which the key package of a request is offered, and after which a request is made anew.
const PACKAGE_DAYS: u64 = 90;
const ASK_DAYS: u64 = 60;

impl Case {
    /// Asks counsel to be taken in again; asking twice changes nothing.
    ///
    /// # Errors
    ///
    /// [`Usage::CaseEnded`] after removal; [`Usage::NoRescue`] where nobody could answer.
    pub fn ask(&mut self, me: &Me, now: Time, entropy: &mut Entropy) -> Result<Batch, Error> {
        if self.record.asking.is_some() && self.record.standing != Standing::Removed {
            return Ok(Batch::default());
        }
        self.ask_with(me, None, now, entropy)
    }

    pub(super) fn ask_with(
        &mut self,
        me: &Me,
        proof: Option<Signature>,
        now: Time,
        entropy: &mut Entropy,
    ) -> Result<Batch, Error> {
        let mut batch = Batch::default();
        if self.record.standing == Standing::Removed {
            return Err(Error::Usage(Usage::CaseEnded));
        }
        let seeds = self.record.rescue.as_ref().ok_or(Error::Usage(Usage::NoRescue))?;
        let (asking, package) = request(me, seeds, self.group.epoch(), proof, now, entropy)?;
        self.keep_package(&package);
        self.record.asking = Some(asking);
        self.save(&mut batch)?;
        Ok(batch)
    }

    /// A case out of an archive goes on in the epoch that a Welcome leads to, with the letters that it has.
    ///
    /// # Errors
    ///
    /// [`Error::Protocol`] if the Welcome does not fit.
    pub fn revive(
        me: &Me,
        (index, mut record, letters): (u64, CaseRecord, BTreeMap<u64, LetterRecord>),
        packet: Packet,
        private: &[u8],
        now: Time,
        entropy: &mut Entropy,
    ) -> Result<(Self, Batch), Error> {
        let (group, context) = welcomed_back(me, &record.members, &packet, private, entropy)?;
        if group.id() != record.id {
            return Err(Error::Protocol("a Welcome into another case"));
        }
        let keep = kept(&packet, &context);
        record.standing = Standing::Member;
        record.asking = None;
        record.refreshed = now;
        record.rescue = packet.rescue;
        record.rescues = packet.secrets.map(rescue_records).unwrap_or_default();
        record.next_letter = letters.keys().max().map_or(0, |last| last.saturating_add(1));
        let mut case = Self::begin(index, record, group, keep, entropy)?;
        case.enter_epoch(case.keep.clone(), packet.incarnation)?;
        if let Some(home) = case.homes().first().cloned() {
            case.record.relay = home.relay;
            case.record.admission = home.admission.or(packet.admission);
        }
        let mut batch = Batch::default();
        for (at, letter) in letters {
            case.put_letter(at, letter, &mut batch)?;
        }
        case.save(&mut batch)?;
        Ok((case, batch))
    }

    /// Takes a request back that this device made by itself: it goes on without.
    pub(super) fn withdraw_own_ask(&mut self, me: &Me, entropy: &mut Entropy) {
        if self.record.asking.as_ref().is_some_and(|asking| !asking.by_owner) {
            self.withdraw_ask(me, entropy);
        }
    }

    /// Takes a request back, whoever wished for it.
    pub(super) fn withdraw_ask(&mut self, me: &Me, entropy: &mut Entropy) {
        let (Some(asking), Some(seeds)) = (&mut self.record.asking, &self.record.rescue) else {
            return;
        };
        if asking.withdraw.is_some() {
            return;
        }
        if asking.placed.is_none() {
            self.record.asking = None;
            return;
        }
        let keys = RescueKeys::derive(&seeds.to_counsel);
        let nonce: [u8; NONCE] = entropy.bytes();
        let withdraw = encode(&Rescue::Withdraw(*me.leaf_public())).ok();
        let sealed = withdraw.and_then(|content| {
            Envelope::seal(&keys.envelope, nonce, &keys.channel(), Kind::Packet, &content).ok()
        });
        asking.withdraw = sealed.map(|envelope| SealedItem {
            entry: entropy.entry(),
            envelope,
        });
    }

    /// Asks without its owner's wish: [`must_ask`](Self::must_ask).
    pub(super) fn ask_by_itself(
        &mut self,
        me: &Me,
        now: Time,
        entropy: &mut Entropy,
    ) -> Result<Batch, Error> {
        let mut batch = self.ask(me, now, entropy)?;
        if let Some(asking) = &mut self.record.asking {
            asking.by_owner = false;
        }
        self.save_record(&mut batch)?;
        Ok(batch)
    }

    /// What a request that waits for long needs: it is placed again each day, which changes nothing while it is there, and made
    /// anew before its key package is too old.
    pub(super) fn tend_ask(&mut self, me: &Me, now: Time, entropy: &mut Entropy) -> Result<Batch, Error> {
        let Some(asking) = self
            .record
            .asking
            .as_mut()
            .filter(|asking| asking.withdraw.is_none())
        else {
            return Ok(Batch::default());
        };
        let days = |since: Time| now.as_secs().saturating_sub(since.as_secs()) / DAY;
        if days(asking.made) >= ASK_DAYS {
            let (by_owner, proof) = (asking.by_owner, asking.proof);
            let mut batch = self.ask_with(me, proof, now, entropy)?;
            if let Some(asking) = &mut self.record.asking {
                asking.by_owner = by_owner;
            }
            self.save_record(&mut batch)?;
            return Ok(batch);
        }
        self.round.ask_again = asking.placed.is_some_and(|placed| days(placed) > 0);
        Ok(Batch::default())
    }

    /// Whether this device asks by itself: it lost the thread, or waited in vain in a channel that came back.
    pub(super) fn must_ask(&self, now: Time) -> bool {
        let days = |since: Time| now.as_secs().saturating_sub(since.as_secs()) / DAY;
        let waited = self
            .record
            .held_since
            .is_some_and(|since| days(since) >= u64::from(HOLD_DAYS));
        let lost = self.record.standing == Standing::Lost;
        self.record.asking.is_none() && self.record.rescue.is_some() && (lost || waited)
    }

    /// Whether a request, or that it is taken back, is to be placed before anything else is read. A new request waits until the
    /// answers are read if one to an earlier request may be there: nobody must answer twice.
    fn asks_now(&self, asking: &Asking) -> bool {
        if asking.withdraw.is_some() || self.round.ask_again {
            return true;
        }
        let asked_before = self.packages.len() > 1;
        asking.placed.is_none() && (self.round.answers_read || !asked_before)
    }

    /// What to say in rescue channels next.
    pub(super) fn next_rescue(&self) -> Option<Next> {
        let mailbox = self.rescue_mailbox()?;
        if self.round.closed == Some(mailbox.channel()) {
            return Some(self.next_open_mailbox(&mailbox));
        }
        let next = |call, purpose| Some(Next::new(call, purpose));
        if let (Some(asking), Some(seeds)) = (&self.record.asking, &self.record.rescue) {
            if self.asks_now(asking) {
                let asked = || (asking.entry, asking.envelope.clone());
                let withdrawn = |item: &SealedItem| (item.entry, item.envelope.clone());
                let (id, envelope) = asking.withdraw.as_ref().map_or_else(asked, withdrawn);
                let items = vec![Item {
                    kind: Kind::Packet,
                    id,
                    envelope,
                }];
                let append = Append { within: None, items };
                return next(Call::new(&mailbox.writer(), append), Purpose::Ask);
            }
            if !self.round.answers_read {
                let from = asking.cursor.map_or(Seq::FIRST, |cursor| cursor.seq);
                let keys = RescueKeys::derive(&seeds.to_member);
                return next(Call::new(&keys.reader(), Read { from }), Purpose::Answers);
            }
        }
        let identity = self.round.asks_unread.first()?;
        let rescue = self
            .record
            .rescues
            .iter()
            .find(|rescue| rescue.identity == *identity)?;
        let from = rescue.cursor.map_or(Seq::FIRST, |cursor| cursor.seq);
        let keys = RescueKeys::derive(&rescue.seeds.to_counsel);
        next(Call::new(&keys.reader(), Read { from }), Purpose::Asks(*identity))
    }

    /// The mailbox that the next call goes to.
    pub(super) fn rescue_mailbox(&self) -> Option<Mailbox> {
        if let (Some(asking), Some(seeds)) = (&self.record.asking, &self.record.rescue) {
            if self.asks_now(asking) {
                return Some(RescueKeys::derive(&seeds.to_counsel).mailbox());
            }
            if !self.round.answers_read {
                return Some(RescueKeys::derive(&seeds.to_member).mailbox());
            }
        }
        let identity = self.round.asks_unread.first()?;
        let seeds = seeds_of(&self.record.rescues, identity)?;
        Some(RescueKeys::derive(&seeds.to_counsel).mailbox())
    }

    pub(super) fn ask_placed(&mut self, now: Time) -> Result<Turn, Error> {
        let mut turn = Turn::default();
        match &mut self.record.asking {
            Some(asking) if asking.withdraw.is_some() => self.record.asking = None,
            Some(asking) => asking.placed = Some(now),
            None => {}
        }
        self.round.ask_again = false;
        self.save_record(&mut turn.batch)?;
        Ok(turn)
    }

    /// Reads what counsel answered: the first Welcome that fits the request brings this device back.
    pub(super) fn take_answers(
        &mut self,
        me: &Me,
        page: Slots,
        now: Time,
        entropy: &mut Entropy,
    ) -> Result<Turn, Error> {
        let mut turn = Turn::default();
        let (Some(asking), Some(seeds)) = (&mut self.record.asking, &self.record.rescue) else {
            return Ok(turn);
        };
        let before = asking.cursor;
        let keys = RescueKeys::derive(&seeds.to_member);
        let mut answers = Vec::new();
        let Some(from) = follow_cursor(&mut asking.cursor, &page) else {
            return Ok(turn);
        };
        for (slot, envelope) in here(&page, from) {
            if let Some(Rescue::Answer(packet)) = open(&keys, envelope) {
                answers.push(packet);
            }
            advance(&mut asking.cursor, slot);
        }
        self.round.answers_read = asking
            .cursor
            .is_none_or(|cursor| cursor.seq >= page.tip.next || page.slots.is_empty());
        let moved = asking.cursor != before;
        for packet in answers {
            if self.come_back(me, packet, now, entropy, &mut turn)? {
                break;
            }
        }
        if moved {
            self.save(&mut turn.batch)?;
        }
        Ok(turn)
    }

    /// Goes on in the epoch that a Welcome leads to; `false` if it does not fit.
    fn come_back(
        &mut self,
        me: &Me,
        packet: Packet,
        now: Time,
        entropy: &mut Entropy,
        turn: &mut Turn,
    ) -> Result<bool, Error> {
        let members = &self.record.members;
        let mut packages = self.packages.iter().enumerate();
        let joined = packages.find_map(|(at, private)| {
            let (group, context) = welcomed_back(me, members, &packet, private, entropy).ok()?;
            Some((group, context, at))
        });
        let Some((group, context, used)) = joined else {
            return Ok(false);
        };
        if group.id() != self.record.id || group.epoch() <= self.group.epoch() {
            return Ok(false);
        }
        let keep = kept(&packet, &context);
        self.group = group;
        self.pending = None;
        self.packages.remove(used);
        self.record.standing = Standing::Member;
        self.record.refreshed = now;
        self.record.wishes.clear();
        self.record.commit_due = false;
        self.record.rescue = packet.rescue;
        if let Some(secrets) = packet.secrets {
            self.record.rescues = rescue_records(secrets);
        }
        if used == 0 {
            self.record.asking = None;
        }
        // An answer to an earlier request: nobody must answer this one.
        self.withdraw_ask(me, entropy);
        let before = self.epoch.context.clone();
        self.enter_epoch(keep, packet.incarnation)?;
        self.go_home(&before);
        for out in self.outbox.keys().copied().collect::<Vec<_>>() {
            if let Some(OutRecord::Letter { .. }) = self.outbox.get(&out) {
                self.save_out(out, &mut turn.batch)?;
            }
        }
        self.send_again(now, &mut turn.batch)?;
        turn.events.push(Event::Returned {
            case: name_of(&self.record.id),
        });
        Ok(true)
    }

    /// Reads what a member asks: the newest request counts.
    pub(super) fn take_asks(&mut self, identity: &[u8; 32], page: Slots, now: Time) -> Result<Turn, Error> {
        let mut turn = Turn::default();
        let Some(rescue) = self
            .record
            .rescues
            .iter_mut()
            .find(|rescue| rescue.identity == *identity)
        else {
            self.round.asks_unread.retain(|unread| unread != identity);
            return Ok(turn);
        };
        let keys = RescueKeys::derive(&rescue.seeds.to_counsel);
        let before = rescue.cursor;
        let mut said = Vec::new();
        let Some(from) = follow_cursor(&mut rescue.cursor, &page) else {
            return Ok(turn);
        };
        for (slot, envelope) in here(&page, from) {
            said.extend(open(&keys, envelope));
            advance(&mut rescue.cursor, slot);
        }
        let read = rescue
            .cursor
            .is_none_or(|cursor| cursor.seq >= page.tip.next || page.slots.is_empty());
        let changed = rescue.cursor != before;
        if read {
            self.round.asks_unread.retain(|unread| unread != identity);
        }
        let mut asked = false;
        for said in said {
            match said {
                Rescue::Ask { package, proof, .. } => {
                    asked |= self.note_ask(identity, package, proof.as_ref(), now);
                }
                Rescue::Withdraw(leaf) => {
                    let other = |ask: &Ask| ask.identity != *identity || ask.leaf != leaf;
                    self.record.asks.retain(other);
                }
                Rescue::Answer(_) => {}
            }
        }
        if asked && self.record.asks.iter().any(|ask| ask.identity == *identity) {
            turn.events.push(Event::Asks {
                case: name_of(&self.record.id),
                member: name_of_member(identity),
            });
        }
        if changed {
            self.save_record(&mut turn.batch)?;
        }
        Ok(turn)
    }

    /// Keeps a request, in place of an earlier one of the same device: only with a package of that person's, and not of a
    /// device that was removed. Says whether it is kept.
    fn note_ask(
        &mut self,
        identity: &[u8; 32],
        package: Vec<u8>,
        proof: Option<&Signature>,
        now: Time,
    ) -> bool {
        let Ok(info) = inspect_package(&package, now.as_secs()) else {
            return false;
        };
        let leaf = info.signature_key;
        let theirs = behind_leaf(&info.credential, &leaf) == Some(*identity);
        if !theirs || self.record.barred.contains(&leaf) {
            return false;
        }
        let proved = self.proved(identity, &leaf, proof);
        self.record.asks.retain(|ask| ask.leaf != leaf);
        let of_person = |ask: &&Ask| ask.identity == *identity;
        if self.record.asks.iter().filter(of_person).count() >= PERSON_DEVICES_MAX {
            let oldest = self.record.asks.iter().position(|ask| ask.identity == *identity);
            oldest.map(|at| self.record.asks.remove(at));
        }
        self.record.asks.push(Ask {
            identity: *identity,
            leaf,
            package,
            received: now,
            proved,
        });
        true
    }

    /// The members who ask for help, each once.
    pub(super) fn asking(&self) -> Vec<String> {
        let asks = self.record.asks.iter();
        let members: BTreeSet<String> = asks.map(|ask| name_of_member(&ask.identity)).collect();
        members.into_iter().collect()
    }

    /// The warning that a member asks for help, as long as nobody answered.
    pub(super) fn asks_warning(&self) -> Option<Warning> {
        (!self.record.asks.is_empty()).then_some(Warning::Asks)
    }
}

/// A request to be taken in again, sealed for counsel, and the key package in it.
///
/// # Errors
///
/// [`Error::Internal`] if a library fails.
pub fn request(
    me: &Me,
    seeds: &RescueSeeds,
    epoch: u64,
    proof: Option<Signature>,
    now: Time,
    entropy: &mut Entropy,
) -> Result<(Asking, Package), Error> {
    let until = now.as_secs().saturating_add(PACKAGE_DAYS.saturating_mul(DAY));
    let package = keypackage(
        entropy.secret(),
        me.leaf(),
        Some(me.keep_public()),
        now.as_secs().saturating_sub(DAY),
        until,
    )
    .map_err(|_| Error::Internal("a key package cannot be made"))?;
    let ask = Rescue::Ask {
        package: package.public.clone(),
        epoch,
        proof,
    };
    let keys = RescueKeys::derive(&seeds.to_counsel);
    let nonce: [u8; NONCE] = entropy.bytes();
    let envelope = Envelope::seal(
        &keys.envelope,
        nonce,
        &keys.channel(),
        Kind::Packet,
        &encode(&ask)?,
    )
    .map_err(|_| Error::Internal("a request does not fit an envelope"))?;
    let asking = Asking {
        entry: entropy.entry(),
        envelope,
        proof,
        made: now,
        placed: None,
        by_owner: true,
        withdraw: None,
        cursor: None,
    };
    Ok((asking, package))
}

/// What counsel answered in an envelope of the rescue channel towards this member.
pub fn answer(seeds: &RescueSeeds, envelope: &Envelope) -> Option<Packet> {
    match open(&RescueKeys::derive(&seeds.to_member), Some(envelope))? {
        Rescue::Answer(packet) => Some(packet),
        Rescue::Ask { .. } | Rescue::Withdraw(_) => None,
    }
}

/// From where a page of slots counts. An unfamiliar incarnation is read from its start: `None` if the page is not from there.
pub(super) fn follow_cursor(cursor: &mut Option<Cursor>, page: &Slots) -> Option<Seq> {
    let start = Cursor {
        incarnation: page.tip.incarnation,
        seq: Seq::FIRST,
    };
    let asked = cursor.replace(start);
    match asked {
        Some(at) if at.incarnation == page.tip.incarnation => {
            *cursor = Some(at);
            Some(at.seq)
        }
        Some(at) if at.seq != Seq::FIRST => None,
        _ => Some(Seq::FIRST),
    }
}

/// The slots from a place on, with the envelopes of those that are there.
fn here(page: &Slots, from: Seq) -> impl Iterator<Item = (&Slot, Option<&Envelope>)> {
    let slots = page.slots.iter().skip_while(move |slot| slot.seq() < from);
    slots.map(|slot| match slot {
        Slot::Here(Entry {
            kind: Kind::Packet,
            envelope,
            ..
        }) => (slot, Some(envelope)),
        Slot::Here(_) | Slot::Gone { .. } => (slot, None),
    })
}

fn advance(cursor: &mut Option<Cursor>, slot: &Slot) {
    if let (Some(cursor), Some(next)) = (cursor, slot.seq().next()) {
        cursor.seq = next;
    }
}

fn open(keys: &RescueKeys, envelope: Option<&Envelope>) -> Option<Rescue> {
    let plain = envelope?
        .open(&keys.envelope, &keys.channel(), Kind::Packet)
        .ok()?;
    match postcard::take_from_bytes(&plain) {
        Ok((rescue, [])) => Some(rescue),
        Ok(_) | Err(_) => None,
    }
}
