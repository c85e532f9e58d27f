//! How long letters are kept, and their end: whole drawers are shredded. SPEC.md 10.7. Pure.

use std::collections::{BTreeMap, BTreeSet};

use martlet_proto::{
    Day, Time,
    case::Role,
    letter::{Body, LetterId},
    limits::{GONE_DAYS, GRACE_DAYS},
};

use super::{
    Case,
    drawer::{Drawers, Found, Opened, Row},
};
use crate::{
    error::Error,
    me::Me,
    record::{LetterRecord, OutRecord, Wish, encode},
    vault::{Batch, Name, Table},
    view::Retention,
};

/// In which drawers the letters of a case are.
pub(super) struct Keeping {
    pub(super) drawers: Drawers,
    /// The drawers of letters and of the outbox, by number.
    letters: BTreeMap<u64, u32>,
    outbox: BTreeMap<u64, u32>,
    /// Letters that were deleted.
    gone: BTreeMap<u64, (LetterId, Day)>,
    gone_ids: BTreeSet<LetterId>,
    /// Rows that no key opens.
    dead: Vec<Name>,
}

impl Keeping {
    pub(super) const fn new(drawers: Drawers) -> Self {
        Self {
            drawers,
            letters: BTreeMap::new(),
            outbox: BTreeMap::new(),
            gone: BTreeMap::new(),
            gone_ids: BTreeSet::new(),
            dead: Vec::new(),
        }
    }

    /// The letters of rows; rows whose drawer was shredded are left for deletion.
    pub(super) fn letters_of(
        &mut self,
        case: [u8; 16],
        rows: BTreeMap<u64, Row>,
    ) -> Result<BTreeMap<u64, LetterRecord>, Error> {
        let mut letters = BTreeMap::new();
        for (at, row) in rows {
            if let Row::Gone { id, since } = row {
                self.gone.insert(at, (id, since));
                self.gone_ids.insert(id);
                continue;
            }
            let name = Name::new(Table::Letters, case, at);
            match self.drawers.open(&name, &row)? {
                Opened::Row(drawer, letter) => {
                    self.letters.insert(at, drawer);
                    letters.insert(at, letter);
                }
                Opened::Shredded => self.dead.push(name),
            }
        }
        Ok(letters)
    }

    /// The same of what waits to be sent.
    pub(super) fn outbox_of(
        &mut self,
        case: [u8; 16],
        rows: BTreeMap<u64, Row>,
    ) -> Result<BTreeMap<u64, OutRecord>, Error> {
        let mut outbox = BTreeMap::new();
        for (out, row) in rows {
            let name = Name::new(Table::Outbox, case, out);
            match self.drawers.open(&name, &row)? {
                Opened::Row(drawer, item) => {
                    self.outbox.insert(out, drawer);
                    outbox.insert(out, item);
                }
                Opened::Shredded => self.dead.push(name),
            }
        }
        Ok(outbox)
    }

    /// Whether this letter was here and was deleted.
    pub(super) fn is_gone(&self, id: &LetterId) -> bool {
        self.gone_ids.contains(id)
    }
}

/// The side of a case whose days hold for a role: counsel's, or the client's for everybody else.
pub(super) const fn side_of(role: Role) -> Role {
    match role {
        Role::Counsel => Role::Counsel,
        Role::Client | Role::Interpreter | Role::Observer => Role::Client,
    }
}

impl Case {
    /// How long letters are kept on either side.
    pub fn retention(&self) -> Retention {
        Retention {
            client_days: self.epoch.context.client_days,
            counsel_days: self.epoch.context.counsel_days,
        }
    }

    /// How long they are kept here.
    fn days(&self, me: &Me) -> Option<u32> {
        match side_of(self.role_of(&me.identity().public())?) {
            Role::Counsel => self.epoch.context.counsel_days,
            _ => self.epoch.context.client_days,
        }
    }

    /// The shorter of both sides' days: drawers are small enough for whichever is this one's.
    fn shortest_days(&self) -> Option<u32> {
        let context = &self.epoch.context;
        context.client_days.into_iter().chain(context.counsel_days).min()
    }

