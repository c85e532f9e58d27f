//! What can go wrong for a person using the client, sorted by who must act.

use martlet_proto::{Refusal, link::ArmorError};

/// Any failure of the client's public API.
///
/// [`code`](Self::code) is stable for programs, [`class`](Self::class) for exit codes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller asked for something that makes no sense.
    #[error("{0}")]
    Usage(Usage),
    /// An invite or relay link cannot be read.
    #[error("the invite or link cannot be read: {0}")]
    Link(#[from] ArmorError),
    /// There is no vault in this folder yet.
    #[error("there is no vault here")]
    NoVault,
    /// There is a vault already.
    #[error("there is a vault here already")]
    VaultExists,
    /// Another program is using the vault.
    #[error("the vault is in use by another program")]
    VaultBusy,
    /// The passphrase does not open the vault.
    #[error("the passphrase does not open the vault")]
    Passphrase,
    /// The vault's files are not what this program wrote.
    #[error("the vault is damaged: {0}")]
    VaultDamaged(&'static str),
    /// The vault's files are an older copy of themselves.
    #[error("the vault is an older copy of itself")]
    VaultRolledBack,
    /// An archive's passphrase does not open it.
    #[error("the passphrase does not open the archive")]
    ArchivePassphrase,
    /// A file is no archive, or not as it was written.
    #[error("this is no whole archive: {0}")]
    ArchiveDamaged(&'static str),
    /// Something has this name already.
    #[error("there is a file of this name already")]
    FileExists,
    /// There is no room on this device.
    #[error("the disk is full")]
    DiskFull,
    /// A file or folder of this device failed.
    #[error("a file cannot be used: {0}")]
    File(#[source] std::io::Error),
    /// The relay cannot be reached.
    #[error("the relay cannot be reached")]
    Unreachable,
    /// Something is not what it was pinned or signed to be.
    #[error("{0}")]
    Verification(Mismatch),
    /// There is no such case, letter, member, document or invite, or it has expired.
    #[error("{0}")]
    NotFound(Missing),
    /// The relay refused.
    #[error("the relay refused: {0}")]
    Refused(#[from] Refusal),
    /// The relay, or what a peer sent, breaks the protocol.
    #[error("the relay or a peer breaks the protocol: {0}")]
    Protocol(&'static str),
    /// A document cannot be made pictures of.
    #[error("{0}")]
    Undrawn(Undrawn),
    /// Part of it is done; doing it again goes on.
    #[error("interrupted; running it again goes on from here")]
    Partly,
    /// A bug in this program.
    #[error("internal error: {0}")]
    Internal(&'static str),
}

/// What a caller can get wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Usage {
    /// A text is longer than a letter can carry.
    #[error("the text is longer than 60,000 bytes; send it as a file")]
    TextTooLong,
    /// A text is empty.
    #[error("the text is empty")]
    TextEmpty,
    /// A name or label is too long.
    #[error("the name or label is longer than 200 bytes")]
    NameTooLong,
    /// A document is larger than can be sent.
    #[error("the document is larger than 16 GiB")]
    DocumentTooLarge,
    /// What should be sent is no regular file.
    #[error("this is not a regular file")]
    NotAFile,
    /// An invite needs a relay.
    #[error("no relay is known to this vault")]
    NoRelay,
    /// The number of days is out of bounds.
    #[error("the number of days must be from 1 to 365")]
    Days,
    /// The reference fits more than one.
    #[error("this fits more than one; write more of it")]
    Ambiguous,
    /// One cannot open a case with oneself.
    #[error("this invite is your own")]
    OwnInvite,
    /// The case can no longer be written to.
    #[error("this case can no longer be written to")]
    CaseEnded,
    /// Only counsel may do this.
    #[error("only counsel can do this in a case")]
    NotCounsel,
    /// Another of counsel's devices leads the case.
    #[error("another of counsel's devices leads this case")]
    NotCommitter,
    /// Who is to be added is in the case.
    #[error("they are in this case already")]
    AlreadyMember,
    /// Who is to be added has their inbox elsewhere.
    #[error("their invite is on another relay than this case")]
    OtherRelay,
    /// A case holds no more people or devices.
    #[error("a case holds no more people or devices")]
    TooManyMembers,
    /// A case names no more relays.
    #[error("a case names no more than 4 relays")]
    TooManyRelays,
    /// One cannot remove oneself, nor leave while leading the case.
    #[error("this cannot be done to oneself")]
    Yourself,
    /// The identity key is on another device.
    #[error("this is done on the device that has your identity key")]
    NotThisDevice,
    /// A vault in use cannot become another person's device.
    #[error("this vault has cases or invites of its own already")]
    InUse,
    /// These are no recovery digits, or there is a slip in them.
    #[error("these are not the recovery digits as they were shown")]
    RecoveryDigits,
    /// Nobody could answer.
    #[error("this case knows nobody who could take this device in again")]
    NoRescue,
    /// The group does not allow it.
    #[error("the change cannot be made in this case")]
    Change,
    /// The case came out of an archive.
    #[error("this case came out of an archive: it can be read, but nothing can be sent in it")]
    CaseRestored,
}

/// What can fail to verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Mismatch {
    /// Whoever answers at the relay's address does not hold the pinned key.
    #[error("the relay's key is not the one pinned; nothing was sent")]
    Pin,
    /// The card is not the one the invite commits to.
    #[error("the card's hash is not the one in the invite; nothing was sent")]
    CardHash,
    /// The card is not signed by the identity it names.
    #[error("the card's signature is wrong; nothing was sent")]
    CardSignature,
    /// A key package in the card is not of the card's identity.
    #[error("a key package in the card belongs to somebody else; nothing was sent")]
    CardPackage,
    /// A document's content is not what its letter says.
    #[error("the document is not what its letter says it is")]
    Document,
}

/// Why a document was not drawn to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Undrawn {
    /// It is neither a PDF nor an image of a kind that is drawn.
    #[error("only PDF, JPEG, PNG, WebP, GIF and TIFF can be made pictures of")]
    Kind,
    /// It is larger than 256 MiB, has more pages than 2,000, or takes more memory than it may.
    #[error("the document is too large to be made pictures of")]
    TooLarge,
    /// It is damaged, or locked by a password.
    #[error("the document is damaged, or locked by a password")]
    Damaged,
    /// It took longer than it may.
    #[error("making pictures of the document took too long and was stopped")]
    TooSlow,
    /// The child died, or did what it may not.
    #[error("the document broke the program that makes pictures of it; it may have been made to do harm")]
    Broke,
    /// This system does not keep the child from files and networks.
    #[error("this system cannot lock up the program that makes pictures, so it was not begun")]
    NotConfined,
}

/// What can be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Missing {
    /// No such case.
    #[error("there is no such case")]
    Case,
    /// No such member of the case.
    #[error("there is no such member in the case")]
    Member,
    /// The right to open channels on a relay is not known here.
    #[error("this device does not know the right to open channels on that relay")]
    Admission,
    /// No such device.
    #[error("there is no such device")]
    Device,
    /// The member asked for nothing.
    #[error("this member does not ask to be taken in again")]
    Ask,
    /// No such document in the case.
    #[error("there is no such document in the case")]
    Document,
    /// No such invite.
    #[error("there is no such invite")]
    Invite,
    /// The relay no longer holds the document.
    #[error("the relay no longer holds the document")]
    Expired,
    /// The invite has expired or was withdrawn.
    #[error("the invite has expired or was withdrawn")]
    InviteExpired,
}

/// Sorts failures by what a person can do; `martlet`'s exit codes follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// Exit code 1.
    Other,
    /// Exit code 2.
    Usage,
    /// Exit code 3.
    Network,
    /// Exit code 4.
    Locked,
    /// Exit code 5.
    Verification,
    /// Exit code 6.
    NotFound,
    /// Exit code 7.
    Partly,
    /// Exit code 8.
    Refused,
}

impl Error {
    /// A stable name in kebab case.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Usage(Usage::CaseRestored) => "case-restored",
            Self::Usage(_) => "usage",
            Self::Link(_) => "bad-link",
            Self::NoVault => "no-vault",
            Self::VaultExists => "vault-exists",
            Self::VaultBusy => "vault-busy",
            Self::Passphrase => "wrong-passphrase",
            Self::VaultDamaged(_) => "vault-damaged",
            Self::VaultRolledBack => "vault-rolled-back",
            Self::ArchivePassphrase => "wrong-passphrase",
            Self::ArchiveDamaged(_) => "archive-damaged",
            Self::FileExists => "file-exists",
            Self::DiskFull => "disk-full",
            Self::File(_) => "file",
            Self::Unreachable => "unreachable",
            Self::Verification(Mismatch::Pin) => "wrong-pin",
            Self::Verification(Mismatch::CardHash) => "wrong-card-hash",
            Self::Verification(Mismatch::CardSignature) => "wrong-card-signature",
            Self::Verification(Mismatch::CardPackage) => "wrong-card-package",
            Self::Verification(Mismatch::Document) => "wrong-document",
            Self::NotFound(Missing::Expired) => "expired",
            Self::NotFound(Missing::InviteExpired) => "invite-expired",
            Self::NotFound(_) => "not-found",
            Self::Refused(_) => "refused",
            Self::Protocol(_) => "protocol",
            Self::Undrawn(_) => "not-drawn",
            Self::Partly => "partly",
            Self::Internal(_) => "internal",
        }
    }

    /// Who must act.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Usage(_) | Self::Link(_) => ErrorClass::Usage,
            Self::Unreachable => ErrorClass::Network,
            Self::Passphrase | Self::ArchivePassphrase => ErrorClass::Locked,
            Self::Verification(_) => ErrorClass::Verification,
            Self::NotFound(_) => ErrorClass::NotFound,
            Self::Partly => ErrorClass::Partly,
            Self::Refused(_) => ErrorClass::Refused,
            Self::NoVault
            | Self::VaultExists
            | Self::VaultBusy
            | Self::VaultDamaged(_)
            | Self::VaultRolledBack
            | Self::ArchiveDamaged(_)
            | Self::FileExists
            | Self::DiskFull
            | Self::File(_)
            | Self::Protocol(_)
            | Self::Undrawn(_)
            | Self::Internal(_) => ErrorClass::Other,
        }
    }
}
