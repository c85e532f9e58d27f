//! A case between Martlet's group and mls-rs, the independent implementation, in suite 0x004D.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the helpers of a test may fail it"
)]

use martlet::mls::{Change, Group, Leaf, Processed};
use martlet_proto::Secret;
use mls_rs::{
    CipherSuite, CipherSuiteProvider, Client, CryptoProvider, ExtensionList, MlsMessage,
    client_builder::{MlsConfig, PaddingMode},
    extension::{ExtensionType, built_in::RequiredCapabilitiesExt},
    group::ReceivedMessage,
    identity::{
        SigningIdentity,
        basic::{BasicCredential, BasicIdentityProvider},
    },
    mls_rules::{CommitOptions, DefaultMlsRules, EncryptionOptions},
};
use mls_rs_core::{
    crypto::{HpkeCiphertext, HpkePsk, HpkePublicKey, HpkeSecretKey, SignaturePublicKey, SignatureSecretKey},
    error::IntoAnyError,
    extension::Extension,
};
use mls_rs_crypto_hpke::context::{ContextR, ContextS};
use mls_rs_crypto_rustcrypto::{RustCryptoCipherSuite, RustCryptoError, aead::Aead, kdf::Kdf};
use mls_rs_crypto_traits::{KemResult, KemType};
use x_wing::{
    DecapsulationKey, Decapsulator, EncapsulationKey,
    kem::{Decapsulate, KeyExport, TryKeyInit},
};

use zeroize::Zeroizing;

const CONTEXT: ExtensionType = ExtensionType::new(0xF0A1);
const KEEP_KEY: ExtensionType = ExtensionType::new(0xF0A2);

#[test]
fn a_case_runs_between_two_implementations() {
    let leaf = Leaf {
        signer: Secret::new([1; 32]),
        credential: b"amal".to_vec(),
    };
    let mut amal = Group::create(Secret::new([2; 32]), &leaf, b"case", b"context 0", None).unwrap();
    let client = client("ines");
    let leaf_extensions = ExtensionList::from(vec![Extension::new(KEEP_KEY, vec![7; 1216])]);
    let package = client
        .generate_key_package_message(ExtensionList::default(), leaf_extensions, None)
        .unwrap();
    let package = package.to_bytes().unwrap();
    let commit = amal
        .commit(Change {
            add: vec![package],
            ..Change::default()
        })
        .unwrap();
    amal.merge_pending().unwrap();
    let welcome = MlsMessage::from_bytes(&commit.welcome.unwrap()).unwrap();
    let mut ines = client.join_group(None, &welcome, None).unwrap().0;
    assert_eq!(amal.members()[1].keep_key, Some(vec![7; 1216]));
    same_epoch(&amal, &ines, b"context 0");

    // Letters both ways.
    let letter = amal.encrypt(b"from amal", b"beside").unwrap();
    match ines
        .process_incoming_message(MlsMessage::from_bytes(&letter).unwrap())
        .unwrap()
    {
        ReceivedMessage::ApplicationMessage(letter) => {
            assert_eq!(
                (letter.data(), &letter.authenticated_data[..]),
                (&b"from amal"[..], &b"beside"[..])
            );
        }
        other => panic!("{other:?}"),
    }
    let letter = ines
        .encrypt_application_message(b"from ines", b"beside".to_vec())
        .unwrap()
        .to_bytes()
        .unwrap();
    match amal.process(&letter).unwrap() {
        Processed::Letter { sender: 1, body, aad } => {
            assert_eq!((&body[..], &aad[..]), (&b"from ines"[..], &b"beside"[..]));
        }
        other => panic!("{other:?}"),
    }

    // A commit of ours that changes the context, with data beside it.
    let change = Change {
        context: Some(b"context 1".to_vec()),
        aad: b"keep".to_vec(),
        ..Change::default()
    };
    let commit = amal.commit(change).unwrap();
    match ines
        .process_incoming_message(MlsMessage::from_bytes(&commit.message).unwrap())
        .unwrap()
    {
        ReceivedMessage::Commit(seen) => assert_eq!(seen.authenticated_data, b"keep"),
        other => panic!("{other:?}"),
    }
    amal.merge_pending().unwrap();
    same_epoch(&amal, &ines, b"context 1");

    // The same from mls-rs.
    let required = RequiredCapabilitiesExt::new(vec![CONTEXT], vec![], vec![]);
    let mut extensions = ExtensionList::new();
    extensions.set_from(required).unwrap();
    extensions.set(Extension::new(CONTEXT, b"context 2".to_vec()));
    let builder = ines.commit_builder().set_group_context_ext(extensions).unwrap();
    let message = builder
        .authenticated_data(b"keep 2".to_vec())
        .build()
        .unwrap()
        .commit_message;
    ines.apply_pending_commit().unwrap();
    match amal.process(&message.to_bytes().unwrap()).unwrap() {
        Processed::Commit(staged) => {
            assert_eq!(
                (staged.aad(), staged.context()),
                (&b"keep 2"[..], &b"context 2"[..])
            );
            amal.merge(*staged).unwrap();
        }
        other => panic!("{other:?}"),
    }
    same_epoch(&amal, &ines, b"context 2");
}

