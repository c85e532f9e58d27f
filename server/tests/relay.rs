//! The relay's rules, asked as its users and its enemies ask.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests fail by panicking, and count on small numbers"
)]

use martlet_proto::{
    Admission, Answer, Append, Bind, Call, Class, Day, EntryId, Envelope, Follow, Incarnation, Kind, Read,
    Refusal, Seal, Secret, Seq, Slot, Time, Token, Trim, Verb, call::Item, derive::Keys, frame::Request,
};
use martlet_server::{
    Effect, Input, Peer, Relay, Store,
    log::{Change, Log, Step},
    relay::{From, Stream},
    store::{StoreError, Totals, memory::Memory},
};

const NOON: Time = Day(20_000).start().plus_secs(43_200);

fn admission() -> Admission {
    Admission::new(Secret::new([4; 16]))
}

fn keys(class: Class, seed: u8) -> Keys {
    let token = |kind: u8| Secret::new([seed.wrapping_mul(3).wrapping_add(kind); 32]);
    Keys {
        read: Token::new(token(0)),
        write: Token::new(token(1)),
        keep: Token::new(token(2)),
        class,
        bind: Bind::NONE,
    }
}

fn from(request: u32) -> From {
    From {
        peer: Peer(1),
        stream: Stream(1),
        request: Request(request),
    }
}

/// A relay over a store that can be told that there is no room.
struct World<S> {
    relay: Relay<S>,
    now: Time,
    lives: u32,
}

impl World<Memory> {
    fn new() -> Self {
        Self::over(Memory::default())
    }
}

impl<S: Store> World<S> {
    fn over(store: S) -> Self {
        Self {
            relay: Relay::new(store, admission()).unwrap(),
            now: NOON,
            lives: 0,
        }
    }

    fn effects(&mut self, call: Call) -> Vec<Effect> {
        self.lives += 1;
        let mut life = [0; 16];
        life[..4].copy_from_slice(&self.lives.to_be_bytes());
        let input = Input::Call(from(self.lives), call, Incarnation::new(life));
        self.relay.turn(self.now, &[input]).unwrap()
    }

    fn call(&mut self, call: Call) -> Result<Answer, Refusal> {
        match self.effects(call).remove(0) {
            Effect::Answer(_, answer) => answer,
            Effect::Push(..) | Effect::Gap(_) => panic!("an answer comes first"),
        }
    }

    fn ask<V: Verb>(
        &mut self,
        grant: &martlet_proto::Grant<V::Right>,
        verb: V,
    ) -> Result<V::Answer, Refusal> {
        self.call(Call::new(grant, verb))
            .map(|answer| V::Answer::try_from(answer).unwrap())
    }

    fn open(&mut self, keys: &Keys) -> martlet_proto::Tip {
        self.ask(&keys.writer(), keys.opening(Some(admission()))).unwrap()
    }
}

fn item(kind: Kind, number: u8) -> Item {
    Item {
        kind,
        id: EntryId::new([number; 16]),
        envelope: Envelope::new(vec![number; 2048].into()).unwrap(),
    }
}

fn append(kind: Kind, number: u8) -> Append {
    Append {
        within: None,
        items: vec![item(kind, number)],
    }
}

fn seal(number: u8) -> Seal {
    Seal {
        within: None,
        items: vec![item(Kind::Commit, number)],
    }
}

#[test]
fn a_stranger_learns_nothing() {
    let mut world = World::new();
    let (here, absent, expired) = (keys(Class::Inbox, 1), keys(Class::Inbox, 2), keys(Class::File, 3));
    world.open(&here);
    world.open(&expired);
    for _ in 0..6 {
        world.now = world.now.plus_secs(6 * 86_400);
        let _ = world.ask(&absent.reader(), Read { from: Seq::FIRST });
    }
    let with_a_wrong_token = martlet_proto::Grant {
        channel: here.channel(),
        token: absent.read.clone(),
    };
    for grant in [absent.reader(), expired.reader(), with_a_wrong_token] {
        assert_eq!(world.ask(&grant, Read { from: Seq::FIRST }), Err(Refusal::Closed));
    }
    assert!(world.ask(&here.reader(), Read { from: Seq::FIRST }).is_ok());
}

