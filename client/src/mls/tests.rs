//! The properties of a case's group, told with Amal, her counsel Ines and the interpreter Yusuf.

#![expect(clippy::print_stdout, reason = "sizes are shown to whoever asks")]
#![expect(clippy::arithmetic_side_effects, reason = "a test may panic")]

use martlet_proto::Secret;
use openmls_traits::OpenMlsProvider as _;

use super::*;

const NOW: u64 = 1_800_000_000;
const DAY: u64 = 86_400;

fn seed(n: u8) -> Secret<32> {
    Secret::new([n; 32])
}

fn leaf(name: &str) -> Leaf {
    let first = name.as_bytes()[0];
    Leaf {
        signer: Secret::new([first; 32]),
        credential: name.as_bytes().to_vec(),
    }
}

fn package(n: u8, name: &str, keep_key: Option<&[u8]>) -> Package {
    keypackage(seed(n), &leaf(name), keep_key, NOW, NOW + 30 * DAY).unwrap()
}

/// Amal's case with Ines (and others) in it, in epoch 1.
fn case(names: &[&str]) -> Vec<Group> {
    let mut amal = Group::create(seed(1), &leaf("amal"), b"case", b"context 0", None).unwrap();
    let packages: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(n, name)| package(10 + n as u8, name, Some(&[7; 1216])))
        .collect();
    let add = packages.iter().map(|package| package.public.clone()).collect();
    let commit = amal
        .commit(Change {
            add,
            ..Change::default()
        })
        .unwrap();
    amal.merge_pending().unwrap();
    let welcome = commit.welcome.unwrap();
    let mut groups = vec![amal];
    for (n, (name, package)) in names.iter().zip(&packages).enumerate() {
        groups.push(Group::join(seed(30 + n as u8), &leaf(name), &package.private, &welcome).unwrap());
    }
    groups
}

fn two() -> (Group, Group) {
    let mut groups = case(&["ines"]);
    let ines = groups.pop().unwrap();
    (groups.pop().unwrap(), ines)
}

fn read(group: &mut Group, message: &[u8]) -> Vec<u8> {
    match group.process(message).unwrap() {
        Processed::Letter { body, .. } => body.to_vec(),
        other => panic!("{other:?}"),
    }
}

fn staged(group: &mut Group, message: &[u8]) -> Staged {
    match group.process(message).unwrap() {
        Processed::Commit(staged) => *staged,
        other => panic!("{other:?}"),
    }
}

fn refresh(group: &mut Group) -> Commit {
    group.commit(Change::default()).unwrap()
}

fn rows(group: &Group) -> Vec<String> {
    let provider = Provider::new(seed(0));
    blob::unpack(&group.to_blob().unwrap(), provider.storage()).unwrap();
    let values = provider.storage().values.read().unwrap();
    let label = |key: &Vec<u8>| {
        key.iter()
            .take_while(|b| b.is_ascii_alphabetic())
            .map(|b| *b as char)
            .collect()
    };
    let mut labels: Vec<String> = values.keys().map(label).collect();
    labels.sort();
    labels
}

#[test]
fn the_xwing_derivation_rule_is_frozen() {
    use openmls_traits::{crypto::OpenMlsCrypto as _, types::*};
    let key = provider::xwing_decapsulation_key(b"martlet");
    assert_eq!(
        hex::encode(key.expose()),
        "07c1957de52a45f5fe120cb5ae0f74dccc1b3de127ec447c034f525cee23f070"
    );
    let config = HpkeConfig(
        HpkeKemType::XWingKemDraft6,
        HpkeKdfType::HkdfSha256,
        HpkeAeadType::ChaCha20Poly1305,
    );
    let pair = Provider::new(seed(1))
        .crypto()
        .derive_hpke_keypair(config, b"martlet")
        .unwrap();
    assert_eq!(&pair.private[..], key.expose());
    use sha2::Digest as _;
    assert_eq!(
        hex::encode(sha2::Sha256::digest(&pair.public)),
        "826b2c3b80056454bd19f3add4e967f4e2304e8c67d3d56d8f2a579054038e86"
    );
}

