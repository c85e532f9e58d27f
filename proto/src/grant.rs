//! Bearer capabilities: *where* (a channel) and *what* (a right) in one value. SPEC.md 2.1.

use std::{fmt, marker::PhantomData};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

use crate::{ChannelId, Secret};

/// The three things a bearer can be allowed to do, as values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Read and follow the log.
    Read,
    /// Open the channel and append to it.
    Write,
    /// Seal, trim and drop.
    Keep,
}

/// The same three things, as types: a [`Verb`](crate::Verb) names the one it needs.
pub trait Right: private::Sealed + 'static {
    /// This right as a value.
    const RIGHT: Rights;
}

/// The right to read and follow.
#[derive(Debug)]
pub enum Reader {}
/// The right to open and append.
#[derive(Debug)]
pub enum Writer {}
/// The right to seal, trim and drop.
#[derive(Debug)]
pub enum Keeper {}

impl Right for Reader {
    const RIGHT: Rights = Rights::Read;
}
impl Right for Writer {
    const RIGHT: Rights = Rights::Write;
}
impl Right for Keeper {
    const RIGHT: Rights = Rights::Keep;
}

mod private {
    pub trait Sealed {}
    impl Sealed for super::Reader {}
    impl Sealed for super::Writer {}
    impl Sealed for super::Keeper {}
}

/// A token as it travels. The relay keeps only its [hash](Self::hash).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bearer(#[serde(with = "crate::secret::sealed")] Secret<32>);

impl Bearer {
    /// What the relay stores in place of the secret.
    pub fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.0.expose()).into())
    }
}

/// A [`Bearer`] that proves the right `R`.
pub struct Token<R: Right>(Bearer, PhantomData<R>);

impl<R: Right> Token<R> {
    /// Takes 32 secret bytes, for instance from an epoch's exporter.
    pub fn new(secret: Secret<32>) -> Self {
        Self(Bearer(secret), PhantomData)
    }

    /// The secret, to put into a [`Call`](crate::Call).
    pub fn bearer(&self) -> &Bearer {
        &self.0
    }

    /// The secret bytes, to hand to another holder inside something encrypted.
    pub fn secret(&self) -> &Secret<32> {
        &self.0.0
    }

    /// What the relay stores in place of the token.
    pub fn hash(&self) -> TokenHash {
        self.0.hash()
    }
}

impl<R: Right> Clone for Token<R> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), PhantomData)
    }
}
impl<R: Right> PartialEq for Token<R> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<R: Right> Eq for Token<R> {}
impl<R: Right> fmt::Debug for Token<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token<{:?}>(..)", R::RIGHT)
    }
}
/// A token may be written where what it stands in is encrypted: a packet, a vault record.
impl<R: Right> Serialize for Token<R> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}
impl<'de, R: Right> Deserialize<'de> for Token<R> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Self(Bearer::deserialize(from)?, PhantomData))
    }
}

/// The hash of a token. Comparison takes constant time.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// Takes a hash as it is.
    pub const fn new(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// The hash's bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}
impl Eq for TokenHash {}
impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(..)")
    }
}

/// What a channel's id is bound to besides its rights: nothing, or the identity behind a card. SPEC.md 2.2.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind([u8; 32]);

impl Bind {
    /// Bound to nothing: every channel but a card's.
    pub const NONE: Self = Self([0; 32]);

    /// Takes a bind as it is.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}
impl fmt::Debug for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bind(..)")
    }
}

/// What a relay asks of those who create channels on it. SPEC.md 2.4.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission(#[serde(with = "crate::secret::sealed")] Secret<16>);

impl Admission {
    /// Takes the relay's opening token.
    pub fn new(secret: Secret<16>) -> Self {
        Self(secret)
    }

    /// The opening token's bytes.
    pub fn secret(&self) -> &Secret<16> {
        &self.0
    }
}

/// A capability: one channel, one right.
pub struct Grant<R: Right> {
    /// The channel it opens.
    pub channel: ChannelId,
    /// The secret that opens it.
    pub token: Token<R>,
}

impl<R: Right> Clone for Grant<R> {
    fn clone(&self) -> Self {
        Self {
            channel: self.channel,
            token: self.token.clone(),
        }
    }
}
impl<R: Right> fmt::Debug for Grant<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Grant<{:?}>(..)", R::RIGHT)
    }
}
