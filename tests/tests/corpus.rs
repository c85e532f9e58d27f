//! The kept corpus, and mutations of it, through every parser that sees a stranger's bytes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and count on small numbers"
)]

use std::path::Path;

use martlet_tests::parsers::PARSERS;

/// Mutations of each piece of the corpus; the fuzzer makes as many as it is given time for.
const MUTATIONS: u64 = 300;

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut paths: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// A generator that is good enough to spoil bytes with.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % bound.max(1)
    }
}

fn spoil(bytes: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len());
        match dice.below(6) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at.min(bytes.len()), dice.below(256) as u8),
            2 if !bytes.is_empty() => drop(bytes.remove(at)),
            3 if !bytes.is_empty() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][dice.below(5)],
            4 if !bytes.is_empty() => bytes[at] ^= 1 << dice.below(8),
            _ => bytes.extend_from_within(at..),
        }
    }
}

#[test]
fn no_bytes_of_a_stranger_stop_us() {
    let seed = std::env::var("MARTLET_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.unwrap().as_secs() | 1
    });
    println!("MARTLET_SEED={seed}");
    let mut dice = Dice(seed);
    for (name, parser) in PARSERS {
        let pieces = corpus(name);
        assert!(pieces.len() >= 3, "{name} has a corpus");
        for piece in &pieces {
            parser(piece);
            for number in 0..MUTATIONS {
                let mut bytes = piece.clone();
                spoil(&mut bytes, &mut dice);
                let done = std::panic::catch_unwind(|| parser(&bytes));
                assert!(done.is_ok(), "{name}, mutation {number}: {}", hex::encode(&bytes));
            }
        }
    }
}
