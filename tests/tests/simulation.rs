//! The cores of clients and of the relay in one simulated world, from one seed each: nobody is ever stuck.
//!
//! `MARTLET_SEED=7` runs one seed and prints its steps; `MARTLET_SEEDS=1000..2000` runs others than the first ones.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests fail by panicking, and count on small numbers"
)]

use std::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
};

use martlet_proto::Time;
use martlet_tests::world::{Failure, Flaw, World};

/// Seeds that every run of the tests tells.
const SEEDS: Range<u64> = 0..300;

/// Seeds that every run of the tests tells with a large cast.
const LARGE: Range<u64> = 0..300;

/// Seeds that are told with something wrong.
const FLAWED: Range<u64> = 0..10;

/// Stories begin today, at midnight: OpenMLS holds the lifetime in a key package against the system's clock.
#[expect(
    clippy::disallowed_methods,
    reason = "the day is the only thing that a story takes from the system"
)]
fn today() -> Time {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Time::from_secs(since.unwrap().as_secs()).day().start()
}

/// Large stories may last longer than a year. In the middle of one, every key package of it is one that OpenMLS takes.
fn a_year_ago() -> Time {
    Time::from_secs(today().as_secs() - 410 * 86_400)
}

/// The seeds that are asked for, or else those.
fn seeds(others: &Range<u64>) -> Range<u64> {
    if let Ok(seed) = std::env::var("MARTLET_SEED") {
        let seed = seed.parse().expect("MARTLET_SEED is a number");
        return seed..seed + 1;
    }
    let Ok(seeds) = std::env::var("MARTLET_SEEDS") else {
        return others.clone();
    };
    let (from, to) = seeds.split_once("..").expect("MARTLET_SEEDS is FROM..TO");
    let number = |text: &str| text.parse().expect("MARTLET_SEEDS is FROM..TO");
    number(from)..number(to)
}

/// Runs seeds on all processors; gives the failures by seed.
fn run_all(seeds: &Range<u64>, flaw: Flaw) -> Vec<(u64, Failure)> {
    run_each(seeds, |seed| World::run(seed, flaw, today()))
}

fn run_each(
    seeds: &Range<u64>,
    run: impl Fn(u64) -> Result<Vec<String>, Failure> + Sync + std::panic::RefUnwindSafe,
) -> Vec<(u64, Failure)> {
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let mut failures = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return failures;
            }
            let ended = std::panic::catch_unwind(|| run(seed));
            let panicked = |_| {
                Err(Failure {
                    what: "a panic".to_string(),
                    trace: Vec::new(),
                })
            };
            if let Err(failure) = ended.unwrap_or_else(panicked) {
                failures.push((seed, failure));
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut failures: Vec<(u64, Failure)> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let ended = running.into_iter().flat_map(|thread| thread.join().unwrap());
        ended.collect()
    });
    failures.sort_by_key(|(seed, _)| *seed);
    failures
}

#[test]
fn whatever_happens_nobody_is_stuck_and_nothing_is_lost() {
    hold("whatever", &SEEDS, |seed| World::run(seed, Flaw::None, today()));
}

/// Five people with seven devices in one case: added, removed, gone, taken in again, taking over.
#[test]
fn a_large_cast_agrees_loses_nothing_and_is_never_stuck() {
    hold("large", &LARGE, |seed| {
        World::run_large(seed, Flaw::None, a_year_ago())
    });
}

/// Tells all the seeds, or the one that is asked for with its steps.
fn hold(
    test: &str,
    seeds: &Range<u64>,
    run: impl Fn(u64) -> Result<Vec<String>, Failure> + Sync + std::panic::RefUnwindSafe,
) {
    let seeds = self::seeds(seeds);
    if seeds.end == seeds.start + 1 {
        match run(seeds.start) {
            Ok(trace) => println!("{}", trace.join("\n")),
            Err(Failure { what, trace }) => panic!("{}\n\nseed {}: {what}", trace.join("\n"), seeds.start),
        }
        return;
    }
    let failures = run_each(&seeds, run);
    for (seed, Failure { what, .. }) in &failures {
        eprintln!("seed {seed}: {what}");
        eprintln!(
            "    MARTLET_SEED={seed} cargo test -p martlet-tests --test simulation {test} -- --nocapture"
        );
    }
    assert!(failures.is_empty(), "{} of {seeds:?} failed", failures.len());
}

#[test]
fn one_seed_is_one_story() {
    let began = today();
    let tell = |seed| World::run(seed, Flaw::None, began).map_err(|failure| failure.what);
    let first = tell(3).unwrap();
    assert!(first.len() > 100);
    assert_eq!(first, tell(3).unwrap());
    assert_ne!(first, tell(4).unwrap());
}

/// What is found of a flaw in most of the seeds. The same seeds without it are among those that must hold.
fn found(flaw: Flaw) -> Vec<String> {
    let failures = run_all(&FLAWED, flaw);
    let found: Vec<String> = failures.into_iter().map(|(_, failure)| failure.what).collect();
    assert!(found.len() >= 3, "{flaw:?} was found only in {found:?}");
    found
}

#[test]
fn a_device_that_forgets_its_outbox_is_found() {
    let found = found(Flaw::OutboxForgotten);
    assert!(found.iter().any(|what| what.contains("letters")), "{found:?}");
}

#[test]
fn a_device_that_calls_before_it_keeps_is_found() {
    let found = found(Flaw::CallsTooEarly);
    assert!(found.iter().any(|what| what.contains("letters")), "{found:?}");
}

#[test]
fn a_relay_that_loses_an_acknowledged_letter_is_found() {
    let found = found(Flaw::LetterLost(0));
    assert!(found.iter().any(|what| what.contains("letters")), "{found:?}");
}

#[test]
fn a_device_that_forgets_its_outbox_is_found_among_many() {
    let failures = run_each(&FLAWED, |seed| {
        World::run_large(seed, Flaw::OutboxForgotten, a_year_ago())
    });
    let lost = failures
        .iter()
        .filter(|(_, failure)| failure.what.contains("letters did not come"));
    assert!(lost.count() >= 3, "{:?}", failures.len());
}

/// Once, by the story that seed 223 told then, a device that was not up to date took pushes from a channel created anew
/// for a part of the old one.
#[test]
fn when_the_relay_forgets_nobody_waits_without_being_told() {
    let mut failures = run_all(&(0..30), Flaw::RelayForgets);
    failures.extend(run_all(&(223..224), Flaw::RelayForgets));
    let found: Vec<_> = failures
        .iter()
        .map(|(seed, failure)| (seed, &failure.what))
        .collect();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn the_silence_of_counsels_devices_is_not_taken_for_peace() {
    for seed in 0..5 {
        assert_eq!(
            World::silence(seed, 2, today()),
            Ok((false, false)),
            "seed {seed}"
        );
        assert_eq!(World::silence(seed, 5, today()), Ok((true, false)), "seed {seed}");
    }
}

/// By enumeration: at each durable step of opening, joining, committing, sending, receiving, asking and being taken in.
#[test]
fn a_death_at_any_durable_step_loses_and_doubles_nothing() {
    let mut steps = 0;
    for kept in [false, true] {
        for step in 1.. {
            match World::die_at(step, kept, today()) {
                Ok(true) => steps += 1,
                Ok(false) => break,
                Err(what) => panic!("step {step}, kept {kept}: {what}"),
            }
        }
    }
    println!("{steps} deaths");
    assert!(steps > 40);
}
