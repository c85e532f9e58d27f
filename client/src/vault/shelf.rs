//! Where sealed records lie: names and values here are opaque bytes. Two engines: memory, and sled on disk.

use std::{
    collections::BTreeMap,
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use super::VaultError;

/// A record's place: 16 bytes that only the vault can compute, and a number.
pub(super) type Place = [u8; 24];
/// What to write (or delete) where.
pub(super) type Writes = Vec<(Place, Option<Vec<u8>>)>;

/// A place to lay sealed records.
pub(super) trait Shelf: Send {
    /// The record at a place.
    fn get(&self, place: &Place) -> Result<Option<Vec<u8>>, VaultError>;
    /// The records whose places begin alike, in order, from one of them on.
    fn range(&self, from: &Place) -> Result<Vec<(Place, Vec<u8>)>, VaultError>;
    /// Makes all writes durable before it returns, or none.
    fn apply(&mut self, writes: Writes) -> Result<(), VaultError>;
}

/// For tests and simulations.
#[derive(Default)]
pub(super) struct Memory(BTreeMap<Place, Vec<u8>>);

impl Shelf for Memory {
    fn get(&self, place: &Place) -> Result<Option<Vec<u8>>, VaultError> {
        Ok(self.0.get(place).cloned())
    }

    fn range(&self, from: &Place) -> Result<Vec<(Place, Vec<u8>)>, VaultError> {
        let end = last_of(from);
        Ok(self
            .0
            .range(*from..=end)
            .map(|(place, value)| (*place, value.clone()))
            .collect())
    }

    fn apply(&mut self, writes: Writes) -> Result<(), VaultError> {
        for (place, value) in writes {
            match value {
                Some(value) => self.0.insert(place, value),
                None => self.0.remove(&place),
            };
        }
        Ok(())
    }
}

/// The last place that begins like this one.
fn last_of(from: &Place) -> Place {
    let mut last = *from;
    if let Some(number) = last.get_mut(16..) {
        number.fill(0xff);
    }
    last
}

/// sled 0.34.7, with the repair it needs: its `flush` makes no fsync, so its file is synced here before a write counts.
pub(super) struct Sled {
    db: sled::Db,
    file: File,
}

const DAMAGED: VaultError = VaultError::Damaged { part: "record file" };

/// sled panics on some damage; that must not end the program.
fn guarded<T>(work: impl FnOnce() -> Result<T, sled::Error>) -> Result<T, VaultError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(error))) => Err(error.into()),
        Ok(Err(_)) | Err(_) => Err(DAMAGED),
    }
}

impl Sled {
    pub(super) fn open(dir: &Path) -> Result<Self, VaultError> {
        let path: PathBuf = dir.to_path_buf();
        let db = guarded(move || {
            sled::Config::new()
                .path(path)
                .cache_capacity(16 << 20)
                .flush_every_ms(None)
                .open()
        })?;
        Ok(Self {
            db,
            file: File::open(dir.join("db"))?,
        })
    }
}

impl Shelf for Sled {
    fn get(&self, place: &Place) -> Result<Option<Vec<u8>>, VaultError> {
        guarded(|| Ok(self.db.get(place)?.map(|value| value.to_vec())))
    }

    fn range(&self, from: &Place) -> Result<Vec<(Place, Vec<u8>)>, VaultError> {
        let found = guarded(|| {
            let range = self.db.range(from.as_slice()..=last_of(from).as_slice());
            range
                .map(|row| row.map(|(place, value)| (place.to_vec(), value.to_vec())))
                .collect::<Result<Vec<_>, _>>()
        })?;
        found
            .into_iter()
            .map(|(place, value)| Ok((place.try_into().map_err(|_| DAMAGED)?, value)))
            .collect()
    }

    fn apply(&mut self, writes: Writes) -> Result<(), VaultError> {
        guarded(|| {
            let mut batch = sled::Batch::default();
            for (place, value) in writes {
                match value {
                    Some(value) => batch.insert(place.as_slice(), value),
                    None => batch.remove(place.as_slice()),
                }
            }
            self.db.apply_batch(batch)?;
            self.db.flush()?;
            Ok(())
        })?;
        Ok(self.file.sync_data()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What every engine must do.
    fn conforms(shelf: &mut dyn Shelf) {
        let place = |group: u8, number: u64| {
            let mut place = [group; 24];
            place[16..].copy_from_slice(&number.to_be_bytes());
            place
        };
        let rows = (0..300)
            .map(|n| (place(1, n), Some(vec![n as u8; 100])))
            .collect();
        shelf.apply(rows).unwrap();
        shelf
            .apply(vec![
                (place(2, 0), Some(vec![2])),
                (place(1, 5), None),
                (place(1, 6), Some(vec![9])),
            ])
            .unwrap();
        assert_eq!(shelf.get(&place(1, 4)).unwrap(), Some(vec![4; 100]));
        assert_eq!(shelf.get(&place(1, 5)).unwrap(), None);
        let found = shelf.range(&place(1, 5)).unwrap();
        assert_eq!(found.len(), 294);
        assert_eq!(found[0], (place(1, 6), vec![9]));
        assert!(found.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert_eq!(shelf.range(&place(3, 0)).unwrap(), vec![]);
    }

    #[test]
    fn both_engines_conform() {
        conforms(&mut Memory::default());
        let dir = tempfile::tempdir().unwrap();
        conforms(&mut Sled::open(dir.path()).unwrap());
    }

    #[test]
    fn what_was_applied_is_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let big = vec![7; 200_000];
        Sled::open(dir.path())
            .unwrap()
            .apply(vec![([1; 24], Some(big.clone()))])
            .unwrap();
        assert_eq!(Sled::open(dir.path()).unwrap().get(&[1; 24]).unwrap(), Some(big));
    }
}
