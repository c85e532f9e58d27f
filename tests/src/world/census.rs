//! What must hold when a large story has settled: who is a member agrees, letters came to whom they were for, once and in
//! order, nobody reads what was written after they were gone, and nobody is stuck.

use martlet::{
    case::Case,
    record::Standing,
    view::{LetterKind, LetterView, Warning},
};
use martlet_proto::letter::LetterId;

use super::{Outcome, World, Written};

impl World {
    /// Everybody reads what is new and starts again; then all must fit together.
    pub(super) fn check_large(&mut self) -> Outcome {
        for at in 0..self.devices.len() {
            self.read(at)?;
            self.devices[at].reboot(&mut self.chance)?;
        }
        let members = self.members()?;
        self.check_epoch(&members)?;
        for at in 0..self.devices.len() {
            self.check_done(at, &members)?;
            self.check_held(at)?;
        }
        for writer in &members {
            self.check_sent(*writer, &members)?;
        }
        Ok(())
    }

    /// Who is a member agrees on the epoch, and so on who else is one.
    fn check_epoch(&self, members: &[usize]) -> Outcome {
        let first = *members.first().ok_or("nobody is in the case")?;
        let code = |at: usize| -> Outcome<String> {
            let device = &self.devices[at];
            let (case, me) = (&device.memory.cases[0], &device.memory.me);
            let view = case.view(me, 0, self.now);
            let other = view.members.iter().find(|member| !member.me);
            let other = other.ok_or_else(|| format!("{} is alone", device.name))?;
            let safety = case.safety(me, Some(&other.member));
            safety
                .map(|safety| safety.epoch_code)
                .map_err(|error| format!("{error:?}"))
        };
        let leaf = |at: usize| *self.devices[at].memory.me.leaf_public();
        let agreed = code(first)?;
        let case = &self.devices[first].memory.cases[0];
        for at in 0..self.devices.len() {
            let name = &self.devices[at].name;
            let member = members.contains(&at);
            if member && code(at)? != agreed {
                return Err(format!("{name} is in another epoch"));
            }
            if member != case.has_leaf(&leaf(at)) {
                let standing = self.case_of(at).map(|case| case.record().standing);
                return Err(format!("{name} is in the case or not, but at {standing:?}"));
            }
        }
        if members.iter().any(|at| case.is_led_by(&leaf(*at))) {
            Ok(())
        } else {
            Err("nobody leads the case".to_string())
        }
    }

    fn case_of(&self, at: usize) -> Option<&Case> {
        self.devices[at].memory.cases.first()
    }

    /// Nobody is stuck, and whoever is not in the case knows.
    fn check_done(&self, at: usize, members: &[usize]) -> Outcome {
        let device = &self.devices[at];
        let Some(case) = self.case_of(at) else {
            return Ok(());
        };
        let record = case.record();
        if !members.contains(&at) {
            let lost = record.standing == Standing::Lost && !record.warnings.contains(&Warning::Lost);
            return if lost {
                Err(format!("{} is out and does not know", device.name))
            } else {
                Ok(())
            };
        }
        let open = [
            ("a commit", record.commit_due || record.held_since.is_some()),
            ("receipts", !record.receipts_due.is_empty()),
            ("a wish", !record.wishes.is_empty()),
            ("a request", record.asking.is_some()),
            ("something to send", !device.durable.waiting().is_empty()),
        ];
        if let Some((what, _)) = open.iter().find(|(_, open)| *open) {
            let wish = record.wishes.first().map(|wish| format!("{wish:?}"));
            let wish = wish.unwrap_or_default();
            let wish = wish.split(' ').next().unwrap_or_default();
            return Err(format!(
                "{} is not done: there is {what} left: {wish}",
                device.name
            ));
        }
        Ok(())
    }

