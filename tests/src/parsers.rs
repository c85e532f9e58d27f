//! Every parser that sees a stranger's bytes, with what must hold for any bytes at all.
//!
//! One function a parser: the fuzzer runs it (`tests/fuzz`), and `tests/tests/corpus.rs` runs it over the kept corpus
//! and over mutations of it. A panic is a finding.

use martlet::{
    archive::{Item, Owner, Reader, Writer},
    file::name::safe_name,
    mls::{Group, Leaf, inspect_package},
};
use martlet_proto::{
    Secret,
    card::{Card, SignedCard},
    case::{CaseContext, CounselSecrets, KeepShare, Packet, Rescue, SignedCommit},
    clean,
    frame::{Request, ToClient, ToRelay},
    invite::Invite,
    letter::Letter,
    link::{Address, RelayLink},
    pad,
};
use serde::{Serialize, de::DeserializeOwned};

/// A parser: its name, which is its corpus's folder and its fuzz target, and what must hold.
pub type Parser = (&'static str, fn(&[u8]));

/// All of them.
pub const PARSERS: [Parser; 15] = [
    ("frame_to_relay", frame_to_relay),
    ("frame_to_client", frame_to_client),
    ("invite", invite),
    ("relay_link", relay_link),
    ("letter", letter),
    ("card", card),
    ("case_context", case_context),
    ("packet", packet),
    ("rescue", rescue),
    ("signed_commit", signed_commit),
    ("padding", padding),
    ("text", text),
    ("key_package", key_package),
    ("mls_message", mls_message),
    ("archive", archive),
];

/// What was taken is written the same way ever after.
fn settles<T>(first: T, write: impl Fn(&T) -> Vec<u8>, read: impl Fn(&[u8]) -> Option<T>) {
    let bytes = write(&first);
    let second = read(&bytes).expect("what was written is taken");
    assert_eq!(write(&second), bytes, "what was written twice differs");
}

fn record<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let read = |bytes: &[u8]| {
        postcard::take_from_bytes::<T>(bytes)
            .ok()
            .map(|(record, _)| record)
    };
    let write = |record: &T| postcard::to_allocvec(record).unwrap();
    settles(read(bytes)?, write, read);
    read(bytes)
}

/// A relay reads a client's frames.
pub fn frame_to_relay(bytes: &[u8]) {
    let write = |(request, message): &(Request, ToRelay)| {
        let mut to = Vec::new();
        message.encode(*request, &mut to);
        to
    };
    if let Ok(frame) = ToRelay::decode(bytes) {
        settles(frame, write, |bytes| ToRelay::decode(bytes.get(4..)?).ok());
    }
}

/// A client reads a relay's frames.
pub fn frame_to_client(bytes: &[u8]) {
    let write = |(request, message): &(Request, ToClient)| {
        let mut to = Vec::new();
        message.encode(*request, &mut to);
        to
    };
    if let Ok(frame) = ToClient::decode(bytes) {
        settles(frame, write, |bytes| ToClient::decode(bytes.get(4..)?).ok());
    }
}

fn parsed<T: std::str::FromStr + ToString>(bytes: &[u8]) {
    if let Ok(value) = String::from_utf8_lossy(bytes).parse::<T>() {
        let write = |value: &T| value.to_string().into_bytes();
        settles(value, write, |bytes| {
            std::str::from_utf8(bytes).ok()?.parse().ok()
        });
    }
}

/// A person types an invite.
pub fn invite(bytes: &[u8]) {
    parsed::<Invite>(bytes);
}

/// A person pastes a relay's link, or writes an address.
pub fn relay_link(bytes: &[u8]) {
    parsed::<RelayLink>(bytes);
    parsed::<Address>(bytes);
}

/// A member's letter, out of its encryption.
pub fn letter(bytes: &[u8]) {
    if let Some(letter) = record::<Letter>(bytes) {
        let _ = letter.parse_body();
    }
}

/// A card, out of its encryption.
pub fn card(bytes: &[u8]) {
    if let Some(signed) = record::<SignedCard>(bytes) {
        record::<Card>(&signed.body);
    }
    record::<Card>(bytes);
}

/// What a commit says about its case.
pub fn case_context(bytes: &[u8]) {
    if let Some(context) = record::<CaseContext>(bytes) {
        let _ = context.is_well_formed();
    }
    record::<Vec<KeepShare>>(bytes);
}

/// First contact, out of its encryption.
pub fn packet(bytes: &[u8]) {
    record::<Packet>(bytes);
    record::<CounselSecrets>(bytes);
}

/// What stands in rescue channels.
pub fn rescue(bytes: &[u8]) {
    record::<Rescue>(bytes);
}

/// A commit with counsel's signature.
pub fn signed_commit(bytes: &[u8]) {
    record::<SignedCommit>(bytes);
}

/// What an envelope holds, out of its encryption.
pub fn padding(bytes: &[u8]) {
    if let Some(content) = pad::unpad(bytes.to_vec()) {
        assert_eq!(pad::pad_to(&content, bytes.len()).as_deref(), Some(bytes));
    }
}

/// A peer's text and file names.
pub fn text(bytes: &[u8]) {
    let raw = String::from_utf8_lossy(bytes);
    let shown = clean(&raw);
    assert_eq!(clean(&shown), shown, "cleaning twice differs from once");
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
    let name = safe_name(&raw);
    assert_eq!(safe_name(&name), name, "a safe name is safe");
    assert!(!name.is_empty() && name.len() <= 128, "{name:?}");
    assert!(
        !name.starts_with('.') && !name.contains(['/', '\\', '\0', '\n']),
        "{name:?}"
    );
    let path = std::path::Path::new(&name);
    assert_eq!(path.components().count(), 1, "{name:?}");
    assert_eq!(path.file_name(), Some(path.as_os_str()), "{name:?}");
}

/// A stranger's MLS key package.
pub fn key_package(bytes: &[u8]) {
    let _ = inspect_package(bytes, 1_800_000_000);
}

/// Whatever was found under a case's envelope key: a removed member may have written it.
pub fn mls_message(bytes: &[u8]) {
    let leaf = Leaf {
        signer: Secret::new([1; 32]),
        credential: b"amal".to_vec(),
    };
    let mut group = Group::create(Secret::new([2; 32]), &leaf, b"case", b"context", None).unwrap();
    let epoch = group.epoch();
    let _ = group.process(bytes);
    assert_eq!(group.epoch(), epoch, "nothing a stranger writes moves a group");
    assert!(group.encrypt(b"still able", b"").is_ok());
}

/// What an archive holds, out of its encryption.
pub fn archive(bytes: &[u8]) {
    let read = |bytes: &[u8]| -> Option<(Owner, Vec<Item>)> {
        let (mut reader, owner) = Reader::begin(bytes).ok()?;
        let mut items = Vec::new();
        while let Some(item) = reader.item().ok()? {
            items.push(item);
        }
        Some((owner, items))
    };
    let write = |(owner, items): &(Owner, Vec<Item>)| {
        let mut writer = Writer::begin(Vec::new(), owner).unwrap();
        items.iter().for_each(|item| writer.put(item).unwrap());
        writer.into_inner()
    };
    if let Some(content) = read(bytes) {
        settles(content, write, read);
    }
}
