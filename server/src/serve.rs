//! The shell around [`Relay`](crate::Relay): sockets in front, one thread for turns behind.
//!
//! Sessions parse frames and hand calls to a bounded queue; the turn thread takes all that wait, makes one turn of
//! them, and hands the effects back. Waiting for the disk is what makes groups: the longer a sync takes, the more
//! calls the next one carries.

pub mod counts;
mod http;
mod quic;
mod session;
mod site;
mod sockets;
mod sources;
mod tcp;
pub mod turns;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use martlet_proto::{
    Time,
    link::{Address, RelayAddress, RelayLink},
};
use tokio::sync::{oneshot, watch};

use self::turns::{Turns, TurnsHandle};
pub use self::{
    site::{Site, SiteError},
    sockets::Sockets,
};
use crate::{
    identity::{Identity, IdentityError},
    store::{Store, StoreError, Totals},
};

/// How often the turn thread looks at the clock and at gaps to tell when nobody calls.
const TICK: Duration = Duration::from_secs(1);
/// How long the last answers may take when the relay stops.
const DRAIN_WAIT: Duration = Duration::from_secs(6);

/// How a relay is served.
#[derive(Clone, Debug)]
pub struct Serving {
    /// The addresses that clients are told; empty for those that are listened on.
    pub public: Vec<Address>,
    /// Connections at a time, on both roads together.
    pub connections_max: u64,
    /// What is shown to those who do not know the door.
    pub site: Site,
}

impl Default for Serving {
    fn default() -> Self {
        Self {
            public: Vec::new(),
            connections_max: 10_000,
            site: Site::default(),
        }
    }
}

/// Why a relay does not run, or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A socket failed.
    #[error("the relay's socket failed")]
    Socket(#[source] std::io::Error),
    /// Its keys cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Its store failed: it must be started again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A relay that runs.
pub struct Running {
    listen: Vec<SocketAddr>,
    link: RelayLink,
    endpoints: Vec<quinn::Endpoint>,
    accepting: Vec<tokio::task::JoinHandle<()>>,
    ticking: tokio::task::JoinHandle<()>,
    stopping: watch::Sender<bool>,
    turns: TurnsHandle,
    stopped: watch::Receiver<bool>,
    connections: Arc<AtomicU64>,
}

#[expect(clippy::disallowed_methods, reason = "the shell asks the system for the time")]
pub(crate) fn now() -> Time {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Time::from_secs(since.map(|since| since.as_secs()).unwrap_or_default())
}

/// For measuring how long something takes.
#[expect(clippy::disallowed_methods, reason = "the shell measures durations")]
pub(crate) fn clock() -> Instant {
    Instant::now()
}

/// Serves a store on some sockets, within a tokio runtime.
///
/// # Errors
///
/// [`ServeError`] if the relay cannot begin.
pub fn serve<S: Store + Send + 'static>(
    sockets: impl Into<Sockets>,
    store: S,
    identity: &Identity,
    serving: &Serving,
) -> Result<Running, ServeError> {
    let (turns, turns_end) = Turns::start(store, identity.admission().clone())?;
    let connections = Arc::new(AtomicU64::new(0));
    let (mut listen, mut endpoints, mut accepting) = (Vec::new(), Vec::new(), Vec::new());
    let peers = Arc::new(AtomicU64::new(0));
    let sources = Arc::new(Mutex::new(sources::Sources::new()));
    let (stopping, stopping_seen) = watch::channel(false);
    let ticking = tokio::spawn(tick(turns.queue(), stopping_seen.clone()));
    let with = Accepting {
        queue: turns.queue(),
        connections: Arc::clone(&connections),
        peers,
        connections_max: serving.connections_max,
        sources,
        stopping: stopping_seen,
    };
    let Sockets { udp, tcp } = sockets.into();
    for socket in udp {
        listen.push(socket.local_addr().map_err(ServeError::Socket)?);
        let endpoint = quic::endpoint(socket, identity)?;
        accepting.push(tokio::spawn(quic::accept(endpoint.clone(), with.clone())));
        endpoints.push(endpoint);
    }
    for listener in tcp {
        let port = tcp::Port::new(listener, identity, serving.site.clone())?;
        accepting.push(tokio::spawn(tcp::accept(port, with.clone())));
    }
    let addresses = match serving.public.is_empty() {
        true => listen.iter().map(|address| Address::from(*address)).collect(),
        false => serving.public.clone(),
    };
    let link = RelayLink {
        relay: RelayAddress {
            addresses,
            pin: identity.pin(),
            door: identity.door(),
        },
        admission: identity.admission().clone(),
    };
    Ok(Running {
        listen,
        link,
        endpoints,
        accepting,
        ticking,
        stopping,
        turns,
        stopped: turns_end,
        connections,
    })
}

/// What the acceptance of connections needs.
#[derive(Clone)]
struct Accepting {
    queue: turns::Queue,
    connections: Arc<AtomicU64>,
    peers: Arc<AtomicU64>,
    connections_max: u64,
    sources: Arc<Mutex<sources::Sources>>,
    stopping: session::Stopping,
}

/// Has the turn thread look at the clock and at gaps to tell, call or no call.
async fn tick(queue: turns::Queue, mut stopping: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(TICK) => queue.offer(turns::Job::Tick),
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
    }
}

impl Running {
    /// The addresses that are listened on.
    pub fn listen(&self) -> &[SocketAddr] {
        &self.listen
    }

    /// The relay's link.
    pub fn link(&self) -> &RelayLink {
        &self.link
    }

    /// Connections at this moment.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// What was counted since the relay began.
    pub fn counts(&self) -> &counts::Counts {
        self.turns.counts()
    }

    /// How much is held; `None` after the store failed.
    ///
    /// # Cancel safety
    ///
    /// Nothing is left behind.
    pub async fn totals(&self) -> Option<(Totals, turns::ClockState)> {
        let (answer, told) = oneshot::channel();
        self.turns.queue().send(turns::Job::Totals(answer)).await.ok()?;
        told.await.ok()
    }

    /// Tells the relay to believe a clock that jumped.
    ///
    /// # Cancel safety
    ///
    /// The relay may have been told.
    pub async fn accept_clock(&self) {
        let _ = self.turns.queue().send(turns::Job::AcceptClock).await;
    }

    /// Waits until the store fails, if it does.
    ///
    /// # Cancel safety
    ///
    /// Nothing is left behind.
    pub async fn failed(&self) {
        let _ = self.stopped.clone().wait_for(|stopped| *stopped).await;
    }

    /// Stops: takes nothing more, answers what was taken, closes the store.
    ///
    /// # Errors
    ///
    /// The failure that stopped the store, if one did.
    ///
    /// # Cancel safety
    ///
    /// The relay stops taking calls; the store may not have been closed, which loses nothing.
    pub async fn stop(self) -> Result<(), ServeError> {
        let _ = self.stopping.send(true);
        let all = async {
            for task in self.accepting {
                let _ = task.await;
            }
        };
        let _ = tokio::time::timeout(DRAIN_WAIT, all).await;
        let _ = self.ticking.await;
        let done = self.turns.finish().await;
        for endpoint in &self.endpoints {
            endpoint.close(quic::GOING_AWAY, b"the relay stops");
        }
        for endpoint in &self.endpoints {
            let _ = tokio::time::timeout(Duration::from_secs(2), endpoint.wait_idle()).await;
        }
        Ok(done?)
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Running(..)")
    }
}
