//! Words to the service manager, as sd_notify(3) describes them: ready, alive, stopping.
//!
//! *Alive* is said only while the thread that decides answers, and while the disk takes a write and says that it has
//! it. A relay that hangs on either is silent, and the service manager ends it and starts another.

use std::{
    io::{ErrorKind, Write},
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            fs::OpenOptionsExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    path::{Path, PathBuf},
    time::Duration,
};

use martlet_server::serve::Running;
use tokio::task::JoinHandle;

/// Words in the time that the manager waits for one.
const WORDS_PER_WAIT: u32 = 3;

/// The service manager, if one started the relay and wants to be told.
pub(crate) struct Manager {
    socket: Option<UnixDatagram>,
    every: Option<Duration>,
}

impl Manager {
    /// The manager that the environment names.
    pub(crate) fn from_environment() -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|at| connect(at.as_bytes()).ok());
        let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let wait = number("WATCHDOG_USEC")
            .filter(|wait| ours && *wait > 0)
            .map(Duration::from_micros);
        Self {
            socket,
            every: wait.and_then(|wait| wait.checked_div(WORDS_PER_WAIT)),
        }
    }

    /// Says a word. A manager that does not listen is not waited for.
    pub(crate) fn say(&self, word: &str) {
        if let Some(socket) = &self.socket {
            let _ = socket.send(word.as_bytes());
        }
    }

    /// Says that the relay is alive, for as long as it is and this is polled.
    ///
    /// # Cancel safety
    ///
    /// A write to the disk may still be under way.
    pub(crate) async fn watch(&self, dir: &Path, relay: &Running) {
        let Some(every) = self.every.filter(|_| self.socket.is_some()) else {
            return std::future::pending().await;
        };
        let mut disk = Disk::new(dir);
        loop {
            tokio::time::sleep(every).await;
            let alive = async { relay.totals().await.is_some() && disk.answers().await };
            if tokio::time::timeout(every, alive).await.is_ok_and(|alive| alive) {
                self.say("WATCHDOG=1");
            }
        }
    }
}

/// An address is a path, or a name in the abstract space that begins with `@`.
fn connect(at: &[u8]) -> std::io::Result<UnixDatagram> {
    let address = match at.split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(Path::new(std::ffi::OsStr::from_bytes(at)))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The disk under the relay's folder, asked by a small write; one at a time, however long it takes.
struct Disk {
    path: PathBuf,
    asked: Option<JoinHandle<bool>>,
}

impl Disk {
    fn new(dir: &Path) -> Self {
        Self {
            path: dir.join("pulse"),
            asked: None,
        }
    }

    /// Whether the disk took a write. A question that was dropped is waited for by the next.
    async fn answers(&mut self) -> bool {
        let path = self.path.clone();
        let asked = self
            .asked
            .get_or_insert_with(|| tokio::task::spawn_blocking(move || takes_a_write(&path)));
        let answer = asked.await.unwrap_or(false);
        self.asked = None;
        answer
    }
}

/// A full disk is not one that hangs: reading, trimming and dropping go on there.
fn takes_a_write(path: &Path) -> bool {
    let written = std::fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(b"alive\n").and_then(|()| file.sync_data()));
    match written {
        Ok(()) => true,
        Err(error) => matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded),
    }
}
