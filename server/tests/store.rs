//! Stores: one suite for both engines, and what only a disk can suffer.

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

use std::path::Path;

use martlet_proto::{ChannelId, Class, Day, Digest, EntryId, Envelope, Incarnation, Kind, Seq, TokenHash};
use martlet_server::{
    Store,
    log::{Change, Era, Hand, Log, Presence, Record, Step},
    store::{
        StoreError,
        memory::Memory,
        segments::{Options, Segments},
    },
};

fn channel(number: u8) -> ChannelId {
    ChannelId::new([number; 32])
}

fn record(class: Class, life: u8, expires: u32) -> Record {
    let hash = TokenHash::new([1; 32]);
    Record {
        class,
        read: hash,
        write: hash,
        keep: hash,
        incarnation: Incarnation::new([life; 16]),
        expires: Day(expires),
    }
}

fn opened(number: u8, class: Class, life: u8) -> Change {
    Change {
        channel: channel(number),
        step: Step::Opened(record(class, life, 1000)),
    }
}

fn envelope(seed: u64) -> Envelope {
    let mut bytes = vec![seed as u8; 2048];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    Envelope::new(bytes.into()).unwrap()
}

fn placed(number: u8, life: u8, seq: u64, by: Hand, expires: u32) -> Change {
    let envelope = envelope(u64::from(number) << 32 | u64::from(life) << 24 | seq);
    let mut id = [number; 16];
    id[..8].copy_from_slice(&seq.to_be_bytes());
    Change {
        channel: channel(number),
        step: Step::Placed {
            incarnation: Incarnation::new([life; 16]),
            seq: Seq::new(seq),
            kind: Kind::Letter,
            id: EntryId::new(id),
            digest: Digest::of(&envelope),
            expires: Day(expires),
            by,
            envelope,
        },
    }
}

fn step(number: u8, step: Step) -> Change {
    Change {
        channel: channel(number),
        step,
    }
}

/// What every engine must do. `reopen` closes the store and opens it again; memory cannot, and gives itself back.
fn conforms<S: Store>(mut store: S, reopen: impl Fn(S) -> S) {
    let mut model: std::collections::BTreeMap<ChannelId, Log> = std::collections::BTreeMap::new();
    let mut commit = |store: &mut S, changes: Vec<Change>| {
        store.commit(&changes).unwrap();
        for Change { channel, step } in changes {
            let log = Log::fold(model.remove(&channel), &channel, &step, Era::default());
            if let Some(log) = log {
                model.insert(channel, log);
            }
        }
        model.clone()
    };
    commit(
        &mut store,
        vec![
            opened(1, Class::Case, 1),
            opened(2, Class::File, 1),
            opened(3, Class::Inbox, 1),
        ],
    );
    for seq in 0..20 {
        commit(
            &mut store,
            vec![
                placed(1, 1, seq, Hand::Writer, 50),
                placed(2, 1, seq, Hand::Writer, u32::MAX),
            ],
        );
    }
    // Appends and a seal in one batch; seals alone; a place that is not the next changes nothing.
    commit(
        &mut store,
        vec![
            placed(1, 1, 20, Hand::Writer, 50),
            placed(1, 1, 21, Hand::Keeper, u32::MAX),
        ],
    );
    commit(
        &mut store,
        vec![
            placed(1, 1, 22, Hand::Keeper, u32::MAX),
            placed(1, 1, 40, Hand::Keeper, u32::MAX),
        ],
    );
    commit(
        &mut store,
        vec![
            step(2, Step::Trimmed(Seq::new(5))),
            step(3, Step::Renewed(Day(2000))),
        ],
    );
    // Another life of a channel begins empty; entries of the former life do not enter it.
    commit(
        &mut store,
        vec![placed(3, 1, 0, Hand::Writer, u32::MAX), step(3, Step::Dropped)],
    );
    commit(&mut store, vec![opened(3, Class::Inbox, 2)]);
    let model = commit(
        &mut store,
        vec![
            placed(3, 1, 0, Hand::Writer, 9),
            placed(3, 2, 0, Hand::Writer, u32::MAX),
        ],
    );
    for _ in 0..2 {
        for (channel, log) in &model {
            assert_eq!(store.load(channel).unwrap().as_ref(), Some(log));
        }
        assert!(store.load(&channel(9)).unwrap().is_none());
        assert_eq!(model[&channel(1)].marks.len(), 23);
        assert!(model[&channel(1)].sealed);
        let totals = store.totals();
        assert_eq!(
            (totals.channels, totals.entries, totals.bytes),
            (3, 23 + 15 + 1, 39 * 2048)
        );
        let there = store.envelope(&channel(1), Seq::new(21)).unwrap().unwrap();
        assert_eq!(Digest::of(&there), model[&channel(1)].marks[21].digest);
        assert!(
            store.envelope(&channel(2), Seq::new(4)).unwrap().is_none(),
            "trimmed"
        );
        assert!(store.envelope(&channel(2), Seq::new(5)).unwrap().is_some());
        assert!(
            store.envelope(&channel(1), Seq::new(23)).unwrap().is_none(),
            "never there"
        );
        store = reopen(store);
    }
    store.set_day(Day(60)).unwrap();
    store.sweep(Day(60)).unwrap();
    store = reopen(store);
    assert_eq!(store.day().unwrap(), Day(60));
    let log = store.load(&channel(1)).unwrap().unwrap();
    assert_eq!(log.head, model[&channel(1)].head, "the chain stays whole");
    store.set_day(Day(1500)).unwrap();
    store.sweep(Day(1500)).unwrap();
    store = reopen(store);
    assert!(store.load(&channel(1)).unwrap().is_none());
    assert!(store.load(&channel(2)).unwrap().is_none());
}

