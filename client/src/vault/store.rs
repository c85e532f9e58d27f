//! An unlocked vault.

use std::{os::unix::fs::DirBuilderExt, path::Path};

use hkdf::Hkdf;
use martlet_proto::Secret;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{
    Batch, Cost, Name, Rows, Table, VaultError,
    records::Records,
    shelf::{Memory, Shelf, Sled},
    slot::{RatchetKey, Slot, random},
};

/// An unlocked vault: a value of this type *is* unlocked, and locks when it is dropped.
pub struct Vault {
    records: Records,
    slot: Slot,
    master: Secret<32>,
    /// Which key opens each piece of ratchet state.
    ratchets: Ratchets,
    poisoned: bool,
}

/// The map from ratchet state to keys: itself a record, sealed under the ratchet key of the slot.
#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Ratchets {
    state: u64,
    next: u64,
    entries: Vec<Ratchet>,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Ratchet {
    name: Vec<u8>,
    /// Where the state lies.
    index: u64,
    #[serde(with = "martlet_proto::secret::sealed")]
    key: Secret<32>,
}

const MAP: Name = Name::one(Table::Ratchets);
const STATES: [u8; 16] = [1; 16];
const DAMAGED: VaultError = VaultError::Damaged {
    part: "ratchet state",
};

/// The key slot of a vault that is being made.
const DRAFT: &str = "slot.new";

/// A key for one purpose.
#[expect(
    clippy::expect_used,
    reason = "HKDF-SHA256 gives up to 8,160 bytes; this is 32"
)]
pub(super) fn subkey(master: &Secret<32>, label: &str) -> Secret<32> {
    let mut key = Secret::new([0; 32]);
    Hkdf::<Sha256>::new(None, master.expose())
        .expand(label.as_bytes(), key.expose_mut())
        .expect("32 bytes are within HKDF's bound");
    key
}

impl Vault {
    /// Makes a vault in a folder.
    ///
    /// # Errors
    ///
    /// [`VaultError::Exists`], and those of the disk.
    pub fn create(home: &Path, passphrase: &[u8], cost: Cost) -> Result<Self, VaultError> {
        Self::create_with(home, passphrase, cost, |_| Ok(()))
    }

    /// Makes a vault in a folder, with something in it from the start: either all of that is there, or no vault is.
    ///
    /// # Errors
    ///
    /// [`VaultError::Exists`], those of the disk, and those of `fill`.
    pub fn create_with<E: From<VaultError>>(
        home: &Path,
        passphrase: &[u8],
        cost: Cost,
        fill: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<Self, E> {
        if Self::exists(home) {
            return Err(VaultError::Exists.into());
        }
        discard_draft(home)?;
        let made = Self::draft(home, passphrase, cost).map_err(E::from);
        let made = made.and_then(|mut vault| {
            fill(&mut vault)?;
            std::fs::rename(home.join(DRAFT), home.join("slot")).map_err(VaultError::from)?;
            std::fs::File::open(home)
                .and_then(|home| home.sync_all())
                .map_err(VaultError::from)?;
            Ok(vault)
        });
        if made.is_err() && !Self::exists(home) {
            discard_draft(home)?;
        }
        made
    }

    /// All of a vault but the name of its slot: a vault without one does not exist.
    fn draft(home: &Path, passphrase: &[u8], cost: Cost) -> Result<Self, VaultError> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(home)?;
        let master = random()?;
        // First of all, so that whatever else an interrupted creation leaves is known by it.
        Slot::create(&home.join(DRAFT), passphrase, cost, &master)?;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(home.join("records"))?;
        let mut vault = Self::begin(Box::new(Sled::open(&home.join("records"))?), master)?;
        vault.slot = Slot::open(&home.join(DRAFT), &vault.master)?;
        vault.commit_ratchets(Batch::default())?;
        Ok(vault)
    }

    /// A vault that is nowhere but in memory, for tests and simulations.
    ///
    /// # Errors
    ///
    /// [`VaultError::Io`] if the system gives no randomness.
    pub fn in_memory() -> Result<Self, VaultError> {
        Self::begin(Box::new(Memory::default()), random()?)
    }

    fn begin(shelf: Box<dyn Shelf>, master: Secret<32>) -> Result<Self, VaultError> {
        Ok(Self {
            records: Records::new(shelf, &master),
            slot: Slot::in_memory(&master)?,
            master,
            ratchets: Ratchets::default(),
            poisoned: false,
        })
    }

    /// Opens the vault in a folder.
    ///
    /// # Errors
    ///
    /// [`VaultError::Missing`], [`VaultError::WrongPassphrase`], [`VaultError::Damaged`], [`VaultError::RolledBack`].
    pub fn open(home: &Path, passphrase: &[u8]) -> Result<Self, VaultError> {
        let path = home.join("slot");
        let master = Slot::unwrap(&path, passphrase)?;
        let mut slot = Slot::open(&path, &master)?;
        let records = Records::new(Box::new(Sled::open(&home.join("records"))?), &master);
        let sealed = records.get(&MAP)?.ok_or(DAMAGED)?;
        let (state, ratchets) = slot
            .keys
            .iter()
            .find_map(|key| {
                let plain = super::slot::open(&key.key, &sealed, b"martlet/1 ratchets")?;
                Some((key.clone(), postcard::from_bytes::<Ratchets>(&plain).ok()?))
            })
            .ok_or(VaultError::RolledBack)?;
        if ratchets.state != state.state {
            return Err(VaultError::RolledBack);
        }
        if slot.keys.len() > 1 {
            slot.keys = vec![state];
            slot.write()?;
        }
        Ok(Self {
            records,
            slot,
            master,
            ratchets,
            poisoned: false,
        })
    }

