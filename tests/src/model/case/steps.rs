//! What may happen next in a case: members who keep the rules, Mallory with an old epoch's tokens, and faults.

use super::{AMAL, Case, Channel, Commit, Entry, INES, Letter, Pending, Standing, State, read};
use crate::model::{
    Rule,
    search::{By, Step},
};

/// Entries that a channel holds; the keeper's room is one of them.
const ROOM: usize = 3;

type Steps = Vec<Step<State>>;

/// All steps.
pub(super) fn all(world: &Case, state: &State) -> Steps {
    let mut steps = Vec::new();
    for who in 0..state.devices.len() {
        member(world, state, who, &mut steps);
        if who >= INES && state.devices[who].standing == Standing::Follows {
            commit(world, state, who, &mut steps);
        }
    }
    letters(world, state, &mut steps);
    if state.insider > 0 {
        mallory(world, state, &mut steps);
    }
    if state.faults > 0 {
        faults(world, state, &mut steps);
    }
    steps
}

fn step(steps: &mut Steps, by: By, name: &'static str, state: &State, change: impl FnOnce(&mut State)) {
    let mut next = state.clone();
    change(&mut next);
    steps.push((by, name, next));
}

fn live(channel: &Channel) -> usize {
    channel.log.iter().filter(|entry| **entry != Entry::Gone).count()
}

fn has_room(world: &Case, channel: &Channel, keeper: bool) -> bool {
    let kept = usize::from(!keeper && world.keeps(Rule::RoomForKeeper));
    live(channel) < ROOM.saturating_sub(kept)
}

fn open(channel: &mut Channel) {
    channel.incarnation = channel.incarnation.saturating_add(1);
    channel.exists = true;
    channel.sealed = false;
    channel.log.clear();
}

/// Opening, reading, asking for rescue, coming back.
fn member(world: &Case, state: &State, who: usize, steps: &mut Steps) {
    let (device, channel) = (&state.devices[who], state.channel_of(who));
    let at = usize::from(device.epoch);
    if device.standing == Standing::Follows {
        let first = channel.incarnation == 0;
        let may = world.keeps(Rule::AnyoneOpens) || state.committer(device.epoch) == Some(who);
        if !channel.exists && if first { may } else { world.keeps(Rule::OpenAgain) } {
            step(steps, By::Honest, "a member opens the channel", state, |next| {
                open(&mut next.channels[at])
            });
        }
        let new = device.incarnation != channel.incarnation;
        let mine = matches!(device.pending, Pending::Sealed(_));
        let may_read = !state.unfamiliar(who) || mine || !world.keeps(Rule::NoLettersInUnfamiliar);
        if channel.exists && may_read && (new || usize::from(device.cursor) < channel.log.len()) {
            let mut from = state.clone();
            from.devices[who].cursor = if new { 0 } else { device.cursor };
            steps.push((By::Honest, "a member reads on", read::on(world, &from, who)));
        }
        let lost = state.unfamiliar(who) || !channel.exists && !first;
        if lost && world.keeps(Rule::Rescue) && state.committer(device.epoch) != Some(who) && !mine {
            step(
                steps,
                By::Honest,
                "a member gives up a lost channel",
                state,
                |next| read::stop(next, who),
            );
        }
    }
    if device.standing == Standing::Stopped && world.keeps(Rule::Rescue) {
        if state.asked & (1 << who) == 0 && state.welcomes(who).is_none() {
            step(steps, By::Honest, "a member asks for rescue", state, |next| {
                next.asked |= 1 << who
            });
        }
        if let Some(epoch) = state.welcomes(who) {
            step(steps, By::Honest, "a member joins again", state, |next| {
                rejoin(world, next, who, epoch)
            });
        }
    }
}

fn rejoin(world: &Case, next: &mut State, who: usize, epoch: u8) {
    read::enter(world, next, who, epoch);
    if who == AMAL {
        for letter in &mut next.letters {
            if *letter == Letter::Sent {
                *letter = Letter::Waiting;
            }
        }
    }
}

