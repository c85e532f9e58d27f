//! One chunk of a document: STREAM over XChaCha20-Poly1305, at any position. SPEC.md 8.3. Pure.

use aead_stream::{NewStream, StreamBE32, StreamPrimitive};
use bytes::Bytes;
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use martlet_proto::{Envelope, derive::FileKeys, letter::CHUNK_BYTES};

/// Seals and opens the chunks of one document.
pub struct Chunks {
    stream: StreamBE32<XChaCha20Poly1305>,
    last: u32,
}

/// A chunk that is not the one that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a chunk of the document is not what was sent")]
pub struct NotThisChunk;

impl Chunks {
    /// The chunks of a document of so many, padding included; `None` for more than the construction allows.
    pub fn new(keys: &FileKeys, chunks: u64) -> Option<Self> {
        let last = u32::try_from(chunks.checked_sub(1)?).ok()?;
        let aead = XChaCha20Poly1305::new(keys.chunks.expose().into());
        let stream = StreamBE32::from_aead(aead, keys.nonce.expose().into());
        Some(Self { stream, last })
    }

    /// Seals a chunk: at most 65,520 bytes, filled up with zeros.
    ///
    /// # Errors
    ///
    /// [`NotThisChunk`] for more bytes than a chunk has, or a position beyond the last.
    pub fn seal(&self, at: u32, content: &[u8]) -> Result<Envelope, NotThisChunk> {
        if content.len() > CHUNK_BYTES || at > self.last {
            return Err(NotThisChunk);
        }
        let mut buffer = Vec::with_capacity(CHUNK_BYTES.saturating_add(16));
        buffer.extend_from_slice(content);
        buffer.resize(CHUNK_BYTES, 0);
        self.stream
            .encrypt_in_place(at, at == self.last, &[], &mut buffer)
            .map_err(|_| NotThisChunk)?;
        Envelope::new(Bytes::from(buffer)).ok_or(NotThisChunk)
    }

    /// Opens a chunk: 65,520 bytes.
    ///
    /// # Errors
    ///
    /// [`NotThisChunk`] if key, position or a single bit differs.
    pub fn open(&self, at: u32, envelope: &Envelope) -> Result<Vec<u8>, NotThisChunk> {
        if at > self.last {
            return Err(NotThisChunk);
        }
        let mut buffer = envelope.as_bytes().to_vec();
        self.stream
            .decrypt_in_place(at, at == self.last, &[], &mut buffer)
            .map_err(|_| NotThisChunk)?;
        if buffer.len() == CHUNK_BYTES {
            Ok(buffer)
        } else {
            Err(NotThisChunk)
        }
    }
}

impl std::fmt::Debug for Chunks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Chunks(..)")
    }
}

#[cfg(test)]
mod tests {
    use chacha20poly1305::aead::{Aead, Payload};
    use martlet_proto::Secret;

    use super::*;

    fn chunks(count: u64) -> Chunks {
        Chunks::new(&FileKeys::derive(&Secret::new([5; 32])), count).unwrap()
    }

    #[test]
    fn a_chunk_opens_in_its_place_only() {
        let three = chunks(3);
        let sealed = three.seal(1, b"words").unwrap();
        assert_eq!(three.open(1, &sealed).unwrap()[..5], *b"words");
        assert!(three.open(0, &sealed).is_err() && three.open(2, &sealed).is_err());
        assert!(chunks(2).open(1, &sealed).is_err(), "the last is marked as such");
        assert!(three.seal(3, b"").is_err() && three.seal(0, &[0; CHUNK_BYTES + 1]).is_err());
    }

    #[test]
    fn the_nonce_is_prefix_counter_and_flag() {
        let keys = FileKeys::derive(&Secret::new([5; 32]));
        let nonce = [keys.nonce.expose().as_slice(), &[0, 0, 0, 2, 1]].concat();
        let nonce: [u8; 24] = nonce.try_into().unwrap();
        let aead = XChaCha20Poly1305::new(keys.chunks.expose().into());
        let expected = aead
            .encrypt(
                &nonce.into(),
                Payload {
                    msg: &[0; CHUNK_BYTES],
                    aad: &[],
                },
            )
            .unwrap();
        assert_eq!(chunks(3).seal(2, b"").unwrap().as_bytes(), expected);
    }
}
