//! What the vault keeps, in postcard. Every record begins its life here and nowhere else.

use martlet_proto::{
    Admission, Cursor, Day, EntryId, Envelope, Head, Incarnation, Keeper, Secret, Seq, Time, Token,
    card::{Inbox, Mailbox, Uses},
    case::{Home, Person, RescueSeeds, Role, Signature},
    derive::Keys,
    letter::{Letter, LetterId, Manifest},
    link::{Address, RelayAddress},
    secret::sealed,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

pub use crate::view::Standing;
use crate::{
    case::drawer::Drawers,
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
    /// Further devices of this person, on the device that has the identity key.
    pub devices: Vec<DeviceRecord>,
    /// Whose device this is, or wishes to be, if it has no identity key of its own.
    pub owner: Option<OwnerRecord>,
    /// Which cases share a connection.
    pub isolation: Isolation,
    /// The SOCKS5 proxy through which all relays are reached, if it is to be so.
    pub proxy: Option<Address>,
}

/// Which cases share a connection to a relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Isolation {
    /// All that are not apart.
    #[default]
    Shared,
    /// None: each case has a connection of its own.
    Case,
}

/// A further device of this person.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeviceRecord {
    /// Its leaf key.
    pub leaf: [u8; 32],
    /// What it calls itself.
    pub name: String,
    /// What the mailboxes are derived from.
    #[serde(with = "sealed")]
    pub seed: Secret<16>,
    /// Where they are.
    pub home: HomeRelay,
    /// Its X-Wing key, once it has offered a package.
    pub keep_key: Vec<u8>,
    /// Key packages that it offered and that are not used yet, oldest first.
    pub packages: Vec<Vec<u8>>,
    /// How far its mailbox was read.
    pub cursor: Option<Cursor>,
    /// What still has to go to it.
    pub outgoing: Vec<SealedItem>,
    /// What it is still to be told of what was written before it joined, if its owner said so.
    pub history: Option<HistoryRecord>,
}

/// How far a new device was told what was written before it joined.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryRecord {
    /// The cases that are left.
    pub cases: Vec<[u8; 16]>,
    /// The place of the next letter in the first of them that the device is in.
    pub next: u64,
}

/// What a device knows of whose it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OwnerRecord {
    /// The identity key of the person, once their device has vouched for this one.
    pub identity: Option<[u8; 32]>,
    /// What the mailboxes are derived from.
    #[serde(with = "sealed")]
    pub seed: Secret<16>,
    /// Where they are.
    pub home: HomeRelay,
    /// How far the answers were read.
    pub cursor: Option<Cursor>,
    /// What still has to go to the device that vouches.
    pub outgoing: Vec<SealedItem>,
    /// Key packages offered so far, and cases joined.
    pub offered: u32,
    /// Cases joined.
    pub joined: u32,
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
    /// Whether it and the case that it brings never share a connection.
    pub apart: bool,
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
    /// Whether it never shares a connection with another case.
    pub apart: bool,
    /// How this member asks counsel for help; counsel's own devices have none.
    pub rescue: Option<RescueSeeds>,
    /// On counsel's devices: where others ask.
    pub rescues: Vec<RescueRecord>,
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
    /// Since when letters wait for the next epoch, because the channel is in another incarnation.
    pub held_since: Option<Time>,
    /// Further devices of this person that were proposed to this case, by leaf key.
    pub proposed: Vec<[u8; 32]>,
    /// Leaf keys that were taken out of the case, the newest last: nobody comes back by asking with one of these.
    pub barred: Vec<[u8; 32]>,
    /// What the next commit of this device is to change.
    pub wishes: Vec<Wish>,
    /// Who asked counsel to be taken in again.
    pub asks: Vec<Ask>,
    /// This device's own asking.
    pub asking: Option<Asking>,
    /// When this device's last commit took effect.
    pub committed: Option<Time>,
    /// When this device's keys in the case were last made anew.
    pub refreshed: Time,
    /// When counsel's devices were last heard of.
    pub heard: Option<Time>,
    /// The day of this device's last beat.
    pub beat: Option<Day>,
    /// Whether this device can go on.
    pub standing: Standing,
    /// What the owner should know.
    pub warnings: Vec<Warning>,
    /// Whether deletion is stopped on this device.
    pub hold: bool,
}

