//! Random calls, days and restarts, against a model of the relay that is too simple to be wrong.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests fail by panicking, and count on small numbers"
)]

mod cast;

use cast::*;
use martlet_proto::{
    Answer, Call, Class, Day, Drop, Item, Kind, Read, Refusal, Seq, Slot, Trim,
    limits::{CASE_ENTRY_DAYS, CASE_KEPT_DAYS, FILE_DAYS, INBOX_DAYS},
};
use martlet_server::{
    Effect, Input, Store,
    store::segments::{Options, Segments},
};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Open(usize),
    /// Names and contents come from so few that they collide.
    Append(usize, Vec<(u64, u8)>),
    Seal(usize, Vec<(u64, u8)>),
    Read(usize, u64),
    Trim(usize, u64),
    Drop(usize),
    /// A turn ends.
    Turn,
    /// So many days pass, one by one.
    Wait(u32),
    Restart,
}

const CLASSES: [Class; 4] = [Class::Case, Class::Inbox, Class::File, Class::Card];

#[derive(Clone)]
struct Kept {
    id: u64,
    fill: u8,
    expires: Day,
    trimmed: bool,
}

/// One channel, simply.
#[derive(Clone)]
struct Channel {
    expires: Day,
    sealed: bool,
    entries: Vec<Kept>,
}

/// What is expected of an answer.
#[derive(Debug, PartialEq)]
enum Told {
    Tip(u64, bool, Day),
    Placed(u64),
    /// The names of entries that are there, and nothing for those that are gone.
    Slots(Vec<Option<u64>>),
    Done,
    Refused(Refusal),
}

fn told(answer: Result<Answer, Refusal>) -> Told {
    match answer {
        Ok(Answer::Tip(tip)) => Told::Tip(tip.next.as_u64(), tip.sealed, tip.expires),
        Ok(Answer::Placed(placed)) => Told::Placed(placed.first.as_u64()),
        Ok(Answer::Slots(page)) => Told::Slots(page.slots.iter().map(name).collect()),
        Ok(Answer::Done) => Told::Done,
        Err(refusal) => Told::Refused(refusal),
    }
}

fn name(slot: &Slot) -> Option<u64> {
    match slot {
        Slot::Here(entry) => Some(u64::from_be_bytes(*entry.id.as_bytes().first_chunk().unwrap())),
        Slot::Gone { .. } => None,
    }
}

#[derive(Default)]
struct Model(Vec<Option<Channel>>);

impl Model {
    fn decide(&mut self, op: &Op, today: Day) -> Told {
        let (at, class) = match op {
            Op::Open(at)
            | Op::Append(at, _)
            | Op::Seal(at, _)
            | Op::Read(at, _)
            | Op::Trim(at, _)
            | Op::Drop(at) => (*at, CLASSES[*at]),
            Op::Turn | Op::Wait(_) | Op::Restart => unreachable!("not a call"),
        };
        let lives = match class {
            Class::Case => CASE_KEPT_DAYS,
            Class::Inbox | Class::Card => INBOX_DAYS,
            Class::File => FILE_DAYS,
        };
        let place = &mut self.0[at];
        if place.as_ref().is_some_and(|channel| channel.expires <= today) {
            *place = None;
        }
        if let Op::Open(_) = op {
            let channel = place.get_or_insert(Channel {
                expires: today,
                sealed: false,
                entries: Vec::new(),
            });
            channel.expires = channel.expires.max(today.plus(lives));
            return Told::Tip(channel.entries.len() as u64, channel.sealed, channel.expires);
        }
        let Some(channel) = place else {
            return Told::Refused(Refusal::Closed);
        };
        match op {
            Op::Append(_, items) => channel.add(items, class, false, today),
            Op::Seal(..) if class != Class::Case => Told::Refused(Refusal::NotHere),
            Op::Seal(_, items) => {
                let before = channel.entries.len();
                let told = channel.add(items, class, true, today);
                if channel.entries.len() > before {
                    channel.sealed = true;
                    channel.expires = today.plus(lives);
                }
                told
            }
            Op::Read(_, from) => {
                let here = |kept: &Kept| (!kept.trimmed && kept.expires > today).then_some(kept.id);
                Told::Slots(channel.entries.iter().skip(*from as usize).map(here).collect())
            }
            Op::Trim(..) | Op::Drop(_) if class == Class::Case => Told::Refused(Refusal::NotHere),
            Op::Trim(_, before) => {
                for kept in channel.entries.iter_mut().take(*before as usize) {
                    kept.trimmed = true;
                }
                Told::Done
            }
            _ => {
                *place = None;
                Told::Done
            }
        }
    }
}

