//! What stands inside a case's MLS group, and what first contact carries. SPEC.md 7.3 and 8.

use serde::{Deserialize, Serialize};

use crate::{Admission, Day, Incarnation, Keeper, Secret, Token, TokenHash, limits, link::RelayAddress};

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
/// What stands before group id, epoch and commit when a [`SignedCommit`] is signed.
pub const COMMIT_SIGNED_AS: &[u8] = b"martlet/1 commit";
/// The label of what the key of recovery digits signs.
pub const RECOVERY_SIGNED_AS: &[u8] = b"martlet/1 recovery";

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

/// A person in a case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// Their identity key (Ed25519).
    pub identity: [u8; 32],
    /// What they are.
    pub role: Role,
    /// The name they give themselves. Unverified.
    pub name: String,
}

/// A relay on which a case lives or may live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Home {
    /// Where it is.
    pub relay: RelayAddress,
    /// The right to open channels there.
    pub admission: Option<Admission>,
}

/// What all members of an epoch agree on: the content of the GroupContext extension, in postcard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseContext {
    /// 1.
    pub version: u8,
    /// Everyone who has a leaf in the group, in ascending order of identity.
    pub people: Vec<Person>,
    /// The leaf signature key of the one device that commits; `None` until counsel's first commit.
    pub committer: Option<[u8; 32]>,
    /// The relay the case lives on, and where to look when it is gone: 1 to 4.
    pub homes: Vec<Home>,
    /// H(keep) of this epoch's channel.
    pub keep: TokenHash,
    /// Days that the client's side keeps letters; `None` for as long as it likes.
    pub client_days: Option<u32>,
    /// Days that counsel's side keeps letters; `None` for as long as it likes.
    pub counsel_days: Option<u32>,
}

impl CaseContext {
    /// The person of an identity, if they are in the case.
    pub fn person(&self, identity: &[u8; 32]) -> Option<&Person> {
        self.people.iter().find(|person| person.identity == *identity)
    }

    /// The role of an identity, if it has one.
    pub fn role(&self, identity: &[u8; 32]) -> Option<Role> {
        self.person(identity).map(|person| person.role)
    }

    /// Whether it is of this version, within the limits, and its people in order and none there twice.
    pub fn is_well_formed(&self) -> bool {
        self.version == 2
            && (1..=limits::HOMES_MAX).contains(&self.homes.len())
            && self.people.len() <= limits::PEOPLE_MAX
            && self
                .people
                .iter()
                .all(|person| person.name.len() <= limits::NAME_BYTES_MAX)
            && self.people.is_sorted_by(|one, next| one.identity < next.identity)
    }
}

/// A commit as it stands in an entry of kind commit, in postcard.
///
/// The signature is counsel's, outside MLS, so that every member can judge who made a commit before trying to apply
/// it: what only some can apply must not be able to come from somebody who may not commit at all. SPEC.md 10.2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedCommit {
    /// The leaf signature key of the device that made it.
    pub leaf: [u8; 32],
    /// The incarnation of the next epoch's channel: its maker opened it before signing.
    pub next: Incarnation,
    /// The MLS commit (MLSMessage).
    pub message: Vec<u8>,
    /// By the leaf key over [`signed`](Self::signed).
    pub signature: Signature,
}

impl SignedCommit {
    /// The bytes that the leaf key signs: label ‖ MLS group id ‖ epoch that ends (u64, big-endian) ‖ incarnation of the
    /// next epoch's channel ‖ MLSMessage.
    pub fn signed(group: &[u8; 16], epoch: u64, next: &Incarnation, message: &[u8]) -> Vec<u8> {
        let epoch = epoch.to_be_bytes();
        [COMMIT_SIGNED_AS, group, &epoch, next.as_bytes(), message].concat()
    }
}

/// The seeds of the two rescue channels between one member and counsel. SPEC.md 10.4.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RescueSeeds {
    /// Of the channel that counsel reads.
    #[serde(with = "crate::secret::sealed")]
    pub to_counsel: Secret<32>,
    /// Of the channel that the member reads.
    #[serde(with = "crate::secret::sealed")]
    pub to_member: Secret<32>,
}

/// What counsel's devices know of a case beyond what every member knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounselSecrets {
    /// The right to seal the epoch's channel.
    pub keep: Token<Keeper>,
    /// The rescue seeds of each member that has some, by identity.
    pub rescues: Vec<([u8; 32], RescueSeeds)>,
}

/// One counsel device's share of a commit's AAD: the next epoch's [`CounselSecrets`], sealed to its keep key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepShare {
    /// The leaf signature key of the device.
    pub device: [u8; 32],
    /// HPKE: encapsulated key ‖ ciphertext of the postcard. `info` is [`KEEP_INFO`] ‖ MLS group id ‖ H(keep).
    pub sealed: Vec<u8>,
}

/// How a person comes into a case: what goes into their inbox, in postcard, padded, sealed by HPKE.
///
/// `info` is [`PACKET_INFO`] ‖ relay pin ‖ inbox channel id ‖ suite (u16, big-endian).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packet {
    /// The MLS Welcome (MLSMessage).
    pub welcome: Vec<u8>,
    /// The right to open channels on the case's relay, passed on.
    pub admission: Option<Admission>,
    /// For whoever is not counsel: how to ask counsel for help.
    pub rescue: Option<RescueSeeds>,
    /// For counsel only.
    pub secrets: Option<CounselSecrets>,
    /// The incarnation of the channel of the epoch that the Welcome leads to; none in first contact.
    pub incarnation: Option<Incarnation>,
}

/// What stands in the entries of rescue channels, in postcard, in an envelope of kind packet. SPEC.md 10.4.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rescue {
    /// To counsel: the sender cannot go on and asks to be taken in again.
    Ask {
        /// A fresh MLS key package (MLSMessage) of the same identity.
        package: Vec<u8>,
        /// The epoch in which the sender was last.
        epoch: u64,
        /// By the key of the sender's recovery digits, over [`signed`](Self::signed).
        proof: Option<Signature>,
    },
    /// To the member: welcome back.
    Answer(Packet),
    /// To counsel: the device with this leaf key goes on by itself after all.
    Withdraw([u8; 32]),
}

impl Rescue {
    /// The bytes that the key of recovery digits signs: label ‖ MLS group id ‖ leaf key of the device that asks.
    pub fn signed(group: &[u8; 16], leaf: &[u8; 32]) -> Vec<u8> {
        [RECOVERY_SIGNED_AS, group, leaf].concat()
    }
}

/// The bytes of HPKE's encapsulated key for X-Wing.
pub const ENCAPSULATED_BYTES: usize = 1120;
