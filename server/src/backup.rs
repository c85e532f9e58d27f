//! `backup` and `restore`: what makes a relay itself, in one file under a passphrase. What it keeps for people is not in it.
//!
//! The file is of the age format, and what it encrypts is a tar: on a machine without Martlet, `age -d FILE | tar -x` reads
//! it, too.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{BufReader, Cursor, IsTerminal as _, Read, Write},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Component, Path, PathBuf},
};

use martlet_proto::{
    Secret,
    age::{Opener, Random, Sealer, Unopened, Work},
};
use martlet_server::{config::Config, identity::Identity};
use serde_json::json;
use zeroize::Zeroizing;

use crate::{
    args::Source,
    init::PARTS,
    run::{Failure, Said, file_failed, linked, make_store, own_link},
};

/// The files that a relay cannot be made again without.
const KEPT: [&str; 5] = [
    "martletd.toml",
    "relay.key",
    "relay.cert",
    "door",
    "opening.token",
];
/// An authority's certificates for its key, if there are some.
const CHAIN: &str = "chain.pem";
/// The folder of its website.
const SITE: &str = "site";
const PASSPHRASE_BYTES_MAX: u64 = 4096;
/// The most that a backup holds, and its files.
const BYTES_MAX: u64 = 64 << 20;
const FILES_MAX: usize = 10_000;
/// Folders within folders.
const DEPTH_MAX: usize = 16;

/// Writes a backup.
pub(crate) fn backup(dir: &Path, to: &Path, source: &Source) -> Result<Said, Failure> {
    // A folder that holds no relay is said before a passphrase is chosen; so is a file that is there.
    own_link(dir)?;
    if to.symlink_metadata().is_ok() {
        return Err(exists("there is a file of this name already"));
    }
    let passphrase = passphrase(source, true)?;
    let mut file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(to)
        .map_err(file_failed)?;
    if let Err(failure) = write(&mut file, dir, &passphrase) {
        let _ = std::fs::remove_file(to);
        return Err(failure);
    }
    Ok(Said {
        json: json!({ "backup": to.display().to_string() }),
        text: "The backup is written. Whoever has it and its passphrase can pass for this relay: keep the two apart, and both off this machine.".into(),
    })
}

/// Makes a relay of a backup.
pub(crate) fn restore(from: &Path, dir: &Path, source: &Source) -> Result<Said, Failure> {
    if PARTS
        .iter()
        .chain(&[SITE, CHAIN])
        .any(|name| dir.join(name).symlink_metadata().is_ok())
    {
        return Err(exists("there is a relay in this folder already"));
    }
    let sealed = File::open(from).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::new(
            "not-found",
            "there is no such file",
            "Look at the name of the backup.",
            6,
        ),
        _ => file_failed(error),
    })?;
    let passphrase = passphrase(source, false)?;
    let packed = open(sealed, &passphrase)?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(file_failed)?;
    let made = unpack(&packed, dir).and_then(|()| {
        Config::load(dir)?;
        Identity::load(dir)?;
        make_store(dir)?;
        File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(file_failed)?;
        own_link(dir)
    });
    match made {
        Ok(link) => Ok(linked(&link)),
        Err(failure) => {
            // None of it was there before, and half a relay would stand in the way of the next attempt.
            for name in PARTS.iter().chain(&[SITE, CHAIN]) {
                let _ = std::fs::remove_file(dir.join(name));
                let _ = std::fs::remove_dir_all(dir.join(name));
            }
            Err(failure)
        }
    }
}

/// A tar of the relay's files on its way into a backup.
struct Packing<'f> {
    tar: tar::Builder<Sealer<&'f mut File>>,
    files: usize,
    bytes: u64,
}

