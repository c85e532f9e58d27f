//! Every key the protocol derives, by HKDF-SHA256 (RFC 5869) from one table of labels. SPEC.md, section 6.
//!
//! The salt is empty, the info is the label, the output is 32 bytes (the STREAM nonce: 19). A label is used for
//! one purpose and never again.

use hkdf::Hkdf;
use sha2::{Digest as _, Sha256};

use crate::{
    Admission, Bind, ChannelId, Class, EntryId, Grant, Keeper, Reader, Secret, Token, TokenHash, Writer,
    card::Mailbox, log::Mark,
};

/// The label under which the epoch secret comes out of an MLS group (RFC 9420, section 8.5); empty context.
pub const EPOCH_EXPORTER: &str = "martlet/1 epoch";

/// What a key is derived for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Label {
    EpochRead,
    EpochWrite,
    EpochEnvelope,
    CardRead,
    CardEnvelope,
    FileRead,
    FileWrite,
    FileChunks,
    FileNonce,
    FileEntry,
    RescueRead,
    RescueWrite,
    RescueKeep,
    RescueEnvelope,
    DeviceOld,
    DeviceNew,
}

impl Label {
    const fn text(self) -> &'static str {
        match self {
            Self::EpochRead => "martlet/1 epoch read",
            Self::EpochWrite => "martlet/1 epoch write",
            Self::EpochEnvelope => "martlet/1 epoch envelope",
            Self::CardRead => "martlet/1 card read",
            Self::CardEnvelope => "martlet/1 card envelope",
            Self::FileRead => "martlet/1 file read",
            Self::FileWrite => "martlet/1 file write",
            Self::FileChunks => "martlet/1 file chunks",
            Self::FileNonce => "martlet/1 file nonce",
            Self::FileEntry => "martlet/1 file entry",
            Self::RescueRead => "martlet/1 rescue read",
            Self::RescueWrite => "martlet/1 rescue write",
            Self::RescueKeep => "martlet/1 rescue keep",
            Self::RescueEnvelope => "martlet/1 rescue envelope",
            Self::DeviceOld => "martlet/1 device old",
            Self::DeviceNew => "martlet/1 device new",
        }
    }
}

#[expect(
    clippy::expect_used,
    reason = "HKDF-SHA256 gives up to 8,160 bytes; N is 19 or 32 here"
)]
fn expand<const N: usize>(secret: &[u8], label: Label) -> Secret<N> {
    let mut out = Secret::new([0; N]);
    Hkdf::<Sha256>::new(None, secret)
        .expand(label.text().as_bytes(), out.expose_mut())
        .expect("N is within HKDF's bound");
    out
}

/// What every member of an epoch can derive from its exporter secret.
#[derive(Clone, Debug)]
pub struct EpochKeys {
    /// The right to read the epoch's channel.
    pub read: Token<Reader>,
    /// The right to open it and append to it.
    pub write: Token<Writer>,
    /// The key of the envelopes in it.
    pub envelope: Secret<32>,
}

impl EpochKeys {
    /// Derives them from the exporter secret ([`EPOCH_EXPORTER`]).
    pub fn derive(exporter: &Secret<32>) -> Self {
        Self {
            read: Token::new(expand(exporter.expose(), Label::EpochRead)),
            write: Token::new(expand(exporter.expose(), Label::EpochWrite)),
            envelope: expand(exporter.expose(), Label::EpochEnvelope),
        }
    }

    /// The epoch's channel, given the hash of its keep token (from the GroupContext).
    pub fn channel(&self, keep: &TokenHash) -> ChannelId {
        ChannelId::commit(
            Class::Case,
            &self.read.hash(),
            &self.write.hash(),
            keep,
            &Bind::NONE,
        )
    }
}

/// What the holder of an invite can derive from its seed.
#[derive(Clone, Debug)]
pub struct CardKeys {
    /// The right to read the card's channel.
    pub read: Token<Reader>,
    /// The key of the envelope in it.
    pub envelope: Secret<32>,
}

impl CardKeys {
    /// Derives them from an invite's seed.
    pub fn derive(seed: &Secret<16>) -> Self {
        Self {
            read: Token::new(expand(seed.expose(), Label::CardRead)),
            envelope: expand(seed.expose(), Label::CardEnvelope),
        }
    }

    /// The card's channel, given `M` from the invite.
    pub fn channel(&self, mark: &Mark) -> ChannelId {
        ChannelId::from_mark(Class::Card, &self.read.hash(), mark)
    }
}

/// What a card's channel is bound to: the identity behind it. SPEC.md 7.2.
pub fn card_bind(identity: &[u8; 32], seed: &Secret<16>) -> Bind {
    let hash = Sha256::new_with_prefix(b"martlet/1 card")
        .chain_update(identity)
        .chain_update(seed.expose());
    Bind::new(hash.finalize().into())
}

/// What everyone who knows a document's key can derive.
#[derive(Clone, Debug)]
pub struct FileKeys {
    /// The right to read the document's channel.
    pub read: Token<Reader>,
    /// The right to open it and append to it.
    pub write: Token<Writer>,
    /// The key of the STREAM.
    pub chunks: Secret<32>,
    /// The nonce prefix of the STREAM.
    pub nonce: Secret<19>,
    /// What the chunks' entry ids are derived from.
    pub entry: Secret<32>,
}

