//! A case over an honest relay (`SPEC.md`, 10.1 to 10.4): who is in which epoch, what lies in the channels, which letters
//! were read. The steps stand in `case/steps.rs`, what reading does in `case/read.rs`.

mod read;
mod steps;

use super::{Rule, search::World};

/// The client, who writes.
pub const AMAL: usize = 0;
/// Counsel's first device, which commits.
pub const INES: usize = 1;
/// Counsel's second device.
pub const INES_TWO: usize = 2;

/// Which world: rules in force, how many of each thing, which faults.
#[derive(Clone, Debug)]
pub struct Case {
    /// The rules that are taken away.
    pub without: &'static [Rule],
    /// How many devices counsel has: one or two.
    pub devices: usize,
    /// Letters that Amal writes.
    pub letters: u8,
    /// How often Mallory may act.
    pub insider: u8,
    /// How many faults may happen.
    pub faults: u8,
    /// Commits without need, such as a refresh.
    pub idle_commits: u8,
    /// Faults that this world has.
    pub with: Faults,
}

/// Kinds of faults, each a step that may come at any time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// A program ends between two durable steps.
    pub crash: bool,
    /// Counsel's first device is seized or destroyed.
    pub seize: bool,
    /// Letters of a channel expire after 30 days.
    pub letters_expire: bool,
    /// A whole channel expires after 400 days.
    pub channels_expire: bool,
    /// A commit is valid and works for some, not for others.
    pub broken: bool,
    /// A person commands a takeover though the committer lives.
    pub takeover: bool,
}

impl Case {
    /// Whether a rule is in force.
    pub fn keeps(&self, rule: Rule) -> bool {
        !self.without.contains(&rule)
    }
}

/// A commit, made once; it leads to the epoch with its index plus one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Commit {
    /// The epoch it was made in.
    pub parent: u8,
    /// Counsel's device; `None` is Mallory.
    pub author: Option<u8>,
    /// Whether Mallory is still a member afterwards.
    pub mallory_stays: bool,
    /// Devices removed and added again, a bit each.
    pub again: u8,
    /// Devices for which it does not work, a bit each.
    pub broken: u8,
    /// Whether it refers to a standalone proposal.
    pub refers: bool,
}

/// What lies in a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// Amal's letter with this id.
    Letter(u8),
    /// Something that is not valid.
    Junk,
    /// A standalone proposal.
    Proposal,
    /// The commit with this index.
    Commit(u8),
    /// It expired; its digest remains.
    Gone,
}

/// An epoch's channel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Channel {
    /// Whether the relay has it.
    pub exists: bool,
    /// How often it was opened afresh.
    pub incarnation: u8,
    /// Whether only the keeper may add.
    pub sealed: bool,
    /// Its entries.
    pub log: Vec<Entry>,
}

/// How a device stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It follows the log.
    Follows,
    /// It stopped, and needs rescue.
    Stopped,
    /// It is gone for good.
    Dead,
}

/// A commit on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pending {
    /// None.
    None,
    /// Stored, not yet at the relay.
    Stored(Commit),
    /// At the relay, not yet applied by its author.
    Sealed(u8),
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Device {
    /// Its epoch.
    pub epoch: u8,
    /// How it stands.
    pub standing: Standing,
    /// How many entries of its epoch's channel it read.
    pub cursor: u8,
    /// The incarnation that it knows; zero when it has seen none.
    pub incarnation: u8,
    /// Whether an MLS proposal is pending.
    pub proposal: bool,
    /// Its commit on its way.
    pub pending: Pending,
    /// Letters in the order in which it read them.
    pub read: Vec<u8>,
}

