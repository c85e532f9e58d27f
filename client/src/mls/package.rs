//! Key packages: what a device leaves on a card so that others may add it to a case.
//!
//! The lifetime that stands in a key package is longer by [`GRACE_SECONDS`] at each end than the one it is offered for.
//! RFC 9420 lets every member judge that lifetime when it reads the commit, and OpenMLS does so by the system's clock: a
//! member that reads a commit months later, or whose clock is wrong, would refuse what all others applied. So the
//! written lifetime outlasts every commit, and the true one is judged once, in [`inspect_package`], by whoever adds.

use ed25519_dalek::SigningKey;
use martlet_proto::Secret;
use openmls::prelude::{
    BasicCredential, Capabilities, CredentialType, CredentialWithKey, Extension, ExtensionType, Extensions,
    KeyPackage, LeafNode, Lifetime, MlsMessageBodyIn, MlsMessageIn, MlsMessageOut, ProtocolVersion,
    UnknownExtension,
};
use openmls_traits::{
    OpenMlsProvider as _,
    signatures::{Signer, SignerError},
    types::SignatureScheme,
};
use tls_codec::{DeserializeBytes as _, Serialize as _};
use zeroize::Zeroizing;

use super::{
    CONTEXT_EXTENSION, KEEP_KEY_EXTENSION, MlsError, Provider, SUITE, blob, provider::Crypto, refusal,
};

/// How much longer, at each end, the written lifetime is than the offered one: 400 days, as long as commits are kept.
pub const GRACE_SECONDS: u64 = 400 * 24 * 60 * 60;

/// What makes a device one leaf of one case: its signing key and its credential.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// The seed of the leaf's Ed25519 signing key.
    pub signer: Secret<32>,
    /// The content of its basic credential, which MLS does not look into.
    pub credential: Vec<u8>,
}

impl Leaf {
    pub(super) fn credential_with_key(&self) -> CredentialWithKey {
        CredentialWithKey {
            credential: BasicCredential::new(self.credential.clone()).into(),
            signature_key: LeafSigner::from(self).public().as_slice().into(),
        }
    }
}

/// A leaf's signing key as OpenMLS wants it.
pub(super) struct LeafSigner(SigningKey);

impl From<&Leaf> for LeafSigner {
    fn from(leaf: &Leaf) -> Self {
        Self(SigningKey::from_bytes(leaf.signer.expose()))
    }
}

impl LeafSigner {
    pub(super) fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }
}

impl Signer for LeafSigner {
    fn sign(&self, payload: &[u8]) -> Result<Vec<u8>, SignerError> {
        use ed25519_dalek::Signer as _;
        Ok(self.0.sign(payload).to_bytes().to_vec())
    }
    fn signature_scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

/// A key package of our own.
#[derive(Clone)]
pub struct Package {
    /// The MLSMessage to publish.
    pub public: Vec<u8>,
    /// Its hash reference, by which a Welcome names it.
    pub reference: [u8; 32],
    /// The private keys, for [`Group::join`](super::Group::join). Keep it sealed, and delete it when used.
    pub private: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Package {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Package(..)")
    }
}

/// Makes a key package, offered from `not_before` to `not_after` (seconds since 1970).
///
/// # Errors
///
/// [`MlsError::Internal`] if OpenMLS fails.
pub fn keypackage(
    seed: Secret<32>,
    leaf: &Leaf,
    keep_key: Option<&[u8]>,
    not_before: u64,
    not_after: u64,
) -> Result<Package, MlsError> {
    let provider = Provider::new(seed);
    let lifetime = Lifetime::init(
        not_before.saturating_sub(GRACE_SECONDS),
        not_after.saturating_add(GRACE_SECONDS),
    );
    let bundle = KeyPackage::builder()
        .key_package_lifetime(lifetime)
        .leaf_node_capabilities(capabilities())
        .leaf_node_extensions(leaf_extensions(keep_key)?)
        .build(
            SUITE,
            &provider,
            &LeafSigner::from(leaf),
            leaf.credential_with_key(),
        )
        .map_err(|_| MlsError::Internal)?;
    let package = bundle.key_package();
    let reference = reference(package, provider.crypto())?;
    let public = MlsMessageOut::from(package.clone())
        .tls_serialize_detached()
        .map_err(|_| MlsError::Internal)?;
    Ok(Package {
        public,
        reference,
        private: blob::pack(&reference, provider.storage())?,
    })
}

/// What a valid key package says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageInfo {
    /// The content of the basic credential: not judged here.
    pub credential: Vec<u8>,
    /// The leaf's Ed25519 public key.
    pub signature_key: [u8; 32],
    /// The X-Wing public key for `keep` tokens, which counsel's leaves have.
    pub keep_key: Option<Vec<u8>>,
    /// The hash reference.
    pub reference: [u8; 32],
    /// The first second of the offer, since 1970.
    pub not_before: u64,
    /// The second since 1970 from which it must not be used any more.
    pub not_after: u64,
}

