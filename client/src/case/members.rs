//! What a person wishes to change in a case: who is in it, and who commits. SPEC.md 10.2.

use martlet_proto::{
    Time,
    card::Card,
    case::{Person, Role},
    invite::Invite,
    letter::{Body, LetterId},
    limits::{COUNSEL_DEVICES_MAX, PEOPLE_MAX},
};

use super::Case;
use crate::{
    error::{Error, Missing, Usage},
    me::Me,
    record::{Ask, MemberRecord, Wish},
    vault::Batch,
    verified::Verified,
};

impl Case {
    /// Has somebody added, with all the devices of their card.
    ///
    /// # Errors
    ///
    /// [`Usage::NotCommitter`], [`Usage::AlreadyMember`], [`Usage::OtherRelay`], [`Usage::TooManyMembers`],
    /// [`Usage::CaseEnded`].
    pub fn add(
        &mut self,
        me: &Me,
        invite: &Invite,
        card: &Verified<Card>,
        role: Role,
    ) -> Result<Batch, Error> {
        self.entitled(me)?;
        let card = card.get();
        let context = &self.epoch.context;
        if context.person(&card.identity).is_some() {
            return Err(Error::Usage(Usage::AlreadyMember));
        }
        if invite.pin != self.record.relay.pin {
            return Err(Error::Usage(Usage::OtherRelay));
        }
        let counsel = |leaf: &super::judge::LeafKeys| {
            leaf.identity.and_then(|identity| context.role(&identity)) == Some(Role::Counsel)
        };
        let leaves = self.group.members();
        let devices = leaves
            .iter()
            .map(super::judge::LeafKeys::from)
            .filter(counsel)
            .count();
        let full = role == Role::Counsel && devices.saturating_add(card.packages.len()) > COUNSEL_DEVICES_MAX;
        if full || context.people.len() >= PEOPLE_MAX {
            return Err(Error::Usage(Usage::TooManyMembers));
        }
        self.wish(Wish::Add {
            person: Person {
                identity: card.identity,
                role,
                name: card.name.clone(),
            },
            packages: card.packages.clone(),
            inbox: card.inbox.clone(),
        })
    }

    /// Has somebody removed, with all their devices.
    ///
    /// # Errors
    ///
    /// [`Usage::NotCommitter`], [`Usage::Yourself`], [`Missing::Member`], [`Usage::CaseEnded`].
    pub fn remove(&mut self, me: &Me, reference: &str) -> Result<Batch, Error> {
        self.entitled(me)?;
        let identity = self.person_named(reference)?;
        if identity == me.identity().public() {
            return Err(Error::Usage(Usage::Yourself));
        }
        self.wish(Wish::Remove { identity })
    }

    /// Takes somebody in again who asked for it: with all devices that ask and are in the case, or with the new device
    /// that asks, in place of all others. Of several new devices that ask it is the last one whose request recovery digits
    /// prove, or else the last.
    ///
    /// # Errors
    ///
    /// [`Usage::NotCommitter`], [`Missing::Member`], [`Missing::Ask`] if they did not ask.
    pub fn readmit(&mut self, me: &Me, reference: &str) -> Result<Batch, Error> {
        self.entitled(me)?;
        let identity = self.person_named(reference)?;
        let taken = self.to_readmit(&identity).into_iter();
        let packages: Vec<Vec<u8>> = taken.map(|ask| ask.package.clone()).collect();
        if packages.is_empty() {
            return Err(Error::NotFound(Missing::Ask));
        }
        let mut batch = Batch::default();
        for package in packages {
            batch.merge(self.wish(Wish::Readmit { identity, package })?);
        }
        Ok(batch)
    }

    /// The requests of a member that [`readmit`](Self::readmit) would take.
    fn to_readmit(&self, identity: &[u8; 32]) -> Vec<&Ask> {
        let asks = self.record.asks.iter().filter(|ask| ask.identity == *identity);
        let mut new = asks.clone().filter(|ask| !self.has_leaf(&ask.leaf));
        let proved = new.clone().rfind(|ask| ask.proved.is_some());
        match proved.or_else(|| new.next_back()) {
            Some(new) => vec![new],
            None => asks.collect(),
        }
    }

    /// The leaf keys of the devices that [`readmit`](Self::readmit) would take in.
    pub fn leaves_to_readmit(&self, identity: &[u8; 32]) -> Vec<[u8; 32]> {
        self.to_readmit(identity).iter().map(|ask| ask.leaf).collect()
    }

