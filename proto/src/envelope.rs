//! Envelopes: what the relay stores. Sealed, padded to a whole allowed size, uniform to look at. SPEC.md 5.
//!
//! An envelope of a letter, commit or card is `nonce (24) ‖ XChaCha20-Poly1305(u32 length ‖ content ‖ zeros)` with
//! `ChannelId ‖ kind` as associated data. A packet is sealed by HPKE and a chunk by STREAM: they are checked here for
//! their size only.

use bytes::Bytes;
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, aead::AeadInOut};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::{ChannelId, Kind, Secret, pad};

/// Bytes of the nonce before the ciphertext.
pub const NONCE: usize = 24;
/// Bytes of the authentication tag at the end.
pub const TAG: usize = 16;

/// A sealed message of one of the [allowed sizes](pad::SIZES).
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope(Bytes);

impl Envelope {
    /// Takes sealed bytes of an allowed size; `None` for any other size.
    pub fn new(sealed: Bytes) -> Option<Self> {
        pad::SIZES.contains(&sealed.len()).then_some(Self(sealed))
    }

    /// The sealed bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The sealed bytes, shared.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// How many bytes it has.
    pub fn size_bytes(&self) -> usize {
        self.0.len()
    }

    /// Seals `content` into the smallest envelope that holds it.
    ///
    /// `nonce` must be fresh and random for every envelope.
    ///
    /// # Errors
    ///
    /// [`TooLarge`] if the largest envelope cannot hold it ([`pad::CAPACITY_MAX`]).
    pub fn seal(
        key: &Secret<32>,
        nonce: [u8; NONCE],
        channel: &ChannelId,
        kind: Kind,
        content: &[u8],
    ) -> Result<Self, TooLarge> {
        let mut plain = pad::pad(content).ok_or(TooLarge)?;
        XChaCha20Poly1305::new(key.expose().into())
            .encrypt_in_place(&nonce.into(), &associated_data(channel, kind), &mut plain)
            .map_err(|_| TooLarge)?;
        let mut sealed = Vec::with_capacity(plain.len().saturating_add(NONCE));
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&plain);
        Self::new(sealed.into()).ok_or(TooLarge)
    }

    /// Opens what [`seal`](Self::seal) made.
    ///
    /// # Errors
    ///
    /// [`NotForUs`] if key, channel, kind or a single bit differs, or the padding is wrong.
    pub fn open(&self, key: &Secret<32>, channel: &ChannelId, kind: Kind) -> Result<Vec<u8>, NotForUs> {
        let (nonce, sealed) = self.0.split_first_chunk::<NONCE>().ok_or(NotForUs)?;
        let mut plain = sealed.to_vec();
        XChaCha20Poly1305::new(key.expose().into())
            .decrypt_in_place(nonce.into(), &associated_data(channel, kind), &mut plain)
            .map_err(|_| NotForUs)?;
        pad::unpad(plain).ok_or(NotForUs)
    }
}

fn associated_data(channel: &ChannelId, kind: Kind) -> [u8; 33] {
    let mut data = [0; 33];
    let (id, last) = data.split_at_mut(32);
    id.copy_from_slice(channel.as_bytes());
    last.copy_from_slice(&[kind as u8]);
    data
}

impl std::fmt::Debug for Envelope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Envelope(..)")
    }
}

impl Serialize for Envelope {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(&self.0)
    }
}
impl<'de> Deserialize<'de> for Envelope {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let sealed = Bytes::deserialize(from)?;
        let size = sealed.len();
        Self::new(sealed).ok_or_else(|| D::Error::invalid_length(size, &"an allowed envelope size"))
    }
}

/// The content does not fit in the largest envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the content is larger than an envelope can hold")]
pub struct TooLarge;

/// The envelope does not open: another key, another place, or changed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the envelope does not open with this key here")]
pub struct NotForUs;

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];
    const HERE: ChannelId = ChannelId::new([1; 32]);

    fn sealed(content: &[u8]) -> Envelope {
        Envelope::seal(&Secret::new(KEY), [9; NONCE], &HERE, Kind::Letter, content).unwrap()
    }

    #[test]
    fn what_was_sealed_opens_and_only_there() {
        let envelope = sealed(b"hello");
        assert_eq!(
            envelope.open(&Secret::new(KEY), &HERE, Kind::Letter).unwrap(),
            b"hello"
        );
        assert!(envelope.open(&Secret::new([8; 32]), &HERE, Kind::Letter).is_err());
        assert!(
            envelope
                .open(&Secret::new(KEY), &ChannelId::new([2; 32]), Kind::Letter)
                .is_err()
        );
        assert!(envelope.open(&Secret::new(KEY), &HERE, Kind::Commit).is_err());
    }

    #[test]
    fn an_envelope_takes_the_smallest_size_that_holds_its_content() {
        for (len, size) in [
            (0, 2048),
            (pad::capacity(2048), 2048),
            (pad::capacity(2048) + 1, 16384),
            (pad::capacity(16384) + 1, 32768),
            (60_000, 65536),
        ] {
            let content = vec![5; len];
            let envelope = sealed(&content);
            assert_eq!(envelope.size_bytes(), size);
            assert_eq!(
                envelope.open(&Secret::new(KEY), &HERE, Kind::Letter).unwrap(),
                content
            );
        }
        let over = vec![0; pad::CAPACITY_MAX + 1];
        assert_eq!(
            Envelope::seal(&Secret::new(KEY), [0; NONCE], &HERE, Kind::Letter, &over),
            Err(TooLarge)
        );
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let envelope = sealed(b"hello");
        for at in (0..envelope.size_bytes()).step_by(97) {
            let mut bytes = envelope.as_bytes().to_vec();
            bytes[at] ^= 1;
            let changed = Envelope::new(bytes.into()).unwrap();
            assert_eq!(
                changed.open(&Secret::new(KEY), &HERE, Kind::Letter),
                Err(NotForUs)
            );
        }
    }
}
