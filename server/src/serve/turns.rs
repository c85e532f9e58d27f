//! The thread that owns the relay: takes what waits, makes one turn of it, gives the effects back.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    thread::JoinHandle,
};

use martlet_proto::{
    Admission, Day, Incarnation,
    frame::{Request, ToClient},
    limits::{PUSHES_WAITING_MAX, TURN_CALLS_MAX},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::{
    relay::{Effect, From, Input, Peer, Relay, Stream},
    serve::{clock, counts::Counts, now},
    store::{Store, StoreError, Totals},
};

/// Jobs that wait for the turn thread; sessions wait when there are more.
const QUEUE_MAX: usize = 4096;
/// Bytes of calls that wait for the turn thread or are in its turn; sessions wait when there are more.
const QUEUE_BYTES_MAX: usize = 32 << 20;

/// What the turn thread is asked.
pub enum Job {
    /// A stream begins: where its answers and pushes go.
    Begin(Peer, Stream, Outlet),
    /// Something for the relay, and the room it takes up.
    Input(Input, Held),
    /// How much is held.
    Totals(oneshot::Sender<(Totals, ClockState)>),
    /// Believe a clock that jumped.
    AcceptClock,
    /// Look at the clock, and at who must be told of a gap.
    Tick,
    /// End after this.
    Finish,
}

/// What a call takes up until it is done with.
#[derive(Default)]
pub struct Held {
    /// Of the bytes of calls that wait: until the turn is over.
    pub waiting: Option<OwnedSemaphorePermit>,
    /// Of the pages on their way to a connection: until the answer is written.
    pub page: Option<OwnedSemaphorePermit>,
}

/// One frame on its way to a stream's writer.
pub struct Outgoing {
    /// The request it answers.
    pub request: Request,
    /// What it says.
    pub message: ToClient,
    /// Given back once it is written.
    pub page: Option<OwnedSemaphorePermit>,
}

/// How the relay stands with its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockState {
    /// The day by which things expire.
    pub today: Day,
    /// Whether the clock jumped ahead, so that expiry waits for the operator.
    pub doubted: bool,
}

/// Where the frames for one stream go. Answers always fit: a stream has no more requests than its queue has places.
#[derive(Clone)]
pub struct Outlet {
    /// Answers.
    pub answers: mpsc::Sender<Outgoing>,
    /// Pushes: what does not fit is left out, and a gap is told.
    pub pushes: mpsc::Sender<Outgoing>,
}

/// The way to the turn thread.
#[derive(Clone)]
pub struct Queue {
    jobs: mpsc::Sender<Job>,
    room: Arc<Semaphore>,
}

/// The turn thread has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the relay has stopped")]
pub struct Stopped;

impl Queue {
    /// Hands over a job, once there is a place for it.
    ///
    /// # Errors
    ///
    /// [`Stopped`].
    ///
    /// # Cancel safety
    ///
    /// The job is handed over or dropped.
    pub async fn send(&self, job: Job) -> Result<(), Stopped> {
        self.jobs.send(job).await.map_err(|_| Stopped)
    }

    /// Waits until the turn thread takes no more.
    ///
    /// # Cancel safety
    ///
    /// Nothing is left behind.
    pub async fn ended(&self) {
        self.jobs.closed().await;
    }

    /// Hands over a job if there is a place for it at once.
    pub fn offer(&self, job: Job) {
        let _ = self.jobs.try_send(job);
    }

    /// Hands over a call that came in a frame of so many bytes, once there is room for it.
    ///
    /// # Errors
    ///
    /// [`Stopped`].
    ///
    /// # Cancel safety
    ///
    /// The call is handed over or dropped.
    pub async fn call(
        &self,
        input: Input,
        size_bytes: usize,
        page: Option<OwnedSemaphorePermit>,
    ) -> Result<(), Stopped> {
        let size = u32::try_from(size_bytes).unwrap_or(u32::MAX);
        let waiting = Arc::clone(&self.room).acquire_many_owned(size).await;
        let held = Held {
            waiting: Some(waiting.map_err(|_| Stopped)?),
            page,
        };
        self.send(Job::Input(input, held)).await
    }
}

/// The turn thread, and the way to it.
pub struct TurnsHandle {
    queue: Queue,
    counts: Arc<Counts>,
    thread: JoinHandle<Result<(), StoreError>>,
}

/// What the turn thread owns.
pub struct Turns<S> {
    relay: Relay<S>,
    outlets: BTreeMap<(Peer, Stream), Outlet>,
    /// Follows that must be told of a gap when there is room.
    gaps: Vec<From>,
    counts: Arc<Counts>,
}

