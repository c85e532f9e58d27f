//! The rules for cases, searched whole: what holds with all of them, and what comes back when one is taken away.
//!
//! `MARTLET_MODEL=large cargo test --release -p martlet-tests --test model` searches worlds with one letter or fault more.

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

#[path = "model/lies.rs"]
mod lies;

use martlet_tests::model::{
    Rule,
    case::{Case, Faults, State},
    search::Reached,
};

const STATES_MAX: usize = 20_000_000;

// ---- An honest relay: with all rules.

#[test]
fn with_one_device_of_counsel_no_state_is_stuck() {
    let reached = search(&Case {
        letters: 1 + larger(),
        insider: 3,
        ..alone()
    });
    assert_never_stuck(&reached);
}

#[test]
fn with_two_devices_faults_and_a_takeover_no_state_is_stuck() {
    let reached = search(&Case {
        letters: 1 + larger(),
        ..pair()
    });
    assert_never_stuck(&reached);
}

#[test]
fn letters_are_read_once_however_often_they_are_sent() {
    let reached = search(&Case {
        letters: 2,
        faults: 1 + larger(),
        ..alone()
    });
    assert_eq!(reached.way_to(State::doubled), None);
}

#[test]
fn letters_that_do_not_expire_unread_are_read_in_order() {
    let with = Faults {
        crash: true,
        ..Faults::default()
    };
    let reached = search(&Case {
        letters: 2,
        insider: 2,
        with,
        ..alone()
    });
    assert_eq!(reached.way_to(State::disordered), None);
}

#[test]
fn where_channels_expire_nothing_is_written_where_a_removed_member_reads() {
    let reached = search(&expiring());
    assert_never_stuck(&reached);
    assert_eq!(reached.way_to(|state| state.leaked), None);
}

#[test]
fn an_absence_of_less_than_400_days_needs_no_rescue() {
    let reached = search(&Case {
        without: &[Rule::Rescue],
        insider: 3,
        ..alone()
    });
    assert_never_stuck(&reached);
}

// ---- An honest relay: what the rules do not cover. Each is a limit that people must know.

#[test]
fn a_letter_that_expired_unread_arrives_after_a_later_one() {
    let reached = search(&Case {
        letters: 2,
        ..alone()
    });
    assert!(reached.way_to(State::disordered).is_some());
}

#[test]
fn a_takeover_unseen_for_400_days_parts_the_case() {
    let with = Faults {
        takeover: true,
        channels_expire: true,
        ..Faults::default()
    };
    let world = Case {
        insider: 0,
        letters: 0,
        faults: 2,
        with,
        ..pair()
    };
    assert_stuck_after(&world, "a person commands a takeover");
}

#[test]
fn a_broken_commit_and_then_a_seized_committer_need_a_new_case() {
    let with = Faults {
        broken: true,
        seize: true,
        ..Faults::default()
    };
    let world = Case {
        insider: 0,
        letters: 0,
        faults: 2,
        with,
        ..pair()
    };
    assert_stuck_after(&world, "counsel's first device is seized");
}

#[test]
fn a_channel_full_of_letters_stands_still_unless_the_committer_commits() {
    let world = Case {
        letters: 2,
        faults: 2,
        without: &[Rule::CommitWhenFull],
        ..alone()
    };
    assert_stuck_after(&world, "Amal sends a letter again");
    assert_never_stuck(&search(&Case {
        without: &[],
        ..world
    }));
}

// ---- An honest relay: each rule taken away.

#[test]
fn without_skipping_the_invalid_junk_stops_everybody() {
    assert_stuck_after(
        &Case {
            without: &[Rule::SkipInvalid],
            ..alone()
        },
        "Mallory adds junk",
    );
}

#[test]
fn without_counsels_commits_only_mallory_ends_the_epoch() {
    assert_stuck_after(
        &Case {
            without: &[Rule::CounselOnly],
            ..alone()
        },
        "Mallory adds a commit",
    );
}

#[test]
fn without_the_first_commit_winning_a_race_parts_the_case() {
    let with = Faults {
        takeover: true,
        ..Faults::default()
    };
    let world = Case {
        without: &[Rule::FirstWins],
        letters: 0,
        with,
        ..pair()
    };
    assert_stuck_after(&world, "a person commands a takeover");
}

#[test]
fn without_stopping_at_a_commit_that_does_not_work_a_member_is_left_behind() {
    let world = Case {
        without: &[Rule::StopAtInapplicable],
        ..pair()
    };
    assert_stuck_after(&world, "counsel stores a commit that does not work for all");
}

#[test]
fn without_room_for_the_keeper_a_full_channel_stops_a_removal() {
    assert_stuck_after(
        &Case {
            without: &[Rule::RoomForKeeper],
            insider: 3,
            ..alone()
        },
        "Mallory adds junk",
    );
}

#[test]
fn with_a_shared_drop_mallory_and_one_fault_end_a_case() {
    let world = Case {
        without: &[Rule::NoDrop],
        letters: 0,
        ..pair()
    };
    assert_stuck_after(&world, "Mallory drops the channel");
}