impl FileKeys {
    /// Derives them from a document's random key.
    pub fn derive(document: &Secret<32>) -> Self {
        Self {
            read: Token::new(expand(document.expose(), Label::FileRead)),
            write: Token::new(expand(document.expose(), Label::FileWrite)),
            chunks: expand(document.expose(), Label::FileChunks),
            nonce: expand(document.expose(), Label::FileNonce),
            entry: expand(document.expose(), Label::FileEntry),
        }
    }

    /// The entry id of a chunk, counted from 0: the same however often it is sent. SPEC.md 8.3.
    pub fn entry_id(&self, chunk: u32) -> EntryId {
        let hash: [u8; 32] = Sha256::new_with_prefix(self.entry.expose())
            .chain_update(chunk.to_be_bytes())
            .finalize()
            .into();
        let (mut id, (first, _)) = ([0; 16], hash.split_at(16));
        id.copy_from_slice(first);
        EntryId::new(id)
    }

    /// The document's channel, given the hash of its keep token (from the manifest).
    pub fn channel(&self, keep: &TokenHash) -> ChannelId {
        ChannelId::commit(
            Class::File,
            &self.read.hash(),
            &self.write.hash(),
            keep,
            &Bind::NONE,
        )
    }
}

/// The mailboxes between a new device and the one that vouches for it, from the seed that the new one shows.
#[derive(Clone, Debug)]
pub struct DeviceKeys {
    /// Read by the device that vouches.
    pub to_old: RescueKeys,
    /// Read by the new device.
    pub to_new: RescueKeys,
}

impl DeviceKeys {
    /// Derives them from a request's seed.
    pub fn derive(seed: &Secret<16>) -> Self {
        Self {
            to_old: RescueKeys::derive(&expand(seed.expose(), Label::DeviceOld)),
            to_new: RescueKeys::derive(&expand(seed.expose(), Label::DeviceNew)),
        }
    }
}

/// What both sides of a mailbox between two devices derive from its seed: of rescue channels and of new devices.
#[derive(Clone, Debug)]
pub struct RescueKeys {
    /// The right to read.
    pub read: Token<Reader>,
    /// The right to open and append.
    pub write: Token<Writer>,
    /// The right to trim and drop.
    pub keep: Token<Keeper>,
    /// The key of the envelopes.
    pub envelope: Secret<32>,
}

impl RescueKeys {
    /// Derives them from a rescue seed.
    pub fn derive(seed: &Secret<32>) -> Self {
        Self {
            read: Token::new(expand(seed.expose(), Label::RescueRead)),
            write: Token::new(expand(seed.expose(), Label::RescueWrite)),
            keep: Token::new(expand(seed.expose(), Label::RescueKeep)),
            envelope: expand(seed.expose(), Label::RescueEnvelope),
        }
    }

    /// The channel as its writer sees it.
    pub fn mailbox(&self) -> Mailbox {
        Mailbox {
            write: self.write.clone(),
            read: self.read.hash(),
            keep: self.keep.hash(),
        }
    }

    /// The rescue channel.
    pub fn channel(&self) -> ChannelId {
        self.mailbox().channel()
    }

    /// The grant to read it.
    pub fn reader(&self) -> Grant<Reader> {
        Grant {
            channel: self.channel(),
            token: self.read.clone(),
        }
    }

    /// The grant to trim and drop it.
    pub fn keeper(&self) -> Grant<Keeper> {
        Grant {
            channel: self.channel(),
            token: self.keep.clone(),
        }
    }
}

/// A way to reach a channel for each right: what a client keeps of an inbox or a card of its own.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Keys {
    /// The right to read.
    pub read: Token<Reader>,
    /// The right to open and append.
    pub write: Token<Writer>,
    /// The right to trim and drop.
    pub keep: Token<Keeper>,
    /// What the channel is for.
    pub class: Class,
    /// What the id is bound to.
    pub bind: Bind,
}

impl Keys {
    /// The channel's id.
    pub fn channel(&self) -> ChannelId {
        ChannelId::commit(
            self.class,
            &self.read.hash(),
            &self.write.hash(),
            &self.keep.hash(),
            &self.bind,
        )
    }

    /// The grant to read.
    pub fn reader(&self) -> Grant<Reader> {
        Grant {
            channel: self.channel(),
            token: self.read.clone(),
        }
    }

    /// The grant to open and append.
    pub fn writer(&self) -> Grant<Writer> {
        Grant {
            channel: self.channel(),
            token: self.write.clone(),
        }
    }

    /// The grant to trim and drop.
    pub fn keeper(&self) -> Grant<Keeper> {
        Grant {
            channel: self.channel(),
            token: self.keep.clone(),
        }
    }

    /// What `open` must say.
    pub fn opening(&self, admission: Option<Admission>) -> crate::Open {
        crate::Open {
            class: self.class,
            read: self.read.hash(),
            keep: self.keep.hash(),
            bind: self.bind,
            admission,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_label_is_used_twice() {
        let all = [
            Label::EpochRead,
            Label::EpochWrite,
            Label::EpochEnvelope,
            Label::CardRead,
            Label::CardEnvelope,
            Label::FileRead,
            Label::FileWrite,
            Label::FileChunks,
            Label::FileNonce,
            Label::FileEntry,
            Label::RescueRead,
            Label::RescueWrite,
            Label::RescueKeep,
            Label::RescueEnvelope,
            Label::DeviceOld,
            Label::DeviceNew,
        ];
        let texts: BTreeSet<_> = all.into_iter().map(Label::text).collect();
        assert_eq!(texts.len(), all.len());
    }
}