    /// Letters that a device holds: once each, written by somebody in the case, and not while it was out of it.
    fn check_held(&self, at: usize) -> Outcome {
        let name = &self.devices[at].name;
        let held = self.texts(at);
        for letter in &held {
            let written = self.written.iter().find(|written| written.id == letter.id);
            let written = written.ok_or_else(|| format!("{name} holds what nobody wrote"))?;
            if letter.text.as_ref() != Some(&written.text) {
                return Err(format!("{name} holds a changed letter"));
            }
            if written.gone.contains(&at) {
                return Err(format!("{name} reads what was written after they were gone"));
            }
            if held.iter().filter(|other| other.id == letter.id).count() != 1 {
                return Err(format!("{name} holds a letter twice"));
            }
        }
        Ok(())
    }

    /// What a member wrote is with every other who was a member then and is one still, in order, and the writer knows.
    fn check_sent(&self, writer: usize, members: &[usize]) -> Outcome {
        let own = self.texts(writer);
        let wrote: Vec<&Written> = self
            .written
            .iter()
            .filter(|letter| letter.device == writer)
            .collect();
        for reader in members {
            let (to, from) = (&self.devices[*reader].name, &self.devices[writer].name);
            let has: Vec<LetterId> = self.texts(*reader).iter().map(|letter| letter.id).collect();
            let due = wrote.iter().filter(|letter| letter.expected.contains(reader));
            for letter in due.clone() {
                if !has.contains(&letter.id) {
                    return Err(format!(
                        "one of {from}'s letters did not come to {to}: {}",
                        letter.text
                    ));
                }
            }
            let due: Vec<LetterId> = due.map(|letter| letter.id).collect();
            let came: Vec<LetterId> = has.into_iter().filter(|id| due.contains(id)).collect();
            if came != due && !self.returning && !self.forgotten {
                return Err(format!("{from}'s letters came to {to} in another order"));
            }
        }
        for letter in own.iter().filter(|letter| letter.mine) {
            let Some(written) = wrote.iter().find(|written| written.id == letter.id) else {
                continue;
            };
            let mut expected = written.expected.iter().filter(|at| members.contains(at));
            let told = |at: &usize| {
                self.name_in_case(*at)
                    .is_some_and(|name| letter.delivered_to.contains(&name) || self.same_owner(*at, writer))
            };
            if letter.queued || !expected.all(told) {
                let name = &self.devices[writer].name;
                return Err(format!("{name} does not know that a letter came"));
            }
        }
        Ok(())
    }

    fn same_owner(&self, one: usize, other: usize) -> bool {
        let identity = |at: usize| self.devices[at].memory.me.identity().public();
        identity(one) == identity(other)
    }

    fn name_in_case(&self, at: usize) -> Option<String> {
        let device = &self.devices[at];
        let view = self.case_of(at)?.view(&device.memory.me, 0, self.now);
        let mine = view.members.into_iter().find(|member| member.me);
        mine.map(|member| member.member)
    }

    fn texts(&self, at: usize) -> Vec<LetterView> {
        let Some(case) = self.case_of(at) else {
            return Vec::new();
        };
        let letters = case.letters(&self.devices[at].memory.me, false).into_iter();
        letters.filter(|letter| letter.kind == LetterKind::Text).collect()
    }

    /// Who should come to have a letter that is written now, and who must not: by what the writer's case knows.
    pub(super) fn audience(&self, at: usize, id: &[u8; 16]) -> (Vec<usize>, Vec<usize>) {
        let mut audience = (Vec::new(), Vec::new());
        let case = self.devices[at].memory.cases.iter().find(|case| case.id() == id);
        let Some(case) = case.filter(|_| self.large) else {
            return audience;
        };
        for other in (0..self.devices.len()).filter(|other| *other != at) {
            let me = &self.devices[other].memory.me;
            let identity = me.identity().public();
            let mut known = case.record().members.iter();
            if case.has_leaf(me.leaf_public()) {
                audience.0.push(other);
            } else if known.any(|member| member.identity == identity && !member.present) {
                audience.1.push(other);
            }
        }
        audience
    }
}
