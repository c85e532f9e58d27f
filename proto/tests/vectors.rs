//! Every file in `vectors/` is accepted or refused as it says. SPEC.md, section 12.
//!
//! `MARTLET_WRITE_VECTORS=1` writes the files instead, from the fixed inputs below.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

use std::{collections::BTreeMap, path::PathBuf};

use martlet_proto::{
    Admission, Answer, Append, Bind, Call, ChannelId, Class, Day, Digest, Drop, Entry, EntryId, Envelope,
    Follow, Grant, Head, Incarnation, Item, Keeper, Kind, Open, Placed, Read, Reader, Refusal, Seal, Secret,
    Seq, Slot, Time, Tip, Token, TokenHash, Trim, Writer,
    call::Slots,
    card::{Card, Inbox, Mailbox, SIGNED_AS, SignedCard, Uses},
    case::{
        CaseContext, CounselSecrets, Credential, Home, KeepShare, Packet, Person, Rescue, RescueSeeds, Role,
        Signature, SignedCommit,
    },
    derive::{CardKeys, EpochKeys, FileKeys, RescueKeys, card_bind},
    frame::{self, FrameError, Request, ToClient, ToRelay},
    invite::Invite,
    letter::{Body, Letter, LetterId, Manifest, WorkingCopy},
    link::{ArmorError, Door, Pin, RelayAddress, RelayLink},
    log::Mark,
    pad,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

type Files = BTreeMap<String, Value>;

#[test]
fn every_vector_is_taken_as_it_says() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors");
    let made = all();
    if std::env::var_os("MARTLET_WRITE_VECTORS").is_some() {
        for (name, value) in &made {
            let text = serde_json::to_string_pretty(value).unwrap() + "\n";
            std::fs::write(folder.join(name), text).unwrap();
        }
    }
    let mut found = Files::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let value: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        check(&name, &value);
        found.insert(name, value);
    }
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        made.keys().collect::<Vec<_>>(),
        "a file is missing or unknown"
    );
    for (name, value) in &made {
        assert_eq!(&found[name], value, "{name}");
    }
}

// Reading: each file is judged from what stands in it.

fn check(name: &str, v: &Value) {
    let accept = match v["verdict"].as_str() {
        Some("accept") => true,
        Some("reject") => false,
        _ => panic!("{name}: no verdict"),
    };
    match v["of"].as_str().unwrap() {
        "relay link" | "invite" => assert_eq!(v["outcome"].is_object(), accept, "{name}"),
        "padding" => assert_eq!(v["content"].is_string(), accept, "{name}"),
        _ => {}
    }
    match v["of"].as_str().unwrap() {
        "relay link" => assert_eq!(link_outcome(text(v, "text")), v["outcome"], "{name}"),
        "invite" => assert_eq!(invite_outcome(text(v, "text")), v["outcome"], "{name}"),
        "frame to relay" => check_frame(name, v, accept, |bytes| {
            ToRelay::decode(bytes).map(|(request, message)| {
                let mut again = Vec::new();
                message.encode(request, &mut again);
                again
            })
        }),
        "frame to client" => check_frame(name, v, accept, |bytes| {
            ToClient::decode(bytes).map(|(request, message)| {
                let mut again = Vec::new();
                message.encode(request, &mut again);
                again
            })
        }),
        "channel id" => assert_eq!(channel_outcome(v), v["outcome"], "{name}"),
        "token hash" => assert_eq!(
            hex::encode(writer(v, "token").hash().as_bytes()),
            text(v, "hash"),
            "{name}"
        ),
        "heads" => assert_eq!(heads_outcome(v), v["heads"], "{name}"),
        "envelope" if accept => assert_eq!(envelope_outcome(v), v["outcome"], "{name}"),
        "envelope" => {
            let opened = Envelope::new(bytes(v, "envelope").into()).and_then(|envelope| {
                envelope
                    .open(&secret(v, "key"), &ChannelId::new(array(v, "channel")), kind(v))
                    .ok()
            });
            assert_eq!(opened, None, "{name}");
        }
        "padme" => {
            for pair in v["pairs"].as_array().unwrap() {
                assert_eq!(
                    pad::padme(pair[0].as_u64().unwrap()),
                    pair[1].as_u64().unwrap(),
                    "{name}"
                );
            }
        }
        "padding" => assert_eq!(
            pad::unpad(bytes(v, "padded")).map(hex::encode),
            v["content"].as_str().map(String::from),
            "{name}"
        ),
        "keys" => assert_eq!(keys_outcome(v), v["outcome"], "{name}"),
        "letter" => {
            let letter = postcard::take_from_bytes::<Letter>(&bytes(v, "letter"))
                .ok()
                .filter(|(_, rest)| rest.is_empty())
                .and_then(|(letter, _)| letter.parse_body().ok().map(|body| (letter, body)));
            assert_eq!(letter.is_some(), accept, "{name}");
            if let Some((letter, body)) = letter {
                assert_eq!(letter_outcome(&letter, &body), v["outcome"], "{name}");
                assert_eq!(
                    postcard::to_allocvec(&letter).unwrap(),
                    bytes(v, "letter"),
                    "{name}"
                );
            }
        }
        "credential" => {
            let credential: Credential = whole(&bytes(v, "credential"), name);
            let signed = Credential::signed(&array(v, "leaf"), credential.not_after);
            assert_eq!(hex::encode(signed), text(v, "signed"), "{name}");
            assert_eq!(hex::encode(credential.identity), text(v, "identity"), "{name}");
        }
        "card" => {
            let card: SignedCard = whole(&bytes(v, "card"), name);
            let inner: Card = whole(&card.body, name);
            let signed = [SIGNED_AS, &card.body].concat();
            assert_eq!(
                hex::encode(Sha256::digest(signed)),
                text(v, "signed_sha256"),
                "{name}"
            );
            assert_eq!(
                hex::encode(inner.inbox.mailbox.channel().as_bytes()),
                text(v, "inbox"),
                "{name}"
            );
            let bind = card_bind(&inner.identity, &secret(v, "seed"));
            let mark = Mark::commit(&inner.write, &inner.keep, &bind);
            assert_eq!(hex::encode(mark.as_bytes()), text(v, "mark"), "{name}");
        }
        "case context" => {
            let context: CaseContext = whole(&bytes(v, "context"), name);
            assert!(context.is_well_formed(), "{name}");
            assert_eq!(
                postcard::to_allocvec(&context).unwrap(),
                bytes(v, "context"),
                "{name}"
            );
        }
        "keep shares" => {
            let shares: Vec<KeepShare> = whole(&bytes(v, "shares"), name);
            assert_eq!(
                postcard::to_allocvec(&shares).unwrap(),
                bytes(v, "shares"),
                "{name}"
            );
        }
        "packet" => {
            let packet: Packet = whole(&bytes(v, "packet"), name);
            assert_eq!(hex::encode(&packet.welcome), text(v, "welcome"), "{name}");
            assert_eq!(
                postcard::to_allocvec(&packet).unwrap(),
                bytes(v, "packet"),
                "{name}"
            );
        }
        "counsel secrets" => {
            let secrets: CounselSecrets = whole(&bytes(v, "secrets"), name);
            assert_eq!(
                postcard::to_allocvec(&secrets).unwrap(),
                bytes(v, "secrets"),
                "{name}"
            );
        }
        "rescue" => {
            let rescue: Rescue = whole(&bytes(v, "rescue"), name);
            assert_eq!(
                postcard::to_allocvec(&rescue).unwrap(),
                bytes(v, "rescue"),
                "{name}"
            );
        }
        "signed commit" => {
            let commit: SignedCommit = whole(&bytes(v, "commit"), name);
            let group: [u8; 16] = bytes(v, "group").try_into().unwrap();
            let signed = SignedCommit::signed(
                &group,
                v["epoch"].as_u64().unwrap(),
                &commit.next,
                &commit.message,
            );
            assert_eq!(signed, bytes(v, "signed"), "{name}");
            assert_eq!(
                postcard::to_allocvec(&commit).unwrap(),
                bytes(v, "commit"),
                "{name}"
            );
        }
        other => panic!("{name}: nothing is known of {other}"),
    }
}

