//! Both roads to a relay: whichever first brings its hello is taken, and left when it falls silent. SPEC.md 4.6.
//!
//! Nothing is sent twice here. A connection on a road that went dead ends, its calls fail, and whoever made them makes
//! them again on the next connection: all verbs may be repeated (SPEC.md 3.4).

use std::{
    future::Future,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use martlet_proto::{
    limits::{ATTEMPT_GAP_MS, CONNECT_SECS_MAX, ROAD_GAP_MS, ROAD_SECS},
    link::{Address, Pin, RelayAddress},
};
use tokio::{sync::watch, time::Instant};

use super::{BoxFuture, Connect, Link, LinkError, Tried, quic::Quic, race::race, tcp::Tcp, tried};

/// How long both roads may take together.
const CONNECT_WAIT: Duration = Duration::from_secs(CONNECT_SECS_MAX);
/// How long the first road has before the second is tried beside it.
const FIRST_GAP: Duration = Duration::from_millis(ATTEMPT_GAP_MS);
/// The same, for a road that was good last.
const ROAD_GAP: Duration = Duration::from_millis(ROAD_GAP_MS);
/// For how long it is remembered which was.
const ROAD_WAIT: Duration = Duration::from_secs(ROAD_SECS);
/// Relays of which it is remembered.
const RELAYS_MAX: usize = 64;

/// A link that tells when it is doubted.
pub(super) trait Road: Link {
    /// Changes each time when nothing was heard though an answer was waited for.
    fn doubts(&self) -> watch::Receiver<u64>;

    /// A count that grows with whatever comes from the other side.
    fn heard(&self) -> u64;
}

/// Which road.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Quic,
    Tcp,
}

impl Which {
    const fn other(self) -> Self {
        match self {
            Self::Quic => Self::Tcp,
            Self::Tcp => Self::Quic,
        }
    }
}

/// Which road was good last, by relay; the oldest first.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<(Pin, Which, Instant)>>>);

impl Memory {
    fn last(&self, relay: Pin) -> Option<Which> {
        let known = self.0.lock().ok()?;
        let (_, which, at) = known.iter().find(|(of, ..)| *of == relay)?;
        (at.elapsed() < ROAD_WAIT).then_some(*which)
    }

    /// A road that stays good is tried against the other now and then: its time does not begin anew.
    fn keep(&self, relay: Pin, which: Which) {
        if self.last(relay) == Some(which) {
            return;
        }
        if let Ok(mut known) = self.0.lock() {
            known.retain(|(of, ..)| *of != relay);
            known.push((relay, which, Instant::now()));
            if known.len() > RELAYS_MAX {
                known.remove(0);
            }
        }
    }
}

/// Makes links over whichever road leads there.
#[derive(Clone, Default)]
pub struct Roads {
    quic: Quic,
    tcp: Tcp,
    memory: Memory,
    proxied: bool,
}

impl Roads {
    /// Without a socket until it is needed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Through a SOCKS5 proxy, and no other way: it carries no UDP, and a road beside it would give away what it hides.
    pub fn through(proxy: Address) -> Self {
        Self {
            tcp: Tcp::through(proxy),
            proxied: true,
            ..Self::default()
        }
    }

    async fn reach(self, which: Which, relay: RelayAddress) -> Result<(Which, Arc<dyn Road>), LinkError> {
        let road = match which {
            Which::Quic => self.quic.reach(&relay).await?,
            Which::Tcp => self.tcp.reach(&relay).await?,
        };
        Ok((which, road))
    }

    async fn take(&self, relay: &RelayAddress) -> Result<Arc<dyn Link>, LinkError> {
        if self.proxied {
            return Ok(self.tcp.reach(relay).await?);
        }
        let (first, gap) = match self.memory.last(relay.pin) {
            Some(last) => (last, ROAD_GAP),
            None => (Which::Quic, FIRST_GAP),
        };
        let attempts = [first, first.other()].map(|which| self.clone().reach(which, relay.clone()));
        let (which, road) = race(attempts.into_iter(), gap, CONNECT_WAIT).await?;
        self.memory.keep(relay.pin, which);
        let doubting = Doubting {
            doubts: road.doubts(),
            road: Arc::downgrade(&road),
            memory: self.memory.clone(),
            relay: relay.pin,
        };
        let roads = self.clone();
        let relay = relay.clone();
        tokio::spawn(doubting.watch(move || roads.clone().reach(which.other(), relay.clone())));
        Ok(road)
    }
}

impl Connect for Roads {
    fn connect<'a>(&'a self, relay: &'a RelayAddress) -> BoxFuture<'a, Result<Arc<dyn Link>, LinkError>> {
        Box::pin(self.take(relay))
    }

    fn connect_apart<'a>(
        &'a self,
        relay: &'a RelayAddress,
    ) -> BoxFuture<'a, Result<Arc<dyn Link>, LinkError>> {
        // Which road is good is a matter of this device's network: it ties nothing together.
        let apart = Self {
            quic: Quic::new(),
            ..self.clone()
        };
        Box::pin(async move { apart.take(relay).await })
    }

    fn try_roads<'a>(&'a self, relay: &'a RelayAddress) -> BoxFuture<'a, Vec<Tried>> {
        Box::pin(async move {
            if self.proxied {
                return vec![tried("proxy", self.tcp.connect(relay).await)];
            }
            let (quic, tcp) = tokio::join!(self.quic.connect(relay), self.tcp.connect(relay));
            vec![tried("quic", quic), tried("tcp", tcp)]
        })
    }
}

/// Looks after one link for as long as there is one.
struct Doubting {
    doubts: watch::Receiver<u64>,
    road: Weak<dyn Road>,
    memory: Memory,
    relay: Pin,
}

impl Doubting {
    /// Whenever the link is doubted, looks whether the other road leads there. If it does, and nothing was heard on this
    /// one meanwhile, this one is dead: the link ends, and the next is made on the other. A line that is only slow
    /// is slow on both, and is heard of first.
    async fn watch<F, A>(mut self, other: F)
    where
        F: Fn() -> A,
        A: Future<Output = Result<(Which, Arc<dyn Road>), LinkError>>,
    {
        while self.doubts.changed().await.is_ok() {
            let Some(heard) = self.heard() else { return };
            let found = tokio::time::timeout(CONNECT_WAIT, other()).await;
            let Ok(Ok((which, found))) = found else { continue };
            found.close();
            if self.heard() == Some(heard) {
                self.memory.keep(self.relay, which);
                if let Some(road) = self.road.upgrade() {
                    road.close();
                }
                return;
            }
        }
    }

    /// What was heard on the link; `None` when it is over.
    fn heard(&self) -> Option<u64> {
        let road = self.road.upgrade().filter(|road| !road.is_closed())?;
        Some(road.heard())
    }
}
