//! Cards: what an invite points to. Signed by the identity that the invite pins. SPEC.md 7.2.
//!
//! Parsing a card proves nothing: `martlet`'s `Verified<Card>` exists only after the checks.

use serde::{Deserialize, Serialize};

use crate::{Admission, Bind, ChannelId, Class, Day, Grant, Open, Token, TokenHash, Writer, case::Signature};

/// What stands before a card's body when it is signed.
pub const SIGNED_AS: &[u8] = b"martlet/1 card signature";

/// A card's body and the signature over [`SIGNED_AS`] and it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedCard {
    /// A [`Card`] in postcard.
    pub body: Vec<u8>,
    /// Ed25519 by the identity key.
    pub signature: Signature,
}

/// How a stranger reaches counsel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// Higher for each card that replaces another.
    pub number: u32,
    /// The identity key (Ed25519).
    pub identity: [u8; 32],
    /// The name that the owner gives herself. Unverified.
    pub name: String,
    /// The first day on which the card is of no use.
    pub not_after: Day,
    /// H(write) of the card's channel.
    pub write: TokenHash,
    /// H(keep) of the card's channel.
    pub keep: TokenHash,
    /// One MLS key package (MLSMessage) for each device, 1 to 4.
    pub packages: Vec<Vec<u8>>,
    /// Where first contact goes.
    pub inbox: Inbox,
    /// The right to open channels on the relay, passed on.
    pub admission: Option<Admission>,
    /// Whether the invite is good for one case only.
    pub uses: Uses,
}

/// How often an invite may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Uses {
    /// For one case.
    Once,
    /// For as many as come.
    Many,
}

/// An inbox as those see it who write to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inbox {
    /// Its channel.
    pub mailbox: Mailbox,
    /// The X-Wing public key that packets are sealed to (1,216 bytes).
    pub key: Vec<u8>,
}

/// A channel of class inbox as those see it who write to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mailbox {
    /// The right to open it and append to it.
    pub write: Token<Writer>,
    /// H(read).
    pub read: TokenHash,
    /// H(keep).
    pub keep: TokenHash,
}

impl Mailbox {
    /// The channel.
    pub fn channel(&self) -> ChannelId {
        ChannelId::commit(
            Class::Inbox,
            &self.read,
            &self.write.hash(),
            &self.keep,
            &Bind::NONE,
        )
    }

    /// The grant to open it and append to it.
    pub fn writer(&self) -> Grant<Writer> {
        Grant {
            channel: self.channel(),
            token: self.write.clone(),
        }
    }

    /// What `open` must say.
    pub fn opening(&self, admission: Option<Admission>) -> Open {
        Open {
            class: Class::Inbox,
            read: self.read,
            keep: self.keep,
            bind: Bind::NONE,
            admission,
        }
    }
}
