//! The relay as a function, seen by those who use it and by those who should not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests fail by panicking, and count on small numbers"
)]

mod cast;

use cast::*;
use martlet_proto::{
    Answer, Bind, Call, Class, Drop, Follow, Grant, Head, Keeper, Kind, Read, Reader, Refusal, Secret, Seq,
    Slot, Token, Trim, Verb, Writer,
    limits::{
        CASE_ENTRY_DAYS, CASE_KEPT_DAYS, FOLLOWS_MAX, FRAME_BYTES_MAX, INBOX_DAYS, KEEPER_RESERVE_BYTES,
        quota_bytes,
    },
};
use martlet_server::{Effect, Input, relay::Stream, store::StoreError};

/// Every verb but `open`, on one channel with some tokens.
fn calls(keys: &Keys) -> Vec<Call> {
    vec![
        Call::new(&keys.reader, Read { from: Seq::FIRST }),
        Call::new(&keys.reader, Follow { from: Seq::FIRST }),
        Call::new(&keys.writer, append(vec![letter(1)])),
        Call::new(&keys.keeper, seal(vec![letter(1)])),
        Call::new(&keys.keeper, Trim { before: Seq::new(1) }),
        Call::new(&keys.keeper, Drop),
    ]
}

/// The same channel, in hands that guessed the tokens.
fn guessed(keys: &Keys) -> Keys {
    let channel = keys.reader.channel;
    Keys {
        class: keys.class,
        reader: Grant {
            channel,
            token: Token::<Reader>::new(Secret::new([0; 32])),
        },
        writer: Grant {
            channel,
            token: Token::<Writer>::new(Secret::new([0; 32])),
        },
        keeper: Grant {
            channel,
            token: Token::<Keeper>::new(Secret::new([0; 32])),
        },
    }
}

#[test]
fn absent_expired_and_wrong_tokens_are_refused_alike() {
    let mut world = World::new();
    let (there, absent, expired) = (
        Keys::new(Class::Inbox, 1),
        Keys::new(Class::Inbox, 2),
        Keys::new(Class::Inbox, 3),
    );
    world.open(&expired);
    world.wait_days(INBOX_DAYS);
    world.open(&there);

    for keys in [guessed(&there), absent, guessed(&expired), expired] {
        for call in calls(&keys) {
            assert_eq!(world.call(call), Err(Refusal::Closed));
        }
    }
    let guess = guessed(&there);
    let open = Call::new(&guess.writer, guess.open());
    assert_eq!(world.call(open), Err(Refusal::Closed), "a live channel");
    let guess = guessed(&Keys::new(Class::Inbox, 2));
    let open = Call::new(&guess.writer, guess.open());
    assert_eq!(world.call(open), Err(Refusal::Closed), "an absent one");
}

#[test]
fn one_right_is_not_another() {
    let mut world = World::new();
    let keys = Keys::new(Class::Inbox, 1);
    world.open(&keys);
    let channel = keys.reader.channel;
    let reader_as_keeper = Grant {
        channel,
        token: Token::<Keeper>::new(keys.reader.token.secret().clone()),
    };
    assert_eq!(world.ask(&reader_as_keeper, Drop), Err(Refusal::Closed));
    let writer_as_reader = Grant {
        channel,
        token: Token::<Reader>::new(keys.writer.token.secret().clone()),
    };
    let read = Read { from: Seq::FIRST };
    assert_eq!(world.ask(&writer_as_reader, read), Err(Refusal::Closed));
}

#[test]
fn an_id_cannot_be_opened_with_other_rights() {
    let mut world = World::new();
    let (keys, other) = (Keys::new(Class::Case, 1), Keys::new(Class::Case, 2));
    let mut bound = keys.open();
    bound.bind = Bind::new([1; 32]);
    let mut keep = keys.open();
    keep.keep = other.keeper.token.hash();
    let mut class = keys.open();
    class.class = Class::File;
    for open in [bound, keep, class] {
        assert_eq!(world.ask(&keys.writer, open), Err(Refusal::Closed));
    }
}

#[test]
fn only_who_is_admitted_creates_and_every_writer_renews() {
    let mut world = World::new();
    let keys = Keys::new(Class::Inbox, 1);
    let mut plain = keys.open();
    plain.admission = None;
    assert_eq!(world.ask(&keys.writer, plain.clone()), Err(Refusal::NotAdmitted));
    let first = world.open(&keys);
    world.wait_days(5);
    let again = world.ask(&keys.writer, plain).unwrap();
    assert_eq!(again.incarnation, first.incarnation);
    assert_eq!(again.expires, first.expires.plus(5));
}