fn check_frame(name: &str, v: &Value, accept: bool, decode: impl Fn(&[u8]) -> Result<Vec<u8>, FrameError>) {
    let whole = bytes(v, "frame");
    let (field, rest) = whole.split_first_chunk().unwrap();
    let outcome = frame::length(*field).and_then(|length| {
        assert_eq!(length, rest.len(), "{name}");
        decode(rest)
    });
    match outcome {
        Ok(again) => {
            assert!(accept, "{name}");
            assert_eq!(again, whole, "{name}");
            assert_eq!(json!(hex::encode(&whole[4..5])), v["type"], "{name}");
        }
        Err(error) => {
            assert!(!accept, "{name}: {error}");
            assert_eq!(json!(error.code()), v["close_code"], "{name}");
        }
    }
}

fn armor_error(error: &ArmorError) -> Value {
    json!(match error {
        ArmorError::Empty => "empty",
        ArmorError::Character { .. } => "character",
        ArmorError::Length { .. } => "length",
        ArmorError::Check => "check",
        ArmorError::Kind { .. } => "kind",
        ArmorError::Version(_) => "version",
        ArmorError::Address => "address",
        _ => "other",
    })
}

fn link_outcome(text: &str) -> Value {
    match text.parse::<RelayLink>() {
        Ok(link) => json!({
            "text": link.to_string(),
            "addresses": link.relay.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "pin": hex::encode(link.relay.pin.as_bytes()),
            "door": hex::encode(link.relay.door.as_bytes()),
            "path": link.relay.door.path(),
            "opening_token": hex::encode(link.admission.secret().expose()),
        }),
        Err(error) => armor_error(&error),
    }
}

fn invite_outcome(text: &str) -> Value {
    match text.parse::<Invite>() {
        Ok(invite) => json!({
            "text": invite.to_string(),
            "address": invite.address.to_string(),
            "pin": hex::encode(invite.pin.as_bytes()),
            "door": hex::encode(invite.door.as_bytes()),
            "seed": hex::encode(invite.seed.expose()),
            "mark": hex::encode(invite.mark.as_bytes()),
            "expires": invite.expires.0,
            "channel": hex::encode(invite.channel().as_bytes()),
        }),
        Err(error) => armor_error(&error),
    }
}

fn channel_outcome(v: &Value) -> Value {
    let class = [Class::Case, Class::Inbox, Class::File, Class::Card]
        [usize::try_from(v["class"].as_u64().unwrap()).unwrap()];
    let hash = |field| TokenHash::new(array(v, field));
    let mark = Mark::commit(&hash("write"), &hash("keep"), &Bind::new(array(v, "bind")));
    let id = ChannelId::from_mark(class, &hash("read"), &mark);
    json!({ "mark": hex::encode(mark.as_bytes()), "id": hex::encode(id.as_bytes()) })
}

fn heads_outcome(v: &Value) -> Value {
    let mut head = Head::first(
        &ChannelId::new(array(v, "channel")),
        &Incarnation::new(array(v, "incarnation")),
    );
    let mut heads = vec![hex::encode(head.as_bytes())];
    for slot in v["slots"].as_array().unwrap() {
        head = whole::<Slot>(&bytes(slot, "slot"), "slot").head_after(&head);
        heads.push(hex::encode(head.as_bytes()));
    }
    json!(heads)
}

