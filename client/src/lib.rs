//! The Martlet client: cases, letters and documents, end to end encrypted through a relay that knows nothing.

pub mod advice;
pub mod archive;
pub mod case;
#[cfg(feature = "shell")]
pub mod client;
pub mod contact;
pub mod devices;
pub mod entropy;
pub mod error;
pub mod file;
pub mod identity;
pub mod inbox;
pub mod kind;
#[cfg(feature = "shell")]
pub mod link;
pub mod me;
pub mod mls;
#[cfg(feature = "pictures")]
pub mod pictures;
pub mod record;
#[cfg(feature = "shell")]
mod recovery;
pub mod scrub;
pub mod sealed;
mod shown;
pub mod vault;
pub mod verified;
pub mod view;

#[cfg(feature = "shell")]
pub use client::{Client, Cost, Following, NewCase, NewInvite, NewProfile, Which};
pub use error::{Error, ErrorClass, Mismatch, Missing, Usage};
