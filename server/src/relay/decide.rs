//! What one turn decides of each call, before anything is durable.

use std::collections::{BTreeMap, BTreeSet};

use martlet_proto::{
    Answer, Bearer, Call, ChannelId, Class, Day, Incarnation, Refusal, Seq, Slot, TokenHash,
    call::{Action, Slots},
    limits::{FOLLOWS_MAX, PAGE_BYTES_MAX, PAGE_SLOTS_MAX},
};

use super::{Effect, From, Relay};
use crate::{
    channel::{self, Adding},
    log::{Change, Era, Hand, Log, Record, Step},
    store::{Store, StoreError},
};

/// What a turn has decided so far.
#[derive(Default)]
pub(super) struct Deciding {
    pub(super) changes: Vec<Change>,
    pub(super) effects: Vec<Effect>,
    pub(super) pushes: BTreeMap<ChannelId, Vec<Slot>>,
    pub(super) touched: BTreeSet<ChannelId>,
    /// Channels that this turn dropped: the store still has them.
    pub(super) dropped: BTreeSet<ChannelId>,
    /// Followed channels whose life ended, or that began another.
    pub(super) ended: BTreeSet<ChannelId>,
    pub(super) room: Room,
}

/// What the disk has room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Room {
    /// Anything, as far as is known.
    #[default]
    Enough,
    /// Only what gives room back.
    Little,
    /// Nothing at all.
    None,
}

impl<S: Store> Relay<S> {
    pub(super) fn decide(
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
                if self.follows.count(from.peer) >= FOLLOWS_MAX && !self.follows.contains(&from) {
                    return Ok(Err(Refusal::Busy));
                }
                let page = self.page(&channel, verb.from, deciding)?;
                self.follows.begin(from, channel);
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
                let (incarnation, first) = (log.life(), log.next());
                for step in steps {
                    if self.follows.is_followed(channel)
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
        if matches!(step, Step::Opened(_) | Step::Dropped) && self.follows.is_followed(channel) {
            deciding.pushes.remove(channel);
            deciding.ended.insert(*channel);
        }
        if let Some(log) = Log::fold(self.logs.remove(channel), channel, &step, self.era) {
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
    Log::new(&ChannelId::new([0; 32]), record, Era::default())
}