fn envelope_outcome(v: &Value) -> Value {
    let (key, channel) = (secret(v, "key"), ChannelId::new(array(v, "channel")));
    let content = bytes(v, "content");
    let envelope = Envelope::seal(&key, array(v, "nonce"), &channel, kind(v), &content).unwrap();
    assert_eq!(envelope.open(&key, &channel, kind(v)), Ok(content));
    let sealed = envelope.as_bytes();
    json!({
        "size": sealed.len(),
        "sha256": hex::encode(Sha256::digest(sealed)),
        "first": hex::encode(&sealed[..32]),
        "last": hex::encode(&sealed[sealed.len() - 32..]),
    })
}

fn keys_outcome(v: &Value) -> Value {
    let keep = || TokenHash::new(array(v, "keep_hash"));
    fn show(bytes: &[u8]) -> String {
        hex::encode(bytes)
    }
    match text(v, "keys") {
        "epoch" => {
            let keys = EpochKeys::derive(&secret(v, "secret"));
            json!({
                "read": show(keys.read.secret().expose()), "write": show(keys.write.secret().expose()),
                "envelope": show(keys.envelope.expose()), "channel": show(keys.channel(&keep()).as_bytes()),
            })
        }
        "card" => {
            let keys = CardKeys::derive(&secret(v, "secret"));
            let channel = keys.channel(&Mark::new(array(v, "mark")));
            json!({
                "read": show(keys.read.secret().expose()), "envelope": show(keys.envelope.expose()),
                "bind": show(card_bind(&array(v, "identity"), &secret(v, "secret")).as_bytes()),
                "channel": show(channel.as_bytes()),
            })
        }
        "file" => {
            let keys = FileKeys::derive(&secret(v, "secret"));
            json!({
                "read": show(keys.read.secret().expose()), "write": show(keys.write.secret().expose()),
                "chunks": show(keys.chunks.expose()), "nonce": show(keys.nonce.expose()),
                "channel": show(keys.channel(&keep()).as_bytes()),
            })
        }
        "rescue" => {
            let keys = RescueKeys::derive(&secret(v, "secret"));
            json!({
                "read": show(keys.read.secret().expose()), "write": show(keys.write.secret().expose()),
                "keep": show(keys.keep.secret().expose()), "envelope": show(keys.envelope.expose()),
                "channel": show(keys.channel().as_bytes()),
            })
        }
        other => panic!("no keys of {other}"),
    }
}

fn manifest_outcome(m: &Manifest) -> Value {
    json!({
        "key": hex::encode(m.key.expose()), "keep": hex::encode(m.keep.as_bytes()),
        "size": m.size_bytes, "sha256": hex::encode(m.sha256), "name": m.name, "chunks": m.chunks(),
    })
}

fn letter_outcome(letter: &Letter, body: &Body) -> Value {
    let says = match body {
        Body::Text(text) => json!(text),
        Body::Copy(copy) => json!({ "of": hex::encode(copy.of), "copy": manifest_outcome(&copy.manifest) }),
        Body::Document(m) => manifest_outcome(m),
        Body::Receipt(ids) => json!(ids.iter().map(LetterId::to_text).collect::<Vec<_>>()),
        Body::Refresh(package) | Body::Device(package) => json!(hex::encode(package)),
        Body::WithoutDevice(bytes) | Body::Recovery(bytes) => json!(hex::encode(bytes)),
        Body::Retention(days) => json!(days),
        Body::Leave | Body::Beat | Body::Unknown(_) => Value::Null,
    };
    json!({
        "id": letter.id.to_text(), "sent": letter.sent.as_secs(), "kind": letter.kind, "says": says,
        "seen": letter.seen.map(|(seq, head)| json!([seq.as_u64(), hex::encode(head.as_bytes())])),
    })
}

fn text<'v>(v: &'v Value, field: &str) -> &'v str {
    v[field].as_str().unwrap_or_else(|| panic!("no {field}"))
}
fn bytes(v: &Value, field: &str) -> Vec<u8> {
    hex::decode(text(v, field)).unwrap()
}
fn array<const N: usize>(v: &Value, field: &str) -> [u8; N] {
    bytes(v, field).try_into().unwrap()
}
fn secret<const N: usize>(v: &Value, field: &str) -> Secret<N> {
    Secret::new(array(v, field))
}
fn writer(v: &Value, field: &str) -> Token<Writer> {
    Token::new(secret(v, field))
}
fn kind(v: &Value) -> Kind {
    [Kind::Letter, Kind::Commit, Kind::Packet, Kind::Chunk, Kind::Card]
        [usize::try_from(v["kind"].as_u64().unwrap()).unwrap()]
}
fn whole<T: serde::de::DeserializeOwned>(bytes: &[u8], name: &str) -> T {
    let (value, rest) = postcard::take_from_bytes(bytes).unwrap();
    assert!(rest.is_empty(), "{name}");
    value
}

// Writing: the same files from fixed inputs.

/// `N` bytes that differ from one another: `from`, `from + 1`, and so on.
fn run<const N: usize>(from: u8) -> [u8; N] {
    std::array::from_fn(|at| from.wrapping_add(u8::try_from(at % 251).unwrap()))
}

fn put(to: &mut Files, name: &str, verdict: &str, of: &str, what: &str, mut value: Value) {
    value["verdict"] = json!(verdict);
    value["of"] = json!(of);
    value["what"] = json!(what);
    assert!(to.insert(format!("{name}.json"), value).is_none());
}

fn all() -> Files {
    let mut files = Files::new();
    strings(&mut files);
    channels(&mut files);
    frames(&mut files);
    envelopes(&mut files);
    keys(&mut files);
    letters(&mut files);
    cards(&mut files);
    files
}

/// `martlet:` and any payload, with right check bytes.
fn armor(payload: &[u8]) -> String {
    let hash = Sha256::digest([b"martlet/1 check", payload].concat());
    let all = [payload, &hash[..2]].concat();
    format!("martlet:{}", data_encoding::BASE32_NOPAD.encode(&all))
}

