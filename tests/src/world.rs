//! A world in one thread and from one seed: the relay's core and the cores of clients, people who write, and what is
//! between them: lost calls, lost answers, late calls, crashes, restarts, clocks that are wrong, days that pass.
//!
//! The client's `Case`, its invites and the relay's `turn` are the ones that ship. What their shells do around them is
//! played here: a batch is durable, or not, before a call is made; the call arrives, or not; its answer does, or not.
//! One seed is one run: nothing here asks the system for anything, except that the story begins on the day it is told.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::missing_panics_doc,
    reason = "tests count on small numbers"
)]

mod cast;
mod census;
mod chance;
mod check;
mod device;
mod insider;
mod invites;
mod large;
mod live;
mod members;
mod relay;
mod script;
mod steps;
mod turns;

use std::collections::BTreeSet;

use martlet::{
    Error,
    vault::Batch,
    view::{Event, Warning},
};
use martlet_proto::{Answer, Call, Refusal, Time, device::Joining, letter::LetterId};

use self::{
    chance::Chance,
    device::{Device, Job},
    relay::RelaySide,
};

/// What a step comes to; what went wrong is said for whoever reads the trace.
type Outcome<T = ()> = Result<T, String>;

/// Steps of a story, before all that goes wrong stops doing so.
const STEPS: usize = 280;
/// Letters that are written in a story at most.
const LETTERS_MAX: usize = 8;
/// Times in a hundred that a story has a second act, after the relay forgot everything or a long time passed.
const SECOND_ACTS_PERCENT: usize = 15;
/// Times in a hundred that a device dies around a batch: just before it is durable, and just after.
const DEATHS_PERCENT: usize = 3;

/// What is deliberately wrong with a world, to show that it would be noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing is.
    None,
    /// Devices forget what waits to be sent when they start again.
    OutboxForgotten,
    /// Devices make calls before what must be durable is.
    CallsTooEarly,
    /// The relay's disk dies at any time, again and again.
    RelayForgets,
    /// The relay loses this letter, counted from 0, after it was acknowledged.
    LetterLost(usize),
}

/// A run that came to a bad end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What was found.
    pub what: String,
    /// Every step that led there.
    pub trace: Vec<String>,
}

/// A device died around a batch.
struct Died {
    /// Whether the batch is durable.
    kept: bool,
}

/// A person: what they have in common with nobody else is their devices.
struct Person {
    name: String,
    devices: Vec<usize>,
}

/// A case as the story has it.
struct Story {
    /// By which its client knows it.
    label: String,
    /// The client first, then everybody else.
    members: Vec<usize>,
    /// Whose invite leads to it, and which of theirs.
    invite: (usize, u64),
}

/// A letter that somebody wrote.
struct Written {
    case: [u8; 16],
    device: usize,
    id: LetterId,
    text: String,
    /// In a large story: the devices that were in the case then by what the writer knew, and those no longer in it.
    expected: Vec<usize>,
    gone: Vec<usize>,
}

/// A call or an answer on its way.
struct Flight {
    number: u64,
    device: usize,
    job: Job,
    leg: Leg,
}

enum Leg {
    ToRelay(Call),
    ToDevice(Result<Answer, Refusal>),
}

/// The world.
pub struct World {
    chance: Chance,
    flaw: Flaw,
    began: Time,
    act_began: Time,
    now: Time,
    /// Whether the relay may have forgotten channels: then members are told so.
    forgotten: bool,
    relay: RelaySide,
    people: Vec<Person>,
    devices: Vec<Device>,
    stories: Vec<Story>,
    written: Vec<Written>,
    flights: Vec<Flight>,
    next_flight: u64,
    /// Whether all that went wrong has stopped doing so.
    calm: bool,
    /// Batches that were to be made durable so far, and at which of them a device dies: before or after it is.
    commits: u64,
    doom: Option<(u64, bool)>,
    /// Whether this is a story with a large cast; who was added in it, whose device is bent to other ends, and
    /// whether anybody was to be taken in again.
    large: bool,
    invited: BTreeSet<usize>,
    insider: Option<insider::Insider>,
    returning: bool,
    /// The private halves of what second devices offered, and what was handed over to them.
    offers: Vec<(usize, Vec<u8>)>,
    parcels: Vec<(usize, Joining)>,
    trace: Vec<String>,
}

