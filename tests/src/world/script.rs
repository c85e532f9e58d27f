//! What happens next: chosen by the seed while the story is told, and everything that is left when it settles.

use martlet::view::InviteState;
use martlet_server::store::memory::Memory;

use super::{Flaw, Leg, Outcome, Story, World, device::Job};

/// Days that an act takes at most: less than a letter lives at the relay.
const DAYS_MAX: u64 = 25;
/// Days that may pass between two acts: more than a case lives at the relay.
const LONG_DAYS_MAX: usize = 600;
/// How often everybody looks whether anything is left to do, before they are said to be stuck.
const ROUNDS_MAX: usize = 24;
/// Times in a hundred that somebody does something that changes a large case.
const CHANGES_PERCENT: usize = 8;
/// Times in a hundred that an insider, if there is one, does something.
const PLOTS_PERCENT: usize = 8;
/// Steps of one such round at most.
const ROUND_STEPS_MAX: usize = 3000;

impl World {
    /// An act: people, devices, the network and time, each as the seed has it.
    pub(super) fn script(&mut self, steps: usize, letters_max: usize) -> Outcome {
        self.calm = false;
        for _ in 0..steps {
            let at = self.chance.below(self.devices.len());
            if self.large && self.chance.percent(CHANGES_PERCENT) {
                self.change_members(at)?;
            }
            if self.insider.is_some() && self.chance.percent(PLOTS_PERCENT) {
                self.plot()?;
            }
            match self.chance.below(200) {
                0..=89 => self.network()?,
                90..=166 => self.act(at)?,
                167..=172 => self.write_somewhere(at, letters_max)?,
                173..=175 => self.wake(at),
                176..=177 => self.read(at)?,
                178..=180 => self.pass_time(),
                181 => {
                    self.note(at, "dies");
                    self.crash(at)?;
                }
                182 => self.restart_relay()?,
                183 => self.cut(at)?,
                184 => self.lose_patience(at),
                185..=188 => self.go_live(at)?,
                189 => self.hang_up(at)?,
                _ => self.take_push(at)?,
            }
            if self.flaw == Flaw::RelayForgets && self.chance.below(250) == 0 {
                self.forget();
            }
            if self.devices[at].cut && self.chance.percent(5) {
                self.cut(at)?;
            }
        }
        Ok(())
    }

    /// Whatever is on its way goes on.
    fn network(&mut self) -> Outcome {
        let Some((number, outward)) = self.any_flight() else {
            return Ok(());
        };
        if !outward {
            return self.deliver(number);
        }
        let mut numbers = vec![number];
        while self.chance.percent(30) {
            match self.any_flight() {
                Some((more, true)) if !numbers.contains(&more) => numbers.push(more),
                Some(_) | None => break,
            }
        }
        self.arrive(&numbers)
    }

    fn any_flight(&mut self) -> Option<(u64, bool)> {
        let flights = self.flights.iter();
        let all: Vec<(u64, bool)> = flights
            .map(|flight| (flight.number, matches!(flight.leg, Leg::ToRelay(_))))
            .collect();
        self.chance.pick(&all)
    }

    /// A device goes on with one of the jobs that do not wait for an answer, or its owner takes it up again.
    fn act(&mut self, at: usize) -> Outcome {
        let device = &self.devices[at];
        let free = device.due.iter().filter(|job| !device.asked.contains_key(job));
        let free: Vec<Job> = free.cloned().collect();
        match self.chance.pick(&free) {
            Some(job) => self.ask(at, &job),
            None => {
                if device.asked.is_empty() && !self.calm {
                    self.wake(at);
                }
                Ok(())
            }
        }
    }

    /// Somebody writes a letter, or several at once.
    fn write_somewhere(&mut self, at: usize, letters_max: usize) -> Outcome {
        let cases = self.devices[at].memory.cases.iter();
        let ids: Vec<[u8; 16]> = cases.map(|case| *case.id()).collect();
        let Some(id) = self.chance.pick(&ids) else {
            return Ok(());
        };
        let most = letters_max.saturating_sub(self.written.len());
        let letters = if self.chance.percent(20) { 6 } else { 1 };
        for _ in 0..letters.min(most) {
            self.write(at, &id)?;
        }
        Ok(())
    }

    /// Somebody opens the program; a client who was given an invite and has no case yet tries it.
    pub(super) fn wake(&mut self, at: usize) {
        self.note(at, "looks at everything again");
        self.devices[at].wake();
        for story in 0..self.stories.len() {
            let client = self.stories[story].members[0];
            if self.people[client].devices[0] == at && !self.is_open(story) {
                self.devices[at].due.insert(Job::Opening(story));
            }
        }
    }

    fn pass_time(&mut self) {
        let (unit, most) = self
            .chance
            .pick(&[(60, 90), (3600, 30), (86_400, 3)])
            .unwrap_or((60, 90));
        let later = u64::try_from((1 + self.chance.below(most)) * unit).unwrap();
        let end = self.act_began.plus_secs(DAYS_MAX * 86_400);
        self.now = self.now.plus_secs(later).min(end);
        self.say("time has passed");
    }

