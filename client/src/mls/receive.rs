//! The receiving half of HPKE, which draws no randomness.

use hpke::{Deserializable, Kem, OpModeR, Serializable, aead::ChaCha20Poly1305 as HpkeAead, kdf::HkdfSha256};
use openmls_traits::types::{CryptoError, ExporterSecret, HpkeCiphertext, HpkeKeyPair};

use super::provider::Outcome;

/// The longest HPKE `info` for which the `hpke` crate does not panic is `2^16 - 6`. The update paths and Welcomes of a
/// large group reach it, so it is refused here.
const INFO_BYTES_MAX: usize = 65_000;

pub(super) fn open<K: Kem>(sealed: &HpkeCiphertext, key: &[u8], info: &[u8], aad: &[u8]) -> Outcome<Vec<u8>> {
    let key = K::PrivateKey::from_bytes(key).map_err(|_| CryptoError::ReceiverSetupError)?;
    let encapped = K::EncappedKey::from_bytes(sealed.kem_output.as_slice())
        .map_err(|_| CryptoError::ReceiverSetupError)?;
    check_info(info)?;
    hpke::single_shot_open::<HpkeAead, HkdfSha256, K>(
        &OpModeR::Base,
        &key,
        &encapped,
        info,
        sealed.ciphertext.as_slice(),
        aad,
    )
    .map_err(|_| CryptoError::HpkeDecryptionError)
}

pub(super) fn receive_export<K: Kem>(
    encapped: &[u8],
    key: &[u8],
    info: &[u8],
    context: &[u8],
    length: usize,
) -> Outcome<ExporterSecret> {
    let key = K::PrivateKey::from_bytes(key).map_err(|_| CryptoError::ReceiverSetupError)?;
    let encapped = K::EncappedKey::from_bytes(encapped).map_err(|_| CryptoError::ReceiverSetupError)?;
    check_info(info)?;
    let receiver = hpke::setup_receiver::<HpkeAead, HkdfSha256, K>(&OpModeR::Base, &key, &encapped, info)
        .map_err(|_| CryptoError::ReceiverSetupError)?;
    let mut secret = vec![0; length];
    receiver
        .export(context, &mut secret)
        .map_err(|_| CryptoError::ExporterError)?;
    Ok(secret.into())
}

pub(super) fn key_pair<K: Kem>(private: &K::PrivateKey) -> HpkeKeyPair {
    HpkeKeyPair {
        private: private.to_bytes().to_vec().into(),
        public: K::sk_to_pk(private).to_bytes().to_vec(),
    }
}

pub(super) fn check_info(info: &[u8]) -> Outcome<()> {
    if info.len() <= INFO_BYTES_MAX {
        Ok(())
    } else {
        Err(CryptoError::InvalidLength)
    }
}
