//! What must hold when everything has settled, of what is durable.

use std::collections::BTreeSet;

use martlet::view::{CaseView, LetterKind, LetterView, Standing, Warning, name_of};
use martlet_proto::{Time, letter::LetterId};

use super::{Outcome, World, device::Device};

/// What a device shows of one case.
struct Shown {
    /// By which others know its owner.
    me: String,
    epoch_code: String,
    letters: Vec<LetterView>,
}

impl World {
    /// Everybody reads what is new and starts again; then all must fit together.
    pub(super) fn check(&mut self) -> Outcome {
        for at in 0..self.devices.len() {
            self.read(at)?;
            let before = shows(&self.devices[at], self.now);
            self.devices[at].reboot(&mut self.chance)?;
            let device = &self.devices[at];
            if shows(device, self.now) != before {
                return Err(format!("{} shows something else when started again", device.name));
            }
            if !device.durable.waiting().is_empty() {
                return Err(format!("{} still has something to send", device.name));
            }
        }
        let mut cases = BTreeSet::new();
        for story in 0..self.stories.len() {
            cases.insert(self.check_story(story)?);
        }
        self.check_nothing_else(&cases)
    }

    /// Where entries were lost for good, cases may have to wait for people: whoever waits has been told so.
    pub(super) fn check_told(&mut self) -> Outcome {
        for device in &mut self.devices {
            let now = device.clock(self.now);
            device.reboot(&mut self.chance)?;
            for id in device.durable.waiting() {
                let (me, case) = device.memory.case(&id)?;
                let view = case.view(me, 0, now);
                if !view.warnings.contains(&Warning::RelayForgot) {
                    return Err(format!("{} waits and does not know why", device.name));
                }
            }
        }
        Ok(())
    }

    fn check_story(&self, story: usize) -> Outcome<[u8; 16]> {
        let story = &self.stories[story];
        let founder = &self.devices[self.people[story.members[0]].devices[0]];
        let mut founded = founder
            .memory
            .cases
            .iter()
            .filter(|case| case.record().label == story.label);
        let id = match (founded.next(), founded.next()) {
            (Some(case), None) => *case.id(),
            (None, _) => return Err(format!("{} was never opened", story.label)),
            (Some(_), Some(_)) => return Err(format!("{} was opened twice", story.label)),
        };
        let people = story.members.iter().map(|member| &self.people[*member]);
        let devices: Vec<usize> = people.flat_map(|person| person.devices.iter().copied()).collect();
        let shown = devices
            .iter()
            .map(|at| self.shown(*at, &id))
            .collect::<Outcome<Vec<Shown>>>()?;
        let everybody: BTreeSet<&String> = shown.iter().map(|shown| &shown.me).collect();
        for (at, shows) in devices.iter().zip(&shown) {
            if shows.epoch_code != shown[0].epoch_code {
                return Err(format!("{} is in another epoch", self.devices[*at].name));
            }
            for writer in &devices {
                self.check_order(&id, *writer, *at, &shows.letters)?;
            }
        }
        for (at, shows) in devices.iter().zip(&shown) {
            self.check_own(*at, shows, &everybody)?;
        }
        Ok(id)
    }

    fn shown(&self, at: usize, id: &[u8; 16]) -> Outcome<Shown> {
        let device = &self.devices[at];
        let wrong = |what: &str| format!("{} {what} {}", device.name, name_of(id));
        let mut of_id = device.memory.cases.iter().filter(|case| case.id() == id);
        let (Some(case), None) = (of_id.next(), of_id.next()) else {
            return Err(wrong("does not have once the case"));
        };
        let me = &device.memory.me;
        let view = case.view(me, 0, device.clock(self.now));
        let record = case.record();
        let done = record.standing == Standing::Member
            && !record.commit_due
            && record.held_since.is_none()
            && record.receipts_due.is_empty();
        if !done {
            return Err(wrong("is not done with"));
        }
        if !view.warnings.is_empty() {
            return Err(format!("{}: {:?}", wrong("is warned about"), view.warnings));
        }
        if view.unread > 0 || view.unsent > 0 {
            return Err(wrong("counts wrongly in"));
        }
        let other = view.members.iter().find(|member| !member.me);
        let other = other.ok_or_else(|| wrong("is alone in"))?;
        let mine = view.members.iter().find(|member| member.me);
        let safety = case.safety(me, Some(&other.member));
        Ok(Shown {
            me: mine.ok_or_else(|| wrong("is not in"))?.member.clone(),
            epoch_code: safety.map_err(|error| wrong(&error.to_string()))?.epoch_code,
            letters: without_notices(case.letters(me, false)),
        })
    }

