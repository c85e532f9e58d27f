//! How long letters are kept: agreed in the case, shown to both, and over for good. SPEC.md 10.7.

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

use std::{collections::BTreeMap, path::Path};

use martlet::{
    Client, NewCase, Which,
    case::{Case, drawer::Row, ratchet_name},
    entropy::Entropy,
    me::Me,
    record::{CaseRecord, decode},
    vault::{Name, Table, Vault, VaultError},
    view::{LetterKind, Retention},
};
use martlet_proto::{Secret, Time, case::Role};
use martlet_tests::{PASSPHRASE, Person, Relay};

const WORDS: &str = "words that must not outlive their time";
const DAY: u64 = 86_400;

/// Amal's case with Ines, who wrote to each other and have each other's receipts; Amal has read or not.
async fn written(relay: &Relay, read: bool) -> (Person, Person) {
    let ines = Person::new("Ines", Some(relay)).await;
    let amal = Person::new("Amal", None).await;
    amal.client
        .open_case(&ines.invite().await, NewCase::default())
        .await
        .unwrap();
    sync(&[&ines, &amal]).await;
    ines.client.send_text(&ines.case(), WORDS).await.unwrap();
    amal.client.send_text(&amal.case(), WORDS).await.unwrap();
    sync(&[&amal, &ines, &amal, &ines]).await;
    if read {
        let case = amal.case();
        let letters = amal.client.letters(&case, Which::All).unwrap();
        let ids: Vec<_> = letters.iter().map(|letter| letter.id).collect();
        amal.client.mark_read(&case, &ids).unwrap();
    }
    (amal, ines)
}

async fn sync(people: &[&Person]) {
    for person in people {
        person.client.sync().await.unwrap();
    }
}

/// A closed vault's only case, as the program would load it.
struct Opened {
    vault: Vault,
    me: Me,
    case: Case,
    now: u64,
}

impl Opened {
    fn at(home: &Path) -> Self {
        let vault = Vault::open(home, PASSPHRASE).unwrap();
        let me = vault.get(&Name::one(Table::Profile)).unwrap().unwrap();
        let me = Me::from_profile(decode(&me).unwrap()).unwrap();
        let (index, record) = vault.scan(Table::Cases, [0; 16], 0).unwrap().remove(0);
        let record: CaseRecord = decode(&record).unwrap();
        let now = record.last.unwrap().as_secs();
        let ratchet = vault.ratchet(&ratchet_name(&record.id)).unwrap().unwrap();
        let letters = rows(&vault, Table::Letters, record.id);
        let outbox = rows(&vault, Table::Outbox, record.id);
        let mut entropy = Entropy::from_seed(&Secret::new([3; 32]));
        let case = Case::load(&me, index, record, &ratchet, letters, outbox, &mut entropy).unwrap();
        Self { vault, me, case, now }
    }

    /// Lets so many days pass; gives how many letters there are then.
    fn after(&mut self, days: u64) -> usize {
        let now = Time::from_secs(self.now + days * DAY);
        let batch = self.case.forget(&self.me, now).unwrap();
        if !batch.is_empty() {
            self.vault.commit(batch).unwrap();
        }
        self.case.kept().count()
    }

    fn hold(&mut self, hold: bool) {
        let batch = self.case.hold(hold).unwrap();
        self.vault.commit(batch).unwrap();
    }
}

