//! A stream of frames over whatever carries it: a writer that gathers, a reader that hands out.

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
        ANSWER_SECS_MAX, DOCUMENT_ANSWER_SECS_MAX, FOLLOWS_MAX, IN_FLIGHT_MAX, LISTEN_GAP_MS,
        PUSHES_WAITING_MAX, WRITE_BYTES_MAX,
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch},
    task::JoinHandle,
};

use super::{carrier::Carrier, roads::Road};
use crate::link::{BoxFuture, Link, LinkError, Push, Pushes};

const CLOSED: u32 = 0;
/// How often whoever waits for an answer looks whether the relay is still heard of.
const LISTEN_GAP: Duration = Duration::from_millis(LISTEN_GAP_MS);

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

struct Shared<C: Carrier> {
    carrier: C,
    waiting: Mutex<Waiting>,
    outgoing: mpsc::Sender<(Request, ToRelay)>,
    /// Follows that are over; apart, for a follow may end when there is no room among the calls.
    unfollows: mpsc::Sender<Request>,
    next: AtomicU32,
    places: Arc<Semaphore>,
    /// Whether the connection ends with this stream.
    whole: bool,
    /// Whether the relay said hello.
    greeted: watch::Sender<bool>,
    /// How often nothing was heard though an answer was waited for.
    doubts: watch::Sender<u64>,
}

/// One stream of a connection.
pub(super) struct Stream<C: Carrier> {
    shared: Arc<Shared<C>>,
    reading: JoinHandle<()>,
}

impl<C: Carrier> Stream<C> {
    /// The first stream of a connection, on which the relay has said hello: a way that shakes hands and then falls
    /// silent is none.
    pub(super) async fn open(carrier: C) -> Result<Self, LinkError> {
        let stream = Self::begin(carrier, true, watch::Sender::new(0)).await?;
        let mut greeted = stream.shared.greeted.subscribe();
        let _ = greeted.wait_for(|greeted| *greeted).await;
        stream.shared.waiting().map(drop)?;
        Ok(stream)
    }

    async fn begin(carrier: C, whole: bool, doubts: watch::Sender<u64>) -> Result<Self, LinkError> {
        let (send, receive) = carrier.open().await?;
        let (outgoing, frames) = mpsc::channel(IN_FLIGHT_MAX.saturating_mul(2));
        let hello = (Request(0), ToRelay::Hello { version: VERSION });
        outgoing.send(hello).await.map_err(|_| LinkError::Unreachable)?;
        let (unfollows, ended) = mpsc::channel(FOLLOWS_MAX);
        let shared = Arc::new(Shared {
            carrier,
            waiting: Mutex::default(),
            outgoing,
            unfollows,
            next: AtomicU32::new(1),
            places: Arc::new(Semaphore::new(IN_FLIGHT_MAX.saturating_sub(1))),
            whole,
            greeted: watch::Sender::new(false),
            doubts,
        });
        // The writer is over when what was queued is written and the last of the queue's senders is gone: a frame that
        // it left half written would break the protocol.
        tokio::spawn(write(send, frames, ended));
        let reading = tokio::spawn(read(receive, Arc::downgrade(&shared)));
        Ok(Self { shared, reading })
    }
}

impl<C: Carrier> Drop for Stream<C> {
    fn drop(&mut self) {
        self.reading.abort();
        if self.shared.whole {
            self.shared.carrier.close(CLOSED);
        }
    }
}