#[test]
fn where_nobody_opens_but_the_committer_and_only_afterwards_a_seized_committer_leaves_no_channel() {
    let world = Case {
        without: &[Rule::AnyoneOpens, Rule::NamedIncarnation],
        ..pair()
    };
    assert_stuck_after(&world, "counsel's first device is seized");
    // Who opens the channel before sealing leaves nothing to open for the first time.
    let named = Case {
        without: &[Rule::AnyoneOpens],
        ..pair()
    };
    assert_never_stuck(&search(&named));
}

#[test]
fn without_storing_first_a_crash_forgets_a_letter() {
    let lost = "Amal's program ends before it stored her letter";
    assert_stuck_after(
        &Case {
            without: &[Rule::StoredFirst],
            ..alone()
        },
        lost,
    );
}

#[test]
fn without_storing_first_a_crash_takes_the_committers_own_commit() {
    let lost = "counsel's program ends before it stored its commit";
    assert_stuck_after(
        &Case {
            without: &[Rule::StoredFirst],
            letters: 0,
            ..alone()
        },
        lost,
    );
}

#[test]
fn without_opening_again_an_expired_channel_ends_the_case() {
    let world = Case {
        without: &[Rule::OpenAgain],
        ..expiring()
    };
    assert_stuck_after(&world, "400 days pass");
}

#[test]
fn without_silence_in_the_unfamiliar_a_removed_member_reads_on() {
    let world = Case {
        without: &[Rule::NoLettersInUnfamiliar],
        ..expiring()
    };
    assert!(search(&world).way_to(|state| state.leaked).is_some());
}

#[test]
fn without_the_incarnation_named_a_channel_first_seen_after_it_was_reopened_is_taken_for_familiar() {
    let world = Case {
        without: &[Rule::NamedIncarnation],
        ..expiring()
    };
    let leak = search(&world)
        .way_to(|state| state.leaked)
        .expect("who was removed reads a letter");
    assert!(leak.contains(&"400 days pass"), "{leak:?}");
}

#[test]
fn without_commits_that_outlive_letters_a_month_away_needs_rescue() {
    assert_stuck_after(
        &Case {
            without: &[Rule::CommitsOutlive, Rule::Rescue],
            ..alone()
        },
        "30 days pass",
    );
}

#[test]
fn with_standalone_proposals_a_commit_outlives_what_it_refers_to() {
    let world = Case {
        without: &[Rule::NoProposals, Rule::Rescue],
        letters: 0,
        ..alone()
    };
    assert_stuck_after(&world, "Mallory adds a proposal");
}

#[test]
fn without_encrypting_again_a_refused_letter_is_never_read() {
    assert_stuck_after(
        &Case {
            without: &[Rule::EncryptAgain],
            ..alone()
        },
        "a refused letter is not encrypted again",
    );
}

#[test]
fn without_keeping_letters_until_a_receipt_they_expire_unread() {
    assert_stuck_after(
        &Case {
            without: &[Rule::KeptUntilReceipt],
            ..alone()
        },
        "30 days pass",
    );
}

#[test]
fn without_the_same_letter_id_a_letter_is_read_twice() {
    assert!(
        search(&Case {
            without: &[Rule::SameLetterId],
            ..alone()
        })
        .way_to(State::doubled)
        .is_some()
    );
}

#[test]
fn with_an_hour_that_decides_validity_a_slow_clock_is_left_behind() {
    let world = Case {
        without: &[Rule::HourIsCourtesy],
        letters: 0,
        ..pair()
    };
    assert_stuck_after(&world, "counsel stores a commit that does not work for all");
}

#[test]
fn without_rescue_a_commit_that_does_not_work_ends_the_case() {
    let world = Case {
        without: &[Rule::Rescue],
        letters: 0,
        ..pair()
    };
    assert_stuck_after(&world, "counsel stores a commit that does not work for all");
}

// ---- Worlds.

fn larger() -> u8 {
    u8::from(std::env::var_os("MARTLET_MODEL").is_some_and(|size| size == "large"))
}

/// One device of counsel; crashes and letters that expire.
fn alone() -> Case {
    Case {
        without: &[],
        devices: 1,
        letters: 1,
        insider: 1,
        faults: 1,
        idle_commits: 0,
        with: Faults {
            crash: true,
            letters_expire: true,
            ..Faults::default()
        },
    }
}

/// One device of counsel, a commit before the removal, and channels that expire.
fn expiring() -> Case {
    let with = Faults {
        channels_expire: true,
        ..Faults::default()
    };
    Case {
        idle_commits: 1,
        with,
        ..alone()
    }
}

/// Two devices of counsel, and every fault but the end of a whole channel.
fn pair() -> Case {
    let with = Faults {
        crash: true,
        seize: true,
        letters_expire: true,
        channels_expire: false,
        broken: true,
        takeover: true,
    };
    Case {
        devices: 2,
        with,
        ..alone()
    }
}

fn search(world: &Case) -> Reached<State> {
    let reached = Reached::all(world, STATES_MAX);
    println!("{} states: {world:?}", reached.count());
    reached
}

fn assert_never_stuck(reached: &Reached<State>) {
    assert_eq!(reached.stuck(State::good), (0, Vec::new()));
}

/// Some states are stuck, and the shortest way there takes this step.
fn assert_stuck_after(world: &Case, step: &str) {
    let (stuck, way) = search(world).stuck(State::good);
    println!("{stuck} stuck; the shortest way: {way:?}");
    assert!(stuck > 0 && way.contains(&step), "{stuck} stuck: {way:?}");
}