impl World {
    /// Tells a seed's story to its end, and checks it; gives the trace of its steps.
    ///
    /// # Errors
    ///
    /// What the checks found, and how it came to it.
    pub fn run(seed: u64, flaw: Flaw, began: Time) -> Result<Vec<String>, Failure> {
        let mut world = Self::new(seed, flaw, began);
        match world.tell() {
            Ok(()) => Ok(world.trace),
            Err(what) => Err(Failure {
                what,
                trace: world.trace,
            }),
        }
    }

    fn tell(&mut self) -> Outcome {
        self.cast()?;
        self.script(STEPS / 2, LETTERS_MAX / 2)?;
        let old = self.relay.copy();
        self.script(STEPS / 2, LETTERS_MAX)?;
        self.settle()?;
        if self.flaw == Flaw::RelayForgets {
            return self.check_told();
        }
        self.check()?;
        if self.chance.percent(SECOND_ACTS_PERCENT) {
            self.intermission(old);
            self.script(STEPS / 2, self.written.len() + LETTERS_MAX / 2)?;
            self.settle()?;
            self.check()?;
        }
        Ok(())
    }

    fn new(seed: u64, flaw: Flaw, began: Time) -> Self {
        let until_loss = match flaw {
            Flaw::LetterLost(at) => Some(at),
            Flaw::None | Flaw::OutboxForgotten | Flaw::CallsTooEarly | Flaw::RelayForgets => None,
        };
        Self {
            chance: Chance::new(seed),
            flaw,
            began,
            act_began: began,
            now: began,
            forgotten: false,
            relay: RelaySide::new(until_loss),
            people: Vec::new(),
            devices: Vec::new(),
            stories: Vec::new(),
            written: Vec::new(),
            flights: Vec::new(),
            next_flight: 0,
            calm: true,
            commits: 0,
            doom: None,
            large: false,
            invited: BTreeSet::new(),
            insider: None,
            returning: false,
            offers: Vec::new(),
            parcels: Vec::new(),
            trace: Vec::new(),
        }
    }

    /// The time by a device's own clock.
    fn clock(&self, at: usize) -> Time {
        self.devices[at].clock(self.now)
    }

    fn note(&mut self, device: usize, what: &str) {
        let line = format!("{} {what}", self.devices[device].name);
        self.say(&line);
    }

    fn say(&mut self, what: &str) {
        let since = self.now.as_secs() - self.began.as_secs();
        let (days, hours, minutes) = (since / 86_400, since / 3600 % 24, since / 60 % 60);
        self.trace
            .push(format!("day {days:2} {hours:02}:{minutes:02}  {what}"));
    }

    /// Makes a batch durable, unless the device dies first; it may die right after, too.
    fn commit(&mut self, at: usize, batch: &Batch) -> Outcome<Result<(), Died>> {
        if !batch.is_empty() {
            self.commits += 1;
        }
        let doomed = |kept| !batch.is_empty() && self.doom == Some((self.commits, kept));
        let (doomed_before, doomed_after) = (doomed(false), doomed(true));
        if doomed_before || self.dies() {
            self.note(at, "dies before it kept what happened");
            // What it lost is still to be done: all is not quiet yet.
            self.devices[at].durable.changes += 1;
            self.crash(at)?;
            return Ok(Err(Died { kept: false }));
        }
        self.devices[at].durable.apply(batch);
        if doomed_after || self.dies() {
            self.note(at, "dies after it kept what happened");
            self.crash(at)?;
            return Ok(Err(Died { kept: true }));
        }
        Ok(Ok(()))
    }

    fn dies(&mut self) -> bool {
        !self.calm && self.chance.percent(DEATHS_PERCENT)
    }

    /// A device loses what it did not keep, and starts again. What it sent is on its way all the same.
    fn crash(&mut self, at: usize) -> Outcome {
        self.hang_up(at)?;
        let device = &mut self.devices[at];
        if self.flaw == Flaw::OutboxForgotten {
            device.durable.forget_outbox();
        }
        device.reboot(&mut self.chance)
    }

    /// An honest relay and honest people give no cause for warnings, unless the relay forgot something.
    fn hear(&mut self, at: usize, events: Vec<Event>) -> Outcome {
        for event in events {
            if let Event::Warning { warning, .. } = event
                && !(self.forgotten && warning == Warning::RelayForgot)
                && !(self.large && is_told_of_people(warning))
            {
                return Err(format!("{} is warned: {warning:?}", self.devices[at].name));
            }
        }
        Ok(())
    }
}

/// Warnings that are due to what people do or how long they are away.
fn is_told_of_people(warning: Warning) -> bool {
    matches!(
        warning,
        Warning::Lost | Warning::Removed | Warning::Silent | Warning::Asks
    )
}

fn told(error: Error) -> String {
    format!("{error:?}")
}