    /// What one device wrote is on another once, and in the order in which it was written.
    fn check_order(&self, case: &[u8; 16], writer: usize, reader: usize, letters: &[LetterView]) -> Outcome {
        let written = self.written.iter();
        let wrote: Vec<(LetterId, &str)> = written
            .filter(|letter| letter.case == *case && letter.device == writer)
            .map(|letter| (letter.id, letter.text.as_str()))
            .collect();
        let ids: BTreeSet<LetterId> = wrote.iter().map(|(id, _)| *id).collect();
        let has: Vec<(LetterId, &str)> = letters
            .iter()
            .filter(|letter| ids.contains(&letter.id))
            .filter_map(|letter| Some((letter.id, letter.text.as_deref()?)))
            .collect();
        if has == wrote {
            return Ok(());
        }
        let (writer, reader) = (&self.devices[writer].name, &self.devices[reader].name);
        if has.len() == wrote.len() {
            return Err(format!("{reader} has {writer}'s letters in another order"));
        }
        Err(format!(
            "of {writer}'s {} letters {reader} has {}",
            wrote.len(),
            has.len()
        ))
    }

    /// What a device wrote is sent, and everybody else said that it came.
    fn check_own(&self, at: usize, shows: &Shown, everybody: &BTreeSet<&String>) -> Outcome {
        for letter in shows.letters.iter().filter(|letter| letter.mine) {
            let delivered: BTreeSet<&String> = letter.delivered_to.iter().collect();
            let others = everybody.iter().filter(|member| **member != &shows.me);
            if letter.queued || delivered != others.copied().collect() {
                let name = &self.devices[at].name;
                return Err(format!("{name} does not know that a letter came"));
            }
        }
        Ok(())
    }

    /// No device holds a case that is not in the story, or a letter that nobody wrote in that case.
    fn check_nothing_else(&self, cases: &BTreeSet<[u8; 16]>) -> Outcome {
        for person in &self.people {
            for device in person.devices.iter().map(|at| &self.devices[*at]) {
                for case in &device.memory.cases {
                    let of_case = self.written.iter().filter(|letter| letter.case == *case.id());
                    let wrote: BTreeSet<LetterId> = of_case.map(|letter| letter.id).collect();
                    let letters = without_notices(case.letters(&device.memory.me, false));
                    let foreign = letters.iter().any(|letter| !wrote.contains(&letter.id));
                    if !cases.contains(case.id()) || foreign || letters.len() != wrote.len() {
                        return Err(format!("{} holds what is not theirs", person.name));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Letters that people wrote: each device makes notices for itself.
fn without_notices(letters: Vec<LetterView>) -> Vec<LetterView> {
    let written = letters
        .into_iter()
        .filter(|letter| letter.kind != LetterKind::Notice);
    written.collect()
}

/// All that a device's owner sees.
fn shows(device: &Device, now: Time) -> Vec<(CaseView, Vec<LetterView>)> {
    let me = &device.memory.me;
    let cases = device.memory.cases.iter();
    cases
        .map(|case| (case.view(me, 0, device.clock(now)), case.letters(me, false)))
        .collect()
}

impl World {
    /// A story in which counsel's devices then say nothing for some days: whether the client is told so, and whether
    /// that ends when counsel is back.
    ///
    /// # Errors
    ///
    /// What went wrong in the story before.
    pub fn silence(seed: u64, days: u64, began: Time) -> Outcome<(bool, bool)> {
        let mut world = Self::new(seed, super::Flaw::None, began);
        world.cast()?;
        world.settle()?;
        let client = world.people[world.stories[0].members[0]].devices[0];
        let mut silent = Vec::new();
        for everybody in [false, true] {
            world.now = world.now.plus_secs(if everybody { 60 } else { days * 86_400 });
            for _ in 0..2 {
                for at in (0..world.devices.len()).rev() {
                    if everybody || at == client {
                        world.devices[at].wake();
                    }
                }
                world.run_dry()?;
            }
            let device = &world.devices[client];
            let now = device.clock(world.now);
            let mut cases = device.memory.cases.iter();
            let warned = cases.any(|case| {
                let view = case.view(&device.memory.me, 0, now);
                view.warnings.contains(&Warning::Silent)
            });
            silent.push(warned);
        }
        Ok((silent[0], silent[1]))
    }
}
