//! Sealing to a public key: HPKE (RFC 9180) base mode, X-Wing, HKDF-SHA256, ChaCha20-Poly1305. SPEC.md 7.5 and 7.6.
//!
//! Output and input are the encapsulated key (1,120 bytes) followed by the ciphertext; the associated data is empty.

use hpke::{
    Deserializable, Kem, OpModeR, OpModeS, Serializable, aead::ChaCha20Poly1305, kdf::HkdfSha256, kem::XWing,
};
use martlet_proto::{Secret, case::ENCAPSULATED_BYTES};
use zeroize::Zeroizing;

use crate::entropy::Entropy;

/// It does not open, or the key is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not sealed to this key")]
pub struct NotSealedToUs;

/// The X-Wing public key (1,216 bytes) of a private seed.
///
/// # Errors
///
/// None in practice: every 32 bytes are a seed.
pub fn public_key(seed: &Secret<32>) -> Result<Vec<u8>, NotSealedToUs> {
    let private = <XWing as Kem>::PrivateKey::from_bytes(seed.expose()).map_err(|_| NotSealedToUs)?;
    Ok(XWing::sk_to_pk(&private).to_bytes().to_vec())
}

/// Seals `plain` to a public key.
///
/// # Errors
///
/// [`NotSealedToUs`] if the public key is malformed.
pub fn seal(
    public: &[u8],
    info: &[u8],
    plain: &[u8],
    entropy: &mut Entropy,
) -> Result<Vec<u8>, NotSealedToUs> {
    let public = <XWing as Kem>::PublicKey::from_bytes(public).map_err(|_| NotSealedToUs)?;
    let (key, sealed) = hpke::single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, XWing>(
        &OpModeS::Base,
        &public,
        info,
        plain,
        &[],
        entropy.rng(),
    )
    .map_err(|_| NotSealedToUs)?;
    let mut out = key.to_bytes().to_vec();
    out.extend_from_slice(&sealed);
    Ok(out)
}

/// Opens what [`seal`] made.
///
/// # Errors
///
/// [`NotSealedToUs`] if key, info or a single bit differs.
pub fn open(seed: &Secret<32>, info: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, NotSealedToUs> {
    let private = <XWing as Kem>::PrivateKey::from_bytes(seed.expose()).map_err(|_| NotSealedToUs)?;
    let (key, sealed) = sealed.split_at_checked(ENCAPSULATED_BYTES).ok_or(NotSealedToUs)?;
    let key = <XWing as Kem>::EncappedKey::from_bytes(key).map_err(|_| NotSealedToUs)?;
    hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, XWing>(
        &OpModeR::Base,
        &private,
        &key,
        info,
        sealed,
        &[],
    )
    .map(Zeroizing::new)
    .map_err(|_| NotSealedToUs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_and_the_info_it_was_sealed_for_open_it() {
        let mut entropy = Entropy::from_seed(&Secret::new([1; 32]));
        let seed = Secret::new([2; 32]);
        let sealed = seal(&public_key(&seed).unwrap(), b"here", b"words", &mut entropy).unwrap();
        assert_eq!(sealed.len(), ENCAPSULATED_BYTES + 5 + 16);
        assert_eq!(open(&seed, b"here", &sealed).unwrap().as_slice(), b"words");
        assert!(open(&seed, b"there", &sealed).is_err());
        assert!(open(&Secret::new([3; 32]), b"here", &sealed).is_err());
        assert!(open(&seed, b"here", &sealed[..100]).is_err());
    }
}