    /// Has letters kept for so many days on the side of this device's owner, 0 for good: the device that leads the
    /// case commits it, any other asks by a letter.
    ///
    /// # Errors
    ///
    /// [`Usage::CaseEnded`](crate::Usage::CaseEnded).
    pub fn retain(&mut self, me: &Me, id: LetterId, days: u32, now: Time) -> Result<Batch, Error> {
        self.writable()?;
        if self.days(me) == (days > 0).then_some(days) && !self.is_changing() {
            return Ok(Batch::default());
        }
        if !self.decides(me) {
            return self.write(me, id, &Body::Retention(days), now);
        }
        self.wish_retention(me.identity().public(), days);
        let mut batch = Batch::default();
        self.save_record(&mut batch)?;
        Ok(batch)
    }

    /// Whether this device makes the next commit unless another takes over.
    fn decides(&self, me: &Me) -> bool {
        self.is_committer(me) || (self.epoch.context.committer.is_none() && self.may_commit())
    }

    /// Somebody wishes letters of their side to be kept for so long: nobody else's.
    pub(super) fn take_retention(&mut self, from: [u8; 32], days: u32) {
        if self.may_commit() {
            self.wish_retention(from, days);
        }
    }

    fn wish_retention(&mut self, identity: [u8; 32], days: u32) {
        let Some(side) = self.role_of(&identity).map(side_of) else {
            return;
        };
        // A later wish of the same side wins: they are fulfilled in their order.
        self.record.wishes.push(Wish::Retain {
            side,
            days: (days > 0).then_some(days),
        });
    }

    /// Whether a wish for other days, or the letter that asks for them, still waits here.
    pub fn is_retention_waiting(&self, id: &LetterId) -> bool {
        let asks = |item: &OutRecord| matches!(item, OutRecord::Letter { letter, .. } if letter.id == *id);
        let wish = |wish: &Wish| matches!(wish, Wish::Retain { .. });
        self.outbox.values().any(asks) || self.record.wishes.iter().any(wish)
    }

    /// Stops deletion on this device, or lets it go on.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] if a record cannot be written.
    pub fn hold(&mut self, hold: bool) -> Result<Batch, Error> {
        self.record.hold = hold;
        let mut batch = Batch::default();
        self.save_record(&mut batch)?;
        Ok(batch)
    }

    /// Every letter that is kept, in order.
    pub fn kept(&self) -> impl Iterator<Item = &LetterRecord> {
        self.letters.values()
    }

    /// Puts a letter into the drawer of its day, and the drawer's key into the batch if it is new.
    pub(super) fn put_letter(
        &mut self,
        at: u64,
        letter: LetterRecord,
        batch: &mut Batch,
    ) -> Result<(), Error> {
        let days = self.shortest_days();
        let found = self.keeping.drawers.on(letter.received.day(), days);
        let drawer = self.drawer(found, batch)?;
        self.keeping.letters.insert(at, drawer);
        self.by_id.insert(letter.letter.id, at);
        self.letters.insert(at, letter);
        self.save_letter(at, batch)
    }

    fn drawer(&self, found: Found, batch: &mut Batch) -> Result<u32, Error> {
        match found {
            Found::There(drawer) => Ok(drawer),
            Found::Made(drawer) => {
                self.save(batch)?;
                Ok(drawer)
            }
        }
    }

    pub(super) fn save_letter(&self, at: u64, batch: &mut Batch) -> Result<(), Error> {
        if let (Some(letter), Some(drawer)) = (self.letters.get(&at), self.keeping.letters.get(&at)) {
            let name = self.letter_name(at);
            batch.put(name, encode(&self.keeping.drawers.seal(*drawer, &name, letter)?)?);
        }
        Ok(())
    }

    /// Puts an item of the outbox into the newest drawer, or the one in which it already is.
    pub(super) fn save_out(&mut self, out: u64, batch: &mut Batch) -> Result<(), Error> {
        let drawer = match self.keeping.outbox.get(&out) {
            Some(drawer) => *drawer,
            None => {
                let found = self.keeping.drawers.newest();
                self.drawer(found, batch)?
            }
        };
        self.keeping.outbox.insert(out, drawer);
        if let Some(item) = self.outbox.get(&out) {
            let name = self.out_name(out);
            batch.put(name, encode(&self.keeping.drawers.seal(drawer, &name, item)?)?);
        }
        Ok(())
    }