impl CaseRecord {
    /// A case with nobody in it yet.
    pub fn new(id: [u8; 16], label: String, relay: RelayAddress, admission: Option<Admission>) -> Self {
        Self {
            id,
            label,
            relay,
            admission,
            members: Vec::new(),
            apart: false,
            rescue: None,
            rescues: Vec::new(),
            reading: Reading::default(),
            next_letter: 0,
            next_out: 0,
            unread: 0,
            last: None,
            receipts_due: Vec::new(),
            commit_due: false,
            held_since: None,
            proposed: Vec::new(),
            barred: Vec::new(),
            wishes: Vec::new(),
            asks: Vec::new(),
            asking: None,
            committed: None,
            refreshed: Time::from_secs(0),
            heard: None,
            beat: None,
            standing: Standing::Member,
            warnings: Vec::new(),
            hold: false,
        }
    }
}

/// Where a member asks counsel for help, as counsel sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RescueRecord {
    /// The member.
    pub identity: [u8; 32],
    /// The seeds of both channels.
    pub seeds: RescueSeeds,
    /// How far the one towards counsel was read.
    pub cursor: Option<Cursor>,
}

/// A change of a case that waits for this device's next commit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Wish {
    /// Add somebody with all their devices.
    Add {
        /// Who.
        person: Person,
        /// Their devices' key packages.
        packages: Vec<Vec<u8>>,
        /// Where the Welcome goes.
        inbox: Inbox,
    },
    /// Remove somebody with all their devices.
    Remove {
        /// Who.
        identity: [u8; 32],
    },
    /// Give a device fresh keys: it is removed and added in one commit.
    Refresh {
        /// Its leaf key, before and after.
        leaf: [u8; 32],
        /// The fresh key package.
        package: Vec<u8>,
    },
    /// Take somebody in again who lost the thread, or a device.
    Readmit {
        /// Who.
        identity: [u8; 32],
        /// The fresh key package.
        package: Vec<u8>,
    },
    /// Add a further device of somebody who is in the case.
    Device {
        /// Who.
        identity: [u8; 32],
        /// The device's key package.
        package: Vec<u8>,
    },
    /// Remove a device of somebody who is in the case.
    WithoutDevice {
        /// Its leaf key.
        leaf: [u8; 32],
    },
    /// Live on another relay from now on.
    Move {
        /// The relay.
        home: Home,
    },
    /// Name a relay where to look when the present one is gone.
    Fallback {
        /// The relay.
        home: Home,
    },
    /// Become the committer in place of another of counsel's devices.
    TakeOver,
    /// Change how long letters are kept on the side of this role.
    Retain {
        /// Client or counsel.
        side: Role,
        /// Days; `None` for as long as that side likes.
        days: Option<u32>,
    },
}

/// Somebody's request to be taken in again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ask {
    /// Who asks.
    pub identity: [u8; 32],
    /// The leaf key of the device that asks.
    pub leaf: [u8; 32],
    /// Their fresh key package.
    pub package: Vec<u8>,
    /// When it came in.
    pub received: Time,
    /// Since when this device knows the recovery digits by which the request is proved, if it is.
    pub proved: Option<Time>,
}

/// This device's own request to be taken in again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Asking {
    /// Its entry's name.
    pub entry: EntryId,
    /// The sealed request.
    pub envelope: Envelope,
    /// The proof in it, by recovery digits, if there is one.
    pub proof: Option<Signature>,
    /// When it was made: its key package is offered from then on.
    pub made: Time,
    /// When it last reached the relay, where its channel may expire before anybody reads it.
    pub placed: Option<Time>,
    /// Whether the owner wished it: then it stands until it is answered.
    pub by_owner: bool,
    /// Takes it back, once this device goes on by itself.
    pub withdraw: Option<SealedItem>,
    /// How far the answers were read.
    pub cursor: Option<Cursor>,
}

