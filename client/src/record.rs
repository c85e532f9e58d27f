//! What the vault keeps, in postcard. Every record begins its life here and nowhere else.

use martlet_proto::{
    Admission, Cursor, Day, EntryId, Envelope, Head, Keeper, Secret, Seq, Time, Token,
    card::{Inbox, Uses},
    case::Role,
    derive::Keys,
    letter::{Letter, LetterId, Manifest},
    link::RelayAddress,
    secret::sealed,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

pub use crate::view::Standing;
use crate::{
    error::Error,
    view::{InviteState, Warning},
};

/// A record's bytes.
///
/// # Errors
///
/// [`Error::Internal`] if a value cannot be written, which none here is.
pub fn encode<T: Serialize>(record: &T) -> Result<Zeroizing<Vec<u8>>, Error> {
    postcard::to_allocvec(record)
        .map(Zeroizing::new)
        .map_err(|_| Error::Internal("a record cannot be written"))
}

/// The record of these bytes.
///
/// # Errors
///
/// [`Error::VaultDamaged`] if they are not of this kind.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    match postcard::take_from_bytes(bytes) {
        Ok((record, [])) => Ok(record),
        Ok(_) | Err(_) => Err(Error::VaultDamaged("a record")),
    }
}

/// Who owns the vault.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Profile {
    /// The name the owner gives themselves.
    pub name: String,
    /// The seed of the identity key.
    #[serde(with = "sealed")]
    pub identity: Secret<32>,
    /// The seed of this device's leaf key.
    #[serde(with = "sealed")]
    pub leaf: Secret<32>,
    /// The content of this device's credential.
    pub credential: Vec<u8>,
    /// The seed of this device's X-Wing key for keep tokens.
    #[serde(with = "sealed")]
    pub keep_key: Secret<32>,
    /// The relay for one's own invites.
    pub relay: Option<HomeRelay>,
    /// The number of the next case.
    pub next_case: u64,
    /// The number of the next invite.
    pub next_invite: u64,
}

/// A relay on which the owner may open channels.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HomeRelay {
    /// Where it is.
    pub relay: RelayAddress,
    /// The right to open channels.
    pub admission: Admission,
}

/// An invite of one's own, its card and its inbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InviteRecord {
    /// By which `revoke` names it.
    pub id: [u8; 5],
    /// The text that was handed out.
    pub text: String,
    /// What the card's keys are derived from.
    #[serde(with = "sealed")]
    pub seed: Secret<16>,
    /// The card's channel.
    pub card: Keys,
    /// The inbox.
    pub inbox: Keys,
    /// The seed of the X-Wing key that packets are sealed to.
    #[serde(with = "sealed")]
    pub inbox_key: Secret<32>,
    /// Where both are.
    pub home: HomeRelay,
    /// The owner's note.
    pub label: Option<String>,
    /// How often it may be used.
    pub uses: Uses,
    /// The first day on which it is of no use.
    pub expires: Day,
    /// Whether it can be used.
    pub state: InviteState,
    /// The number of the card that is or will be there.
    pub number: u32,
    /// What must still reach the relay.
    pub publish: Publish,
    /// The day of the card that is there.
    pub published: Day,
    /// How far the inbox was read.
    pub cursor: Option<Cursor>,
}

/// What of an invite must still reach the relay.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Publish {
    /// Nothing.
    Done,
    /// This card, into the card's channel, and the inbox must be opened.
    Card {
        /// The entry's name.
        entry: EntryId,
        /// The sealed card.
        envelope: Envelope,
    },
    /// The card's channel and the inbox must be dropped.
    Withdraw,
}

/// The private halves of an invite's key packages. Kept as ratchet state: deleted keys must be gone.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PackageKeys {
    /// Newest first.
    pub packages: Vec<PackageKey>,
}

/// The private half of one key package.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PackageKey {
    /// As the group needs it.
    pub private: Vec<u8>,
    /// When it was made.
    pub made: Day,
}

