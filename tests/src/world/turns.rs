//! The turns of a world: a device makes a call, the network carries it or not, the device takes the answer.

use martlet::{
    Error,
    case::{Case, Purpose},
    record::encode,
    vault::{Name, Table},
    verified,
};
use martlet_proto::{
    Answer, Call, Grant, Kind, Read, Refusal, Seq, Slot,
    derive::CardKeys,
    letter::{Body, LetterId},
};

use super::{
    Died, Flaw, Flight, Leg, Outcome, World, Written,
    device::{About, Asked, Job},
    told,
};

/// Times in a hundred that a call is lost, and that an answer is.
const LOST_PERCENT: usize = 10;
/// Times in a hundred that the relay is busy.
const BUSY_PERCENT: usize = 2;

impl World {
    /// A device makes the next call for a job; if there is none, the job is over.
    pub(super) fn ask(&mut self, at: usize, job: &Job) -> Outcome {
        let next = match job {
            Job::Invite(index) => {
                let next = self.next_of_invite(at, *index)?;
                next.map(|(call, step)| (call, About::Invite(step)))
            }
            Job::Opening(story) => Some((self.card_call(*story), About::Card)),
            Job::Case(id) => self.next_of_case(at, id)?,
        };
        let Some((call, about)) = next else {
            return Ok(());
        };
        let flight = self.next_flight;
        self.next_flight += 1;
        self.note(at, &format!("asks {flight}: {}", told_about(&about)));
        self.devices[at]
            .asked
            .insert(job.clone(), Asked { flight, about });
        self.flights.push(Flight {
            number: flight,
            device: at,
            job: job.clone(),
            leg: Leg::ToRelay(call),
        });
        Ok(())
    }

    fn next_of_case(&mut self, at: usize, id: &[u8; 16]) -> Outcome<Option<(Call, About)>> {
        let (now, entropy) = (self.clock(at), &mut self.chance.entropy());
        let (me, case) = self.devices[at].memory.case(id)?;
        let Some(next) = case.next(me, now, entropy).map_err(told)? else {
            self.devices[at].give_up(&Job::Case(*id));
            self.follow_new(at)?;
            return Ok(None);
        };
        if self.flaw != Flaw::CallsTooEarly
            && let Err(Died { .. }) = self.commit(at, &next.batch)?
        {
            return Ok(None);
        }
        self.overhear_call(at, &next.call);
        Ok(Some((next.call, About::Case(next.purpose))))
    }

    fn card_call(&self, story: usize) -> Call {
        let invite = self.invite_of(story);
        let keys = CardKeys::derive(&invite.seed);
        let grant = Grant {
            channel: keys.channel(&invite.mark),
            token: keys.read,
        };
        Call::new(&grant, Read { from: Seq::FIRST })
    }

    /// The relay takes some of the calls that are on their way to it, in one turn.
    pub(super) fn arrive(&mut self, numbers: &[u64]) -> Outcome {
        let (mut taken, mut calls) = (Vec::new(), Vec::new());
        for number in numbers {
            let Some(at) = self.flights.iter().position(|flight| flight.number == *number) else {
                continue;
            };
            let flight = self.flights.remove(at);
            let Leg::ToRelay(call) = &flight.leg else {
                return Err("a call is on its way from the relay".to_string());
            };
            if !self.calm && (self.devices[flight.device].cut || self.chance.percent(LOST_PERCENT)) {
                self.lose(&flight, "call");
            } else if !self.calm && self.chance.percent(BUSY_PERCENT) {
                self.answer(flight, Err(Refusal::Busy));
            } else {
                calls.push((u64::try_from(flight.device).unwrap(), call.clone()));
                taken.push(flight);
            }
        }
        let (answers, pushes) = self.relay.turn(self.now, &calls, &mut self.chance)?;
        if answers.len() != taken.len() {
            return Err("the relay leaves a call unanswered".to_string());
        }
        for (flight, answer) in taken.into_iter().zip(answers) {
            self.say(&format!(
                "the relay answers {}: {}",
                flight.number,
                told_answer(&answer)
            ));
            if !self.calm && (self.devices[flight.device].cut || self.chance.percent(LOST_PERCENT)) {
                self.lose(&flight, "answer");
            } else {
                self.answer(flight, answer);
            }
        }
        self.push(pushes);
        Ok(())
    }

