//! The power-cut harness in its short form, and the proof that it would notice.

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

use std::process::{Command, Output};

fn power_cut(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_power_cut"))
        .args(args)
        .output()
        .unwrap()
}

/// Whether this machine lets us cut power: root, loop devices, the tools.
fn possible() -> bool {
    let probe = "d=$(mktemp -d) && truncate -s 16M $d/i && mkfs.ext4 -q -F $d/i && mkdir $d/m && mount -o loop $d/i $d/m \
                 && umount $d/m && rm -r $d && python3 -c 'import fcntl'";
    Command::new("unshare")
        .args(["-m", "sh", "-c", probe])
        .output()
        .is_ok_and(|done| done.status.success())
}

#[test]
fn nothing_acknowledged_is_lost_when_the_power_fails() {
    if !possible() {
        println!("NOT RUN: power cuts need root, loop devices, mkfs.ext4 and python3");
        return;
    }
    let rounds = std::env::var("MARTLET_POWER_CUT_ROUNDS").unwrap_or_else(|_| "20".into());
    let done = power_cut(&[&rounds]);
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        done.status.success(),
        "{said} {}",
        String::from_utf8_lossy(&done.stderr)
    );
    assert!(
        said.trim_end().ends_with("lost 0") && !said.contains("acknowledged 0 "),
        "{said}"
    );
    let blind = power_cut(&["3", "--without-sync"]);
    let said = String::from_utf8_lossy(&blind.stdout).into_owned();
    assert_eq!(
        blind.status.code(),
        Some(1),
        "without the sync the harness must find entries lost: {said}"
    );
}
