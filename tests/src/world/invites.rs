//! What the client's shell does for its owner's invites, one call at a time: publishing cards, withdrawing them, and
//! taking in what arrives in their inboxes. The order of the steps is that of the client's `tend_invites`.

use martlet::{
    inbox,
    record::{PackageKeys, Publish, decode, encode},
    vault::{Batch, Name, Table},
    view::InviteState,
};
use martlet_proto::{
    Answer, Append, Call, Cursor, Drop, Entry, Kind, Read, Refusal, Seq, Slot, Trim,
    call::{Item, Slots},
    card::Uses,
};

use super::{Died, Outcome, World, device::Job, told};

/// The next call for an invite.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    OpenCard,
    OpenInbox,
    PlaceCard,
    TrimCard(Seq),
    DropCard,
    DropInbox,
    Read,
    Reopen,
    TrimInbox(Seq),
}

impl World {
    /// Where to begin with an invite, or to go on when its card is there; `None` when nothing is left to do.
    fn begin_invite(&mut self, at: usize, index: u64) -> Outcome<Result<Option<Step>, Died>> {
        let now = self.clock(at);
        let device = &mut self.devices[at];
        let keys = packages(device.durable.ratchet(&inbox::packages_name(index)))?;
        let record = device
            .memory
            .invites
            .get_mut(&index)
            .ok_or("an invite vanished")?;
        let mut batch = Batch::default();
        if inbox::is_due(record, now) {
            let entropy = &mut self.chance.entropy();
            inbox::renew(&device.memory.me, record, index, keys, now, entropy, &mut batch).map_err(told)?;
            self.note(at, "makes a new card");
        }
        let record = &self.devices[at].memory.invites[&index];
        let step = match (&record.publish, record.state) {
            (Publish::Card { .. }, _) => Some(Step::OpenCard),
            (Publish::Withdraw, _) => Some(Step::DropCard),
            (Publish::Done, InviteState::Open) => Some(Step::Read),
            (Publish::Done, InviteState::Used | InviteState::Revoked) => None,
        };
        Ok(self.commit(at, &batch)?.map(|()| step))
    }

    /// The next call for an invite.
    pub(super) fn next_of_invite(&mut self, at: usize, index: u64) -> Outcome<Option<(Call, Step)>> {
        let step = match self.devices[at].tending.get(&index) {
            Some(step) => *step,
            None => match self.begin_invite(at, index)? {
                Ok(Some(step)) => step,
                Ok(None) => {
                    self.devices[at].give_up(&Job::Invite(index));
                    return Ok(None);
                }
                Err(Died { .. }) => return Ok(None),
            },
        };
        let record = &self.devices[at].memory.invites[&index];
        let admission = Some(record.home.admission.clone());
        let call = match step {
            Step::OpenCard => Call::new(&record.card.writer(), record.card.opening(admission)),
            Step::OpenInbox | Step::Reopen => {
                Call::new(&record.inbox.writer(), record.inbox.opening(admission))
            }
            Step::PlaceCard => {
                let Publish::Card { entry, envelope } = &record.publish else {
                    return Err("a card vanished before it was published".to_string());
                };
                let items = vec![Item {
                    kind: Kind::Card,
                    id: *entry,
                    envelope: envelope.clone(),
                }];
                Call::new(&record.card.writer(), Append { within: None, items })
            }
            Step::TrimCard(before) => Call::new(&record.card.keeper(), Trim { before }),
            Step::DropCard => Call::new(&record.card.keeper(), Drop),
            Step::DropInbox => Call::new(&record.inbox.keeper(), Drop),
            Step::Read => {
                let from = record.cursor.map_or(Seq::FIRST, |cursor| cursor.seq);
                Call::new(&record.inbox.reader(), Read { from })
            }
            Step::TrimInbox(before) => Call::new(&record.inbox.keeper(), Trim { before }),
        };
        Ok(Some((call, step)))
    }

