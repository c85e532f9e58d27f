//! Cases of several people: added, removed, leaving, coming back, and counsel that changes hands. SPEC.md 10.

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

use martlet::{
    Client, Cost, Error, NewCase, Usage, Which,
    view::{LetterKind, Standing, Warning},
};
use martlet_proto::case::Role;
use martlet_tests::{Person, Relay};

/// Amal's case with Ines.
async fn case(relay: &Relay) -> (Person, Person) {
    let ines = Person::new("Ines", Some(relay)).await;
    let amal = Person::new("Amal", None).await;
    let invite = ines.invite().await;
    amal.client.open_case(&invite, NewCase::default()).await.unwrap();
    sync(&[&ines, &amal]).await;
    (amal, ines)
}

/// Everybody syncs, in this order.
async fn sync(people: &[&Person]) {
    for person in people {
        person.client.sync().await.unwrap();
    }
}

/// Adds somebody, who joins.
async fn add(ines: &Person, relay: &Relay, name: &str, role: Role) -> Person {
    let person = Person::new(name, Some(relay)).await;
    let (view, queued) = ines
        .client
        .add(&ines.case(), &person.invite().await, role)
        .await
        .unwrap();
    assert!(!queued);
    assert!(
        view.members
            .iter()
            .any(|member| member.name == name && member.role == role)
    );
    person.client.sync().await.unwrap();
    person
}

/// The texts of people's letters, without notices.
fn said(person: &Person) -> Vec<String> {
    let letters = person.client.letters(&person.case(), Which::All).unwrap();
    letters
        .into_iter()
        .filter(|letter| letter.kind == LetterKind::Text)
        .filter_map(|letter| letter.text)
        .collect()
}

fn notices(person: &Person) -> Vec<String> {
    let letters = person.client.letters(&person.case(), Which::All).unwrap();
    letters
        .into_iter()
        .filter(|letter| letter.kind == LetterKind::Notice)
        .filter_map(|letter| letter.text)
        .collect()
}

/// Everybody is in the same epoch and sees the same people.
fn agree(people: &[&Person]) {
    let seen: Vec<_> = people
        .iter()
        .map(|person| {
            let view = person.client.case(&person.case()).unwrap();
            let mut members: Vec<_> = view
                .members
                .iter()
                .map(|member| (member.member.clone(), member.role))
                .collect();
            members.sort();
            let other = view.members.iter().find(|member| !member.me).unwrap();
            let safety = person.client.safety(&person.case(), Some(&other.member)).unwrap();
            (safety.epoch_code, members)
        })
        .collect();
    assert!(seen.windows(2).all(|two| two[0] == two[1]), "{seen:?}");
}

