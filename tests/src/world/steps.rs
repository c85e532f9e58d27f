//! A calm story in which one device dies at one durable step: told once for every step and both ways to die.

use martlet_proto::Time;

use super::{Died, Flaw, Outcome, World, device::Job};

/// How often somebody tries what a death undid.
const TRIES: usize = 4;

impl World {
    /// Opens a case, writes both ways, lets the client lose the thread and be taken in again, and writes both ways: with
    /// a death at the durable step of this number, counted from 1, just before it is kept or just after. Says whether
    /// there is such a step.
    ///
    /// # Errors
    ///
    /// What the checks found.
    pub fn die_at(step: u64, kept: bool, began: Time) -> Outcome<bool> {
        let mut world = Self::new(0, Flaw::None, began);
        world.doom = Some((step, kept));
        world.cast()?;
        world.settle()?;
        world.write_everywhere()?;
        world.come_back()?;
        world.write_everywhere()?;
        let died = world.commits >= step;
        world.doom = None;
        world.check()?;
        Ok(died)
    }

    /// Everybody writes a letter in each of their cases.
    fn write_everywhere(&mut self) -> Outcome {
        for at in 0..self.devices.len() {
            let cases = self.devices[at].memory.cases.iter();
            for id in cases.map(|case| *case.id()).collect::<Vec<_>>() {
                self.write(at, &id)?;
            }
        }
        self.settle()
    }

    /// The client of the first case asks to be taken in again, and counsel does it.
    fn come_back(&mut self) -> Outcome {
        let (client, counsel) = {
            let members = &self.stories[0].members;
            (
                self.people[members[0]].devices[0],
                self.people[members[1]].devices[0],
            )
        };
        let id = *self.devices[client].memory.cases[0].id();
        let before = self.epoch_code(client, &id)?;
        for _ in 0..TRIES {
            let now = self.clock(client);
            let entropy = &mut self.chance.entropy();
            let (me, case) = self.devices[client].memory.case(&id)?;
            let batch = case.ask(me, now, entropy).map_err(super::told)?;
            let _: Result<(), Died> = self.commit(client, &batch)?;
            self.devices[client].due.insert(Job::Case(id));
            self.settle()?;
            let name = self.devices[client].name.clone();
            let (me, case) = self.devices[counsel].memory.case(&id)?;
            if let Ok(batch) = case.readmit(me, &name) {
                let _: Result<(), Died> = self.commit(counsel, &batch)?;
            }
            self.settle()?;
            if self.epoch_code(client, &id)? != before {
                return Ok(());
            }
        }
        Err("the client is not taken in again".to_string())
    }

    fn epoch_code(&mut self, at: usize, id: &[u8; 16]) -> Outcome<String> {
        let (me, case) = self.devices[at].memory.case(id)?;
        Ok(case.safety(me, None).map_err(super::told)?.epoch_code)
    }
}
