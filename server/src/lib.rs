//! The relay. [`Relay::turn`] is the whole of it: a function from state, time and calls to effects. Everything
//! that touches a socket or a disk is a shell around it.

pub mod channel;
#[cfg(feature = "shell")]
pub mod config;
#[cfg(feature = "shell")]
pub mod identity;
#[cfg(feature = "shell")]
pub mod limits;
pub mod log;
pub mod metrics;
pub mod relay;
#[cfg(feature = "shell")]
pub mod serve;
pub mod store;

pub use relay::{Effect, Input, Peer, Relay};
pub use store::Store;
