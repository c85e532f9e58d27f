//! The same people under a relay that lies (`SPEC.md`, 3.2, 10.2, 10.5): it shows everybody the entries that it likes, in the
//! order that it likes, and keeps back what it likes. It cannot make entries. The order of a case is then what each member was shown.

use super::{
    Rule,
    search::{By, Step, World},
};

/// The client, Ines, her second device.
const PEOPLE: usize = 3;
const AMAL: usize = 0;
const INES: usize = 1;
const INES_TWO: usize = 2;

/// Which world.
#[derive(Clone, Debug)]
pub struct Fork {
    /// The rule that is taken away, if any.
    pub without: Option<Rule>,
    /// Letters that Amal, Ines and her second device write.
    pub letters: [u8; PEOPLE],
    /// Commits that each device of counsel makes of its own accord.
    pub commits: u8,
    /// Whether a person may command a takeover.
    pub takeover: bool,
}

/// What the relay was given.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Posted {
    by: u8,
    epoch: u8,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum What {
    /// With the log that its sender saw; a head stands for all of it. Whether its writer knew of the removal.
    Letter { seen: Option<Vec<u8>>, knew: bool },
    /// Leads to this epoch.
    Commit { to: u8 },
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    epoch: u8,
    /// What it was shown in this epoch.
    log: Vec<u8>,
    pending: Option<u8>,
    knows_of_removal: bool,
    alarmed: bool,
    /// It took a letter whose sender saw another log, and noticed nothing.
    deceived: bool,
    letters: u8,
    commits: u8,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    posted: Vec<Posted>,
    /// The parent of each epoch but the first.
    parents: Vec<u8>,
    members: Vec<Member>,
    /// Whether a person commanded a takeover, and so compares the spoken code.
    code_spoken: bool,
}

impl State {
    /// Two members are in branches that can never meet.
    pub fn forked(&self) -> bool {
        let apart = |one: u8, two: u8| !self.descends(one, two) && !self.descends(two, one);
        self.members
            .iter()
            .any(|one| self.members.iter().any(|two| apart(one.epoch, two.epoch)))
    }

    /// And no person was there to compare codes.
    pub fn forked_unseen(&self) -> bool {
        self.forked() && !self.code_spoken
    }

    /// A letter got through between two who saw different logs, and nobody noticed.
    pub fn deceived(&self) -> bool {
        self.members
            .iter()
            .any(|member| member.deceived && !member.alarmed)
    }

    /// A member noticed different logs.
    pub fn alarmed(&self) -> bool {
        self.members.iter().any(|member| member.alarmed)
    }

    /// Who knew of the removal wrote where the removed device reads.
    pub fn leaked(&self) -> bool {
        // Every commit here removes: the first epoch is the only one with the removed device.
        self.posted
            .iter()
            .any(|one| one.epoch == 0 && matches!(one.what, What::Letter { knew: true, .. }))
    }

    /// Somebody who does not yet know wrote there after the removal was made, which nothing can prevent.
    pub fn wrote_unknowing(&self) -> bool {
        let removed = self
            .posted
            .iter()
            .position(|one| matches!(one.what, What::Commit { .. }));
        removed.is_some_and(|at| {
            self.posted[at..]
                .iter()
                .any(|one| one.epoch == 0 && matches!(one.what, What::Letter { knew: false, .. }))
        })
    }

    fn descends(&self, mut from: u8, to: u8) -> bool {
        while from != to {
            match from.checked_sub(1) {
                None => return false,
                Some(at) => from = self.parents[usize::from(at)],
            }
        }
        true
    }
}

impl World for Fork {
    type State = State;

    fn start(&self) -> State {
        let member = |who: usize, commits| Member {
            epoch: 0,
            log: Vec::new(),
            pending: None,
            knows_of_removal: false,
            alarmed: false,
            deceived: false,
            letters: self.letters[who],
            commits,
        };
        State {
            posted: Vec::new(),
            parents: Vec::new(),
            members: vec![
                member(AMAL, 0),
                member(INES, self.commits),
                member(INES_TWO, self.commits),
            ],
            code_spoken: false,
        }
    }

