//! The Martlet client.

pub mod mls;