fn strings(to: &mut Files) {
    let invite = |address: &str| Invite {
        address: address.parse().unwrap(),
        pin: Pin::new(run(1)),
        door: Door::new(run(30)),
        seed: Secret::new(run(40)),
        mark: Mark::new(run(80)),
        expires: Day(20_800),
    };
    let link = RelayLink {
        relay: RelayAddress {
            addresses: ["192.0.2.1:4433", "[2001:db8::1]:443", "relay.example:4433"]
                .map(|a| a.parse().unwrap())
                .to_vec(),
            pin: Pin::new(run(1)),
            door: Door::new(run(30)),
        },
        admission: Admission::new(Secret::new(run(60))),
    };
    let plain = invite("192.0.2.1:4433").to_string();
    let spaced = plain.chars().map(|c| format!("{c} ")).collect::<String>();
    let digits = |zero: u32| -> String {
        plain
            .chars()
            .map(|c| c.to_digit(10).map_or(c, |d| char::from_u32(zero + d).unwrap()))
            .collect()
    };
    let payload = [
        &[2, 4, 192, 0, 2, 1, 0x11, 0x51][..],
        &run::<32>(1),
        &run::<8>(30),
        &run::<16>(40),
        &run::<32>(80),
        &[0x51, 0x40],
    ]
    .concat();
    assert_eq!(armor(&payload), plain);
    let with = |at: usize, byte: u8| {
        let mut changed = payload.clone();
        changed[at] = byte;
        armor(&changed)
    };
    let host = [&payload[..1], &[0x83], b"a_b", &payload[6..]].concat();
    let mistyped = plain.replacen("martlet:A", "martlet:C", 1);
    for (name, what, typed) in [
        ("v4", "an IPv4 address", plain.clone()),
        ("v6", "an IPv6 address", invite("[2001:db8::1]:443").to_string()),
        ("host", "a host name", invite("relay.example:4433").to_string()),
        ("qr", "upper case, as a QR code holds it", plain.to_uppercase()),
        ("lower", "all in lower case", plain.to_lowercase()),
        ("spaced", "a space after every character", spaced),
        ("no-prefix", "without martlet:", plain.replace("martlet:", "")),
        ("quoted", "quotes, a hyphen, a line break, a full stop", {
            format!("«{}-\r\n{}.»", &plain[..50], &plain[50..])
        }),
        (
            "look-alikes",
            "0 for O and 1 for I and 8 for B",
            plain.replace('O', "0").replace('I', "1").replace('B', "8"),
        ),
        ("arabic-digits", "Arabic-Indic digits", digits(0x660)),
        ("persian-digits", "Extended Arabic-Indic digits", digits(0x6f0)),
        ("devanagari-digits", "Devanagari digits", digits(0x966)),
        ("wide-digits", "fullwidth digits", digits(0xff10)),
        (
            "bidi",
            "an invisible bidirectional control",
            format!("\u{200f}{plain}\u{202c}"),
        ),
    ] {
        let outcome = invite_outcome(&typed);
        assert!(outcome.is_object(), "{name}");
        put(
            to,
            &format!("invite-accept-{name}"),
            "accept",
            "invite",
            what,
            json!({ "text": typed, "outcome": outcome }),
        );
    }
    for (name, what, typed, error) in [
        ("empty", "nothing after martlet:", "martlet:".into(), "empty"),
        (
            "character",
            "an exclamation mark",
            plain.replacen('A', "!", 1),
            "character",
        ),
        (
            "nine",
            "the digit 9, which stands for nothing",
            format!("{plain}9"),
            "character",
        ),
        (
            "cut",
            "the last two characters are missing",
            plain[..plain.len() - 2].into(),
            "length",
        ),
        ("check", "one character was mistyped", mistyped, "check"),
        (
            "trailing-bits",
            "bits left over that are not zero",
            "martlet:AB".into(),
            "check",
        ),
        (
            "short",
            "a field is missing, the check fits",
            armor(&payload[..60]),
            "length",
        ),
        (
            "long",
            "one byte too many, the check fits",
            armor(&[&payload[..], &[0]].concat()),
            "length",
        ),
        ("version", "version 1", with(0, 1), "version"),
        ("kind", "a relay link", link.to_string(), "kind"),
        ("address-tag", "an address of unknown tag", with(1, 5), "address"),
        ("host-empty", "a host name of no length", with(1, 0x80), "address"),
        (
            "host-character",
            "an underscore in a host name",
            armor(&host),
            "address",
        ),
    ] {
        assert_eq!(invite_outcome(&typed), error, "{name}");
        put(
            to,
            &format!("invite-reject-{name}"),
            "reject",
            "invite",
            what,
            json!({ "text": typed, "outcome": error }),
        );
    }
    let typed = link.to_string();
    put(
        to,
        "link-accept-three-addresses",
        "accept",
        "relay link",
        "an address of each kind",
        json!({ "text": typed, "outcome": link_outcome(&typed) }),
    );
    let none = [&[0x42, 0][..], &run::<32>(1), &run::<8>(30), &run::<16>(60)].concat();
    let five = [
        &[0x42, 5][..],
        &[4, 192, 0, 2, 1, 0, 1].repeat(5),
        &run::<32>(1),
        &run::<8>(30),
        &run::<16>(60),
    ]
    .concat();
    for (name, what, typed, error) in [
        ("no-address", "no address", armor(&none), "address"),
        ("five-addresses", "five addresses", armor(&five), "address"),
        ("kind", "an invite", plain, "kind"),
        (
            "version",
            "version 1",
            armor(&[&[0x41][..], &none[1..]].concat()),
            "version",
        ),
    ] {
        assert_eq!(link_outcome(&typed), error, "{name}");
        put(
            to,
            &format!("link-reject-{name}"),
            "reject",
            "relay link",
            what,
            json!({ "text": typed, "outcome": error }),
        );
    }
}

