//! Sessions within HTTP/2: a long request to the door's path is a stream of frames; everything else is the site's.
//! SPEC.md 4.6.

use std::{
    convert::Infallible,
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use hyper::{
    Method, Request, Response, Version,
    body::{Body, Frame, Incoming, SizeHint},
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use martlet_proto::{limits::STREAMS_MAX, link::Door};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{Semaphore, mpsc, oneshot, watch},
};

use super::{
    session::{Carrier, Outward, Session, Stopping},
    site::Site,
    turns::Queue,
};
use crate::relay::{Peer, Stream};

/// How long whoever has no session may stay.
const STRANGER_WAIT: Duration = Duration::from_secs(75);
/// How long the head of a request may take.
const HEAD_WAIT: Duration = Duration::from_secs(10);
/// How long what is on its way may take when a connection ends.
const LAST_WAIT: Duration = Duration::from_secs(6);
/// The most bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// The most headers of a request.
const HEADERS_MAX: usize = 64;
/// Requests of one connection at a time. Of these [`STREAMS_MAX`] may be sessions that are served.
const REQUESTS_MAX: u32 = 100;
/// Bytes that one request, and one connection, may have on their way to the relay.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
/// Bytes that are taken from a writer at a time.
const PIECE_BYTES: usize = 256 << 10;

/// Who may have a session on a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Guest {
    /// Who knows the door.
    Anyone,
    /// Nobody: what is said here could be read later, by who records it and has a quantum computer one day.
    Nobody,
}

/// What a connection needs.
pub(super) struct Serving {
    pub(super) site: Site,
    pub(super) door: Door,
    pub(super) peer: Peer,
    pub(super) queue: Queue,
    pub(super) stopping: Stopping,
}

/// How far a connection is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Closing,
    Over,
}

/// The end of a connection, asked for and come.
#[derive(Clone)]
struct Wire(Arc<watch::Sender<State>>);

impl Carrier for Wire {
    fn close(&self, _: u32, _: &'static str) {
        self.0.send_if_modified(|state| {
            let open = *state == State::Open;
            if open {
                *state = State::Closing;
            }
            open
        });
    }

    async fn closed(&self) {
        let _ = self.0.subscribe().wait_for(|state| *state == State::Over).await;
    }
}

/// The rooms of one connection.
struct Rooms {
    site: Site,
    door: Door,
    guest: Guest,
    session: Session<Wire>,
    next: AtomicU64,
    places: Arc<Semaphore>,
}

impl Rooms {
    fn enter(&self, request: Request<Incoming>) -> Response<Content> {
        let (method, path) = (request.method(), request.uri().path());
        let right = self.door.is_at(path);
        let session =
            method == Method::POST && request.version() == Version::HTTP_2 && self.guest == Guest::Anyone;
        if !(right && session) {
            return self.site.answer(method, path).map(Content::Page);
        }
        let (pieces, taken) = mpsc::channel(1);
        let (gone, written) = oneshot::channel();
        let out = Out {
            pieces: Some(pieces),
            room: None,
            written,
        };
        let receive = In {
            body: request.into_body(),
            left: Bytes::new(),
        };
        let stream = Stream(self.next.fetch_add(1, Ordering::Relaxed));
        let (session, places) = (self.session.clone(), Arc::clone(&self.places));
        tokio::spawn(async move {
            let Ok(_place) = places.acquire().await else {
                return;
            };
            session.stream(stream, out, receive).await;
        });
        let mut response = Response::new(Content::Session { taken, _gone: gone });
        let kind = HeaderValue::from_static("application/octet-stream");
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response
    }
}

/// Serves what comes over HTTP/2.
pub(super) async fn serve_two<T>(io: T, guest: Guest, with: Serving)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (rooms, ending) = open(guest, &with);
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .max_concurrent_streams(REQUESTS_MAX)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(PIECE_BYTES);
    let inside = Arc::clone(&rooms);
    let connection = http.serve_connection(
        TokioIo::new(io),
        service_fn(move |request| std::future::ready(Ok::<_, Infallible>(inside.enter(request)))),
    );
    see_out(connection, &rooms, ending, with).await;
}

/// Serves what comes over HTTP/1.1: the site, and nothing else.
pub(super) async fn serve_one<T>(io: T, with: Serving)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (rooms, ending) = open(Guest::Nobody, &with);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX);
    let inside = Arc::clone(&rooms);
    let connection = http.serve_connection(
        TokioIo::new(io),
        service_fn(move |request| std::future::ready(Ok::<_, Infallible>(inside.enter(request)))),
    );
    see_out(connection, &rooms, ending, with).await;
}