/// A case, as far as it is not ratchet state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CaseRecord {
    /// Its id: the MLS group's.
    pub id: [u8; 16],
    /// The owner's note.
    pub label: String,
    /// Where it lives.
    pub relay: RelayAddress,
    /// The right to open channels there, if there is one.
    pub admission: Option<Admission>,
    /// Who is in it, in ascending order of identity.
    pub members: Vec<MemberRecord>,
    /// The seed of the rescue channel towards counsel.
    #[serde(with = "sealed")]
    pub rescue_counsel: Secret<32>,
    /// And of the one towards the client.
    #[serde(with = "sealed")]
    pub rescue_client: Secret<32>,
    /// How far this epoch's channel was read.
    pub reading: Reading,
    /// The number of the next letter kept here.
    pub next_letter: u64,
    /// The number of the next item to send.
    pub next_out: u64,
    /// Letters not read yet.
    pub unread: u64,
    /// When the last letter was written or received.
    pub last: Option<Time>,
    /// Letters that came in and of which their senders were not told.
    pub receipts_due: Vec<LetterId>,
    /// Whether this device must commit when it has read to the end.
    pub commit_due: bool,
    /// Whether letters wait for the next epoch, because the channel is in another incarnation.
    pub holding: bool,
    /// Whether this device can go on.
    pub standing: Standing,
    /// What the owner should know.
    pub warnings: Vec<Warning>,
}

/// How far an epoch's channel was read.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Reading {
    /// The next position, and the chain up to it; nothing before the first answer.
    pub at: Option<(Cursor, Head)>,
    /// The chain at earlier positions, to be held against what letters say; the newest last.
    pub heads: Vec<(Seq, Head)>,
}

/// A person in a case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MemberRecord {
    /// Their identity key.
    pub identity: [u8; 32],
    /// The name they give themselves.
    pub name: String,
    /// What they are.
    pub role: Role,
    /// Whether the safety number was compared and matched.
    pub verified: bool,
}

/// A case's ratchet state: sealed under a key that changes with every transaction.
#[derive(Clone, Serialize, Deserialize)]
pub struct CaseKeys {
    /// The MLS group.
    pub group: Vec<u8>,
    /// The right to seal this epoch's channel, on counsel's devices.
    pub keep: Option<Token<Keeper>>,
    /// A commit of one's own that is on its way.
    pub pending: Option<PendingCommit>,
}

/// A commit of one's own: resent with identical bytes until it is seen in the log, or another is.
#[derive(Clone, Serialize, Deserialize)]
pub struct PendingCommit {
    /// Its entry's name.
    pub entry: EntryId,
    /// The sealed commit.
    pub envelope: Envelope,
    /// The right to seal the next epoch's channel.
    pub keep: Token<Keeper>,
}

/// A letter that is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LetterRecord {
    /// The letter as it was written.
    pub letter: Letter,
    /// The identity of its sender.
    pub from: [u8; 32],
    /// When this device received or wrote it.
    pub received: Time,
    /// Whether its owner has read it.
    pub read: bool,
    /// For one's own: whether it still waits.
    pub queued: bool,
    /// The identities from which a receipt came.
    pub delivered_to: Vec<[u8; 32]>,
}

impl LetterRecord {
    /// A letter of the owner's that waits to be sent.
    pub fn own(letter: Letter, from: [u8; 32], written: Time) -> Self {
        Self {
            letter,
            from,
            received: written,
            read: true,
            queued: true,
            delivered_to: Vec::new(),
        }
    }
}

/// Something that waits to be sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum OutRecord {
    /// First contact.
    Contact {
        /// Where it goes.
        inbox: Inbox,
        /// The entry's name.
        entry: EntryId,
        /// The sealed packet.
        envelope: Envelope,
    },
    /// A letter.
    Letter {
        /// As it was written.
        letter: Letter,
        /// As it was last encrypted; sent again with identical bytes while its epoch lasts.
        sealed: Option<SealedLetter>,
    },
}

/// A letter, encrypted for one epoch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SealedLetter {
    /// The epoch.
    pub epoch: u64,
    /// The entry's name.
    pub entry: EntryId,
    /// The sealed letter.
    pub envelope: Envelope,
}

/// A document on its way out: spooled in the vault's folder, its letter follows when it is at the relay.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UploadRecord {
    /// The letter that will carry the manifest.
    pub letter: LetterId,
    /// What the letter will say.
    pub manifest: Manifest,
    /// The right to trim and drop the document.
    pub keep: Token<Keeper>,
    /// When it was given to `send`.
    pub sent: Time,
}
