//! What the tests of the relay share: keys, envelopes, and a store whose disk can fill up or fail.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{cell::RefCell, rc::Rc};

use martlet_proto::{
    Admission, Answer, Bind, Call, ChannelId, Class, Day, EntryId, Envelope, Grant, Incarnation, Keeper,
    Kind, Open, Reader, Refusal, Secret, Seq, Time, Token, Verb, Writer,
    call::{Item, Slots, Tip},
    frame::Request,
};
use martlet_server::{
    Effect, Input, Peer, Relay, Store,
    log::{Change, Log},
    relay::{From, Stream},
    store::{StoreError, Totals, memory::Memory},
};

/// A day in 2026.
pub(crate) const TODAY: Day = Day(20_500);

pub(crate) fn admission() -> Admission {
    Admission::new(Secret::new([0xad; 16]))
}

pub(crate) fn noon(day: Day) -> Time {
    day.start().plus_secs(43_200)
}

/// All rights on one channel.
#[derive(Clone)]
pub(crate) struct Keys {
    pub(crate) class: Class,
    pub(crate) reader: Grant<Reader>,
    pub(crate) writer: Grant<Writer>,
    pub(crate) keeper: Grant<Keeper>,
}

impl Keys {
    pub(crate) fn new(class: Class, seed: u8) -> Self {
        let read = Token::<Reader>::new(Secret::new([seed; 32]));
        let write = Token::<Writer>::new(Secret::new([seed ^ 0x40; 32]));
        let keep = Token::<Keeper>::new(Secret::new([seed ^ 0x80; 32]));
        let channel = ChannelId::commit(class, &read.hash(), &write.hash(), &keep.hash(), &Bind::NONE);
        Self {
            class,
            reader: Grant { channel, token: read },
            writer: Grant {
                channel,
                token: write,
            },
            keeper: Grant { channel, token: keep },
        }
    }

    pub(crate) fn open(&self) -> Open {
        Open {
            class: self.class,
            read: self.reader.token.hash(),
            keep: self.keeper.token.hash(),
            bind: Bind::NONE,
            admission: Some(admission()),
        }
    }
}

pub(crate) fn envelope(fill: u8, size: usize) -> Envelope {
    Envelope::new(vec![fill; size].into()).unwrap()
}

pub(crate) fn item_of(kind: Kind, number: u64, size: usize) -> Item {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    Item {
        kind,
        id: EntryId::new(id),
        envelope: envelope(number as u8, size),
    }
}

pub(crate) fn letter(number: u64) -> Item {
    item_of(Kind::Letter, number, 2048)
}

pub(crate) fn append(items: Vec<Item>) -> martlet_proto::Append {
    martlet_proto::Append { within: None, items }
}

pub(crate) fn seal(items: Vec<Item>) -> martlet_proto::Seal {
    martlet_proto::Seal { within: None, items }
}

/// How a disk behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Disk {
    #[default]
    Well,
    /// Only commits without new envelopes or channels succeed.
    Full,
    /// No commit finds room.
    Stuffed,
    Broken,
}

/// A store that outlives its relay, on a disk that can misbehave.
#[derive(Clone)]
pub(crate) struct Shared(Rc<RefCell<Inner>>);

/// The store, how its disk behaves, and how many commits it took.
struct Inner {
    store: Box<dyn Store>,
    disk: Disk,
    commits: u32,
}

impl Default for Shared {
    fn default() -> Self {
        Self::over(Box::new(Memory::default()))
    }
}

impl Shared {
    pub(crate) fn over(store: Box<dyn Store>) -> Self {
        Self(Rc::new(RefCell::new(Inner {
            store,
            disk: Disk::default(),
            commits: 0,
        })))
    }

    pub(crate) fn disk(&self, disk: Disk) {
        self.0.borrow_mut().disk = disk;
    }

    pub(crate) fn commits(&self) -> u32 {
        self.0.borrow().commits
    }
}