#[test]
fn channels_open_with_the_token_only_and_nobody_can_squat_them() {
    let mut world = World::new();
    let keys_one = keys(Class::Case, 1);
    assert_eq!(
        world.ask(&keys_one.writer(), keys_one.opening(None)),
        Err(Refusal::NotAdmitted)
    );
    let wrong = Some(Admission::new(Secret::new([5; 16])));
    assert_eq!(
        world.ask(&keys_one.writer(), keys_one.opening(wrong)),
        Err(Refusal::NotAdmitted)
    );
    let mut squat = keys_one.opening(Some(admission()));
    squat.keep = keys(Class::Case, 9).keep.hash();
    assert_eq!(world.ask(&keys_one.writer(), squat), Err(Refusal::Closed));
    let tip = world.open(&keys_one);
    assert_eq!(
        world.ask(&keys_one.writer(), keys_one.opening(None)).unwrap(),
        tip,
        "again, and without the token"
    );
}

#[test]
fn a_retry_is_answered_with_its_old_place_even_after_the_seal() {
    let mut world = World::new();
    let keys = keys(Class::Case, 1);
    world.open(&keys);
    let first = world.ask(&keys.writer(), append(Kind::Letter, 1)).unwrap();
    world.ask(&keys.writer(), append(Kind::Letter, 2)).unwrap();
    world.ask(&keys.keeper(), seal(3)).unwrap();
    assert_eq!(world.ask(&keys.writer(), append(Kind::Letter, 1)).unwrap(), first);
    assert_eq!(
        world.ask(&keys.writer(), append(Kind::Letter, 4)),
        Err(Refusal::Sealed)
    );
    let mut other = append(Kind::Letter, 1);
    other.items[0].envelope = item(Kind::Letter, 9).envelope;
    assert_eq!(world.ask(&keys.writer(), other), Err(Refusal::Conflict));
    assert_eq!(
        world.ask(&keys.keeper(), seal(5)).unwrap().first,
        Seq::new(3),
        "a seal may be repeated"
    );
    let within = Append {
        within: Some(Incarnation::new([99; 16])),
        ..append(Kind::Letter, 6)
    };
    assert_eq!(world.ask(&keys.writer(), within), Err(Refusal::OtherIncarnation));
}

#[test]
fn a_seized_phone_cannot_block_its_removal() {
    let mut world = World::new();
    let keys = keys(Class::Case, 1);
    world.open(&keys);
    let large = Envelope::new(vec![0; 64 << 10].into()).unwrap();
    let flood = |number: u32| {
        let items = (0..4u32).map(|at| {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&(number * 4 + at).to_be_bytes());
            Item {
                kind: Kind::Letter,
                id: EntryId::new(id),
                envelope: large.clone(),
            }
        });
        Append {
            within: None,
            items: items.collect(),
        }
    };
    let full = (1..1000).find(|number| world.ask(&keys.writer(), flood(*number)) == Err(Refusal::Quota));
    assert!(full.is_some());
    world.ask(&keys.keeper(), seal(1)).unwrap();
    assert_eq!(
        world.ask(&keys.keeper(), Trim { before: Seq::new(3) }),
        Err(Refusal::NotHere)
    );
    assert_eq!(
        world.ask(&keys.keeper(), martlet_proto::Drop),
        Err(Refusal::NotHere)
    );
    assert_eq!(
        world.ask(&keys.writer(), append(Kind::Commit, 2)),
        Err(Refusal::Sealed)
    );
}

#[test]
fn each_class_takes_its_kinds_only() {
    for (class, kind) in [
        (Class::Case, Kind::Letter),
        (Class::Inbox, Kind::Packet),
        (Class::File, Kind::Chunk),
        (Class::Card, Kind::Card),
    ] {
        let mut world = World::new();
        let keys = keys(class, 1);
        world.open(&keys);
        for (number, tried) in [Kind::Letter, Kind::Commit, Kind::Packet, Kind::Chunk, Kind::Card]
            .into_iter()
            .enumerate()
        {
            let answer = world.ask(&keys.writer(), append(tried, u8::try_from(number).unwrap()));
            assert_eq!(answer.is_ok(), tried == kind, "{class:?} {tried:?}");
        }
    }
}

#[test]
fn letters_go_after_thirty_days_and_the_chain_stays_whole() {
    let mut world = World::new();
    let keys = keys(Class::Case, 1);
    world.open(&keys);
    world.ask(&keys.writer(), append(Kind::Letter, 1)).unwrap();
    let placed = world.ask(&keys.keeper(), seal(2)).unwrap();
    for _ in 0..6 {
        world.now = world.now.plus_secs(6 * 86_400);
        let _ = world.ask(&keys.reader(), Read { from: Seq::FIRST });
    }
    let page = world.ask(&keys.reader(), Read { from: Seq::FIRST }).unwrap();
    assert!(matches!(page.slots[0], Slot::Gone { .. }) && matches!(page.slots[1], Slot::Here(_)));
    let first = martlet_proto::Head::first(&keys.channel(), &page.tip.incarnation);
    assert_eq!(
        page.slots.iter().fold(first, |head, slot| slot.head_after(&head)),
        placed.head
    );
}