#[test]
fn one_seed_gives_one_run() {
    let run = || {
        let (mut amal, mut ines) = two();
        let letter = amal.encrypt(b"hello", b"aad").unwrap();
        let commit = refresh(&mut ines);
        // Not the blobs: OpenMLS writes the system's time beside an epoch's secrets.
        (letter, commit.message, commit.next)
    };
    let (one, other) = (run(), run());
    assert_eq!(package(9, "ines", None).public, package(9, "ines", None).public);
    assert_eq!(one.0, other.0, "letter");
    assert_eq!(one.1, other.1, "commit");
    assert_eq!(one.2, other.2, "next");
}

#[test]
fn letters_and_commits_reach_the_other_side() {
    let (mut amal, mut ines) = two();
    assert_eq!(
        (amal.epoch(), ines.epoch(), ines.context().unwrap()),
        (1, 1, b"context 0".to_vec())
    );
    assert_eq!(amal.members(), ines.members());
    assert_eq!(ines.members()[1].keep_key, Some(vec![7; 1216]));
    assert_eq!((amal.own_index(), ines.own_index()), (0, 1));
    let letter = amal.encrypt(b"hello", b"beside").unwrap();
    let Processed::Letter { sender: 0, body, aad } = ines.process(&letter).unwrap() else {
        panic!()
    };
    assert_eq!((&body[..], &aad[..]), (&b"hello"[..], &b"beside"[..]));

    let change = Change {
        context: Some(b"context 1".to_vec()),
        aad: b"keep".to_vec(),
        ..Change::default()
    };
    let commit = ines.commit(change).unwrap();
    assert_ne!(commit.next, ines.epoch_secret().unwrap());
    let staged = staged(&mut amal, &commit.message);
    assert_eq!(
        (staged.sender(), staged.aad(), staged.context()),
        (1, &b"keep"[..], &b"context 1"[..])
    );
    assert_eq!(
        (staged.next().unwrap(), staged.epoch(), staged.removes_us()),
        (commit.next.clone(), 2, false)
    );
    amal.merge(staged).unwrap();
    ines.merge_pending().unwrap();
    assert_eq!(amal.epoch_secret().unwrap(), commit.next);
    assert_eq!(ines.epoch_secret().unwrap(), commit.next);
    assert_eq!(amal.epoch_authenticator(), ines.epoch_authenticator());
    assert_eq!(amal.context().unwrap(), b"context 1");
    assert_eq!(
        ines.members()[1].keep_key,
        Some(vec![7; 1216]),
        "a refresh keeps the keep key"
    );
}

#[test]
fn a_pending_commit_survives_the_blob() {
    let (mut amal, mut ines) = two();
    let commit = refresh(&mut ines);
    let mut ines = Group::from_blob(seed(50), &leaf("ines"), &ines.to_blob().unwrap()).unwrap();
    assert!(ines.has_pending());
    assert_eq!(ines.commit(Change::default()).unwrap_err(), MlsError::Pending);
    let staged = staged(&mut amal, &commit.message);
    amal.merge(staged).unwrap();
    ines.merge_pending().unwrap();
    assert_eq!(ines.merge_pending(), Err(MlsError::NotPending));
    let letter = ines.encrypt(b"on we go", b"").unwrap();
    let mut amal = Group::from_blob(seed(51), &leaf("amal"), &amal.to_blob().unwrap()).unwrap();
    assert_eq!(read(&mut amal, &letter), b"on we go");
}

#[test]
fn a_blob_belongs_to_its_leaf() {
    let (amal, _) = two();
    let blob = amal.to_blob().unwrap();
    assert_eq!(
        Group::from_blob(seed(5), &leaf("ines"), &blob).unwrap_err(),
        MlsError::OtherLeaf
    );
    assert_eq!(
        Group::from_blob(seed(5), &leaf("amal"), &blob[1..]).unwrap_err(),
        MlsError::Damaged
    );
}

