//! A device of a simulated world: what it keeps through a crash, and what it does not.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use martlet::{
    case::{self, Case, Purpose},
    entropy::Entropy,
    me::Me,
    record::{CaseRecord, HomeRelay, InviteRecord, decode, encode},
    vault::{Batch, Name, Table},
};
use martlet_proto::{ChannelId, Secret, Slot, Time};

use super::{Outcome, chance::Chance, invites::Step, told};

/// How wrong a device's clock is at most, in seconds, either way: no two are a day apart.
const CLOCK_OFF_SECS_MAX: u64 = 12 * 3600 - 1;

/// What a device can be busy with. It makes one call at a time for each.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Job {
    /// Publishing an invite of its own, and reading its inbox.
    Invite(u64),
    /// Founding a case behind an invite: by the number of the story's case.
    Opening(usize),
    /// Speaking for a case.
    Case([u8; 16]),
}

/// A call whose answer is awaited.
pub(super) struct Asked {
    /// The number of its flight.
    pub(super) flight: u64,
    pub(super) about: About,
}

/// What an answer is handed to.
#[derive(Clone, Debug)]
pub(super) enum About {
    Invite(Step),
    Card,
    Case(Purpose),
}

/// What a vault would keep. A batch is applied whole or not at all.
#[derive(Default)]
pub(super) struct Durable {
    records: BTreeMap<Name, Vec<u8>>,
    ratchets: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Batches that changed something.
    pub(super) changes: u64,
}

impl Durable {
    pub(super) fn apply(&mut self, batch: &Batch) {
        if !batch.is_empty() {
            self.changes += 1;
        }
        for (name, record) in batch.records() {
            match record {
                Some(record) => self.records.insert(name, record.to_vec()),
                None => self.records.remove(&name),
            };
        }
        for (key, state) in batch.ratchets() {
            match state {
                Some(state) => self.ratchets.insert(key.to_vec(), state.to_vec()),
                None => self.ratchets.remove(key),
            };
        }
    }

    pub(super) fn ratchet(&self, key: &[u8]) -> Option<&[u8]> {
        self.ratchets.get(key).map(Vec::as_slice)
    }

    /// The cases in which something waits to be sent, receipts and first contacts included.
    pub(super) fn waiting(&self) -> BTreeSet<[u8; 16]> {
        let outbox = self.records.keys().filter(|name| name.table == Table::Outbox);
        outbox.map(|name| name.group).collect()
    }

    pub(super) fn forget_outbox(&mut self) {
        self.records.retain(|name, _| name.table != Table::Outbox);
    }

    fn rows<T: serde::de::DeserializeOwned>(
        &self,
        table: Table,
        group: [u8; 16],
    ) -> Outcome<BTreeMap<u64, T>> {
        self.records
            .range(Name::new(table, group, 0)..=Name::new(table, group, u64::MAX))
            .map(|(name, record)| Ok((name.index, decode(record).map_err(told)?)))
            .collect()
    }

    fn boot(&self, chance: &mut Chance) -> Outcome<Memory> {
        let profile = self.records.get(&Name::one(Table::Profile)).unwrap();
        let me = Me::from_profile(decode(profile).map_err(told)?).map_err(told)?;
        let mut cases = Vec::new();
        for (index, record) in self.rows::<CaseRecord>(Table::Cases, [0; 16])? {
            let ratchet = self.ratchet(&case::ratchet_name(&record.id));
            let ratchet = ratchet.ok_or("a case has no keys")?;
            let letters = self.rows(Table::Letters, record.id)?;
            let outbox = self.rows(Table::Outbox, record.id)?;
            let entropy: &mut Entropy = &mut chance.entropy();
            cases.push(Case::load(&me, index, record, ratchet, letters, outbox, entropy).map_err(told)?);
        }
        let invites = self.rows(Table::Invites, [0; 16])?;
        Ok(Memory { me, cases, invites })
    }
}

/// What a running program holds.
pub(super) struct Memory {
    pub(super) me: Me,
    pub(super) cases: Vec<Case>,
    pub(super) invites: BTreeMap<u64, InviteRecord>,
}