    fn answer(&mut self, flight: Flight, answer: Result<Answer, Refusal>) {
        let leg = Leg::ToDevice(answer);
        self.flights.push(Flight { leg, ..flight });
    }

    pub(super) fn lose(&mut self, flight: &Flight, what: &str) {
        self.say(&format!("the {what} of {} is lost", flight.number));
        if self.awaits(flight) {
            self.devices[flight.device].give_up(&flight.job);
        }
    }

    /// Whether the device still waits for this.
    fn awaits(&self, flight: &Flight) -> bool {
        let asked = self.devices[flight.device].asked.get(&flight.job);
        asked.is_some_and(|asked| asked.flight == flight.number)
    }

    /// A device takes an answer, if it still waits for it.
    pub(super) fn deliver(&mut self, number: u64) -> Outcome {
        let Some(index) = self.flights.iter().position(|flight| flight.number == number) else {
            return Ok(());
        };
        let flight = self.flights.remove(index);
        if !self.awaits(&flight) {
            return Ok(());
        }
        let (at, job) = (flight.device, flight.job);
        let Leg::ToDevice(answer) = flight.leg else {
            return Err("an answer is on its way to the relay".to_string());
        };
        let Some(asked) = self.devices[at].asked.remove(&job) else {
            return Ok(());
        };
        self.note(at, &format!("takes the answer to {number}"));
        match (asked.about, &job) {
            (About::Invite(step), Job::Invite(index)) => self.invite_answered(at, *index, step, answer),
            (About::Card, Job::Opening(story)) => self.open(at, *story, answer),
            (About::Case(purpose), Job::Case(id)) => self.case_answered(at, id, purpose, answer),
            (about, job) => Err(format!("{about:?} for {job:?}")),
        }
    }

    fn case_answered(
        &mut self,
        at: usize,
        id: &[u8; 16],
        purpose: Purpose,
        answer: Result<Answer, Refusal>,
    ) -> Outcome {
        if let Ok(answer) = &answer {
            self.overhear_answer(at, answer);
        }
        let (now, entropy) = (self.clock(at), &mut self.chance.entropy());
        let early = self.flaw == Flaw::CallsTooEarly && purpose == Purpose::Draft;
        let (me, case) = self.devices[at].memory.case(id)?;
        match case.answered(me, purpose, answer, now, entropy) {
            // The commit that was just signed goes out before it is kept.
            Ok(_) if early => Ok(()),
            Ok(turn) => {
                // What happened is told once it is durable; whoever died before that hears of it another time.
                if let Err(Died { kept: false }) = self.commit(at, &turn.batch)? {
                    return Ok(());
                }
                self.hand_over(&turn);
                self.hear(at, turn.events)
            }
            Err(Error::Refused(Refusal::Busy | Refusal::Full)) => {
                self.devices[at].give_up(&Job::Case(*id));
                Ok(())
            }
            // What only people or time mend; whoever waits for ever is found when all is calm.
            Err(Error::Refused(_)) if self.large => {
                self.devices[at].give_up(&Job::Case(*id));
                Ok(())
            }
            Err(error) => Err(told(error)),
        }
    }

    /// A client read the card behind an invite: founds the case, perhaps with a first letter.
    fn open(&mut self, at: usize, story: usize, answer: Result<Answer, Refusal>) -> Outcome {
        self.devices[at].give_up(&Job::Opening(story));
        if self.is_open(story) {
            return Ok(());
        }
        let page = match answer {
            Ok(Answer::Slots(page)) => page,
            Err(Refusal::Closed | Refusal::Busy | Refusal::Full) => return Ok(()),
            other => return Err(format!("a card is answered {other:?}")),
        };
        let newest = page.slots.into_iter().rev().find_map(|slot| match slot {
            Slot::Here(entry) => Some(entry.envelope),
            Slot::Gone { .. } => None,
        });
        let Some(envelope) = newest else { return Ok(()) };
        let invite = self.invite_of(story);
        let keys = CardKeys::derive(&invite.seed);
        let content = envelope
            .open(&keys.envelope, &keys.channel(&invite.mark), Kind::Card)
            .map_err(|_| "the card cannot be opened")?;
        let card = verified::card(&invite, &content, self.clock(at)).map_err(told)?;
        let now = self.clock(at);
        let me = &mut self.devices[at].memory.me;
        let (index, label) = (me.profile().next_case, self.stories[story].label.clone());
        let entropy = &mut self.chance.entropy();
        let (mut case, mut batch) =
            Case::found(me, &invite, &card, label, index, now, entropy).map_err(told)?;
        let first = self.first_letter(at, &mut case)?.map(|(letter, more)| {
            batch.merge(more);
            letter
        });
        let me = &mut self.devices[at].memory.me;
        me.profile_mut().next_case = index + 1;
        batch.put(Name::one(Table::Profile), encode(me.profile()).map_err(told)?);
        self.note(at, &format!("founds {}", self.stories[story].label));
        let id = *case.id();
        let kept = match self.commit(at, &batch)? {
            Ok(()) => {
                let device = &mut self.devices[at];
                device.memory.cases.push(case);
                device.due.insert(Job::Case(id));
                true
            }
            Err(Died { kept }) => kept,
        };
        self.written.extend(first.filter(|_| kept));
        Ok(())
    }

