//! The Martlet protocol.
pub mod secret;
pub use secret::Secret;
