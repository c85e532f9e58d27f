//! The thread that owns the relay: takes what waits, makes one turn of it, gives the effects back.

use std::{collections::BTreeMap, thread::JoinHandle};

use martlet_proto::{
    Admission, Day, Incarnation,
    frame::{Request, ToClient},
    limits::{PUSHES_WAITING_MAX, TURN_CALLS_MAX},
};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    relay::{Effect, From, Input, Peer, Relay, Stream},
    serve::now,
    store::{Store, StoreError, Totals},
};

/// Jobs that wait for the turn thread; sessions wait when there are more.
const QUEUE_MAX: usize = 4096;

/// What the turn thread is asked.
pub enum Job {
    /// A stream begins: where its answers and pushes go.
    Begin(Peer, Stream, Outlet),
    /// Something for the relay. The channel's possible incarnation is added here.
    Input(Input),
    /// How much is held.
    Totals(oneshot::Sender<(Totals, ClockState)>),
    /// Believe a clock that jumped.
    AcceptClock,
    /// End after this.
    Finish,
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
    pub answers: mpsc::Sender<(Request, ToClient)>,
    /// Pushes: what does not fit is left out, and a gap is told.
    pub pushes: mpsc::Sender<(Request, ToClient)>,
}

/// The way to the turn thread.
pub struct TurnsHandle {
    queue: mpsc::Sender<Job>,
    thread: JoinHandle<Result<(), StoreError>>,
}

/// What the turn thread owns.
pub struct Turns<S> {
    relay: Relay<S>,
    outlets: BTreeMap<(Peer, Stream), Outlet>,
    /// Follows that must be told of a gap when there is room.
    gaps: Vec<From>,
}

impl<S: Store + Send + 'static> Turns<S> {
    /// Starts the thread; the second value turns true when it ends.
    pub fn start(store: S, admission: Admission) -> Result<(TurnsHandle, watch::Receiver<bool>), StoreError> {
        let relay = Relay::new(store, admission)?;
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        let (ended, watching) = watch::channel(false);
        let mut turns = Self {
            relay,
            outlets: BTreeMap::new(),
            gaps: Vec::new(),
        };
        let thread = std::thread::Builder::new()
            .name("turns".into())
            .spawn(move || {
                let done = turns.run(jobs).and_then(|()| turns.relay.close());
                let _ = ended.send(true);
                done
            })
            .map_err(StoreError::Failed)?;
        Ok((TurnsHandle { queue, thread }, watching))
    }

    fn run(&mut self, mut jobs: mpsc::Receiver<Job>) -> Result<(), StoreError> {
        let mut waiting = Vec::with_capacity(TURN_CALLS_MAX);
        loop {
            if jobs.blocking_recv_many(&mut waiting, TURN_CALLS_MAX) == 0 {
                return Ok(());
            }
            let mut inputs = Vec::with_capacity(waiting.len());
            let mut finish = false;
            for job in waiting.drain(..) {
                match job {
                    Job::Begin(peer, stream, outlet) => {
                        self.outlets.insert((peer, stream), outlet);
                    }
                    Job::Input(Input::Closed(peer, stream)) => {
                        self.outlets.remove(&(peer, stream));
                        inputs.push(Input::Closed(peer, stream));
                    }
                    Job::Input(input) => inputs.push(input),
                    Job::Totals(answer) => {
                        let clock = ClockState {
                            today: self.relay.today(),
                            doubted: self.relay.doubts_clock(),
                        };
                        let _ = answer.send((self.relay.totals(), clock));
                    }
                    Job::AcceptClock => self.relay.accept_clock()?,
                    Job::Finish => finish = true,
                }
            }
            let effects = self.relay.turn(now(), &inputs)?;
            self.give(effects);
            if finish {
                return Ok(());
            }
        }
    }

    fn give(&mut self, effects: Vec<Effect>) {
        self.tell_gaps();
        for effect in effects {
            match effect {
                Effect::Answer(from, answer) => {
                    let frame = match answer {
                        Ok(answer) => ToClient::Answer(answer),
                        Err(refusal) => ToClient::Refused(refusal),
                    };
                    if let Some(outlet) = self.outlets.get(&(from.peer, from.stream)) {
                        let _ = outlet.answers.try_send((from.request, frame));
                    }
                }
                Effect::Push(from, slots) => {
                    let Some(outlet) = self.outlets.get(&(from.peer, from.stream)) else {
                        continue;
                    };
                    let full = !self.gaps.contains(&from)
                        && outlet
                            .pushes
                            .try_send((from.request, ToClient::Pushed(slots)))
                            .is_err();
                    if full {
                        self.gaps.push(from);
                    }
                }
            }
        }
    }

    fn tell_gaps(&mut self) {
        let outlets = &self.outlets;
        self.gaps
            .retain(|from| match outlets.get(&(from.peer, from.stream)) {
                Some(outlet) => outlet.pushes.try_send((from.request, ToClient::Gap)).is_err(),
                None => false,
            });
    }
}

impl TurnsHandle {
    /// The queue of the thread.
    pub fn queue(&self) -> mpsc::Sender<Job> {
        self.queue.clone()
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
pub(super) type Frames = mpsc::Receiver<(Request, ToClient)>;

/// The queues of a new stream: what the turn thread keeps, and what the stream's writer takes.
pub(super) fn outlet(answers_max: usize) -> (Outlet, Frames, Frames) {
    let (answers, take_answers) = mpsc::channel(answers_max);
    let (pushes, take_pushes) = mpsc::channel(PUSHES_WAITING_MAX);
    (Outlet { answers, pushes }, take_answers, take_pushes)
}
