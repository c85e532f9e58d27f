//! Letters: what members write to one another, inside MLS application messages. SPEC.md 8.

use serde::{Deserialize, Serialize};

use crate::{Head, Secret, Seq, Time, TokenHash, limits, pad};

/// A letter's random name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LetterId([u8; 16]);

impl LetterId {
    /// Takes random bytes.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// 26 characters of lower-case base32: how people and programs name it.
    pub fn to_text(&self) -> String {
        data_encoding::BASE32_NOPAD.encode(&self.0).to_lowercase()
    }

    /// What [`to_text`](Self::to_text) made.
    pub fn from_text(text: &str) -> Option<Self> {
        let bytes = data_encoding::BASE32_NOPAD
            .decode(text.to_uppercase().as_bytes())
            .ok()?;
        Some(Self(bytes.try_into().ok()?))
    }
}

impl std::fmt::Debug for LetterId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_text())
    }
}

/// A letter as it travels: the plaintext of an MLS application message, in postcard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// Its name, the same however often it is sent.
    pub id: LetterId,
    /// When its sender says it was written.
    pub sent: Time,
    /// How far its sender had read the epoch's channel, and the head it computed there.
    pub seen: Option<(Seq, Head)>,
    /// The number of the body's kind.
    pub kind: u16,
    /// The body, in postcard as its kind says.
    pub body: Vec<u8>,
}

/// The kind that no letter on its way has: clients keep their own notes of what changed in a case under it. One that
/// comes from somebody is dropped.
pub const NOTICE_KIND: u16 = 4;

/// What a letter says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Kind 1: words.
    Text(String),
    /// Kind 2: a document, and where it is.
    Document(Manifest),
    /// Kind 3: these letters arrived and are stored.
    Receipt(Vec<LetterId>),
    /// Kind 5: the sender wishes to leave.
    Leave,
    /// Kind 6: the sender wishes to be removed and added again; an MLS key package.
    Refresh(Vec<u8>),
    /// Kind 7: counsel's device is alive.
    Beat,
    /// Kind 8: the sender wishes letters of their side to be kept for so many days, 0 for good.
    Retention(u32),
    /// Kind 9: the sender wishes a further device of theirs to be added; an MLS key package.
    Device(Vec<u8>),
    /// Kind 10: the sender wishes a device of theirs to be removed; its leaf key.
    WithoutDevice([u8; 32]),
    /// Kind 11: the public key of the sender's recovery digits.
    Recovery([u8; 32]),
    /// Kind 12: a working copy of a document, without its metadata.
    Copy(WorkingCopy),
    /// Any other kind: made by a later version.
    Unknown(u16),
}

/// A document: everything one needs to fetch and check it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// What the document's channel and keys are derived from.
    #[serde(with = "crate::secret::sealed")]
    pub key: Secret<32>,
    /// H(keep) of the document's channel.
    pub keep: TokenHash,
    /// The content's size.
    pub size_bytes: u64,
    /// SHA-256 of the content.
    pub sha256: [u8; 32],
    /// The name its sender gave it: hostile until made safe.
    pub name: String,
}

/// A document that was made of another, to be worked with in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkingCopy {
    /// SHA-256 of the original's content.
    pub of: [u8; 32],
    /// The copy.
    pub manifest: Manifest,
}

/// Bytes of content in one chunk: a 64 KiB envelope less the tag.
pub const CHUNK_BYTES: usize = (64 << 10) - 16;

impl Manifest {
    /// How many chunks stand for a document of this size, padding included.
    pub fn chunks(&self) -> u64 {
        pad::padme(self.size_bytes.div_ceil(CHUNK_BYTES as u64))
    }
}

/// A body that its kind does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the letter's body is malformed")]
pub struct Malformed;

impl Letter {
    /// Puts a body into a letter.
    ///
    /// # Errors
    ///
    /// [`Malformed`] for a body beyond its limits, or [`Body::Unknown`].
    pub fn new(id: LetterId, sent: Time, seen: Option<(Seq, Head)>, body: &Body) -> Result<Self, Malformed> {
        let bytes = |made: postcard::Result<Vec<u8>>| made.map_err(|_| Malformed);
        if !body.is_within_limits() {
            return Err(Malformed);
        }
        let (kind, body) = match body {
            Body::Text(text) => (1, bytes(postcard::to_allocvec(text))?),
            Body::Document(manifest) => (2, bytes(postcard::to_allocvec(manifest))?),
            Body::Receipt(ids) => (3, bytes(postcard::to_allocvec(ids))?),
            Body::Leave => (5, Vec::new()),
            Body::Refresh(package) => (6, bytes(postcard::to_allocvec(package))?),
            Body::Beat => (7, Vec::new()),
            Body::Retention(days) => (8, bytes(postcard::to_allocvec(days))?),
            Body::Device(package) => (9, bytes(postcard::to_allocvec(package))?),
            Body::WithoutDevice(leaf) => (10, bytes(postcard::to_allocvec(leaf))?),
            Body::Copy(copy) => (12, bytes(postcard::to_allocvec(copy))?),
            Body::Recovery(key) => (11, bytes(postcard::to_allocvec(key))?),
            Body::Unknown(_) => return Err(Malformed),
        };
        Ok(Self {
            id,
            sent,
            seen,
            kind,
            body,
        })
    }