    fn letter_name(&self, at: u64) -> Name {
        Name::new(Table::Letters, self.record.id, at)
    }

    /// Deletes what its time has come for: a drawer's key, and with it all its letters. The batch is empty if there is
    /// nothing to delete.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] if a record cannot be written.
    pub fn forget(&mut self, me: &Me, now: Time) -> Result<Batch, Error> {
        let (mut batch, today) = (Batch::default(), now.day());
        for name in std::mem::take(&mut self.keeping.dead) {
            batch.delete(name);
        }
        let past = |since: Day| since.plus(GONE_DAYS) <= today;
        let old: Vec<u64> = (self.keeping.gone.iter())
            .filter(|(_, (_, since))| past(*since))
            .map(|(at, _)| *at)
            .collect();
        for at in old {
            if let Some((id, _)) = self.keeping.gone.remove(&at) {
                self.keeping.gone_ids.remove(&id);
            }
            batch.delete(self.letter_name(at));
        }
        let Some(days) = self.days(me).filter(|_| !self.record.hold) else {
            return Ok(batch);
        };
        let due = self.due(days, today);
        for drawer in &due {
            self.empty(*drawer, today, &mut batch)?;
        }
        if !due.is_empty() {
            self.save(&mut batch)?;
        }
        Ok(batch)
    }

    /// The drawers whose time has come.
    fn due(&self, days: u32, today: Day) -> Vec<u32> {
        let closed = self.keeping.drawers.closed(today, self.shortest_days());
        let waits = |drawer: u32| {
            let mut outbox = self.outbox.keys();
            outbox.any(|out| self.keeping.outbox.get(out) == Some(&drawer))
        };
        let over = |(drawer, from): &(u32, Day)| {
            let letters: Vec<&LetterRecord> = self.in_drawer(*drawer).collect();
            let newest = letters.iter().map(|letter| letter.received.day()).max();
            let end = newest.unwrap_or(*from).plus(days);
            let wanted = letters.iter().any(|letter| self.is_wanted(letter));
            let end = if wanted { end.plus(GRACE_DAYS) } else { end };
            today > end && !letters.iter().any(|letter| letter.queued)
        };
        let due = closed
            .into_iter()
            .filter(|drawer| over(drawer) && !waits(drawer.0));
        due.map(|(drawer, _)| drawer).collect()
    }

    fn in_drawer(&self, drawer: u32) -> impl Iterator<Item = &LetterRecord> {
        let there = self.keeping.letters.iter().filter(move |(_, of)| **of == drawer);
        there.filter_map(|(at, _)| self.letters.get(at))
    }

    /// Whether a letter was not read here, or has not reached everybody who is still here.
    fn is_wanted(&self, letter: &LetterRecord) -> bool {
        let lacks = |identity: &[u8; 32]| self.has(identity) && !letter.delivered_to.contains(identity);
        !letter.read || letter.to.iter().any(lacks)
    }

    /// Shreds a drawer: its letters' names stay for a while, so that copies that come later are not taken for new.
    fn empty(&mut self, drawer: u32, today: Day, batch: &mut Batch) -> Result<(), Error> {
        self.keeping.drawers.shred(drawer);
        let there = self.keeping.letters.iter().filter(|(_, of)| **of == drawer);
        let there: Vec<u64> = there.map(|(at, _)| *at).collect();
        for at in there {
            self.keeping.letters.remove(&at);
            let Some(letter) = self.letters.remove(&at) else {
                continue;
            };
            let id = letter.letter.id;
            self.by_id.remove(&id);
            if !letter.read {
                self.record.unread = self.record.unread.saturating_sub(1);
            }
            self.keeping.gone.insert(at, (id, today));
            self.keeping.gone_ids.insert(id);
            batch.put(self.letter_name(at), encode(&Row::Gone { id, since: today })?);
        }
        Ok(())
    }
}
