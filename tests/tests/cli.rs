//! The two binaries as people and scripts use them: real processes, real files, the exit codes of the contract.

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
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Command, Stdio},
};

use martlet_proto::{invite::Invite, link::Pin};
use martlet_tests::{
    processes::{Daemon, World, binary, martletd},
    write_file,
};
use serde_json::Value;

#[test]
fn the_main_job_through_the_binaries() {
    let (world, daemon) = World::start();
    let (ours, theirs, invite) = world.case(&daemon);
    let unread = world.ok("ines", &["read", &theirs]);
    let letter = &unread["letters"][0];
    for field in [
        "id",
        "from",
        "name",
        "role",
        "sent",
        "received",
        "kind",
        "text",
        "delivered_to",
    ] {
        assert!(!letter[field].is_null(), "{field}: {letter}");
    }
    assert_eq!(
        (letter["text"].as_str(), letter["role"].as_str()),
        (Some("first"), Some("client"))
    );
    assert_eq!(
        world.ok("ines", &["read", &theirs])["letters"]
            .as_array()
            .unwrap()
            .len(),
        0,
        "marked read"
    );

    let paper = world.path("a\nb\u{202e}.pdf");
    write_file(&paper, 200_000);
    let sent = world.ok(
        "amal",
        &["send", &ours, "with papers", "--file", paper.to_str().unwrap()],
    );
    assert_eq!(sent["letters"].as_array().unwrap().len(), 2);
    assert_eq!(sent["letters"][0]["queued"], false);
    let read = world.ok("ines", &["read", &theirs]);
    let file = read["letters"]
        .as_array()
        .unwrap()
        .iter()
        .find(|letter| letter["kind"] == "document")
        .unwrap();
    assert_eq!(file["file"]["sha256"], sent["letters"][1]["sha256"]);
    std::fs::create_dir(world.path("in")).unwrap();
    let id = file["file"]["id"].as_str().unwrap();
    let got = world.ok(
        "ines",
        &["get", &theirs, id, "--to", world.path("in").to_str().unwrap()],
    );
    let path = PathBuf::from(got["path"].as_str().unwrap());
    assert_eq!(
        (path.parent(), got["size"].as_u64()),
        (Some(world.path("in").as_path()), Some(200_000))
    );
    assert_eq!(std::fs::read(path).unwrap(), std::fs::read(paper).unwrap());

    let mut child = world
        .command("amal", &["send", &ours, "-", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all("ж".repeat(30_000).as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success());
    assert!(world.texts("ines", &theirs).contains(&"ж".repeat(30_000)));
    world.ok("amal", &["sync"]);
    let (mine, hers) = (
        world.ok("amal", &["verify", &ours]),
        world.ok("ines", &["verify", &theirs]),
    );
    assert_eq!(
        (&mine["number"], mine["verified"].as_bool()),
        (&hers["number"], Some(false))
    );
    assert_eq!(
        world.ok("amal", &["verify", &ours, "--confirm"])["verified"],
        true
    );
    let cases = world.ok("amal", &["cases"]);
    assert_eq!(cases["cases"][0]["members"].as_array().unwrap().len(), 2);
    let status = world.ok("amal", &["status"]);
    assert_eq!(
        (
            status["online"].as_bool(),
            status["path"].as_str(),
            status["unsent"].as_u64()
        ),
        (Some(true), Some("quic"), Some(0))
    );

    let invites = world.ok("ines", &["invites"]);
    world.ok("ines", &["revoke", invites["invites"][0]["id"].as_str().unwrap()]);
    world.fails("amal", &["open", &invite], 6, "invite-expired");
    world.ok("amal", &["wipe", "--yes"]);
    world.fails("amal", &["cases"], 1, "no-vault");
    daemon.terminate();
}

#[test]
fn every_refusal_has_its_code() {
    let (world, daemon) = World::start();
    let (ours, _, invite) = world.case(&daemon);
    let wrong = world.path("wrong");
    let wrong = wrong.to_str().unwrap();
    world.fails("amal", &["no-such-command"], 2, "usage");
    world.fails("amal", &["open", "martlet:ABC!"], 2, "bad-link");
    world.fails("amal", &["open", &invite[..invite.len() - 1]], 2, "bad-link");
    world.fails("amal", &["send", &ours, &"x".repeat(60_001)], 2, "usage");
    world.fails("amal", &["send", &ours, " "], 2, "usage");
    world.fails("amal", &["wipe"], 2, "usage");
    world.fails(
        "amal",
        &["cases", "--passphrase-file", wrong],
        4,
        "wrong-passphrase",
    );
    let mut parsed: Invite = invite.parse().unwrap();
    parsed.pin = Pin::new([9; 32]);
    world.fails("amal", &["open", &parsed.to_string()], 5, "wrong-pin");
    let mut parsed: Invite = invite.parse().unwrap();
    parsed.mark = martlet_proto::log::Mark::new([9; 32]);
    world.fails("amal", &["open", &parsed.to_string()], 6, "invite-expired");
    world.fails("amal", &["send", "nobody", "x"], 6, "not-found");
    world.fails("amal", &["get", &ours, "nothing", "--to", "."], 6, "not-found");
    world.fails("ines", &["revoke", "nothing"], 6, "not-found");
    world.fails("ines", &["open", &invite], 2, "usage");
    world.fails("amal", &["init", "--kdf-floor"], 1, "vault-exists");
    let none = Command::new(binary("martlet"))
        .args(["cases", "--json", "--home"])
        .arg(world.path("amal"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(none.status.code(), Some(2), "no passphrase, no terminal");
    daemon.terminate();
}

#[test]
fn an_invite_typed_by_a_person_still_works() {
    let (world, daemon) = World::start();
    let (_, _, invite) = world.case(&daemon);
    let typed: String = invite.to_lowercase().chars().flat_map(|c| [c, ' ']).collect();
    world.ok("zahra", &["init", "--name", "Zahra", "--kdf-floor"]);
    world.ok(
        "zahra",
        &["open", &format!("{}.\n", typed.replace("a a", "a\r\na"))],
    );
    let words: Vec<String> = invite
        .as_bytes()
        .chunks(30)
        .map(|part| String::from_utf8(part.to_vec()).unwrap())
        .collect();
    let mut args = vec!["open"];
    args.extend(words.iter().map(String::as_str));
    world.ok("zahra", &args);
    daemon.terminate();
}

#[test]
fn what_waits_goes_out_once_when_the_relay_is_back() {
    let (world, daemon) = World::start();
    let (ours, theirs, _) = world.case(&daemon);
    let relay = daemon.dir.clone();
    world.ok("ines", &["sync"]);
    daemon.kill();
    let (code, sent) = world.run("amal", &["send", &ours, "into the dark"]);
    assert_eq!((code, sent["letters"][0]["queued"].as_bool()), (3, Some(true)));
    let (code, _) = world.run("amal", &["sync"]);
    assert_eq!(code, 3);
    assert_eq!(world.run("amal", &["status"]).1["online"], false);
    let daemon = Daemon::start(&relay);
    world.ok("amal", &["sync"]);
    world.ok("amal", &["sync"]);
    assert_eq!(world.texts("ines", &theirs), ["first", "into the dark"]);
    daemon.terminate();
}

#[test]
fn killed_at_any_moment_nothing_is_lost_or_doubled() {
    let rounds = std::env::var("MARTLET_KILL_ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(6u64);
    let (world, mut daemon) = World::start();
    let (ours, theirs, _) = world.case(&daemon);
    let relay = daemon.dir.clone();
    let paper = world.path("video.mp4");
    write_file(&paper, 12_000_000);
    for round in 0..rounds {
        let text = format!("round {round}");
        let mut args = vec!["send", &ours, &text];
        if round == 0 {
            args.extend(["--file", paper.to_str().unwrap()]);
        }
        let mut child = world
            .command("amal", &args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(60 + 55 * round));
        if round % 2 == 0 {
            child.kill().unwrap();
        }
        if round % 3 == 0 {
            daemon.kill();
            daemon = Daemon::start(&relay);
        }
        child.wait().unwrap();
    }
    while world.run("amal", &["sync"]).0 != 0 {}
    world.ok("ines", &["sync"]);
    world.ok("amal", &["sync"]);
    let (sent, arrived) = (world.texts("amal", &ours), world.texts("ines", &theirs));
    let sorted = |mut texts: Vec<String>| {
        texts.sort();
        texts
    };
    assert_eq!(
        sorted(sent.clone()),
        sorted(arrived.clone()),
        "what the sender kept is what arrived"
    );
    let mut once = sorted(arrived.clone());
    once.dedup();
    assert_eq!(once.len(), arrived.len(), "nothing twice");
    let read = world.ok("ines", &["read", &theirs, "--all"]);
    for letter in read["letters"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|letter| letter["kind"] == "document")
    {
        let id = letter["file"]["id"].as_str().unwrap();
        let to = tempfile::tempdir().unwrap();
        let got = world.ok("ines", &["get", &theirs, id, "--to", to.path().to_str().unwrap()]);
        assert_eq!(got["size"], 12_000_000);
    }
    daemon.terminate();
}

#[test]
fn commands_go_through_a_running_follow() {
    let (world, daemon) = World::start();
    let (ours, theirs, _) = world.case(&daemon);
    let mut follow = world
        .command("ines", &["follow", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert!(first["event"].is_string());
    world.ok("amal", &["send", &ours, "live"]);
    let letter = lines
        .by_ref()
        .map_while(Result::ok)
        .map(|line| serde_json::from_str::<Value>(&line).unwrap())
        .find(|event| event["event"] == "letter" && event["letter"]["text"] == "live");
    assert!(letter.is_some());
    world.ok("ines", &["send", &theirs, "from beside"]);
    assert!(world.texts("ines", &theirs).contains(&"from beside".to_string()));
    world.fails("ines", &["follow"], 1, "vault-busy");
    let wrong = world.path("wrong");
    world.fails(
        "ines",
        &["cases", "--passphrase-file", wrong.to_str().unwrap()],
        4,
        "wrong-passphrase",
    );
    let pid = follow.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    drop(lines);
    assert!(follow.wait().unwrap().success());
    assert!(world.texts("amal", &ours).contains(&"from beside".to_string()));
    daemon.terminate();
}

#[test]
fn the_relays_own_commands() {
    let (world, daemon) = World::start();
    let dir = daemon.dir.to_str().unwrap().to_string();
    let json = |args: &[&str]| {
        let done = martletd(args);
        (
            done.status.code().unwrap(),
            serde_json::from_slice::<Value>(&done.stdout).unwrap(),
        )
    };
    let (code, status) = json(&["status", "--dir", &dir, "--json"]);
    assert_eq!(code, 0);
    for field in ["channels", "entries", "bytes", "connections", "uptime_s"] {
        assert!(status[field].is_u64(), "{field}");
    }
    assert_eq!(
        json(&["link", "--dir", &dir, "--json"]).1["link"],
        daemon.ready["link"]
    );
    assert_eq!(json(&["doctor", "--dir", &dir, "--json"]).1["ok"], true);
    let (code, refused) = json(&["init", "--dir", &dir, "--json"]);
    assert_eq!((code, refused["error"]["code"].as_str()), (1, Some("exists")));
    daemon.terminate();
    let (code, down) = json(&["status", "--dir", &dir, "--json"]);
    assert_eq!((code, down["error"]["code"].as_str()), (3, Some("not-running")));
    let nowhere = world.path("nowhere");
    assert_eq!(
        json(&["serve", "--dir", nowhere.to_str().unwrap(), "--json"]).0,
        6
    );
    assert_eq!(json(&["serve", "--json"]).0, 2);
}

#[test]
fn a_damaged_vault_is_said_to_be_and_nothing_panics() {
    let (world, daemon) = World::start();
    let (_, _, _) = world.case(&daemon);
    daemon.terminate();
    for (file, cut) in [("slot", 50), ("records/db", 5000), ("records/conf", 1)] {
        let path = world.path("amal").join(file);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..cut.min(whole.len())]).unwrap();
        let (code, value) = world.run("amal", &["verify", "x"]);
        // Damage that the database can make good again leaves the vault whole: then only the case is unknown.
        assert!(matches!(code, 1 | 4 | 6), "{file}: {value}");
        std::fs::write(&path, whole).unwrap();
    }
    assert_eq!(world.run("amal", &["verify", "x"]).0, 6, "whole again");
}

#[test]
fn completions_and_manual_are_printed() {
    let (world, daemon) = World::start();
    for shell in ["bash", "zsh", "fish"] {
        let done = world.command("x", &["completions", shell]).output().unwrap();
        assert!(done.status.success() && !done.stdout.is_empty());
    }
    assert!(
        String::from_utf8(world.command("x", &["man"]).output().unwrap().stdout)
            .unwrap()
            .contains(".TH")
    );
    let demo = world.command("x", &["demo", "--json"]).output().unwrap();
    let told: Value = serde_json::from_slice(&demo.stdout).unwrap();
    assert_eq!(told["ok"], true);
    daemon.terminate();
}
