//! Journeys through a real relay: real sockets, real disks, the library's public API.

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

use martlet::{Error, NewCase, Which};
use martlet_tests::{Person, Relay, write_file};

#[tokio::test(flavor = "multi_thread")]
async fn a_client_reaches_counsel_and_both_write() {
    let relay = Relay::start();
    let ines = Person::new("Ines", Some(&relay)).await;
    let amal = Person::new("Amal", None).await;
    let invite = ines.invite().await;

    let new = NewCase {
        text: Some("They took my brother.".into()),
        label: None,
        apart: false,
    };
    let (case, with, sent) = amal.client.open_case(&invite, new).await.unwrap();
    assert_eq!(with.name, "Ines");
    assert!(!sent[0].queued);

    let synced = ines.client.sync().await.unwrap();
    assert_eq!((synced.new_cases, synced.received), (1, 1));
    assert_eq!(ines.texts(), ["They took my brother."]);
    ines.client
        .send_text(&ines.case(), "Where? Which papers?")
        .await
        .unwrap();

    amal.client.sync().await.unwrap();
    assert_eq!(amal.texts(), ["They took my brother.", "Where? Which papers?"]);
    let letters = amal.client.letters(&case.case, Which::All).unwrap();
    assert_eq!(
        letters[0].delivered_to.len(),
        1,
        "counsel's device has said that it arrived"
    );

    ines.client.sync().await.unwrap();
    let ours = amal.client.safety(&amal.case(), None).unwrap();
    let theirs = ines.client.safety(&ines.case(), None).unwrap();
    assert_eq!((ours.number, ours.epoch_code), (theirs.number, theirs.epoch_code));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_was_closed_goes_on() {
    let relay = Relay::start();
    let mut ines = Person::new("Ines", Some(&relay)).await;
    let mut amal = Person::new("Amal", None).await;
    amal.client
        .open_case(&ines.invite().await, NewCase::default())
        .await
        .unwrap();
    for round in 0..4 {
        amal = amal.reopen().await;
        amal.client.sync().await.unwrap();
        amal.client
            .send_text(&amal.case(), &format!("a{round}"))
            .await
            .unwrap();
        ines = ines.reopen().await;
        ines.client.sync().await.unwrap();
        ines.client
            .send_text(&ines.case(), &format!("i{round}"))
            .await
            .unwrap();
    }
    amal.client.sync().await.unwrap();
    let all = ["a0", "i0", "a1", "i1", "a2", "i2", "a3", "i3"];
    assert_eq!(ines.texts(), all);
    assert_eq!(amal.texts(), all);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_offline_goes_out_once() {
    let mut relay = Relay::start();
    let ines = Person::new("Ines", Some(&relay)).await;
    let amal = Person::new("Amal", None).await;
    amal.client
        .open_case(&ines.invite().await, NewCase::default())
        .await
        .unwrap();
    ines.client.sync().await.unwrap();
    relay.stop().await;

    let sent = amal
        .client
        .send_text(&amal.case(), "into the dark")
        .await
        .unwrap();
    assert!(sent.queued);
    assert!(matches!(amal.client.sync().await, Err(Error::Unreachable)));
    let amal = amal.reopen().await;
    relay.restart();
    amal.client.sync().await.unwrap();
    amal.client.sync().await.unwrap();
    ines.client.sync().await.unwrap();
    assert_eq!(ines.texts(), ["into the dark"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_arrives_whole_under_its_name() {
    let relay = Relay::start();
    let ines = Person::new("Ines", Some(&relay)).await;
    let amal = Person::new("Amal", None).await;
    amal.client
        .open_case(&ines.invite().await, NewCase::default())
        .await
        .unwrap();
    for size in [0, 1, 65_520, 65_521, 3_000_000] {
        let path = amal.dir.path().join(format!("passport-{size}.jpg"));
        write_file(&path, size);
        let sent = amal
            .client
            .send_file(&amal.case(), &path, &mut |_| {})
            .await
            .unwrap();
        assert!(!sent.queued);
        ines.client.sync().await.unwrap();
        let id = sent.id.to_text();
        let got = ines
            .client
            .get(&ines.case(), &id, ines.dir.path(), &mut |_| {})
            .await
            .unwrap();
        assert_eq!(got.path, ines.dir.path().join(format!("passport-{size}.jpg")));
        assert_eq!(Some(got.sha256), sent.sha256);
        assert_eq!(std::fs::read(got.path).unwrap(), std::fs::read(path).unwrap());
        let again = ines
            .client
            .get(&ines.case(), &id, ines.dir.path(), &mut |_| {})
            .await
            .unwrap();
        assert_eq!(
            again.path,
            ines.dir.path().join(format!("passport-{size} (2).jpg"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_refused_by_a_seal_go_into_the_next_epoch_unasked() {
    let relay = Relay::start();
    let ines = Person::new("Ines", Some(&relay)).await;
    let amal = Person::new("Amal", None).await;
    amal.client
        .open_case(&ines.invite().await, NewCase::default())
        .await
        .unwrap();
    // Counsel's first commit seals the first epoch; the client does not know of it yet.
    ines.client.sync().await.unwrap();
    let sent = amal
        .client
        .send_text(&amal.case(), "written for the first epoch")
        .await
        .unwrap();
    assert!(!sent.queued);
    ines.client.sync().await.unwrap();
    assert_eq!(ines.texts(), ["written for the first epoch"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_for_one_case_is_used_once() {
    let relay = Relay::start();
    let ines = Person::new("Ines", Some(&relay)).await;
    let new = martlet::NewInvite {
        uses: martlet_proto::card::Uses::Once,
        label: Some("for Amal".into()),
        days: 3,
        apart: false,
    };
    let invite = ines.client.invite(new).await.unwrap().invite.parse().unwrap();
    let amal = Person::new("Amal", None).await;
    amal.client.open_case(&invite, NewCase::default()).await.unwrap();
    ines.client.sync().await.unwrap();
    assert_eq!(ines.client.cases().unwrap()[0].label, "for Amal");
    let mallory = Person::new("Mallory", None).await;
    let refused = mallory.client.open_case(&invite, NewCase::default()).await;
    assert!(matches!(refused, Err(Error::NotFound(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_outlives_the_relays_disk() {
    let mut relay = Relay::start();
    let ines = Person::new("Ines", Some(&relay)).await;
    let invite = ines.invite().await;
    relay.stop().await;
    relay.dir = tempfile::tempdir().unwrap();
    relay.restart();

    ines.client.sync().await.unwrap();
    let amal = Person::new("Amal", None).await;
    let new = NewCase::default();
    amal.client.open_case(&invite, new).await.unwrap();
    assert_eq!(ines.client.sync().await.unwrap().new_cases, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn following_brings_letters_as_they_come() {
    let relay = Relay::start();
    let ines = Person::new("Ines", Some(&relay)).await;
    let amal = Person::new("Amal", None).await;
    let mut live = ines.client.follow(None).await.unwrap();
    let new = NewCase {
        text: Some("first".into()),
        label: None,
        apart: false,
    };
    amal.client.open_case(&ines.invite().await, new).await.unwrap();
    let mut texts = Vec::new();
    while texts.len() < 3 {
        let next = tokio::time::timeout(std::time::Duration::from_secs(20), live.next()).await;
        if let Some(martlet::view::Event::Letter { letter, .. }) = next.expect("an event in time") {
            texts.push(letter.text.unwrap());
            if texts.len() < 3 {
                amal.client
                    .send_text(&amal.case(), &format!("more {}", texts.len()))
                    .await
                    .unwrap();
            }
        }
    }
    assert_eq!(texts, ["first", "more 1", "more 2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_interrupted_sealing_left_is_cleared_and_what_waits_is_kept() {
    let mut relay = Relay::start();
    let ines = Person::new("Ines", Some(&relay)).await;
    let amal = Person::new("Amal", None).await;
    let new = NewCase {
        text: None,
        label: None,
        apart: false,
    };
    amal.client.open_case(&ines.invite().await, new).await.unwrap();
    let paper = amal.dir.path().join("paper.pdf");
    write_file(&paper, 300_000);
    relay.stop().await;
    let sent = amal
        .client
        .send_file(&amal.case(), &paper, &mut |_| {})
        .await
        .unwrap();
    assert!(sent.queued);
    std::fs::remove_file(&paper).unwrap();
    let spool = amal.dir.path().join("home/spool");
    std::fs::write(spool.join("aaaaaaaaaaaaaaaaaaaaaaaaaa"), [7; 99]).unwrap();

    let amal = amal.reopen().await;
    let left: Vec<_> = std::fs::read_dir(&spool)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(left, [sent.id.to_text()]);

    relay.restart();
    amal.client.sync().await.unwrap();
    ines.client.sync().await.unwrap();
    let letters = ines.client.letters(&ines.case(), Which::All).unwrap();
    let file = letters.iter().find_map(|letter| letter.file.as_ref()).unwrap();
    assert_eq!(file.sha256, sent.sha256.unwrap());
    assert_eq!(std::fs::read_dir(&spool).unwrap().count(), 0);
}
