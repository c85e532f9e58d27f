//! The Martlet client.