    /// Takes an answer about an invite.
    pub(super) fn invite_answered(
        &mut self,
        at: usize,
        index: u64,
        step: Step,
        answer: Result<Answer, Refusal>,
    ) -> Outcome {
        let next = match (step, answer) {
            (Step::OpenCard, Ok(Answer::Tip(_))) => Ok(Some(Step::OpenInbox)),
            (Step::OpenInbox, Ok(Answer::Tip(_))) => Ok(Some(Step::PlaceCard)),
            (Step::PlaceCard, Ok(Answer::Placed(placed))) => Ok(Some(Step::TrimCard(placed.first))),
            (Step::DropCard, Ok(Answer::Done) | Err(Refusal::Closed)) => Ok(Some(Step::DropInbox)),
            (Step::TrimCard(_), Ok(Answer::Done))
            | (Step::DropInbox, Ok(Answer::Done) | Err(Refusal::Closed)) => {
                let record = self.devices[at].memory.invites.get_mut(&index).unwrap();
                record.publish = Publish::Done;
                let go_on = (record.state == InviteState::Open).then_some(Step::Read);
                self.save_invite(at, index)?.map(|()| go_on)
            }
            (Step::Read, Err(Refusal::Closed)) => Ok(Some(Step::Reopen)),
            (Step::Reopen, Ok(Answer::Tip(_))) => self.read_anew(at, index)?,
            (Step::Read, Ok(Answer::Slots(page))) => self.take_packets(at, index, page)?,
            (Step::TrimInbox(_), Ok(Answer::Done)) => Ok(None),
            (_, Err(Refusal::Busy | Refusal::Full)) => {
                self.devices[at].give_up(&Job::Invite(index));
                return Ok(());
            }
            (_, Err(Refusal::Closed)) if self.forgotten => {
                self.devices[at].give_up(&Job::Invite(index));
                return Ok(());
            }
            (step, answer) => return Err(format!("an invite at {step:?} is answered {answer:?}")),
        };
        let device = &mut self.devices[at];
        match next {
            Ok(Some(next)) => {
                device.tending.insert(index, next);
            }
            // A single-use invite may have been used up just now: it is begun again, until nothing is left.
            Ok(None) if matches!(device.memory.invites[&index].publish, Publish::Withdraw) => {
                device.tending.insert(index, Step::DropCard);
            }
            Ok(None) => device.give_up(&Job::Invite(index)),
            Err(Died { .. }) => {}
        }
        Ok(())
    }

    fn save_invite(&mut self, at: usize, index: u64) -> Outcome<Result<(), Died>> {
        let mut batch = Batch::default();
        let record = &self.devices[at].memory.invites[&index];
        batch.put(inbox::record_name(index), encode(record).map_err(told)?);
        self.commit(at, &batch)
    }

    fn read_anew(&mut self, at: usize, index: u64) -> Outcome<Result<Option<Step>, Died>> {
        inbox::forgotten(self.devices[at].memory.invites.get_mut(&index).unwrap());
        Ok(self.save_invite(at, index)?.map(|()| Some(Step::Read)))
    }

    fn take_packets(&mut self, at: usize, index: u64, page: Slots) -> Outcome<Result<Option<Step>, Died>> {
        let record = &self.devices[at].memory.invites[&index];
        let from = record.cursor.map_or(Seq::FIRST, |cursor| cursor.seq);
        let known = record.cursor.map(|cursor| cursor.incarnation);
        if known.is_some_and(|known| known != page.tip.incarnation) {
            return self.read_anew(at, index);
        }
        let mut seq = from;
        for slot in page.slots {
            seq = slot.seq().next().unwrap();
            let incarnation = page.tip.incarnation;
            if let Err(died) = self.take_packet(at, index, &slot, Cursor { incarnation, seq })? {
                return Ok(Err(died));
            }
        }
        Ok(Ok(if seq < page.tip.next {
            Some(Step::Read)
        } else {
            (seq > from).then_some(Step::TrimInbox(seq))
        }))
    }

    /// Takes one slot of an inbox: what it brings and the place to read on from are in one batch.
    fn take_packet(
        &mut self,
        at: usize,
        index: u64,
        slot: &Slot,
        cursor: Cursor,
    ) -> Outcome<Result<(), Died>> {
        let now = self.clock(at);
        let device = &mut self.devices[at];
        let keys = packages(device.durable.ratchet(&inbox::packages_name(index)))?;
        let memory = &mut device.memory;
        let record = memory.invites.get_mut(&index).unwrap();
        record.cursor = Some(cursor);
        let number = memory.me.profile().next_case;
        let joined = match slot {
            Slot::Here(Entry {
                kind: Kind::Packet,
                envelope,
                ..
            }) if record.state == InviteState::Open => {
                let entropy = &mut self.chance.entropy();
                inbox::receive(&memory.me, record, &keys, envelope, number, now, entropy).map_err(told)?
            }
            Slot::Here(_) | Slot::Gone { .. } => None,
        };
        let mut batch = Batch::default();
        batch.put(inbox::record_name(index), encode(record).map_err(told)?);
        let Some((case, founded)) =
            joined.filter(|(case, _)| !memory.cases.iter().any(|known| known.id() == case.id()))
        else {
            return self.commit(at, &batch);
        };
        batch.merge(founded);
        if record.uses == Uses::Once {
            batch.merge(inbox::withdraw(record, index, InviteState::Used).map_err(told)?);
        }
        memory.me.profile_mut().next_case = number + 1;
        batch.put(
            Name::one(Table::Profile),
            encode(memory.me.profile()).map_err(told)?,
        );
        let id = *case.id();
        self.note(at, "joins a case");
        Ok(self.commit(at, &batch)?.map(|()| {
            let device = &mut self.devices[at];
            device.memory.cases.push(case);
            device.due.insert(Job::Case(id));
        }))
    }
}

fn packages(keys: Option<&[u8]>) -> Outcome<PackageKeys> {
    keys.map_or(Ok(PackageKeys::default()), |keys| decode(keys).map_err(told))
}
