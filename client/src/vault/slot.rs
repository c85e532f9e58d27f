//! The key slot: the wrapped master key, and the ratchet keys, which are overwritten in place.
//!
//! `slot` is `header ‖ cell 0 ‖ cell 1`. The header (fixed for the vault's life) is `"martlet vault 1\n" ‖ memory KiB
//! u32 ‖ passes u32 ‖ salt 16 ‖ nonce 24 ‖ sealed master key 48`, sealed under Argon2id of the passphrase with all
//! before the nonce as associated data. A cell is `nonce 24 ‖ sealed (generation u64 ‖ count u8 ‖ 2 × (state u64 ‖ key
//! 32)) 89 + 16`, sealed under a key derived from the master key. Both cells are written at every step, one synced
//! before the other, so one of them is whole whenever the power fails, and at the end neither holds an old key.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305,
    aead::{Aead, Payload},
};
use martlet_proto::Secret;
use zeroize::Zeroizing;

use super::VaultError;

const MAGIC: &[u8; 16] = b"martlet vault 1\n";
const PLAIN_HEADER: usize = 16 + 4 + 4 + 16;
const HEADER: usize = PLAIN_HEADER + 24 + 48;
const CELL_PLAIN: usize = 8 + 1 + 2 * 40;
const CELL: usize = 24 + CELL_PLAIN + 16;
const DAMAGED: VaultError = VaultError::Damaged { part: "key slot" };

/// How much work a guess at the passphrase costs: Argon2id's memory and passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    memory_kib: u32,
    passes: u32,
}

impl Cost {
    /// The least that is sound: 19 MiB, two passes.
    pub const FLOOR: Self = Self {
        memory_kib: 19 << 10,
        passes: 2,
    };
    /// What a weak device can bear: 64 MiB, three passes.
    pub const STANDARD: Self = Self {
        memory_kib: 64 << 10,
        passes: 3,
    };
    /// The most that is believed when a vault is opened: a file must not be able to take all memory.
    const MEMORY_KIB_MAX: u32 = 1 << 20;
    const PASSES_MAX: u32 = 64;

    /// At least [`STANDARD`](Self::STANDARD), and as many passes more as take about a second here.
    #[expect(clippy::disallowed_methods, reason = "calibration measures real time")]
    pub fn calibrated() -> Self {
        let began = std::time::Instant::now();
        if derive(b"calibration", &[0; 16], Self::STANDARD).is_err() {
            return Self::FLOOR;
        }
        let took_ms = u32::try_from(began.elapsed().as_millis())
            .unwrap_or(u32::MAX)
            .max(1);
        let passes = Self::STANDARD
            .passes
            .saturating_mul(1000)
            .checked_div(took_ms)
            .unwrap_or(3);
        Self {
            passes: passes.clamp(Self::STANDARD.passes, 24),
            ..Self::STANDARD
        }
    }

    fn believable(self) -> bool {
        (8..=Self::MEMORY_KIB_MAX).contains(&self.memory_kib) && (1..=Self::PASSES_MAX).contains(&self.passes)
    }
}

fn derive(passphrase: &[u8], salt: &[u8; 16], cost: Cost) -> Result<Secret<32>, VaultError> {
    let params = Params::new(cost.memory_kib, cost.passes, 1, Some(32)).map_err(|_| DAMAGED)?;
    let mut key = Secret::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase, salt, key.expose_mut())
        .map_err(|_| DAMAGED)?;
    Ok(key)
}

pub(super) fn seal(key: &Secret<32>, plain: &[u8], aad: &[u8]) -> Result<Vec<u8>, VaultError> {
    let mut nonce = [0; 24];
    getrandom::fill(&mut nonce).map_err(|_| VaultError::Io(std::io::Error::other("no randomness")))?;
    let sealed = XChaCha20Poly1305::new(key.expose().into())
        .encrypt(&nonce.into(), Payload { msg: plain, aad })
        .map_err(|_| DAMAGED)?;
    Ok([nonce.as_slice(), &sealed].concat())
}

pub(super) fn open(key: &Secret<32>, sealed: &[u8], aad: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, sealed) = sealed.split_first_chunk::<24>()?;
    let cipher = XChaCha20Poly1305::new(key.expose().into());
    cipher
        .decrypt(nonce.into(), Payload { msg: sealed, aad })
        .ok()
        .map(Zeroizing::new)
}

/// A ratchet key and the number of the state that it opens.
#[derive(Clone)]
pub(super) struct RatchetKey {
    pub(super) state: u64,
    pub(super) key: Secret<32>,
}

/// The open key slot.
pub(super) struct Slot {
    file: Option<File>,
    cell_key: Secret<32>,
    generation: u64,
    /// One, or while a transaction is under way two: the old and the new.
    pub(super) keys: Vec<RatchetKey>,
}

impl Slot {
    /// Makes the file, with a first ratchet key.
    pub(super) fn create(
        path: &Path,
        passphrase: &[u8],
        cost: Cost,
        master: &Secret<32>,
    ) -> Result<(), VaultError> {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(|_| VaultError::Io(std::io::Error::other("no randomness")))?;
        let plain = [
            MAGIC.as_slice(),
            &cost.memory_kib.to_be_bytes(),
            &cost.passes.to_be_bytes(),
            &salt,
        ]
        .concat();
        let wrapped = seal(&derive(passphrase, &salt, cost)?, master.expose(), &plain)?;
        let file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .read(true)
            .mode(0o600)
            .open(path)?;
        file.write_all_at(&[plain, wrapped].concat(), 0)?;
        let mut slot = Self::fresh(Some(file), cell_key(master))?;
        slot.write()
    }