impl Store for Shared {
    fn era(&mut self) -> Result<martlet_server::log::Era, StoreError> {
        self.0.borrow_mut().store.era()
    }
    fn load(&mut self, channel: &ChannelId) -> Result<Option<Log>, StoreError> {
        self.0.borrow_mut().store.load(channel)
    }
    fn envelope(&mut self, channel: &ChannelId, seq: Seq) -> Result<Option<Envelope>, StoreError> {
        self.0.borrow_mut().store.envelope(channel, seq)
    }
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        use martlet_server::log::Step;
        let mut inner = self.0.borrow_mut();
        let grows = changes
            .iter()
            .any(|change| matches!(change.step, Step::Opened(_) | Step::Placed { .. }));
        match inner.disk {
            Disk::Broken => return Err(StoreError::Failed(std::io::Error::other("a broken disk"))),
            Disk::Stuffed => return Err(StoreError::Full),
            Disk::Full if grows => return Err(StoreError::Full),
            Disk::Full | Disk::Well => {}
        }
        inner.commits += 1;
        inner.store.commit(changes)
    }
    fn sweep(&mut self, today: Day) -> Result<(), StoreError> {
        self.0.borrow_mut().store.sweep(today)
    }
    fn day(&mut self) -> Result<Day, StoreError> {
        self.0.borrow_mut().store.day()
    }
    fn set_day(&mut self, day: Day) -> Result<(), StoreError> {
        self.0.borrow_mut().store.set_day(day)
    }
    fn close(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
    fn totals(&self) -> Totals {
        self.0.borrow().store.totals()
    }
}

/// A relay, its disk and its clock.
pub(crate) struct World {
    pub(crate) relay: Relay<Shared>,
    pub(crate) store: Shared,
    pub(crate) day: Day,
    pub(crate) lives: u8,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::over(Shared::default())
    }

    pub(crate) fn over(store: Shared) -> Self {
        Self {
            relay: Relay::new(store.clone(), admission()).unwrap(),
            store,
            day: TODAY,
            lives: 0,
        }
    }

    pub(crate) fn restart(&mut self) {
        self.relay = Relay::new(self.store.clone(), admission()).unwrap();
    }

    /// Ends the store as a crash would, and begins again with what `open` finds.
    pub(crate) fn restart_with(&mut self, open: impl FnOnce() -> Box<dyn Store>) {
        self.store.0.borrow_mut().store = Box::new(Memory::default());
        self.store.0.borrow_mut().store = open();
        self.restart();
    }

    pub(crate) fn input(&mut self, from: From, call: Call) -> Input {
        self.lives = self.lives.wrapping_add(1);
        Input::Call(from, call, Incarnation::new([self.lives; 16]))
    }

    pub(crate) fn turn(&mut self, inputs: &[Input]) -> Vec<Effect> {
        self.relay.turn(noon(self.day), inputs).unwrap()
    }

    pub(crate) fn call(&mut self, call: Call) -> Result<Answer, Refusal> {
        let input = self.input(from(9, 0), call);
        let Effect::Answer(_, answer) = self.turn(&[input]).remove(0) else {
            panic!("a call was not answered first")
        };
        answer
    }

    pub(crate) fn ask<V: Verb>(&mut self, grant: &Grant<V::Right>, verb: V) -> Result<V::Answer, Refusal> {
        let answer = self.call(Call::new(grant, verb))?;
        let Ok(answer) = V::Answer::try_from(answer) else {
            panic!("an answer to another question")
        };
        Ok(answer)
    }

    pub(crate) fn open(&mut self, keys: &Keys) -> Tip {
        self.ask(&keys.writer, keys.open()).unwrap()
    }

    pub(crate) fn read(&mut self, keys: &Keys, from: u64) -> Slots {
        let from = Seq::new(from);
        self.ask(&keys.reader, martlet_proto::Read { from }).unwrap()
    }

    pub(crate) fn wait_days(&mut self, days: u32) {
        for _ in 0..days {
            self.day = self.day.plus(1);
            self.turn(&[]);
        }
    }
}

pub(crate) fn from(peer: u64, request: u32) -> From {
    From {
        peer: Peer(peer),
        stream: Stream(0),
        request: Request(request),
    }
}
