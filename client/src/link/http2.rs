//! Streams of frames within HTTP/2: each the body of a long request to the relay's door, and of its answer. SPEC.md 4.6.

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
use http::{Method, Request, StatusCode, Uri};
use martlet_proto::limits::{IDLE_SECS_MAX, KEEP_ALIVE_SECS, STREAMS_MAX};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
};

use super::{LinkError, carrier::Carrier};

/// How often a connection shows that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(KEEP_ALIVE_SECS);
/// Bytes that one stream, and one connection, may have on their way to this client.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
/// Bytes that are given to a stream at a time.
const PIECE_BYTES: usize = 256 << 10;

/// How a connection was made.
#[derive(Clone, Copy)]
pub(super) enum Way {
    Direct,
    Proxy,
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
    /// Begins to speak HTTP/2; `heard` grows with whatever comes.
    pub(super) async fn begin<T>(
        stream: T,
        uri: Uri,
        heard: Arc<AtomicU64>,
        way: Way,
    ) -> Result<Self, LinkError>
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