fn rows(vault: &Vault, table: Table, group: [u8; 16]) -> BTreeMap<u64, Row> {
    let rows = vault.scan(table, group, 0).unwrap();
    rows.into_iter()
        .map(|(at, row)| (at, decode(&row).unwrap()))
        .collect()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => copy(&entry.path(), &to),
            kind if kind.is_file() => drop(std::fs::copy(entry.path(), to).unwrap()),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_side_sets_its_own_days_and_everybody_sees_them() {
    let relay = Relay::start();
    let (amal, ines) = written(&relay, true).await;
    let agreed = |person: &Person| person.client.case(&person.case()).unwrap().retention;
    let days = |client_days, counsel_days| Retention {
        client_days,
        counsel_days,
    };
    assert_eq!([agreed(&amal), agreed(&ines)], [days(Some(30), None); 2]);
    let (view, queued) = ines.client.retain(&ines.case(), 400).await.unwrap();
    assert!(!queued && view.retention == days(Some(30), Some(400)));
    let (view, queued) = amal.client.retain(&amal.case(), 10).await.unwrap();
    assert!(!queued, "her wish is at the relay");
    assert_eq!(
        view.retention,
        days(Some(30), Some(400)),
        "counsel has not made it"
    );
    sync(&[&ines, &amal]).await;
    assert_eq!([agreed(&amal), agreed(&ines)], [days(Some(10), Some(400)); 2]);
    let notices = amal.client.letters(&amal.case(), Which::All).unwrap();
    let notices = notices.iter().filter(|letter| letter.kind == LetterKind::Notice);
    assert_eq!(notices.count(), 2);

    let bashir = Person::new("Bashir", Some(&relay)).await;
    let invite = bashir.invite().await;
    ines.client
        .add(&ines.case(), &invite, Role::Interpreter)
        .await
        .unwrap();
    sync(&[&bashir]).await;
    bashir.client.retain(&bashir.case(), 0).await.unwrap();
    sync(&[&ines, &amal, &bashir]).await;
    let all = [agreed(&amal), agreed(&ines), agreed(&bashir)];
    assert_eq!(all, [days(None, Some(400)); 3], "his side is the client's");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_cannot_be_read_from_what_the_vault_still_has() {
    let relay = Relay::start();
    let (amal, ines) = written(&relay, true).await;
    let Person { dir, client } = amal;
    let (home, old) = (client.home().to_path_buf(), dir.path().join("old"));
    drop(client);
    copy(&home, &old);

    let before = Opened::at(&old);
    let id = *before.case.id();
    let old_rows = rows(&before.vault, Table::Letters, id);
    let texts = |case: &Case, me: &Me| {
        let letters = case.letters(me, false).into_iter();
        letters
            .filter_map(|letter| letter.text)
            .filter(|text| text == WORDS)
            .count()
    };
    assert_eq!(texts(&before.case, &before.me), 2);
    for table in [Table::Letters, Table::Outbox, Table::Cases] {
        for (_, row) in before.vault.scan(table, id, 0).unwrap() {
            let words = WORDS.as_bytes();
            assert!(!row.windows(words.len()).any(|part| part == words), "{table:?}");
        }
    }
    let old_raw = before.vault.scan(Table::Letters, id, 0).unwrap();
    drop(before);

    let mut opened = Opened::at(&home);
    assert_eq!(opened.after(30), old_rows.len(), "too early");
    opened.hold(true);
    assert_eq!(opened.after(1000), old_rows.len(), "held");
    opened.hold(false);
    assert_eq!(opened.after(31), 0);
    let left = rows(&opened.vault, Table::Letters, id);
    assert!(left.values().all(|row| matches!(row, Row::Gone { .. })));

    // The rows of the older copy, at their own places, under the present keys.
    let mut batch = martlet::vault::Batch::default();
    for (at, row) in old_raw {
        batch.put(Name::new(Table::Letters, id, at), row);
    }
    opened.vault.commit(batch).unwrap();
    drop(opened);
    let client = Client::open(&home, PASSPHRASE).await.unwrap();
    let case = client.cases().unwrap().remove(0).case;
    assert!(client.letters(&case, Which::All).unwrap().is_empty());
    drop(client);
    let vault = Vault::open(&home, PASSPHRASE).unwrap();
    assert!(
        rows(&vault, Table::Letters, id).is_empty(),
        "they are deleted again"
    );
    drop(vault);

    // The older pages with the present slot and the passphrase.
    std::fs::copy(home.join("slot"), old.join("slot")).unwrap();
    assert!(matches!(
        Vault::open(&old, PASSPHRASE),
        Err(VaultError::RolledBack | VaultError::Damaged { .. })
    ));

    let home = ines.client.home().to_path_buf();
    let Person { dir: _kept, client } = ines;
    drop(client);
    let mut counsel = Opened::at(&home);
    let kept = counsel.case.kept().count();
    assert!(kept >= 2);
    assert_eq!(counsel.after(10_000), kept, "counsel keeps for good");
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_letters_stay_thirty_days_longer_and_names_a_while() {
    let relay = Relay::start();
    let (amal, _ines) = written(&relay, false).await;
    let home = amal.client.home().to_path_buf();
    let Person { dir: _kept, client } = amal;
    drop(client);
    let mut opened = Opened::at(&home);
    let all = opened.case.kept().count();
    assert_eq!(opened.after(31), all);
    assert_eq!(opened.after(60), all);
    assert_eq!(opened.after(61), 0);
    assert_eq!(opened.case.record().unread, 0);
    let id = *opened.case.id();
    let names = |opened: &Opened| rows(&opened.vault, Table::Letters, id).len();
    opened.after(61 + 119);
    assert_eq!(names(&opened), all);
    opened.after(61 + 120);
    assert_eq!(names(&opened), 0);
}