#[test]
fn the_same_letter_is_opened_once() {
    let (mut amal, mut ines) = two();
    let letter = amal.encrypt(b"once", b"").unwrap();
    read(&mut ines, &letter);
    assert_eq!(ines.process(&letter).unwrap_err(), MlsError::AlreadySeen);
    let mut ines = Group::from_blob(seed(5), &leaf("ines"), &ines.to_blob().unwrap()).unwrap();
    assert_eq!(ines.process(&letter).unwrap_err(), MlsError::AlreadySeen);
    assert!(matches!(amal.process(&letter), Ok(Processed::Own)));
}

#[test]
fn a_blob_used_twice_is_found_out() {
    let (mut amal, mut ines) = two();
    let blob = amal.to_blob().unwrap();
    let first = amal.encrypt(b"first", b"").unwrap();
    let mut again = Group::from_blob(seed(60), &leaf("amal"), &blob).unwrap();
    let second = again.encrypt(b"second", b"").unwrap();
    read(&mut ines, &first);
    assert_eq!(ines.process(&second).unwrap_err(), MlsError::AlreadySeen);
}

#[test]
fn letters_may_come_out_of_order_within_bounds() {
    let (mut amal, mut ines) = two();
    let letters: Vec<_> = (0..40u8).map(|n| amal.encrypt(&[n], b"").unwrap()).collect();
    assert_eq!(read(&mut ines, &letters[39]), [39]);
    for n in (8..39).rev() {
        assert_eq!(read(&mut ines, &letters[n]), [n as u8]);
    }
    assert_eq!(ines.process(&letters[0]).unwrap_err(), MlsError::OutOfReach);
    let mut last = Vec::new();
    for _ in 0..2002 {
        last = amal.encrypt(b"far", b"").unwrap();
    }
    assert_eq!(ines.process(&last).unwrap_err(), MlsError::OutOfReach);
}

#[test]
fn a_failed_letter_leaves_the_group_usable() {
    let (mut amal, mut ines) = two();
    let letter = amal.encrypt(b"true", b"aad").unwrap();
    for place in [0, letter.len() / 2, letter.len() - 1] {
        let mut false_letter = letter.clone();
        false_letter[place] ^= 1;
        assert!(ines.process(&false_letter).is_err());
    }
    assert_eq!(ines.process(&letter[..20]).unwrap_err(), MlsError::Malformed);
    let mut ending = letter.clone();
    *ending.last_mut().unwrap() ^= 1;
    assert_eq!(ines.process(&ending).unwrap_err(), MlsError::Undecryptable);
    assert_eq!(read(&mut ines, &letter), b"true");
}

#[test]
fn messages_of_other_epochs_and_groups_are_told_apart() {
    let (mut amal, mut ines) = two();
    let old = amal.encrypt(b"old", b"").unwrap();
    let commit = refresh(&mut amal);
    amal.merge_pending().unwrap();
    let new = amal.encrypt(b"new", b"").unwrap();
    assert_eq!(
        ines.process(&new).unwrap_err(),
        MlsError::WrongEpoch(EpochOrder::Newer)
    );
    let staged = staged(&mut ines, &commit.message);
    ines.merge(staged).unwrap();
    assert_eq!(
        ines.process(&old).unwrap_err(),
        MlsError::WrongEpoch(EpochOrder::Older)
    );
    assert_eq!(read(&mut ines, &new), b"new");
    let mut other = Group::create(seed(9), &leaf("zoe"), b"other", b"", None).unwrap();
    assert_eq!(other.process(&new).unwrap_err(), MlsError::OtherGroup);
}

#[test]
fn a_lost_race_is_cleared_and_the_winner_applied() {
    let (mut amal, mut ines) = two();
    let (lost, won) = (refresh(&mut amal), refresh(&mut ines));
    assert_ne!(lost.next, won.next);
    assert!(matches!(amal.process(&lost.message), Ok(Processed::OwnCommit)));
    amal.clear_pending().unwrap();
    assert!(!amal.has_pending());
    let staged = staged(&mut amal, &won.message);
    amal.merge(staged).unwrap();
    ines.merge_pending().unwrap();
    assert_eq!(amal.epoch_secret().unwrap(), ines.epoch_secret().unwrap());
    let letter = amal.encrypt(b"peace", b"").unwrap();
    assert_eq!(read(&mut ines, &letter), b"peace");
}