/// A device of ours, by a number that names it.
fn leaf(number: u8) -> Leaf {
    Leaf {
        signer: Secret::new([number; 32]),
        credential: vec![number],
    }
}

/// A key package of one of our devices, public and private.
fn package(number: u8, seed: u8) -> (Vec<u8>, Vec<u8>) {
    let made = martlet::mls::keypackage(
        Secret::new([seed; 32]),
        &leaf(number),
        Some(&[7; 1216]),
        1_790_000_000,
        1_900_000_000,
    )
    .unwrap();
    (made.public.clone(), made.private.to_vec())
}

fn take(group: &mut Group, message: &[u8]) {
    match group.process(message).unwrap() {
        Processed::Commit(staged) => group.merge(*staged).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// A letter of the stranger's is read by all of ours, and one of each of ours by the stranger.
fn all_write<C: MlsConfig>(ours: &mut [&mut Group], bashir: &mut mls_rs::Group<C>) {
    let letter = bashir
        .encrypt_application_message(b"from bashir", vec![])
        .unwrap();
    let letter = letter.to_bytes().unwrap();
    for group in ours.iter_mut() {
        match group.process(&letter).unwrap() {
            Processed::Letter { body, .. } => assert_eq!(&body[..], b"from bashir"),
            other => panic!("{other:?}"),
        }
    }
    for group in ours {
        let letter = group.encrypt(b"from us", b"").unwrap();
        let letter = MlsMessage::from_bytes(&letter).unwrap();
        match bashir.process_incoming_message(letter).unwrap() {
            ReceivedMessage::ApplicationMessage(letter) => assert_eq!(letter.data(), b"from us"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_stranger_takes_part_in_a_case_of_three_through_adds_removals_and_updates() {
    let client = client("bashir");
    let offer = |client: &Client<_>| {
        let extensions = ExtensionList::from(vec![Extension::new(KEEP_KEY, vec![7; 1216])]);
        client
            .generate_key_package_message(ExtensionList::default(), extensions, None)
            .unwrap()
            .to_bytes()
            .unwrap()
    };
    // Amal adds Ines and, in the same commit, the stranger.
    let mut amal = Group::create(Secret::new([21; 32]), &leaf(1), b"case", b"context 0", None).unwrap();
    let (ines_public, ines_private) = package(2, 22);
    let commit = amal
        .commit(Change {
            add: vec![ines_public, offer(&client)],
            ..Change::default()
        })
        .unwrap();
    amal.merge_pending().unwrap();
    let welcome = commit.welcome.unwrap();
    let mut ines = Group::join(Secret::new([23; 32]), &leaf(2), &ines_private, &welcome).unwrap();
    let welcome = MlsMessage::from_bytes(&welcome).unwrap();
    let mut bashir = client.join_group(None, &welcome, None).unwrap().0;
    same_epoch(&amal, &bashir, b"context 0");
    all_write(&mut [&mut amal, &mut ines], &mut bashir);

    // Ines gives Amal's device fresh keys: removed and added by value, with a changed context and data beside it.
    let (fresh_public, fresh_private) = package(1, 24);
    let commit = ines
        .commit(Change {
            add: vec![fresh_public],
            remove: vec![amal.own_index()],
            context: Some(b"context 1".to_vec()),
            aad: b"shares".to_vec(),
        })
        .unwrap();
    match bashir
        .process_incoming_message(MlsMessage::from_bytes(&commit.message).unwrap())
        .unwrap()
    {
        ReceivedMessage::Commit(seen) => assert_eq!(seen.authenticated_data, b"shares"),
        other => panic!("{other:?}"),
    }
    ines.merge_pending().unwrap();
    let welcome = commit.welcome.unwrap();
    let mut amal = Group::join(Secret::new([25; 32]), &leaf(1), &fresh_private, &welcome).unwrap();
    same_epoch(&amal, &bashir, b"context 1");
    all_write(&mut [&mut amal, &mut ines], &mut bashir);

    // The stranger commits: an update of its own keys, Ines out, Carol in.
    let (carol_public, carol_private) = package(3, 26);
    let built = bashir
        .commit_builder()
        .remove_member(ines.own_index())
        .unwrap()
        .add_member(MlsMessage::from_bytes(&carol_public).unwrap())
        .unwrap()
        .build()
        .unwrap();
    bashir.apply_pending_commit().unwrap();
    let message = built.commit_message.to_bytes().unwrap();
    take(&mut amal, &message);
    match ines.process(&message).unwrap() {
        Processed::Commit(staged) => assert!(staged.removes_us()),
        other => panic!("{other:?}"),
    }
    let welcome = built.welcome_messages[0].to_bytes().unwrap();
    let mut carol = Group::join(Secret::new([27; 32]), &leaf(3), &carol_private, &welcome).unwrap();
    same_epoch(&carol, &bashir, b"context 1");
    all_write(&mut [&mut amal, &mut carol], &mut bashir);

    // And the stranger is removed.
    let index = bashir.current_member_index();
    let commit = carol
        .commit(Change {
            remove: vec![index],
            ..Change::default()
        })
        .unwrap();
    let done = bashir.process_incoming_message(MlsMessage::from_bytes(&commit.message).unwrap());
    assert!(matches!(done, Ok(ReceivedMessage::Commit(_))));
    carol.merge_pending().unwrap();
    take(&mut amal, &commit.message);
    assert_eq!(
        amal.epoch_secret().unwrap().expose(),
        carol.epoch_secret().unwrap().expose()
    );
    let later = carol.encrypt(b"without the stranger", b"").unwrap();
    assert!(
        bashir
            .process_incoming_message(MlsMessage::from_bytes(&later).unwrap())
            .is_err()
    );
}

fn same_epoch<C: MlsConfig>(amal: &Group, ines: &mls_rs::Group<C>, context: &[u8]) {
    let secret = ines.export_secret(b"martlet/1 epoch", b"", 32).unwrap();
    assert_eq!(amal.epoch_secret().unwrap().expose()[..], secret.as_bytes()[..]);
    assert_eq!(amal.context().unwrap(), context);
    let theirs = ines.context().extensions.get(CONTEXT).unwrap();
    assert_eq!(theirs.extension_data, context);
}

fn client(name: &str) -> Client<impl MlsConfig + use<>> {
    let suite = Provider.cipher_suite_provider(XWING).unwrap();
    let (private, public) = suite.signature_key_generate().unwrap();
    let credential = BasicCredential::new(name.as_bytes().to_vec()).into_credential();
    let rules = DefaultMlsRules::new()
        .with_commit_options(
            CommitOptions::new()
                .with_path_required(true)
                .with_ratchet_tree_extension(true),
        )
        .with_encryption_options(EncryptionOptions::new(true, PaddingMode::None));
    Client::builder()
        .identity_provider(BasicIdentityProvider)
        .crypto_provider(Provider)
        .mls_rules(rules)
        .extension_types([CONTEXT, KEEP_KEY])
        .signing_identity(SigningIdentity::new(credential, public), private, XWING)
        .build()
}

const XWING: CipherSuite = CipherSuite::new(0x004D);
const CLASSIC: CipherSuite = CipherSuite::CURVE25519_CHACHA;
#[derive(Clone)]
struct XWingKem;
#[derive(Debug)]
struct Bad;
impl std::fmt::Display for Bad {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("x-wing")
    }
}
impl std::error::Error for Bad {}
impl IntoAnyError for Bad {
    fn into_dyn_error(self) -> Result<Box<dyn std::error::Error + Send + Sync>, Self> {
        Ok(self.into())
    }
}
fn pair(seed: [u8; 32]) -> (HpkeSecretKey, HpkePublicKey) {
    let dk = DecapsulationKey::from(seed);
    (
        seed.to_vec().into(),
        dk.encapsulation_key().to_bytes().as_slice().to_vec().into(),
    )
}
impl KemType for XWingKem {
    type Error = Bad;
    fn kem_id(&self) -> u16 {
        0x647a
    }
    fn generate_deterministic(&self, ikm: &[u8]) -> Result<(HpkeSecretKey, HpkePublicKey), Bad> {
        Ok(pair(
            *martlet::mls::provider::xwing_decapsulation_key(ikm).expose(),
        ))
    }
    fn generate(&self) -> Result<(HpkeSecretKey, HpkePublicKey), Bad> {
        let mut s = [0; 32];
        getrandom::fill(&mut s).map_err(|_| Bad)?;
        Ok(pair(s))
    }
    fn public_key_validate(&self, k: &HpkePublicKey) -> Result<(), Bad> {
        EncapsulationKey::new_from_slice(k).map(|_| ()).map_err(|_| Bad)
    }
    fn encap(&self, pk: &HpkePublicKey) -> Result<KemResult, Bad> {
        let ek = EncapsulationKey::new_from_slice(pk).map_err(|_| Bad)?;
        let mut r = [0u8; 64];
        getrandom::fill(&mut r).map_err(|_| Bad)?;
        let (ct, ss) = ek.encapsulate_deterministic((&r).into());
        Ok(KemResult::new(ss.as_slice().to_vec(), ct.as_slice().to_vec()))
    }
    fn decap(&self, enc: &[u8], sk: &HpkeSecretKey, _pk: &HpkePublicKey) -> Result<Vec<u8>, Bad> {
        let seed: [u8; 32] = sk.as_ref().try_into().map_err(|_| Bad)?;
        let ct = x_wing::Ciphertext::try_from(enc).map_err(|_| Bad)?;
        Ok(DecapsulationKey::from(seed).decapsulate(&ct).as_slice().to_vec())
    }
    fn seed_length_for_derive(&self) -> usize {
        32
    }
}
type Inner = RustCryptoCipherSuite<XWingKem, Kdf, Aead>;
#[derive(Clone)]
struct Suite(Inner);
#[derive(Clone)]
struct Provider;
impl CryptoProvider for Provider {
    type CipherSuiteProvider = Suite;
    fn supported_cipher_suites(&self) -> Vec<CipherSuite> {
        vec![XWING]
    }
    fn cipher_suite_provider(&self, cs: CipherSuite) -> Option<Suite> {
        (cs == XWING).then_some(())?;
        Some(Suite(Inner::new(
            CLASSIC,
            XWingKem,
            Kdf::new(CLASSIC)?,
            Aead::new(CLASSIC)?,
        )?))
    }
}
type Er = RustCryptoError;
impl CipherSuiteProvider for Suite {
    type Error = Er;
    type HpkeContextR = ContextR<Kdf, Aead>;
    type HpkeContextS = ContextS<Kdf, Aead>;
    fn cipher_suite(&self) -> CipherSuite {
        XWING
    }
    fn hash(&self, d: &[u8]) -> Result<Vec<u8>, Er> {
        self.0.hash(d)
    }
    fn mac(&self, k: &[u8], d: &[u8]) -> Result<Vec<u8>, Er> {
        self.0.mac(k, d)
    }
    fn aead_seal(&self, k: &[u8], d: &[u8], a: Option<&[u8]>, n: &[u8]) -> Result<Vec<u8>, Er> {
        self.0.aead_seal(k, d, a, n)
    }
    fn aead_open(&self, k: &[u8], d: &[u8], a: Option<&[u8]>, n: &[u8]) -> Result<Zeroizing<Vec<u8>>, Er> {
        self.0.aead_open(k, d, a, n)
    }
    fn aead_key_size(&self) -> usize {
        self.0.aead_key_size()
    }
    fn aead_nonce_size(&self) -> usize {
        self.0.aead_nonce_size()
    }
    fn kdf_extract(&self, s: &[u8], i: &[u8]) -> Result<Zeroizing<Vec<u8>>, Er> {
        self.0.kdf_extract(s, i)
    }
    fn kdf_expand(&self, p: &[u8], i: &[u8], n: usize) -> Result<Zeroizing<Vec<u8>>, Er> {
        self.0.kdf_expand(p, i, n)
    }
    fn kdf_extract_size(&self) -> usize {
        self.0.kdf_extract_size()
    }
    fn hpke_seal(
        &self,
        k: &HpkePublicKey,
        i: &[u8],
        a: Option<&[u8]>,
        p: &[u8],
    ) -> Result<HpkeCiphertext, Er> {
        self.0.hpke_seal(k, i, a, p)
    }
    fn hpke_seal_psk(
        &self,
        k: &HpkePublicKey,
        i: &[u8],
        a: Option<&[u8]>,
        p: &[u8],
        s: HpkePsk<'_>,
    ) -> Result<HpkeCiphertext, Er> {
        self.0.hpke_seal_psk(k, i, a, p, s)
    }
    fn hpke_open(
        &self,
        c: &HpkeCiphertext,
        s: &HpkeSecretKey,
        p: &HpkePublicKey,
        i: &[u8],
        a: Option<&[u8]>,
    ) -> Result<Zeroizing<Vec<u8>>, Er> {
        self.0.hpke_open(c, s, p, i, a)
    }
    fn hpke_open_psk(
        &self,
        c: &HpkeCiphertext,
        s: &HpkeSecretKey,
        p: &HpkePublicKey,
        i: &[u8],
        a: Option<&[u8]>,
        k: HpkePsk<'_>,
    ) -> Result<Zeroizing<Vec<u8>>, Er> {
        self.0.hpke_open_psk(c, s, p, i, a, k)
    }
    fn hpke_setup_s(&self, k: &HpkePublicKey, i: &[u8]) -> Result<(Vec<u8>, Self::HpkeContextS), Er> {
        self.0.hpke_setup_s(k, i)
    }
    fn hpke_setup_r(
        &self,
        e: &[u8],
        s: &HpkeSecretKey,
        p: &HpkePublicKey,
        i: &[u8],
    ) -> Result<Self::HpkeContextR, Er> {
        self.0.hpke_setup_r(e, s, p, i)
    }
    // mls-rs Hpke::derive() prepends LabeledExtract("dkp_prk"): not so for a PQ KEM, so go round it
    fn kem_derive(&self, i: &[u8]) -> Result<(HpkeSecretKey, HpkePublicKey), Er> {
        Ok(pair(*martlet::mls::provider::xwing_decapsulation_key(i).expose()))
    }
    fn kem_generate(&self) -> Result<(HpkeSecretKey, HpkePublicKey), Er> {
        self.0.kem_generate()
    }
    fn kem_public_key_validate(&self, k: &HpkePublicKey) -> Result<(), Er> {
        self.0.kem_public_key_validate(k)
    }
    fn random_bytes(&self, o: &mut [u8]) -> Result<(), Er> {
        self.0.random_bytes(o)
    }
    fn signature_key_generate(&self) -> Result<(SignatureSecretKey, SignaturePublicKey), Er> {
        self.0.signature_key_generate()
    }
    fn signature_key_derive_public(&self, s: &SignatureSecretKey) -> Result<SignaturePublicKey, Er> {
        self.0.signature_key_derive_public(s)
    }
    fn sign(&self, s: &SignatureSecretKey, d: &[u8]) -> Result<Vec<u8>, Er> {
        self.0.sign(s, d)
    }
    fn verify(&self, p: &SignaturePublicKey, s: &[u8], d: &[u8]) -> Result<(), Er> {
        self.0.verify(p, s, d)
    }
}
