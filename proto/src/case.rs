//! What stands inside a case's MLS group, and what first contact carries. SPEC.md 7.3 and 8.

use serde::{Deserialize, Serialize};

use crate::{Day, Keeper, Secret, Token, TokenHash, link::RelayAddress};

/// The MLS cipher suite of every case: `MLS_256_XWING_CHACHA20POLY1305_SHA256_Ed25519`.
pub const SUITE: u16 = 0x004D;
/// The GroupContext extension that holds a [`CaseContext`].
pub const CONTEXT_EXTENSION: u16 = 0xF0A1;
/// The leaf node extension that holds a counsel device's keep key.
pub const KEEP_KEY_EXTENSION: u16 = 0xF0A2;
/// What stands before leaf key and day when a [`Credential`] is signed.
pub const CREDENTIAL_SIGNED_AS: &[u8] = b"martlet/1 credential";
/// What the HPKE info of a packet begins with.
pub const PACKET_INFO: &[u8] = b"martlet/1 packet";
/// What the HPKE info of a keep share begins with.
pub const KEEP_INFO: &[u8] = b"martlet/1 keep";

/// An Ed25519 signature: 64 bytes on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature([u8; 32], [u8; 32]);

impl Signature {
    /// Takes the bytes as they are.
    pub fn new(bytes: [u8; 64]) -> Self {
        let (mut r, mut s) = ([0; 32], [0; 32]);
        let (first, second) = bytes.split_at(32);
        r.copy_from_slice(first);
        s.copy_from_slice(second);
        Self(r, s)
    }

    /// The bytes.
    pub fn to_bytes(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        let (first, second) = bytes.split_at_mut(32);
        first.copy_from_slice(&self.0);
        second.copy_from_slice(&self.1);
        bytes
    }
}

impl std::fmt::Debug for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signature(..)")
    }
}

/// Whose device a leaf is: the content of its MLS basic credential, in postcard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// The person's identity key (Ed25519).
    pub identity: [u8; 32],
    /// The first day on which the leaf is of no use.
    pub not_after: Day,
    /// By the identity key over [`signed`](Self::signed).
    pub signature: Signature,
}

impl Credential {
    /// The bytes that the identity key signs: label ‖ leaf key ‖ day (u32, big-endian).
    pub fn signed(leaf: &[u8; 32], not_after: Day) -> Vec<u8> {
        [CREDENTIAL_SIGNED_AS, leaf, &not_after.0.to_be_bytes()].concat()
    }
}

/// What a member is in a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// Whose case it is.
    Client,
    /// Who acts for the client.
    Counsel,
    /// Who interprets.
    Interpreter,
    /// Who only reads.
    Observer,
}

/// What all members of an epoch agree on: the content of the GroupContext extension, in postcard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseContext {
    /// 1.
    pub version: u8,
    /// Each person's role, by identity key, in ascending order of the keys.
    pub roles: Vec<([u8; 32], Role)>,
    /// The leaf signature key of the one device that commits; `None` until counsel's first commit.
    pub committer: Option<[u8; 32]>,
    /// The relay the case lives on.
    pub relay: RelayAddress,
    /// H(keep) of this epoch's channel.
    pub keep: TokenHash,
    /// Days that the client's side keeps letters; `None` for as long as it likes.
    pub client_days: Option<u32>,
    /// Days that counsel's side keeps letters; `None` for as long as it likes.
    pub counsel_days: Option<u32>,
}

impl CaseContext {
    /// The role of an identity, if it has one.
    pub fn role(&self, identity: &[u8; 32]) -> Option<Role> {
        self.roles
            .iter()
            .find(|(key, _)| key == identity)
            .map(|(_, role)| *role)
    }
}

/// One counsel device's share of a commit's AAD: the next epoch's keep token, sealed to its keep key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepShare {
    /// The leaf signature key of the device.
    pub device: [u8; 32],
    /// HPKE: encapsulated key ‖ ciphertext. `info` is [`KEEP_INFO`] ‖ MLS group id ‖ H(keep).
    pub sealed: Vec<u8>,
}

/// First contact: what a client puts into counsel's inbox, in postcard, padded, sealed by HPKE.
///
/// `info` is [`PACKET_INFO`] ‖ relay pin ‖ inbox channel id ‖ suite (u16, big-endian).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packet {
    /// The MLS Welcome (MLSMessage).
    pub welcome: Vec<u8>,
    /// What the rescue channels of these two are derived from, towards counsel.
    #[serde(with = "crate::secret::sealed")]
    pub rescue_counsel: Secret<32>,
    /// And towards the client.
    #[serde(with = "crate::secret::sealed")]
    pub rescue_client: Secret<32>,
    /// The keep token of the first epoch's channel.
    pub keep: Token<Keeper>,
    /// The name the client gives themselves. Unverified.
    pub name: String,
}

/// The bytes of HPKE's encapsulated key for X-Wing.
pub const ENCAPSULATED_BYTES: usize = 1120;
