//! The archive: what a person keeps of their cases when the device is lost. Pure, but for the reader and writer given.
//!
//! On disk an archive is a file of the age format under a passphrase ([`martlet_proto::age`]). What it encrypts is
//!
//! ```text
//! version u8 = 2 ‖ record*
//! record = length u32, big-endian ‖ postcard (SPEC.md 1.2)
//! ```
//!
//! The first record is an [`Owner`], each that follows an [`Item`]: a case, then the letters of that case in the order
//! in which they came, then the next case. The end of the file is the end of the archive: the encryption notices a cut.
//! A field more, or another order, is another version.
//!
//! It never holds what would let a device go on where another stopped: no MLS group, leaf key, keep key or token, key
//! package, invite, nor anything sealed that waited to be sent. It does hold what a person needs to ask to be taken in
//! again: the identity key, and of each case its relay and the seeds of its rescue channels.

mod archived;

use std::{
    collections::BTreeSet,
    io::{self, Read, Write},
};

use martlet_proto::{
    Admission, Secret, Time,
    case::{RescueSeeds, Role},
    letter::Letter,
    limits::ARCHIVE_RECORD_BYTES_MAX,
    link::RelayAddress,
    secret::sealed,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

pub use self::archived::Archived;
use crate::{
    error::Error,
    record::{HomeRelay, decode, encode},
    view::Standing,
};

/// The only version there is.
pub const VERSION: u8 = 2;

/// Whose archive it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The name they give themselves.
    pub name: String,
    /// The seed of the identity key.
    #[serde(with = "sealed")]
    pub identity: Secret<32>,
    /// The relay for their invites.
    pub relay: Option<(RelayAddress, Admission)>,
}

/// What follows the owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Item {
    /// A case.
    Case(Box<KeptCase>),
    /// A letter of the case before it.
    Letter(KeptLetter),
}

/// A case, as far as it can be kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptCase {
    /// Its id.
    pub id: [u8; 16],
    /// The owner's note.
    pub label: String,
    /// Where it lives.
    pub relay: RelayAddress,
    /// The right to open channels there, if there is one.
    pub admission: Option<Admission>,
    /// Who is in it.
    pub members: Vec<KeptMember>,
    /// How to ask counsel to be taken in again.
    pub rescue: Option<RescueSeeds>,
    /// When the last letter was written or received.
    pub last: Option<Time>,
    /// How the device that made the archive stood in it.
    pub standing: Standing,
}

/// A person in a case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptMember {
    /// Their identity key.
    pub identity: [u8; 32],
    /// The name they give themselves.
    pub name: String,
    /// What they are.
    pub role: Role,
    /// Whether the safety number was compared and matched.
    pub verified: bool,
    /// Whether they were still in the case.
    pub present: bool,
}

/// A letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptLetter {
    /// As it was written.
    pub letter: Letter,
    /// The identity of its sender.
    pub from: [u8; 32],
    /// When the device received or wrote it.
    pub received: Time,
    /// Whether its owner had read it.
    pub read: bool,
    /// For one's own: whether it had not been sent.
    pub queued: bool,
    /// The identities from which a receipt came.
    pub delivered_to: Vec<[u8; 32]>,
}

impl Owner {
    /// The relay, as a profile has it.
    pub fn home(&self) -> Option<HomeRelay> {
        let (relay, admission) = self.relay.clone()?;
        Some(HomeRelay { relay, admission })
    }
}

const CUT: Error = Error::ArchiveDamaged("it was cut off or changed");

fn failed(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => CUT,
        io::ErrorKind::StorageFull => Error::DiskFull,
        _ => Error::File(error),
    }
}

/// Writes an archive's content.
pub struct Writer<W>(W);

impl<W: Write> Writer<W> {
    /// Begins with its owner.
    ///
    /// # Errors
    ///
    /// [`Error::File`] and [`Error::DiskFull`] from the writer.
    pub fn begin(mut to: W, owner: &Owner) -> Result<Self, Error> {
        to.write_all(&[VERSION]).map_err(failed)?;
        let mut writer = Self(to);
        writer.record(owner)?;
        Ok(writer)
    }

    /// Writes what comes next.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin); [`Error::Internal`] for a record that would not be read again.
    pub fn put(&mut self, item: &Item) -> Result<(), Error> {
        self.record(item)
    }

    /// What was written to.
    pub fn into_inner(self) -> W {
        self.0
    }

    fn record<T: Serialize>(&mut self, record: &T) -> Result<(), Error> {
        let bytes = encode(record)?;
        let length = u32::try_from(bytes.len())
            .ok()
            .filter(|_| bytes.len() <= ARCHIVE_RECORD_BYTES_MAX)
            .ok_or(Error::Internal("a record is too large for an archive"))?;
        self.0.write_all(&length.to_be_bytes()).map_err(failed)?;
        self.0.write_all(&bytes).map_err(failed)
    }
}

/// Reads an archive's content, one record at a time.
pub struct Reader<R> {
    from: R,
    /// The cases so far: a letter needs one before it, and none comes twice.
    cases: BTreeSet<[u8; 16]>,
}

impl<R: Read> Reader<R> {
    /// Begins, with its owner.
    ///
    /// # Errors
    ///
    /// [`Error::ArchiveDamaged`], and [`Error::File`] from the reader.
    pub fn begin(mut from: R) -> Result<(Self, Owner), Error> {
        let mut version = [0];
        from.read_exact(&mut version).map_err(failed)?;
        if version != [VERSION] {
            return Err(Error::ArchiveDamaged("it was made by another version of martlet"));
        }
        let mut reader = Self {
            from,
            cases: BTreeSet::new(),
        };
        let owner: Owner = reader.record()?.ok_or(CUT)?;
        Ok((reader, owner))
    }

    /// What comes next; `None` at the end.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    pub fn item(&mut self) -> Result<Option<Item>, Error> {
        let item = self.record()?;
        let fits = match &item {
            Some(Item::Case(case)) => self.cases.insert(case.id),
            Some(Item::Letter(_)) => !self.cases.is_empty(),
            None => true,
        };
        fits.then_some(item).ok_or(CUT)
    }

    fn record<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Error> {
        let mut length = Vec::with_capacity(4);
        (&mut self.from)
            .take(4)
            .read_to_end(&mut length)
            .map_err(failed)?;
        if length.is_empty() {
            return Ok(None);
        }
        let length = u32::from_be_bytes(length.try_into().map_err(|_| CUT)?);
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length <= ARCHIVE_RECORD_BYTES_MAX)
            .ok_or(CUT)?;
        let mut bytes = Zeroizing::new(vec![0; length]);
        self.from.read_exact(&mut bytes).map_err(failed)?;
        decode(&bytes).map(Some).map_err(|_| CUT)
    }
}
