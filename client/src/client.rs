//! The client: one vault, its cases, and the relays they live on.
//!
//! A [`Client`] is a thin shell around the pure [`Case`]: it owns the vault, the clock, the entropy
//! and the links. Whatever a person sends is durable in the vault before anything goes to a network; what a call
//! could not deliver goes out with the next call, exactly once.
//!
//! ```no_run
//! # async fn example() -> Result<(), martlet::Error> {
//! use martlet::{Client, NewCase};
//! let client = Client::open("/home/amal/.local/share/martlet".as_ref(), b"a long passphrase").await?;
//! let (case, with, _) = client.open_case(&"martlet:...".parse()?, NewCase::default()).await?;
//! client.send_text(&case.case, "They took my brother this morning.").await?;
//! println!("{} reads it as soon as she is online", with.name);
//! # Ok(())
//! # }
//! ```

mod archive;
mod devices;
mod doctor;
mod documents;
mod drive;
mod find;
mod follow;
mod history;
mod homes;
mod inbox;
mod keep;
mod lanes;
mod members;
mod opening;
#[cfg(feature = "pictures")]
mod pictures;
mod proxy;
mod revive;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use martlet_proto::{
    Secret, Time,
    card::Uses,
    letter::{Body, LetterId},
    link::RelayLink,
};
use tokio::sync::{Notify, mpsc};

use self::find::Found;
pub use self::{archive::Kept, follow::Following};
use crate::{
    archive::Archived,
    case::Case,
    entropy::Entropy,
    error::{Error, Usage},
    file::{name::safe_name, spool::Source},
    identity::fingerprint,
    link::{Connect, Link},
    me::Me,
    record::{InviteRecord, UploadRecord},
    vault::{Guard, Vault},
    view::{CaseView, Event, InviteView, LetterKind, LetterView, Progress, Safety, Sent, Status, Synced},
};

/// A new vault's owner.
#[derive(Clone, Debug, Default)]
pub struct NewProfile {
    /// The name that others will see. Unverified.
    pub name: String,
    /// The relay for one's own invites; whoever only answers invites needs none.
    pub relay: Option<RelayLink>,
}

/// A new invite.
#[derive(Clone, Debug)]
pub struct NewInvite {
    /// How often it may be used.
    pub uses: Uses,
    /// Whether it is used once and shares no connection, and neither does the case that it brings.
    pub apart: bool,
    /// A note, shown as the label of the cases it brings.
    pub label: Option<String>,
    /// Days for which it is good, 1 to 365.
    pub days: u32,
}

/// A new case.
#[derive(Clone, Debug, Default)]
pub struct NewCase {
    /// A first letter.
    pub text: Option<String>,
    /// A note.
    pub label: Option<String>,
    /// Whether it never shares a connection with another case.
    pub apart: bool,
}

/// Which letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those not read yet.
    Unread,
    /// All.
    All,
}

/// How hard a passphrase is to guess for a thief of the vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// As hard as about a second of this device's time allows.
    Calibrated,
    /// The least that is sound: Argon2id with 19 MiB and two passes.
    Floor,
}

/// A vault that is open, and the way to the relays. Clones share it.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    home: PathBuf,
    /// How relays are reached.
    connect: Mutex<Arc<dyn Connect>>,
    core: Mutex<Core>,
    /// One at a time speaks for a case.
    driving: Mutex<BTreeMap<[u8; 16], Arc<tokio::sync::Mutex<()>>>>,
    /// One at a time speaks for all invites.
    inboxes: tokio::sync::Mutex<()>,
    links: Mutex<Vec<(lanes::Route, Arc<dyn Link>)>>,
    listener: Mutex<Option<mpsc::Sender<Event>>>,
    /// Something waits to be sent.
    wake: Notify,
    _guard: Option<Guard>,
}