    fn first_letter(
        &mut self,
        at: usize,
        case: &mut Case,
    ) -> Outcome<Option<(Written, martlet::vault::Batch)>> {
        if self.chance.percent(30) {
            return Ok(None);
        }
        let letter = self.letter(at, *case.id());
        let body = Body::Text(letter.text.clone());
        let me = &self.devices[at].memory.me;
        let batch = case.write(me, letter.id, &body, self.clock(at)).map_err(told)?;
        Ok(Some((letter, batch)))
    }

    /// A letter that nobody else ever writes.
    fn letter(&mut self, at: usize, case: [u8; 16]) -> Written {
        let id: LetterId = self.chance.entropy().letter();
        Written {
            case,
            device: at,
            id,
            text: format!("{} says {}", self.devices[at].name, id.to_text()),
            expected: Vec::new(),
            gone: Vec::new(),
        }
    }

    /// Somebody writes a letter. It exists once it is durable, whatever becomes of the device.
    pub(super) fn write(&mut self, at: usize, id: &[u8; 16]) -> Outcome {
        let (now, mut letter) = (self.clock(at), self.letter(at, *id));
        (letter.expected, letter.gone) = self.audience(at, id);
        let body = Body::Text(letter.text.clone());
        let (me, case) = self.devices[at].memory.case(id)?;
        if self.large && case.writable().is_err() {
            return Ok(());
        }
        let batch = case.write(me, letter.id, &body, now).map_err(told)?;
        case.look_again();
        self.devices[at].due.insert(Job::Case(*id));
        self.note(at, "writes a letter");
        match self.commit(at, &batch)? {
            Ok(()) | Err(Died { kept: true }) => self.written.push(letter),
            Err(Died { kept: false }) => {}
        }
        Ok(())
    }

    /// Somebody reads what is new in all their cases.
    pub(super) fn read(&mut self, at: usize) -> Outcome {
        let ids: Vec<[u8; 16]> = self.devices[at]
            .memory
            .cases
            .iter()
            .map(|case| *case.id())
            .collect();
        for id in ids {
            let (me, case) = self.devices[at].memory.case(&id)?;
            let new: Vec<LetterId> = case.letters(me, true).iter().map(|letter| letter.id).collect();
            let batch = case.mark_read(&new).map_err(told)?;
            if let Err(Died { .. }) = self.commit(at, &batch)? {
                return Ok(());
            }
        }
        Ok(())
    }
}

fn told_about(about: &About) -> String {
    match about {
        About::Invite(step) => format!("{step:?} for an invite"),
        About::Card => "reads a card".to_string(),
        About::Case(purpose) => format!("{purpose:?} for a case"),
    }
}

fn told_answer(answer: &Result<Answer, Refusal>) -> String {
    match answer {
        Ok(Answer::Tip(tip)) => format!("{} entries", tip.next.as_u64()),
        Ok(Answer::Placed(placed)) => format!("placed at {}", placed.first.as_u64()),
        Ok(Answer::Slots(page)) => format!("{} of {} entries", page.slots.len(), page.tip.next.as_u64()),
        Ok(Answer::Done) => "done".to_string(),
        Err(refusal) => refusal.to_string(),
    }
}
