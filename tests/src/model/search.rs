//! An exhaustive search: every state that can be reached, the shortest way to each, and which of them the honest alone can
//! still bring to a good end. Model checkers at hand answer "always" and "at last", not "can still", so this is our own.

use std::{
    collections::{HashMap, VecDeque},
    fmt::Debug,
    hash::Hash,
};

/// Who makes a step: liveness asks what the honest can do without the other's help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Members who keep the rules, and the relay when it keeps them.
    Honest,
    /// A fault, a seized device, the removed insider, or the relay when it lies.
    Adversary,
}

/// One step: who makes it, what it is called, and what it leads to.
pub type Step<S> = (By, &'static str, S);

/// What can be searched.
pub trait World {
    /// A whole state.
    type State: Clone + Eq + Hash + Debug;
    /// Where it begins.
    fn start(&self) -> Self::State;
    /// All steps that are possible in a state.
    fn steps(&self, state: &Self::State) -> Vec<Step<Self::State>>;
}

/// All reachable states, in the order of their distance.
pub struct Reached<S> {
    states: Vec<S>,
    from: Vec<Option<(usize, &'static str)>>,
    honest_into: Vec<Vec<usize>>,
}

impl<S: Clone + Eq + Hash + Debug> Reached<S> {
    /// Searches all of a world.
    ///
    /// # Panics
    ///
    /// If there are more than `states_max` states: a search that was cut short proves nothing.
    pub fn all<W: World<State = S>>(world: &W, states_max: usize) -> Self {
        let start = world.start();
        let mut known = HashMap::from([(start.clone(), 0)]);
        let mut reached = Self {
            states: vec![start],
            from: vec![None],
            honest_into: vec![Vec::new()],
        };
        let mut waiting = VecDeque::from([0]);
        while let Some(here) = waiting.pop_front() {
            for (by, name, next) in world.steps(&reached.states[here]) {
                let there = *known.entry(next).or_insert_with_key(|next| {
                    reached.states.push(next.clone());
                    reached.from.push(Some((here, name)));
                    reached.honest_into.push(Vec::new());
                    waiting.push_back(reached.states.len().saturating_sub(1));
                    reached.states.len().saturating_sub(1)
                });
                if by == By::Honest {
                    reached.honest_into[there].push(here);
                }
            }
            assert!(
                reached.states.len() <= states_max,
                "more than {states_max} states"
            );
        }
        reached
    }

    /// How many states there are.
    pub fn count(&self) -> usize {
        self.states.len()
    }

    /// The shortest way to a state in which this holds.
    pub fn way_to(&self, holds: impl Fn(&S) -> bool) -> Option<Vec<&'static str>> {
        self.states.iter().position(holds).map(|at| self.way(at))
    }

    /// The states from which the honest alone cannot reach a good one: their number, and the shortest way to one.
    pub fn stuck(&self, good: impl Fn(&S) -> bool) -> (usize, Vec<&'static str>) {
        let mut can: Vec<bool> = self.states.iter().map(good).collect();
        let mut waiting: Vec<usize> = (0..can.len()).filter(|at| can[*at]).collect();
        while let Some(here) = waiting.pop() {
            for before in &self.honest_into[here] {
                if !std::mem::replace(&mut can[*before], true) {
                    waiting.push(*before);
                }
            }
        }
        let first = can.iter().position(|can| !can);
        let number = can.iter().filter(|can| !**can).count();
        (number, first.map(|at| self.way(at)).unwrap_or_default())
    }

    fn way(&self, mut at: usize) -> Vec<&'static str> {
        let mut way = Vec::new();
        while let Some((before, name)) = self.from[at] {
            way.push(name);
            at = before;
        }
        way.reverse();
        way
    }
}