fn entry(seq: u64, kind: Kind) -> Entry {
    let here = ChannelId::new(run(7));
    Entry {
        seq: Seq::new(seq),
        kind,
        id: EntryId::new(run(u8::try_from(seq).unwrap())),
        envelope: Envelope::seal(&Secret::new(run(9)), run(3), &here, kind, b"content").unwrap(),
    }
}

fn channels(to: &mut Files) {
    for (class, name) in ["case", "inbox", "file", "card"].into_iter().enumerate() {
        let bind: [u8; 32] = if name == "card" { run(200) } else { [0; 32] };
        let mut value = json!({
            "class": class, "read": hex::encode(run::<32>(10)), "write": hex::encode(run::<32>(60)),
            "keep": hex::encode(run::<32>(110)), "bind": hex::encode(bind),
        });
        value["outcome"] = channel_outcome(&value);
        put(
            to,
            &format!("channel-id-{name}"),
            "accept",
            "channel id",
            "the id from hashes, class and bind",
            value,
        );
    }
    let token = Token::<Writer>::new(Secret::new(run(5)));
    let value = json!({ "token": hex::encode(run::<32>(5)), "hash": hex::encode(token.hash().as_bytes()) });
    put(
        to,
        "token-hash",
        "accept",
        "token hash",
        "SHA-256 of a token",
        value,
    );
    let slots = [
        Slot::Here(entry(0, Kind::Letter)),
        Slot::Gone {
            seq: Seq::new(1),
            kind: Kind::Letter,
            digest: Digest::new(run(77)),
        },
        Slot::Here(entry(2, Kind::Commit)),
    ];
    let slots: Vec<_> = slots
        .iter()
        .map(|s| json!({ "slot": hex::encode(postcard::to_allocvec(s).unwrap()) }))
        .collect();
    let mut value = json!({ "channel": hex::encode(run::<32>(7)), "incarnation": hex::encode(run::<16>(8)), "slots": slots });
    value["heads"] = heads_outcome(&value);
    put(
        to,
        "heads",
        "accept",
        "heads",
        "a letter, one that is gone, a commit",
        value,
    );
}