fn open(guest: Guest, with: &Serving) -> (Arc<Rooms>, Wire) {
    let wire = Wire(Arc::new(watch::Sender::new(State::Open)));
    let session = Session::new(wire.clone(), with.peer, with.queue.clone(), with.stopping.clone());
    let rooms = Rooms {
        site: with.site.clone(),
        door: with.door,
        guest,
        session,
        next: AtomicU64::new(0),
        places: Arc::new(Semaphore::new(places())),
    };
    (Arc::new(rooms), wire)
}

fn places() -> usize {
    usize::try_from(STREAMS_MAX).unwrap_or(usize::MAX)
}

/// A connection that can be asked to end.
trait Ending: Future {
    fn end(self: Pin<&mut Self>);
}

impl<T, S> Ending for http1::Connection<T, S>
where
    S: hyper::service::HttpService<Incoming, ResBody = Content>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    T: hyper::rt::Read + hyper::rt::Write + Unpin,
{
    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<T, S> Ending for http2::Connection<T, S, TokioExecutor>
where
    S: hyper::service::HttpService<Incoming, ResBody = Content>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Future: Send + 'static,
    T: hyper::rt::Read + hyper::rt::Write + Unpin,
{
    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Drives a connection to its end: that of the other side, the relay's, or that of a stranger's time.
async fn see_out<E: Ending>(connection: E, rooms: &Rooms, wire: Wire, mut with: Serving) {
    let mut connection = std::pin::pin!(connection);
    let mut asked = wire.0.subscribe();
    let mut rounds = tokio::time::interval(STRANGER_WAIT);
    rounds.tick().await;
    loop {
        tokio::select! {
            _ = connection.as_mut() => break,
            _ = asked.wait_for(|state| *state != State::Open) => {}
            _ = with.stopping.wait_for(|stopping| *stopping) => {}
            () = with.queue.ended() => {}
            _ = rounds.tick() => {
                if rooms.places.available_permits() < places() {
                    continue;
                }
            }
        }
        connection.as_mut().end();
        let _ = tokio::time::timeout(LAST_WAIT, connection).await;
        break;
    }
    wire.0.send_replace(State::Over);
}

/// What an answer holds.
enum Content {
    Page(Bytes),
    Session {
        taken: mpsc::Receiver<Bytes>,
        _gone: oneshot::Sender<()>,
    },
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = match &mut *self {
            Self::Page(page) => Some(std::mem::take(page)).filter(|page| !page.is_empty()),
            Self::Session { taken, .. } => ready!(taken.poll_recv(context)),
        };
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Page(page) if page.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Page(page) => SizeHint::with_exact(u64::try_from(page.len()).unwrap_or(u64::MAX)),
            Self::Session { .. } => SizeHint::default(),
        }
    }
}

/// What the client writes: the request's body.
struct In {
    body: Incoming,
    left: Bytes,
}

impl AsyncRead for In {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.left.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => self.left = frame.into_data().unwrap_or_default(),
                Some(Err(_)) => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                None => return Poll::Ready(Ok(())),
            }
        }
        let piece = self.left.len().min(to.remaining());
        to.put_slice(self.left.get(..piece).unwrap_or_default());
        self.left.advance(piece);
        Poll::Ready(Ok(()))
    }
}

type Room =
    Pin<Box<dyn Future<Output = Result<mpsc::OwnedPermit<Bytes>, mpsc::error::SendError<()>>> + Send>>;

/// What the client reads: the answer's body.
struct Out {
    pieces: Option<mpsc::Sender<Bytes>>,
    room: Option<Room>,
    written: oneshot::Receiver<()>,
}

impl AsyncWrite for Out {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let pieces = self.pieces.clone().ok_or_else(gone)?;
        let room = self.room.get_or_insert_with(|| Box::pin(pieces.reserve_owned()));
        let permit = ready!(room.as_mut().poll(context));
        self.room = None;
        let piece = from.get(..from.len().min(PIECE_BYTES)).unwrap_or_default();
        permit.map_err(|_| gone())?.send(Bytes::copy_from_slice(piece));
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.room = None;
        self.pieces = None;
        Poll::Ready(Ok(()))
    }
}

impl Outward for Out {
    async fn arrived(&mut self) {
        let _ = (&mut self.written).await;
    }
}
