//! The archive, as its owner and its thieves meet it: the encryption, and what it encrypts.

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
    io::{Cursor, Read, Write},
    path::Path,
};

use martlet::{
    Error,
    archive::{Item, KeptCase, KeptLetter, KeptMember, Owner, Reader, Writer},
    entropy::Entropy,
    record::{LetterRecord, Standing},
};
use martlet_proto::{
    Admission, Secret, Time,
    age::{Opener, Random, Sealer, Unopened, Work},
    case::{RescueSeeds, Role},
    letter::{Body, Letter, LetterId},
    limits::ARCHIVE_RECORD_BYTES_MAX,
    link::{Door, Pin, RelayAddress},
};
use sha2::{Digest, Sha256};

const PASSPHRASE: &[u8] = b"a passphrase of its own";

fn seal(content: &[u8]) -> Vec<u8> {
    let mut entropy = Entropy::from_seed(&Secret::new([7; 32]));
    let work = Work::from_log(1).unwrap();
    let random = Random {
        file_key: entropy.secret(),
        salt: entropy.bytes(),
        nonce: entropy.bytes(),
    };
    let mut sealer = Sealer::begin(Vec::new(), PASSPHRASE, work, &random).unwrap();
    sealer.write_all(content).unwrap();
    sealer.finish().unwrap()
}

/// What was sealed, or how that failed: `None` for what the header does not show.
fn open(sealed: &[u8], passphrase: &[u8]) -> Result<Vec<u8>, Option<Unopened>> {
    let mut opener = Opener::begin(Cursor::new(sealed), passphrase).map_err(Some)?;
    let mut content = Vec::new();
    opener.read_to_end(&mut content).map_err(|error| {
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
        None
    })?;
    Ok(content)
}

/// C2SP's vectors for the format (CCTV, `age/testdata`, CC0): those that concern passphrases.
#[test]
fn the_vectors_of_the_age_format_are_taken_as_they_say() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/age");
    let mut taken = [0, 0];
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let cut = bytes.windows(2).position(|two| two == b"\n\n").unwrap();
        let said = std::str::from_utf8(&bytes[..cut]).unwrap();
        let field = |name: &str| said.lines().find_map(|line| line.strip_prefix(name));
        let passphrase = field("passphrase: ").unwrap().as_bytes();
        let opened = open(&bytes[cut + 2..], passphrase);
        match field("expect: ").unwrap() {
            "success" => {
                let hash = hex::encode(Sha256::digest(opened.unwrap()));
                assert_eq!(field("payload: "), Some(hash.as_str()));
                taken[0] += 1;
            }
            _ => {
                assert!(opened.is_err(), "{path:?}");
                taken[1] += 1;
            }
        }
    }
    assert_eq!(taken, [1, 24]);
}

#[test]
fn content_of_every_length_around_a_chunk_comes_back() {
    const CHUNK: usize = 64 << 10;
    let header = seal(b"").len() - 16;
    for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1] {
        let content: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        let sealed = seal(&content);
        let chunks = length.div_ceil(CHUNK).max(1);
        assert_eq!(sealed.len(), header + length + 16 * chunks, "{length}");
        assert!(open(&sealed, PASSPHRASE).unwrap() == content, "{length}");
        // A cut exactly between chunks is a cut too.
        if chunks > 1 {
            assert!(open(&sealed[..header + CHUNK + 16], PASSPHRASE).is_err());
        }
        let mut opener = Opener::begin(Cursor::new(sealed.as_slice()), PASSPHRASE).unwrap();
        opener.read_exact(&mut vec![0; length / 2]).unwrap();
        opener.rewind().unwrap();
        let mut again = Vec::new();
        opener.read_to_end(&mut again).unwrap();
        assert!(again == content, "{length}");
    }
}

#[test]
fn every_changed_bit_and_every_cut_is_noticed() {
    let whole = seal(&content());
    assert!(open(&whole, PASSPHRASE).is_ok());
    assert!(matches!(
        open(&whole, b"another"),
        Err(Some(Unopened::WrongPassphrase))
    ));
    for bit in 0..whole.len() * 8 {
        let mut changed = whole.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(open(&changed, PASSPHRASE).is_err(), "bit {bit}");
    }
    for length in 0..whole.len() {
        assert!(open(&whole[..length], PASSPHRASE).is_err(), "cut at {length}");
    }
    assert!(open(&[whole.as_slice(), b"\0"].concat(), PASSPHRASE).is_err());
}

#[test]
fn an_archive_reads_back_as_it_was_written() {
    let (owner, items) = read(&content()).unwrap();
    assert_eq!(owner, self::owner());
    assert_eq!(items, self::items());
}

/// Version 2, for as long as there are archives of it.
#[test]
fn the_bytes_of_version_2_are_frozen() {
    let frozen = std::fs::read("../tests/corpus/archive/accept-version-2").unwrap_or_default();
    if std::env::var_os("MARTLET_WRITE_VECTORS").is_some() {
        std::fs::write("../tests/corpus/archive/accept-version-2", content()).unwrap();
        return;
    }
    assert_eq!(content(), frozen);
}

#[test]
fn an_archive_of_version_1_is_refused_as_such() {
    let former = include_bytes!("../../tests/corpus/archive/reject-version-1");
    let why = read(former).unwrap_err().detail().unwrap();
    assert!(why.contains("another version"), "{why}");
}