    /// Becomes the committer in place of another of counsel's devices.
    ///
    /// # Errors
    ///
    /// [`Usage::NotCounsel`] for whoever cannot; [`Usage::CaseEnded`].
    pub fn take_over(&mut self, me: &Me) -> Result<Batch, Error> {
        self.writable()?;
        if !self.may_commit() || self.role_of(&me.identity().public()) != Some(Role::Counsel) {
            return Err(Error::Usage(Usage::NotCounsel));
        }
        if self.is_committer(me) {
            return Ok(Batch::default());
        }
        self.wish(Wish::TakeOver)
    }

    /// Writes the letter by which a member leaves.
    ///
    /// # Errors
    ///
    /// [`Usage::Yourself`] for the committer, who must hand over first; [`Usage::CaseEnded`].
    pub fn leave(&mut self, me: &Me, id: LetterId, now: Time) -> Result<Batch, Error> {
        if self.is_committer(me) {
            return Err(Error::Usage(Usage::Yourself));
        }
        self.write(me, id, &Body::Leave, now)
    }

    /// Has this case never share a connection with another.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] if the record cannot be written.
    pub fn keep_apart(&mut self) -> Result<Batch, Error> {
        self.record.apart = true;
        let mut batch = Batch::default();
        self.save_record(&mut batch)?;
        Ok(batch)
    }

    /// Whether this device may change who is in the case.
    ///
    /// # Errors
    ///
    /// [`Usage::NotCounsel`], [`Usage::NotCommitter`], [`Usage::CaseEnded`].
    pub fn check_entitled(&self, me: &Me) -> Result<(), Error> {
        self.entitled(me)
    }

    /// Whether a device with one of these leaf keys asks to be taken in again.
    pub fn asks(&self, leaves: &[[u8; 32]]) -> bool {
        self.record.asks.iter().any(|ask| leaves.contains(&ask.leaf))
    }

    /// Whether the device of this leaf key commits.
    pub fn is_led_by(&self, leaf: &[u8; 32]) -> bool {
        self.epoch.context.committer == Some(*leaf)
    }

    /// Whether this device's own asking still waits for the relay.
    pub fn is_asking_unsent(&self) -> bool {
        self.record
            .asking
            .as_ref()
            .is_some_and(|asking| asking.placed.is_none())
    }

    /// Whether something that was wished for here still waits.
    pub fn is_changing(&self) -> bool {
        !self.record.wishes.is_empty()
    }

    /// Whether somebody of this identity is in the case.
    pub fn has(&self, identity: &[u8; 32]) -> bool {
        self.epoch.context.person(identity).is_some()
    }

    /// The identity of the member that a person names.
    ///
    /// # Errors
    ///
    /// [`Missing::Member`] or [`Usage::Ambiguous`].
    pub fn person_named(&self, reference: &str) -> Result<[u8; 32], Error> {
        let wanted = reference.trim().to_lowercase();
        let fits = |known: &&MemberRecord| {
            known.present
                && !wanted.is_empty()
                && (crate::shown::name_of_member(&known.identity).starts_with(&wanted)
                    || known.name.to_lowercase() == wanted)
        };
        let mut found = self.record.members.iter().filter(fits);
        match (found.next(), found.next()) {
            (Some(member), None) => Ok(member.identity),
            (Some(_), Some(_)) => Err(Error::Usage(Usage::Ambiguous)),
            (None, _) => Err(Error::NotFound(Missing::Member)),
        }
    }

    pub(super) fn wish_removal(&mut self, identity: [u8; 32]) {
        let same = |wish: &Wish| matches!(wish, Wish::Remove { identity: known } if *known == identity);
        if !self.record.wishes.iter().any(same) {
            self.record.wishes.push(Wish::Remove { identity });
        }
    }

    fn entitled(&self, me: &Me) -> Result<(), Error> {
        self.writable()?;
        if self.role_of(&me.identity().public()) != Some(Role::Counsel) {
            return Err(Error::Usage(Usage::NotCounsel));
        }
        if self.is_committer(me) || self.epoch.context.committer.is_none() {
            Ok(())
        } else {
            Err(Error::Usage(Usage::NotCommitter))
        }
    }

    pub(super) fn wish(&mut self, wish: Wish) -> Result<Batch, Error> {
        self.record.wishes.push(wish);
        let mut batch = Batch::default();
        self.save_record(&mut batch)?;
        Ok(batch)
    }
}
