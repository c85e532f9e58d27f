//! The Martlet client: cases, letters and documents, end to end encrypted through a relay that knows nothing.

pub mod error;
pub mod view;

pub use error::{Error, ErrorClass, Mismatch, Missing, Usage};