#[test]
fn a_clock_that_jumps_lets_nothing_expire_until_the_operator_agrees() {
    let mut world = World::new();
    let keys = keys(Class::File, 1);
    world.open(&keys);
    world.now = NOON.plus_secs(400 * 86_400);
    assert!(world.ask(&keys.reader(), Read { from: Seq::FIRST }).is_ok());
    assert!(world.relay.doubts_clock());
    world.relay.accept_clock().unwrap();
    assert_eq!(
        world.ask(&keys.reader(), Read { from: Seq::FIRST }),
        Err(Refusal::Closed)
    );
    world.now = NOON;
    assert_eq!(
        world.relay.today(),
        NOON.plus_secs(400 * 86_400).day(),
        "a clock set back brings nothing back"
    );
}

#[test]
fn what_is_added_is_pushed_to_followers_until_they_end_it() {
    let mut world = World::new();
    let keys = keys(Class::Inbox, 1);
    world.open(&keys);
    world.ask(&keys.reader(), Follow { from: Seq::FIRST }).unwrap();
    let follow = from(world.lives);
    let effects = world.effects(Call::new(&keys.writer(), append(Kind::Packet, 1)));
    assert!(matches!(&effects[1], Effect::Push(to, slots) if *to == follow && slots.len() == 1));
    world.relay.turn(world.now, &[Input::Unfollow(follow)]).unwrap();
    assert_eq!(
        world
            .effects(Call::new(&keys.writer(), append(Kind::Packet, 2)))
            .len(),
        1
    );
}

/// A store without room for anything new.
#[derive(Default)]
struct NoRoom {
    inner: Memory,
    full: std::rc::Rc<std::cell::Cell<bool>>,
}

impl Store for NoRoom {
    fn era(&mut self) -> Result<martlet_server::log::Era, StoreError> {
        self.inner.era()
    }
    fn load(&mut self, channel: &martlet_proto::ChannelId) -> Result<Option<Log>, StoreError> {
        self.inner.load(channel)
    }
    fn envelope(
        &mut self,
        channel: &martlet_proto::ChannelId,
        seq: Seq,
    ) -> Result<Option<Envelope>, StoreError> {
        self.inner.envelope(channel, seq)
    }
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        let grows = |change: &Change| matches!(change.step, Step::Placed { .. } | Step::Opened(_));
        if self.full.get() && changes.iter().any(grows) {
            return Err(StoreError::Full);
        }
        self.inner.commit(changes)
    }
    fn sweep(&mut self, today: Day) -> Result<(), StoreError> {
        self.inner.sweep(today)
    }
    fn day(&mut self) -> Result<Day, StoreError> {
        self.inner.day()
    }
    fn set_day(&mut self, day: Day) -> Result<(), StoreError> {
        self.inner.set_day(day)
    }
    fn close(&mut self) -> Result<(), StoreError> {
        self.inner.close()
    }
    fn totals(&self) -> Totals {
        self.inner.totals()
    }
}

#[test]
fn a_full_disk_refuses_appends_only_and_recovers() {
    let store = NoRoom::default();
    let full = std::rc::Rc::clone(&store.full);
    let mut world = World::over(store);
    let keys_one = keys(Class::Inbox, 1);
    world.open(&keys_one);
    world.ask(&keys_one.writer(), append(Kind::Packet, 1)).unwrap();
    full.set(true);
    assert_eq!(
        world.ask(&keys_one.writer(), append(Kind::Packet, 2)),
        Err(Refusal::Full)
    );
    let other = keys(Class::Inbox, 2);
    assert_eq!(
        world.ask(&other.writer(), other.opening(Some(admission()))),
        Err(Refusal::Full)
    );
    let page = world.ask(&keys_one.reader(), Read { from: Seq::FIRST }).unwrap();
    assert_eq!(page.slots.len(), 1, "what was refused is not shown");
    world
        .ask(&keys_one.keeper(), Trim { before: Seq::new(1) })
        .unwrap();
    full.set(false);
    assert_eq!(
        world
            .ask(&keys_one.writer(), append(Kind::Packet, 2))
            .unwrap()
            .first,
        Seq::new(1)
    );
}
