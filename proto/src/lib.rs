//! The Martlet protocol: what travels, in which bytes, by whose right.
//!
//! No I/O, no clock and no randomness live here: time, nonces and keys are arguments. `SPEC.md` beside this
//! crate is the prose of it; `THREATS.md` says what it protects against; `vectors/` holds examples that must be
//! accepted and examples that must be refused.

#![cfg_attr(
    test,
    allow(clippy::arithmetic_side_effects, reason = "tests count on small numbers")
)]

#[cfg(feature = "age")]
pub mod age;
mod armor;
pub mod call;
pub mod card;
pub mod case;

pub mod derive;
pub mod device;
pub mod envelope;
pub mod frame;
pub mod grant;
pub mod invite;
pub mod letter;

pub mod limits;
pub mod link;

pub mod log;
pub mod pad;
pub mod secret;
mod text;

pub use call::{
    Answer, Append, Call, Drop, Follow, Item, Open, Placed, Read, Refusal, Seal, Tip, Trim, Verb,
};
pub use envelope::Envelope;
pub use grant::{Admission, Bearer, Bind, Grant, Keeper, Reader, Right, Rights, Token, TokenHash, Writer};
pub use log::{
    ChannelId, Class, Cursor, Day, Digest, Entry, EntryId, Head, Incarnation, Kind, Seq, Slot, Time,
};
pub use secret::Secret;
pub use text::clean;