/// Storing a commit, sealing it in, sealing it in again.
fn commit(world: &Case, state: &State, who: usize, steps: &mut Steps) {
    let (device, channel) = (&state.devices[who], state.channel_of(who));
    let at = usize::from(device.epoch);
    match &device.pending {
        Pending::None if state.has_read_all(who) || state.unfamiliar(who) => store(world, state, who, steps),
        Pending::Stored(commit) if channel.exists && has_room(world, channel, true) => {
            let index = u8::try_from(state.commits.len()).unwrap_or(u8::MAX);
            step(steps, By::Honest, "counsel seals a commit in", state, |next| {
                next.commits.push(commit.clone());
                next.channels.push(Channel::default());
                if world.keeps(Rule::NamedIncarnation) {
                    next.channels.last_mut().into_iter().for_each(open);
                }
                next.channels[at].log.push(Entry::Commit(index));
                next.channels[at].sealed = true;
                next.devices[who].pending = Pending::Sealed(index);
            });
        }
        Pending::Sealed(index) if channel.exists && !channel.log.contains(&Entry::Commit(*index)) => {
            step(
                steps,
                By::Honest,
                "counsel seals the same commit in again",
                state,
                |next| {
                    next.channels[at].log.push(Entry::Commit(*index));
                    next.channels[at].sealed = true;
                },
            );
        }
        _ => {}
    }
}

fn store(world: &Case, state: &State, who: usize, steps: &mut Steps) {
    let device = &state.devices[who];
    let committer = state.committer(device.epoch);
    let gone = committer.is_none_or(|one| state.devices[one].standing != Standing::Follows);
    let again = (0..state.devices.len())
        .filter(|other| *other != who && state.asked & (1 << other) != 0)
        .fold(0u8, |bits, other| bits | 1 << other);
    let mallory = state.mallory_in(device.epoch);
    let made = Commit {
        parent: device.epoch,
        author: u8::try_from(who).ok(),
        mallory_stays: false,
        again,
        broken: 0,
        refers: device.proposal,
    };
    let mut keep = |by, name, cost: u8, idle: u8, commit: Commit| {
        step(steps, by, name, state, |next| {
            next.faults = next.faults.saturating_sub(cost);
            next.idle_commits = next.idle_commits.saturating_sub(idle);
            next.devices[who].pending = Pending::Stored(commit);
        });
    };
    let mine = committer == Some(who);
    let full = world.keeps(Rule::CommitWhenFull) && !has_room(world, state.channel_of(who), false);
    let needed = mallory || again != 0 || state.unfamiliar(who) || full;
    if mine && needed || gone {
        keep(By::Honest, "counsel stores a commit", 0, 0, made.clone());
    }
    if mine && state.idle_commits > 0 {
        let idle = Commit {
            mallory_stays: mallory,
            ..made.clone()
        };
        keep(By::Adversary, "counsel stores a commit without need", 0, 1, idle);
    }
    if mine && world.with.broken && state.faults > 0 {
        for broken in [1 << AMAL, 1 << AMAL | 1 << super::INES_TWO] {
            let commit = Commit {
                broken,
                ..made.clone()
            };
            keep(
                By::Adversary,
                "counsel stores a commit that does not work for all",
                1,
                0,
                commit,
            );
        }
    }
    if !mine && !gone && world.with.takeover && state.faults > 0 {
        keep(By::Adversary, "a person commands a takeover", 1, 0, made);
    }
}

/// Writing, sending, sending again, receipts.
fn letters(world: &Case, state: &State, steps: &mut Steps) {
    let amal = &state.devices[AMAL];
    let (channel, at) = (state.channel_of(AMAL), usize::from(amal.epoch));
    let next_new = state
        .letters
        .iter()
        .position(|letter| *letter == Letter::Unwritten);
    if let Some(id) = next_new {
        step(steps, By::Honest, "Amal writes", state, |next| {
            next.letters[id] = Letter::Waiting
        });
    }
    let ready = amal.standing == Standing::Follows && state.has_read_all(AMAL) && !amal.proposal;
    if let Some(id) = state.letters.iter().position(|letter| *letter == Letter::Waiting) {
        let number = u8::try_from(id).unwrap_or(u8::MAX);
        if ready && !channel.sealed && has_room(world, channel, false) {
            let removed = state.devices.iter().any(|one| !state.mallory_in(one.epoch));
            let leaks = removed && state.mallory_in(amal.epoch);
            step(
                steps,
                By::Honest,
                "Amal's letter reaches the relay",
                state,
                |next| {
                    next.channels[at].log.push(Entry::Letter(number));
                    next.letters[id] = Letter::Sent;
                    next.leaked |= leaks;
                    // Her own letter is not news to her.
                    next.devices[AMAL].cursor = next.devices[AMAL].cursor.saturating_add(1);
                },
            );
        }
        if channel.sealed && !world.keeps(Rule::EncryptAgain) {
            step(
                steps,
                By::Adversary,
                "a refused letter is not encrypted again",
                state,
                |next| {
                    next.letters[id] = Letter::Forgotten;
                },
            );
        }
    }
    for (id, number) in (0..state.letters.len())
        .zip(0u8..)
        .filter(|(id, _)| state.letters[*id] == Letter::Sent)
    {
        if state.counsel_has(number) {
            step(steps, By::Honest, "a receipt arrives", state, |next| {
                next.letters[id] = Letter::Received
            });
        }
        let copies = channel
            .log
            .iter()
            .filter(|entry| **entry == Entry::Letter(number))
            .count();
        let mut again = |by, cost: u8| {
            step(steps, by, "Amal sends a letter again", state, |next| {
                next.letters[id] = Letter::Waiting;
                next.faults = next.faults.saturating_sub(cost);
            });
        };
        if world.keeps(Rule::KeptUntilReceipt) && copies == 0 && !state.counsel_has(number) {
            again(By::Honest, 0);
        } else if world.keeps(Rule::KeptUntilReceipt) && copies < 2 && state.faults > 0 {
            again(By::Adversary, 1); // day 25, and no receipt arrived
        }
    }
}