impl Memory {
    pub(super) fn case(&mut self, id: &[u8; 16]) -> Outcome<(&Me, &mut Case)> {
        let case = self.cases.iter_mut().find(|case| case.id() == id);
        Ok((&self.me, case.ok_or("a case vanished")?))
    }
}

/// A channel that is followed on a connection.
pub(super) struct Followed {
    pub(super) request: u32,
    pub(super) case: [u8; 16],
    pub(super) channel: ChannelId,
}

/// The connection on which a device follows.
pub(super) struct Live {
    pub(super) peer: u64,
    pub(super) followed: Vec<Followed>,
    /// Pushes on their way: the request and its slots, or a gap.
    pub(super) pushes: VecDeque<(u32, Option<Vec<Slot>>)>,
}

/// By how much a clock is ahead.
fn ahead(chance: &mut Chance) -> u64 {
    let off = usize::try_from(2 * CLOCK_OFF_SECS_MAX).unwrap();
    u64::try_from(chance.below(off)).unwrap()
}

/// A device.
pub(super) struct Device {
    /// Its owner's name.
    pub(super) name: String,
    /// By how many seconds its clock is ahead of [`CLOCK_OFF_SECS_MAX`] seconds ago.
    pub(super) ahead_secs: u64,
    pub(super) durable: Durable,
    pub(super) memory: Memory,
    /// What it is at: begun by its owner or a push, over when there is nothing to say or no network.
    pub(super) due: BTreeSet<Job>,
    pub(super) asked: BTreeMap<Job, Asked>,
    /// How far it is with each of its invites.
    pub(super) tending: BTreeMap<u64, Step>,
    pub(super) live: Option<Live>,
    /// Whether no network reaches it.
    pub(super) cut: bool,
}

impl Device {
    /// A new device of a new person.
    pub(super) fn new(name: &str, home: Option<HomeRelay>, now: Time, chance: &mut Chance) -> Outcome<Self> {
        let ahead = ahead(chance);
        let me = Me::new(name.to_string(), home, now.day(), &mut chance.entropy()).map_err(told)?;
        Self::with(name, &me, ahead, chance)
    }

    /// A further device of a person.
    pub(super) fn of(
        name: &str,
        owner: &str,
        identity: Secret<32>,
        now: Time,
        chance: &mut Chance,
    ) -> Outcome<Self> {
        let ahead = ahead(chance);
        let (owner, entropy) = (owner.to_string(), &mut chance.entropy());
        let me = Me::on_new_device(owner, identity, None, now.day(), entropy).map_err(told)?;
        Self::with(name, &me, ahead, chance)
    }

    fn with(name: &str, me: &Me, ahead_secs: u64, chance: &mut Chance) -> Outcome<Self> {
        let mut batch = Batch::default();
        batch.put(Name::one(Table::Profile), encode(me.profile()).map_err(told)?);
        let mut durable = Durable::default();
        durable.apply(&batch);
        Ok(Self {
            name: name.to_string(),
            ahead_secs,
            memory: durable.boot(chance)?,
            durable,
            due: BTreeSet::new(),
            asked: BTreeMap::new(),
            tending: BTreeMap::new(),
            live: None,
            cut: false,
        })
    }

    /// The time by its clock.
    pub(super) fn clock(&self, now: Time) -> Time {
        Time::from_secs(now.as_secs() - CLOCK_OFF_SECS_MAX).plus_secs(self.ahead_secs)
    }

    /// Loses everything that is not durable, and starts again.
    pub(super) fn reboot(&mut self, chance: &mut Chance) -> Outcome {
        self.memory = self.durable.boot(chance)?;
        self.due.clear();
        self.asked.clear();
        self.tending.clear();
        Ok(())
    }

    /// Gives up a job: its owner, or a push, will begin it again.
    pub(super) fn give_up(&mut self, job: &Job) {
        self.due.remove(job);
        self.asked.remove(job);
        if let Job::Invite(index) = job {
            self.tending.remove(index);
        }
    }

    /// What it does when its owner opens the program: everything is looked at again.
    pub(super) fn wake(&mut self) {
        for case in &mut self.memory.cases {
            case.look_again();
            case.look_for_asks();
            self.due.insert(Job::Case(*case.id()));
        }
        let invites = self.memory.invites.keys();
        self.due.extend(invites.map(|index| Job::Invite(*index)));
    }
}
