//! The second road: TLS 1.3 over TCP, on the port and with the key of the first. SPEC.md 4.6.
//!
//! Within it lies HTTP ([`super::http`]). Here are the bounds on whoever knocks: handshakes at a time, in all and from
//! one address, and the time that silence may last.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv6Addr, TcpListener as StdListener},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use martlet_proto::{limits::IDLE_SECS_MAX, link::Door};
use rustls::NamedGroup;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::{Instant, Sleep},
};
use tokio_rustls::TlsAcceptor;

use super::{
    Accepting, ServeError, clock,
    http::{self, Guest},
    site::Site,
    sources::{Address, Crowd, Verdict},
};
use crate::{identity::Identity, relay::Peer};

/// The protocols that are offered, as any website does.
const HTTP_TWO: &[u8] = b"h2";
const HTTP_ONE: &[u8] = b"http/1.1";
/// Handshakes under way at a time; whoever comes beyond is turned away.
const HANDSHAKES_MAX: usize = 512;
/// Of these, from one address, or one /64 of IPv6.
const HANDSHAKES_EACH_MAX: usize = 64;
/// How long a handshake may take.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);
/// How long a connection may be silent.
const IDLE_WAIT: Duration = Duration::from_secs(IDLE_SECS_MAX);
/// The pause when the system has no socket to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A port that is listened on.
pub(super) struct Port {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    door: Door,
    site: Site,
}

impl Port {
    pub(super) fn new(listener: StdListener, identity: &Identity, site: Site) -> Result<Self, ServeError> {
        listener.set_nonblocking(true).map_err(ServeError::Socket)?;
        Ok(Self {
            listener: TcpListener::from_std(listener).map_err(ServeError::Socket)?,
            acceptor: TlsAcceptor::from(Arc::new(identity.tls_of_site(&[HTTP_TWO, HTTP_ONE])?)),
            door: identity.door(),
            site,
        })
    }
}

/// Handshakes under way, by where they come from.
#[derive(Default)]
struct Knocking(Mutex<(usize, BTreeMap<IpAddr, usize>)>);

/// One of them; until it is dropped.
struct Knock {
    knocking: Arc<Knocking>,
    from: IpAddr,
}

impl Knock {
    fn new(knocking: &Arc<Knocking>, address: IpAddr) -> Option<Self> {
        let from = neighbourhood(address);
        let mut under_way = knocking.0.lock().ok()?;
        let (all, each) = &mut *under_way;
        let here = each.get(&from).copied().unwrap_or_default();
        if *all >= HANDSHAKES_MAX || here >= HANDSHAKES_EACH_MAX {
            return None;
        }
        *all = all.saturating_add(1);
        each.insert(from, here.saturating_add(1));
        Some(Self {
            knocking: Arc::clone(knocking),
            from,
        })
    }
}

impl Drop for Knock {
    fn drop(&mut self) {
        let Ok(mut under_way) = self.knocking.0.lock() else {
            return;
        };
        let (all, each) = &mut *under_way;
        *all = all.saturating_sub(1);
        let left = each
            .get(&self.from)
            .copied()
            .unwrap_or_default()
            .saturating_sub(1);
        if left == 0 {
            each.remove(&self.from);
        } else {
            each.insert(self.from, left);
        }
    }
}

