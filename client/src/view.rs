//! What the client shows: plain values without secrets, cleaned of what steers a terminal.

use std::path::PathBuf;

use martlet_proto::{Day, Time, card::Uses, case::Role, letter::LetterId};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{error::Undrawn, kind::Kind};

/// An invite of one's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteView {
    /// The text to hand over, beginning with `martlet:`.
    pub invite: String,
    /// By which `revoke` names it.
    pub id: String,
    /// The owner's note.
    pub label: Option<String>,
    /// How often it may be used.
    pub uses: Uses,
    /// The first day on which it is of no use.
    pub expires: Day,
    /// Whether it can be used.
    pub state: InviteState,
    /// Whether its card still has to reach the relay.
    pub queued: bool,
}

/// Whether an invite can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InviteState {
    /// It can.
    Open,
    /// It was good for one case, which was opened.
    Used,
    /// It was withdrawn.
    Revoked,
}

/// A person as another member sees them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberView {
    /// By which commands name them.
    pub member: String,
    /// The name they give themselves.
    pub name: String,
    /// What they are in the case.
    pub role: Role,
    /// Their identity key, to be compared.
    pub fingerprint: String,
    /// Whether the safety number was compared and matched.
    pub verified: bool,
    /// Whether this is the vault's owner.
    pub me: bool,
}

/// A case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseView {
    /// By which commands name it.
    pub case: String,
    /// The owner's note.
    pub label: String,
    /// Who is in it.
    pub members: Vec<MemberView>,
    /// Letters that were not read yet.
    pub unread: u64,
    /// Letters and documents that wait to be sent.
    pub unsent: u64,
    /// When the last letter was written or received.
    pub last: Option<Time>,
    /// What the owner should know about it.
    pub warnings: Vec<Warning>,
    /// Whether this device can go on in it.
    pub standing: Standing,
    /// The members who ask to be taken in again, on counsel's devices.
    pub asks: Vec<String>,
    /// What they ask with, a request for each device.
    pub requests: Vec<RequestView>,
    /// When counsel's devices were last heard of, on the devices of others.
    pub heard: Option<Time>,
    /// How long its letters are kept.
    pub retention: Retention,
    /// Whether this device deletes nothing of it.
    pub hold: bool,
    /// Whether it never shares a connection with another case.
    pub apart: bool,
}

/// A request to be taken in again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestView {
    /// Who asks.
    pub member: String,
    /// Whether the device that asks is in the case already.
    pub known_device: bool,
    /// Since when this device knows the recovery digits by which the request is proved, if it is.
    pub digits_since: Option<Time>,
    /// When it came in.
    pub received: Time,
}

/// How long letters of a case are kept: days, or for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// By everybody but counsel.
    pub client_days: Option<u32>,
    /// By counsel.
    pub counsel_days: Option<u32>,
}

/// Whether a device can go on in a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// It can.
    Member,
    /// It was removed.
    Removed,
    /// It lost the thread.
    Lost,
    /// The case came out of an archive, which holds nothing to write with.
    Restored,
}

/// Something that should not happen with an honest relay and honest members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Warning {
    /// The relay showed a log that does not fit what it showed before, or what another member saw.
    RelayDiffers,
    /// The channel vanished from the relay and was created anew; letters wait for counsel.
    RelayForgot,
    /// This device cannot follow the case any more; it must be taken in again.
    Lost,
    /// Counsel removed this device.
    Removed,
    /// Nothing came from counsel's devices for three days: the relay may withhold it.
    Silent,
    /// A member asks to be taken in again.
    Asks,
}

/// A letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetterView {
    /// Its name.
    pub id: LetterId,
    /// The member who wrote it.
    pub from: String,
    /// The name they give themselves.
    pub name: String,
    /// What they were in the case.
    pub role: Role,
    /// When its sender says it was written.
    pub sent: Time,
    /// When this device received it (for one's own: when it was written).
    pub received: Time,
    /// What it is.
    pub kind: LetterKind,
    /// Its words, for a text or a notice.
    pub text: Option<String>,
    /// Its document.
    pub file: Option<FileView>,
    /// For one's own letters: whether it still waits to be sent.
    pub queued: bool,
    /// For one's own letters out of an archive: whether it had not been sent when the archive was made.
    pub not_sent: bool,
    /// The members from whom a receipt came.
    pub delivered_to: Vec<String>,
    /// Whether it was written by the vault's owner.
    pub mine: bool,
}

/// What a letter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LetterKind {
    /// Words.
    Text,
    /// A document.
    Document,
    /// Something about the case itself.
    Notice,
    /// The sender wishes to leave.
    Leave,
    /// Something of a later version of the program.
    Unknown(u16),
}

/// A document in a letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileView {
    /// By which `get` names it: the letter's name.
    pub id: LetterId,
    /// A safe file name.
    pub name: String,
    /// The content's size.
    pub size_bytes: u64,
    /// SHA-256 of the content.
    pub sha256: [u8; 32],
    /// Of a working copy: SHA-256 of the original's content.
    pub copy_of: Option<[u8; 32]>,
}

/// Recovery digits that were made.
pub struct Recovery {
    /// The digits, in groups. They are kept nowhere.
    pub digits: Zeroizing<String>,
    /// The cases in which they are of use.
    pub cases: u64,
    /// Whether counsel's devices have yet to be told.
    pub queued: bool,
}

