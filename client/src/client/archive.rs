//! Making an archive of a vault, and a new vault of an archive.

use std::{
    fs::{File, OpenOptions},
    io::{BufReader, BufWriter, ErrorKind, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use martlet_proto::age::{Opener, Random, Sealer, Unopened, Work};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{Client, Cost, entropy, keep, now};
use crate::{
    archive::{Archived, Item, KeptCase, KeptLetter, Owner, Reader, Writer},
    case::record_name,
    error::{Error, Usage},
    me::Me,
    record::{CaseRecord, LetterRecord, encode},
    vault::{Batch, Name, Table, Vault},
};

/// Letters that are made durable together: what a restore holds in memory.
const BATCH_LETTERS: usize = 256;

/// What an archive holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Cases.
    pub cases: u64,
    /// Letters.
    pub letters: u64,
}

impl Kept {
    fn count(&mut self, item: &Item) {
        let of = match item {
            Item::Case(_) => &mut self.cases,
            Item::Letter(_) => &mut self.letters,
        };
        *of = of.saturating_add(1);
    }
}

fn failed(error: std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::StorageFull => Error::DiskFull,
        ErrorKind::AlreadyExists => Error::FileExists,
        _ => Error::File(error),
    }
}

impl From<Unopened> for Error {
    fn from(why: Unopened) -> Self {
        match why {
            Unopened::Malformed => Self::ArchiveDamaged("it does not begin like one"),
            Unopened::WrongPassphrase => Self::ArchivePassphrase,
            Unopened::Io(error) => Self::File(error),
        }
    }
}

impl Client {
    /// Writes an archive of this vault under a passphrase: cases, members and letters, to be read again after
    /// [`restore`](Self::restore). Never overwrites.
    ///
    /// # Errors
    ///
    /// [`Error::FileExists`], [`Error::File`], [`Error::DiskFull`], with nothing left under the name;
    /// [`Usage::NotThisDevice`] on a further device, which has not the identity key.
    ///
    /// # Cancel safety
    ///
    /// It does not wait: once it is polled it is done.
    pub async fn backup(&self, to: &Path, passphrase: &[u8]) -> Result<Kept, Error> {
        if self.core()?.me.profile().owner.is_some() {
            return Err(Error::Usage(Usage::NotThisDevice));
        }
        tokio::task::block_in_place(|| self.write_archive(to, passphrase))
    }

    fn write_archive(&self, to: &Path, passphrase: &[u8]) -> Result<Kept, Error> {
        if to.symlink_metadata().is_ok() {
            return Err(Error::FileExists);
        }
        let dir = match to.parent() {
            Some(dir) if dir != Path::new("") => dir,
            Some(_) | None => Path::new("."),
        };
        let noise: [u8; 8] = entropy()?.bytes();
        let name = data_encoding::HEXLOWER.encode(&noise);
        let part = dir.join(format!(".martlet-{name}.part"));
        let file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&part)
            .map_err(failed)?;
        let done = self.fill_archive(file, passphrase).and_then(|kept| {
            give_name(&part, to).map_err(failed)?;
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
            Ok(kept)
        });
        if done.is_err() {
            let _ = std::fs::remove_file(&part);
        }
        done
    }

    fn fill_archive(&self, file: File, passphrase: &[u8]) -> Result<Kept, Error> {
        let to = BufWriter::new(file);
        let random = {
            let mut entropy = entropy()?;
            Random {
                file_key: entropy.secret(),
                salt: entropy.bytes(),
                nonce: entropy.bytes(),
            }
        };
        let sealer = Sealer::begin(to, passphrase, Work::STANDARD, &random).map_err(failed)?;
        let core = self.core()?;
        let profile = core.me.profile();
        let owner = Owner {
            name: profile.name.clone(),
            identity: profile.identity.clone(),
            relay: profile.relay.clone().map(|home| (home.relay, home.admission)),
        };
        let mut writer = Writer::begin(sealer, &owner)?;
        let mut kept = Kept::default();
        let mut put = |item: Item| {
            kept.count(&item);
            writer.put(&item)
        };
        for case in &core.cases {
            put(Item::Case(Box::new(KeptCase::of(case.record()))))?;
            for letter in case.kept().filter_map(KeptLetter::of) {
                put(Item::Letter(letter))?;
            }
        }
        for record in core.archived.iter().map(Archived::record) {
            put(Item::Case(Box::new(KeptCase::of(record))))?;
            let letters = keep::rows::<LetterRecord>(&core.vault, Table::Letters, record.id)?;
            for letter in letters.values().filter_map(KeptLetter::of) {
                put(Item::Letter(letter))?;
            }
        }
        let to = writer.into_inner().finish().map_err(failed)?;
        let file = to.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().map_err(failed)?;
        Ok(kept)
    }

    /// Makes a vault of an archive: the same person on a new device, with cases that are there to be read.
    ///
    /// The archive is checked from end to end before anything is written; whatever happens then, there is a whole vault
    /// or none.
    ///
    /// # Errors
    ///
    /// [`Error::VaultExists`], [`Error::ArchivePassphrase`], [`Error::ArchiveDamaged`], [`Error::File`].
    ///
    /// # Cancel safety
    ///
    /// It does not wait: once it is polled it is done.
    pub async fn restore(
        from: &Path,
        archive_passphrase: &[u8],
        home: &Path,
        passphrase: &[u8],
        cost: Cost,
    ) -> Result<Kept, Error> {
        tokio::task::block_in_place(|| {
            if Vault::exists(home) {
                return Err(Error::VaultExists);
            }
            let file = File::open(from).map_err(Error::File)?;
            if !file.metadata().map_err(Error::File)?.is_file() {
                return Err(Error::Usage(Usage::NotAFile));
            }
            let mut opener = Opener::begin(BufReader::new(file), archive_passphrase)?;
            let kept = survey(&mut opener)?;
            opener.rewind().map_err(Error::File)?;
            let _guard = keep::acquire(home)?;
            let cost = keep::work(cost);
            Vault::create_with(home, passphrase, cost, |vault| restore_into(vault, &mut opener))?;
            Ok(kept)
        })
    }
}

