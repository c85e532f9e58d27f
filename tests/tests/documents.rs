//! Documents through a real relay: what was cut off goes on, and what is in the way is never followed or overwritten.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests fail by panicking, and count on small numbers"
)]

use std::path::{Path, PathBuf};

use martlet::{Error, Mismatch, NewCase};
use martlet_proto::letter::CHUNK_BYTES;
use martlet_tests::{Person, Relay, write_file};

const PAPER_BYTES: usize = 700_000;

/// Amal has a case with Ines.
async fn cast(relay: &Relay) -> (Person, Person) {
    let ines = Person::new("Ines", Some(relay)).await;
    let amal = Person::new("Amal", None).await;
    let invite = ines.invite().await;
    amal.client.open_case(&invite, NewCase::default()).await.unwrap();
    ines.client.sync().await.unwrap();
    (amal, ines)
}

/// Amal has sent a paper, and Ines has its letter: the paper's id and content.
async fn sent(amal: &Person, ines: &Person) -> (String, Vec<u8>) {
    let paper = amal.dir.path().join("paper.pdf");
    write_file(&paper, PAPER_BYTES);
    let sent = amal
        .client
        .send_file(&amal.case(), &paper, &mut |_| {})
        .await
        .unwrap();
    assert!(!sent.queued);
    ines.client.sync().await.unwrap();
    (sent.id.to_text(), std::fs::read(paper).unwrap())
}

async fn get(person: &Person, id: &str, dir: &Path) -> Result<PathBuf, Error> {
    let got = person.client.get(&person.case(), id, dir, &mut |_| {}).await;
    got.map(|got| got.path)
}

fn part(dir: &Path, id: &str) -> PathBuf {
    dir.join(format!(".martlet-{id}.part"))
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_waits_stays_in_the_spool() {
    let mut relay = Relay::start();
    let (amal, ines) = cast(&relay).await;
    relay.stop().await;
    let paper = amal.dir.path().join("paper.pdf");
    write_file(&paper, PAPER_BYTES);
    let sent = amal
        .client
        .send_file(&amal.case(), &paper, &mut |_| {})
        .await
        .unwrap();
    assert!(sent.queued);
    let spool = amal.client.home().join("spool");
    // What a sealing leaves that is killed before its letter is in the vault.
    std::fs::write(spool.join("0123456789abcdef"), [7; 100_000]).unwrap();

    let amal = amal.reopen().await;
    assert_eq!(names(&spool), [sent.id.to_text()]);
    relay.restart();
    amal.client.sync().await.unwrap();
    assert!(names(&spool).is_empty());
    ines.client.sync().await.unwrap();
    let to = tempfile::tempdir().unwrap();
    let path = get(&ines, &sent.id.to_text(), to.path()).await.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), std::fs::read(paper).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_goes_on_from_its_part_and_trusts_none() {
    let relay = Relay::start();
    let (amal, ines) = cast(&relay).await;
    let (id, content) = sent(&amal, &ines).await;
    let to = tempfile::tempdir().unwrap();

    // Three chunks and a piece of the fourth.
    std::fs::write(part(to.path(), &id), &content[..3 * CHUNK_BYTES + 100]).unwrap();
    let mut first = None;
    let got = ines
        .client
        .get(&ines.case(), &id, to.path(), &mut |progress| {
            first.get_or_insert(progress.done_bytes);
        })
        .await;
    let path = got.unwrap().path;
    assert_eq!(first, Some(3 * CHUNK_BYTES as u64));
    assert_eq!(std::fs::read(&path).unwrap(), content);
    assert_eq!(names(to.path()), ["paper.pdf"]);

    // A part that somebody else wrote.
    std::fs::write(part(to.path(), &id), [7; 2 * CHUNK_BYTES]).unwrap();
    let refused = get(&ines, &id, to.path()).await.unwrap_err();
    assert!(matches!(refused, Error::Verification(Mismatch::Document)));
    assert_eq!(names(to.path()), ["paper.pdf"], "nothing of it is left");

    // And a second fetch never overwrites the first.
    let second = get(&ines, &id, to.path()).await.unwrap();
    assert_eq!(second, to.path().join("paper (2).pdf"));
    assert_eq!(std::fs::read(second).unwrap(), content);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_in_place_of_the_part_is_not_followed() {
    let relay = Relay::start();
    let (amal, ines) = cast(&relay).await;
    let (id, _) = sent(&amal, &ines).await;
    let to = tempfile::tempdir().unwrap();
    let precious = ines.dir.path().join("precious");
    std::fs::write(&precious, b"precious").unwrap();
    std::os::unix::fs::symlink(&precious, part(to.path(), &id)).unwrap();

    let refused = get(&ines, &id, to.path()).await.unwrap_err();
    assert!(matches!(refused, Error::File(_)), "{refused:?}");
    assert_eq!(std::fs::read(precious).unwrap(), b"precious");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_fetches_at_once_do_not_mix() {
    let relay = Relay::start();
    let (amal, ines) = cast(&relay).await;
    let (id, content) = sent(&amal, &ines).await;
    let to = tempfile::tempdir().unwrap();

    let both = tokio::join!(get(&ines, &id, to.path()), get(&ines, &id, to.path()));
    for path in [both.0.unwrap(), both.1.unwrap()] {
        assert_eq!(std::fs::read(path).unwrap(), content);
    }
    assert_eq!(names(to.path()), ["paper (2).pdf", "paper.pdf"]);
}