    /// Whether there is a vault in this folder.
    pub fn exists(home: &Path) -> bool {
        home.join("slot").exists()
    }

    /// A key derived from the master key, without opening the records.
    ///
    /// # Errors
    ///
    /// [`VaultError::Missing`], [`VaultError::WrongPassphrase`], [`VaultError::Damaged`].
    pub fn check(home: &Path, passphrase: &[u8], label: &str) -> Result<Secret<32>, VaultError> {
        Ok(subkey(&Slot::unwrap(&home.join("slot"), passphrase)?, label))
    }

    /// A key derived from the master key, for a purpose of the caller's.
    pub fn derive(&self, label: &str) -> Secret<32> {
        subkey(&self.master, label)
    }

    /// A record.
    ///
    /// # Errors
    ///
    /// [`VaultError::Damaged`] and those of the disk.
    pub fn get(&self, name: &Name) -> Result<Option<Zeroizing<Vec<u8>>>, VaultError> {
        self.alive()?;
        self.records.get(name)
    }

    /// The records of a group from a number on, in order.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn scan(&self, table: Table, group: [u8; 16], from: u64) -> Result<Rows, VaultError> {
        self.alive()?;
        self.records.scan(table, group, from)
    }

    /// Ratchet state.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn ratchet(&self, name: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, VaultError> {
        self.alive()?;
        let Some(entry) = self.ratchets.entries.iter().find(|entry| entry.name == name) else {
            return Ok(None);
        };
        let sealed = self
            .records
            .get(&Name::new(Table::Ratchets, STATES, entry.index))?
            .ok_or(DAMAGED)?;
        super::slot::open(&entry.key, &sealed, name)
            .map(Some)
            .ok_or(DAMAGED)
    }

    /// Makes a batch durable before it returns.
    ///
    /// # Errors
    ///
    /// Those of the disk; the vault is then poisoned, for what was kept is not known.
    pub fn commit(&mut self, batch: Batch) -> Result<(), VaultError> {
        self.alive()?;
        let done = if batch.ratchets.is_empty() {
            self.records.write(batch.records)
        } else {
            self.commit_ratchets(batch)
        };
        self.poisoned = done.is_err();
        done
    }

    /// Slot {old, new}, records, slot {new}: each durable before the next.
    fn commit_ratchets(&mut self, batch: Batch) -> Result<(), VaultError> {
        let mut records = batch.records;
        for (name, state) in batch.ratchets {
            let known = self.ratchets.entries.iter().position(|entry| entry.name == name);
            if let Some(known) = known {
                let old = self.ratchets.entries.swap_remove(known);
                records.push((Name::new(Table::Ratchets, STATES, old.index), None));
            }
            if let Some(state) = state {
                let (index, key) = (self.ratchets.next, random()?);
                self.ratchets.next = index.saturating_add(1);
                let sealed = super::slot::seal(&key, &state, &name)?;
                records.push((Name::new(Table::Ratchets, STATES, index), Some(sealed.into())));
                self.ratchets.entries.push(Ratchet { name, index, key });
            }
        }
        self.ratchets.state = self.ratchets.state.saturating_add(1);
        let new = RatchetKey {
            state: self.ratchets.state,
            key: random()?,
        };
        let plain = Zeroizing::new(postcard::to_allocvec(&self.ratchets).map_err(|_| DAMAGED)?);
        let sealed = super::slot::seal(&new.key, &plain, b"martlet/1 ratchets")?;
        records.push((MAP, Some(sealed.into())));
        self.slot.keys.push(new.clone());
        self.slot.write()?;
        self.records.write(records)?;
        self.slot.keys = vec![new];
        self.slot.write()
    }

    /// Destroys the vault of a folder: the key slot first, then the files that this program made.
    ///
    /// # Errors
    ///
    /// [`VaultError::Missing`] and those of the disk.
    pub fn wipe(home: &Path) -> Result<(), VaultError> {
        let slot = home.join("slot");
        let length = match std::fs::metadata(&slot) {
            Ok(found) => usize::try_from(found.len()).unwrap_or(0),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(VaultError::Missing),
            Err(error) => return Err(error.into()),
        };
        let mut noise = vec![0; length];
        getrandom::fill(&mut noise).map_err(|_| VaultError::Io(std::io::Error::other("no randomness")))?;
        let file = std::fs::OpenOptions::new().write(true).open(&slot)?;
        std::os::unix::fs::FileExt::write_all_at(&file, &noise, 0)?;
        file.sync_all()?;
        std::fs::remove_file(&slot)?;
        for dir in ["records", "spool"] {
            ignore_missing(std::fs::remove_dir_all(home.join(dir)))?;
        }
        for file in [DRAFT, "follow.sock", "lock"] {
            ignore_missing(std::fs::remove_file(home.join(file)))?;
        }
        std::fs::File::open(home)?.sync_all()?;
        // Whatever else is there is not ours to delete.
        let _ = std::fs::remove_dir(home);
        Ok(())
    }

    fn alive(&self) -> Result<(), VaultError> {
        if self.poisoned {
            Err(VaultError::Poisoned)
        } else {
            Ok(())
        }
    }
}

/// Removes what a creation left that did not come to its end: records that no slot opens, then the draft of the slot.
fn discard_draft(home: &Path) -> Result<(), VaultError> {
    let draft = home.join(DRAFT);
    if draft.exists() {
        ignore_missing(std::fs::remove_dir_all(home.join("records")))?;
        ignore_missing(std::fs::remove_file(draft))?;
    }
    Ok(())
}

fn ignore_missing(done: std::io::Result<()>) -> std::io::Result<()> {
    match done {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// No core dumps, and no reading of this process's memory by others of the same user.
pub fn harden() {
    let none = rustix::process::Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault(..)")
    }
}