#[test]
fn of_two_commits_both_land_in_log_order() {
    let mut world = World::new();
    let keys = Keys::new(Class::Case, 1);
    world.open(&keys);
    let commit = |number| item_of(Kind::Commit, number, 16384);
    let (one, two) = (
        world.ask(&keys.keeper, seal(vec![commit(1), letter(2)])).unwrap(),
        world.ask(&keys.keeper, seal(vec![commit(3)])).unwrap(),
    );
    assert_eq!((one.first, two.first), (Seq::new(0), Seq::new(2)));
    let refused = world.ask(&keys.writer, append(vec![letter(4)]));
    assert_eq!(refused, Err(Refusal::Sealed));
    let page = world.read(&keys, 0);
    assert_eq!(
        (page.slots.len(), page.tip.sealed, page.tip.head),
        (3, true, two.head)
    );
}

#[test]
fn the_head_is_what_a_reader_computes() {
    let mut world = World::new();
    let keys = Keys::new(Class::Case, 1);
    let tip = world.open(&keys);
    let mut claimed = Vec::new();
    for number in 0..200 {
        claimed.push(
            world
                .ask(&keys.writer, append(vec![letter(number)]))
                .unwrap()
                .head,
        );
    }
    let mut head = Head::first(&keys.reader.channel, &tip.incarnation);
    let mut seq = 0;
    while seq < 200 {
        for slot in world.read(&keys, seq).slots {
            head = slot.head_after(&head);
            assert_eq!(head, claimed[seq as usize]);
            let again = world.ask(&keys.writer, append(vec![letter(seq)])).unwrap();
            assert_eq!(
                (again.first, again.head),
                (Seq::new(seq), head),
                "a repeated call"
            );
            seq += 1;
        }
    }
}

#[test]
fn the_keeper_has_a_reserve_that_no_writer_touches() {
    let mut world = World::new();
    let keys = Keys::new(Class::Case, 1);
    world.open(&keys);
    let mut number = 0;
    for size in [65536, 16384, 2048] {
        loop {
            number += 1;
            match world.ask(&keys.writer, append(vec![item_of(Kind::Letter, number, size)])) {
                Ok(_) => {}
                Err(refusal) => break assert_eq!(refusal, Refusal::Quota),
            }
        }
    }
    assert_eq!(
        world.relay.totals().bytes,
        quota_bytes(Class::Case) - KEEPER_RESERVE_BYTES
    );
    for _ in 0..4 {
        number += 1;
        world
            .ask(&keys.keeper, seal(vec![item_of(Kind::Commit, number, 65536)]))
            .unwrap();
    }
    let over = seal(vec![item_of(Kind::Commit, number + 1, 2048)]);
    assert_eq!(world.ask(&keys.keeper, over), Err(Refusal::Quota));
}

#[test]
fn a_repeated_call_gets_its_old_place_even_after_a_seal() {
    let mut world = World::new();
    let keys = Keys::new(Class::Case, 1);
    world.open(&keys);
    let group = append(vec![letter(1), letter(2)]);
    let placed = world.ask(&keys.writer, group.clone()).unwrap();
    world.ask(&keys.writer, append(vec![letter(3)])).unwrap();
    world.ask(&keys.keeper, seal(vec![letter(4)])).unwrap();
    world.restart();
    assert_eq!(world.ask(&keys.writer, group), Ok(placed));

    let mut other_bytes = letter(1);
    other_bytes.envelope = envelope(99, 2048);
    for conflict in [
        vec![other_bytes],
        vec![letter(2), letter(1)],
        vec![letter(1), letter(5)],
        vec![letter(5), letter(1)],
        vec![letter(5), letter(5)],
    ] {
        assert_eq!(world.ask(&keys.writer, append(conflict)), Err(Refusal::Conflict));
    }
    assert_eq!(world.read(&keys, 0).slots.len(), 4);
}