/// Checks a stranger's key package: both signatures, suite, capabilities, and its lifetime as of `now` (seconds since 1970).
///
/// # Errors
///
/// [`MlsError::Malformed`], [`MlsError::Unsupported`], [`MlsError::PackageExpired`] or
/// [`MlsError::PackageNotYetValid`].
pub fn inspect_package(bytes: &[u8], now: u64) -> Result<PackageInfo, MlsError> {
    let info = describe_package(bytes)?;
    if now >= info.not_after {
        return Err(MlsError::PackageExpired);
    }
    if now < info.not_before {
        return Err(MlsError::PackageNotYetValid);
    }
    Ok(info)
}

/// What a stranger's key package says, its signatures, suite and capabilities checked, its time not.
///
/// # Errors
///
/// [`MlsError::Malformed`] or [`MlsError::Unsupported`].
pub fn describe_package(bytes: &[u8]) -> Result<PackageInfo, MlsError> {
    // Checking a signature draws no randomness.
    let provider = Provider::new(Secret::new([0; 32]));
    describe(&read(bytes, provider.crypto())?, provider.crypto())
}

/// Reads and verifies a key package; its written lifetime is held against the system's clock by OpenMLS.
pub(super) fn read(bytes: &[u8], crypto: &Crypto) -> Result<KeyPackage, MlsError> {
    let message = MlsMessageIn::tls_deserialize_exact_bytes(bytes).map_err(|_| MlsError::Malformed)?;
    let MlsMessageBodyIn::KeyPackage(package) = message.extract() else {
        return Err(MlsError::Malformed);
    };
    let package = package
        .validate(crypto, ProtocolVersion::Mls10)
        .map_err(|why| refusal::package(&why))?;
    let able = package
        .leaf_node()
        .capabilities()
        .extensions()
        .contains(&ExtensionType::Unknown(CONTEXT_EXTENSION));
    if package.ciphersuite() != SUITE || !able {
        return Err(MlsError::Unsupported);
    }
    Ok(package)
}

/// What a verified key package says.
pub(super) fn describe(package: &KeyPackage, crypto: &Crypto) -> Result<PackageInfo, MlsError> {
    let leaf = package.leaf_node();
    // OpenMLS has refused a key package whose leaf has no lifetime.
    let lifetime = package.life_time();
    if leaf.credential().credential_type() != CredentialType::Basic {
        return Err(MlsError::Unsupported);
    }
    Ok(PackageInfo {
        credential: leaf.credential().serialized_content().to_vec(),
        signature_key: leaf
            .signature_key()
            .as_slice()
            .try_into()
            .map_err(|_| MlsError::Malformed)?,
        keep_key: keep_key(leaf),
        reference: reference(package, crypto)?,
        not_before: lifetime.not_before().saturating_add(GRACE_SECONDS),
        not_after: lifetime.not_after().saturating_sub(GRACE_SECONDS),
    })
}

pub(super) fn keep_key(leaf: &LeafNode) -> Option<Vec<u8>> {
    leaf.extensions()
        .unknown(KEEP_KEY_EXTENSION)
        .map(|extension| extension.0.clone())
}

pub(super) fn capabilities() -> Capabilities {
    let extensions = [CONTEXT_EXTENSION, KEEP_KEY_EXTENSION].map(ExtensionType::Unknown);
    Capabilities::new(None, Some(&[SUITE]), Some(&extensions), None, None)
}

pub(super) fn leaf_extensions(keep_key: Option<&[u8]>) -> Result<Extensions<LeafNode>, MlsError> {
    let extension = |key: &[u8]| Extension::Unknown(KEEP_KEY_EXTENSION, UnknownExtension(key.to_vec()));
    Extensions::from_vec(keep_key.map(extension).into_iter().collect()).map_err(|_| MlsError::Internal)
}

fn reference(package: &KeyPackage, crypto: &Crypto) -> Result<[u8; 32], MlsError> {
    let reference = package.hash_ref(crypto).map_err(|_| MlsError::Internal)?;
    reference.as_slice().try_into().map_err(|_| MlsError::Internal)
}