impl Channel {
    fn add(&mut self, items: &[(u64, u8)], class: Class, keeper: bool, today: Day) -> Told {
        let first = self.entries.iter().position(|kept| kept.id == items[0].0);
        if let Some(first) = first {
            let same = self.entries.len() >= first + items.len()
                && items
                    .iter()
                    .zip(&self.entries[first..])
                    .all(|(item, kept)| *item == (kept.id, kept.fill));
            return match same {
                true => Told::Placed(first as u64),
                false => Told::Refused(Refusal::Conflict),
            };
        }
        for (index, item) in items.iter().enumerate() {
            let taken = self.entries.iter().any(|kept| kept.id == item.0);
            if taken || items[..index].iter().any(|other| other.0 == item.0) {
                return Told::Refused(Refusal::Conflict);
            }
        }
        if self.sealed && !keeper {
            return Told::Refused(Refusal::Sealed);
        }
        let expires = match (class, keeper) {
            (Class::Case, false) => today.plus(CASE_ENTRY_DAYS),
            _ => Day(u32::MAX),
        };
        let place = self.entries.len() as u64;
        self.entries.extend(items.iter().map(|(id, fill)| Kept {
            id: *id,
            fill: *fill,
            expires,
            trimmed: false,
        }));
        Told::Placed(place)
    }
}

fn call(op: &Op, all: &[Keys]) -> Call {
    let items = |at: usize, items: &[(u64, u8)]| -> Vec<Item> {
        let kind = [Kind::Letter, Kind::Packet, Kind::Chunk, Kind::Card][at];
        let item = |(id, fill): &(u64, u8)| Item {
            envelope: envelope(*fill, 2048),
            ..item_of(kind, *id, 2048)
        };
        items.iter().map(item).collect()
    };
    match op {
        Op::Open(at) => Call::new(&all[*at].writer, all[*at].open()),
        Op::Append(at, added) => Call::new(&all[*at].writer, append(items(*at, added))),
        Op::Seal(at, added) => Call::new(&all[*at].keeper, seal(items(*at, added))),
        Op::Read(at, from) => {
            let from = Seq::new(*from);
            Call::new(&all[*at].reader, Read { from })
        }
        Op::Trim(at, before) => {
            let before = Seq::new(*before);
            Call::new(&all[*at].keeper, Trim { before })
        }
        Op::Drop(at) => Call::new(&all[*at].keeper, Drop),
        Op::Turn | Op::Wait(_) | Op::Restart => unreachable!("not a call"),
    }
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let at = 0..CLASSES.len();
    let items = || proptest::collection::vec((0..12u64, 0..2u8), 1..=4);
    let op = prop_oneof![
        4 => at.clone().prop_map(Op::Open),
        8 => (at.clone(), items()).prop_map(|(at, items)| Op::Append(at, items)),
        2 => (at.clone(), items()).prop_map(|(at, items)| Op::Seal(at, items)),
        4 => (at.clone(), 0..6u64).prop_map(|(at, from)| Op::Read(at, from)),
        1 => (at.clone(), 0..6u64).prop_map(|(at, before)| Op::Trim(at, before)),
        1 => at.prop_map(Op::Drop),
        3 => Just(Op::Turn),
        2 => (1..40u32).prop_map(Op::Wait),
        1 => Just(Op::Restart),
    ];
    proptest::collection::vec(op, 1..80)
}

/// Makes one turn of what waits, and holds the answers against the model's.
fn settle(
    world: &mut World,
    model: &mut Model,
    all: &[Keys],
    waiting: &mut Vec<Op>,
) -> Result<(), TestCaseError> {
    let inputs: Vec<Input> = waiting
        .iter()
        .map(|op| world.input(from(1, 1), call(op, all)))
        .collect();
    let effects = world.turn(&inputs);
    prop_assert_eq!(effects.len(), waiting.len());
    for (op, effect) in waiting.drain(..).zip(effects) {
        let Effect::Answer(_, answer) = effect else {
            return Err(TestCaseError::fail("not an answer"));
        };
        prop_assert_eq!(told(answer), model.decide(&op, world.day), "{:?}", op);
    }
    Ok(())
}

/// Plays it all in a world of which `restart` says how it goes on after a crash.
fn play(ops: Vec<Op>, mut world: World, restart: impl Fn(&mut World)) -> Result<(), TestCaseError> {
    let mut model = Model(vec![None; CLASSES.len()]);
    let all: Vec<Keys> = (1u8..)
        .zip(CLASSES)
        .map(|(seed, class)| Keys::new(class, seed))
        .collect();
    let mut waiting = Vec::new();
    for op in ops {
        match op {
            Op::Turn => settle(&mut world, &mut model, &all, &mut waiting)?,
            Op::Wait(days) => {
                settle(&mut world, &mut model, &all, &mut waiting)?;
                world.wait_days(days);
            }
            Op::Restart => {
                settle(&mut world, &mut model, &all, &mut waiting)?;
                restart(&mut world);
            }
            call => waiting.push(call),
        }
    }
    settle(&mut world, &mut model, &all, &mut waiting)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]
    #[test]
    fn the_relay_does_what_the_model_does(ops in ops()) {
        play(ops, World::new(), World::restart)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]
    #[test]
    fn so_it_does_over_segments(ops in ops()) {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { floor_bytes: 0, segment_bytes: 16 << 10, ..Options::default() };
        let open = || -> Box<dyn Store> { Box::new(Segments::open(dir.path(), options).unwrap().0) };
        play(ops, World::over(Shared::over(open())), |world| world.restart_with(open))?;
    }
}
