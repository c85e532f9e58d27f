//! Documents: a channel of chunks for each, of any size, in memory of one. SPEC.md 8.3.

pub mod chunk;
#[cfg(feature = "shell")]
pub mod fetch;
pub mod name;
#[cfg(feature = "shell")]
pub mod spool;
#[cfg(feature = "shell")]
pub mod upload;