/// A letter that was given to `send`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Its name.
    pub id: LetterId,
    /// What it is.
    pub kind: LetterKind,
    /// Whether it still waits to be sent.
    pub queued: bool,
    /// SHA-256 of a document's content.
    pub sha256: Option<[u8; 32]>,
}

/// What a `sync` did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Synced {
    /// Letters that reached the relay.
    pub sent: u64,
    /// Letters that came in.
    pub received: u64,
    /// Letters that still wait.
    pub queued: u64,
    /// Cases that were opened by others since.
    pub new_cases: u64,
}

/// A document that was fetched and verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Where it is.
    pub path: PathBuf,
    /// SHA-256 of the content.
    pub sha256: [u8; 32],
    /// The content's size.
    pub size_bytes: u64,
    /// What it is by its content.
    pub kind: Kind,
    /// Whether its name says that it is something else.
    pub name_differs: bool,
}

/// A document of which pictures were made.
#[derive(Debug)]
pub struct Pictured {
    /// The folder of the pictures.
    pub folder: PathBuf,
    /// Their files, in the order of the pages.
    pub pictures: Vec<PathBuf>,
    /// Why there are not more, if something went wrong on the way.
    pub undrawn: Option<Undrawn>,
    /// The document, which is kept nowhere: its path is gone.
    pub document: Fetched,
}

/// How far a document has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// Bytes of content done.
    pub done_bytes: u64,
    /// Bytes of content in all.
    pub total_bytes: u64,
}

/// The stages of sending and fetching a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Encrypting it into the vault.
    Sealing,
    /// Sending it to the relay.
    Sending,
    /// Fetching it from the relay.
    Fetching,
}

/// The number that two people compare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Safety {
    /// The member it is about.
    pub member: MemberView,
    /// Twelve groups of five digits: the same on both devices.
    pub number: String,
    /// A short code of the case's present epoch: the same on all devices that have read as far. Empty for a case out of
    /// an archive, which is in no epoch.
    pub epoch_code: String,
    /// Whether it was recorded that it matched.
    pub verified: bool,
}

/// How the client stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Whether every relay in use answered.
    pub online: bool,
    /// By which road: `quic`, `tcp` or `proxy`.
    pub path: Option<String>,
    /// Letters and documents that wait to be sent.
    pub unsent: u64,
    /// Cases.
    pub cases: u64,
    /// Letters that were not read yet.
    pub unread: u64,
    /// Whether the relay's day and this device's differ by more than one.
    pub clock_off: bool,
}

/// What works from here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Relays in use.
    pub relays: u64,
    /// Whether each of them is reached by some road.
    pub reached: bool,
    /// Each road that was tried.
    pub roads: Vec<RoadView>,
    /// Whether somebody answered who does not hold the pinned key.
    pub wrong_pin: bool,
    /// Whether a relay's day and this device's differ by more than one.
    pub clock_off: bool,
}

/// A road to the relays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoadView {
    /// `quic`, `tcp` or `proxy`.
    pub road: String,
    /// Whether it leads to every relay in use.
    pub ok: bool,
}

/// A relay that this person uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayView {
    /// Where it is.
    pub addresses: Vec<String>,
    /// SHA-256 of its key.
    pub pin: [u8; 32],
    /// Whether new invites are made there.
    pub home: bool,
    /// Cases that live there.
    pub cases: u64,
}

/// A device of this person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceView {
    /// By which `device remove` names it.
    pub device: String,
    /// What it calls itself.
    pub name: String,
    /// Whether it is this one.
    pub me: bool,
    /// Cases in which it is.
    pub cases: u64,
}

/// How far a device was linked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Linking {
    /// On a new device: what to scan or type on the other one, beginning with `martlet:`.
    pub request: Option<String>,
    /// Whether the device belongs to the person now and is in all their cases, as far as this device knows.
    pub linked: bool,
}

/// What came of asking to be taken in again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Cases in which this device asks.
    pub asked: u64,
    /// Whether some of it still waits to be sent.
    pub queued: bool,
}

/// Something that happened while following.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Event {
    /// A letter came in.
    Letter {
        /// Its case.
        case: String,
        /// The letter.
        letter: LetterView,
    },
    /// A letter of one's own reached the relay.
    Sent {
        /// Its case.
        case: String,
        /// The letter.
        id: LetterId,
    },
    /// A member's device has stored a letter of one's own.
    Delivered {
        /// Its case.
        case: String,
        /// The letter.
        id: LetterId,
        /// The member.
        to: String,
    },
    /// Somebody opened a case.
    Case {
        /// The case.
        case: CaseView,
    },
    /// A member asks to be taken in again: let them, once you are sure who asks.
    Asks {
        /// The case.
        case: String,
        /// The member.
        member: String,
    },
    /// This device was taken in again.
    Returned {
        /// The case.
        case: String,
    },
    /// The relay was reached.
    Online,
    /// The relay is out of reach; the client keeps trying.
    Offline,
    /// Something that should not happen.
    Warning {
        /// The case.
        case: String,
        /// What.
        warning: Warning,
    },
}

/// The id of a case is 16 bytes; people write it as 26 letters and digits, or as many of the first as are unique.
pub fn name_of(id: &[u8; 16]) -> String {
    data_encoding::BASE32_NOPAD.encode(id).to_lowercase()
}