/// How far an epoch's channel was read.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Reading {
    /// The incarnation that the commit or the packet named which led here.
    pub named: Option<Incarnation>,
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
    /// Whether they are in the case now. Who left stays known by name.
    pub present: bool,
    /// On counsel's devices: the public key of their recovery digits, and when it came.
    pub recovery: Option<([u8; 32], Time)>,
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
    /// The private halves of the key packages that were offered for a refresh or in asking for help and were not used,
    /// newest first.
    pub packages: Vec<Vec<u8>>,
    /// The keys under which letters are stored: a letter is deleted by deleting its drawer's.
    pub drawers: Drawers,
}

/// A commit of one's own: resent with identical bytes until it is seen in the log, or another is.
#[derive(Clone, Serialize, Deserialize)]
pub struct PendingCommit {
    /// The entries that are sealed in together: the commit, and the Welcome for those who are in the case already.
    pub items: Vec<SealedItem>,
    /// The right to seal the next epoch's channel.
    pub keep: Token<Keeper>,
    /// The incarnation of that channel.
    pub next: Incarnation,
    /// The rescue channels of the next epoch's members.
    pub rescues: Vec<RescueRecord>,
    /// What goes out once the commit is in the log.
    pub packets: Vec<(Mailbox, SealedItem)>,
    /// How many wishes, from the first on, it fulfils.
    pub wishes: usize,
}

/// An entry as it goes to the relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedItem {
    /// The entry's name.
    pub entry: EntryId,
    /// The sealed content.
    pub envelope: Envelope,
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
    /// The leaf keys of the devices from which a receipt came.
    pub confirmed_by: Vec<[u8; 32]>,
    /// For one's own: the identities to which it was written.
    pub to: Vec<[u8; 32]>,
    /// For one's own: when it last reached the relay.
    pub placed: Option<Time>,
}

impl LetterRecord {
    /// A letter of the owner's that waits to be sent.
    pub fn own(letter: Letter, from: [u8; 32], to: Vec<[u8; 32]>, written: Time) -> Self {
        Self {
            letter,
            from,
            received: written,
            read: true,
            queued: true,
            delivered_to: Vec::new(),
            confirmed_by: Vec::new(),
            to,
            placed: None,
        }
    }
}

/// Something that waits to be sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum OutRecord {
    /// A packet that brings somebody into the case.
    Packet {
        /// Where it goes.
        to: Mailbox,
        /// The sealed packet.
        sealed: SealedItem,
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
    /// The sealed letter.
    pub item: SealedItem,
}

/// A change of a case, noted among its letters as a letter of kind [`NOTICE_KIND`](martlet_proto::letter::NOTICE_KIND).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// Somebody was added.
    Added {
        /// Their identity key.
        identity: [u8; 32],
        /// Their role.
        role: Role,
    },
    /// Somebody was removed, or left.
    Removed {
        /// Their identity key.
        identity: [u8; 32],
    },
    /// Somebody was taken in again, as a new device.
    Returned {
        /// Their identity key.
        identity: [u8; 32],
    },
    /// Somebody reads and writes on this many devices from now on.
    Devices {
        /// Their identity key.
        identity: [u8; 32],
        /// How many.
        count: u32,
    },
    /// Another of counsel's devices commits from now on.
    Committer {
        /// The identity key of its owner.
        identity: [u8; 32],
    },
    /// The case lives on another relay.
    Moved,
    /// How long letters are kept was changed.
    Retention {
        /// Days on the client's side.
        client_days: Option<u32>,
        /// Days on counsel's side.
        counsel_days: Option<u32>,
    },
}

/// A document on its way out: spooled in the vault's folder, its letter follows when it is at the relay.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UploadRecord {
    /// The letter that will carry the manifest.
    pub letter: LetterId,
    /// What the letter will say.
    pub manifest: Manifest,
    /// SHA-256 of the original's content, of a working copy.
    pub copy_of: Option<[u8; 32]>,
    /// The right to trim and drop the document.
    pub keep: Token<Keeper>,
    /// When it was given to `send`.
    pub sent: Time,
}
