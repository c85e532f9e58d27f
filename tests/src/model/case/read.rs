//! What a device does with what it reads: letters are kept once, the first valid commit is applied, the rest is skipped.

use super::{AMAL, Case, Commit, Entry, Pending, Standing, State};
use crate::model::Rule;

/// What a device does at an entry that may be a commit.
enum Judged {
    Skip,
    Stop,
    Apply(u8),
}

/// Reads on to the next commit or to the end.
pub(super) fn on(world: &Case, state: &State, who: usize) -> State {
    let mut next = state.clone();
    let channel = state.channel_of(who).clone();
    next.devices[who].incarnation = channel.incarnation;
    if let Some(last) = (!world.keeps(Rule::FirstWins))
        .then(|| last_commit(&channel.log))
        .flatten()
    {
        next.devices[who].cursor = last;
    }
    while let Some(entry) = channel.log.get(usize::from(next.devices[who].cursor)) {
        let device = &mut next.devices[who];
        device.cursor = device.cursor.saturating_add(1);
        match entry {
            Entry::Letter(id) => {
                let known = world.keeps(Rule::SameLetterId) && device.read.contains(id);
                if who != AMAL && !known {
                    device.read.push(*id);
                }
            }
            Entry::Gone => {}
            Entry::Proposal => device.proposal = true,
            Entry::Junk if world.keeps(Rule::SkipInvalid) => {}
            Entry::Junk => {
                device.standing = Standing::Stopped;
                break;
            }
            Entry::Commit(commit) => match judge(world, &next, who, *commit) {
                Judged::Skip => {}
                Judged::Stop => {
                    stop(&mut next, who);
                    break;
                }
                Judged::Apply(commit) => {
                    let made = &next.commits[usize::from(commit)];
                    if made.author.map(usize::from) == Some(who) {
                        next.asked &= !made.again; // the Welcomes are out
                    }
                    enter(world, &mut next, who, commit.saturating_add(1));
                    break;
                }
            },
        }
    }
    next
}

fn last_commit(log: &[Entry]) -> Option<u8> {
    let at = log.iter().rposition(|entry| matches!(entry, Entry::Commit(_)))?;
    u8::try_from(at).ok()
}

fn judge(world: &Case, state: &State, who: usize, index: u8) -> Judged {
    let commit: &Commit = &state.commits[usize::from(index)];
    let device = &state.devices[who];
    let mine = commit.author.map(usize::from) == Some(who);
    let bit = 1 << who;
    if commit.author.is_none() && world.keeps(Rule::CounselOnly) || commit.parent != device.epoch {
        Judged::Skip
    } else if mine && device.pending != Pending::Sealed(index) || commit.again & bit != 0 && !mine {
        // A commit of its own that it no longer has; or its leaf was removed, and the Welcome is the way on.
        Judged::Stop
    } else if commit.broken & bit != 0 && !world.keeps(Rule::HourIsCourtesy) {
        Judged::Skip
    } else if commit.broken & bit != 0 {
        if world.keeps(Rule::StopAtInapplicable) {
            Judged::Stop
        } else {
            Judged::Skip
        }
    } else if commit.refers && !device.proposal {
        Judged::Stop
    } else {
        Judged::Apply(index)
    }
}

/// A device that stops has no commit on its way.
pub(super) fn stop(state: &mut State, who: usize) {
    let device = &mut state.devices[who];
    device.standing = Standing::Stopped;
    device.pending = Pending::None;
}

/// A device goes on in another epoch.
pub(super) fn enter(world: &Case, state: &mut State, who: usize, epoch: u8) {
    let device = &mut state.devices[who];
    device.epoch = epoch;
    device.standing = Standing::Follows;
    device.cursor = 0;
    device.incarnation = u8::from(world.keeps(Rule::NamedIncarnation));
    device.proposal = false;
    device.pending = Pending::None;
    state.asked &= !(1 << who);
}

impl State {
    /// The newest epoch to which a device was added again by a commit that its author applied.
    pub(super) fn welcomes(&self, who: usize) -> Option<u8> {
        let released = |epoch: u8| {
            let commit = &self.commits[usize::from(epoch).saturating_sub(1)];
            let author = commit.author.map(|author| &self.devices[usize::from(author)]);
            commit.again & (1 << who) != 0 && author.is_some_and(|author| author.epoch >= epoch)
        };
        let here = usize::from(self.devices[who].epoch);
        (here.saturating_add(1)..=self.commits.len())
            .rev()
            .filter_map(|epoch| u8::try_from(epoch).ok())
            .find(|epoch| released(*epoch))
    }
}
