//! Records, sealed: names become places that say nothing, values ciphertext bound to their names.

use hmac::{Hmac, KeyInit, Mac};
use martlet_proto::Secret;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{
    Name, Rows, Table, VaultError,
    shelf::{Place, Shelf, Writes},
    slot::{open, seal},
    store::subkey,
};

const DAMAGED: VaultError = VaultError::Damaged { part: "records" };

/// The records of an unlocked vault.
pub(super) struct Records {
    shelf: Box<dyn Shelf>,
    names: Secret<32>,
    values: Secret<32>,
}

impl Records {
    pub(super) fn new(shelf: Box<dyn Shelf>, master: &Secret<32>) -> Self {
        let names = subkey(master, "martlet/1 vault names");
        let values = subkey(master, "martlet/1 vault records");
        Self { shelf, names, values }
    }

    pub(super) fn get(&self, name: &Name) -> Result<Option<Zeroizing<Vec<u8>>>, VaultError> {
        let Some(sealed) = self.shelf.get(&self.place(name)?)? else {
            return Ok(None);
        };
        open(&self.values, &sealed, &associated(name))
            .map(Some)
            .ok_or(DAMAGED)
    }

    pub(super) fn scan(&self, table: Table, group: [u8; 16], from: u64) -> Result<Rows, VaultError> {
        let rows = self.shelf.range(&self.place(&Name::new(table, group, from))?)?;
        rows.into_iter()
            .map(|(place, sealed)| {
                let index = u64::from_be_bytes(*place.last_chunk::<8>().ok_or(DAMAGED)?);
                let aad = associated(&Name::new(table, group, index));
                Ok((index, open(&self.values, &sealed, &aad).ok_or(DAMAGED)?))
            })
            .collect()
    }

    pub(super) fn write(
        &mut self,
        records: Vec<(Name, Option<Zeroizing<Vec<u8>>>)>,
    ) -> Result<(), VaultError> {
        let mut writes: Writes = Vec::with_capacity(records.len());
        for (name, record) in records {
            let sealed = record
                .map(|record| seal(&self.values, &record, &associated(&name)))
                .transpose()?;
            writes.push((self.place(&name)?, sealed));
        }
        self.shelf.apply(writes)
    }

    /// HMAC-SHA256 of table and group, cut to 16 bytes, then the number.
    fn place(&self, name: &Name) -> Result<Place, VaultError> {
        let mut hash = <Hmac<Sha256> as KeyInit>::new_from_slice(self.names.expose()).map_err(|_| DAMAGED)?;
        hash.update(&[name.table as u8]);
        hash.update(&name.group);
        let hash = hash.finalize().into_bytes();
        let mut place = [0; 24];
        let (group, number) = place.split_at_mut(16);
        group.copy_from_slice(hash.get(..16).ok_or(DAMAGED)?);
        number.copy_from_slice(&name.index.to_be_bytes());
        Ok(place)
    }
}

fn associated(name: &Name) -> Vec<u8> {
    let label = b"martlet/1 record".as_slice();
    [label, &[name.table as u8], &name.group, &name.index.to_be_bytes()].concat()
}