fn options() -> Options {
    Options {
        segment_bytes: 16 << 10,
        floor_bytes: 0,
        ..Options::default()
    }
}

fn open(dir: &Path) -> Segments {
    Segments::open(dir, options()).unwrap().0
}

#[test]
fn memory_conforms() {
    conforms(Memory::default(), |store| store);
}

#[test]
fn segments_conform_closed_cleanly() {
    let dir = tempfile::tempdir().unwrap();
    conforms(open(dir.path()), |mut store| {
        store.close().unwrap();
        drop(store);
        open(dir.path())
    });
}

#[test]
fn segments_conform_when_the_program_just_ends() {
    let dir = tempfile::tempdir().unwrap();
    conforms(open(dir.path()), |store| {
        drop(store);
        open(dir.path())
    });
}

#[test]
fn segments_conform_when_the_index_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    conforms(open(dir.path()), |store| {
        drop(store);
        std::fs::remove_dir_all(dir.path().join("index")).unwrap();
        open(dir.path())
    });
}

/// An old copy that was put back: every channel has another incarnation, and all that it had.
#[test]
fn after_an_old_copy_was_put_back_channels_have_another_life_and_their_entries() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 70);
    let mut store = open(dir.path());
    assert!(
        Segments::restored(dir.path(), [7; 16]).is_err(),
        "a store that is open is left alone"
    );
    let before = store.load(&channel(1)).unwrap().unwrap();
    let mut memory = Memory::default();
    memory.commit(&[step(1, Step::Opened(before.record))]).unwrap();
    for mark in &before.marks {
        let seq = memory.load(&channel(1)).unwrap().unwrap().next();
        let envelope = store.envelope(&channel(1), seq).unwrap().unwrap();
        let placed = Step::Placed {
            incarnation: before.record.incarnation,
            seq,
            kind: mark.kind,
            id: mark.id,
            digest: mark.digest,
            expires: mark.expires,
            by: mark.by,
            envelope,
        };
        memory.commit(&[step(1, placed)]).unwrap();
    }
    assert_eq!(memory.load(&channel(1)).unwrap().unwrap(), before);
    store.close().unwrap();
    drop(store);
    Segments::restored(dir.path(), [7; 16]).unwrap();
    memory.begin_era(Era::new([7; 16]));
    let mut store = open(dir.path());
    let after = store.load(&channel(1)).unwrap().unwrap();
    assert_eq!(after.marks, before.marks);
    assert_ne!(after.life(), before.life());
    assert_ne!(after.head, before.head);
    assert_eq!(memory.load(&channel(1)).unwrap().unwrap(), after);
    for at in 0..=70 {
        let head = after.head_at(&channel(1), Seq::new(at)).unwrap();
        assert_eq!(head == after.head, at == 70);
    }
    drop(store);
    Segments::restored(dir.path(), [8; 16]).unwrap();
    let again = open(dir.path()).load(&channel(1)).unwrap().unwrap();
    assert!(again.life() != after.life() && again.life() != before.life());
}