/// How a letter of Amal's stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Letter {
    /// Not yet written.
    Unwritten,
    /// In the outbox.
    Waiting,
    /// At the relay.
    Sent,
    /// Receipted.
    Received,
    /// Amal's device no longer has it, and nobody read it.
    Forgotten,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// Commits that reached the relay.
    pub commits: Vec<Commit>,
    /// Channels, by epoch.
    pub channels: Vec<Channel>,
    /// Amal, Ines, and her second device.
    pub devices: Vec<Device>,
    /// Amal's letters.
    pub letters: Vec<Letter>,
    /// Who asked for rescue, a bit each.
    pub asked: u8,
    /// Mallory's remaining steps.
    pub insider: u8,
    /// Remaining faults.
    pub faults: u8,
    /// Remaining commits without need.
    pub idle_commits: u8,
    /// Whether a letter went where a removed Mallory reads it.
    pub leaked: bool,
}

impl State {
    /// Whether Mallory is a member in this epoch.
    pub fn mallory_in(&self, epoch: u8) -> bool {
        match epoch.checked_sub(1) {
            None => true,
            Some(commit) => self.commits[usize::from(commit)].mallory_stays,
        }
    }

    /// The device that commits in this epoch.
    pub fn committer(&self, epoch: u8) -> Option<usize> {
        match epoch.checked_sub(1) {
            None => Some(INES),
            Some(commit) => self.commits[usize::from(commit)].author.map(usize::from),
        }
    }

    /// The channel of a device's epoch.
    pub fn channel_of(&self, who: usize) -> &Channel {
        &self.channels[usize::from(self.devices[who].epoch)]
    }

    /// Whether a device knows the channel that is there, and read all of it.
    pub fn has_read_all(&self, who: usize) -> bool {
        let (device, channel) = (&self.devices[who], self.channel_of(who));
        channel.exists
            && device.incarnation == channel.incarnation
            && usize::from(device.cursor) == channel.log.len()
    }

    /// Whether a device sees a channel that vanished and came back.
    pub fn unfamiliar(&self, who: usize) -> bool {
        let (device, channel) = (&self.devices[who], self.channel_of(who));
        channel.exists && device.incarnation != 0 && device.incarnation != channel.incarnation
    }

    /// Whether somebody of counsel read this letter and is there to have it.
    pub fn counsel_has(&self, letter: u8) -> bool {
        self.devices[INES..]
            .iter()
            .any(|device| device.read.contains(&letter))
    }

    /// Everybody alive is in one epoch, without Mallory, and every letter was read.
    pub fn good(&self) -> bool {
        let alive: Vec<&Device> = self
            .devices
            .iter()
            .filter(|one| one.standing != Standing::Dead)
            .collect();
        let epoch = self.devices[AMAL].epoch;
        let agree = alive
            .iter()
            .all(|one| one.standing == Standing::Follows && one.epoch == epoch);
        let letters = (0u8..).zip(&self.letters).all(|(id, _)| self.counsel_has(id));
        agree && letters && alive.len() > 1 && !self.mallory_in(epoch)
    }

    /// A device read a letter twice.
    pub fn doubled(&self) -> bool {
        self.devices
            .iter()
            .any(|device| (1..device.read.len()).any(|at| device.read[..at].contains(&device.read[at])))
    }

    /// A device read an earlier letter after a later one.
    pub fn disordered(&self) -> bool {
        self.devices
            .iter()
            .any(|device| device.read.windows(2).any(|two| two[0] > two[1]))
    }
}

impl World for Case {
    type State = State;

    fn start(&self) -> State {
        let device = Device {
            epoch: 0,
            standing: Standing::Follows,
            cursor: 0,
            incarnation: 1,
            proposal: false,
            pending: Pending::None,
            read: Vec::new(),
        };
        let channel = Channel {
            exists: true,
            incarnation: 1,
            ..Channel::default()
        };
        State {
            commits: Vec::new(),
            channels: vec![channel],
            devices: vec![device; self.devices.saturating_add(1)],
            letters: vec![Letter::Unwritten; usize::from(self.letters)],
            asked: 0,
            insider: self.insider,
            faults: self.faults,
            idle_commits: self.idle_commits,
            leaked: false,
        }
    }

    fn steps(&self, state: &State) -> Vec<super::search::Step<State>> {
        steps::all(self, state)
    }
}