#[test]
fn a_member_is_removed_and_added_again_in_one_commit() {
    let mut groups = case(&["ines", "yusuf"]);
    let fresh = package(80, "yusuf", None);
    let change = Change {
        add: vec![fresh.public.clone()],
        remove: vec![2],
        ..Change::default()
    };
    let commit = groups[1].commit(change).unwrap();
    groups[1].merge_pending().unwrap();
    let seen = staged(&mut groups[0], &commit.message);
    assert_eq!((seen.removed(), seen.added().len()), (&[2][..], 1));
    assert_eq!(
        (&seen.added()[0].credential[..], seen.removes_us()),
        (&b"yusuf"[..], false)
    );
    groups[0].merge(seen).unwrap();
    let gone = staged(&mut groups[2], &commit.message);
    assert!(gone.removes_us());
    assert_eq!(gone.next().unwrap_err(), MlsError::Removed);
    groups[2].merge(gone).unwrap();
    assert!(!groups[2].is_active());
    assert_eq!(
        groups[2].encrypt(b"still here", b"").unwrap_err(),
        MlsError::Removed
    );
    assert_eq!(groups[2].epoch_secret().unwrap_err(), MlsError::Removed);
    let mut yusuf = Group::join(seed(81), &leaf("yusuf"), &fresh.private, &commit.welcome.unwrap()).unwrap();
    assert_eq!(yusuf.epoch_secret().unwrap(), groups[0].epoch_secret().unwrap());
    let letter = groups[0].encrypt(b"welcome back", b"").unwrap();
    assert_eq!(read(&mut yusuf, &letter), b"welcome back");
}

#[test]
fn a_welcome_is_for_one_package_and_one_leaf() {
    let mut amal = Group::create(seed(1), &leaf("amal"), b"case", b"", None).unwrap();
    let (one, other) = (package(10, "ines", None), package(11, "ines", None));
    let commit = amal
        .commit(Change {
            add: vec![one.public.clone()],
            ..Change::default()
        })
        .unwrap();
    let welcome = commit.welcome.unwrap();
    let join = |name, private: &[u8]| Group::join(seed(2), &leaf(name), private, &welcome).map(|_| ());
    assert_eq!(join("ines", &other.private), Err(MlsError::OtherPackage));
    assert_eq!(join("yusuf", &one.private), Err(MlsError::OtherLeaf));
    assert_eq!(join("ines", b""), Err(MlsError::Damaged));
    assert_eq!(join("ines", &one.private), Ok(()));
    assert_eq!(
        Group::join(seed(2), &leaf("ines"), &one.private, b"?").map(|_| ()),
        Err(MlsError::Malformed)
    );
}

#[test]
fn a_package_is_offered_for_its_time() {
    let bytes = package(9, "ines", Some(b"key")).public;
    let info = inspect_package(&bytes, NOW).unwrap();
    assert_eq!((info.not_before, info.not_after), (NOW, NOW + 30 * DAY));
    assert_eq!(
        (&info.credential[..], info.keep_key),
        (&b"ines"[..], Some(b"key".to_vec()))
    );
    assert_eq!(info.reference, package(9, "ines", Some(b"key")).reference);
    assert_eq!(
        inspect_package(&bytes, NOW - 1),
        Err(MlsError::PackageNotYetValid)
    );
    assert_eq!(
        inspect_package(&bytes, NOW + 30 * DAY),
        Err(MlsError::PackageExpired)
    );
    let mut forged = bytes.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(inspect_package(&forged, NOW), Err(MlsError::Malformed));
}

