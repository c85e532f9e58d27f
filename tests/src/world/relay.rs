//! The relay of a simulated world: the real core over a memory that outlives its restarts.

use std::{cell::RefCell, rc::Rc};

use martlet_proto::{
    Admission, Answer, Call, ChannelId, Day, Envelope, Kind, Refusal, Secret, Seq, Slot, Time,
    frame::Request,
    link::{Door, Pin, RelayAddress},
};
use martlet_server::{
    Effect, Input, Peer, Relay, Store,
    log::{Change, Era, Log, Step},
    relay::{From, Stream},
    store::{StoreError, Totals, memory::Memory},
};

use super::{Outcome, chance::Chance};

/// The stream on which every call is made.
const CALLS: Stream = Stream(0);
/// The stream on which every follow is.
const FOLLOWS: Stream = Stream(1);

/// What a relay's disk holds; and, to show that it would be noticed, what it loses.
#[derive(Debug, Default)]
struct Platter {
    memory: Memory,
    /// Letters until the one that is lost after it was acknowledged.
    until_loss: Option<usize>,
    lost: Option<(ChannelId, Seq)>,
}

/// The disk, as the relay that runs at present sees it.
#[derive(Clone, Debug, Default)]
struct Disk(Rc<RefCell<Platter>>);

impl Store for Disk {
    fn era(&mut self) -> Result<Era, StoreError> {
        self.0.borrow_mut().memory.era()
    }

    fn load(&mut self, channel: &ChannelId) -> Result<Option<Log>, StoreError> {
        self.0.borrow_mut().memory.load(channel)
    }

    fn envelope(&mut self, channel: &ChannelId, seq: Seq) -> Result<Option<Envelope>, StoreError> {
        let mut platter = self.0.borrow_mut();
        if platter.lost == Some((*channel, seq)) {
            return Ok(None);
        }
        platter.memory.envelope(channel, seq)
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        let mut platter = self.0.borrow_mut();
        for change in changes {
            let Step::Placed {
                kind: Kind::Letter,
                seq,
                ..
            } = &change.step
            else {
                continue;
            };
            platter.until_loss = match platter.until_loss {
                Some(0) => {
                    platter.lost = Some((change.channel, *seq));
                    None
                }
                left => left.map(|left| left - 1),
            };
        }
        platter.memory.commit(changes)
    }

    fn sweep(&mut self, today: Day) -> Result<(), StoreError> {
        self.0.borrow_mut().memory.sweep(today)
    }

    fn day(&mut self) -> Result<Day, StoreError> {
        self.0.borrow_mut().memory.day()
    }

    fn set_day(&mut self, day: Day) -> Result<(), StoreError> {
        self.0.borrow_mut().memory.set_day(day)
    }

    fn close(&mut self) -> Result<(), StoreError> {
        self.0.borrow_mut().memory.close()
    }

    fn totals(&self) -> Totals {
        self.0.borrow().memory.totals()
    }
}

/// What the relay pushed to a connection.
pub(super) struct Pushed {
    pub(super) peer: u64,
    pub(super) request: u32,
    /// The slots; `None` for a gap.
    pub(super) slots: Option<Vec<Slot>>,
}

/// Answers in the order of their calls, and pushes.
type Effects = (Vec<Result<Answer, Refusal>>, Vec<Pushed>);

/// The relay, its disk and its link.
pub(super) struct RelaySide {
    relay: Relay<Disk>,
    disk: Disk,
    pub(super) address: RelayAddress,
    pub(super) admission: Admission,
}

impl RelaySide {
    /// A new relay; `until_loss` letters later it loses one, if it is one that does.
    pub(super) fn new(until_loss: Option<usize>) -> Self {
        let disk = Disk::default();
        disk.0.borrow_mut().until_loss = until_loss;
        let admission = Admission::new(Secret::new([7; 16]));
        Self {
            relay: Relay::new(disk.clone(), admission.clone()).unwrap(),
            disk,
            address: RelayAddress {
                addresses: vec!["relay.example:4433".parse().unwrap()],
                pin: Pin::new([1; 32]),
                door: Door::new([4; 8]),
            },
            admission,
        }
    }

    /// Stops it as a power cut would, and starts it again on the same disk.
    pub(super) fn restart(&mut self) {
        self.relay = Relay::new(self.disk.clone(), self.admission.clone()).unwrap();
    }

    /// What is on its disk now.
    pub(super) fn copy(&self) -> Memory {
        self.disk.0.borrow().memory.clone()
    }

    /// Starts again on an old copy of its disk, which its operator says.
    pub(super) fn put_back(&mut self, copy: Memory, chance: &mut Chance) {
        let mut platter = self.disk.0.borrow_mut();
        platter.memory = copy;
        platter.memory.begin_era(Era::new(chance.entropy().bytes()));
        drop(platter);
        self.restart();
    }

    /// Starts again on an empty disk.
    pub(super) fn forget(&mut self) {
        self.disk.0.borrow_mut().memory = Memory::default();
        self.restart();
    }

    /// One turn: calls that came in together, each by a connection.
    pub(super) fn turn(&mut self, now: Time, calls: &[(u64, Call)], chance: &mut Chance) -> Outcome<Effects> {
        let inputs: Vec<Input> = calls
            .iter()
            .zip(0..)
            .map(|((peer, call), at)| Input::Call(from(*peer, CALLS, at), call.clone(), chance.incarnation()))
            .collect();
        self.give(now, &inputs)
    }

    /// Begins to follow a channel; gives the first page.
    pub(super) fn follow(
        &mut self,
        now: Time,
        peer: u64,
        request: u32,
        call: Call,
        chance: &mut Chance,
    ) -> Outcome<Result<Answer, Refusal>> {
        let input = Input::Call(from(peer, FOLLOWS, request), call, chance.incarnation());
        let (mut answers, _) = self.give(now, &[input])?;
        answers.pop().ok_or("a follow without an answer".to_string())
    }

    /// A connection is over.
    pub(super) fn hang_up(&mut self, now: Time, peer: u64) -> Outcome {
        let inputs = [CALLS, FOLLOWS].map(|stream| Input::Closed(Peer(peer), stream));
        self.give(now, &inputs).map(|_| ())
    }

    fn give(&mut self, now: Time, inputs: &[Input]) -> Outcome<Effects> {
        let effects = self.relay.turn(now, inputs).map_err(|error| error.to_string())?;
        if self.relay.doubts_clock() {
            self.relay.accept_clock().map_err(|error| error.to_string())?;
        }
        let (mut answers, mut pushes) = (Vec::new(), Vec::new());
        for effect in effects {
            let (from, slots) = match effect {
                Effect::Answer(_, answer) => {
                    answers.push(answer);
                    continue;
                }
                Effect::Push(from, slots) => (from, Some(slots)),
                Effect::Gap(from) => (from, None),
            };
            pushes.push(Pushed {
                peer: from.peer.0,
                request: from.request.0,
                slots,
            });
        }
        Ok((answers, pushes))
    }
}

fn from(peer: u64, stream: Stream, request: u32) -> From {
    From {
        peer: Peer(peer),
        stream,
        request: Request(request),
    }
}
