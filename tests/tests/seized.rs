//! A relay's disk, seized: what an examiner finds in its files.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and count on small numbers"
)]

use std::path::Path;

use martlet::{
    NewCase,
    link::{Connect, ask, quic::Quic},
};
use martlet_proto::{
    Append, Bind, ChannelId, Class, EntryId, Envelope, Grant, Keeper, Kind, Open, Reader, Secret, Token,
    Writer, call::Item,
};
use martlet_tests::{Person, Relay, write_file};

/// All that is on the disk, the names of files included.
fn everything(dir: &Path, found: &mut Vec<u8>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        found.extend_from_slice(path.file_name().unwrap().as_encoded_bytes());
        if path.is_dir() {
            everything(&path, found);
        } else {
            found.extend(std::fs::read(&path).unwrap());
        }
    }
}

fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seized_disk_shows_no_name_no_word_no_token_and_no_hour() {
    let mut relay = Relay::start();
    let ines = Person::new("Ines Okafor", Some(&relay)).await;
    let amal = Person::new("Amal Nazarova", None).await;
    let new = NewCase {
        text: Some("They took my brother.".into()),
        label: Some("brother".into()),
        apart: false,
    };
    amal.client.open_case(&ines.invite().await, new).await.unwrap();
    let paper = amal.dir.path().join("passport.pdf");
    write_file(&paper, 100_000);
    amal.client
        .send_file(&amal.case(), &paper, &mut |_| {})
        .await
        .unwrap();
    ines.client.sync().await.unwrap();

    let link = relay.link();
    let (read, write, keep) = (
        Token::<Reader>::new(Secret::new(*b"a reading token of 32 bytes, it ")),
        Token::<Writer>::new(Secret::new(*b"a writing token of 32 bytes, it ")),
        Token::<Keeper>::new(Secret::new(*b"a keeping token of 32 bytes, it ")),
    );
    let channel = ChannelId::commit(
        Class::Inbox,
        &read.hash(),
        &write.hash(),
        &keep.hash(),
        &Bind::NONE,
    );
    let hashes = (read.hash(), keep.hash());
    let writer = Grant {
        channel,
        token: write,
    };
    let connection = Quic::new().connect(&link.relay).await.unwrap();
    let open = Open {
        class: Class::Inbox,
        read: hashes.0,
        keep: hashes.1,
        bind: Bind::NONE,
        admission: Some(link.admission.clone()),
    };
    ask(connection.as_ref(), &writer, open).await.unwrap();
    let items = vec![Item {
        kind: Kind::Packet,
        id: EntryId::new([9; 16]),
        envelope: Envelope::new(vec![0x5a; 16 << 10].into()).unwrap(),
    }];
    ask(connection.as_ref(), &writer, Append { within: None, items })
        .await
        .unwrap();
    drop(connection);
    relay.stop().await;

    let mut disk = Vec::new();
    everything(relay.dir.path(), &mut disk);
    assert!(holds(&disk, &[0x5a; 16 << 10]), "the search finds what is there");
    assert!(holds(&disk, hashes.0.as_bytes()), "hashes of tokens are there");
    for token in ["a reading token", "a writing token", "a keeping token"] {
        assert!(!holds(&disk, token.as_bytes()), "{token}");
    }
    // Needles are long enough that random bytes do not hold them by chance.
    for word in [
        "Okafor",
        "Nazarova",
        "They took",
        "brother",
        "passport",
        "127.0.0.1",
    ] {
        assert!(!holds(&disk, word.as_bytes()), "{word}");
    }
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    // Without its last byte a count of seconds tells the time to within five minutes.
    let seconds = now.as_secs().to_be_bytes();
    let millis = u64::try_from(now.as_millis()).unwrap().to_be_bytes();
    let found = |stamp: &[u8]| {
        disk.windows(stamp.len())
            .filter(|window| *window == stamp)
            .count()
    };
    assert_eq!(found(&seconds[..7]), 0, "a time in seconds");
    assert_eq!(found(&millis[..6]), 0, "a time in milliseconds");
}