/// Gives a file its name, unless something has it. Not every file system knows the call for it.
fn give_name(part: &Path, to: &Path) -> std::io::Result<()> {
    match renameat_with(CWD, part, CWD, to, RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            std::fs::hard_link(part, to)?;
            std::fs::remove_file(part)
        }
        done => Ok(done?),
    }
}

/// Reads an archive from end to end.
fn survey(from: impl Read) -> Result<Kept, Error> {
    let (mut reader, _) = Reader::begin(from)?;
    let mut kept = Kept::default();
    while let Some(item) = reader.item()? {
        kept.count(&item);
    }
    Ok(kept)
}

/// Puts everything an archive holds into a new vault.
fn restore_into(vault: &mut Vault, from: impl Read) -> Result<(), Error> {
    let (mut reader, owner) = Reader::begin(from)?;
    let home = owner.home();
    let (today, mut entropy) = (now().day(), entropy()?);
    let mut me = Me::on_new_device(owner.name, owner.identity, home, today, &mut entropy)?;
    let mut filling = Filling {
        vault,
        batch: Batch::default(),
        letters: 0,
        cases: 0,
        case: None,
    };
    while let Some(item) = reader.item()? {
        match item {
            Item::Case(case) => filling.begin(case.into_record())?,
            Item::Letter(letter) => filling.take(&letter.into_record())?,
        }
    }
    filling.end_case()?;
    me.profile_mut().next_case = filling.cases;
    filling
        .batch
        .put(Name::one(Table::Profile), encode(me.profile())?);
    filling.commit()
}

/// A vault that is being filled.
struct Filling<'a> {
    vault: &'a mut Vault,
    batch: Batch,
    letters: usize,
    cases: u64,
    /// Its record comes after its letters, which it counts.
    case: Option<CaseRecord>,
}

impl Filling<'_> {
    fn begin(&mut self, case: CaseRecord) -> Result<(), Error> {
        self.end_case()?;
        self.case = Some(case);
        Ok(())
    }

    fn take(&mut self, letter: &LetterRecord) -> Result<(), Error> {
        let case = self.case.as_mut();
        let case = case.ok_or(Error::Internal("a letter came before its case"))?;
        let name = Name::new(Table::Letters, case.id, case.next_letter);
        case.next_letter = case.next_letter.saturating_add(1);
        case.unread = case.unread.saturating_add(u64::from(!letter.read));
        self.batch.put(name, encode(letter)?);
        self.letters = self.letters.saturating_add(1);
        if self.letters == BATCH_LETTERS {
            self.commit()?;
        }
        Ok(())
    }

    fn end_case(&mut self) -> Result<(), Error> {
        if let Some(case) = self.case.take() {
            self.batch.put(record_name(self.cases), encode(&case)?);
            self.cases = self.cases.saturating_add(1);
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), Error> {
        self.letters = 0;
        Ok(self.vault.commit(std::mem::take(&mut self.batch))?)
    }
}
