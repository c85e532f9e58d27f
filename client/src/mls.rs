//! Messaging Layer Security for one case: RFC 9420 with the suite `MLS_256_XWING_CHACHA20POLY1305_SHA256_Ed25519`
//! (0x004D), through OpenMLS with a crypto provider of our own.
//!
//! It promises a [`Group`] that is a value: made from a blob, worked on, put back into a blob, with no storage, socket,
//! clock or entropy of its own. It never offers or accepts another suite. It does not judge credentials, roles or who
//! may commit: those are the caller's, who sees them in [`Staged`] before anything is applied.
//!
//! OpenMLS itself asks the system for the time when it meets a key package in an Add; see [`package`] for how
//! that is kept from ever deciding anything.

mod blob;
mod change;
pub mod group;
pub mod package;
pub mod provider;
mod receive;
mod refusal;
mod staged;

#[cfg(test)]
mod tests;

pub use change::{Change, Commit, Member, Processed};
pub use group::{Group, is_welcome};
pub use package::{Leaf, Package, PackageInfo, describe_package, inspect_package, keypackage};
pub use provider::Provider;
pub use staged::Staged;

use openmls::prelude::Ciphersuite;

/// The one suite of a case.
const SUITE: Ciphersuite = Ciphersuite::MLS_256_XWING_CHACHA20POLY1305_SHA256_Ed25519;
/// The GroupContext extension that holds a case's own context.
const CONTEXT_EXTENSION: u16 = 0xF0A1;
/// The leaf extension that holds the X-Wing key to which counsel's `keep` tokens are encrypted.
const KEEP_KEY_EXTENSION: u16 = 0xF0A2;
/// The exporter label of an epoch's secret.
const EPOCH_LABEL: &str = "martlet/1 epoch";

/// Which way a message's epoch differs from ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpochOrder {
    /// The message belongs to an epoch we have left; its keys are gone.
    Older,
    /// The message belongs to an epoch we have not reached.
    Newer,
}

/// Why an MLS operation was not done. The group is as it was before the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MlsError {
    /// The peer: not the MLS structure that was due, or one that breaks a rule every member can judge.
    #[error("malformed message")]
    Malformed,
    /// The peer: the message cannot be opened, or its signature is false.
    #[error("message cannot be opened")]
    Undecryptable,
    /// The peer or the log: the message belongs to another group.
    #[error("message of another group")]
    OtherGroup,
    /// The log: the message belongs to another epoch of this group.
    #[error("message of another epoch")]
    WrongEpoch(EpochOrder),
    /// The log: this message, or one in its place, was opened before.
    #[error("message was opened before")]
    AlreadySeen,
    /// The log: the message lies too many places from those opened so far.
    #[error("message is too far out of order")]
    OutOfReach,
    /// The peer: its commit is truly its own but cannot be applied here. Stop and use rescue.
    #[error("commit cannot be applied")]
    Inapplicable,
    /// The peer: another suite, or a leaf without what a case needs.
    #[error("unsupported suite or capability")]
    Unsupported,
    /// The peer: the key package is past its time.
    #[error("key package has expired")]
    PackageExpired,
    /// The peer or a clock: the key package's time has not come.
    #[error("key package is not valid yet")]
    PackageNotYetValid,
    /// The caller: the Welcome is for another key package.
    #[error("welcome for another key package")]
    OtherPackage,
    /// The caller: a commit of ours is pending.
    #[error("a commit is pending")]
    Pending,
    /// The caller: no commit of ours is pending.
    #[error("no commit is pending")]
    NotPending,
    /// The caller: this device is no longer a member.
    #[error("no longer a member")]
    Removed,
    /// The caller: the leaf's signing key is not the one in the group.
    #[error("the leaf is another one")]
    OtherLeaf,
    /// The device: the blob is not one of ours, or damaged.
    #[error("stored group is damaged")]
    Damaged,
    /// Us: a bug, here or in a library.
    #[error("internal error")]
    Internal,
}
