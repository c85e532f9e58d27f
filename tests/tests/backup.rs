//! The relay's machine is lost: its keys come back on another one by `backup` and `restore`, and people carry on.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests fail by panicking, and count on small numbers"
)]

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use martlet_tests::processes::{Daemon, World, martletd};
use serde_json::Value;

fn run(args: &[&str]) -> (i32, Value) {
    let done = martletd(&[args, &["--json"]].concat());
    let out = String::from_utf8(done.stdout).unwrap();
    (
        done.status.code().unwrap(),
        serde_json::from_str(&out).unwrap_or_else(|_| panic!("{args:?}: {out}")),
    )
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_relay_comes_back_on_another_machine_and_people_carry_on() {
    let (world, daemon) = World::start();
    let (ours, theirs, _) = world.case(&daemon);
    let (relay, file) = (daemon.dir.clone(), world.path("relay.backup"));
    let (right, wrong) = (world.path("passphrase"), world.path("wrong"));
    let site = relay.join("site/css");
    std::fs::create_dir_all(&site).unwrap();
    std::fs::write(site.join("a.css"), "p {}").unwrap();
    let backup = [
        "backup",
        "--dir",
        text(&relay),
        "--to",
        text(&file),
        "--passphrase-file",
        text(&right),
    ];
    assert_eq!(run(&backup).0, 0, "beside a relay that runs");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let (code, told) = run(&backup);
    assert_eq!(
        (code, &told["error"]["code"]),
        (1, &"exists".into()),
        "it never overwrites"
    );
    let sealed = std::fs::read(&file).unwrap();
    let token = std::fs::read(relay.join("opening.token")).unwrap();
    assert!(!sealed.windows(token.len()).any(|part| part == token));

    // Written before the machine is lost, and not read by then.
    for who in ["amal", "ines", "amal", "ines"] {
        world.ok(who, &["sync"]);
    }
    world.ok("amal", &["send", &ours, "before the loss"]);
    daemon.kill();
    std::fs::rename(&relay, world.path("lost")).unwrap();

    let restore = |from: &Path, passphrase: &Path| {
        run(&[
            "restore",
            "--from",
            text(from),
            "--dir",
            text(&relay),
            "--passphrase-file",
            text(passphrase),
        ])
    };
    let (code, told) = restore(&file, &wrong);
    assert_eq!((code, &told["error"]["code"]), (4, &"wrong-passphrase".into()));
    let torn = world.path("torn");
    for (at, length) in [
        (sealed.len() - 1, sealed.len()),
        (sealed.len() / 2, sealed.len()),
        (0, sealed.len() / 2),
    ] {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        changed.truncate(length);
        std::fs::write(&torn, changed).unwrap();
        let (code, told) = restore(&torn, &right);
        assert_eq!((code, &told["error"]["code"]), (1, &"backup-damaged".into()));
    }
    let (code, told) = restore(&world.path("none"), &right);
    assert_eq!((code, &told["error"]["code"]), (6, &"not-found".into()));
    assert!(!relay.join("relay.key").exists() && !relay.join("store").exists());

    let (code, told) = restore(&file, &right);
    assert_eq!(code, 0, "{told}");
    assert_eq!(std::fs::read(relay.join("site/css/a.css")).unwrap(), b"p {}");
    assert_eq!(
        relay.join("relay.key").metadata().unwrap().permissions().mode() & 0o777,
        0o600
    );
    let (code, again) = restore(&file, &right);
    assert_eq!((code, &again["error"]["code"]), (1, &"exists".into()));

    let daemon = Daemon::start(&relay);
    assert_eq!(told["link"], daemon.ready["link"], "people know it again");
    for _ in 0..3 {
        world.ok("amal", &["sync"]);
        world.ok("ines", &["sync"]);
    }
    world.ok("ines", &["send", &theirs, "after the loss"]);
    for who in ["amal", "ines", "amal"] {
        world.ok(who, &["sync"]);
    }
    assert_eq!(
        world.texts("ines", &theirs),
        ["first", "before the loss", "after the loss"]
    );
    assert_eq!(
        world.texts("amal", &ours),
        ["first", "before the loss", "after the loss"]
    );
    daemon.terminate();
}
