//! Links over the second road: frames within HTTP/2 over TLS 1.3 on TCP, the relay's key pinned. SPEC.md 4.6.

use std::{
    io,
    pin::Pin as Pinned,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{Uri, uri::PathAndQuery};
use martlet_proto::{
    limits::{ATTEMPT_GAP_MS, CONNECT_SECS_MAX, PROXY_SECS_MAX},
    link::{Address, RelayAddress},
};
use rustls::{NamedGroup, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::{
    BoxFuture, Connect, Link, LinkError,
    http2::{Way, Wire},
    pin,
    race::{race, resolve},
    roads::Road,
    socks,
    stream::Stream,
};

/// How long all addresses of a relay may take together.
const CONNECT_WAIT: Duration = Duration::from_secs(CONNECT_SECS_MAX);
/// How long one address has before the next is tried beside it.
const ATTEMPT_GAP: Duration = Duration::from_millis(ATTEMPT_GAP_MS);
/// The protocols that are offered, as any browser does; only the first is spoken.
const HTTP_TWO: &[u8] = b"h2";
const HTTP_ONE: &[u8] = b"http/1.1";
/// How long it may take through a proxy, which may look far for a way.
const PROXY_WAIT: Duration = Duration::from_secs(PROXY_SECS_MAX);

/// Makes links over TCP.
#[derive(Clone, Debug, Default)]
pub struct Tcp {
    proxy: Option<Address>,
}

impl Tcp {
    /// Without a socket until it is needed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Through a SOCKS5 proxy. No name of a relay is looked up here.
    pub fn through(proxy: Address) -> Self {
        Self { proxy: Some(proxy) }
    }

    /// The first of a relay's addresses at which it says hello.
    pub(super) async fn reach(&self, relay: &RelayAddress) -> Result<Arc<dyn Road>, LinkError> {
        let attempts = relay
            .addresses
            .iter()
            .map(|address| self.clone().try_address(address.clone(), relay.clone()));
        let wait = match self.proxy {
            Some(_) => PROXY_WAIT,
            None => CONNECT_WAIT,
        };
        race(attempts, ATTEMPT_GAP, wait).await
    }

    /// All that a name or number stands for, one beside the other.
    async fn try_address(self, address: Address, relay: RelayAddress) -> Result<Arc<dyn Road>, LinkError> {
        if let Some(proxy) = &self.proxy {
            let stream = socks::connect(proxy, &address).await;
            return greet(stream, Way::Proxy, &address, &relay).await;
        }
        let (_, candidates) = resolve(&address).await?;
        let attempts = candidates.into_iter().map(|candidate| {
            let (address, relay) = (address.clone(), relay.clone());
            async move { greet(TcpStream::connect(candidate).await, Way::Direct, &address, &relay).await }
        });
        race(attempts, ATTEMPT_GAP, CONNECT_WAIT).await
    }
}

impl Connect for Tcp {
    fn connect<'a>(&'a self, relay: &'a RelayAddress) -> BoxFuture<'a, Result<Arc<dyn Link>, LinkError>> {
        Box::pin(async move { Ok(self.reach(relay).await? as Arc<dyn Link>) })
    }

    fn connect_apart<'a>(
        &'a self,
        relay: &'a RelayAddress,
    ) -> BoxFuture<'a, Result<Arc<dyn Link>, LinkError>> {
        self.connect(relay)
    }
}

/// The relay at the other end of a connection, if it is the one.
async fn greet(
    stream: io::Result<TcpStream>,
    way: Way,
    address: &Address,
    relay: &RelayAddress,
) -> Result<Arc<dyn Road>, LinkError> {
    let stream = stream.map_err(|_| LinkError::Unreachable)?;
    let broken = LinkError::Protocol("this program's TLS cannot be set up");
    let name = match address {
        Address::V4(ip, _) => ServerName::from(std::net::IpAddr::from(*ip)),
        Address::V6(ip, _) => ServerName::from(std::net::IpAddr::from(*ip)),
        Address::Host(host, _) => ServerName::try_from(host.clone()).map_err(|_| LinkError::Unreachable)?,
    };
    let (tls, verdict) = pin::config(relay.pin, true, &[HTTP_TWO, HTTP_ONE]).ok_or(broken)?;
    // Frames are gathered before they are written.
    stream.set_nodelay(true).map_err(|_| LinkError::Unreachable)?;
    let heard = Arc::new(AtomicU64::new(0));
    let counted = Counted {
        stream,
        heard: Arc::clone(&heard),
    };
    let shaken = TlsConnector::from(Arc::new(tls)).connect(name, counted).await;
    let stream = shaken.map_err(|_| match verdict.was_wrong() {
        true => LinkError::WrongPin,
        false => LinkError::Unreachable,
    })?;
    let (_, agreed) = stream.get_ref();
    let hybrid = agreed
        .negotiated_key_exchange_group()
        .is_some_and(|group| group.name() == NamedGroup::X25519MLKEM768);
    if !hybrid || agreed.alpn_protocol() != Some(HTTP_TWO) {
        return Err(LinkError::Unreachable);
    }
    let wire = Wire::begin(
        stream,
        uri(address, &relay.door.path()).ok_or(broken)?,
        heard,
        way,
    )
    .await?;
    Ok(Arc::new(Stream::open(wire).await?))
}

fn uri(address: &Address, path: &str) -> Option<Uri> {
    Uri::builder()
        .scheme("https")
        .authority(address.to_string())
        .path_and_query(PathAndQuery::try_from(path).ok()?)
        .build()
        .ok()
}

/// A connection that counts what comes.
struct Counted {
    stream: TcpStream,
    heard: Arc<AtomicU64>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pinned<&mut Self>,
        context: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = to.filled().len();
        let read = Pinned::new(&mut self.stream).poll_read(context, to);
        let came = to.filled().len().saturating_sub(before);
        self.heard
            .fetch_add(u64::try_from(came).unwrap_or(u64::MAX), Ordering::Relaxed);
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pinned<&mut Self>,
        context: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pinned::new(&mut self.stream).poll_write(context, from)
    }

    fn poll_write_vectored(
        mut self: Pinned<&mut Self>,
        context: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pinned::new(&mut self.stream).poll_write_vectored(context, from)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pinned<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pinned::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pinned<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pinned::new(&mut self.stream).poll_shutdown(context)
    }
}
