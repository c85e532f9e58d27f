//! The owner of a vault, with the keys that only this device has.

use martlet_proto::{Day, Secret};

use crate::{
    entropy::Entropy,
    error::Error,
    identity::{self, Identity},
    mls::Leaf,
    record::{HomeRelay, Isolation, Profile, encode},
    sealed,
};

/// Days that a leaf's credential is good for.
const LEAF_DAYS: u32 = 3650;

/// The owner: a profile and what follows from it.
pub struct Me {
    profile: Profile,
    identity: Identity,
    leaf: Leaf,
    leaf_public: [u8; 32],
    keep_public: Vec<u8>,
}

impl Me {
    /// A new person on a new device.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] if a library fails.
    pub fn new(
        name: String,
        relay: Option<HomeRelay>,
        today: Day,
        entropy: &mut Entropy,
    ) -> Result<Self, Error> {
        Self::on_new_device(name, entropy.secret(), relay, today, entropy)
    }

    /// A person whose identity is known, on a new device.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] if a library fails.
    pub fn on_new_device(
        name: String,
        identity: Secret<32>,
        relay: Option<HomeRelay>,
        today: Day,
        entropy: &mut Entropy,
    ) -> Result<Self, Error> {
        let leaf: Secret<32> = entropy.secret();
        let credential = Identity::from_seed(&identity)
            .credential(&identity::leaf_public(&leaf), today.plus(LEAF_DAYS))?;
        Self::from_profile(Profile {
            name,
            identity,
            leaf,
            credential: encode(&credential)?.to_vec(),
            keep_key: entropy.secret(),
            relay,
            next_case: 0,
            next_invite: 0,
            devices: Vec::new(),
            owner: None,
            isolation: Isolation::default(),
            proxy: None,
        })
    }

    /// The person of a stored profile.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] if a library fails.
    pub fn from_profile(profile: Profile) -> Result<Self, Error> {
        let keep_public =
            sealed::public_key(&profile.keep_key).map_err(|_| Error::Internal("a key cannot be made"))?;
        Ok(Self {
            identity: match profile.owner.as_ref().and_then(|owner| owner.identity) {
                Some(owner) => Identity::of_owner(owner),
                None => Identity::from_seed(&profile.identity),
            },
            leaf: Leaf {
                signer: profile.leaf.clone(),
                credential: profile.credential.clone(),
            },
            leaf_public: identity::leaf_public(&profile.leaf),
            keep_public,
            profile,
        })
    }

    /// What the vault keeps of it.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// What the vault keeps of it, to change.
    pub fn profile_mut(&mut self) -> &mut Profile {
        &mut self.profile
    }

    /// Vouches for the leaf of a further device.
    ///
    /// # Errors
    ///
    /// [`Usage::NotThisDevice`](crate::Usage::NotThisDevice) on a device that has not the identity key.
    pub fn vouch(&self, leaf: &[u8; 32], today: Day) -> Result<Vec<u8>, Error> {
        let credential = self.identity.credential(leaf, today.plus(LEAF_DAYS))?;
        Ok(encode(&credential)?.to_vec())
    }

    /// Whether a leaf is a further device of the owner that this device vouched for.
    pub fn has_device(&self, leaf: &[u8; 32]) -> bool {
        self.profile.devices.iter().any(|device| device.leaf == *leaf)
    }

    /// The name the owner gives themselves.
    pub fn name(&self) -> &str {
        &self.profile.name
    }

    /// The identity key.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// This device's leaf.
    pub fn leaf(&self) -> &Leaf {
        &self.leaf
    }

    /// The public key of this device's leaf.
    pub fn leaf_public(&self) -> &[u8; 32] {
        &self.leaf_public
    }

    /// The X-Wing public key to which keep tokens for this device are sealed.
    pub fn keep_public(&self) -> &[u8] {
        &self.keep_public
    }

    /// Its private seed.
    pub fn keep_seed(&self) -> &Secret<32> {
        &self.profile.keep_key
    }
}

impl std::fmt::Debug for Me {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Me(..)")
    }
}
