//! Randomness as an argument: a stream from one seed, so that one seed gives one run.

use martlet_proto::{EntryId, Keeper, Reader, Secret, Token, Writer, letter::LetterId};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

/// A source of random bytes for one turn of the core.
pub struct Entropy(ChaCha20Rng);

impl Entropy {
    /// The stream that follows from a seed. The shell takes it from the operating system.
    pub fn from_seed(seed: &Secret<32>) -> Self {
        Self(ChaCha20Rng::from_seed(*seed.expose()))
    }

    /// Fresh random bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// Fresh secret bytes.
    pub fn secret<const N: usize>(&mut self) -> Secret<N> {
        let mut secret = Secret::new([0; N]);
        self.0.fill_bytes(secret.expose_mut());
        secret
    }

    /// The name of a new entry.
    pub fn entry(&mut self) -> EntryId {
        EntryId::new(self.bytes())
    }

    /// The name of a new letter.
    pub fn letter(&mut self) -> LetterId {
        LetterId::new(self.bytes())
    }

    /// A new right to read.
    pub fn reader(&mut self) -> Token<Reader> {
        Token::new(self.secret())
    }

    /// A new right to write.
    pub fn writer(&mut self) -> Token<Writer> {
        Token::new(self.secret())
    }

    /// A new right to keep.
    pub fn keeper(&mut self) -> Token<Keeper> {
        Token::new(self.secret())
    }

    /// The generator itself, for a library.
    pub(crate) fn rng(&mut self) -> &mut ChaCha20Rng {
        &mut self.0
    }
}

impl std::fmt::Debug for Entropy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entropy(..)")
    }
}