impl<C: Carrier> Shared<C> {
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
        tokio::select! {
            answer = answered => answer.unwrap_or(Err(LinkError::Unreachable)),
            () = tokio::time::sleep(Duration::from_secs(wait_secs)) => {
                // A relay that does not answer is as good as gone.
                self.carrier.close(CLOSED);
                Err(LinkError::Unreachable)
            }
            () = self.listen() => Err(LinkError::Unreachable),
        }
    }

    /// Raises a doubt whenever nothing at all was heard for [`LISTEN_GAP`]. Never ends.
    async fn listen(&self) {
        let mut heard = self.carrier.heard();
        loop {
            tokio::time::sleep(LISTEN_GAP).await;
            let since = self.carrier.heard();
            if since == heard {
                self.doubts.send_modify(|doubts| *doubts = doubts.wrapping_add(1));
            }
            heard = since;
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
                self.greeted.send_replace(true);
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
        self.greeted.send_replace(true);
        // A connection whose control stream is over is of no use to anybody.
        if self.whole {
            self.carrier.close(CLOSED);
        }
    }

    /// Why nothing comes any more.
    fn over(&self) -> LinkError {
        self.carrier.over().unwrap_or(LinkError::Unreachable)
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

async fn write<O: AsyncWrite + Unpin>(
    mut send: O,
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
    let _ = send.shutdown().await;
}

async fn read<C: Carrier>(mut receive: C::Receive, shared: std::sync::Weak<Shared<C>>) {
    loop {
        let frame = next_frame(&mut receive).await;
        let Some(shared) = shared.upgrade() else { return };
        let taken = match frame {
            Ok((request, message)) => shared.take(request, message),
            Err(Broken::Over) => Err(shared.over()),
            Err(Broken::Frame(error)) => {
                shared.carrier.close(error.code());
                Err(LinkError::Protocol("its frames are malformed"))
            }
        };
        if let Err(error) = taken {
            shared.end(error);
            if error != LinkError::Unreachable {
                shared.carrier.close(CLOSED);
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
impl From<std::io::Error> for Broken {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Self::Frame(FrameError::Length),
            _ => Self::Over,
        }
    }
}

async fn next_frame<I: AsyncRead + Unpin>(receive: &mut I) -> Result<(Request, ToClient), Broken> {
    let mut field = [0; LENGTH_BYTES];
    let (first, rest) = field.split_at_mut(1);
    match receive.read(first).await {
        Ok(1) => {}
        Ok(_) | Err(_) => return Err(Broken::Over),
    }
    receive.read_exact(rest).await?;
    let mut bytes = vec![0; frame::length(field).map_err(Broken::Frame)?];
    receive.read_exact(&mut bytes).await?;
    ToClient::decode(&bytes).map_err(Broken::Frame)
}

/// Ends a follow when it is dropped.
struct Unfollow<C: Carrier> {
    shared: Arc<Shared<C>>,
    request: Request,
}

impl<C: Carrier> Drop for Unfollow<C> {
    fn drop(&mut self) {
        if let Ok(mut waiting) = self.shared.waiting() {
            waiting.follows.remove(&self.request);
        }
        // So many ends that the relay did not take: it does not read any more.
        if self.shared.unfollows.try_send(self.request).is_err() {
            self.shared.carrier.close(CLOSED);
        }
    }
}

impl<C: Carrier> Road for Stream<C> {
    fn doubts(&self) -> watch::Receiver<u64> {
        self.shared.doubts.subscribe()
    }

    fn heard(&self) -> u64 {
        self.shared.carrier.heard()
    }
}

impl<C: Carrier> Link for Stream<C> {
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
            let (carrier, doubts) = (self.shared.carrier.clone(), self.shared.doubts.clone());
            let stream = Self::begin(carrier, false, doubts).await?;
            Ok(Arc::new(stream) as Arc<dyn Link>)
        })
    }

    fn relay_day(&self) -> Option<Day> {
        self.shared.waiting.lock().ok().and_then(|waiting| waiting.day)
    }

    fn is_closed(&self) -> bool {
        self.shared.carrier.over().is_some() || self.shared.waiting().is_err()
    }

    fn closed(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.shared.carrier.closed().await;
        })
    }

    fn close(&self) {
        self.shared.carrier.close(CLOSED);
    }

    fn path(&self) -> &'static str {
        self.shared.carrier.path()
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