fn frames(to: &mut Files) {
    let channel = ChannelId::new(run(7));
    let reads = Grant {
        channel,
        token: Token::<Reader>::new(Secret::new(run(20))),
    };
    let writes = Grant {
        channel,
        token: Token::<Writer>::new(Secret::new(run(21))),
    };
    let keeps = Grant {
        channel,
        token: Token::<Keeper>::new(Secret::new(run(22))),
    };
    let item = |kind| {
        let e = entry(0, kind);
        Item {
            kind: e.kind,
            id: e.id,
            envelope: e.envelope,
        }
    };
    let within = Some(Incarnation::new(run(8)));
    let open = |admission| Open {
        class: Class::Case,
        read: reads.token.hash(),
        keep: keeps.token.hash(),
        bind: Bind::NONE,
        admission,
    };
    let append = |count: usize| {
        ToRelay::Call(Call::new(
            &writes,
            Append {
                within: None,
                items: vec![item(Kind::Letter); count],
            },
        ))
    };
    let admission = Some(Admission::new(Secret::new(run(60))));
    for (name, message) in [
        (
            "hello",
            ToRelay::Hello {
                version: frame::VERSION,
            },
        ),
        ("open", ToRelay::Call(Call::new(&writes, open(None)))),
        (
            "open-admission",
            ToRelay::Call(Call::new(&writes, open(admission))),
        ),
        ("append", append(1)),
        ("append-four", append(4)),
        (
            "seal",
            ToRelay::Call(Call::new(
                &keeps,
                Seal {
                    within,
                    items: vec![item(Kind::Commit)],
                },
            )),
        ),
        (
            "read",
            ToRelay::Call(Call::new(&reads, Read { from: Seq::new(300) })),
        ),
        (
            "follow",
            ToRelay::Call(Call::new(
                &reads,
                Follow {
                    from: Seq::new(u64::MAX),
                },
            )),
        ),
        (
            "trim",
            ToRelay::Call(Call::new(&keeps, Trim { before: Seq::new(5) })),
        ),
        ("drop", ToRelay::Call(Call::new(&keeps, Drop))),
        ("unfollow", ToRelay::Unfollow),
    ] {
        let mut bytes = Vec::new();
        message.encode(Request(7), &mut bytes);
        let value = json!({ "frame": hex::encode(&bytes), "type": hex::encode(&bytes[4..5]) });
        put(
            to,
            &format!("frame-to-relay-accept-{name}"),
            "accept",
            "frame to relay",
            name,
            value,
        );
    }
    let tip = Tip {
        incarnation: Incarnation::new(run(8)),
        next: Seq::new(3),
        head: Head::new(run(90)),
        sealed: true,
        expires: Day(20_900),
    };
    let gone = Slot::Gone {
        seq: Seq::new(1),
        kind: Kind::Letter,
        digest: Digest::new(run(77)),
    };
    let slots = vec![gone, Slot::Here(entry(2, Kind::Letter))];
    let placed = Placed {
        incarnation: tip.incarnation,
        first: Seq::new(2),
        head: tip.head,
    };
    let mut answers = vec![
        (
            "hello",
            ToClient::Hello {
                version: 1,
                day: Day(20_800),
            },
        ),
        ("tip", ToClient::Answer(Answer::Tip(tip))),
        ("placed", ToClient::Answer(Answer::Placed(placed))),
        (
            "slots",
            ToClient::Answer(Answer::Slots(Slots {
                tip,
                slots: slots.clone(),
            })),
        ),
        ("done", ToClient::Answer(Answer::Done)),
        ("pushed", ToClient::Pushed(slots)),
        ("gap", ToClient::Gap),
    ];
    for (name, refusal) in [
        ("closed", Refusal::Closed),
        ("not-admitted", Refusal::NotAdmitted),
        ("sealed", Refusal::Sealed),
        ("conflict", Refusal::Conflict),
        ("other-incarnation", Refusal::OtherIncarnation),
        ("quota", Refusal::Quota),
        ("full", Refusal::Full),
        ("not-here", Refusal::NotHere),
        ("busy", Refusal::Busy),
    ] {
        answers.push((name, ToClient::Refused(refusal)));
    }
    for (name, message) in answers {
        let mut bytes = Vec::new();
        message.encode(Request(7), &mut bytes);
        let value = json!({ "frame": hex::encode(&bytes), "type": hex::encode(&bytes[4..5]) });
        put(
            to,
            &format!("frame-to-client-accept-{name}"),
            "accept",
            "frame to client",
            name,
            value,
        );
    }
    let bytes = |message: &ToRelay| {
        let mut b = Vec::new();
        message.encode(Request(7), &mut b);
        b
    };
    let framed = |rest: &[u8]| [&u32::try_from(rest.len()).unwrap().to_be_bytes()[..], rest].concat();
    let read = bytes(&ToRelay::Call(Call::new(&reads, Read { from: Seq::new(300) })));
    let one = bytes(&append(1));
    let short = {
        let mut s = one[4..one.len() - 1].to_vec();
        let at = s.len() - 2049;
        s[at..at + 2].copy_from_slice(&[0xff, 0x0f]);
        s
    };
    for (name, what, frame, code) in [
        (
            "length-small",
            "a length of 4",
            vec![0, 0, 0, 4, 1, 0, 0, 0],
            0x10,
        ),
        (
            "length-large",
            "a length of 270,337; the rest is left out",
            vec![0, 4, 0x20, 1],
            0x10,
        ),
        ("type", "type 0a", framed(&[0x0a, 0, 0, 0, 7]), 0x11),
        (
            "type-of-relay",
            "a type that only relays send",
            framed(&[0x88, 0, 0, 0, 7]),
            0x11,
        ),
        (
            "body-cut",
            "the last byte of the body is missing",
            framed(&read[4..read.len() - 1]),
            0x12,
        ),
        (
            "trailing",
            "one byte after the body",
            framed(&[&read[4..], &[0]].concat()),
            0x12,
        ),
        (
            "token-short",
            "a token of 31 bytes",
            framed(&[&read[4..41], &[31], &read[42..73], &read[74..]].concat()),
            0x12,
        ),
        ("no-items", "an append of no items", bytes(&append(0)), 0x12),
        ("five-items", "an append of five items", bytes(&append(5)), 0x12),
        (
            "envelope-size",
            "an envelope of 2,047 bytes",
            framed(&short),
            0x12,
        ),
        (
            "seq-too-large",
            "a position of more than 64 bits",
            framed(&[&read[4..read.len() - 2], &[0xff; 9], &[0x02]].concat()),
            0x12,
        ),
    ] {
        let value = json!({ "frame": hex::encode(frame), "close_code": code });
        put(
            to,
            &format!("frame-to-relay-reject-{name}"),
            "reject",
            "frame to relay",
            what,
            value,
        );
    }
    for (name, what, frame, code) in [
        (
            "type",
            "a type that only clients send",
            framed(&[0x05, 0, 0, 0, 7]),
            0x11,
        ),
        (
            "refusal",
            "a refusal of number 9",
            framed(&[0x86, 0, 0, 0, 7, 9]),
            0x12,
        ),
        (
            "trailing",
            "done with a body",
            framed(&[0x85, 0, 0, 0, 7, 0]),
            0x12,
        ),
    ] {
        let value = json!({ "frame": hex::encode(frame), "close_code": code });
        put(
            to,
            &format!("frame-to-client-reject-{name}"),
            "reject",
            "frame to client",
            what,
            value,
        );
    }
}

fn envelopes(to: &mut Files) {
    let (key, nonce, channel) = (run::<32>(9), run::<24>(3), run::<32>(7));
    for (name, kind, content) in [
        ("empty", 0, vec![]),
        ("letter", 0, b"hello".to_vec()),
        ("full-small", 0, vec![5; 2_004]),
        ("commit", 1, vec![6; 2_005]),
        ("card", 4, vec![7; 16_341]),
    ] {
        let mut value = json!({
            "key": hex::encode(key), "nonce": hex::encode(nonce), "channel": hex::encode(channel), "kind": kind,
            "content": hex::encode(content),
        });
        value["outcome"] = envelope_outcome(&value);
        put(
            to,
            &format!("envelope-accept-{name}"),
            "accept",
            "envelope",
            name,
            value,
        );
    }
    let good = entry(0, Kind::Letter).envelope.as_bytes().to_vec();
    let flip = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let raw = |plain: &[u8]| {
        use chacha20poly1305::{KeyInit, XChaCha20Poly1305, aead::AeadInOut};
        let mut text = plain.to_vec();
        let data = [&channel[..], &[0]].concat();
        XChaCha20Poly1305::new(&key.into())
            .encrypt_in_place(&nonce.into(), &data, &mut text)
            .unwrap();
        [&nonce[..], &text].concat()
    };
    let mut dirty = pad::pad(b"content").unwrap();
    dirty[2_007] = 1;
    let mut long = pad::pad(b"content").unwrap();
    long[..4].copy_from_slice(&2_005u32.to_be_bytes());
    for (name, what, envelope, channel, kind) in [
        ("nonce", "a bit of the nonce differs", flip(0), channel, 0),
        ("text", "a bit of the ciphertext differs", flip(1_000), channel, 0),
        ("tag", "a bit of the tag differs", flip(2_047), channel, 0),
        ("channel", "another channel", good.clone(), run(8), 0),
        ("kind", "another kind", good.clone(), channel, 1),
        ("size", "2,047 bytes", good[1..].to_vec(), channel, 0),
        (
            "padding",
            "a byte of the padding is not zero",
            raw(&dirty),
            channel,
            0,
        ),
        (
            "length",
            "the content's length is beyond the envelope",
            raw(&long),
            channel,
            0,
        ),
    ] {
        let value = json!({ "key": hex::encode(key), "channel": hex::encode(channel), "kind": kind, "envelope": hex::encode(envelope) });
        put(
            to,
            &format!("envelope-reject-{name}"),
            "reject",
            "envelope",
            what,
            value,
        );
    }
    let pairs: Vec<_> = [0, 1, 2, 3, 8, 9, 33, 1_000, 32_769, 262_208]
        .map(|n| [n, pad::padme(n)])
        .to_vec();
    put(
        to,
        "padme",
        "accept",
        "padme",
        "chunks, and chunks with padding",
        json!({ "pairs": pairs }),
    );
    let padded = |bytes: &[u8]| hex::encode(bytes);
    put(
        to,
        "padding-accept",
        "accept",
        "padding",
        "length, content, zeros",
        json!({ "padded": padded(&[0, 0, 0, 2, 1, 2, 0, 0]), "content": "0102" }),
    );
    put(
        to,
        "padding-reject-not-zero",
        "reject",
        "padding",
        "a byte that is not zero",
        json!({ "padded": padded(&[0, 0, 0, 2, 1, 2, 0, 1]), "content": null }),
    );
    put(
        to,
        "padding-reject-length",
        "reject",
        "padding",
        "more content than there is",
        json!({ "padded": padded(&[0, 0, 0, 5, 1, 2, 0, 0]), "content": null }),
    );
}

