//! Links over the second road: frames within HTTP/2 over TLS 1.3 on TCP, the relay's key pinned. SPEC.md 4.6.

use std::{
    future::Future,
    io,
    pin::Pin as Pinned,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use h2::{Ping, PingPong, client::ResponseFuture};
use http::{Method, Request, StatusCode, Uri, uri::PathAndQuery};
use martlet_proto::{
    limits::{ATTEMPT_GAP_MS, CONNECT_SECS_MAX, IDLE_SECS_MAX, KEEP_ALIVE_SECS, PROXY_SECS_MAX, STREAMS_MAX},
    link::{Address, RelayAddress},
};
use rustls::{NamedGroup, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::watch,
};
use tokio_rustls::TlsConnector;

use super::{
    BoxFuture, Connect, Link, LinkError, pin,
    race::{race, resolve},
    roads::Road,
    socks,
    stream::{Carrier, Stream},
};

/// How long all addresses of a relay may take together.
const CONNECT_WAIT: Duration = Duration::from_secs(CONNECT_SECS_MAX);
/// How long one address has before the next is tried beside it.
const ATTEMPT_GAP: Duration = Duration::from_millis(ATTEMPT_GAP_MS);
/// How often a connection shows that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(KEEP_ALIVE_SECS);
/// The protocols that are offered, as any browser does; only the first is spoken.
const HTTP_TWO: &[u8] = b"h2";
const HTTP_ONE: &[u8] = b"http/1.1";
/// Bytes that one stream, and one connection, may have on their way to this client.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
/// Bytes that are given to a stream at a time.
const PIECE_BYTES: usize = 256 << 10;

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

/// How a connection was made.
#[derive(Clone, Copy)]
enum Way {
    Direct,
    Proxy,
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

/// One connection.
#[derive(Clone)]
pub(super) struct Wire {
    requests: h2::client::SendRequest<Bytes>,
    uri: Uri,
    heard: Arc<AtomicU64>,
    over: Arc<watch::Sender<bool>>,
    way: Way,
}

impl Wire {
    async fn begin<T>(stream: T, uri: Uri, heard: Arc<AtomicU64>, way: Way) -> Result<Self, LinkError>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut http = h2::client::Builder::new();
        http.enable_push(false)
            .max_concurrent_streams(0)
            .initial_max_send_streams(usize::try_from(STREAMS_MAX).unwrap_or(usize::MAX))
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buffer_size(PIECE_BYTES);
        let made = http.handshake(stream).await;
        let (requests, mut connection) = made.map_err(|_| LinkError::Unreachable)?;
        let over = Arc::new(watch::Sender::new(false));
        let pings = connection.ping_pong();
        let (closing, count) = (Arc::clone(&over), Arc::clone(&heard));
        tokio::spawn(async move {
            let mut asked = closing.subscribe();
            tokio::select! {
                _ = connection => {}
                _ = asked.wait_for(|over| *over) => {}
                () = stay(pings, &count) => {}
            }
            closing.send_replace(true);
        });
        Ok(Self {
            requests,
            uri,
            heard,
            over,
            way,
        })
    }
}

/// Shows that this side lives; ends when the other has been silent for too long.
async fn stay(pings: Option<PingPong>, heard: &AtomicU64) {
    let Some(mut pings) = pings else {
        return std::future::pending().await;
    };
    let (mut last, mut silent_secs) = (heard.load(Ordering::Relaxed), 0u64);
    while silent_secs < IDLE_SECS_MAX {
        let pong = tokio::time::timeout(KEEP_ALIVE, pings.ping(Ping::opaque())).await;
        if let Ok(Ok(_)) = pong {
            tokio::time::sleep(KEEP_ALIVE).await;
        }
        let now = heard.load(Ordering::Relaxed);
        silent_secs = match now == last {
            true => silent_secs.saturating_add(KEEP_ALIVE_SECS),
            false => 0,
        };
        last = now;
    }
}

impl Carrier for Wire {
    type Send = Out;
    type Receive = In;

    async fn open(&self) -> Result<(Out, In), LinkError> {
        let gone = |_| LinkError::Unreachable;
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        let mut requests = self.requests.clone().ready().await.map_err(gone)?;
        let (answer, send) = requests.send_request(request, false).map_err(gone)?;
        Ok((Out(send), In::Asked(answer)))
    }

    fn close(&self, _: u32) {
        self.over.send_replace(true);
    }

    fn over(&self) -> Option<LinkError> {
        self.over.borrow().then_some(LinkError::Unreachable)
    }

    async fn closed(&self) {
        let _ = self.over.subscribe().wait_for(|over| *over).await;
    }

    fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    fn path(&self) -> &'static str {
        match self.way {
            Way::Direct => "tcp",
            Way::Proxy => "proxy",
        }
    }
}

fn broken(_: h2::Error) -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

/// What the client says: the request's body.
pub(super) struct Out(h2::SendStream<Bytes>);

impl AsyncWrite for Out {
    fn poll_write(
        mut self: Pinned<&mut Self>,
        context: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        let send = &mut self.0;
        send.reserve_capacity(from.len().min(PIECE_BYTES));
        // Capacity that was given before is not told again.
        while send.capacity() == 0 {
            match ready!(send.poll_capacity(context)) {
                Some(given) => drop(given.map_err(broken)?),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let piece = from.get(..from.len().min(send.capacity())).unwrap_or_default();
        send.send_data(Bytes::copy_from_slice(piece), false)
            .map_err(broken)?;
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_flush(self: Pinned<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pinned<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.send_data(Bytes::new(), true).map_err(broken))
    }
}

/// What the relay says: the body of its answer.
pub(super) enum In {
    /// The answer has not begun.
    Asked(ResponseFuture),
    /// It has; some of it is here.
    Open(h2::RecvStream, Bytes),
}

impl AsyncRead for In {
    fn poll_read(
        mut self: Pinned<&mut Self>,
        context: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match &mut *self {
                Self::Asked(answer) => {
                    let answer = ready!(Pinned::new(answer).poll(context)).map_err(broken)?;
                    if answer.status() != StatusCode::OK {
                        // Whoever this is knows nothing of the door.
                        return Poll::Ready(Err(io::ErrorKind::NotFound.into()));
                    }
                    *self = Self::Open(answer.into_body(), Bytes::new());
                }
                Self::Open(body, left) if left.is_empty() => match ready!(body.poll_data(context)) {
                    Some(data) => *left = data.map_err(broken)?,
                    None => return Poll::Ready(Ok(())),
                },
                Self::Open(body, left) => {
                    let piece = left.len().min(to.remaining());
                    to.put_slice(left.get(..piece).unwrap_or_default());
                    left.advance(piece);
                    body.flow_control().release_capacity(piece).map_err(broken)?;
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
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
