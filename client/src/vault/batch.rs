//! What changes together.

use zeroize::Zeroizing;

/// What records are about. The numbers stand on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Table {
    /// The vault's owner.
    Profile = 1,
    /// The owner's invites.
    Invites = 2,
    /// Cases.
    Cases = 3,
    /// Letters; the group is the case.
    Letters = 4,
    /// What waits to be sent; the group is the case.
    Outbox = 5,
    /// Documents on their way out; the group is the case.
    Uploads = 6,
    /// The vault's own: where the keys of ratchet state are.
    Ratchets = 7,
}

/// A record's name: a table, a group in it (a case's id, or zeros), and a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The table.
    pub table: Table,
    /// The group.
    pub group: [u8; 16],
    /// The number; records of a group are in its order.
    pub index: u64,
}

impl Name {
    /// The name of a record in a group.
    pub const fn new(table: Table, group: [u8; 16], index: u64) -> Self {
        Self { table, group, index }
    }

    /// The name of a table's only record.
    pub const fn one(table: Table) -> Self {
        Self::new(table, [0; 16], 0)
    }
}

/// A record's bytes.
pub type Bytes = Zeroizing<Vec<u8>>;

/// Records of a group by their numbers, in order.
pub type Rows = Vec<(u64, Bytes)>;

/// Changes that take effect together or not at all.
#[derive(Default)]
pub struct Batch {
    pub(super) records: Vec<(Name, Option<Bytes>)>,
    pub(super) ratchets: Vec<(Vec<u8>, Option<Bytes>)>,
}

impl Batch {
    /// Writes a record.
    pub fn put(&mut self, name: Name, record: impl Into<Bytes>) {
        self.records.push((name, Some(record.into())));
    }

    /// Deletes a record.
    pub fn delete(&mut self, name: Name) {
        self.records.push((name, None));
    }

    /// Writes ratchet state: what was there before becomes unreadable.
    pub fn put_ratchet(&mut self, key: &[u8], state: impl Into<Bytes>) {
        self.ratchets.push((key.to_vec(), Some(state.into())));
    }

    /// Deletes ratchet state: it becomes unreadable.
    pub fn delete_ratchet(&mut self, key: &[u8]) {
        self.ratchets.push((key.to_vec(), None));
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.ratchets.is_empty()
    }

    /// Records in the order in which they are written (`Some`) or deleted: what any store of them must do, all or none.
    pub fn records(&self) -> impl Iterator<Item = (Name, Option<&[u8]>)> {
        let records = self.records.iter();
        records.map(|(name, record)| (*name, record.as_ref().map(|record| record.as_slice())))
    }

    /// Ratchet states in the order in which they are written (`Some`) or deleted.
    pub fn ratchets(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let ratchets = self.ratchets.iter();
        ratchets.map(|(key, state)| (key.as_slice(), state.as_ref().map(|state| state.as_slice())))
    }

    /// Adds what another batch changes, after what this one does.
    pub fn merge(&mut self, other: Self) {
        self.records.extend(other.records);
        self.ratchets.extend(other.ratchets);
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Batch(..)")
    }
}
