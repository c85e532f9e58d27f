//! One program at a time on a vault.

use std::{
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    time::{Duration, Instant},
};

use super::VaultError;

/// Held by whoever uses the vault. The lock ends with the process, however that ends.
#[derive(Debug)]
pub struct Guard {
    _lock: File,
}

const POLL: Duration = Duration::from_millis(50);

impl Guard {
    /// Takes the lock of a folder, which is made if it is not there; waits for another holder.
    ///
    /// # Errors
    ///
    /// [`VaultError::Busy`] after `wait`.
    #[expect(clippy::disallowed_methods, reason = "the guard waits in real time")]
    pub fn acquire(home: &Path, wait: Duration) -> Result<Self, VaultError> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(home)?;
        let path = home.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)?;
        let began = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Self { _lock: lock }),
                Err(TryLockError::WouldBlock) if began.elapsed() < wait => std::thread::sleep(POLL),
                Err(TryLockError::WouldBlock) => return Err(VaultError::Busy),
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
        }
    }
}
