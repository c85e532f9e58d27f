//! What a further device is given of what was written before it joined: nothing, or all of it if its owner says so.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests fail by panicking, and count on small numbers"
)]

use martlet::{NewCase, Which, view::LetterKind};
use martlet_tests::{Person, Relay, write_file};

/// More letters of this size than the mailbox between two devices has room for at once.
const LETTERS: usize = 90;
const LETTER_BYTES: usize = 50_000;

async fn case(relay: &Relay) -> (Person, Person) {
    let ines = Person::new("Ines", Some(relay)).await;
    let amal = Person::new("Amal", None).await;
    let invite = ines.invite().await;
    amal.client.open_case(&invite, NewCase::default()).await.unwrap();
    ines.client.sync().await.unwrap();
    (amal, ines)
}

/// A further device of somebody's, in all their cases; says how often both had to look.
async fn link(owner: &Person, relay: &Relay, history: bool) -> (Person, usize) {
    let phone = Person::new("phone", Some(relay)).await;
    let asked = phone.client.request_link(None).await.unwrap();
    let request = asked.request.unwrap().parse().unwrap();
    for round in 1..20 {
        let seen = owner.client.link_device(&request, history).await.unwrap();
        phone.client.sync().await.unwrap();
        if seen.linked {
            return (phone, round);
        }
    }
    panic!("it was never linked");
}

fn said(person: &Person, case: &str) -> Vec<(String, String)> {
    let letters = person.client.letters(case, Which::All).unwrap();
    letters
        .into_iter()
        .filter(|letter| letter.kind != LetterKind::Notice)
        .map(|letter| (letter.name, letter.text.unwrap_or_default()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_device_has_all_letters_if_its_owner_says_so() {
    let relay = Relay::start();
    let (amal, ines) = case(&relay).await;
    let paper = amal.dir.path().join("paper.pdf");
    write_file(&paper, 200_000);
    let sent = amal
        .client
        .send_file(&amal.case(), &paper, &mut |_| {})
        .await
        .unwrap();
    for at in 0..LETTERS {
        let text = format!("{at:03} {}", "x".repeat(LETTER_BYTES));
        amal.client.send_text(&amal.case(), &text).await.unwrap();
    }
    ines.client.sync().await.unwrap();
    ines.client.send_text(&ines.case(), "I read it").await.unwrap();
    let (phone, rounds) = link(&ines, &relay, true).await;
    assert!(rounds > 2, "all of it fitted at once");
    amal.client.send_text(&amal.case(), "and now?").await.unwrap();
    phone.client.sync().await.unwrap();
    ines.client.sync().await.unwrap();
    let (here, there) = (said(&ines, &ines.case()), said(&phone, &ines.case()));
    assert_eq!(here.len(), LETTERS + 3);
    assert!(here == there, "{} of {} letters", there.len(), here.len());
    // A document from before is there to be fetched, and receipts are known.
    let (id, to) = (sent.id.to_text(), phone.dir.path());
    let got = phone
        .client
        .get(&ines.case(), &id, to, &mut |_| {})
        .await
        .unwrap();
    assert_eq!(std::fs::read(got.path).unwrap(), std::fs::read(paper).unwrap());
    // It is all kept.
    let phone = phone.reopen().await;
    assert!(said(&phone, &ines.case()) == here);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_device_has_nothing_from_before_otherwise() {
    let relay = Relay::start();
    let (amal, ines) = case(&relay).await;
    amal.client.send_text(&amal.case(), "before").await.unwrap();
    ines.client.sync().await.unwrap();
    let (phone, rounds) = link(&ines, &relay, false).await;
    assert_eq!(rounds, 2);
    amal.client.send_text(&amal.case(), "after").await.unwrap();
    phone.client.sync().await.unwrap();
    assert_eq!(
        said(&phone, &ines.case()),
        [("Amal".to_string(), "after".to_string())]
    );
}