impl<S: Store + Send + 'static> Turns<S> {
    /// Starts the thread; the second value turns true when it ends.
    pub fn start(store: S, admission: Admission) -> Result<(TurnsHandle, watch::Receiver<bool>), StoreError> {
        let relay = Relay::new(store, admission)?;
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        let queue = Queue {
            jobs: queue,
            room: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)),
        };
        let (ended, watching) = watch::channel(false);
        let counts = Arc::new(Counts::default());
        let mut turns = Self {
            relay,
            outlets: BTreeMap::new(),
            gaps: Vec::new(),
            counts: Arc::clone(&counts),
        };
        let thread = std::thread::Builder::new()
            .name("turns".into())
            .spawn(move || {
                let done = turns.run(jobs).and_then(|()| turns.relay.close());
                let _ = ended.send(true);
                done
            })
            .map_err(StoreError::Failed)?;
        let handle = TurnsHandle {
            queue,
            counts,
            thread,
        };
        Ok((handle, watching))
    }

    fn run(&mut self, mut jobs: mpsc::Receiver<Job>) -> Result<(), StoreError> {
        let mut waiting = Vec::with_capacity(TURN_CALLS_MAX);
        loop {
            if jobs.blocking_recv_many(&mut waiting, TURN_CALLS_MAX) == 0 {
                return Ok(());
            }
            let mut inputs = Vec::with_capacity(waiting.len());
            let (mut held, mut pages) = (Vec::new(), VecDeque::new());
            let mut finish = false;
            for job in waiting.drain(..) {
                match job {
                    Job::Begin(peer, stream, outlet) => {
                        self.outlets.insert((peer, stream), outlet);
                    }
                    Job::Input(input, Held { waiting, page }) => {
                        match &input {
                            Input::Closed(peer, stream) => drop(self.outlets.remove(&(*peer, *stream))),
                            Input::Call(..) => pages.push_back(page),
                            Input::Unfollow(_) => {}
                        }
                        held.extend(waiting);
                        inputs.push(input);
                    }
                    Job::Totals(answer) => {
                        let clock = ClockState {
                            today: self.relay.today(),
                            doubted: self.relay.doubts_clock(),
                        };
                        let _ = answer.send((self.relay.totals(), clock));
                    }
                    Job::AcceptClock => self.relay.accept_clock()?,
                    Job::Tick => {}
                    Job::Finish => finish = true,
                }
            }
            let began = clock();
            let effects = self.relay.turn(now(), &inputs)?;
            self.counts.turn(&effects, began.elapsed());
            self.give(effects, pages);
            if finish {
                return Ok(());
            }
        }
    }

    /// Hands effects to their streams. The relay answers calls in their order, so `pages` fits by position.
    fn give(&mut self, effects: Vec<Effect>, mut pages: VecDeque<Option<OwnedSemaphorePermit>>) {
        self.tell_gaps();
        for effect in effects {
            match effect {
                Effect::Answer(from, answer) => {
                    let page = pages.pop_front().flatten();
                    let message = match answer {
                        Ok(answer) => ToClient::Answer(answer),
                        Err(refusal) => ToClient::Refused(refusal),
                    };
                    if let Some(outlet) = self.outlets.get(&(from.peer, from.stream)) {
                        let request = from.request;
                        let _ = outlet.answers.try_send(Outgoing {
                            request,
                            message,
                            page,
                        });
                    }
                }
                Effect::Push(from, _) | Effect::Gap(from) if self.gaps.contains(&from) => {}
                Effect::Push(from, slots) => {
                    let outlet = self.outlets.get(&(from.peer, from.stream));
                    if outlet.is_some_and(|outlet| !outlet.push(from, ToClient::Pushed(slots))) {
                        self.gaps.push(from);
                    }
                }
                Effect::Gap(from) => self.gaps.push(from),
            }
        }
        self.tell_gaps();
    }

    fn tell_gaps(&mut self) {
        let outlets = &self.outlets;
        self.gaps
            .retain(|from| match outlets.get(&(from.peer, from.stream)) {
                Some(outlet) => !outlet.push(*from, ToClient::Gap),
                None => false,
            });
    }
}

impl Outlet {
    /// Whether there was a place for it.
    fn push(&self, from: From, message: ToClient) -> bool {
        let outgoing = Outgoing {
            request: from.request,
            message,
            page: None,
        };
        self.pushes.try_send(outgoing).is_ok()
    }
}

impl TurnsHandle {
    /// The way to the thread.
    pub fn queue(&self) -> Queue {
        self.queue.clone()
    }

    /// What the thread counts.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Ends the thread after what waits.
    pub async fn finish(self) -> Result<(), StoreError> {
        let _ = self.queue.send(Job::Finish).await;
        drop(self.queue);
        let joined = tokio::task::spawn_blocking(move || self.thread.join()).await;
        match joined {
            Ok(Ok(done)) => done,
            Ok(Err(_)) | Err(_) => Err(StoreError::Failed(std::io::Error::other(
                "the turn thread panicked",
            ))),
        }
    }
}

/// A fresh incarnation, in case the call creates a channel.
pub fn incarnation() -> Incarnation {
    let mut bytes = [0; 16];
    // Without randomness the relay cannot have begun; zeros would only make two lives of a channel look alike.
    let _ = getrandom::fill(&mut bytes);
    Incarnation::new(bytes)
}

/// Frames on their way to a stream's writer.
pub(super) type Frames = mpsc::Receiver<Outgoing>;

/// The queues of a new stream: what the turn thread keeps, and what the stream's writer takes.
pub(super) fn outlet(answers_max: usize) -> (Outlet, Frames, Frames) {
    let (answers, take_answers) = mpsc::channel(answers_max);
    let (pushes, take_pushes) = mpsc::channel(PUSHES_WAITING_MAX);
    (Outlet { answers, pushes }, take_answers, take_pushes)
}