/// What one host, or one household, has.
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6) >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Accepts and serves connections until the relay stops; then ends when their last answers have been written.
pub(super) async fn accept(port: Port, mut with: Accepting) {
    let mut connections = tokio::task::JoinSet::new();
    let (knocking, began) = (Arc::new(Knocking::default()), clock());
    loop {
        let accepted = tokio::select! {
            accepted = port.listener.accept() => accepted,
            _ = with.stopping.wait_for(|stopping| *stopping) => break,
        };
        while connections.try_join_next().is_some() {}
        let Ok((stream, from)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Some(knock) = Knock::new(&knocking, from.ip()) else {
            continue;
        };
        let crowd = Crowd {
            shaking: 0,
            connections: with.connections.load(Ordering::Relaxed),
            connections_max: with.connections_max,
        };
        // Whoever gets here has shown the address: TCP has asked for it.
        let (place, verdict) = {
            let mut sources = with.sources.lock().unwrap_or_else(PoisonError::into_inner);
            let place = sources.place(from.ip());
            (place, sources.come(began.elapsed(), place, Address::Shown, crowd))
        };
        if verdict != Verdict::Welcome {
            continue;
        }
        let (acceptor, site, door) = (port.acceptor.clone(), port.site.clone(), port.door);
        let with = with.clone();
        connections.spawn(async move {
            let shaken = tokio::time::timeout(HANDSHAKE_WAIT, shake(acceptor, stream)).await;
            drop(knock);
            let Ok(Ok(stream)) = shaken else { return };
            with.connections.fetch_add(1, Ordering::Relaxed);
            let (connections, sources) = (Arc::clone(&with.connections), Arc::clone(&with.sources));
            let sources = || sources.lock().unwrap_or_else(PoisonError::into_inner);
            sources().hold(place);
            serve(stream, site, door, with).await;
            sources().release(place);
            connections.fetch_sub(1, Ordering::Relaxed);
        });
    }
    drop(port);
    while connections.join_next().await.is_some() {}
}

type Tls = tokio_rustls::server::TlsStream<Quiet>;

async fn shake(acceptor: TlsAcceptor, stream: TcpStream) -> io::Result<Tls> {
    // Frames are gathered before they are written.
    stream.set_nodelay(true)?;
    acceptor.accept(Quiet::new(stream)).await
}

async fn serve(stream: Tls, site: Site, door: Door, with: Accepting) {
    let (_, tls) = stream.get_ref();
    let hybrid = tls
        .negotiated_key_exchange_group()
        .is_some_and(|group| group.name() == NamedGroup::X25519MLKEM768);
    let guest = if hybrid { Guest::Anyone } else { Guest::Nobody };
    let two = tls.alpn_protocol() == Some(HTTP_TWO);
    let serving = http::Serving {
        site,
        door,
        peer: Peer(with.peers.fetch_add(1, Ordering::Relaxed)),
        queue: with.queue,
        stopping: with.stopping,
    };
    if two {
        http::serve_two(stream, guest, serving).await;
    } else {
        http::serve_one(stream, serving).await;
    }
}

/// A connection that fails when nothing was read from it for [`IDLE_WAIT`].
struct Quiet {
    stream: TcpStream,
    until: Pin<Box<Sleep>>,
}

impl Quiet {
    fn new(stream: TcpStream) -> Self {
        let until = Box::pin(tokio::time::sleep(IDLE_WAIT));
        Self { stream, until }
    }
}

impl AsyncRead for Quiet {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, to);
        if read.is_ready() {
            let until = Instant::now().checked_add(IDLE_WAIT);
            if let Some(until) = until {
                self.until.as_mut().reset(until);
            }
            return read;
        }
        match self.until.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncWrite for Quiet {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, from)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, from)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_does_not_take_all_handshakes() {
        let knocking = Arc::new(Knocking::default());
        let at = |host: u16| IpAddr::from([0x2001, 0xdb8, 0, host >> 8, 0, 0, 0, host]);
        let mut held: Vec<Knock> = (0..64)
            .filter_map(|host| Knock::new(&knocking, at(host)))
            .collect();
        assert_eq!(held.len(), HANDSHAKES_EACH_MAX);
        assert!(Knock::new(&knocking, at(65)).is_none(), "of the same household");
        assert!(Knock::new(&knocking, at(0x100)).is_some(), "of another");
        held.pop();
        assert!(Knock::new(&knocking, at(65)).is_some());
        drop(held);
        assert_eq!(knocking.0.lock().unwrap().0, 0);
        assert!(knocking.0.lock().unwrap().1.is_empty());
    }
}