#[test]
fn content_that_is_cut_or_changed_is_an_error_or_another_archive() {
    let whole = content();
    let mut ends = vec![];
    let mut at = 1;
    while at < whole.len() {
        let length: [u8; 4] = whole[at..at + 4].try_into().unwrap();
        at += 4 + u32::from_be_bytes(length) as usize;
        ends.push(at);
    }
    for length in 0..whole.len() {
        // The encryption notices a cut between records; nothing in the content does.
        assert_eq!(read(&whole[..length]).is_ok(), ends.contains(&length), "{length}");
    }
    for at in 0..whole.len() {
        for change in [1, 0x7f, 0x80, 0xff] {
            let mut changed = whole.clone();
            changed[at] ^= change;
            if let Ok((owner, items)) = read(&changed) {
                assert!((owner, items) != (self::owner(), self::items()), "{at}");
            }
        }
    }
}

#[test]
fn what_no_writer_writes_is_refused() {
    let mut later = content();
    later[0] = 3;
    let why = read(&later).unwrap_err().detail().unwrap();
    assert!(why.contains("another version"), "{why}");

    let [case, letter] = &items()[..2] else { panic!() };
    for items in [vec![letter.clone()], vec![case.clone(), case.clone()]] {
        assert!(matches!(read(&write(&items)), Err(Error::ArchiveDamaged(_))));
    }
    // A length is believed within bounds only.
    let announced = [&[2], u32::MAX.to_be_bytes().as_slice()].concat();
    assert!(matches!(read(&announced), Err(Error::ArchiveDamaged(_))));
    let mut large = kept_letter("x", false);
    large.letter.body = vec![0; ARCHIVE_RECORD_BYTES_MAX];
    let mut writer = Writer::begin(Vec::new(), &owner()).unwrap();
    assert!(writer.put(&Item::Letter(large)).is_err());
}

#[test]
fn a_letter_that_only_carries_a_key_package_is_not_kept() {
    let record = |body: &Body| {
        let letter = Letter::new(LetterId::new([5; 16]), Time::from_secs(5), None, body).unwrap();
        LetterRecord::own(letter, [1; 32], Vec::new(), Time::from_secs(6))
    };
    assert!(KeptLetter::of(&record(&Body::Refresh(vec![9; 100]))).is_none());
    let text = record(&Body::Text("x".into()));
    let kept = KeptLetter::of(&text).unwrap();
    assert!(kept.queued);
    assert_eq!(kept.into_record().letter, text.letter);
}

#[test]
fn a_restored_case_can_only_be_read() {
    let Item::Case(case) = items()[0].clone() else {
        panic!()
    };
    assert_eq!(case.standing, Standing::Member);
    let record = case.clone().into_record();
    assert_eq!(record.standing, Standing::Restored);
    assert_eq!(
        KeptCase::of(&record),
        KeptCase {
            standing: Standing::Restored,
            ..*case
        }
    );
}

#[test]
fn an_archive_prints_no_secret() {
    let printed = format!("{:?} {:?}", owner(), items());
    assert!(printed.contains("Secret(..)") && printed.contains("Amal"));
    assert!(!printed.contains("17, 17, 17, 17") && !printed.contains("33, 33, 33, 33"));
}

fn relay() -> RelayAddress {
    RelayAddress {
        pin: Pin::new([3; 32]),
        door: Door::new([4; 8]),
        addresses: vec!["192.0.2.1:4433".parse().unwrap()],
    }
}

fn owner() -> Owner {
    Owner {
        name: "Amal".into(),
        identity: Secret::new([17; 32]),
        relay: Some((relay(), Admission::new(Secret::new([33; 16])))),
    }
}

fn kept_letter(text: &str, queued: bool) -> KeptLetter {
    let id = LetterId::new([5; 16]);
    KeptLetter {
        letter: Letter::new(id, Time::from_secs(500), None, &Body::Text(text.into())).unwrap(),
        from: [1; 32],
        received: Time::from_secs(600),
        read: true,
        queued,
        delivered_to: vec![[2; 32]],
    }
}

fn items() -> Vec<Item> {
    let member = |identity: u8, name: &str, role| KeptMember {
        identity: [identity; 32],
        name: name.into(),
        role,
        verified: role == Role::Counsel,
        present: true,
    };
    let case = |id: u8| {
        Item::Case(Box::new(KeptCase {
            id: [id; 16],
            label: "asylum".into(),
            relay: relay(),
            admission: None,
            members: vec![member(1, "Amal", Role::Client), member(2, "Ines", Role::Counsel)],
            rescue: Some(RescueSeeds {
                to_counsel: Secret::new([33; 32]),
                to_member: Secret::new([34; 32]),
            }),
            last: Some(Time::from_secs(600)),
            standing: Standing::Member,
        }))
    };
    let letter = |text, queued| Item::Letter(kept_letter(text, queued));
    vec![case(8), letter("first", false), letter("not sent", true), case(9)]
}

fn write(items: &[Item]) -> Vec<u8> {
    let mut writer = Writer::begin(Vec::new(), &owner()).unwrap();
    items.iter().for_each(|item| writer.put(item).unwrap());
    writer.into_inner()
}

fn content() -> Vec<u8> {
    write(&items())
}

fn read(bytes: &[u8]) -> Result<(Owner, Vec<Item>), Error> {
    let (mut reader, owner) = Reader::begin(bytes)?;
    let mut items = Vec::new();
    while let Some(item) = reader.item()? {
        items.push(item);
    }
    Ok((owner, items))
}