fn keys(to: &mut Files) {
    for (name, mut value) in [
        (
            "epoch",
            json!({ "secret": hex::encode(run::<32>(30)), "keep_hash": hex::encode(run::<32>(70)) }),
        ),
        (
            "card",
            json!({ "secret": hex::encode(run::<16>(40)), "mark": hex::encode(run::<32>(80)), "identity": hex::encode(run::<32>(50)) }),
        ),
        (
            "file",
            json!({ "secret": hex::encode(run::<32>(31)), "keep_hash": hex::encode(run::<32>(70)) }),
        ),
        ("rescue", json!({ "secret": hex::encode(run::<32>(32)) })),
    ] {
        value["keys"] = json!(name);
        value["outcome"] = keys_outcome(&value);
        put(
            to,
            &format!("keys-{name}"),
            "accept",
            "keys",
            "what is derived from one secret",
            value,
        );
    }
}

fn letters(to: &mut Files) {
    let manifest = Manifest {
        key: Secret::new(run(31)),
        keep: TokenHash::new(run(70)),
        size_bytes: 70_000,
        sha256: run(99),
        name: "photo.jpg".into(),
    };
    let id = LetterId::new(run(100));
    let seen = Some((Seq::new(3), Head::new(run(90))));
    for (name, seen, body) in [
        ("text", None, Body::Text("Салем".into())),
        ("text-seen", seen, Body::Text("I have read three entries".into())),
        ("document", None, Body::Document(manifest.clone())),
        (
            "copy",
            None,
            Body::Copy(WorkingCopy {
                of: run(120),
                manifest,
            }),
        ),
        (
            "receipt",
            None,
            Body::Receipt(vec![LetterId::new(run(1)), LetterId::new(run(2))]),
        ),
        ("leave", None, Body::Leave),
        ("refresh", None, Body::Refresh(vec![1, 2, 3])),
        ("beat", None, Body::Beat),
        ("device", None, Body::Device(vec![1, 2, 3])),
        ("retention", None, Body::Retention(30)),
        ("without-device", None, Body::WithoutDevice([7; 32])),
        ("recovery", None, Body::Recovery([8; 32])),
    ] {
        let letter = Letter::new(id, Time::from_secs(1_795_000_000), seen, &body).unwrap();
        let value = json!({ "letter": hex::encode(postcard::to_allocvec(&letter).unwrap()), "outcome": letter_outcome(&letter, &body) });
        put(
            to,
            &format!("letter-accept-{name}"),
            "accept",
            "letter",
            name,
            value,
        );
    }
    let raw = |kind, body: &[u8]| Letter {
        id,
        sent: Time::from_secs(1),
        seen: None,
        kind,
        body: body.to_vec(),
    };
    let unknown = raw(99, b"tomorrow");
    let value = json!({ "letter": hex::encode(postcard::to_allocvec(&unknown).unwrap()), "outcome": letter_outcome(&unknown, &Body::Unknown(99)) });
    put(
        to,
        "letter-accept-unknown",
        "accept",
        "letter",
        "a kind of a later version",
        value,
    );
    let large = Manifest {
        key: Secret::new(run(31)),
        keep: TokenHash::new(run(70)),
        size_bytes: (16 << 30) + 1,
        sha256: run(99),
        name: String::new(),
    };
    let named = Manifest {
        size_bytes: 1,
        name: "x".repeat(201),
        ..large.clone()
    };
    let receipts = vec![LetterId::new(run(1)); 257];
    for (name, what, letter) in [
        (
            "document-name",
            "a file name of more than 200 bytes",
            raw(2, &postcard::to_allocvec(&named).unwrap()),
        ),
        (
            "receipt-long",
            "a receipt for more than 256 letters",
            raw(3, &postcard::to_allocvec(&receipts).unwrap()),
        ),
        ("utf8", "a text that is not UTF-8", raw(1, &[1, 0xff])),
        ("trailing", "a byte after the text", raw(1, &[1, b'a', 0])),
        ("manifest-cut", "a manifest that ends early", raw(2, &[32, 1, 2])),
        (
            "document-size",
            "a document of more than 16 GiB",
            raw(2, &postcard::to_allocvec(&large).unwrap()),
        ),
    ] {
        let value = json!({ "letter": hex::encode(postcard::to_allocvec(&letter).unwrap()) });
        put(
            to,
            &format!("letter-reject-{name}"),
            "reject",
            "letter",
            what,
            value,
        );
    }
}

