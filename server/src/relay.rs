//! The relay as a function: [`Relay::turn`]. Pure: no socket, no clock, no entropy; the store is the only effect it
//! waits for. SPEC.md, sections 2 to 4.

mod logs;

use std::collections::{BTreeMap, BTreeSet};

use martlet_proto::{
    Admission, Answer, Bearer, Call, ChannelId, Class, Day, Incarnation, Refusal, Seq, Slot, Time, TokenHash,
    call::{Action, Slots},
    frame::Request,
    limits::{CLOCK_JUMP_DAYS, FOLLOWS_MAX, PAGE_BYTES_MAX, PAGE_SLOTS_MAX},
};

use self::logs::Logs;
use crate::{
    channel::{self, Adding},
    log::{Change, Hand, Log, Record, Step},
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
    admission: Admission,
    logs: Logs,
    follows: BTreeMap<From, ChannelId>,
    followers: BTreeMap<ChannelId, BTreeSet<From>>,
    /// The day by which things expire: never earlier than it was.
    today: Day,
    /// The day on the clock, when it jumped ahead too far to be believed.
    doubtful: Option<Day>,
}

/// What a turn has decided so far.
#[derive(Default)]
struct Deciding {
    changes: Vec<Change>,
    effects: Vec<Effect>,
    pushes: BTreeMap<ChannelId, Vec<Slot>>,
    touched: BTreeSet<ChannelId>,
    /// Channels that this turn dropped: the store still has them.
    dropped: BTreeSet<ChannelId>,
    /// Followed channels whose life ended, or that began another.
    ended: BTreeSet<ChannelId>,
    room: Room,
}

/// What the disk has room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Room {
    /// Anything, as far as is known.
    #[default]
    Enough,
    /// Only what gives room back.
    Little,
    /// Nothing at all.
    None,
}

