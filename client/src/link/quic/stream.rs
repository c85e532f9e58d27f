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
    limits::{
        ANSWER_SECS_MAX, DOCUMENT_ANSWER_SECS_MAX, FOLLOWS_MAX, IN_FLIGHT_MAX, PUSHES_WAITING_MAX,
        WRITE_BYTES_MAX,
    },
};
use quinn::{Connection, ReadExactError, RecvStream, SendStream, VarInt};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task::JoinHandle,
};

use crate::link::{BoxFuture, Link, LinkError, Push, Pushes};

/// The code with which a relay that speaks another version ends a connection. SPEC.md 4.5.
const OTHER_VERSION: VarInt = VarInt::from_u32(0x13);
const CLOSED: VarInt = VarInt::from_u32(0);

/// A call that was sent. It holds its place until the relay answers, though nobody may wait for that any more.
struct Asked {
    answer: oneshot::Sender<Result<Answer, LinkError>>,
    _place: OwnedSemaphorePermit,
}

/// Who waits for what.
#[derive(Default)]
struct Waiting {
    answers: BTreeMap<Request, Asked>,
    follows: BTreeMap<Request, mpsc::Sender<Push>>,
    day: Option<Day>,
    /// Why nothing comes any more.
    over: Option<LinkError>,
}

struct Shared {
    connection: Connection,
    waiting: Mutex<Waiting>,
    outgoing: mpsc::Sender<(Request, ToRelay)>,
    /// Follows that are over; apart, for a follow may end when there is no room among the calls.
    unfollows: mpsc::Sender<Request>,
    next: AtomicU32,
    places: Arc<Semaphore>,
    /// Whether the connection ends with this stream.
    whole: bool,
}

/// One stream of a connection.
pub(super) struct Stream {
    shared: Arc<Shared>,
    reading: JoinHandle<()>,
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
        let (unfollows, ended) = mpsc::channel(FOLLOWS_MAX);
        let shared = Arc::new(Shared {
            connection,
            waiting: Mutex::default(),
            outgoing,
            unfollows,
            next: AtomicU32::new(1),
            places: Arc::new(Semaphore::new(IN_FLIGHT_MAX.saturating_sub(1))),
            whole,
        });
        // The writer is over when what was queued is written and the last of the queue's senders is gone: a frame that
        // it left half written would break the protocol.
        tokio::spawn(write(send, frames, ended));
        let reading = tokio::spawn(read(receive, Arc::downgrade(&shared)));
        Ok(Self { shared, reading })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.reading.abort();
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
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.map_err(|_| LinkError::Unreachable)?;
        let room = self
            .outgoing
            .reserve()
            .await
            .map_err(|_| LinkError::Unreachable)?;
        // From here to the queue there is no await: what waits for an answer was sent.
        let (answer, answered) = oneshot::channel();
        let asked = Asked {
            answer,
            _place: place,
        };
        self.waiting()?.answers.insert(request, asked);
        room.send((request, ToRelay::Call(call)));
        let wait_secs = if self.whole {
            ANSWER_SECS_MAX
        } else {
            DOCUMENT_ANSWER_SECS_MAX
        };
        match tokio::time::timeout(Duration::from_secs(wait_secs), answered).await {
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
        let _ = asked.answer.send(answer);
        Ok(())
    }

    fn end(&self, error: LinkError) {
        if let Ok(mut waiting) = self.waiting.lock() {
            waiting.over.get_or_insert(error);
            for (_, asked) in std::mem::take(&mut waiting.answers) {
                let _ = asked.answer.send(Err(error));
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
        // The last place is for a gap only: a full queue ends with one, so whatever is left out then is told.
        let push = if follow.capacity() > 1 { push } else { Push::Gap };
        let _ = follow.try_send(push);
    }
}

async fn write(
    mut send: SendStream,
    mut frames: mpsc::Receiver<(Request, ToRelay)>,
    mut ended: mpsc::Receiver<Request>,
) {
    let mut buffer = Vec::new();
    loop {
        // A follow's call is queued before its end is: calls go first.
        let next = tokio::select! {
            biased;
            next = frames.recv() => next,
            Some(request) = ended.recv() => Some((request, ToRelay::Unfollow)),
        };
        let Some((request, message)) = next else { break };
        message.encode(request, &mut buffer);
        while buffer.len() < WRITE_BYTES_MAX {
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

/// Within a frame.
impl From<ReadExactError> for Broken {
    fn from(error: ReadExactError) -> Self {
        match error {
            ReadExactError::FinishedEarly(_) => Self::Frame(FrameError::Length),
            ReadExactError::ReadError(_) => Self::Over,
        }
    }
}

async fn next_frame(receive: &mut RecvStream) -> Result<(Request, ToClient), Broken> {
    let mut field = [0; LENGTH_BYTES];
    receive
        .read_exact(&mut field)
        .await
        .map_err(|error| match error {
            ReadExactError::FinishedEarly(0) => Broken::Over,
            cut => Broken::from(cut),
        })?;
    let mut bytes = vec![0; frame::length(field).map_err(Broken::Frame)?];
    receive.read_exact(&mut bytes).await?;
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
        // So many ends that the relay did not take: it does not read any more.
        if self.shared.unfollows.try_send(self.request).is_err() {
            self.shared.connection.close(CLOSED, b"");
        }
    }
}

impl Link for Stream {
    fn call(&self, call: Call) -> BoxFuture<'_, Result<Answer, LinkError>> {
        Box::pin(async move { self.shared.ask(self.shared.fresh(), call).await })
    }

    fn follow(&self, call: Call) -> BoxFuture<'_, Result<(Slots, Pushes), LinkError>> {
        Box::pin(async move {
            let request = self.shared.fresh();
            let (pushes, incoming) = mpsc::channel(PUSHES_WAITING_MAX.saturating_add(1));
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

#[cfg(test)]
mod tests {
    use super::*;

    const FOLLOW: Request = Request(7);

    #[test]
    fn what_a_full_queue_leaves_out_is_told_without_more_traffic() {
        let (pushes, mut incoming) = mpsc::channel(3);
        let mut waiting = Waiting::default();
        waiting.follows.insert(FOLLOW, pushes);
        for _ in 0..9 {
            waiting.push(FOLLOW, Push::Slots(Vec::new()));
        }
        let slots = || Ok(Push::Slots(Vec::new()));
        assert_eq!(incoming.try_recv(), slots());
        assert_eq!(incoming.try_recv(), slots());
        assert_eq!(incoming.try_recv(), Ok(Push::Gap));
        assert!(incoming.try_recv().is_err());
        waiting.push(FOLLOW, Push::Slots(Vec::new()));
        assert_eq!(incoming.try_recv(), slots());
    }
}