impl Packing<'_> {
    fn add(&mut self, name: &Path, content: &[u8]) -> Result<(), Failure> {
        let size = u64::try_from(content.len()).unwrap_or(u64::MAX);
        // With room for the headers of a tar: what could not be restored must not be written.
        self.bytes = self.bytes.saturating_add(size).saturating_add(4096);
        self.files = self.files.saturating_add(1);
        if self.bytes > BYTES_MAX || self.files > FILES_MAX {
            return Err(too_large("the folder site has more than 64 MiB or 10,000 files"));
        }
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o600);
        self.tar
            .append_data(&mut header, name, content)
            .map_err(file_failed)
    }

    fn add_folder(&mut self, folder: &Path, name: &Path, depth: usize) -> Result<(), Failure> {
        if depth >= DEPTH_MAX {
            return Err(too_large("the folder site is too deep"));
        }
        for entry in std::fs::read_dir(folder).map_err(file_failed)? {
            let entry = entry.map_err(file_failed)?;
            let (path, name) = (entry.path(), name.join(entry.file_name()));
            let kind = entry.file_type().map_err(file_failed)?;
            if kind.is_dir() {
                self.add_folder(&path, &name, depth.saturating_add(1))?;
            } else if kind.is_file() {
                self.add(&name, &std::fs::read(&path).map_err(file_failed)?)?;
            }
        }
        Ok(())
    }
}

fn write(file: &mut File, dir: &Path, passphrase: &[u8]) -> Result<(), Failure> {
    let sealer = Sealer::begin(file, passphrase, Work::STANDARD, &random()?).map_err(file_failed)?;
    let mut packing = Packing {
        tar: tar::Builder::new(sealer),
        files: 0,
        bytes: 0,
    };
    for name in KEPT {
        let content = std::fs::read(dir.join(name))
            .map(Zeroizing::new)
            .map_err(file_failed)?;
        packing.add(Path::new(name), &content)?;
    }
    if let Ok(chain) = std::fs::read(dir.join(CHAIN)) {
        packing.add(Path::new(CHAIN), &chain)?;
    }
    let site = dir.join(SITE);
    if site.is_dir() {
        packing.add_folder(&site, Path::new(SITE), 0)?;
    }
    let sealed = packing.tar.into_inner().and_then(Sealer::finish);
    sealed.and_then(|file| file.sync_all()).map_err(file_failed)
}

fn random() -> Result<Random, Failure> {
    let mut random = Random {
        file_key: Secret::new([0; 16]),
        salt: [0; 16],
        nonce: [0; 16],
    };
    for bytes in [random.file_key.expose_mut(), &mut random.salt, &mut random.nonce] {
        getrandom::fill(bytes).map_err(|_| {
            Failure::new(
                "internal",
                "the system gives no randomness",
                "Start the machine again.",
                1,
            )
        })?;
    }
    Ok(random)
}

fn open(sealed: File, passphrase: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut opener = Opener::begin(BufReader::new(sealed), passphrase).map_err(|why| match why {
        Unopened::WrongPassphrase => Failure::new(
            "wrong-passphrase",
            "the passphrase does not open the backup",
            "Try again; capitals and spaces count. Nobody can reset it.",
            4,
        ),
        Unopened::Malformed => damaged(),
        Unopened::Io(error) => file_failed(error),
    })?;
    let mut packed = Zeroizing::new(Vec::with_capacity(1 << 20));
    let read = opener
        .by_ref()
        .take(BYTES_MAX.saturating_add(1))
        .read_to_end(&mut packed);
    match read {
        Ok(read) if u64::try_from(read).unwrap_or(u64::MAX) <= BYTES_MAX => Ok(packed),
        Ok(_) => Err(damaged()),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => Err(damaged()),
        Err(error) => Err(file_failed(error)),
    }
}

