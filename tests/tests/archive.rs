//! Backup and restore through the binaries: what comes back, what does not, and what is never in an archive.

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
    io::{BufReader, Cursor, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use martlet::{
    archive::{Item, KeptCase, KeptLetter, Owner, Writer},
    case::ratchet_name,
    entropy::Entropy,
    inbox::packages_name,
    record::{CaseKeys, CaseRecord, InviteRecord, PackageKeys, Profile, Standing, decode},
    vault::{Name, Table, Vault},
};
use martlet_proto::{
    Secret, Time,
    age::{Opener, Random, Sealer, Work},
    case::RescueSeeds,
    letter::{Body, Letter, LetterId},
    link::{Door, Pin, RelayAddress},
};
use martlet_tests::{
    processes::{Daemon, World},
    write_file,
};
use serde_json::json;

const PASSPHRASE: &[u8] = b"correct horse";

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Amal's archive, and her vault gone.
fn lost(world: &World) -> (PathBuf, serde_json::Value) {
    let archive = world.path("amal.age");
    let kept = world.ok("amal", &["backup", "--to", text(&archive)]);
    world.ok("amal", &["wipe", "--yes"]);
    (archive, kept)
}

fn restore(archive: &Path) -> [&str; 4] {
    ["restore", "--kdf-floor", "--from", text(archive)]
}

#[test]
fn what_was_kept_is_read_again_and_nothing_can_be_sent() {
    let (world, daemon) = World::start();
    let (ours, theirs, invite) = world.case(&daemon);
    let paper = world.path("passport.txt");
    write_file(&paper, 100_000);
    world.ok("amal", &["send", &ours, "--file", text(&paper)]);
    world.ok("ines", &["send", &theirs, "I am on it."]);
    world.ok("amal", &["sync"]);
    world.ok("amal", &["verify", &ours, "--confirm"]);
    let (before, number) = (
        world.ok("amal", &["cases"])["cases"][0].clone(),
        world.ok("amal", &["verify", &ours])["number"].clone(),
    );
    assert_eq!(before["standing"], "member");
    let (archive, kept) = lost(&world);
    assert_eq!(kept, json!({"cases": 1, "letters": 3}));

    assert_eq!(world.ok("amal", &restore(&archive)), kept);
    let after = world.ok("amal", &["cases"])["cases"][0].clone();
    assert_eq!(after["standing"], "restored");
    for field in ["case", "label", "members", "unread", "last"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    let unread = world.ok("amal", &["read", &ours]);
    assert_eq!(unread["letters"][0]["text"], "I am on it.", "unread stays unread");
    assert_eq!(unread["letters"].as_array().unwrap().len(), 1);
    assert_eq!(world.ok("amal", &["read", &ours])["letters"], json!([]));
    let all = world.ok("amal", &["read", &ours, "--all"]);
    assert_eq!(all["letters"].as_array().unwrap().len(), 3);
    assert_eq!(all["letters"][0]["delivered_to"].as_array().unwrap().len(), 1);
    assert_eq!(world.texts("amal", &ours), ["first", "I am on it."]);
    let seen = world.ok("amal", &["verify", &ours]);
    assert_eq!((&seen["number"], &seen["verified"]), (&number, &json!(true)));
    let file = all["letters"][1]["file"]["id"].as_str().unwrap();
    std::fs::create_dir(world.path("in")).unwrap();
    let got = world.ok("amal", &["get", &ours, file, "--to", text(&world.path("in"))]);
    assert_eq!(
        std::fs::read(got["path"].as_str().unwrap()).unwrap(),
        std::fs::read(&paper).unwrap()
    );

    for refused in [
        vec!["send", &ours, "after"],
        vec!["send", &ours, "--file", text(&paper)],
        vec!["follow", &ours],
    ] {
        world.fails("amal", &refused, 2, "case-restored");
    }
    let (_, said) = world.run("amal", &["send", &ours, "after"]);
    let advice = said["error"]["advice"].as_str().unwrap();
    assert!(advice.contains("martlet rejoin"), "{advice}");
    world.ok("amal", &["sync"]);
    assert_eq!(world.texts("ines", &theirs), ["first", "I am on it."]);

    // The same person: a new case beside the old, and a second archive with both.
    let opened = world.ok("amal", &["open", &invite, "--text", "again"]);
    world.ok("amal", &["send", opened["case"].as_str().unwrap(), "and again"]);
    let members = &world.ok("ines", &["cases"])["cases"];
    let amal = |case: usize| members[case]["members"][0]["fingerprint"].clone();
    assert_eq!(amal(0), amal(1));
    let second = world.path("second.age");
    let kept = world.ok("amal", &["backup", "--to", text(&second)]);
    assert_eq!(kept, json!({"cases": 2, "letters": 5}));
    daemon.terminate();
}

#[test]
fn a_letter_that_had_not_been_sent_is_kept_as_that_and_never_goes_out() {
    let (world, daemon) = World::start();
    let (ours, theirs, _) = world.case(&daemon);
    let relay = daemon.dir.clone();
    world.ok("ines", &["sync"]);
    daemon.kill();
    assert_eq!(world.run("amal", &["send", &ours, "into the dark"]).0, 3);
    let (archive, _) = lost(&world);
    world.ok("amal", &restore(&archive));
    let daemon = Daemon::start(&relay);
    world.ok("amal", &["sync"]);
    let letters = world.ok("amal", &["read", &ours, "--all"])["letters"].clone();
    let states = |at: usize| (&letters[at]["queued"], &letters[at]["not_sent"]);
    assert_eq!(letters[1]["text"], "into the dark");
    assert_eq!(states(0), (&json!(false), &json!(false)));
    assert_eq!(states(1), (&json!(false), &json!(true)));
    let told = world.command("amal", &["read", &ours, "--all"]).output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("into the dark\n  (not sent)"), "{told}");
    assert_eq!(world.ok("amal", &["status"])["unsent"], 0);
    assert_eq!(world.texts("ines", &theirs), ["first"]);
    daemon.terminate();
}

#[test]
fn counsel_comes_back_with_the_relay_and_without_invites() {
    let (world, daemon) = World::start();
    let (_, theirs, _) = world.case(&daemon);
    let archive = world.path("ines.age");
    world.ok("ines", &["backup", "--to", text(&archive)]);
    world.ok("ines", &["wipe", "--yes"]);
    world.ok("ines", &restore(&archive));
    assert_eq!(world.ok("ines", &["invites"]), json!({"invites": []}));
    assert_eq!(world.texts("ines", &theirs), ["first"]);
    // What is noted in a restored case is kept.
    world.ok("ines", &["verify", &theirs, "--confirm"]);
    assert_eq!(world.ok("ines", &["verify", &theirs])["verified"], true);
    // The home relay is known: a new invite is answered.
    let invite = world.ok("ines", &["invite"])["invite"]
        .as_str()
        .unwrap()
        .to_string();
    world.ok("zahra", &["init", "--name", "Zahra", "--kdf-floor"]);
    world.ok("zahra", &["open", &invite, "--text", "from Zahra"]);
    let cases = world.ok("ines", &["cases"])["cases"].clone();
    let standings: Vec<_> = cases
        .as_array()
        .unwrap()
        .iter()
        .map(|case| case["standing"].as_str().unwrap())
        .collect();
    assert_eq!(standings, ["member", "restored"], "what is unread comes first");
    daemon.terminate();
}

#[test]
fn nothing_is_overwritten_and_no_wrong_archive_leaves_a_vault() {
    let (world, daemon) = World::start();
    let (ours, ..) = world.case(&daemon);
    daemon.terminate();
    let (archive, wrong) = (world.path("amal.age"), world.path("wrong"));
    world.ok("amal", &["backup", "--to", text(&archive)]);
    let mode = std::fs::metadata(&archive).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let whole = std::fs::read(&archive).unwrap();
    world.fails("amal", &["backup", "--to", text(&archive)], 1, "file-exists");
    let nowhere = world.path("nowhere/amal.age");
    world.fails("amal", &["backup", "--to", text(&nowhere)], 1, "file");
    world.fails("amal", &restore(&archive), 1, "vault-exists");
    assert_eq!(std::fs::read(&archive).unwrap(), whole);
    let left = std::fs::read_dir(world.dir.path()).unwrap();
    let mut left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(left.all(|name| !name.contains("part")), "nothing half-made");

    let other = [
        restore(&archive).as_slice(),
        &["--archive-passphrase-file", text(&wrong)],
    ]
    .concat();
    world.fails("new", &other, 4, "wrong-passphrase");
    let damaged = world.path("damaged.age");
    let mut changed = whole.clone();
    *changed.last_mut().unwrap() ^= 1;
    let versions = [
        changed,
        whole[..whole.len() - 1].to_vec(),
        whole[..40].to_vec(),
        b"a letter to my aunt\n".to_vec(),
        Vec::new(),
        later_version(),
    ];
    for bytes in versions {
        std::fs::write(&damaged, bytes).unwrap();
        world.fails("new", &restore(&damaged), 1, "archive-damaged");
    }
    world.fails("new", &restore(world.dir.path()), 2, "usage");
    world.fails("new", &restore(&world.path("none")), 1, "file");
    assert!(!world.path("new").exists(), "no trace of a vault");
    world.ok("new", &restore(&archive));
    assert_eq!(world.run("new", &["verify", &ours]).0, 0);
}

#[test]
fn an_archive_may_have_a_passphrase_of_its_own() {
    let (world, daemon) = World::start();
    world.case(&daemon);
    daemon.terminate();
    let (archive, own) = (world.path("amal.age"), world.path("own"));
    std::fs::write(&own, "another horse\n").unwrap();
    let with_own = ["--archive-passphrase-file", text(&own)];
    let made = [["backup", "--to", text(&archive)].as_slice(), &with_own].concat();
    world.ok("amal", &made);
    world.fails("new", &restore(&archive), 4, "wrong-passphrase");
    world.ok("new", &[restore(&archive).as_slice(), &with_own].concat());
    assert_eq!(world.ok("new", &["cases"])["cases"][0]["standing"], "restored");
    std::fs::write(&own, "\n").unwrap();
    let empty = world.path("empty.age");
    let made = [["backup", "--to", text(&empty)].as_slice(), &with_own].concat();
    world.fails("amal", &made, 2, "usage");
}

#[test]
fn a_running_follow_makes_the_archive() {
    let (world, daemon) = World::start();
    world.case(&daemon);
    let mut follow = world
        .command("amal", &["follow", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0];
    follow.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    let archive = world.path("amal.age");
    let kept = world.ok("amal", &["backup", "--to", text(&archive)]);
    follow.kill().unwrap();
    follow.wait().unwrap();
    assert_eq!(world.ok("new", &restore(&archive)), kept);
    daemon.terminate();
}

#[test]
fn an_archive_of_many_letters_comes_back_whole_and_in_order() {
    let world = World::without_relay();
    let archive = world.path("many.age");
    std::fs::write(&archive, sealed(&many())).unwrap();
    let kept = json!({"cases": 2, "letters": 2 * MANY});
    assert_eq!(world.ok("amal", &restore(&archive)), kept);
    let cases = world.ok("amal", &["cases"])["cases"].clone();
    for case in cases.as_array().unwrap() {
        assert_eq!(case["unread"], MANY / 2, "every other letter was read");
        let name = case["case"].as_str().unwrap();
        let texts = world.texts("amal", name);
        let wanted = (0..MANY).map(|number| format!("{number} {}", "x".repeat(200)));
        assert!(texts.into_iter().eq(wanted));
    }
    // What the restored vault gives is what it was given, but that both cases are restored.
    let again = world.path("again.age");
    assert_eq!(world.ok("amal", &["backup", "--to", text(&again)]), kept);
    assert_eq!(opened(&again).len(), many().len());
}

#[test]
fn a_restore_that_was_killed_left_a_whole_vault_or_none() {
    let rounds = std::env::var("MARTLET_KILL_ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(8u64);
    let world = World::without_relay();
    let archive = world.path("many.age");
    std::fs::write(&archive, sealed(&many())).unwrap();
    let (mut whole, mut half) = (0, 0);
    for round in 0..rounds {
        let who = format!("amal {round}");
        let home = world.path(&who);
        let mut child = world
            .command(&who, &restore(&archive))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The first rounds fall into the filling, the others wherever they fall.
        while round < 4 && !home.join("records/db").exists() {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_millis(round * 197 % 2000));
        child.kill().unwrap();
        child.wait().unwrap();
        if home.join("slot").exists() {
            whole += 1;
        } else {
            half += u32::from(home.join("slot.new").exists());
            world.fails(&who, &["verify", "x"], 1, "no-vault");
            world.ok(&who, &restore(&archive));
        }
        let vault = Vault::open(&home, PASSPHRASE).unwrap();
        for (_, case) in vault.scan(Table::Cases, [0; 16], 0).unwrap() {
            let case: CaseRecord = decode(&case).unwrap();
            let letters = vault.scan(Table::Letters, case.id, 0).unwrap();
            assert_eq!(letters.len(), usize::try_from(MANY).unwrap());
        }
        assert!(!home.join("slot.new").exists());
    }
    println!("killed when whole {whole}, when half-made {half}, of {rounds}");
    assert!(half > 0, "the kills come too early or too late");
}

#[test]
fn no_archive_holds_what_a_device_could_go_on_with() {
    let (world, daemon) = World::start();
    world.case(&daemon);
    world.ok("ines", &["cases"]);
    daemon.terminate();
    for who in ["amal", "ines"] {
        let archive = world.path(&format!("{who}.age"));
        world.ok(who, &["backup", "--to", text(&archive)]);
        let content = opened(&archive);
        let holds = |secret: &[u8]| content.windows(secret.len()).any(|bytes| bytes == secret);
        let vault = Vault::open(&world.path(who), PASSPHRASE).unwrap();
        let profile = vault.get(&Name::one(Table::Profile)).unwrap().unwrap();
        let profile: Profile = decode(&profile).unwrap();
        assert!(
            holds(profile.identity.expose()) && holds(b"first"),
            "it is searched"
        );
        let mut secrets = vec![profile.leaf.expose().to_vec(), profile.keep_key.expose().to_vec()];
        for (_, case) in vault.scan(Table::Cases, [0; 16], 0).unwrap() {
            let case: CaseRecord = decode(&case).unwrap();
            let keys = vault.ratchet(&ratchet_name(&case.id)).unwrap().unwrap();
            let keys: CaseKeys = decode(&keys).unwrap();
            // Longer than anything that is rightly in both: the relay's address, pin, door and token.
            secrets.extend(keys.group.windows(96).map(<[u8]>::to_vec));
            secrets.extend(keys.keep.map(|keep| keep.secret().expose().to_vec()));
        }
        for (index, invite) in vault.scan(Table::Invites, [0; 16], 0).unwrap() {
            let invite: InviteRecord = decode(&invite).unwrap();
            secrets.push(invite.seed.expose().to_vec());
            secrets.push(invite.inbox_key.expose().to_vec());
            let keys = vault.ratchet(&packages_name(index)).unwrap().unwrap();
            let keys: PackageKeys = decode(&keys).unwrap();
            secrets.extend(keys.packages.iter().flat_map(|package| {
                package
                    .private
                    .windows(96)
                    .map(<[u8]>::to_vec)
                    .collect::<Vec<_>>()
            }));
        }
        assert!(secrets.len() > 1000, "{}", secrets.len());
        for secret in secrets {
            assert!(!holds(&secret), "{who}: {}", hex::encode(secret));
        }
    }
}

fn opened(archive: &Path) -> Vec<u8> {
    let from = BufReader::new(std::fs::File::open(archive).unwrap());
    let mut content = Vec::new();
    Opener::begin(from, PASSPHRASE)
        .unwrap()
        .read_to_end(&mut content)
        .unwrap();
    content
}

fn sealed(content: &[u8]) -> Vec<u8> {
    let mut entropy = Entropy::from_seed(&Secret::new([1; 32]));
    let work = Work::from_log(1).unwrap();
    let random = Random {
        file_key: entropy.secret(),
        salt: entropy.bytes(),
        nonce: entropy.bytes(),
    };
    let mut sealer = Sealer::begin(Vec::new(), PASSPHRASE, work, &random).unwrap();
    std::io::copy(&mut Cursor::new(content), &mut sealer).unwrap();
    sealer.finish().unwrap()
}

/// Letters in each case of [`many`].
const MANY: u64 = 1500;

/// The content of an archive that is larger than a chunk of its encryption and a batch of the vault.
fn many() -> Vec<u8> {
    let relay = RelayAddress {
        addresses: vec!["192.0.2.1:4433".parse().unwrap()],
        pin: Pin::new([3; 32]),
        door: Door::new([4; 8]),
    };
    let owner = Owner {
        name: "Amal".into(),
        identity: Secret::new([17; 32]),
        relay: None,
    };
    let mut writer = Writer::begin(Vec::new(), &owner).unwrap();
    for case in 1..=2u8 {
        let kept = KeptCase {
            id: [case; 16],
            label: format!("case {case}"),
            relay: relay.clone(),
            admission: None,
            members: Vec::new(),
            rescue: Some(RescueSeeds {
                to_counsel: Secret::new([4; 32]),
                to_member: Secret::new([5; 32]),
            }),
            last: None,
            standing: Standing::Lost,
        };
        writer.put(&Item::Case(Box::new(kept))).unwrap();
        for number in 0..MANY {
            let id = LetterId::new((u128::from(case) << 64 | u128::from(number)).to_be_bytes());
            let body = Body::Text(format!("{number} {}", "x".repeat(200)));
            let at = Time::from_secs(1_000_000 + number);
            let kept = KeptLetter {
                letter: Letter::new(id, at, None, &body).unwrap(),
                from: [7; 32],
                received: at,
                read: number % 2 == 0,
                queued: false,
                delivered_to: Vec::new(),
            };
            writer.put(&Item::Letter(kept)).unwrap();
        }
    }
    writer.into_inner()
}

/// An archive of a version that this program does not know.
fn later_version() -> Vec<u8> {
    sealed(&[2, 0, 0, 0, 0])
}
