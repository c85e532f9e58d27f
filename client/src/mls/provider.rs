//! The cryptography under MLS: HPKE with X-Wing or X25519, ChaCha20-Poly1305, SHA-256 and Ed25519, each from its crate.
//!
//! It promises that all randomness comes from the seed it was made with, so that one seed gives one run. It knows two
//! suites: 0x004D, and 0x0003 for the standard's test vectors only. It does not choose between them: the group does.

use std::sync::Mutex;

use chacha20poly1305::{
    ChaCha20Poly1305, KeyInit,
    aead::{Aead, Payload},
};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use hkdf::Hkdf;
use hmac::Mac as _;
use hpke::{
    Deserializable, Kem, OpModeS, Serializable,
    aead::ChaCha20Poly1305 as HpkeAead,
    kdf::HkdfSha256,
    kem::{X25519HkdfSha256, XWing},
};
use martlet_proto::Secret;
use openmls_memory_storage::MemoryStorage;
use openmls_traits::{
    crypto::OpenMlsCrypto,
    random::OpenMlsRand,
    types::{
        AeadType, Ciphersuite, CryptoError, ExporterSecret, HashType, HpkeCiphertext, HpkeConfig,
        HpkeKemType, HpkeKeyPair, KemOutput, SignatureScheme,
    },
};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};
use sha2::{Digest, Sha256};
use shake::{
    Shake256,
    digest::{ExtendableOutput, Update, XofReader},
};
use tls_codec::SecretVLBytes;
use zeroize::{Zeroize as _, Zeroizing};

use super::receive::{check_info, key_pair, open, receive_export};

pub(super) type Outcome<T> = Result<T, CryptoError>;

/// OpenMLS's provider: our cryptography, randomness from a seed, and storage in memory that is wiped when dropped.
#[derive(Debug)]
pub struct Provider {
    crypto: Crypto,
    storage: MemoryStorage,
}

impl Provider {
    /// A provider with nothing stored, whose randomness is all drawn from `seed`. Never use a seed twice.
    pub fn new(seed: Secret<32>) -> Self {
        Self {
            crypto: Crypto::new(&seed),
            storage: MemoryStorage::default(),
        }
    }
}

impl openmls_traits::OpenMlsProvider for Provider {
    type CryptoProvider = Crypto;
    type RandProvider = Crypto;
    type StorageProvider = MemoryStorage;

    fn storage(&self) -> &MemoryStorage {
        &self.storage
    }
    fn crypto(&self) -> &Crypto {
        &self.crypto
    }
    fn rand(&self) -> &Crypto {
        &self.crypto
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        if let Ok(rows) = self.storage.values.get_mut() {
            rows.values_mut().for_each(|row| row.zeroize());
        }
    }
}

/// The cryptography itself, with its source of randomness.
pub struct Crypto(Mutex<ChaCha20Rng>);

impl std::fmt::Debug for Crypto {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Crypto(..)")
    }
}

impl Crypto {
    fn new(seed: &Secret<32>) -> Self {
        Self(Mutex::new(ChaCha20Rng::from_seed(*seed.expose())))
    }

    /// Runs `draw` with the random generator.
    fn with_rng<T>(&self, draw: impl FnOnce(&mut ChaCha20Rng) -> T) -> Outcome<T> {
        let mut rng = self.0.lock().map_err(|_| CryptoError::InsufficientRandomness)?;
        Ok(draw(&mut rng))
    }

    fn seal<K: Kem>(&self, key: &[u8], info: &[u8], aad: &[u8], plain: &[u8]) -> Outcome<HpkeCiphertext> {
        let key = K::PublicKey::from_bytes(key).map_err(|_| CryptoError::SenderSetupError)?;
        check_info(info)?;
        let (encapped, ciphertext) = self
            .with_rng(|rng| {
                hpke::single_shot_seal_with_rng::<HpkeAead, HkdfSha256, K>(
                    &OpModeS::Base,
                    &key,
                    info,
                    plain,
                    aad,
                    rng,
                )
            })?
            .map_err(|_| CryptoError::HpkeEncryptionError)?;
        Ok(HpkeCiphertext {
            kem_output: encapped.to_bytes().to_vec().into(),
            ciphertext: ciphertext.into(),
        })
    }

