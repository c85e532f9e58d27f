//! A stream of frames: a writer that gathers, a reader that hands out.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use martlet_proto::{
    Answer, Call, Day,
    call::Slots,
    frame::{self, FrameError, LENGTH_BYTES, Request, ToClient, ToRelay, VERSION},
    limits::{IN_FLIGHT_MAX, PUSHES_WAITING_MAX},
};
use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::link::{BoxFuture, Link, LinkError, Push, Pushes};

/// How long an answer may take on the control stream.
const ANSWER_WAIT: Duration = Duration::from_secs(60);
/// And on the stream of a document, where megabytes may be on their way before it.
const DOCUMENT_WAIT: Duration = Duration::from_secs(600);
/// The code with which a relay that speaks another version ends a connection. SPEC.md 4.5.
const OTHER_VERSION: VarInt = VarInt::from_u32(0x13);
/// Bytes that are gathered before they are written.
const WRITE_BYTES: usize = 512 << 10;
const CLOSED: VarInt = VarInt::from_u32(0);

/// Who waits for what.
#[derive(Default)]
struct Waiting {
    answers: BTreeMap<Request, oneshot::Sender<Result<Answer, LinkError>>>,
    follows: BTreeMap<Request, mpsc::Sender<Push>>,
    /// Follows for which a push found no place.
    gaps: Vec<Request>,
    day: Option<Day>,
    /// Why nothing comes any more.
    over: Option<LinkError>,
}

struct Shared {
    connection: Connection,
    waiting: Mutex<Waiting>,
    outgoing: mpsc::Sender<(Request, ToRelay)>,
    next: AtomicU32,
    places: Semaphore,
    /// Whether the connection ends with this stream.
    whole: bool,
}

/// One stream of a connection.
pub(super) struct Stream {
    shared: Arc<Shared>,
}

impl Stream {
    pub(super) async fn open(connection: Connection) -> Result<Self, LinkError> {
        Self::begin(connection, true).await
    }

    async fn begin(connection: Connection, whole: bool) -> Result<Self, LinkError> {
        let (send, receive) = connection.open_bi().await.map_err(|_| LinkError::Unreachable)?;
        let (outgoing, frames) = mpsc::channel(IN_FLIGHT_MAX.saturating_mul(2));
        let hello = (Request(0), ToRelay::Hello { version: VERSION });
        outgoing.send(hello).await.map_err(|_| LinkError::Unreachable)?;
        let shared = Arc::new(Shared {
            connection,
            waiting: Mutex::default(),
            outgoing,
            next: AtomicU32::new(1),
            places: Semaphore::new(IN_FLIGHT_MAX.saturating_sub(1)),
            whole,
        });
        tokio::spawn(write(send, frames));
        tokio::spawn(read(receive, Arc::downgrade(&shared)));
        Ok(Self { shared })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.shared.whole {
            self.shared.connection.close(CLOSED, b"");
        }
    }
}

impl Shared {
    fn waiting(&self) -> Result<std::sync::MutexGuard<'_, Waiting>, LinkError> {
        let waiting = self.waiting.lock().map_err(|_| LinkError::Unreachable)?;
        match waiting.over {
            Some(error) => Err(error),
            None => Ok(waiting),
        }
    }

    async fn ask(&self, request: Request, call: Call) -> Result<Answer, LinkError> {
        let place = self.places.acquire().await.map_err(|_| LinkError::Unreachable)?;
        let (answer, answered) = oneshot::channel();
        self.waiting()?.answers.insert(request, answer);
        self.outgoing
            .send((request, ToRelay::Call(call)))
            .await
            .map_err(|_| LinkError::Unreachable)?;
        let wait = if self.whole { ANSWER_WAIT } else { DOCUMENT_WAIT };
        let answer = tokio::time::timeout(wait, answered).await;
        drop(place);
        match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(LinkError::Unreachable),
            Err(_) => {
                // A relay that does not answer is as good as gone.
                self.connection.close(CLOSED, b"");
                Err(LinkError::Unreachable)
            }
        }
    }

    fn fresh(&self) -> Request {
        Request(self.next.fetch_add(1, Ordering::Relaxed))
    }

    fn take(&self, request: Request, message: ToClient) -> Result<(), LinkError> {
        let mut waiting = self.waiting()?;
        let answer = match message {
            ToClient::Hello { version, .. } if version != VERSION => return Err(LinkError::Version(version)),
            ToClient::Hello { day, .. } => {
                waiting.day = Some(day);
                return Ok(());
            }
            ToClient::Answer(answer) => Ok(answer),
            ToClient::Refused(refusal) => Err(LinkError::Refused(refusal)),
            ToClient::Pushed(slots) => {
                waiting.push(request, Push::Slots(slots));
                return Ok(());
            }
            ToClient::Gap => {
                waiting.push(request, Push::Gap);
                return Ok(());
            }
        };
        let asked = waiting.answers.remove(&request);
        let asked = asked.ok_or(LinkError::Protocol("it answers what was not asked"))?;
        let _ = asked.send(answer);
        Ok(())
    }

    fn end(&self, error: LinkError) {
        if let Ok(mut waiting) = self.waiting.lock() {
            waiting.over.get_or_insert(error);
            for (_, asked) in std::mem::take(&mut waiting.answers) {
                let _ = asked.send(Err(error));
            }
            waiting.follows.clear();
        }
        self.places.close();
        // A connection whose control stream is over is of no use to anybody.
        if self.whole {
            self.connection.close(CLOSED, b"");
        }
    }

    /// Why nothing comes any more.
    fn over(&self) -> LinkError {
        match self.connection.close_reason() {
            Some(quinn::ConnectionError::ApplicationClosed(closed)) if closed.error_code == OTHER_VERSION => {
                LinkError::Protocol("it speaks another version; update this program")
            }
            Some(_) | None => LinkError::Unreachable,
        }
    }
}