#[test]
fn another_suite_is_refused() {
    use openmls::prelude::{Ciphersuite, ExtensionType, KeyPackage, MlsMessageOut};
    use tls_codec::Serialize as _;
    let provider = Provider::new(seed(3));
    let ines = leaf("ines");
    let suite = Ciphersuite::MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519;
    let extensions = [CONTEXT_EXTENSION, KEEP_KEY_EXTENSION].map(ExtensionType::Unknown);
    let bundle = KeyPackage::builder()
        .leaf_node_capabilities(openmls::prelude::Capabilities::new(
            None,
            Some(&[suite, SUITE]),
            Some(&extensions),
            None,
            None,
        ))
        .build(
            suite,
            &provider,
            &package::LeafSigner::from(&ines),
            ines.credential_with_key(),
        )
        .unwrap();
    let bytes = MlsMessageOut::from(bundle.key_package().clone())
        .tls_serialize_detached()
        .unwrap();
    assert_eq!(inspect_package(&bytes, NOW), Err(MlsError::Unsupported));
    let mut amal = Group::create(seed(1), &leaf("amal"), b"case", b"", None).unwrap();
    let change = Change {
        add: vec![bytes],
        ..Change::default()
    };
    assert_eq!(amal.commit(change).unwrap_err(), MlsError::Unsupported);
    assert!(!amal.has_pending());
}

#[test]
fn nothing_stale_lingers_in_the_blob() {
    let (mut amal, mut ines) = two();
    for group in [&amal, &ines] {
        let labels = rows(group);
        assert!(
            !labels.iter().any(|label| label.contains("KeyPackage")),
            "{labels:?}"
        );
        assert!(
            !labels.iter().any(|label| label.starts_with("EncryptionKeyPair")),
            "{labels:?}"
        );
        assert_eq!(
            labels
                .iter()
                .filter(|label| label.starts_with("EpochKeyPairs"))
                .count(),
            1,
            "{labels:?}"
        );
    }
    let mut sizes = Vec::new();
    for round in 0..50 {
        let (committer, reader) = if round % 2 == 0 {
            (&mut amal, &mut ines)
        } else {
            (&mut ines, &mut amal)
        };
        let commit = refresh(committer);
        let seen = staged(reader, &commit.message);
        reader.merge(seen).unwrap();
        committer.merge_pending().unwrap();
        let letter = committer.encrypt(b"hello", b"").unwrap();
        read(reader, &letter);
        sizes.push((amal.to_blob().unwrap().len(), ines.to_blob().unwrap().len()));
    }
    println!("two members: {:?} {:?}", sizes[1], sizes[49]);
    assert_eq!(rows(&amal), rows(&ines));
    assert_eq!(
        rows(&amal)
            .iter()
            .filter(|label| label.starts_with("EpochKeyPairs"))
            .count(),
        1
    );
    assert!(
        sizes[49].0 < sizes[1].0 + 512 && sizes[49].1 < sizes[1].1 + 512,
        "{sizes:?}"
    );
}

#[test]
fn a_blob_is_small() {
    let (amal, ines) = two();
    println!(
        "two members: {} {}",
        amal.to_blob().unwrap().len(),
        ines.to_blob().unwrap().len()
    );
    assert!(ines.to_blob().unwrap().len() < 65_536);
    let mut four = case(&["ines", "yusuf", "zoe"]);
    let commit = refresh(&mut four[1]);
    println!(
        "four members: {} {}, pending {}, commit {}, package {} private {}",
        four[0].to_blob().unwrap().len(),
        four[3].to_blob().unwrap().len(),
        four[1].to_blob().unwrap().len(),
        commit.message.len(),
        package(9, "ines", None).public.len(),
        package(9, "ines", None).private.len(),
    );
}

#[test]
fn secrets_do_not_print_themselves() {
    let (amal, _) = two();
    assert_eq!(
        format!("{amal:?} {:?}", package(9, "ines", None)),
        "Group(..) Package(..)"
    );
    assert!(!format!("{:?}", leaf("ines")).contains(&format!("{:?}", [b'i'; 32])));
}
