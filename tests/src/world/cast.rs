//! Who is in a story: people, their devices, and the cases that will be opened between them.

use martlet::{
    inbox::{self, Wanted},
    record::{HomeRelay, encode},
    vault::{Name, Table},
};
use martlet_proto::{card::Uses, invite::Invite};

use super::{Outcome, Person, Story, World, device::Device, told};

/// Days for which the invites of a story are good.
const INVITE_DAYS: u32 = 60;

/// The names of counsel and of clients, and who of the latter meets whom of the former.
type Cast = (
    &'static [&'static str],
    &'static [&'static str],
    &'static [(usize, usize)],
);

/// Two people; one counsel with two clients; and four people of whom no two have all cases in common.
const CASTS: [Cast; 3] = [
    (&["Ines"], &["Amal"], &[(0, 0)]),
    (&["Ines"], &["Amal", "Yusuf"], &[(0, 0), (1, 0)]),
    (&["Ines", "Noor"], &["Amal", "Yusuf"], &[(0, 0), (1, 0), (0, 1)]),
];

impl World {
    /// Fills the world with people, each with a device, and gives every client an invite.
    pub(super) fn cast(&mut self) -> Outcome {
        let likely = [0, 0, 0, 0, 1, 1, 2];
        let (counsel, clients, cases) = CASTS[self.chance.pick(&likely).unwrap_or(0)];
        for (name, home) in counsel
            .iter()
            .map(|name| (name, true))
            .chain(clients.iter().map(|name| (name, false)))
        {
            let home = home.then(|| HomeRelay {
                relay: self.relay.address.clone(),
                admission: self.relay.admission.clone(),
            });
            let device = Device::new(name, home, self.now, &mut self.chance)?;
            self.people.push(Person {
                name: (*name).to_string(),
                devices: vec![self.devices.len()],
            });
            self.devices.push(device);
        }
        let once = self.chance.percent(50);
        for (client, with) in cases {
            let invite = if once || self.devices[*with].memory.invites.is_empty() {
                self.invite(*with, if once { Uses::Once } else { Uses::Many })?
            } else {
                0
            };
            let client = counsel.len() + client;
            self.stories.push(Story {
                label: format!("story {}", self.stories.len()),
                members: vec![client, *with],
                invite: (*with, invite),
            });
        }
        // In most stories the cards are there before anything goes wrong.
        if self.chance.percent(70) {
            self.run_dry()
        } else {
            Ok(())
        }
    }

    pub(super) fn invite(&mut self, person: usize, uses: Uses) -> Outcome<u64> {
        let at = self.people[person].devices[0];
        let now = self.clock(at);
        let device = &mut self.devices[at];
        let index = device.memory.me.profile().next_invite;
        let home = device.memory.me.profile().relay.clone().ok_or("no relay")?;
        let wanted = Wanted {
            uses,
            label: None,
            days: INVITE_DAYS,
            apart: false,
        };
        let entropy = &mut self.chance.entropy();
        let (record, mut batch) =
            inbox::create(&device.memory.me, home, wanted, index, now, entropy).map_err(told)?;
        device.memory.me.profile_mut().next_invite = index + 1;
        let profile = encode(device.memory.me.profile()).map_err(told)?;
        batch.put(Name::one(Table::Profile), profile);
        device.durable.apply(&batch);
        device.memory.invites.insert(index, record);
        device.wake();
        Ok(index)
    }

    /// The invite that leads to a case.
    pub(super) fn invite_of(&self, story: usize) -> Invite {
        let (person, index) = self.stories[story].invite;
        let device = &self.devices[self.people[person].devices[0]];
        device.memory.invites[&index].text.parse().unwrap()
    }

    /// Whether a client has the case already.
    pub(super) fn is_open(&self, story: usize) -> bool {
        let story = &self.stories[story];
        let device = &self.devices[self.people[story.members[0]].devices[0]];
        let cases = &device.memory.cases;
        cases.iter().any(|case| case.record().label == story.label)
    }
}