impl Waiting {
    fn push(&mut self, request: Request, push: Push) {
        let Some(follow) = self.follows.get(&request) else {
            return;
        };
        let owed = self.gaps.iter().position(|gap| *gap == request);
        let push = if owed.is_some() { Push::Gap } else { push };
        match (follow.try_send(push), owed) {
            (Ok(()), Some(at)) => {
                self.gaps.swap_remove(at);
            }
            (Err(_), None) => self.gaps.push(request),
            (Ok(()), None) | (Err(_), Some(_)) => {}
        }
    }
}

async fn write(mut send: SendStream, mut frames: mpsc::Receiver<(Request, ToRelay)>) {
    let mut buffer = Vec::new();
    while let Some((request, message)) = frames.recv().await {
        message.encode(request, &mut buffer);
        while buffer.len() < WRITE_BYTES {
            let Ok((request, message)) = frames.try_recv() else {
                break;
            };
            message.encode(request, &mut buffer);
        }
        if send.write_all(&buffer).await.is_err() {
            return;
        }
        buffer.clear();
    }
    let _ = send.finish();
}

async fn read(mut receive: RecvStream, shared: std::sync::Weak<Shared>) {
    loop {
        let frame = next_frame(&mut receive).await;
        let Some(shared) = shared.upgrade() else { return };
        let taken = match frame {
            Ok((request, message)) => shared.take(request, message),
            Err(Broken::Over) => Err(shared.over()),
            Err(Broken::Frame(error)) => {
                shared
                    .connection
                    .close(VarInt::from_u32(error.code()), b"a frame is malformed");
                Err(LinkError::Protocol("its frames are malformed"))
            }
        };
        if let Err(error) = taken {
            shared.end(error);
            if error != LinkError::Unreachable {
                shared.connection.close(CLOSED, b"");
            }
            return;
        }
    }
}

enum Broken {
    Over,
    Frame(FrameError),
}

async fn next_frame(receive: &mut RecvStream) -> Result<(Request, ToClient), Broken> {
    let mut field = [0; LENGTH_BYTES];
    receive.read_exact(&mut field).await.map_err(|_| Broken::Over)?;
    let mut bytes = vec![0; frame::length(field).map_err(Broken::Frame)?];
    receive.read_exact(&mut bytes).await.map_err(|_| Broken::Over)?;
    ToClient::decode(&bytes).map_err(Broken::Frame)
}

/// Ends a follow when it is dropped.
struct Unfollow {
    shared: Arc<Shared>,
    request: Request,
}

impl Drop for Unfollow {
    fn drop(&mut self) {
        if let Ok(mut waiting) = self.shared.waiting() {
            waiting.follows.remove(&self.request);
        }
        let _ = self.shared.outgoing.try_send((self.request, ToRelay::Unfollow));
    }
}

impl Link for Stream {
    fn call(&self, call: Call) -> BoxFuture<'_, Result<Answer, LinkError>> {
        Box::pin(async move { self.shared.ask(self.shared.fresh(), call).await })
    }

    fn follow(&self, call: Call) -> BoxFuture<'_, Result<(Slots, Pushes), LinkError>> {
        Box::pin(async move {
            let request = self.shared.fresh();
            let (pushes, incoming) = mpsc::channel(PUSHES_WAITING_MAX);
            self.shared.waiting()?.follows.insert(request, pushes);
            let end = Unfollow {
                shared: Arc::clone(&self.shared),
                request,
            };
            match self.shared.ask(request, call).await? {
                Answer::Slots(slots) => Ok((slots, Pushes::new(incoming, Box::new(end)))),
                Answer::Tip(_) | Answer::Placed(_) | Answer::Done => {
                    Err(LinkError::Protocol("it answered another question"))
                }
            }
        })
    }

    fn stream(&self) -> BoxFuture<'_, Result<Arc<dyn Link>, LinkError>> {
        Box::pin(async move {
            let stream = Self::begin(self.shared.connection.clone(), false).await?;
            Ok(Arc::new(stream) as Arc<dyn Link>)
        })
    }

    fn relay_day(&self) -> Option<Day> {
        self.shared.waiting.lock().ok().and_then(|waiting| waiting.day)
    }

    fn is_closed(&self) -> bool {
        self.shared.connection.close_reason().is_some() || self.shared.waiting().is_err()
    }

    fn closed(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.shared.connection.closed().await;
        })
    }

    fn close(&self) {
        self.shared.connection.close(CLOSED, b"");
    }

    fn path(&self) -> &'static str {
        "quic"
    }
}
