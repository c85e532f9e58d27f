//! A relay whose folder was lost and put back from an old copy, with real processes: nothing that was written is missing,
//! nothing comes twice, and the case goes on.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests fail by panicking, and count on small numbers"
)]

use std::{path::Path, process::Command};

use martlet_tests::processes::{Daemon, World, martletd};

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

fn restored(dir: &Path) -> std::process::Output {
    martletd(&["restored", "--dir", dir.to_str().unwrap(), "--json"])
}

#[test]
fn what_an_old_copy_of_a_relay_forgot_is_sent_again() {
    let (world, daemon) = World::start();
    let (ours, theirs, _) = world.case(&daemon);
    let relay = daemon.dir.clone();
    let running = restored(&relay);
    assert_eq!(running.status.code(), Some(1), "a relay that runs is left alone");
    for who in ["amal", "ines", "amal", "ines"] {
        world.ok(who, &["sync"]);
    }
    world.ok("amal", &["send", &ours, "before the copy"]);
    daemon.terminate();
    copy(&relay, &world.path("copy"));
    let daemon = Daemon::start(&relay);
    // What the copy lacks: letters read and not read, another member, and so another epoch.
    world.ok("ines", &["sync"]);
    world.ok("ines", &["send", &theirs, "after the copy"]);
    let link = daemon.ready["link"].as_str().unwrap();
    world.ok(
        "noor",
        &["init", "--name", "Noor", "--relay", link, "--kdf-floor"],
    );
    let invite = world.ok("noor", &["invite"])["invite"]
        .as_str()
        .unwrap()
        .to_string();
    world.ok("ines", &["add", &theirs, &invite, "--role", "interpreter"]);
    world.ok("amal", &["sync"]);
    world.ok("amal", &["send", &ours, "in the new epoch"]);
    world.ok("noor", &["sync"]);
    daemon.kill();
    std::fs::remove_dir_all(&relay).unwrap();
    copy(&world.path("copy"), &relay);
    let marked = restored(&relay);
    assert!(
        marked.status.success(),
        "{}",
        String::from_utf8_lossy(&marked.stderr)
    );
    let daemon = Daemon::start(&relay);
    for _ in 0..3 {
        for who in ["amal", "ines", "noor"] {
            world.run(who, &["sync"]);
        }
    }
    world.ok("ines", &["send", &theirs, "goes on"]);
    for who in ["amal", "noor", "ines"] {
        world.ok(who, &["sync"]);
    }
    let all = [
        "first",
        "before the copy",
        "after the copy",
        "in the new epoch",
        "goes on",
    ];
    let sorted = |mut texts: Vec<String>| {
        texts.retain(|text| !text.contains("added Noor"));
        texts.sort();
        texts
    };
    let wanted = sorted(all.map(String::from).to_vec());
    assert_eq!(sorted(world.texts("ines", &theirs)), wanted);
    assert_eq!(sorted(world.texts("amal", &ours)), wanted);
    let hers = world.ok("noor", &["cases"])["cases"][0]["case"]
        .as_str()
        .unwrap()
        .to_string();
    // What is sent again goes to whoever is in the case then.
    let hers = world.texts("noor", &hers);
    for text in ["in the new epoch", "goes on"] {
        assert_eq!(hers.iter().filter(|read| *read == text).count(), 1, "{hers:?}");
    }
    assert!(!hers.contains(&"first".to_string()), "{hers:?}");
    for (who, case) in [("amal", &ours), ("ines", &theirs)] {
        let cases = world.ok(who, &["cases"]);
        assert_eq!(cases["cases"][0]["unsent"], 0, "{who} {case}: {cases}");
    }
    daemon.terminate();
}