fn cards(to: &mut Files) {
    let (identity, seed) = (run::<32>(50), run::<16>(40));
    let signature = Signature::new(run(150));
    let credential = Credential {
        identity,
        not_after: Day(20_830),
        signature,
    };
    let value = json!({
        "credential": hex::encode(postcard::to_allocvec(&credential).unwrap()), "identity": hex::encode(identity),
        "leaf": hex::encode(run::<32>(55)), "signed": hex::encode(Credential::signed(&run(55), Day(20_830))),
    });
    put(
        to,
        "credential",
        "accept",
        "credential",
        "the encoding, and the bytes that are signed; the signature is not real",
        value,
    );
    let inbox = Inbox {
        mailbox: Mailbox {
            write: Token::new(Secret::new(run(21))),
            read: TokenHash::new(run(10)),
            keep: TokenHash::new(run(110)),
        },
        key: run::<1216>(0).to_vec(),
    };
    let card = Card {
        number: 3,
        identity,
        name: "Ines".into(),
        not_after: Day(20_830),
        write: TokenHash::new(run(60)),
        keep: TokenHash::new(run(111)),
        packages: vec![vec![1, 2, 3], vec![4, 5]],
        inbox,
        admission: Some(Admission::new(Secret::new(run(60)))),
        uses: Uses::Many,
    };
    let signed = SignedCard {
        body: postcard::to_allocvec(&card).unwrap(),
        signature,
    };
    let mark = Mark::commit(&card.write, &card.keep, &card_bind(&identity, &Secret::new(seed)));
    let value = json!({
        "card": hex::encode(postcard::to_allocvec(&signed).unwrap()), "seed": hex::encode(seed), "mark": hex::encode(mark.as_bytes()),
        "signed_sha256": hex::encode(Sha256::digest([SIGNED_AS, &signed.body].concat())), "inbox": hex::encode(card.inbox.mailbox.channel().as_bytes()),
    });
    put(
        to,
        "card",
        "accept",
        "card",
        "the encoding, and M; packages and signature are not real",
        value,
    );
    let context = CaseContext {
        version: 2,
        people: vec![
            Person {
                identity: [1; 32],
                role: Role::Client,
                name: "Amal".into(),
            },
            Person {
                identity: [2; 32],
                role: Role::Counsel,
                name: "Ines".into(),
            },
        ],
        committer: Some([3; 32]),
        homes: vec![Home {
            relay: RelayAddress {
                addresses: vec![
                    "192.0.2.1:4433".parse().unwrap(),
                    "relay.example:443".parse().unwrap(),
                ],
                pin: Pin::new(run(1)),
                door: Door::new(run(30)),
            },
            admission: None,
        }],
        keep: TokenHash::new(run(70)),
        client_days: Some(30),
        counsel_days: None,
    };
    put(
        to,
        "case-context",
        "accept",
        "case context",
        "two people, a committer, two addresses",
        json!({ "context": hex::encode(postcard::to_allocvec(&context).unwrap()) }),
    );
    let shares = vec![KeepShare {
        device: run(55),
        sealed: run::<1168>(2).to_vec(),
    }];
    put(
        to,
        "keep-shares",
        "accept",
        "keep shares",
        "one share; its ciphertext is not real",
        json!({ "shares": hex::encode(postcard::to_allocvec(&shares).unwrap()) }),
    );
    let seeds = RescueSeeds {
        to_counsel: Secret::new(run(32)),
        to_member: Secret::new(run(33)),
    };
    let secrets = CounselSecrets {
        keep: Token::new(Secret::new(run(22))),
        rescues: vec![([1; 32], seeds.clone())],
    };
    put(
        to,
        "counsel-secrets",
        "accept",
        "counsel secrets",
        "what a keep share seals: one member with rescue seeds",
        json!({ "secrets": hex::encode(postcard::to_allocvec(&secrets).unwrap()) }),
    );
    let packet = Packet {
        welcome: vec![1, 2, 3],
        admission: None,
        rescue: Some(seeds),
        secrets: Some(secrets),
        incarnation: Some(Incarnation::new(run(6))),
    };
    for (name, what, rescue) in [
        (
            "rescue-ask",
            "a member asks",
            Rescue::Ask {
                package: vec![4, 5],
                epoch: 7,
                proof: None,
            },
        ),
        (
            "rescue-ask-proved",
            "a member asks and proves who they are by recovery digits",
            Rescue::Ask {
                package: vec![4, 5],
                epoch: 7,
                proof: Some(signature),
            },
        ),
        ("rescue-answer", "counsel answers", Rescue::Answer(packet.clone())),
        (
            "rescue-withdraw",
            "a member goes on after all",
            Rescue::Withdraw(run(3)),
        ),
    ] {
        let value = json!({ "rescue": hex::encode(postcard::to_allocvec(&rescue).unwrap()) });
        put(to, name, "accept", "rescue", what, value);
    }
    let commit = SignedCommit {
        leaf: run(3),
        next: Incarnation::new(run(6)),
        message: vec![9, 8, 7],
        signature,
    };
    let group = run(12);
    put(
        to,
        "signed-commit",
        "accept",
        "signed commit",
        "the encoding, and the bytes that are signed; the signature is not real",
        json!({
            "commit": hex::encode(postcard::to_allocvec(&commit).unwrap()), "group": hex::encode(group), "epoch": 5,
            "signed": hex::encode(SignedCommit::signed(&group, 5, &commit.next, &commit.message)),
        }),
    );
    put(
        to,
        "packet",
        "accept",
        "packet",
        "the content before padding and HPKE",
        json!({ "packet": hex::encode(postcard::to_allocvec(&packet).unwrap()), "welcome": "010203" }),
    );
}