    fn send_export<K: Kem>(
        &self,
        key: &[u8],
        info: &[u8],
        context: &[u8],
        length: usize,
    ) -> Outcome<(KemOutput, ExporterSecret)> {
        let key = K::PublicKey::from_bytes(key).map_err(|_| CryptoError::SenderSetupError)?;
        check_info(info)?;
        let (encapped, sender) = self
            .with_rng(|rng| {
                hpke::setup_sender_with_rng::<HpkeAead, HkdfSha256, K>(&OpModeS::Base, &key, info, rng)
            })?
            .map_err(|_| CryptoError::SenderSetupError)?;
        let mut secret = vec![0; length];
        sender
            .export(context, &mut secret)
            .map_err(|_| CryptoError::ExporterError)?;
        Ok((encapped.to_bytes().to_vec(), secret.into()))
    }
}

/// OpenMLS's rule for an X-Wing key from a seed of any length: the decapsulation key is `SHAKE256(ikm, 32)`.
///
/// draft-ietf-hpke-pq-03 and mls-rs have other rules. Changing this one would make every stored key package and tree
/// unreadable.
pub fn xwing_decapsulation_key(ikm: &[u8]) -> Secret<32> {
    let mut hash = Shake256::default();
    hash.update(ikm);
    let mut key = Secret::new([0; 32]);
    hash.finalize_xof().read(key.expose_mut());
    key
}

fn check_hash(hash: HashType) -> Outcome<()> {
    if hash == HashType::Sha2_256 {
        Ok(())
    } else {
        Err(CryptoError::UnsupportedHashAlgorithm)
    }
}

fn check_scheme(scheme: SignatureScheme) -> Outcome<()> {
    if scheme == SignatureScheme::ED25519 {
        Ok(())
    } else {
        Err(CryptoError::UnsupportedSignatureScheme)
    }
}

fn cipher(kind: AeadType, key: &[u8]) -> Outcome<ChaCha20Poly1305> {
    if kind != AeadType::ChaCha20Poly1305 {
        return Err(CryptoError::UnsupportedAeadAlgorithm);
    }
    ChaCha20Poly1305::new_from_slice(key).map_err(|_| CryptoError::InvalidLength)
}

/// Calls a function with the KEM that a configuration names.
macro_rules! with_kem {
    ($config:expr, $($call:ident).+ ( $($argument:expr),* )) => {
        match $config.0 {
            HpkeKemType::DhKem25519 => $($call).+::<X25519HkdfSha256>($($argument),*),
            HpkeKemType::XWingKemDraft6 => $($call).+::<XWing>($($argument),*),
            _ => Err(CryptoError::UnsupportedCiphersuite),
        }
    };
}

impl OpenMlsCrypto for Crypto {
    fn supports(&self, suite: Ciphersuite) -> Outcome<()> {
        let known = self.supported_ciphersuites().contains(&suite);
        if known {
            Ok(())
        } else {
            Err(CryptoError::UnsupportedCiphersuite)
        }
    }

    fn supported_ciphersuites(&self) -> Vec<Ciphersuite> {
        vec![
            super::SUITE,
            Ciphersuite::MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519,
        ]
    }

    fn hkdf_extract(&self, hash: HashType, salt: &[u8], ikm: &[u8]) -> Outcome<SecretVLBytes> {
        check_hash(hash)?;
        Ok(Hkdf::<Sha256>::extract(Some(salt), ikm).0.as_slice().into())
    }

