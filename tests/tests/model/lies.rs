//! A relay that orders, withholds and forks as it likes.

use martlet_tests::model::{
    Rule,
    fork::{self, Fork},
    search::Reached,
};

use super::{STATES_MAX, larger};

#[test]
fn a_lying_relay_cannot_fork_a_case_in_which_nobody_takes_over() {
    let reached = lied_to(&Fork {
        letters: [1, 1, larger()],
        commits: 2,
        ..lying()
    });
    assert_eq!(reached.way_to(fork::State::forked), None);
}

#[test]
fn different_logs_are_noticed_by_the_next_letter_that_gets_through() {
    let reached = lied_to(&Fork {
        takeover: true,
        letters: [1, 1, larger()],
        ..lying()
    });
    assert_eq!(reached.way_to(fork::State::deceived), None);
    assert!(reached.way_to(fork::State::alarmed).is_some());
}

#[test]
fn a_fork_by_takeover_happens_only_where_people_compare_the_code() {
    let reached = lied_to(&Fork {
        takeover: true,
        letters: [0, 0, 0],
        ..lying()
    });
    assert!(reached.way_to(fork::State::forked).is_some());
    assert_eq!(reached.way_to(fork::State::forked_unseen), None);
}

#[test]
fn who_knows_of_a_removal_writes_nothing_that_the_removed_can_read() {
    let reached = lied_to(&Fork {
        takeover: true,
        letters: [1, 1, 0],
        ..lying()
    });
    assert_eq!(reached.way_to(fork::State::leaked), None);
    let unknowing = reached.way_to(fork::State::wrote_unknowing);
    assert!(unknowing.is_some(), "the limit that nothing can lift");
}

#[test]
fn without_one_committer_a_case_forks_and_nobody_is_there_to_compare() {
    let world = Fork {
        without: Some(Rule::OneCommitter),
        letters: [0, 0, 0],
        ..lying()
    };
    assert!(lied_to(&world).way_to(fork::State::forked_unseen).is_some());
}

#[test]
fn with_two_commits_by_one_device_for_one_epoch_a_case_forks() {
    let world = Fork {
        without: Some(Rule::OneCommitAnEpoch),
        letters: [0, 0, 0],
        commits: 2,
        ..lying()
    };
    assert!(lied_to(&world).way_to(fork::State::forked_unseen).is_some());
}

#[test]
fn without_heads_in_letters_different_logs_go_unnoticed() {
    let world = Fork {
        without: Some(Rule::HeadsInLetters),
        ..lying()
    };
    assert!(lied_to(&world).way_to(fork::State::deceived).is_some());
}

#[test]
fn with_letters_beside_a_pending_commit_the_removed_reads_one_who_knows() {
    let world = Fork {
        without: Some(Rule::NoLettersWhilePending),
        ..lying()
    };
    assert!(lied_to(&world).way_to(fork::State::leaked).is_some());
}

fn lying() -> Fork {
    Fork {
        without: None,
        letters: [1, 1, 0],
        commits: 1,
        takeover: false,
    }
}

fn lied_to(world: &Fork) -> Reached<fork::State> {
    let reached = Reached::all(world, STATES_MAX);
    println!("{} states: {world:?}", reached.count());
    reached
}