/// Mallory holds read and write of every epoch that Mallory was in, and never `keep`.
fn mallory(world: &Case, state: &State, steps: &mut Steps) {
    for (at, channel) in state.channels.iter().enumerate() {
        let epoch = u8::try_from(at).unwrap_or(u8::MAX);
        if !state.mallory_in(epoch) {
            continue;
        }
        let mut act = |name, change: &dyn Fn(&mut State)| {
            step(steps, By::Adversary, name, state, |next| {
                next.insider = next.insider.saturating_sub(1);
                change(next);
            });
        };
        if channel.exists && !channel.sealed && has_room(world, channel, false) {
            act("Mallory adds junk", &|next| {
                next.channels[at].log.push(Entry::Junk)
            });
            if !world.keeps(Rule::NoProposals) {
                act("Mallory adds a proposal", &|next| {
                    next.channels[at].log.push(Entry::Proposal)
                });
            }
            if !world.keeps(Rule::CounselOnly) {
                act("Mallory adds a commit", &|next| mallory_commits(next, at, epoch));
            }
        }
        if channel.exists && !world.keeps(Rule::NoDrop) {
            act("Mallory drops the channel", &|next| {
                vanish(&mut next.channels[at])
            });
        }
        if !channel.exists && channel.incarnation > 0 {
            act("Mallory opens an expired channel", &|next| {
                open(&mut next.channels[at])
            });
        }
    }
}

fn mallory_commits(next: &mut State, at: usize, epoch: u8) {
    let index = u8::try_from(next.commits.len()).unwrap_or(u8::MAX);
    next.commits.push(Commit {
        parent: epoch,
        author: None,
        mallory_stays: true,
        again: 0,
        broken: 0b111,
        refers: false,
    });
    next.channels.push(Channel::default());
    next.channels[at].log.push(Entry::Commit(index));
}

fn vanish(channel: &mut Channel) {
    channel.exists = false;
    channel.sealed = false;
    channel.log.clear();
}

/// Crashes, absences, a seized device.
fn faults(world: &Case, state: &State, steps: &mut Steps) {
    let mut fault = |name, change: &dyn Fn(&mut State)| {
        step(steps, By::Adversary, name, state, |next| {
            next.faults = next.faults.saturating_sub(1);
            change(next);
        });
    };
    let stored_first = world.keeps(Rule::StoredFirst);
    if world.with.crash && !stored_first {
        for who in (INES..state.devices.len()).filter(|who| state.devices[*who].pending != Pending::None) {
            fault("counsel's program ends before it stored its commit", &|next| {
                next.devices[who].pending = Pending::None;
            });
        }
        for id in (0..state.letters.len()).filter(|id| state.letters[*id] == Letter::Waiting) {
            fault("Amal's program ends before it stored her letter", &|next| {
                next.letters[id] = Letter::Forgotten
            });
        }
    }
    if world.with.seize && state.devices.len() > 2 && state.devices[INES].standing != Standing::Dead {
        fault("counsel's first device is seized", &|next| {
            read::stop(next, INES);
            next.devices[INES].standing = Standing::Dead;
            next.asked &= !(1 << INES);
        });
    }
    for (at, channel) in state
        .channels
        .iter()
        .enumerate()
        .filter(|(_, channel)| channel.exists)
    {
        if world.with.letters_expire && channel.log.iter().any(|entry| *entry != Entry::Gone) {
            fault("30 days pass", &|next| {
                for entry in &mut next.channels[at].log {
                    if !matches!(entry, Entry::Commit(_)) || !world.keeps(Rule::CommitsOutlive) {
                        *entry = Entry::Gone;
                    }
                }
            });
        }
        if world.with.channels_expire {
            fault("400 days pass", &|next| vanish(&mut next.channels[at]));
        }
    }
}
