//! The vault: what a device keeps, encrypted. DESIGN: key slot, records, and keys that move on.
//!
//! A random master key is wrapped by Argon2id of the passphrase. Every record is XChaCha20-Poly1305 under keys derived
//! from it, its name included. Ratchet state (MLS groups, key packages) is sealed under keys that change with each
//! transaction and live only in the small key slot, which is overwritten in place: an old page of the database is
//! unreadable once the slot has moved on. Flash storage may keep remnants of an old slot.
//!
//! On an ext4 or XFS disk that honours a sync, what [`Vault::commit`] returned from is there after a power cut.
//! `unsafe` is forbidden in this workspace, and no safe call locks memory: keys may reach swap unless it is off.

mod batch;
#[cfg(feature = "shell")]
mod guard;
#[cfg(feature = "shell")]
mod records;
#[cfg(feature = "shell")]
mod shelf;
#[cfg(feature = "shell")]
mod slot;
#[cfg(feature = "shell")]
mod store;

pub use batch::{Batch, Bytes, Name, Rows, Table};
#[cfg(feature = "shell")]
pub use guard::Guard;
#[cfg(feature = "shell")]
pub use slot::Cost;
#[cfg(feature = "shell")]
pub use store::{Vault, harden};

/// Why a vault did not do what it was told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// There is none in this folder.
    #[error("there is no vault here")]
    Missing,
    /// There is one already.
    #[error("there is a vault here already")]
    Exists,
    /// Another program is using it.
    #[error("the vault is in use by another program")]
    Busy,
    /// The passphrase does not open it.
    #[error("the passphrase does not open the vault")]
    WrongPassphrase,
    /// Its files are not what this program wrote.
    #[error("the vault's {part} is damaged")]
    Damaged {
        /// Which of them.
        part: &'static str,
    },
    /// Its records are an older copy of themselves.
    #[error("the vault's records are an older copy")]
    RolledBack,
    /// There is no room on the disk.
    #[error("the disk is full")]
    Full,
    /// An earlier commit failed.
    #[error("the vault stopped after an earlier failure")]
    Poisoned,
    /// A file failed.
    #[error("a file of the vault failed")]
    Io(#[source] std::io::Error),
}

impl From<std::io::Error> for VaultError {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::StorageFull {
            Self::Full
        } else {
            Self::Io(error)
        }
    }
}