/// What only changes under the lock, together with the vault.
struct Core {
    vault: Vault,
    me: Me,
    cases: Vec<Case>,
    /// Cases out of an archive: there to be read.
    archived: Vec<Archived>,
    invites: Vec<(u64, InviteRecord)>,
    uploads: Vec<([u8; 16], u64, UploadRecord)>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client(..)")
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the client is the shell that asks the system for the time"
)]
fn now() -> Time {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Time::from_secs(since.map(|since| since.as_secs()).unwrap_or_default())
}

/// A fresh stream of randomness from the operating system.
fn entropy() -> Result<Entropy, Error> {
    let mut seed = Secret::new([0; 32]);
    getrandom::fill(seed.expose_mut()).map_err(|_| Error::Internal("the system gives no randomness"))?;
    Ok(Entropy::from_seed(&seed))
}

impl Client {
    /// Makes a vault in a folder, and opens it.
    ///
    /// # Errors
    ///
    /// [`Error::VaultExists`], [`Error::File`], [`Error::Usage`] for a name that is too long.
    pub async fn create(
        home: &Path,
        passphrase: &[u8],
        cost: Cost,
        profile: NewProfile,
    ) -> Result<Self, Error> {
        let guard = keep::acquire(home)?;
        let core = keep::create(home, passphrase, cost, profile)?;
        let roads = proxy::roads(&core);
        Self::assemble(home, core, Some(guard), roads)
    }

    /// Opens the vault in a folder. Waits up to 10 seconds for another program to leave it.
    ///
    /// # Errors
    ///
    /// [`Error::NoVault`], [`Error::Passphrase`], [`Error::VaultBusy`], [`Error::VaultDamaged`].
    pub async fn open(home: &Path, passphrase: &[u8]) -> Result<Self, Error> {
        if !Vault::exists(home) {
            return Err(Error::NoVault);
        }
        let guard = keep::acquire(home)?;
        let vault = Vault::open(home, passphrase)?;
        let core = keep::load(vault)?;
        let roads = proxy::roads(&core);
        let client = Self::assemble(home, core, Some(guard), roads)?;
        client.clean_spool()?;
        Ok(client)
    }

    /// A client over another way to reach relays, for tests and simulations: nothing of it is written to a disk but
    /// spooled documents.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] if the system gives no randomness.
    pub fn over(
        connect: Arc<dyn Connect>,
        vault: Vault,
        home: &Path,
        profile: NewProfile,
    ) -> Result<Self, Error> {
        Self::assemble(home, keep::begin(vault, profile)?, None, connect)
    }

