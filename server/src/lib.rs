//! The Martlet relay.
