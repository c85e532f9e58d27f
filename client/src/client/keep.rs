//! What the vault keeps, in and out of memory.

use std::{collections::BTreeMap, path::Path, time::Duration};

use martlet_proto::limits::NAME_BYTES_MAX;

use super::{Core, Cost, NewProfile, entropy, now};
use crate::{
    archive::Archived,
    case::{self, Case, Turn},
    devices,
    error::{Error, Usage},
    me::Me,
    record::{CaseRecord, HomeRelay, InviteRecord, Standing, UploadRecord, decode, encode},
    vault::{self, Batch, Guard, Name, Table, Vault, VaultError},
    view::Event,
};

/// For what the key is derived with which programs on one vault know each other.
pub(super) const FOLLOW_LABEL: &str = "martlet/1 follow";
/// How long to wait for another program to leave the vault.
const BUSY_WAIT: Duration = Duration::from_secs(10);

impl From<VaultError> for Error {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::Missing => Self::NoVault,
            VaultError::Exists => Self::VaultExists,
            VaultError::Busy => Self::VaultBusy,
            VaultError::WrongPassphrase => Self::Passphrase,
            VaultError::RolledBack => Self::VaultRolledBack,
            VaultError::Full => Self::DiskFull,
            VaultError::Poisoned => Self::Internal("the vault stopped after an earlier failure; start again"),
            VaultError::Io(error) => Self::File(error),
            VaultError::Damaged { .. } => Self::VaultDamaged("its files were changed"),
        }
    }
}

pub(super) fn acquire(home: &Path) -> Result<Guard, Error> {
    Ok(Guard::acquire(home, BUSY_WAIT)?)
}

pub(super) fn create(home: &Path, passphrase: &[u8], cost: Cost, profile: NewProfile) -> Result<Core, Error> {
    check_name(&profile.name)?;
    if Vault::exists(home) {
        return Err(Error::VaultExists);
    }
    let cost = work(cost);
    load(Vault::create_with(home, passphrase, cost, |vault| {
        own(vault, profile).map(drop)
    })?)
}

pub(super) fn work(cost: Cost) -> vault::Cost {
    match cost {
        Cost::Calibrated => vault::Cost::calibrated(),
        Cost::Floor => vault::Cost::FLOOR,
    }
}

pub(super) fn check_name(name: &str) -> Result<(), Error> {
    if name.len() > NAME_BYTES_MAX {
        Err(Error::Usage(Usage::NameTooLong))
    } else {
        Ok(())
    }
}

/// A new owner in an empty vault.
pub(super) fn begin(mut vault: Vault, profile: NewProfile) -> Result<Core, Error> {
    let me = own(&mut vault, profile)?;
    Ok(Core {
        vault,
        me,
        cases: Vec::new(),
        archived: Vec::new(),
        invites: Vec::new(),
        uploads: Vec::new(),
    })
}

fn own(vault: &mut Vault, profile: NewProfile) -> Result<Me, Error> {
    let relay = profile.relay.map(|link| HomeRelay {
        relay: link.relay,
        admission: link.admission,
    });
    let me = Me::new(profile.name, relay, now().day(), &mut entropy()?)?;
    let mut batch = Batch::default();
    batch.put(Name::one(Table::Profile), encode(me.profile())?);
    vault.commit(batch)?;
    Ok(me)
}

/// Everything a vault holds.
pub(super) fn load(vault: Vault) -> Result<Core, Error> {
    let profile = vault
        .get(&Name::one(Table::Profile))?
        .ok_or(Error::VaultDamaged("it has no owner"))?;
    let me = Me::from_profile(decode(&profile)?)?;
    let (mut cases, mut archived) = (Vec::new(), Vec::new());
    let mut uploads = Vec::new();
    for (index, record) in vault.scan(Table::Cases, [0; 16], 0)? {
        let record: CaseRecord = decode(&record)?;
        if record.standing == Standing::Restored {
            let letters = rows(&vault, Table::Letters, record.id)?;
            archived.push(Archived::load(index, record, letters));
            continue;
        }
        let ratchet = vault.ratchet(&case::ratchet_name(&record.id))?;
        let ratchet = ratchet.ok_or(Error::VaultDamaged("a case has no keys"))?;
        let letters = rows(&vault, Table::Letters, record.id)?;
        let outbox = rows(&vault, Table::Outbox, record.id)?;
        for (at, upload) in rows::<UploadRecord>(&vault, Table::Uploads, record.id)? {
            uploads.push((record.id, at, upload));
        }
        cases.push(Case::load(
            &me,
            index,
            record,
            &ratchet,
            letters,
            outbox,
            &mut entropy()?,
        )?);
    }
    let invites = vault.scan(Table::Invites, [0; 16], 0)?;
    let invites = invites
        .into_iter()
        .map(|(index, record)| Ok((index, decode::<InviteRecord>(&record)?)))
        .collect::<Result<_, Error>>()?;
    let mut core = Core {
        vault,
        me,
        cases,
        archived,
        invites,
        uploads,
    };
    for at in 0..core.cases.len() {
        core.with(at, |case, me| case.forget(me, now()))?;
    }
    Ok(core)
}

pub(super) fn rows<T: serde::de::DeserializeOwned>(
    vault: &Vault,
    table: Table,
    group: [u8; 16],
) -> Result<BTreeMap<u64, T>, Error> {
    vault
        .scan(table, group, 0)?
        .into_iter()
        .map(|(at, row)| Ok((at, decode(&row)?)))
        .collect()
}

impl Core {
    /// Changes a case and makes it durable.
    pub(super) fn with(
        &mut self,
        at: usize,
        change: impl FnOnce(&mut Case, &Me) -> Result<Batch, Error>,
    ) -> Result<(), Error> {
        let case = self
            .cases
            .get_mut(at)
            .ok_or(Error::NotFound(crate::error::Missing::Case))?;
        let batch = change(case, &self.me)?;
        self.commit(batch)
    }

    /// Makes a turn durable, with what it has for further devices; gives its events.
    pub(super) fn commit_turn(&mut self, turn: Turn) -> Result<Vec<Event>, Error> {
        let Turn {
            mut batch,
            events,
            parcels,
        } = turn;
        for (leaf, joining) in &parcels {
            let devices = &mut self.me.profile_mut().devices;
            if let Some(device) = devices.iter_mut().find(|device| device.leaf == *leaf) {
                devices::hand_over(device, joining, &mut entropy()?)?;
            }
        }
        if !parcels.is_empty() {
            self.save_profile(&mut batch)?;
        }
        self.commit(batch)?;
        Ok(events)
    }

    /// Changes a restored case and makes it durable.
    pub(super) fn with_archived(
        &mut self,
        at: usize,
        change: impl FnOnce(&mut Archived, &Me) -> Result<Batch, Error>,
    ) -> Result<(), Error> {
        let archived = self
            .archived
            .get_mut(at)
            .ok_or(Error::NotFound(crate::error::Missing::Case))?;
        let batch = change(archived, &self.me)?;
        self.commit(batch)
    }

    /// Makes a batch durable.
    pub(super) fn commit(&mut self, batch: Batch) -> Result<(), Error> {
        if batch.is_empty() {
            Ok(())
        } else {
            Ok(self.vault.commit(batch)?)
        }
    }

    /// The owner's record, after a change to it.
    pub(super) fn save_profile(&self, batch: &mut Batch) -> Result<(), Error> {
        batch.put(Name::one(Table::Profile), encode(self.me.profile())?);
        Ok(())
    }
}