fn unpack(packed: &[u8], dir: &Path) -> Result<(), Failure> {
    let mut tar = tar::Archive::new(Cursor::new(packed));
    for (count, entry) in tar.entries().map_err(|_| damaged())?.enumerate() {
        let mut entry = entry.map_err(|_| damaged())?;
        let name = entry.path().ok().and_then(|name| own_name(&name));
        let (Some(name), true, true) = (name, entry.header().entry_type().is_file(), count < FILES_MAX)
        else {
            return Err(damaged());
        };
        let mut content = Zeroizing::new(Vec::with_capacity(
            usize::try_from(entry.size()).unwrap_or(0).min(packed.len()),
        ));
        entry.read_to_end(&mut content).map_err(|_| damaged())?;
        let path = dir.join(name);
        if let Some(folder) = path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(file_failed)?;
        }
        let mut file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(path)
            .map_err(file_failed)?;
        file.write_all(&content)
            .and_then(|()| file.sync_all())
            .map_err(file_failed)?;
    }
    Ok(())
}

/// A name that a backup may hold: one of the relay's files, or one within its site.
fn own_name(name: &Path) -> Option<PathBuf> {
    let parts: Option<Vec<&str>> = name
        .components()
        .map(|part| match part {
            Component::Normal(part) => part.to_str(),
            _ => None,
        })
        .collect();
    match parts?.as_slice() {
        [only] if KEPT.contains(only) || *only == CHAIN => Some(name.to_path_buf()),
        [SITE, _, ..] => Some(name.to_path_buf()),
        _ => None,
    }
}

fn passphrase(source: &Source, new: bool) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let taken = match (&source.passphrase_file, source.passphrase_fd) {
        (Some(file), _) => read(file)?,
        (None, Some(fd)) => read(&PathBuf::from(format!("/dev/fd/{fd}")))?,
        (None, None) => asked(new)?,
    };
    if taken.is_empty() {
        return Err(Failure::new(
            "usage",
            "the passphrase is empty",
            "Choose one that is not.",
            2,
        ));
    }
    Ok(taken)
}

fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(4097));
    File::open(file)
        .and_then(|file| file.take(PASSPHRASE_BYTES_MAX).read_to_end(&mut bytes))
        .map_err(file_failed)?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    Ok(bytes)
}

fn asked(new: bool) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let usage = |message: &'static str, advice: &'static str| Failure::new("usage", message, advice, 2);
    if !std::io::stdin().is_terminal() {
        return Err(usage(
            "a passphrase is needed",
            "Use --passphrase-file FILE or --passphrase-fd N, or run it in a terminal.",
        ));
    }
    let ask = |prompt| {
        rpassword::prompt_password(prompt)
            .map(Zeroizing::new)
            .map_err(file_failed)
    };
    let typed = ask("Passphrase of the backup: ")?;
    if new && ask("The same again: ")? != typed {
        return Err(usage(
            "the two passphrases differ",
            "Nothing was written. Try again.",
        ));
    }
    Ok(Zeroizing::new(typed.as_bytes().to_vec()))
}

fn exists(message: &'static str) -> Failure {
    Failure::new("exists", message, "Nothing was changed. Choose another name.", 1)
}

fn too_large(message: &'static str) -> Failure {
    let advice = "Move the folder site elsewhere, make the backup, and put it back.";
    Failure::new("too-large", message, advice, 2)
}

fn damaged() -> Failure {
    Failure::new(
        "backup-damaged",
        "this is no whole backup of a relay",
        "Nothing was made of it. Use another copy.",
        1,
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_a_relay_come_out_of_a_backup() {
        for good in ["relay.key", "martletd.toml", "site/index.html", "site/a/b.css"] {
            assert_eq!(own_name(Path::new(good)).unwrap(), Path::new(good));
        }
        for bad in [
            "/relay.key",
            "../relay.key",
            "site/../../x",
            "site",
            "store/x",
            "other",
            "",
            "relay.key/x",
        ] {
            assert_eq!(own_name(Path::new(bad)), None, "{bad}");
        }
    }

    #[test]
    fn what_no_relay_packed_is_not_unpacked() {
        let dir = tempfile::tempdir().unwrap();
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, "relay.key", "/etc/passwd").unwrap();
        assert!(unpack(&tar.into_inner().unwrap(), dir.path()).is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
