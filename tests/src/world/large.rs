//! A story with a large cast: five people with seven devices in one case. People are added, removed and leave, come back
//! through the rescue channel, link a second device and take over, while calls are lost and devices die or are cut off.

use martlet::{
    mls::keypackage,
    record::{DeviceRecord, HomeRelay, Standing, encode},
    vault::{Batch, Name, Table},
};
use martlet_proto::{Time, card::Uses, case::Role};

use super::{
    Failure, Flaw, Outcome, Person, Story, World,
    device::{Device, Job},
    insider::Insider,
    told,
};

/// Steps of a large story's acts, before all that goes wrong stops doing so.
const STEPS: usize = 260;
/// Letters that are written in an act at most.
const LETTERS_MAX: usize = 10;
/// How often everybody looks whether anything is left to do, and the minutes between: commits that are not urgent wait
/// for an hour.
const ROUNDS_MAX: usize = 40;
const ROUND_MINUTES: u64 = 25;
/// Times in a hundred that an old copy of the relay is put back, and there is a second act.
const RESTORED_PERCENT: usize = 10;
/// Days for which those who still wait are given time.
const DAYS_WAITED: usize = 2;
/// Times in a hundred that a long time passes and there is a second act.
const SECOND_ACTS_PERCENT: usize = 25;
/// Times in a hundred that one of those who are not counsel works against the others.
const INSIDERS_PERCENT: usize = 40;
/// Days that may pass between two acts.
const GAPS_DAYS: [u64; 5] = [2, 20, 35, 100, 400];
/// Days for which the key package of a second device is good.
const PACKAGE_DAYS: u64 = 90;
const DAY: u64 = 86_400;

/// Who is in a large story besides Ines, who is counsel, and Amal, her client.
pub(super) const OTHERS: [(&str, Role); 3] = [
    ("Yusuf", Role::Interpreter),
    ("Noor", Role::Counsel),
    ("Omar", Role::Observer),
];
/// By number of the person: Ines, who leads the case at first; and who has a second device.
pub(super) const INES: usize = 0;
pub(super) const AMAL: usize = 1;

impl World {
    /// Tells a seed's story with the large cast to its end, and checks it; gives the trace of its steps.
    ///
    /// # Errors
    ///
    /// What the checks found, and how it came to it.
    pub fn run_large(seed: u64, flaw: Flaw, began: Time) -> Result<Vec<String>, Failure> {
        let mut world = Self::new(seed, flaw, began);
        world.large = true;
        match world.tell_large() {
            Ok(()) => Ok(world.trace),
            Err(what) => Err(Failure {
                what,
                trace: world.trace,
            }),
        }
    }

    fn tell_large(&mut self) -> Outcome {
        self.cast_large()?;
        self.settle_large()?;
        // In most stories many are there before anything goes wrong; the others come in while it does.
        if self.chance.percent(70) {
            for at in [INES, AMAL, INES, INES, INES, INES] {
                if let Some(id) = self.only_case(at) {
                    self.propose_device(at, id)?;
                    self.add_somebody(at, id)?;
                }
            }
            self.settle_large()?;
        }
        let old = self.relay.copy();
        self.act_large()?;
        if self.chance.percent(RESTORED_PERCENT) {
            self.put_back(old);
            self.act_large()?;
        } else if self.chance.percent(SECOND_ACTS_PERCENT) {
            let days = self.chance.pick(&GAPS_DAYS).unwrap_or(2);
            self.now = self.now.plus_secs(days * DAY);
            self.act_began = self.now;
            self.forgotten |= days > 20;
            self.say("a long time has passed");
            self.act_large()?;
        }
        Ok(())
    }

    fn act_large(&mut self) -> Outcome {
        self.script(STEPS, self.written.len() + LETTERS_MAX)?;
        self.settle_large()?;
        self.check_large()
    }

    /// Ines with a relay, Amal with her invite, and three more with invites of their own; two second devices.
    fn cast_large(&mut self) -> Outcome {
        for name in ["Ines", "Amal"].into_iter().chain(OTHERS.map(|(name, _)| name)) {
            let home = HomeRelay {
                relay: self.relay.address.clone(),
                admission: self.relay.admission.clone(),
            };
            let device = Device::new(name, Some(home), self.now, &mut self.chance)?;
            self.people.push(Person {
                name: name.to_string(),
                devices: vec![self.devices.len()],
            });
            self.devices.push(device);
        }
        let invite = self.invite(INES, Uses::Once)?;
        for person in 2..self.people.len() {
            self.invite(person, Uses::Many)?;
        }
        self.stories.push(Story {
            label: "story 0".to_string(),
            members: vec![AMAL, INES],
            invite: (INES, invite),
        });
        for person in [INES, AMAL] {
            self.second_device(person)?;
        }
        if self.chance.percent(INSIDERS_PERCENT) {
            let person = self.chance.pick(&[AMAL, 2, 4]).unwrap_or(AMAL);
            self.insider = Some(Insider::new(self.people[person].devices[0]));
        }
        self.run_dry()
    }