    fn assemble(
        home: &Path,
        core: Core,
        guard: Option<Guard>,
        connect: Arc<dyn Connect>,
    ) -> Result<Self, Error> {
        let inner = Inner {
            home: home.to_path_buf(),
            connect: Mutex::new(connect),
            core: Mutex::new(core),
            driving: Mutex::default(),
            inboxes: tokio::sync::Mutex::default(),
            links: Mutex::default(),
            listener: Mutex::default(),
            wake: Notify::new(),
            _guard: guard,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Whether there is a vault in a folder.
    pub fn exists(home: &Path) -> bool {
        Vault::exists(home)
    }

    /// The key for talking to a program that has this vault open. Needs the passphrase, but not the vault.
    ///
    /// # Errors
    ///
    /// [`Error::NoVault`], [`Error::Passphrase`], [`Error::VaultDamaged`].
    pub fn check(home: &Path, passphrase: &[u8]) -> Result<Secret<32>, Error> {
        if !Vault::exists(home) {
            return Err(Error::NoVault);
        }
        Ok(Vault::check(home, passphrase, keep::FOLLOW_LABEL)?)
    }

    /// The same key, from the program that has it open.
    pub fn follow_key(&self) -> Result<Secret<32>, Error> {
        Ok(self.core()?.vault.derive(keep::FOLLOW_LABEL))
    }

    /// The vault's folder.
    pub fn home(&self) -> PathBuf {
        self.inner.home.clone()
    }

    /// The owner's name.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] after an earlier failure.
    pub fn name(&self) -> Result<String, Error> {
        Ok(self.core()?.me.name().to_string())
    }

    /// The owner's identity, to be compared.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] after an earlier failure.
    pub fn fingerprint(&self) -> Result<String, Error> {
        Ok(fingerprint(&self.core()?.me.identity().public()))
    }

    /// The owner's invites.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] after an earlier failure.
    pub fn invites(&self) -> Result<Vec<InviteView>, Error> {
        Ok(self
            .core()?
            .invites
            .iter()
            .map(|(_, record)| crate::inbox::view(record))
            .collect())
    }

    /// The cases as this device knows them; those that need attention first.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] after an earlier failure.
    pub fn cases(&self) -> Result<Vec<CaseView>, Error> {
        let core = self.core()?;
        let mut views: Vec<CaseView> = core.cases.iter().map(|case| core.view(case)).collect();
        views.extend(core.archived.iter().map(|case| case.view(&core.me)));
        views.sort_by_key(|view| {
            let calm = (view.warnings.is_empty(), view.unread == 0);
            (calm, std::cmp::Reverse(view.last), view.case.clone())
        });
        Ok(views)
    }

    /// One case, by its id, as much of its beginning as is unique, or its label.
    ///
    /// # Errors
    ///
    /// [`crate::Missing::Case`] or [`Usage::Ambiguous`].
    pub fn case(&self, reference: &str) -> Result<CaseView, Error> {
        let core = self.core()?;
        Ok(match core.find(reference)? {
            Found::Case(at) => core.view(core.case_at(at)?),
            Found::Archived(at) => core.archived_at(at)?.view(&core.me),
        })
    }

    /// Letters of a case that this device holds, in the order in which they came.
    ///
    /// # Errors
    ///
    /// As [`case`](Self::case).
    pub fn letters(&self, case: &str, which: Which) -> Result<Vec<LetterView>, Error> {
        let core = self.core()?;
        let unread_only = which == Which::Unread;
        Ok(match core.find(case)? {
            Found::Case(at) => core.case_at(at)?.letters(&core.me, unread_only),
            Found::Archived(at) => core.archived_at(at)?.letters(&core.me, unread_only),
        })
    }

    /// Notes that letters were read.
    ///
    /// # Errors
    ///
    /// As [`case`](Self::case), and those of the vault.
    pub fn mark_read(&self, case: &str, letters: &[LetterId]) -> Result<(), Error> {
        let mut core = self.core()?;
        match core.find(case)? {
            Found::Case(at) => core.with(at, |case, _| case.mark_read(letters)),
            Found::Archived(at) => core.with_archived(at, |case, _| case.mark_read(letters)),
        }
    }

    /// The number to compare with a member of a case.
    ///
    /// # Errors
    ///
    /// As [`case`](Self::case); [`crate::Missing::Member`].
    pub fn safety(&self, case: &str, member: Option<&str>) -> Result<Safety, Error> {
        let core = self.core()?;
        match core.find(case)? {
            Found::Case(at) => core.case_at(at)?.safety(&core.me, member),
            Found::Archived(at) => core.archived_at(at)?.safety(&core.me, member),
        }
    }

    /// Notes that the number was compared and matched.
    ///
    /// # Errors
    ///
    /// As [`safety`](Self::safety), and those of the vault.
    pub fn confirm(&self, case: &str, member: Option<&str>) -> Result<Safety, Error> {
        let mut core = self.core()?;
        match core.find(case)? {
            Found::Case(at) => core.with(at, |case, me| case.confirm(me, member))?,
            Found::Archived(at) => core.with_archived(at, |case, me| case.confirm(me, member))?,
        }
        drop(core);
        self.safety(case, member)
    }

    /// Sends words. They are in the vault's outbox before any network is asked.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`]; [`Error::Refused`] and [`Error::Verification`] from the relay, with the letter still waiting.
    ///
    /// # Cancel safety
    ///
    /// Once it is polled the letter waits in the outbox, and goes out with the next call.
    pub async fn send_text(&self, case: &str, text: &str) -> Result<Sent, Error> {
        if text.trim().is_empty() {
            return Err(Error::Usage(Usage::TextEmpty));
        }
        let id = entropy()?.letter();
        let case = {
            let mut core = self.core()?;
            let at = core.find_at(case)?;
            core.with(at, |case, me| {
                case.write(me, id, &Body::Text(text.to_string()), now())
            })?;
            core.id_at(at)?
        };
        let queued = self.deliver(&case, &id).await?;
        Ok(Sent {
            id,
            kind: LetterKind::Text,
            queued,
            sha256: None,
        })
    }

    /// Sends a document of any size: sealed into the vault's folder first, then chunk by chunk to the relay.
    ///
    /// # Errors
    ///
    /// As [`send_text`](Self::send_text), and [`Error::File`] for what cannot be read.
    ///
    /// # Cancel safety
    ///
    /// Once sealed the document waits, and goes on with the next call from its last stored chunk. Before that,
    /// nothing was sent and nothing is kept.
    pub async fn send_file(
        &self,
        case: &str,
        path: &Path,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Sent, Error> {
        let named = (name_of_file(path), Source::File(path));
        self.send_document(case, named, None, progress).await
    }

    /// Sends a document that was made of another, as a working copy of it: the content, a file name, and SHA-256 of the
    /// original's content if that is sent, too.
    ///
    /// # Errors
    ///
    /// As [`send_file`](Self::send_file).
    ///
    /// # Cancel safety
    ///
    /// As [`send_file`](Self::send_file).
    pub async fn send_copy(
        &self,
        case: &str,
        (path, content): (&Path, &[u8]),
        of: Option<[u8; 32]>,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Sent, Error> {
        let named = (name_of_file(path), Source::Memory(content));
        self.send_document(case, named, of, progress).await
    }

    /// Sends what waits and fetches what is new, from every relay in use.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`] if one of the relays could not be reached; everything else was done.
    ///
    /// # Cancel safety
    ///
    /// What was done is done; the rest goes on with the next call.
    pub async fn sync(&self) -> Result<Synced, Error> {
        self.sync_all().await
    }

    /// Whether the relays in use can be reached, and what waits.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] after an earlier failure.
    pub async fn status(&self) -> Result<Status, Error> {
        let relays = self.relays()?;
        let (mut online, mut path, mut clock_off) = (!relays.is_empty(), None, false);
        for relay in relays {
            match self.link(&relay, lanes::Lane::Shared).await {
                Ok(link) => {
                    path = Some(link.path().to_string());
                    let today = now().day().0;
                    clock_off |= link.relay_day().is_some_and(|day| day.0.abs_diff(today) > 1);
                }
                Err(_) => online = false,
            }
        }
        let views = self.cases()?;
        let sum = |of: fn(&CaseView) -> u64| views.iter().map(of).fold(0, u64::saturating_add);
        Ok(Status {
            online,
            path,
            unsent: sum(|view| view.unsent),
            cases: u64::try_from(views.len()).unwrap_or(u64::MAX),
            unread: sum(|view| view.unread),
            clock_off,
        })
    }

    /// Destroys a vault: its keys first, then its files. Needs no passphrase.
    ///
    /// # Errors
    ///
    /// [`Error::NoVault`], [`Error::File`].
    pub fn wipe(home: &Path) -> Result<(), Error> {
        Ok(Vault::wipe(home)?)
    }

    fn core(&self) -> Result<MutexGuard<'_, Core>, Error> {
        self.inner
            .core
            .lock()
            .map_err(|_| Error::Internal("an earlier failure; start again"))
    }

    /// Tells whoever follows.
    async fn tell(&self, events: Vec<Event>) {
        let listener = self
            .inner
            .listener
            .lock()
            .ok()
            .and_then(|listener| listener.clone());
        if let Some(listener) = listener {
            for event in events {
                if listener.send(event).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// The name under which a file is sent.
fn name_of_file(path: &Path) -> String {
    let name = path.file_name();
    name.map(|name| safe_name(&name.to_string_lossy()))
        .unwrap_or_default()
}