/// A store with some entries in one channel, closed.
fn filled(dir: &Path, entries: u64) {
    let mut store = Segments::open(
        dir,
        Options {
            floor_bytes: 0,
            ..Options::default()
        },
    )
    .unwrap()
    .0;
    store.commit(&[opened(1, Class::Inbox, 1)]).unwrap();
    for seq in 0..entries {
        store
            .commit(&[placed(1, 1, seq, Hand::Writer, u32::MAX)])
            .unwrap();
    }
}

fn segment(dir: &Path) -> std::path::PathBuf {
    dir.join("segments").join("inbox-00000001.seg")
}

#[test]
fn a_torn_end_is_cut_off_and_all_before_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 3);
    let whole = std::fs::read(segment(dir.path())).unwrap();
    let frame = 2048 + 100;
    for length in (whole.len() - frame..whole.len()).step_by(61) {
        std::fs::write(segment(dir.path()), &whole[..length]).unwrap();
        let _ = std::fs::remove_file(dir.path().join("index.mark"));
        let (mut store, report) = Segments::open(dir.path(), options()).unwrap();
        assert!(report.rebuilt);
        let log = store.load(&channel(1)).unwrap().unwrap();
        assert!(log.marks.len() == 2 || log.marks.len() == 1, "{length}");
        assert!(store.envelope(&channel(1), Seq::FIRST).unwrap().is_some());
        drop(store);
        std::fs::write(segment(dir.path()), &whole).unwrap();
    }
}

#[test]
fn damage_in_the_middle_is_an_error_and_not_an_end() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 5);
    let mut bytes = std::fs::read(segment(dir.path())).unwrap();
    bytes[3000] ^= 1;
    std::fs::write(segment(dir.path()), bytes).unwrap();
    std::fs::remove_file(dir.path().join("index.mark")).unwrap();
    assert!(matches!(
        Segments::open(dir.path(), options()),
        Err(StoreError::Damaged(_))
    ));
}

#[test]
fn an_index_that_is_garbled_or_older_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 5);
    let old = dir.path().join("old");
    std::fs::create_dir(&old).unwrap();
    for entry in std::fs::read_dir(dir.path().join("index")).unwrap().flatten() {
        if entry.path().is_file() {
            std::fs::copy(entry.path(), old.join(entry.file_name())).unwrap();
        }
    }
    let mut store = open(dir.path());
    for seq in 5..9 {
        store
            .commit(&[placed(1, 1, seq, Hand::Writer, u32::MAX)])
            .unwrap();
    }
    store.close().unwrap();
    drop(store);
    for entry in std::fs::read_dir(&old).unwrap().flatten() {
        std::fs::copy(entry.path(), dir.path().join("index").join(entry.file_name())).unwrap();
    }
    let (mut store, report) = Segments::open(dir.path(), options()).unwrap();
    assert!(report.rebuilt);
    assert_eq!(store.load(&channel(1)).unwrap().unwrap().marks.len(), 9);
    drop(store);
    std::fs::write(dir.path().join("index").join("db"), vec![0x5a; 100_000]).unwrap();
    let (mut store, _) = Segments::open(dir.path(), options()).unwrap();
    assert_eq!(store.load(&channel(1)).unwrap().unwrap().marks.len(), 9);
}

#[test]
fn one_process_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let _first = open(dir.path());
    assert!(matches!(
        Segments::open(dir.path(), options()),
        Err(StoreError::Failed(_))
    ));
}

#[test]
fn a_changed_envelope_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 2);
    let mut store = open(dir.path());
    let mut bytes = std::fs::read(segment(dir.path())).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(segment(dir.path()), bytes).unwrap();
    assert!(matches!(
        store.envelope(&channel(1), Seq::new(1)),
        Err(StoreError::Damaged(_))
    ));
}

#[test]
fn digests_of_what_expired_outlive_the_files_it_was_in() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    store.commit(&[opened(1, Class::Case, 1)]).unwrap();
    for seq in 0..40 {
        store.commit(&[placed(1, 1, seq, Hand::Writer, 30)]).unwrap();
    }
    let head = store.load(&channel(1)).unwrap().unwrap().head;
    let count = || std::fs::read_dir(dir.path().join("segments")).unwrap().count();
    let before = count();
    store.sweep(Day(31)).unwrap();
    assert!(count() < before, "files of what expired are deleted");
    drop(store);
    std::fs::remove_file(dir.path().join("index.mark")).unwrap();
    let log = open(dir.path()).load(&channel(1)).unwrap().unwrap();
    assert_eq!((log.marks.len(), log.head), (40, head));
    assert!(
        log.marks
            .iter()
            .take(30)
            .all(|mark| mark.presence == Presence::Gone)
    );
}