#[test]
fn nothing_is_answered_before_the_commit() {
    let mut world = World::new();
    let keys = Keys::new(Class::Case, 1);
    world.open(&keys);
    let follow = world.input(from(1, 1), Call::new(&keys.reader, Follow { from: Seq::FIRST }));
    world.turn(&[follow]);
    let before = world.store.commits();
    let calls: Vec<Input> = (0..8)
        .map(|number| {
            world.input(
                from(2, number),
                Call::new(&keys.writer, append(vec![letter(number.into())])),
            )
        })
        .collect();
    world.store.disk(Disk::Broken);
    let failed = world.relay.turn(noon(world.day), &calls);
    assert!(
        matches!(failed, Err(StoreError::Failed(_))),
        "neither answers nor pushes"
    );
    world.store.disk(Disk::Well);
    world.restart();
    assert!(world.read(&keys, 0).slots.is_empty());
    world.turn(&calls);
    assert_eq!(world.store.commits(), before + 1, "one commit a turn");
}

#[test]
fn a_full_disk_refuses_only_what_needs_room() {
    let mut world = World::new();
    let (keys, new) = (Keys::new(Class::Inbox, 1), Keys::new(Class::Inbox, 2));
    let packet = |number| item_of(Kind::Packet, number, 2048);
    world.open(&keys);
    let placed = world.ask(&keys.writer, append(vec![packet(1)])).unwrap();
    world.store.disk(Disk::Full);
    let inputs: Vec<Input> = [
        Call::new(&keys.writer, append(vec![packet(2)])),
        Call::new(&keys.writer, append(vec![packet(1)])),
        Call::new(&new.writer, new.open()),
        Call::new(&keys.writer, keys.open()),
        Call::new(&keys.reader, Read { from: Seq::FIRST }),
        Call::new(&keys.keeper, Trim { before: Seq::new(1) }),
    ]
    .into_iter()
    .map(|call| world.input(from(1, 1), call))
    .collect();
    let answers: Vec<_> = world.turn(&inputs).into_iter().collect();
    let answers: Vec<_> = answers
        .into_iter()
        .map(|effect| match effect {
            Effect::Answer(_, answer) => answer,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(answers[0], Err(Refusal::Full));
    assert_eq!(answers[1], Ok(Answer::Placed(placed)));
    assert_eq!(answers[2], Err(Refusal::Full));
    assert!(matches!(answers[3], Ok(Answer::Tip(_))));
    assert!(matches!(&answers[4], Ok(Answer::Slots(page)) if page.slots.len() == 1));
    assert_eq!(answers[5], Ok(Answer::Done));
    assert!(matches!(world.read(&keys, 0).slots[..], [Slot::Gone { .. }]));
}

#[test]
fn a_disk_without_any_room_stops_no_reader() {
    let mut world = World::new();
    let keys = Keys::new(Class::Inbox, 1);
    world.open(&keys);
    world
        .ask(&keys.writer, append(vec![item_of(Kind::Packet, 1, 2048)]))
        .unwrap();
    world.store.disk(Disk::Stuffed);
    assert_eq!(
        world.ask(&keys.keeper, Trim { before: Seq::new(1) }),
        Err(Refusal::Full)
    );
    assert_eq!(world.ask(&keys.keeper, Drop), Err(Refusal::Full));
    assert!(matches!(world.read(&keys, 0).slots[..], [Slot::Here(_)]));
}

#[test]
fn each_class_has_its_kinds_and_verbs() {
    let mut world = World::new();
    let kinds = [Kind::Letter, Kind::Commit, Kind::Packet, Kind::Chunk, Kind::Card];
    for (seed, class, by_writer, by_keeper) in [
        (
            1,
            Class::Case,
            vec![Kind::Letter],
            vec![Kind::Letter, Kind::Commit],
        ),
        (2, Class::Inbox, vec![Kind::Packet], vec![]),
        (3, Class::File, vec![Kind::Chunk], vec![]),
        (4, Class::Card, vec![Kind::Card], vec![]),
    ] {
        let keys = Keys::new(class, seed);
        world.open(&keys);
        for (number, kind) in (0u64..).zip(kinds) {
            let added = world.ask(&keys.writer, append(vec![item_of(kind, number, 2048)]));
            assert_eq!(added.is_ok(), by_writer.contains(&kind), "{class:?} {kind:?}");
            assert!(added.is_ok() || added == Err(Refusal::NotHere));
        }
        for (number, kind) in (10u64..).zip(kinds) {
            let sealed = world.ask(&keys.keeper, seal(vec![item_of(kind, number, 2048)]));
            assert_eq!(sealed.is_ok(), by_keeper.contains(&kind), "{class:?} {kind:?}");
            assert!(sealed.is_ok() || sealed == Err(Refusal::NotHere));
        }
        let case = class == Class::Case;
        let trimmed = world.ask(&keys.keeper, Trim { before: Seq::FIRST });
        assert_eq!(trimmed, if case { Err(Refusal::NotHere) } else { Ok(()) });
        let dropped = world.ask(&keys.keeper, Drop);
        assert_eq!(dropped, if case { Err(Refusal::NotHere) } else { Ok(()) });
    }
}

#[test]
fn letters_expire_leave_their_digests_and_give_their_room_back() {
    let mut world = World::new();
    let keys = Keys::new(Class::Case, 1);
    let tip = world.open(&keys);
    let mut number = 0;
    while world
        .ask(&keys.writer, append(vec![item_of(Kind::Letter, number, 65536)]))
        .is_ok()
    {
        number += 1;
    }
    let sealed = world
        .ask(&keys.keeper, seal(vec![item_of(Kind::Commit, 9999, 2048)]))
        .unwrap();
    world.wait_days(CASE_ENTRY_DAYS);
    let (mut head, mut gone, mut here) = (Head::first(&keys.reader.channel, &tip.incarnation), 0, 0);
    let mut seq = 0;
    while seq <= number {
        for slot in world.read(&keys, seq).slots {
            head = slot.head_after(&head);
            seq = slot.seq().as_u64() + 1;
            match slot {
                Slot::Here(entry) => here += u64::from(entry.kind == Kind::Commit),
                Slot::Gone { .. } => gone += 1,
            }
        }
    }
    assert_eq!((gone, here, head), (number, 1, sealed.head));
    for more in 0..8 {
        let commit = item_of(Kind::Commit, 10_000 + more, 65536);
        world
            .ask(&keys.keeper, seal(vec![commit]))
            .expect("expired letters take no room");
    }
    world.wait_days(CASE_KEPT_DAYS - 1);
    world.read(&keys, 0);
    world.wait_days(1);
    let read = Read { from: Seq::FIRST };
    assert_eq!(world.ask(&keys.reader, read), Err(Refusal::Closed));
}

#[test]
fn another_life_of_a_channel_is_told_apart() {
    let mut world = World::new();
    let keys = Keys::new(Class::Inbox, 1);
    let first = world.open(&keys);
    world
        .ask(&keys.writer, append(vec![item_of(Kind::Packet, 1, 2048)]))
        .unwrap();
    world.wait_days(INBOX_DAYS);
    let second = world.open(&keys);
    assert_ne!(first.incarnation, second.incarnation);
    let mut late = append(vec![item_of(Kind::Packet, 2, 2048)]);
    late.within = Some(first.incarnation);
    assert_eq!(
        world.ask(&keys.writer, late.clone()),
        Err(Refusal::OtherIncarnation)
    );
    late.within = Some(second.incarnation);
    assert_eq!(world.ask(&keys.writer, late).unwrap().first, Seq::FIRST);
}

#[test]
fn a_clock_that_jumps_waits_for_the_operator() {
    let mut world = World::new();
    let keys = Keys::new(Class::Inbox, 1);
    world.open(&keys);
    world.day = TODAY.plus(INBOX_DAYS);
    world.read(&keys, 0);
    assert!(world.relay.doubts_clock() && world.relay.today() == TODAY);
    world.relay.accept_clock().unwrap();
    let read = Read { from: Seq::FIRST };
    assert_eq!(world.ask(&keys.reader, read), Err(Refusal::Closed));
    world.day = TODAY;
    world.restart();
    world.turn(&[]);
    assert_eq!(world.relay.today(), TODAY.plus(INBOX_DAYS), "a clock set back");
}

/// What follower 1 was pushed, and whether a gap was told.
fn pushed(effects: &[Effect]) -> (Vec<Vec<Slot>>, usize) {
    let pushes = effects.iter().filter_map(|effect| match effect {
        Effect::Push(to, slots) if *to == from(1, 1) => Some(slots.clone()),
        _ => None,
    });
    let gaps = effects
        .iter()
        .filter(|effect| **effect == Effect::Gap(from(1, 1)))
        .count();
    (pushes.collect(), gaps)
}

fn follow(world: &mut World, keys: &Keys) {
    let input = world.input(from(1, 1), Call::new(&keys.reader, Follow { from: Seq::FIRST }));
    let effects = world.turn(&[input]);
    assert!(matches!(effects[..], [Effect::Answer(_, Ok(Answer::Slots(_)))]));
}

fn add<V: Verb>(world: &mut World, grant: &Grant<V::Right>, verb: V) -> Vec<Effect> {
    let input = world.input(from(2, 1), Call::new(grant, verb));
    world.turn(&[input])
}

#[test]
fn what_is_pushed_fits_in_frames() {
    let mut world = World::new();
    let keys = Keys::new(Class::Case, 1);
    world.open(&keys);
    follow(&mut world, &keys);
    let inputs: Vec<Input> = (0..40u32)
        .map(|number| {
            let large = item_of(Kind::Letter, number.into(), 65536);
            world.input(from(2, number), Call::new(&keys.writer, append(vec![large])))
        })
        .collect();
    let (pages, _) = pushed(&world.turn(&inputs));
    for page in &pages {
        let mut frame = Vec::new();
        martlet_proto::frame::ToClient::Pushed(page.clone())
            .encode(martlet_proto::frame::Request(1), &mut frame);
        assert!(frame.len() <= FRAME_BYTES_MAX + 4);
    }
    let seqs: Vec<u64> = pages.iter().flatten().map(|slot| slot.seq().as_u64()).collect();
    assert_eq!(seqs, (0..40).collect::<Vec<_>>());
}

#[test]
fn a_follow_ends_with_its_request_its_stream_and_its_channel() {
    let mut world = World::new();
    let keys = Keys::new(Class::Inbox, 1);
    world.open(&keys);
    let packet = |number| append(vec![item_of(Kind::Packet, number, 2048)]);
    for (number, end) in (1u64..).zip([
        Input::Unfollow(from(1, 1)),
        Input::Closed(from(1, 1).peer, Stream(0)),
    ]) {
        follow(&mut world, &keys);
        assert_eq!(pushed(&add(&mut world, &keys.writer, packet(number))).0.len(), 1);
        world.turn(&[end]);
        assert!(
            pushed(&add(&mut world, &keys.writer, packet(number + 10)))
                .0
                .is_empty()
        );
    }
    follow(&mut world, &keys);
    assert_eq!(pushed(&add(&mut world, &keys.keeper, Drop)), (Vec::new(), 1));
    world.open(&keys);
    assert_eq!(
        pushed(&add(&mut world, &keys.writer, packet(30))),
        (Vec::new(), 0)
    );
}

#[test]
fn a_follower_is_told_of_another_life() {
    let mut world = World::new();
    let keys = Keys::new(Class::Inbox, 1);
    world.open(&keys);
    follow(&mut world, &keys);
    world.wait_days(INBOX_DAYS);
    assert_eq!(
        pushed(&add(&mut world, &keys.writer, keys.open())),
        (Vec::new(), 1)
    );
    let packet = append(vec![item_of(Kind::Packet, 1, 2048)]);
    assert_eq!(pushed(&add(&mut world, &keys.writer, packet)).0.len(), 1);
}

#[test]
fn a_connection_follows_only_so_many() {
    let mut world = World::new();
    let keys = Keys::new(Class::Inbox, 1);
    world.open(&keys);
    let follow = |world: &mut World, request| {
        let input = world.input(
            from(1, request),
            Call::new(&keys.reader, Follow { from: Seq::FIRST }),
        );
        let Effect::Answer(_, answer) = world.turn(&[input]).remove(0) else {
            panic!("no answer")
        };
        answer.err()
    };
    let most = u32::try_from(FOLLOWS_MAX).unwrap();
    for request in 0..most {
        assert_eq!(follow(&mut world, request), None);
    }
    assert_eq!(follow(&mut world, most), Some(Refusal::Busy));
    assert_eq!(follow(&mut world, 0), None, "the same request again");
    world.turn(&[Input::Unfollow(from(1, 3))]);
    assert_eq!(follow(&mut world, most), None);
}

#[test]
fn what_was_dropped_is_gone_within_the_same_turn() {
    let mut world = World::new();
    let keys = Keys::new(Class::Inbox, 1);
    let first = world.open(&keys);
    let packet = append(vec![item_of(Kind::Packet, 1, 2048)]);
    let inputs = [
        Call::new(&keys.keeper, Drop),
        Call::new(&keys.writer, packet.clone()),
        Call::new(&keys.writer, keys.open()),
        Call::new(&keys.writer, packet),
    ]
    .map(|call| world.input(from(1, 1), call));
    let effects = world.turn(&inputs);
    assert_eq!(effects[1], Effect::Answer(from(1, 1), Err(Refusal::Closed)));
    let page = world.read(&keys, 0);
    assert_ne!(page.tip.incarnation, first.incarnation);
    assert_eq!(page.slots.len(), 1, "what was acknowledged is there");
}