    /// A second device of a person, for which the first one vouches; it is not in any case yet.
    fn second_device(&mut self, person: usize) -> Outcome {
        let (first, second) = (self.people[person].devices[0], self.devices.len());
        let owner = &self.devices[first].memory.me;
        let home = owner.profile().relay.clone().ok_or("no relay")?;
        let identity = owner.profile().identity.clone();
        let name = format!("{}'s second device", self.people[person].name);
        let device = Device::of(&name, owner.name(), identity, self.now, &mut self.chance)?;
        let now = self.now.as_secs();
        let me = &device.memory.me;
        let package = keypackage(
            self.chance.entropy().secret(),
            me.leaf(),
            Some(me.keep_public()),
            now - DAY,
            now + PACKAGE_DAYS * DAY,
        )
        .map_err(|error| format!("{error:?}"))?;
        let record = DeviceRecord {
            leaf: *me.leaf_public(),
            name,
            seed: self.chance.entropy().secret(),
            home,
            keep_key: me.keep_public().to_vec(),
            packages: vec![package.public],
            cursor: None,
            outgoing: Vec::new(),
            history: None,
        };
        self.offers.push((second, package.private.to_vec()));
        self.devices.push(device);
        self.people[person].devices.push(second);
        let owner = &mut self.devices[first];
        owner.memory.me.profile_mut().devices.push(record);
        let mut batch = Batch::default();
        let profile = encode(owner.memory.me.profile()).map_err(told)?;
        batch.put(Name::one(Table::Profile), profile);
        owner.durable.apply(&batch);
        Ok(())
    }

    /// Nothing goes wrong any more, and people do what they are asked for, until nothing changes.
    fn settle_large(&mut self) -> Outcome {
        self.calm = true;
        self.say("all is calm");
        for device in &mut self.devices {
            device.cut = false;
        }
        self.run_dry()?;
        let mut days = 0;
        for _ in 0..ROUNDS_MAX {
            let before = self.changes();
            self.now = self.now.plus_secs(ROUND_MINUTES * 60);
            for at in 0..self.devices.len() {
                self.wake(at);
                self.take_parcels(at)?;
            }
            self.run_dry()?;
            for at in 0..self.devices.len() {
                self.answer_asks(at)?;
            }
            self.replace_lost_leader()?;
            // A commit for fresh keys alone waits for an hour after the last one.
            if self.changes() != before || self.waits_for_commit() {
                continue;
            }
            if days == DAYS_WAITED || !self.waits_for_a_day() {
                return Ok(());
            }
            days += 1;
            self.now = self.now.plus_secs(DAY);
        }
        Err(format!(
            "after {ROUNDS_MAX} rounds there is still something to do"
        ))
    }

    /// Whether a member's device that leads the case has something to commit.
    fn waits_for_commit(&self) -> bool {
        let leads = |device: &Device| {
            let case = device.memory.cases.first();
            let case = case.filter(|case| case.record().standing == Standing::Member);
            case.is_some_and(|case| case.is_led_by(device.memory.me.leaf_public()) && case.is_changing())
        };
        self.devices.iter().any(leads)
    }

    /// Whether somebody waits for what happens once a day: the leader finds a full channel by the letter that it writes then,
    /// and a request whose channel expired is placed again.
    fn waits_for_a_day(&self) -> bool {
        self.devices.iter().any(|device| {
            let case = device.memory.cases.first();
            let case = case.filter(|case| case.record().standing != Standing::Removed);
            case.is_some_and(|case| case.record().asking.is_some() || !device.durable.waiting().is_empty())
        })
    }

    /// The case of the story, on a device that has it.
    pub(super) fn only_case(&self, at: usize) -> Option<[u8; 16]> {
        self.devices[at].memory.cases.first().map(|case| *case.id())
    }

    /// Makes durable what somebody wished for in the case, and has it taken up.
    pub(super) fn wished(&mut self, at: usize, id: [u8; 16], what: &str, batch: &Batch) -> Outcome {
        self.note(at, what);
        if self.commit(at, batch)?.is_ok() {
            self.devices[at].due.insert(Job::Case(id));
        }
        Ok(())
    }
}
