//! What people of a large story do besides writing: add, remove, leave, take over, ask to be taken in again, take others
//! in again, and bring a second device into the case.

use martlet::{
    case::{Case, Turn},
    record::{Standing, encode},
    vault::{Name, Table},
    verified::{self, Verified},
};
use martlet_proto::{
    Answer, Call, Grant, Kind, Read, Seq, Slot, card::Card, derive::CardKeys, invite::Invite,
};

use super::{Died, Outcome, World, device::Job, large::OTHERS, told};

impl World {
    /// Somebody does something that changes who is in the case, or who leads it.
    pub(super) fn change_members(&mut self, at: usize) -> Outcome {
        let Some(id) = self.only_case(at) else {
            return self.take_parcels(at);
        };
        match self.chance.below(20) {
            0..=6 => self.add_somebody(at, id),
            7..=8 => self.remove_somebody(at, id),
            9 => self.leave(at, id),
            10..=11 => self.take_over(at, id),
            12..=13 => self.ask_back(at, id),
            14..=15 => self.answer_asks(at),
            16 => self.withdraw_device(at, id),
            _ => self.propose_device(at, id),
        }
    }

    /// Somebody who was not in the case before is added by whoever leads it. The card is read without faults: reading
    /// one changes nothing.
    pub(super) fn add_somebody(&mut self, at: usize, id: [u8; 16]) -> Outcome {
        let other = self.chance.below(OTHERS.len());
        let (person, role) = (2 + other, OTHERS[other].1);
        let (me, case) = self.devices[at].memory.case(&id)?;
        if self.invited.contains(&person) || case.check_entitled(me).is_err() {
            return Ok(());
        }
        let inviter = &self.devices[self.people[person].devices[0]];
        let invite: Invite = inviter.memory.invites[&0].text.parse().unwrap();
        let Some(card) = self.card(at, &invite)? else {
            return Ok(());
        };
        let (me, case) = self.devices[at].memory.case(&id)?;
        let Ok(batch) = case.add(me, &invite, &card, role) else {
            return Ok(());
        };
        let what = format!("adds {}", self.people[person].name);
        self.note(at, &what);
        match self.commit(at, &batch)? {
            Ok(()) | Err(Died { kept: true }) => {
                self.invited.insert(person);
                self.devices[at].due.insert(Job::Case(id));
            }
            Err(Died { kept: false }) => {}
        }
        Ok(())
    }

    fn card(&mut self, at: usize, invite: &Invite) -> Outcome<Option<Verified<Card>>> {
        let keys = CardKeys::derive(&invite.seed);
        let channel = keys.channel(&invite.mark);
        let grant = Grant {
            channel,
            token: keys.read.clone(),
        };
        let call = Call::new(&grant, Read { from: Seq::FIRST });
        let peer = u64::try_from(at).unwrap();
        let (mut answers, pushes) = self.relay.turn(self.now, &[(peer, call)], &mut self.chance)?;
        self.push(pushes);
        let Some(Ok(Answer::Slots(page))) = answers.pop() else {
            return Ok(None);
        };
        let newest = page.slots.into_iter().rev().find_map(|slot| match slot {
            Slot::Here(entry) => Some(entry.envelope),
            Slot::Gone { .. } => None,
        });
        let Some(envelope) = newest else { return Ok(None) };
        let content = envelope.open(&keys.envelope, &channel, Kind::Card);
        let content = content.map_err(|_| "the card cannot be opened")?;
        // A card that has expired is no use; its owner makes another when they look.
        Ok(verified::card(invite, &content, self.clock(at)).ok())
    }

    /// One of those who were added is removed, for good.
    fn remove_somebody(&mut self, at: usize, id: [u8; 16]) -> Outcome {
        let person = 2 + self.chance.below(OTHERS.len());
        let name = self.people[person].name.clone();
        let (me, case) = self.devices[at].memory.case(&id)?;
        match case.remove(me, &name) {
            Ok(batch) => self.wished(at, id, &format!("removes {name}"), &batch),
            Err(_) => Ok(()),
        }
    }

    /// Whoever is neither the client nor counsel may want to leave.
    fn leave(&mut self, at: usize, id: [u8; 16]) -> Outcome {
        let owners = [2, 4].map(|person| self.people[person].devices[0]);
        let asks = self.devices[at].memory.cases[0].record().asking.is_some();
        if asks || !owners.contains(&at) || !self.chance.percent(30) {
            return Ok(());
        }
        let (now, letter) = (self.clock(at), self.chance.entropy().letter());
        let (me, case) = self.devices[at].memory.case(&id)?;
        match case.leave(me, letter, now) {
            Ok(batch) => self.wished(at, id, "asks to leave", &batch),
            Err(_) => Ok(()),
        }
    }

