//! The vault, as its users and its thieves meet it.

#![cfg(feature = "shell")]
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
    path::{Path, PathBuf},
    time::Duration,
};

use martlet::vault::{Batch, Cost, Guard, Name, Table, Vault, VaultError};

const PASSPHRASE: &[u8] = b"a passphrase";

fn created(home: &Path) -> Vault {
    Vault::create(home, PASSPHRASE, Cost::FLOOR).unwrap()
}

fn opened(home: &Path) -> Result<Vault, VaultError> {
    Vault::open(home, PASSPHRASE)
}

fn letter(index: u64) -> Name {
    Name::new(Table::Letters, [7; 16], index)
}

/// A vault with 20 letters and one piece of ratchet state, closed.
fn filled(home: &Path) {
    let mut vault = created(home);
    let mut batch = Batch::default();
    for index in 0..20 {
        batch.put(letter(index), vec![index as u8; 100]);
    }
    batch.put_ratchet(b"group", vec![1; 100_000]);
    vault.commit(batch).unwrap();
}

fn is_whole(vault: &Vault) -> bool {
    let rows = vault.scan(Table::Letters, [7; 16], 0);
    let rows = rows.is_ok_and(|rows| {
        rows.len() == 20
            && rows
                .iter()
                .enumerate()
                .all(|(at, (index, row))| *index == at as u64 && **row == [at as u8; 100])
    });
    rows && vault
        .ratchet(b"group")
        .is_ok_and(|state| state.is_some_and(|state| *state == [1; 100_000]))
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target: PathBuf = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn what_was_kept_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    filled(&home);
    assert!(is_whole(&opened(&home).unwrap()));
    assert!(matches!(
        Vault::create(&home, PASSPHRASE, Cost::FLOOR),
        Err(VaultError::Exists)
    ));
    assert!(matches!(
        Vault::open(&home, b"another"),
        Err(VaultError::WrongPassphrase)
    ));
    assert!(matches!(
        opened(&dir.path().join("nowhere")),
        Err(VaultError::Missing)
    ));
    let mode = |name: &str| {
        let file = std::fs::metadata(home.join(name)).unwrap();
        std::os::unix::fs::PermissionsExt::mode(&file.permissions()) & 0o777
    };
    assert_eq!((mode(""), mode("slot"), mode("records")), (0o700, 0o600, 0o700));
}

#[test]
fn a_vault_that_is_made_with_something_in_it_is_whole_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let (home, killed) = (dir.path().join("home"), dir.path().join("killed"));
    let fill = |vault: &mut Vault| {
        let mut batch = Batch::default();
        batch.put(letter(1), vec![1; 100]);
        vault.commit(batch)
    };
    let failed = Vault::create_with(&home, PASSPHRASE, Cost::FLOOR, |vault| {
        fill(vault)?;
        // What is there if the program is killed here.
        copy(&home, &killed);
        Err(VaultError::Full)
    });
    assert!(matches!(failed, Err(VaultError::Full)));
    assert_eq!(std::fs::read_dir(&home).unwrap().count(), 0, "nothing is left");
    assert!(!Vault::exists(&killed) && killed.join("records").exists());
    assert!(matches!(opened(&killed), Err(VaultError::Missing)));

    std::fs::write(killed.join("records/of-the-killed"), "x").unwrap();
    drop(Vault::create_with(&killed, PASSPHRASE, Cost::FLOOR, fill).unwrap());
    assert!(!killed.join("records/of-the-killed").exists() && !killed.join("slot.new").exists());
    let vault = opened(&killed).unwrap();
    assert_eq!(vault.scan(Table::Letters, [7; 16], 0).unwrap().len(), 1);
    let again = Vault::create_with(&killed, PASSPHRASE, Cost::FLOOR, fill);
    assert!(matches!(again, Err(VaultError::Exists)));
}

#[test]
fn ratchet_state_moves_on_and_the_old_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (home, old) = (dir.path().join("home"), dir.path().join("old"));
    filled(&home);
    copy(&home.join("records"), &old);
    let mut vault = opened(&home).unwrap();
    let mut batch = Batch::default();
    batch.put_ratchet(b"group", vec![2; 10]);
    vault.commit(batch).unwrap();
    assert_eq!(**vault.ratchet(b"group").unwrap().unwrap(), [2; 10]);
    drop(vault);
    // The older records beside the newer slot: recognised, and nothing in them can be opened.
    std::fs::remove_dir_all(home.join("records")).unwrap();
    copy(&old, &home.join("records"));
    assert!(matches!(opened(&home), Err(VaultError::RolledBack)));
}