    fn hmac(&self, hash: HashType, key: &[u8], message: &[u8]) -> Outcome<SecretVLBytes> {
        check_hash(hash)?;
        let mut mac = <hmac::Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key)
            .map_err(|_| CryptoError::InvalidLength)?;
        hmac::Mac::update(&mut mac, message);
        Ok(mac.finalize().into_bytes().as_slice().into())
    }

    fn hkdf_expand(&self, hash: HashType, prk: &[u8], info: &[u8], length: usize) -> Outcome<SecretVLBytes> {
        check_hash(hash)?;
        let mut okm = vec![0; length];
        Hkdf::<Sha256>::from_prk(prk)
            .map_err(|_| CryptoError::InvalidLength)?
            .expand(info, &mut okm)
            .map_err(|_| CryptoError::HkdfOutputLengthInvalid)?;
        Ok(okm.into())
    }

    fn hash(&self, hash: HashType, data: &[u8]) -> Outcome<Vec<u8>> {
        check_hash(hash)?;
        Ok(Sha256::digest(data).to_vec())
    }

    fn aead_encrypt(
        &self,
        kind: AeadType,
        key: &[u8],
        plain: &[u8],
        nonce: &[u8],
        aad: &[u8],
    ) -> Outcome<Vec<u8>> {
        let nonce = nonce.try_into().map_err(|_| CryptoError::InvalidLength)?;
        cipher(kind, key)?
            .encrypt(nonce, Payload { msg: plain, aad })
            .map_err(|_| CryptoError::CryptoLibraryError)
    }

    fn aead_decrypt(
        &self,
        kind: AeadType,
        key: &[u8],
        sealed: &[u8],
        nonce: &[u8],
        aad: &[u8],
    ) -> Outcome<Vec<u8>> {
        let nonce = nonce.try_into().map_err(|_| CryptoError::InvalidLength)?;
        cipher(kind, key)?
            .decrypt(nonce, Payload { msg: sealed, aad })
            .map_err(|_| CryptoError::AeadDecryptionError)
    }

    fn signature_key_gen(&self, scheme: SignatureScheme) -> Outcome<(Vec<u8>, Vec<u8>)> {
        check_scheme(scheme)?;
        let seed = Zeroizing::new(self.random_array::<32>()?);
        let key = SigningKey::from_bytes(&seed);
        Ok((seed.to_vec(), key.verifying_key().to_bytes().to_vec()))
    }

    fn verify_signature(
        &self,
        scheme: SignatureScheme,
        data: &[u8],
        key: &[u8],
        signature: &[u8],
    ) -> Outcome<()> {
        check_scheme(scheme)?;
        let signature = Signature::from_slice(signature).map_err(|_| CryptoError::InvalidSignature)?;
        VerifyingKey::from_bytes(key.try_into().map_err(|_| CryptoError::InvalidLength)?)
            .map_err(|_| CryptoError::InvalidPublicKey)?
            .verify_strict(data, &signature)
            .map_err(|_| CryptoError::InvalidSignature)
    }

    fn sign(&self, scheme: SignatureScheme, data: &[u8], key: &[u8]) -> Outcome<Vec<u8>> {
        check_scheme(scheme)?;
        let key = SigningKey::from_bytes(key.try_into().map_err(|_| CryptoError::InvalidLength)?);
        Ok(key.sign(data).to_bytes().to_vec())
    }

    fn hpke_seal(
        &self,
        config: HpkeConfig,
        key: &[u8],
        info: &[u8],
        aad: &[u8],
        plain: &[u8],
    ) -> Outcome<HpkeCiphertext> {
        with_kem!(config, self.seal(key, info, aad, plain))
    }

    fn hpke_open(
        &self,
        config: HpkeConfig,
        sealed: &HpkeCiphertext,
        key: &[u8],
        info: &[u8],
        aad: &[u8],
    ) -> Outcome<Vec<u8>> {
        with_kem!(config, open(sealed, key, info, aad))
    }

    fn hpke_setup_sender_and_export(
        &self,
        config: HpkeConfig,
        key: &[u8],
        info: &[u8],
        context: &[u8],
        length: usize,
    ) -> Outcome<(KemOutput, ExporterSecret)> {
        with_kem!(config, self.send_export(key, info, context, length))
    }

    fn hpke_setup_receiver_and_export(
        &self,
        config: HpkeConfig,
        encapped: &[u8],
        key: &[u8],
        info: &[u8],
        context: &[u8],
        length: usize,
    ) -> Outcome<ExporterSecret> {
        with_kem!(config, receive_export(encapped, key, info, context, length))
    }

    fn derive_hpke_keypair(&self, config: HpkeConfig, ikm: &[u8]) -> Outcome<HpkeKeyPair> {
        match config.0 {
            HpkeKemType::DhKem25519 => Ok(key_pair::<X25519HkdfSha256>(
                &X25519HkdfSha256::derive_keypair(ikm).0,
            )),
            HpkeKemType::XWingKemDraft6 => {
                let private = <XWing as Kem>::PrivateKey::from_bytes(xwing_decapsulation_key(ikm).expose())
                    .map_err(|_| CryptoError::CryptoLibraryError)?;
                Ok(key_pair::<XWing>(&private))
            }
            _ => Err(CryptoError::UnsupportedCiphersuite),
        }
    }
}

impl OpenMlsRand for Crypto {
    type Error = CryptoError;

    fn random_array<const N: usize>(&self) -> Outcome<[u8; N]> {
        let mut bytes = [0; N];
        self.with_rng(|rng| rng.fill_bytes(&mut bytes))?;
        Ok(bytes)
    }

    fn random_vec(&self, length: usize) -> Outcome<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.with_rng(|rng| rng.fill_bytes(&mut bytes))?;
        Ok(bytes)
    }
}