    /// A slot that is nowhere but in memory.
    pub(super) fn in_memory(master: &Secret<32>) -> Result<Self, VaultError> {
        Self::fresh(None, cell_key(master))
    }

    fn fresh(file: Option<File>, cell_key: Secret<32>) -> Result<Self, VaultError> {
        Ok(Self {
            file,
            cell_key,
            generation: 0,
            keys: vec![RatchetKey {
                state: 0,
                key: random()?,
            }],
        })
    }

    /// The master key, if the passphrase opens it.
    pub(super) fn unwrap(path: &Path, passphrase: &[u8]) -> Result<Secret<32>, VaultError> {
        let header = read(path)?;
        let (plain, wrapped) = header.get(..HEADER).ok_or(DAMAGED)?.split_at(PLAIN_HEADER);
        let numbers = plain.strip_prefix(MAGIC.as_slice()).ok_or(DAMAGED)?;
        let (memory, rest) = numbers.split_first_chunk::<4>().ok_or(DAMAGED)?;
        let (passes, salt) = rest.split_first_chunk::<4>().ok_or(DAMAGED)?;
        let cost = Cost {
            memory_kib: u32::from_be_bytes(*memory),
            passes: u32::from_be_bytes(*passes),
        };
        if !cost.believable() {
            return Err(DAMAGED);
        }
        let salt: &[u8; 16] = salt.try_into().map_err(|_| DAMAGED)?;
        let master =
            open(&derive(passphrase, salt, cost)?, wrapped, plain).ok_or(VaultError::WrongPassphrase)?;
        Secret::from_slice(&master).ok_or(DAMAGED)
    }

    /// The slot of a file, given the master key.
    pub(super) fn open(path: &Path, master: &Secret<32>) -> Result<Self, VaultError> {
        let bytes = read(path)?;
        let cell_key = cell_key(master);
        let cells = bytes.get(HEADER..).ok_or(DAMAGED)?.chunks(CELL);
        let best = cells
            .filter_map(|cell| parse_cell(&open(&cell_key, cell, MAGIC)?))
            .max_by_key(|(at, _)| *at);
        let (generation, keys) = best.ok_or(DAMAGED)?;
        let file = OpenOptions::new().write(true).read(true).open(path)?;
        Ok(Self {
            file: Some(file),
            cell_key,
            generation,
            keys,
        })
    }

    /// Overwrites both cells with the present keys, one after the other, each durable before the next.
    pub(super) fn write(&mut self) -> Result<(), VaultError> {
        self.generation = self.generation.saturating_add(1);
        let mut plain = Zeroizing::new(Vec::with_capacity(CELL_PLAIN));
        plain.extend_from_slice(&self.generation.to_be_bytes());
        plain.push(u8::try_from(self.keys.len()).unwrap_or(0));
        for key in &self.keys {
            plain.extend_from_slice(&key.state.to_be_bytes());
            plain.extend_from_slice(key.key.expose());
        }
        plain.resize(CELL_PLAIN, 0);
        let Some(file) = &self.file else { return Ok(()) };
        let cell = seal(&self.cell_key, &plain, MAGIC)?;
        for at in [HEADER, HEADER.saturating_add(CELL)] {
            file.write_all_at(&cell, u64::try_from(at).map_err(|_| DAMAGED)?)?;
            file.sync_data()?;
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<Vec<u8>, VaultError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(VaultError::Missing),
        Err(error) => Err(error.into()),
    }
}

fn cell_key(master: &Secret<32>) -> Secret<32> {
    super::store::subkey(master, "martlet/1 vault slot")
}

pub(super) fn random() -> Result<Secret<32>, VaultError> {
    let mut key = Secret::new([0; 32]);
    getrandom::fill(key.expose_mut()).map_err(|_| VaultError::Io(std::io::Error::other("no randomness")))?;
    Ok(key)
}

fn parse_cell(plain: &[u8]) -> Option<(u64, Vec<RatchetKey>)> {
    let (generation, rest) = plain.split_first_chunk::<8>()?;
    let (count, rest) = rest.split_first()?;
    let keys = rest.chunks_exact(40).take(usize::from(*count)).map(|pair| {
        let (state, key) = pair.split_first_chunk::<8>()?;
        Some(RatchetKey {
            state: u64::from_be_bytes(*state),
            key: Secret::from_slice(key)?,
        })
    });
    let keys: Vec<RatchetKey> = keys.collect::<Option<_>>()?;
    (1..=2)
        .contains(&keys.len())
        .then_some((u64::from_be_bytes(*generation), keys))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Weak enough for tests that open a vault thousands of times.
    pub(crate) const WEAK: Cost = Cost {
        memory_kib: 8,
        passes: 1,
    };

    #[test]
    fn parameters_beyond_reason_are_refused_before_memory_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("slot");
        Slot::create(&path, b"x", WEAK, &random().unwrap()).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[16..20].copy_from_slice(&u32::MAX.to_be_bytes());
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(
            Slot::unwrap(&path, b"x"),
            Err(VaultError::Damaged { .. })
        ));
    }

    #[test]
    fn a_torn_cell_leaves_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("slot");
        let master = random().unwrap();
        Slot::create(&path, b"x", WEAK, &master).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for at in HEADER..whole.len() {
            let mut torn = whole.clone();
            torn[at] ^= 0x40;
            std::fs::write(&path, &torn).unwrap();
            assert_eq!(Slot::open(&path, &master).unwrap().keys.len(), 1);
        }
    }
}