#[test]
fn a_changed_slot_is_an_error_or_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    filled(&home);
    let whole = std::fs::read(home.join("slot")).unwrap();
    for at in (0..whole.len()).step_by(13) {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        std::fs::write(home.join("slot"), &changed).unwrap();
        if let Ok(vault) = opened(&home) {
            assert!(is_whole(&vault), "byte {at}");
        }
    }
    for length in (0..whole.len()).step_by(37) {
        std::fs::write(home.join("slot"), &whole[..length]).unwrap();
        if let Ok(vault) = opened(&home) {
            assert!(is_whole(&vault), "length {length}");
        }
    }
    std::fs::write(home.join("slot"), &whole).unwrap();
    assert!(is_whole(&opened(&home).unwrap()));
}

#[test]
fn changed_records_are_an_error_never_other_words() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    filled(&home);
    let db = home.join("records").join("db");
    let whole = std::fs::read(&db).unwrap();
    let mut state = 1u64;
    for _ in 0..40 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let at = (state >> 33) as usize % whole.len();
        let mut changed = whole.clone();
        changed[at] ^= 0x10;
        std::fs::write(&db, &changed).unwrap();
        if let Ok(vault) = opened(&home) {
            for (index, row) in vault.scan(Table::Letters, [7; 16], 0).unwrap_or_default() {
                assert_eq!(**row, [index as u8; 100], "byte {at}");
            }
            if let Ok(Some(state)) = vault.ratchet(b"group") {
                assert_eq!(**state, [1; 100_000], "byte {at}");
            }
        }
    }
}

#[test]
fn a_wiped_vault_is_gone_and_what_is_not_ours_stays() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    filled(&home);
    std::fs::write(home.join("holiday.jpg"), "mine").unwrap();
    Vault::wipe(&home).unwrap();
    assert!(matches!(opened(&home), Err(VaultError::Missing)));
    assert!(home.join("holiday.jpg").exists() && !home.join("records").exists());
    assert!(matches!(Vault::wipe(&home), Err(VaultError::Missing)));
}

#[test]
fn the_second_to_come_waits_and_then_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let first = Guard::acquire(dir.path(), Duration::ZERO).unwrap();
    assert!(matches!(
        Guard::acquire(dir.path(), Duration::from_millis(100)),
        Err(VaultError::Busy)
    ));
    drop(first);
    Guard::acquire(dir.path(), Duration::ZERO).unwrap();
}

#[test]
fn nothing_secret_is_printed() {
    let vault = Vault::in_memory().unwrap();
    let mut batch = Batch::default();
    batch.put(letter(1), b"secret words".to_vec());
    assert_eq!(format!("{vault:?} {batch:?}"), "Vault(..) Batch(..)");
}

/// Commits until it is killed; says each number once it is durable.
#[test]
fn child_that_commits() {
    let Some(home) = std::env::var_os("MARTLET_TEST_VAULT") else {
        return;
    };
    let mut vault = opened(Path::new(&home)).unwrap();
    for number in 0u64.. {
        let mut batch = Batch::default();
        batch.put(letter(1000), number.to_be_bytes().to_vec());
        batch.put_ratchet(b"count", number.to_be_bytes().to_vec());
        vault.commit(batch).unwrap();
        eprintln!("durable {number}");
    }
}

#[test]
fn a_vault_whose_program_was_killed_has_all_that_was_durable() {
    use std::io::{BufRead, BufReader};
    let rounds = std::env::var("MARTLET_KILL_ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(8);
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    drop(created(&home));
    for round in 0..rounds {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_commits", "--nocapture"])
            .env("MARTLET_TEST_VAULT", &home)
            .stderr(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut durable = None;
        for line in said.by_ref().take(3 + round * 2) {
            durable = line
                .unwrap()
                .strip_prefix("durable ")
                .and_then(|number| number.parse::<u64>().ok())
                .or(durable);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for line in said.map_while(Result::ok) {
            durable = line
                .strip_prefix("durable ")
                .and_then(|number| number.parse().ok())
                .or(durable);
        }
        let vault = opened(&home).unwrap();
        let record = vault.get(&letter(1000)).unwrap().unwrap();
        let ratchet = vault.ratchet(b"count").unwrap().unwrap();
        assert_eq!(*record, *ratchet, "both or none");
        assert!(u64::from_be_bytes(record.as_slice().try_into().unwrap()) >= durable.unwrap());
    }
}