    fn steps(&self, state: &State) -> Vec<Step<State>> {
        let mut steps = Vec::new();
        for who in 0..PEOPLE {
            let member = &state.members[who];
            if member.alarmed {
                continue; // a member who is told stops, and speaks with people
            }
            let writes = member.pending.is_none() || !self.keeps(Rule::NoLettersWhilePending);
            if member.letters > 0 && writes {
                steps.push((By::Honest, "a member writes", self.write(state, who)));
            }
            if who != AMAL && member.commits > 0 {
                self.commit(state, who, &mut steps);
            }
            for entry in (0u8..).take(state.posted.len()) {
                let posted = &state.posted[usize::from(entry)];
                if posted.epoch == member.epoch && !member.log.contains(&entry) {
                    steps.push((
                        By::Adversary,
                        "the relay shows an entry",
                        self.show(state, who, entry),
                    ));
                }
            }
        }
        steps
    }
}

impl Fork {
    fn keeps(&self, rule: Rule) -> bool {
        self.without != Some(rule)
    }

    fn write(&self, state: &State, who: usize) -> State {
        let mut next = state.clone();
        let member = &mut next.members[who];
        member.letters = member.letters.saturating_sub(1);
        let seen = self.keeps(Rule::HeadsInLetters).then(|| member.log.clone());
        let knew = member.knows_of_removal;
        let epoch = member.epoch;
        next.posted.push(Posted {
            by: name(who),
            epoch,
            what: What::Letter { seen, knew },
        });
        next
    }

    /// The committer commits once an epoch; another device only on a person's command.
    fn commit(&self, state: &State, who: usize, steps: &mut Vec<Step<State>>) {
        let member = &state.members[who];
        let committer = match member.epoch.checked_sub(1) {
            None => name(INES),
            Some(at) => state
                .posted
                .iter()
                .find(|one| {
                    one.what
                        == What::Commit {
                            to: at.saturating_add(1),
                        }
                })
                .map_or(0, |one| one.by),
        };
        let signed = state.posted.iter().any(|one| {
            one.by == name(who) && one.epoch == member.epoch && matches!(one.what, What::Commit { .. })
        });
        if signed && self.keeps(Rule::OneCommitAnEpoch) {
            return;
        }
        let mut make = |called, by_command: bool| {
            let mut next = state.clone();
            next.parents.push(member.epoch);
            let to = u8::try_from(next.parents.len()).unwrap_or(u8::MAX);
            next.posted.push(Posted {
                by: name(who),
                epoch: member.epoch,
                what: What::Commit { to },
            });
            let own = &mut next.members[who];
            own.pending = Some(to);
            own.knows_of_removal = true;
            own.commits = own.commits.saturating_sub(1);
            next.code_spoken |= by_command;
            steps.push((By::Honest, called, next));
        };
        if committer == name(who) {
            make("the committer commits", false);
        } else if self.takeover && who == INES_TWO {
            make("a person commands a takeover", true);
        } else if !self.keeps(Rule::OneCommitter) {
            make("another device commits unasked", false);
        }
    }

    /// The relay puts an entry at the end of what it shows to a member.
    fn show(&self, state: &State, who: usize, entry: u8) -> State {
        let mut next = state.clone();
        let posted = &state.posted[usize::from(entry)];
        let member = &mut next.members[who];
        match &posted.what {
            What::Letter { seen, .. } if posted.by != name(who) => {
                let sender_saw = self.saw(state, entry);
                let differs = !member.log.starts_with(&sender_saw);
                // More than was shown here, or something else at the same place: both change the head.
                member.alarmed |= seen.as_ref().is_some_and(|seen| !member.log.starts_with(seen));
                member.deceived |= differs && !member.alarmed;
                member.log.push(entry);
            }
            What::Letter { .. } => member.log.push(entry),
            What::Commit { to } => {
                member.epoch = *to;
                member.log.clear();
                member.pending = None;
                member.knows_of_removal = true;
            }
        }
        next
    }

    /// What the sender of a letter had been shown; without heads the letter does not say, so the world looks it up.
    fn saw(&self, state: &State, entry: u8) -> Vec<u8> {
        match &state.posted[usize::from(entry)].what {
            What::Letter { seen: Some(seen), .. } => seen.clone(),
            What::Letter { .. } | What::Commit { .. } => {
                let by = usize::from(state.posted[usize::from(entry)].by);
                state.members[by]
                    .log
                    .iter()
                    .copied()
                    .filter(|shown| *shown < entry)
                    .collect()
            }
        }
    }
}

fn name(who: usize) -> u8 {
    u8::try_from(who).unwrap_or(u8::MAX)
}