impl<S: Store> Relay<S> {
    /// A relay over what a store remembers, admitting those who hold the opening token.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub fn new(mut store: S, admission: Admission) -> Result<Self, StoreError> {
        let today = store.day()?;
        Ok(Self {
            store,
            admission,
            logs: Logs::default(),
            follows: BTreeMap::new(),
            followers: BTreeMap::new(),
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
            let followers = self.followers.get(channel).into_iter().flatten();
            effects.extend(followers.map(|from| Effect::Gap(*from)));
            if self.logs.get(channel).is_none() {
                for from in self.followers.remove(channel).into_iter().flatten() {
                    self.follows.remove(&from);
                }
            }
        }
        self.logs.shrink();
        for (channel, slots) in deciding.pushes {
            let Some(followers) = self.followers.get(&channel) else {
                continue;
            };
            for page in pages(slots) {
                effects.extend(followers.iter().map(|from| Effect::Push(*from, page.clone())));
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
                Input::Unfollow(from) => self.unfollow(from),
                Input::Closed(peer, stream) => {
                    let theirs = |from: &&From| from.peer == *peer && from.stream == *stream;
                    let over: Vec<From> = self.follows.keys().filter(theirs).copied().collect();
                    for from in over {
                        self.unfollow(&from);
                    }
                }
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

    fn unfollow(&mut self, from: &From) {
        if let Some(channel) = self.follows.remove(from)
            && let Some(followers) = self.followers.get_mut(&channel)
        {
            followers.remove(from);
            if followers.is_empty() {
                self.followers.remove(&channel);
            }
        }
    }

    fn decide(
        &mut self,
        from: From,
        call: &Call,
        incarnation: Incarnation,
        deciding: &mut Deciding,
    ) -> Result<Result<Answer, Refusal>, StoreError> {
        let channel = call.channel;
        let known = self.load(&channel, deciding)?;
        if let Action::Open(open) = &call.action {
            return Ok(self.open(&channel, &call.bearer, open, incarnation, known, deciding));
        }
        let stranger = stranger();
        let log = if known { self.logs.get(&channel) } else { None };
        let admitted = channel::admits(log.unwrap_or(&stranger), call.action.right(), &call.bearer);
        let Some(log) = log.filter(|_| admitted) else {
            return Ok(Err(Refusal::Closed));
        };
        Ok(match &call.action {
            Action::Open(_) => Err(Refusal::Closed),
            Action::Append(verb) => {
                let adding = channel::add(&channel, log, Hand::Writer, verb.within, &verb.items, self.today);
                self.place(&channel, adding, deciding)
            }
            Action::Seal(verb) if log.record.class == Class::Case => {
                let adding = channel::add(&channel, log, Hand::Keeper, verb.within, &verb.items, self.today);
                self.place(&channel, adding, deciding)
            }
            Action::Read(verb) => Ok(Answer::Slots(self.page(&channel, verb.from, deciding)?)),
            Action::Follow(verb) => {
                let following = self.follows.range(at_peer(from.peer)).count();
                if following >= FOLLOWS_MAX && !self.follows.contains_key(&from) {
                    return Ok(Err(Refusal::Busy));
                }
                let page = self.page(&channel, verb.from, deciding)?;
                self.unfollow(&from);
                self.follows.insert(from, channel);
                self.followers.entry(channel).or_default().insert(from);
                Ok(Answer::Slots(page))
            }
            Action::Trim(_) | Action::Drop(_) if log.record.class == Class::Case => Err(Refusal::NotHere),
            Action::Seal(_) => Err(Refusal::NotHere),
            Action::Trim(_) | Action::Drop(_) if deciding.room == Room::None => Err(Refusal::Full),
            Action::Trim(verb) => {
                let before = verb.before.min(log.next());
                self.change(&channel, Step::Trimmed(before), deciding);
                Ok(Answer::Done)
            }
            Action::Drop(_) => {
                self.change(&channel, Step::Dropped, deciding);
                Ok(Answer::Done)
            }
        })
    }

    fn open(
        &mut self,
        channel: &ChannelId,
        bearer: &Bearer,
        open: &martlet_proto::Open,
        incarnation: Incarnation,
        known: bool,
        deciding: &mut Deciding,
    ) -> Result<Answer, Refusal> {
        let write = bearer.hash();
        if ChannelId::commit(open.class, &open.read, &write, &open.keep, &open.bind) != *channel {
            return Err(Refusal::Closed);
        }
        let expires = channel::record_expires(open.class, self.today);
        if known {
            let renewed = self
                .logs
                .get(channel)
                .is_some_and(|log| log.record.expires < expires);
            if renewed && deciding.room == Room::Enough {
                self.change(channel, Step::Renewed(expires), deciding);
            }
        } else {
            if open.admission.as_ref() != Some(&self.admission) {
                return Err(Refusal::NotAdmitted);
            }
            if deciding.room != Room::Enough {
                return Err(Refusal::Full);
            }
            let record = Record {
                class: open.class,
                read: open.read,
                write,
                keep: open.keep,
                incarnation,
                expires,
            };
            self.change(channel, Step::Opened(record), deciding);
        }
        self.logs
            .get(channel)
            .map(|log| Answer::Tip(channel::tip(log)))
            .ok_or(Refusal::Closed)
    }

    fn place(
        &mut self,
        channel: &ChannelId,
        adding: Result<Adding, Refusal>,
        deciding: &mut Deciding,
    ) -> Result<Answer, Refusal> {
        match adding? {
            Adding::Known(placed) => Ok(Answer::Placed(placed)),
            Adding::Steps(_) if deciding.room != Room::Enough => Err(Refusal::Full),
            Adding::Steps(steps) => {
                let log = self.logs.get(channel).ok_or(Refusal::Closed)?;
                let (incarnation, first) = (log.record.incarnation, log.next());
                for step in steps {
                    if self.followers.contains_key(channel)
                        && let Some(slot) = slot_of(&step)
                    {
                        deciding.pushes.entry(*channel).or_default().push(slot);
                    }
                    self.change(channel, step, deciding);
                }
                let head = self.logs.get(channel).ok_or(Refusal::Closed)?.head;
                Ok(Answer::Placed(martlet_proto::Placed {
                    incarnation,
                    first,
                    head,
                }))
            }
        }
    }

    /// Applies a step in memory and notes that it must become durable.
    fn change(&mut self, channel: &ChannelId, step: Step, deciding: &mut Deciding) {
        if matches!(step, Step::Opened(_) | Step::Dropped) && self.followers.contains_key(channel) {
            deciding.pushes.remove(channel);
            deciding.ended.insert(*channel);
        }
        if let Some(log) = Log::fold(self.logs.remove(channel), channel, &step) {
            self.logs.insert(*channel, log);
        }
        match step {
            Step::Dropped => deciding.dropped.insert(*channel),
            _ => deciding.dropped.remove(channel),
        };
        deciding.touched.insert(*channel);
        deciding.changes.push(Change {
            channel: *channel,
            step,
        });
    }

    /// Has a channel's log in memory; whether it is there and has not expired.
    fn load(&mut self, channel: &ChannelId, deciding: &Deciding) -> Result<bool, StoreError> {
        if deciding.dropped.contains(channel) {
            return Ok(false);
        }
        if !self.logs.touch(channel) {
            match self.store.load(channel)? {
                Some(mut log) => {
                    log.expire(self.today);
                    self.logs.insert(*channel, log)
                }
                None => return Ok(false),
            };
        }
        Ok(self
            .logs
            .get(channel)
            .is_some_and(|log| log.record.expires > self.today))
    }

    fn page(&mut self, channel: &ChannelId, from: Seq, deciding: &Deciding) -> Result<Slots, StoreError> {
        let Some(log) = self.logs.get(channel) else {
            return Err(StoreError::Damaged("a log vanished"));
        };
        let tip = channel::tip(log);
        let start = usize::try_from(from.as_u64()).unwrap_or(usize::MAX);
        let marks: Vec<_> = log
            .marks
            .iter()
            .skip(start)
            .take(PAGE_SLOTS_MAX)
            .copied()
            .collect();
        let (mut slots, mut bytes, mut seq) = (Vec::with_capacity(marks.len().min(64)), 0usize, from);
        for mark in marks {
            let size = usize::try_from(mark.size_bytes).unwrap_or(usize::MAX);
            let here = channel::is_here(&mark, self.today);
            if here && !slots.is_empty() && bytes.saturating_add(size) > PAGE_BYTES_MAX {
                break;
            }
            let envelope = match here {
                true => match fresh(&deciding.changes, channel, seq) {
                    Some(envelope) => Some(envelope),
                    None => self.store.envelope(channel, seq)?,
                },
                false => None,
            };
            slots.push(match envelope {
                Some(envelope) => {
                    bytes = bytes.saturating_add(size);
                    Slot::Here(martlet_proto::Entry {
                        seq,
                        kind: mark.kind,
                        id: mark.id,
                        envelope,
                    })
                }
                None => Slot::Gone {
                    seq,
                    kind: mark.kind,
                    digest: mark.digest,
                },
            });
            let Some(next) = seq.next() else { break };
            seq = next;
        }
        Ok(Slots { tip, slots })
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

/// All follows of a connection.
fn at_peer(peer: Peer) -> std::ops::RangeInclusive<From> {
    let at = |stream, request| From {
        peer,
        stream: Stream(stream),
        request: Request(request),
    };
    at(0, 0)..=at(u64::MAX, u32::MAX)
}

/// The envelope of an entry that this turn adds.
fn fresh(changes: &[Change], at: &ChannelId, wanted: Seq) -> Option<martlet_proto::Envelope> {
    changes.iter().rev().find_map(|change| match &change.step {
        Step::Placed { seq, envelope, .. } if change.channel == *at && *seq == wanted => {
            Some(envelope.clone())
        }
        _ => None,
    })
}

fn slot_of(step: &Step) -> Option<Slot> {
    let Step::Placed {
        seq,
        kind,
        id,
        envelope,
        ..
    } = step
    else {
        return None;
    };
    Some(Slot::Here(martlet_proto::Entry {
        seq: *seq,
        kind: *kind,
        id: *id,
        envelope: envelope.clone(),
    }))
}

/// A log that no token opens: strangers' tokens are held against it, so that absence takes the same work.
fn stranger() -> Log {
    let nobody = TokenHash::new([0; 32]);
    let record = Record {
        class: Class::Card,
        read: nobody,
        write: nobody,
        keep: nobody,
        incarnation: Incarnation::new([0; 16]),
        expires: Day::default(),
    };
    Log::new(&ChannelId::new([0; 32]), record)
}