fn refusal<T: std::fmt::Debug>(done: Result<T, Error>) -> Usage {
    match done {
        Err(Error::Usage(usage)) => usage,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_people_share_a_case() {
    let relay = Relay::start();
    let (amal, ines) = case(&relay).await;
    amal.client.send_text(&amal.case(), "before").await.unwrap();
    let bashir = add(&ines, &relay, "Bashir", Role::Interpreter).await;
    let carol = add(&ines, &relay, "Carol", Role::Counsel).await;
    let dan = add(&ines, &relay, "Dan", Role::Observer).await;
    let all = [&amal, &ines, &bashir, &carol, &dan];
    sync(&all).await;
    agree(&all);
    for person in all {
        let name = person.client.name().unwrap();
        person.client.send_text(&person.case(), &name).await.unwrap();
    }
    sync(&all).await;
    for person in all {
        let mut heard = said(person);
        heard.retain(|text| text != "before");
        heard.sort();
        assert_eq!(heard, ["Amal", "Bashir", "Carol", "Dan", "Ines"]);
    }
    assert!(said(&amal).contains(&"before".into()) && !said(&bashir).contains(&"before".into()));
    assert_eq!(
        notices(&amal),
        [
            "Ines added Bashir as interpreter",
            "Ines added Carol as counsel",
            "Ines added Dan as observer"
        ]
    );
    // Everybody's letter arrived at everybody else.
    sync(&all).await;
    sync(&all).await;
    for person in all {
        let letters = person.client.letters(&person.case(), Which::All).unwrap();
        let own = letters
            .iter()
            .rfind(|letter| letter.mine && letter.kind == LetterKind::Text)
            .unwrap();
        assert_eq!(own.delivered_to.len(), 4, "{}", person.client.name().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_removed_reads_and_writes_nothing_more_and_is_told() {
    let relay = Relay::start();
    let (amal, ines) = case(&relay).await;
    let bashir = add(&ines, &relay, "Bashir", Role::Interpreter).await;
    sync(&[&amal, &bashir]).await;
    // What somebody offline had written waits for the next epoch.
    let (view, queued) = ines.client.remove(&ines.case(), "Bashir").await.unwrap();
    assert!(!queued && view.members.len() == 2);
    ines.client.send_text(&ines.case(), "without him").await.unwrap();
    sync(&[&amal, &bashir]).await;
    assert_eq!(said(&amal), ["without him"]);
    assert!(said(&bashir).is_empty());
    let view = bashir.client.case(&bashir.case()).unwrap();
    assert_eq!(view.standing, Standing::Removed);
    assert!(view.warnings.contains(&Warning::Removed));
    let refused = bashir.client.send_text(&bashir.case(), "still here?").await;
    assert_eq!(refusal(refused), Usage::CaseEnded);
    assert_eq!(
        notices(&amal),
        ["Ines added Bashir as interpreter", "Ines removed Bashir"]
    );
    agree(&[&amal, &ines]);
    // He may be added again, by a new invite.
    let (_, queued) = ines
        .client
        .add(&ines.case(), &bashir.invite().await, Role::Observer)
        .await
        .unwrap();
    assert!(!queued);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_counsel_changes_who_is_in_a_case() {
    let relay = Relay::start();
    let (amal, ines) = case(&relay).await;
    let bashir = add(&ines, &relay, "Bashir", Role::Interpreter).await;
    let dan = Person::new("Dan", Some(&relay)).await;
    let invite = dan.invite().await;
    for person in [&amal, &bashir] {
        person.client.sync().await.unwrap();
        let refused = person.client.add(&person.case(), &invite, Role::Observer).await;
        assert_eq!(refusal(refused), Usage::NotCounsel);
        let refused = person.client.remove(&person.case(), "Ines").await;
        assert_eq!(refusal(refused), Usage::NotCounsel);
        assert_eq!(
            refusal(person.client.take_over(&person.case()).await),
            Usage::NotCounsel
        );
    }
    let refused = ines.client.remove(&ines.case(), "Ines").await;
    assert_eq!(refusal(refused), Usage::Yourself);
    let again = bashir.invite().await;
    let refused = ines.client.add(&ines.case(), &again, Role::Counsel).await;
    assert_eq!(refusal(refused), Usage::AlreadyMember);
    let elsewhere = Relay::start();
    let far = Person::new("Far", Some(&elsewhere)).await;
    let refused = ines
        .client
        .add(&ines.case(), &far.invite().await, Role::Observer)
        .await;
    assert_eq!(refusal(refused), Usage::OtherRelay);
    agree(&[&amal, &ines, &bashir]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_of_counsels_devices_takes_over() {
    let relay = Relay::start();
    let (amal, ines) = case(&relay).await;
    let carol = add(&ines, &relay, "Carol", Role::Counsel).await;
    let dan = Person::new("Dan", Some(&relay)).await;
    let invite = dan.invite().await;
    let refused = carol.client.add(&carol.case(), &invite, Role::Observer).await;
    assert_eq!(refusal(refused), Usage::NotCommitter);
    carol.client.take_over(&carol.case()).await.unwrap();
    carol
        .client
        .add(&carol.case(), &invite, Role::Observer)
        .await
        .unwrap();
    dan.client.sync().await.unwrap();
    // Ines does not know yet: what she wishes is overtaken, and said so.
    let refused = ines.client.remove(&ines.case(), "Carol").await;
    assert_eq!(refusal(refused), Usage::NotCommitter);
    let all = [&amal, &ines, &carol, &dan];
    sync(&all).await;
    agree(&all);
    assert!(notices(&amal).iter().any(|text| text.contains("of Carol")));
    carol.client.remove(&carol.case(), "Ines").await.unwrap();
    sync(&all).await;
    agree(&[&amal, &carol, &dan]);
    assert_eq!(
        ines.client.case(&ines.case()).unwrap().standing,
        Standing::Removed
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn anybody_may_leave() {
    let relay = Relay::start();
    let (amal, ines) = case(&relay).await;
    let bashir = add(&ines, &relay, "Bashir", Role::Interpreter).await;
    bashir.client.leave(&bashir.case()).await.unwrap();
    assert_eq!(refusal(ines.client.leave(&ines.case()).await), Usage::Yourself);
    sync(&[&ines, &amal, &bashir]).await;
    agree(&[&amal, &ines]);
    assert_eq!(
        bashir.client.case(&bashir.case()).unwrap().standing,
        Standing::Removed
    );
    assert_eq!(ines.client.case(&ines.case()).unwrap().members.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_is_taken_in_again_and_has_what_was_missed() {
    let relay = Relay::start();
    let (amal, ines) = case(&relay).await;
    let carol = add(&ines, &relay, "Carol", Role::Counsel).await;
    sync(&[&amal, &carol]).await;
    assert!(matches!(
        ines.client.readmit(&ines.case(), "Amal").await,
        Err(Error::NotFound(_))
    ));
    let asked = amal.client.rejoin(Some(&amal.case()), None).await.unwrap();
    assert_eq!((asked.asked, asked.queued), (1, false));
    // Written while she is out of the thread.
    ines.client
        .send_text(&ines.case(), "are you there?")
        .await
        .unwrap();
    sync(&[&ines, &carol]).await;
    for counsel in [&ines, &carol] {
        let view = counsel.client.case(&counsel.case()).unwrap();
        assert!(view.warnings.contains(&Warning::Asks), "both of counsel see it");
        assert_eq!(view.asks.len(), 1);
    }
    ines.client.readmit(&ines.case(), "Amal").await.unwrap();
    sync(&[&amal, &ines, &carol, &amal]).await;
    agree(&[&amal, &ines, &carol]);
    amal.client.send_text(&amal.case(), "I am").await.unwrap();
    sync(&[&ines, &carol]).await;
    assert_eq!(said(&ines), ["are you there?", "I am"]);
    assert_eq!(said(&amal), ["are you there?", "I am"]);
    assert!(
        notices(&carol)
            .iter()
            .any(|text| text == "Ines took Amal in again, on a new or restored device")
    );
    let view = carol.client.case(&carol.case()).unwrap();
    assert!(view.asks.is_empty() && view.warnings.is_empty(), "{view:?}");
}

/// A second device of the client's, who does not lead the case.
async fn link_by_letter(amal: &Person, ines: &Person, relay: &Relay) -> Person {
    let tablet = Person::new("tablet", Some(relay)).await;
    let asked = tablet.client.request_link(None).await.unwrap();
    let request = asked.request.unwrap().parse().unwrap();
    for _ in 0..4 {
        amal.client.link_device(&request, false).await.unwrap();
        sync(&[&tablet, ines, amal]).await;
    }
    agree(&[amal, ines, &tablet]);
    tablet
}

#[tokio::test(flavor = "multi_thread")]
async fn both_devices_of_somebody_who_ask_are_taken_in_again_at_once() {
    let relay = Relay::start();
    let (amal, ines) = case(&relay).await;
    let tablet = link_by_letter(&amal, &ines, &relay).await;
    tablet.client.rejoin(Some(&tablet.case()), None).await.unwrap();
    amal.client.rejoin(Some(&amal.case()), None).await.unwrap();
    ines.client.sync().await.unwrap();
    assert_eq!(
        ines.client.case(&ines.case()).unwrap().asks.len(),
        1,
        "one person"
    );
    ines.client.readmit(&ines.case(), "Amal").await.unwrap();
    sync(&[&tablet, &amal, &ines]).await;
    agree(&[&amal, &ines, &tablet]);
    tablet
        .client
        .send_text(&tablet.case(), "both of us")
        .await
        .unwrap();
    sync(&[&ines, &amal]).await;
    assert_eq!(said(&ines), ["both of us"]);
    assert_eq!(said(&amal), ["both of us"]);
    assert!(ines.client.case(&ines.case()).unwrap().asks.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_was_removed_does_not_come_back_by_asking() {
    let relay = Relay::start();
    let (amal, ines) = case(&relay).await;
    let tablet = link_by_letter(&amal, &ines, &relay).await;
    // Who stole it asks, and counsel sees that somebody does, before Amal has it removed.
    tablet.client.rejoin(Some(&tablet.case()), None).await.unwrap();
    ines.client.sync().await.unwrap();
    assert_eq!(ines.client.case(&ines.case()).unwrap().asks.len(), 1);
    let list = amal.client.device_list().unwrap();
    let stolen = list.into_iter().find(|device| !device.me).unwrap();
    amal.client.remove_device(&stolen.device).await.unwrap();
    sync(&[&ines, &amal, &ines]).await;
    let view = ines.client.case(&ines.case()).unwrap();
    assert!(view.asks.is_empty(), "{view:?}");
    assert!(matches!(
        ines.client.readmit(&ines.case(), "Amal").await,
        Err(Error::NotFound(_))
    ));
    tablet.client.sync().await.unwrap();
    let case = tablet.client.case(&tablet.case()).unwrap();
    assert_eq!(case.standing, Standing::Removed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_made_offline_is_made_when_the_relay_is_back() {
    let mut relay = Relay::start();
    let (amal, ines) = case(&relay).await;
    let bashir = add(&ines, &relay, "Bashir", Role::Interpreter).await;
    relay.stop().await;
    let (_, queued) = ines.client.remove(&ines.case(), "Bashir").await.unwrap();
    assert!(queued);
    let ines = ines.reopen().await;
    relay.restart();
    sync(&[&ines, &amal, &bashir]).await;
    agree(&[&amal, &ines]);
    assert_eq!(
        bashir.client.case(&bashir.case()).unwrap().standing,
        Standing::Removed
    );
}

/// A new device of somebody's that is in all their cases.
async fn link(owner: &Person, relay: &Relay) -> Person {
    let phone = Person::new("phone", Some(relay)).await;
    let asked = phone.client.request_link(None).await.unwrap();
    let request = asked.request.unwrap().parse().unwrap();
    assert!(!asked.linked);
    for _ in 0..3 {
        let seen = owner.client.link_device(&request, false).await.unwrap();
        phone.client.sync().await.unwrap();
        if seen.linked {
            break;
        }
    }
    assert!(owner.client.link_device(&request, false).await.unwrap().linked);
    phone
}

#[tokio::test(flavor = "multi_thread")]
async fn counsels_second_device_is_in_all_cases_and_can_lead_them() {
    let relay = Relay::start();
    let (amal, ines) = case(&relay).await;
    let phone = link(&ines, &relay).await;
    sync(&[&amal, &ines, &phone]).await;
    agree(&[&amal, &ines, &phone]);
    assert_eq!(
        phone.client.fingerprint().unwrap(),
        ines.client.fingerprint().unwrap()
    );
    assert_eq!(phone.client.name().unwrap(), "Ines");
    phone
        .client
        .send_text(&phone.case(), "from the phone")
        .await
        .unwrap();
    sync(&[&amal, &ines]).await;
    assert_eq!(said(&amal), ["from the phone"]);
    assert_eq!(said(&ines), ["from the phone"]);
    assert!(notices(&amal).iter().any(|text| text.contains("2 devices")));
    // One receipt of any device of a person is enough, and what a new client opens reaches both.
    let second = Person::new("Baran", None).await;
    let new = NewCase {
        text: Some("Salam".into()),
        label: None,
        apart: false,
    };
    second.client.open_case(&ines.invite().await, new).await.unwrap();
    sync(&[&ines, &phone, &ines, &phone]).await;
    assert_eq!(phone.client.cases().unwrap().len(), 2);
    // The laptop is stolen: the phone leads, and the laptop is out.
    let cases: Vec<String> = phone
        .client
        .cases()
        .unwrap()
        .into_iter()
        .map(|view| view.case)
        .collect();
    for case in &cases {
        phone.client.take_over(case).await.unwrap();
    }
    let laptop = phone
        .client
        .device_list()
        .unwrap()
        .into_iter()
        .find(|device| !device.me)
        .unwrap();
    assert_eq!(laptop.cases, 2);
    phone.client.remove_device(&laptop.device).await.unwrap();
    sync(&[&ines, &amal, &second]).await;
    for view in ines.client.cases().unwrap() {
        assert_eq!(view.standing, Standing::Removed);
    }
    amal.client.send_text(&amal.case(), "safe?").await.unwrap();
    phone.client.sync().await.unwrap();
    let letters = phone.client.letters(&amal.case(), Which::All).unwrap();
    assert!(
        letters
            .iter()
            .any(|letter| letter.text.as_deref() == Some("safe?"))
    );
    assert!(!said_in(&ines, &amal.case()).contains(&"safe?".into()));
    // Without the identity key there is no invite.
    let refused = phone
        .client
        .invite(martlet::NewInvite {
            uses: martlet_proto::card::Uses::Many,
            label: None,
            days: 3,
            apart: false,
        })
        .await;
    assert_eq!(refusal(refused), Usage::NotThisDevice);
}

fn said_in(person: &Person, case: &str) -> Vec<String> {
    let letters = person.client.letters(case, Which::All).unwrap();
    letters.into_iter().filter_map(|letter| letter.text).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_second_device_comes_in_by_counsels_commit() {
    let relay = Relay::start();
    let (amal, ines) = case(&relay).await;
    let phone = Person::new("tablet", None).await;
    let asked = phone.client.request_link(Some(relay.link())).await.unwrap();
    let request = asked.request.unwrap().parse().unwrap();
    amal.client.link_device(&request, false).await.unwrap();
    // In any order, with anyone's program closed in between.
    let mut phone = phone;
    for _ in 0..2 {
        phone = phone.reopen().await;
        sync(&[&phone, &amal, &ines, &amal, &phone]).await;
    }
    agree(&[&amal, &ines, &phone]);
    ines.client.send_text(&ines.case(), "both?").await.unwrap();
    sync(&[&amal, &phone]).await;
    assert_eq!(said(&amal), ["both?"]);
    assert_eq!(said(&phone), ["both?"]);
    let device = amal
        .client
        .device_list()
        .unwrap()
        .into_iter()
        .find(|device| !device.me)
        .unwrap();
    assert_eq!(device.name, "tablet");
    amal.client.remove_device(&device.device).await.unwrap();
    sync(&[&ines, &phone, &amal]).await;
    assert_eq!(
        phone.client.case(&phone.case()).unwrap().standing,
        Standing::Removed
    );
    agree(&[&amal, &ines]);
    // A vault in use does not become somebody else's device.
    let refused = amal.client.request_link(Some(relay.link())).await;
    assert_eq!(refusal(refused), Usage::InUse);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_case_moves_with_its_people_and_its_documents() {
    let (old, new) = (Relay::start(), Relay::start());
    let (amal, ines) = case(&old).await;
    let bashir = add(&ines, &old, "Bashir", Role::Interpreter).await;
    let path = amal.dir.path().join("passport.jpg");
    martlet_tests::write_file(&path, 100_000);
    let sent = amal
        .client
        .send_file(&amal.case(), &path, &mut |_| {})
        .await
        .unwrap();
    let waits = ines.client.move_cases(new.link(), None, false).await.unwrap();
    assert!(!waits);
    let all = [&amal, &ines, &bashir];
    sync(&all).await;
    agree(&all);
    for person in all {
        let text = person.client.name().unwrap();
        person.client.send_text(&person.case(), &text).await.unwrap();
    }
    sync(&all).await;
    for person in all {
        assert_eq!(said(person).len(), 3);
        let relays = person.client.relay_list().unwrap();
        let here = relays.iter().find(|relay| relay.cases == 1).unwrap();
        assert_eq!(here.pin, *new.link().relay.pin.as_bytes());
    }
    assert!(notices(&amal).iter().any(|text| text.contains("another relay")));
    let to = ines.dir.path().join("in");
    std::fs::create_dir(&to).unwrap();
    let id = sent.id.to_text();
    ines.client
        .get(&ines.case(), &id, &to, &mut |_| {})
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_case_is_found_again_when_its_relay_is_gone() {
    let (mut old, new) = (Relay::start(), Relay::start());
    let (amal, ines) = case(&old).await;
    // Counsel names another relay while all is well.
    ines.client.use_relay(new.link()).await.unwrap();
    sync(&[&amal]).await;
    old.stop().await;
    amal.client
        .send_text(&amal.case(), "where are you?")
        .await
        .unwrap();
    let waits = ines.client.move_cases(new.link(), None, false).await.unwrap();
    assert!(!waits);
    ines.client.send_text(&ines.case(), "here").await.unwrap();
    for person in [&amal, &ines] {
        // Their own relay, for invites, may be out of reach as well.
        // Their own relay, for invites, may be out of reach as well.
        let _ = person.client.sync().await;
    }
    agree(&[&amal, &ines]);
    assert!(said(&ines).contains(&"where are you?".into()));
    assert!(said(&amal).contains(&"here".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_find_each_other_by_a_link_when_every_relay_is_lost() {
    let (mut old, new) = (Relay::start(), Relay::start());
    let (amal, ines) = case(&old).await;
    old.stop().await;
    ines.client.move_cases(new.link(), None, true).await.unwrap();
    amal.client.send_text(&amal.case(), "hello?").await.unwrap();
    assert!(amal.client.sync().await.is_err());
    // Ines shows her screen.
    let link = ines.client.relay_link(&ines.case()).unwrap();
    amal.client.move_cases(link, None, false).await.unwrap();
    ines.client.send_text(&ines.case(), "found").await.unwrap();
    amal.client.sync().await.unwrap();
    let _ = ines.client.sync().await;
    agree(&[&amal, &ines]);
    assert_eq!(said(&amal), ["hello?", "found"]);
    assert!(said(&ines).contains(&"hello?".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_lost_the_phone_comes_back_from_an_archive() {
    let relay = Relay::start();
    let (amal, ines) = case(&relay).await;
    amal.client.send_text(&amal.case(), "the first").await.unwrap();
    sync(&[&ines, &amal]).await;
    let file = ines.dir.path().join("amal.archive");
    amal.client.backup(&file, b"archive passphrase").await.unwrap();
    // Written after the archive was made, and seen by the lost phone only by chance.
    ines.client
        .send_text(&ines.case(), "while it was lost")
        .await
        .unwrap();
    let fingerprint = amal.client.fingerprint().unwrap();
    drop(amal);
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    Client::restore(
        &file,
        b"archive passphrase",
        &home,
        martlet_tests::PASSPHRASE,
        Cost::Floor,
    )
    .await
    .unwrap();
    let client = Client::open(&home, martlet_tests::PASSPHRASE).await.unwrap();
    let mut amal = Person { dir, client };
    assert_eq!(amal.client.fingerprint().unwrap(), fingerprint);
    let refused = amal.client.send_text(&amal.case(), "hello").await;
    assert_eq!(refusal(refused), Usage::CaseRestored);
    let asked = amal.client.rejoin(None, None).await.unwrap();
    assert_eq!((asked.asked, asked.queued), (1, false));
    amal = amal.reopen().await;
    ines.client.sync().await.unwrap();
    ines.client.readmit(&ines.case(), "Amal").await.unwrap();
    sync(&[&amal, &ines, &amal]).await;
    agree(&[&amal, &ines]);
    let view = amal.client.case(&amal.case()).unwrap();
    assert_eq!(view.standing, Standing::Member);
    assert_eq!(said(&amal), ["the first", "while it was lost"]);
    let amal = amal.reopen().await;
    amal.client.send_text(&amal.case(), "back").await.unwrap();
    ines.client.sync().await.unwrap();
    assert!(said(&ines).contains(&"back".into()));
}

/// Restores an archive into a vault of its own.
async fn restored(file: &std::path::Path) -> Person {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let passphrase = martlet_tests::PASSPHRASE;
    Client::restore(file, b"archive passphrase", &home, passphrase, Cost::Floor)
        .await
        .unwrap();
    let client = Client::open(&home, passphrase).await.unwrap();
    Person { dir, client }
}

#[tokio::test(flavor = "multi_thread")]
async fn recovery_digits_prove_who_asks() {
    let relay = Relay::start();
    let (amal, ines) = case(&relay).await;
    let carol = add(&ines, &relay, "Carol", Role::Counsel).await;
    sync(&[&amal, &carol]).await;
    assert_eq!(
        refusal(ines.client.recovery(None).await.map(|_| ())),
        Usage::NoRescue
    );
    let seen = notices(&ines);
    let before = amal.client.recovery(None).await.unwrap();
    assert_eq!((before.cases, before.queued), (1, false));
    let made = amal.client.recovery(Some(&amal.case())).await.unwrap();
    sync(&[&ines, &carol]).await;
    assert_eq!(
        (notices(&ines), said(&ines)),
        (seen, Vec::new()),
        "nothing of it is shown"
    );
    let file = ines.dir.path().join("amal.archive");
    amal.client.backup(&file, b"archive passphrase").await.unwrap();

    // A slip, digits from before, and a request without digits prove nothing.
    let slip = made.digits.replace('1', "2").replace('7', "8");
    let wrong = amal.client.rejoin(Some(&amal.case()), Some(&slip)).await;
    assert_eq!(refusal(wrong), Usage::RecoveryDigits);
    let proofs = |counsel: &Person| {
        let view = counsel.client.case(&counsel.case()).unwrap();
        let proofs = view
            .requests
            .iter()
            .map(|r| (r.known_device, r.digits_since.is_some()));
        proofs.collect::<Vec<_>>()
    };
    let thief = restored(&file).await;
    thief.client.rejoin(None, Some(&before.digits)).await.unwrap();
    sync(&[&ines, &carol]).await;
    assert_eq!(proofs(&ines), [(false, false)]);

    // The paper is right; the thief asks once more, later. A request without digits becomes one with them.
    drop(amal);
    let amal = restored(&file).await;
    amal.client.rejoin(None, None).await.unwrap();
    ines.client.sync().await.unwrap();
    assert_eq!(proofs(&ines), [(false, false); 2]);
    let typed = made.digits.replace(' ', "-");
    amal.client.rejoin(None, Some(&typed)).await.unwrap();
    thief.client.rejoin(None, Some(&before.digits)).await.unwrap();
    sync(&[&ines, &carol]).await;
    for counsel in [&ines, &carol] {
        let mut seen = proofs(counsel);
        seen.sort_unstable();
        assert_eq!(seen, [(false, false), (false, true)]);
    }
    ines.client.readmit(&ines.case(), "Amal").await.unwrap();
    sync(&[&amal, &thief, &ines, &carol, &amal]).await;
    agree(&[&amal, &ines, &carol]);
    assert_eq!(amal.client.case(&amal.case()).unwrap().standing, Standing::Member);
    let left_out = thief.client.case(&thief.case()).unwrap();
    assert_eq!(left_out.standing, Standing::Restored);
    amal.client.send_text(&amal.case(), "it is me").await.unwrap();
    ines.client.sync().await.unwrap();
    assert!(said(&ines).contains(&"it is me".into()));

    // The same digits prove it again, for a device that counsel already knows.
    amal.client
        .rejoin(Some(&amal.case()), Some(&made.digits))
        .await
        .unwrap();
    ines.client.sync().await.unwrap();
    assert!(proofs(&ines).contains(&(true, true)), "{:?}", proofs(&ines));
}
