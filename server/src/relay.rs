//! The relay as a function: [`Relay::turn`]. Pure: no socket, no clock, no entropy; the store is the only effect it
//! waits for. SPEC.md, sections 2 to 4.

mod decide;
mod follows;
mod logs;

use std::collections::BTreeSet;

use martlet_proto::{
    Admission, Answer, Call, ChannelId, Day, Incarnation, Refusal, Slot, Time,
    frame::Request,
    limits::{CLOCK_JUMP_DAYS, PAGE_BYTES_MAX, PAGE_SLOTS_MAX},
};

use self::{
    decide::{Deciding, Room},
    follows::Follows,
    logs::Logs,
};
use crate::{
    log::Era,
    store::{Store, StoreError, Totals},
};

/// A connection, known by number only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer(pub u64);

/// A stream of a connection, known by number only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stream(pub u64);

/// Where an answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct From {
    /// The connection.
    pub peer: Peer,
    /// The stream.
    pub stream: Stream,
    /// The request on it.
    pub request: Request,
}

/// What comes in.
#[derive(Clone, Debug)]
pub enum Input {
    /// A call; the random bytes are the incarnation of a channel that it may create.
    Call(From, Call, Incarnation),
    /// The follow that a request began is over.
    Unfollow(From),
    /// A stream is over.
    Closed(Peer, Stream),
}

/// What the shell must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Answer a call.
    Answer(From, Result<Answer, Refusal>),
    /// Push what was added to a follower: never more than one answer to `read` may hold.
    Push(From, Vec<Slot>),
    /// Tell a follower to read: the channel was dropped, with which its follow ended, or created anew.
    Gap(From),
}

/// The relay: a store, the rules, and who follows what.
#[derive(Debug)]
pub struct Relay<S> {
    store: S,
    /// That of the store.
    era: Era,
    admission: Admission,
    logs: Logs,
    follows: Follows,
    /// The day by which things expire: never earlier than it was.
    today: Day,
    /// The day on the clock, when it jumped ahead too far to be believed.
    doubtful: Option<Day>,
}

impl<S: Store> Relay<S> {
    /// A relay over what a store remembers, admitting those who hold the opening token.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub fn new(mut store: S, admission: Admission) -> Result<Self, StoreError> {
        let (today, era) = (store.day()?, store.era()?);
        Ok(Self {
            store,
            era,
            admission,
            logs: Logs::default(),
            follows: Follows::default(),
            today,
            doubtful: None,
        })
    }

    /// Takes a batch of inputs, makes what they changed durable, and only then answers.
    ///
    /// # Errors
    ///
    /// When the store fails nobody is answered, for what was kept is not known: stop and start again.
    pub fn turn(&mut self, now: Time, inputs: &[Input]) -> Result<Vec<Effect>, StoreError> {
        self.tell_time(now.day())?;
        let mut deciding = Deciding::default();
        self.decide_all(inputs, &mut deciding)?;
        if !deciding.changes.is_empty() {
            match self.store.commit(&deciding.changes) {
                Ok(()) => {}
                Err(StoreError::Full) => deciding = self.decide_without_room(inputs, &deciding.touched)?,
                Err(error) => return Err(error),
            }
        }
        let mut effects = deciding.effects;
        for channel in &deciding.ended {
            effects.extend(self.follows.followers(channel).map(Effect::Gap));
            if self.logs.get(channel).is_none() {
                self.follows.end_channel(channel);
            }
        }
        self.logs.shrink();
        for (channel, slots) in deciding.pushes {
            for page in pages(slots) {
                let followers = self.follows.followers(&channel);
                effects.extend(followers.map(|from| Effect::Push(from, page.clone())));
            }
        }
        Ok(effects)
    }

    /// Believes the clock, however far it jumped.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub fn accept_clock(&mut self) -> Result<(), StoreError> {
        if let Some(day) = self.doubtful.take() {
            self.today = day;
            self.store.set_day(day)?;
            self.store.sweep(day)?;
            self.logs.clear();
        }
        Ok(())
    }

    /// Whether the clock jumped ahead so far that expiry waits for the operator.
    pub fn doubts_clock(&self) -> bool {
        self.doubtful.is_some()
    }

    /// The day by which things expire.
    pub fn today(&self) -> Day {
        self.today
    }

    /// How much is held.
    pub fn totals(&self) -> Totals {
        self.store.totals()
    }

    /// Ends: makes the next opening quick.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub fn close(mut self) -> Result<(), StoreError> {
        self.store.close()
    }

    fn tell_time(&mut self, day: Day) -> Result<(), StoreError> {
        let first = self.today == Day::default();
        if day <= self.today {
            self.doubtful = None;
        } else if !first && day > self.today.plus(CLOCK_JUMP_DAYS) {
            self.doubtful = Some(day);
        } else {
            self.doubtful = None;
            match self.store.set_day(day) {
                Ok(()) => self.today = day,
                // The mark waits for room; until then nothing expires.
                Err(StoreError::Full) => return Ok(()),
                Err(error) => return Err(error),
            }
            match self.store.sweep(day) {
                Ok(()) | Err(StoreError::Full) => {}
                Err(error) => return Err(error),
            }
            self.logs.clear();
        }
        Ok(())
    }

    fn decide_all(&mut self, inputs: &[Input], deciding: &mut Deciding) -> Result<(), StoreError> {
        for input in inputs {
            match input {
                Input::Call(from, call, incarnation) => {
                    let answer = self.decide(*from, call, *incarnation, deciding)?;
                    deciding.effects.push(Effect::Answer(*from, answer));
                }
                Input::Unfollow(from) => self.follows.end(from),
                Input::Closed(peer, stream) => self.follows.end_stream(*peer, *stream),
            }
        }
        Ok(())
    }

    /// Nothing was kept: forgets what was decided, and decides again with everything refused that needs room; if
    /// even the rest finds none, with every change refused.
    fn decide_without_room(
        &mut self,
        inputs: &[Input],
        touched: &BTreeSet<ChannelId>,
    ) -> Result<Deciding, StoreError> {
        let mut touched = touched.clone();
        for room in [Room::Little, Room::None] {
            for channel in &touched {
                self.logs.remove(channel);
            }
            let mut deciding = Deciding {
                room,
                ..Deciding::default()
            };
            self.decide_all(inputs, &mut deciding)?;
            if deciding.changes.is_empty() {
                return Ok(deciding);
            }
            match self.store.commit(&deciding.changes) {
                Ok(()) => return Ok(deciding),
                Err(StoreError::Full) => touched = deciding.touched,
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Full)
    }
}

/// Slots in groups that each fit in one frame.
fn pages(slots: Vec<Slot>) -> Vec<Vec<Slot>> {
    let (mut pages, mut page, mut bytes) = (Vec::new(), Vec::new(), 0usize);
    for slot in slots {
        let size = match &slot {
            Slot::Here(entry) => entry.envelope.size_bytes(),
            Slot::Gone { .. } => 0,
        };
        if !page.is_empty() && (bytes.saturating_add(size) > PAGE_BYTES_MAX || page.len() >= PAGE_SLOTS_MAX) {
            pages.push(std::mem::take(&mut page));
            bytes = 0;
        }
        bytes = bytes.saturating_add(size);
        page.push(slot);
    }
    if !page.is_empty() {
        pages.push(page);
    }
    pages
}