    /// Between two acts, when everybody has read everything: the relay's disk dies, with an old copy of it or without, or nobody
    /// does anything for long.
    pub(super) fn intermission(&mut self, old: Memory) {
        if self.chance.percent(40) {
            self.forget();
            self.open_again();
        } else if self.chance.percent(50) {
            self.put_back(old);
        } else {
            let days = 20 + self.chance.below(LONG_DAYS_MAX);
            self.now = self.now.plus_secs(u64::try_from(days * 86_400).unwrap());
            self.say("a long time has passed");
            self.forgotten = true;
        }
        self.act_began = self.now;
    }

    /// The relay's operator puts an old copy of its disk back, and says so to the relay.
    pub(super) fn put_back(&mut self, copy: Memory) {
        self.say("an old copy of the relay is put back");
        self.forgotten = true;
        self.relay.put_back(copy, &mut self.chance);
        for device in &mut self.devices {
            device.live = None;
        }
    }

    fn forget(&mut self) {
        self.say("the relay forgets everything");
        self.forgotten = true;
        self.relay.forget();
        for device in &mut self.devices {
            device.live = None;
        }
    }

    /// Clients whose invites are good for many use them once more.
    fn open_again(&mut self) {
        for story in 0..self.stories.len() {
            let Story { members, invite, .. } = &self.stories[story];
            let (members, invite) = (members.clone(), *invite);
            let device = &self.devices[self.people[invite.0].devices[0]];
            if device.memory.invites[&invite.1].state == InviteState::Open {
                let label = format!("story {}", self.stories.len());
                self.stories.push(Story {
                    label,
                    members,
                    invite,
                });
            }
        }
    }

    /// The relay restarts: connections break, and what was on its way to it may not arrive.
    fn restart_relay(&mut self) -> Outcome {
        self.say("the relay restarts");
        self.relay.restart();
        for device in &mut self.devices {
            device.live = None;
        }
        let (gone, left) = std::mem::take(&mut self.flights)
            .into_iter()
            .partition(|flight| matches!(flight.leg, Leg::ToRelay(_)) && self.chance.percent(50));
        self.flights = left;
        let gone: Vec<super::Flight> = gone;
        for flight in &gone {
            self.lose(flight, "call");
        }
        Ok(())
    }

    fn cut(&mut self, at: usize) -> Outcome {
        let device = &mut self.devices[at];
        device.cut = !device.cut;
        let what = if device.cut {
            "is cut off"
        } else {
            "is reached again"
        };
        self.note(at, what);
        self.hang_up(at)
    }

    /// A device waits no longer for an answer; the call may arrive all the same, and late.
    fn lose_patience(&mut self, at: usize) {
        let jobs: Vec<Job> = self.devices[at].asked.keys().cloned().collect();
        if let Some(job) = self.chance.pick(&jobs) {
            self.note(at, "loses patience");
            self.devices[at].give_up(&job);
        }
    }

    /// Nothing goes wrong any more: everybody goes on until nothing changes.
    pub(super) fn settle(&mut self) -> Outcome {
        self.calm = true;
        self.say("all is calm");
        for device in &mut self.devices {
            device.cut = false;
        }
        // What was on its way may still be a refusal that sends a device away until it is woken.
        self.run_dry()?;
        for _ in 0..ROUNDS_MAX {
            let before = self.changes();
            self.now = self.now.plus_secs(60);
            for at in 0..self.devices.len() {
                self.wake(at);
            }
            self.run_dry()?;
            if self.changes() == before {
                return Ok(());
            }
        }
        Err(format!(
            "after {ROUNDS_MAX} rounds there is still something to do"
        ))
    }

    pub(super) fn changes(&self) -> u64 {
        self.devices.iter().map(|device| device.durable.changes).sum()
    }

    /// Goes on in any order until nobody has anything to say and nothing is on its way.
    pub(super) fn run_dry(&mut self) -> Outcome {
        let most = if self.large {
            10 * ROUND_STEPS_MAX
        } else {
            ROUND_STEPS_MAX
        };
        for _ in 0..most {
            let busy = |at: &usize| {
                let device = &self.devices[*at];
                let pushes = device.live.as_ref().is_some_and(|live| !live.pushes.is_empty());
                pushes || device.due.iter().any(|job| !device.asked.contains_key(job))
            };
            let busy: Vec<usize> = (0..self.devices.len()).filter(busy).collect();
            match self.chance.pick(&busy) {
                None if self.flights.is_empty() => return Ok(()),
                Some(at) if self.flights.is_empty() || self.chance.percent(50) => {
                    self.take_push(at)?;
                    self.act(at)?;
                }
                Some(_) | None => self.network()?,
            }
        }
        Err(format!("after {most} steps somebody still asks"))
    }
}