    fn take_over(&mut self, at: usize, id: [u8; 16]) -> Outcome {
        let (me, case) = self.devices[at].memory.case(&id)?;
        match case.take_over(me) {
            Ok(batch) if !batch.is_empty() => self.wished(at, id, "takes over", &batch),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Somebody asks to be taken in again, or one of their devices does.
    fn ask_back(&mut self, at: usize, id: [u8; 16]) -> Outcome {
        let now = self.clock(at);
        let entropy = &mut self.chance.entropy();
        let (me, case) = self.devices[at].memory.case(&id)?;
        match case.ask(me, now, entropy) {
            Ok(batch) if !batch.is_empty() => {
                self.returning = true;
                self.wished(at, id, "asks to be taken in again", &batch)
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Whoever leads the case takes in again those who asked for it.
    pub(super) fn answer_asks(&mut self, at: usize) -> Outcome {
        let Some(id) = self.only_case(at) else {
            return Ok(());
        };
        for person in 0..self.people.len() {
            let name = self.people[person].name.clone();
            let (me, case) = self.devices[at].memory.case(&id)?;
            if case.is_changing() {
                continue;
            }
            if let Ok(batch) = case.readmit(me, &name) {
                self.returning = true;
                self.wished(at, id, &format!("takes {name} in again"), &batch)?;
            }
        }
        Ok(())
    }

    /// A first device proposes the second one, if it is not in the case.
    pub(super) fn propose_device(&mut self, at: usize, id: [u8; 16]) -> Outcome {
        let (now, letter) = (self.clock(at), self.chance.entropy().letter());
        let (me, case) = self.devices[at].memory.case(&id)?;
        let Some(second) = me.profile().devices.first().cloned() else {
            return Ok(());
        };
        if !case.lacks_device(&second.leaf) {
            return Ok(());
        }
        let package = second.packages[0].clone();
        match case.propose_device(me, &second.leaf, package, letter, now) {
            Ok(batch) => self.wished(at, id, "proposes the second device", &batch),
            Err(_) => Ok(()),
        }
    }

    /// A first device has the second one removed: it is lost, and whoever has it must not read on.
    fn withdraw_device(&mut self, at: usize, id: [u8; 16]) -> Outcome {
        let (now, letter) = (self.clock(at), self.chance.entropy().letter());
        let (me, case) = self.devices[at].memory.case(&id)?;
        let Some(second) = me.profile().devices.first().map(|device| device.leaf) else {
            return Ok(());
        };
        match case.withdraw_device(me, &second, letter, now) {
            Ok(batch) if !batch.is_empty() => self.wished(at, id, "withdraws the second device", &batch),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Keeps what a turn hands to further devices. The client's shell keeps it in the batch of the turn, and so it
    /// lives and dies with that.
    pub(super) fn hand_over(&mut self, turn: &Turn) {
        for (leaf, joining) in &turn.parcels {
            let of_leaf = |device: &super::Device| device.memory.me.leaf_public() == leaf;
            if let Some(to) = self.devices.iter().position(of_leaf) {
                self.parcels.push((to, joining.clone()));
            }
        }
    }

    /// A second device takes what was handed to it, and comes into the case.
    pub(super) fn take_parcels(&mut self, at: usize) -> Outcome {
        if self.devices[at].cut || !self.devices[at].memory.cases.is_empty() {
            return Ok(());
        }
        let mut parcels = self.parcels.iter().rev();
        let joining = parcels.find(|(to, _)| *to == at);
        let offer = self.offers.iter().find(|(of, _)| *of == at);
        if let (Some((_, joining)), Some((_, private))) = (joining, offer) {
            let (joining, private) = (joining.clone(), private.clone());
            let now = self.clock(at);
            let entropy = &mut self.chance.entropy();
            let me = &mut self.devices[at].memory.me;
            let number = me.profile().next_case;
            let (case, mut batch) =
                Case::join_as_device(me, joining, &private, number, now, entropy).map_err(told)?;
            me.profile_mut().next_case = number + 1;
            let profile = encode(me.profile()).map_err(told)?;
            batch.put(Name::one(Table::Profile), profile);
            let id = *case.id();
            self.note(at, "comes into the case as a second device");
            if self.commit(at, &batch)?.is_ok() {
                self.devices[at].memory.cases.push(case);
                self.devices[at].due.insert(Job::Case(id));
            }
            return Ok(());
        }
        Ok(())
    }

    /// If whoever leads the case cannot go on, another of counsel's devices takes over by its owner's command.
    pub(super) fn replace_lost_leader(&mut self) -> Outcome {
        let members = self.members()?;
        let leads = |at: &usize| {
            let device = &self.devices[*at];
            let cases = &device.memory.cases;
            cases[0].is_led_by(device.memory.me.leaf_public())
        };
        if members.iter().any(leads) {
            return Ok(());
        }
        for at in members {
            if let Some(id) = self.only_case(at) {
                self.take_over(at, id)?;
            }
        }
        Ok(())
    }

    /// The devices that take themselves for members of the case.
    pub(super) fn members(&self) -> Outcome<Vec<usize>> {
        let member = |at: &usize| {
            let case = self.devices[*at].memory.cases.first();
            case.is_some_and(|case| case.record().standing == Standing::Member)
        };
        Ok((0..self.devices.len()).filter(member).collect())
    }
}