    /// What the letter says.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the body is not what its kind says.
    pub fn parse_body(&self) -> Result<Body, Malformed> {
        fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Malformed> {
            match postcard::take_from_bytes(body) {
                Ok((value, [])) => Ok(value),
                Ok(_) | Err(_) => Err(Malformed),
            }
        }
        let body = match self.kind {
            1 => Body::Text(parse(&self.body)?),
            2 => Body::Document(parse(&self.body)?),
            3 => Body::Receipt(parse(&self.body)?),
            5 => Body::Leave,
            6 => Body::Refresh(parse(&self.body)?),
            7 => Body::Beat,
            8 => Body::Retention(parse(&self.body)?),
            9 => Body::Device(parse(&self.body)?),
            10 => Body::WithoutDevice(parse(&self.body)?),
            11 => Body::Recovery(parse(&self.body)?),
            12 => Body::Copy(parse(&self.body)?),
            other => Body::Unknown(other),
        };
        body.is_within_limits().then_some(body).ok_or(Malformed)
    }
}

impl Body {
    /// Whether what it says may be said: the same for what is written and what is read.
    fn is_within_limits(&self) -> bool {
        match self {
            Self::Text(text) => text.len() <= limits::TEXT_BYTES_MAX,
            Self::Document(manifest) | Self::Copy(WorkingCopy { manifest, .. }) => {
                manifest.size_bytes <= limits::DOCUMENT_BYTES_MAX
                    && manifest.name.len() <= limits::NAME_BYTES_MAX
            }
            Self::Receipt(ids) => ids.len() <= limits::RECEIPT_IDS_MAX,
            Self::Leave
            | Self::Refresh(_)
            | Self::Beat
            | Self::Retention(_)
            | Self::Device(_)
            | Self::WithoutDevice(_)
            | Self::Recovery(_)
            | Self::Unknown(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_survives_its_letter() {
        for body in [
            Body::Text("x".repeat(limits::TEXT_BYTES_MAX)),
            Body::Receipt(vec![LetterId::new([1; 16]); 3]),
            Body::Leave,
            Body::Beat,
            Body::Retention(u32::MAX),
        ] {
            let letter = Letter::new(LetterId::new([9; 16]), Time::from_secs(5), None, &body).unwrap();
            let bytes = postcard::to_allocvec(&letter).unwrap();
            assert!(bytes.len() <= pad::CAPACITY_MAX - 300);
            assert_eq!(
                postcard::from_bytes::<Letter>(&bytes).unwrap().parse_body(),
                Ok(body)
            );
        }
    }

    #[test]
    fn a_kind_of_tomorrow_is_told_apart_from_a_broken_letter() {
        let mut letter = Letter::new(
            LetterId::new([9; 16]),
            Time::from_secs(5),
            None,
            &Body::Text("x".into()),
        )
        .unwrap();
        letter.kind = 99;
        assert_eq!(letter.parse_body(), Ok(Body::Unknown(99)));
        letter.kind = 2;
        assert_eq!(letter.parse_body(), Err(Malformed));
    }

    #[test]
    fn what_is_too_long_is_neither_written_nor_read() {
        let (id, sent) = (LetterId::new([9; 16]), Time::from_secs(5));
        let long = "x".repeat(limits::TEXT_BYTES_MAX + 1);
        assert!(Letter::new(id, sent, None, &Body::Text(long.clone())).is_err());
        let mut letter = Letter::new(id, sent, None, &Body::Leave).unwrap();
        letter.kind = 1;
        letter.body = postcard::to_allocvec(&long).unwrap();
        assert_eq!(letter.parse_body(), Err(Malformed));
    }

    #[test]
    fn a_letter_id_reads_back() {
        let id = LetterId::new([0xc3; 16]);
        assert_eq!(LetterId::from_text(&id.to_text()), Some(id));
        assert_eq!(LetterId::from_text("x"), None);
    }
}
