//! A person's identity key, and what it vouches for: cards and the credentials of leaves. SPEC.md 7.2 and 7.4.

use ed25519_dalek::{Signature as Ed25519, Signer, SigningKey, VerifyingKey};
use hkdf::Hkdf;
use martlet_proto::{
    Day, Secret,
    case::{Credential, Signature},
};
use sha2::Sha256;

use crate::error::{Error, Usage};

/// An identity: with its private half on the device where it was made, without it on the person's other devices.
pub struct Identity {
    public: [u8; 32],
    signer: Option<SigningKey>,
}

impl Identity {
    /// The identity of a seed.
    pub fn from_seed(seed: &Secret<32>) -> Self {
        let signer = SigningKey::from_bytes(seed.expose());
        Self {
            public: signer.verifying_key().to_bytes(),
            signer: Some(signer),
        }
    }

    /// The identity of whoever owns a device that has not its key.
    pub fn of_owner(public: [u8; 32]) -> Self {
        Self { public, signer: None }
    }

    /// The public half, by which others know this person.
    pub fn public(&self) -> [u8; 32] {
        self.public
    }

    /// Signs bytes that begin with a label of their own.
    ///
    /// # Errors
    ///
    /// [`Usage::NotThisDevice`] on a device that has not the key.
    pub fn sign(&self, labelled: &[u8]) -> Result<Signature, Error> {
        let signer = self.signer.as_ref().ok_or(Error::Usage(Usage::NotThisDevice))?;
        Ok(Signature::new(signer.sign(labelled).to_bytes()))
    }

    /// Vouches for a leaf's public key.
    ///
    /// # Errors
    ///
    /// As [`sign`](Self::sign).
    pub fn credential(&self, leaf: &[u8; 32], not_after: Day) -> Result<Credential, Error> {
        let signature = self.sign(&Credential::signed(leaf, not_after))?;
        Ok(Credential {
            identity: self.public(),
            not_after,
            signature,
        })
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity(..)")
    }
}

/// Whether `identity` signed these bytes.
pub fn signed_by(identity: &[u8; 32], labelled: &[u8], signature: &Signature) -> bool {
    VerifyingKey::from_bytes(identity)
        .and_then(|key| key.verify_strict(labelled, &Ed25519::from_bytes(&signature.to_bytes())))
        .is_ok()
}

/// The identity behind a leaf, if its credential is well-formed and vouches for this leaf key.
pub fn behind_leaf(credential: &[u8], leaf: &[u8; 32]) -> Option<[u8; 32]> {
    let (credential, rest): (Credential, _) = postcard::take_from_bytes(credential).ok()?;
    let labelled = Credential::signed(leaf, credential.not_after);
    (rest.is_empty() && signed_by(&credential.identity, &labelled, &credential.signature))
        .then_some(credential.identity)
}

/// The public key of a leaf's signer.
pub fn leaf_public(signer: &Secret<32>) -> [u8; 32] {
    SigningKey::from_bytes(signer.expose()).verifying_key().to_bytes()
}

/// Signs labelled bytes with a leaf's key, outside MLS: MLS itself signs nothing that begins so.
pub fn sign_with_leaf(signer: &Secret<32>, labelled: &[u8]) -> Signature {
    Signature::new(SigningKey::from_bytes(signer.expose()).sign(labelled).to_bytes())
}

/// Groups of five digits that stand for some bytes, for people to compare.
pub(crate) fn digits<const GROUPS: usize, const BYTES: usize>(secret: &[u8], label: &str) -> String {
    let mut bytes = [0; BYTES];
    if Hkdf::<Sha256>::new(None, secret)
        .expand(label.as_bytes(), &mut bytes)
        .is_err()
    {
        return String::new();
    }
    let group = |five: &[u8]| {
        let number = five
            .iter()
            .fold(0u64, |number, byte| (number << 8) | u64::from(*byte));
        format!("{:05}", number % 100_000)
    };
    bytes
        .chunks(5)
        .take(GROUPS)
        .map(group)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Six groups of five digits that stand for an identity. SPEC.md 10.5.
pub fn fingerprint(identity: &[u8; 32]) -> String {
    digits::<6, 30>(identity, "martlet/1 fingerprint")
}

/// Twelve groups of five digits that stand for two identities, the same from both sides. SPEC.md 10.5.
pub fn safety_number(one: &[u8; 32], other: &[u8; 32]) -> String {
    let both = if one < other {
        [*one, *other]
    } else {
        [*other, *one]
    };
    digits::<12, 60>(both.as_flattened(), "martlet/1 safety number")
}

/// Two groups of five digits that stand for an epoch. SPEC.md 10.5.
pub fn epoch_code(authenticator: &[u8]) -> String {
    digits::<2, 10>(authenticator, "martlet/1 epoch code")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_vouches_for_one_leaf_only() {
        let identity = Identity::from_seed(&Secret::new([1; 32]));
        let credential = postcard::to_allocvec(&identity.credential(&[7; 32], Day(5)).unwrap()).unwrap();
        assert_eq!(behind_leaf(&credential, &[7; 32]), Some(identity.public()));
        assert_eq!(behind_leaf(&credential, &[8; 32]), None);
        let mut changed = credential.clone();
        changed[0] ^= 1;
        assert_eq!(behind_leaf(&changed, &[7; 32]), None);
    }

    #[test]
    fn both_sides_see_the_same_safety_number() {
        let number = safety_number(&[1; 32], &[2; 32]);
        assert_eq!(number, safety_number(&[2; 32], &[1; 32]));
        assert_ne!(number, safety_number(&[1; 32], &[3; 32]));
        assert_eq!(number.len(), 12 * 6 - 1);
        assert_eq!(fingerprint(&[1; 32]).len(), 6 * 6 - 1);
    }
}
