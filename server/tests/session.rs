//! Sessions over real sockets on loopback: what a client meets, well behaved or not.

#![cfg(feature = "shell")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests fail by panicking, and count on small numbers"
)]

mod cast;
mod wire;

use std::time::Duration;

use cast::*;
use martlet_proto::{
    Answer, Call, ChannelId, Class, Day, Envelope, Follow, Kind, Read, Refusal, Seq, Slot,
    frame::{Request, ToClient, ToRelay},
    limits::{IN_FLIGHT_MAX, PUSHES_WAITING_MAX, STREAMS_MAX},
};
use martlet_server::{
    Store,
    identity::Identity,
    log::{Change, Log},
    serve::{Running, Serving, serve},
    store::{
        StoreError, Totals,
        memory::Memory,
        segments::{Options, Segments},
    },
};
use quinn::VarInt;
use wire::*;

fn start<S: Store + Send + 'static>(store: S, serving: &Serving) -> (Running, Identity) {
    let identity = Identity::generate().unwrap();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let running = serve(vec![socket], store, &identity, serving).unwrap();
    (running, identity)
}

fn memory() -> Running {
    start(Memory::default(), &Serving::default()).0
}

/// A channel on a running relay.
async fn opened(relay: &Running, class: Class) -> Keys {
    let keys = Keys::new(class, 1);
    let mut open = keys.open();
    open.admission = Some(relay.link().admission.clone());
    let mut wire = Wire::connect(relay).await;
    let answer = wire.ask(Call::new(&keys.writer, open)).await;
    assert!(matches!(answer, Ok(Answer::Tip(_))));
    keys
}

fn add(keys: &Keys, number: u64, size: usize) -> Call {
    let item = item_of(Kind::Letter, number, size);
    Call::new(&keys.writer, append(vec![item]))
}

fn read(keys: &Keys, from: u64) -> Call {
    let from = Seq::new(from);
    Call::new(&keys.reader, Read { from })
}

fn follow(keys: &Keys) -> Call {
    let from = Seq::FIRST;
    Call::new(&keys.reader, Follow { from })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_exchange_is_hybrid() {
    let relay = memory();
    let (config, agreed) = spying_client();
    let wire = Wire::connect_with(&relay, config).await;
    assert_eq!(agreed.named(), [rustls::NamedGroup::X25519MLKEM768]);
    drop(wire);
    let classical = client(&[rustls::crypto::aws_lc_rs::kx_group::X25519]);
    Wire::connect_with(&relay, classical).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_speaks_another_protocol_does_not_get_in() {
    let relay = memory();
    let mut tls = tls(&[rustls::crypto::aws_lc_rs::kx_group::X25519MLKEM768]);
    tls.alpn_protocols = vec![b"h3".to_vec()];
    assert!(try_connect(&relay, quic(tls)).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_pipelined_and_answered_in_order() {
    let relay = memory();
    let keys = opened(&relay, Class::Case).await;
    let mut wire = Wire::connect(&relay).await;
    let calls = 5 * IN_FLIGHT_MAX as u64;
    let frames: Vec<u8> = (0..calls)
        .flat_map(|number| frame(number as u32, add(&keys, number, 2048)))
        .collect();
    let (mut send, mut receive) = (wire.send, wire.receive);
    let sending = tokio::spawn(async move {
        send.write_all(&frames).await.unwrap();
        send.finish().unwrap();
    });
    for number in 0..calls {
        let (request, message) = next(&mut receive).await.unwrap();
        assert_eq!(request, Request(number as u32));
        assert!(
            matches!(message, ToClient::Answer(Answer::Placed(placed)) if placed.first.as_u64() == number)
        );
    }
    assert!(
        next(&mut receive).await.is_none(),
        "the stream ends when all is answered"
    );
    sending.await.unwrap();
    wire = Wire::connect(&relay).await;
    let Ok(Answer::Slots(page)) = wire.ask(read(&keys, 0)).await else {
        panic!()
    };
    assert_eq!(page.tip.next.as_u64(), calls);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_frame_ends_its_connection_and_no_other() {
    let relay = memory();
    let keys = opened(&relay, Class::Case).await;
    let mut bystander = Wire::connect(&relay).await;
    let whole = frame(1, read(&keys, 0));
    let mut unknown = whole.clone();
    unknown[4] = 0x7f;
    let mut longer = whole.clone();
    longer[3] += 1;
    longer.push(0);
    let mut other_version = Vec::new();
    ToRelay::Hello { version: 99 }.encode(Request(1), &mut other_version);
    let answers_only = {
        let mut frame = Vec::new();
        ToClient::Gap.encode(Request(1), &mut frame);
        frame
    };
    for (what, bytes, code) in [
        ("cut short", whole[..20].to_vec(), 0x10),
        ("cut short in its length", whole[..3].to_vec(), 0x10),
        ("too long", u32::MAX.to_be_bytes().to_vec(), 0x10),
        ("too short", vec![0, 0, 0, 4, 5, 0, 0, 0], 0x10),
        ("of no known type", unknown, 0x11),
        ("what only relays say", answers_only, 0x11),
        ("with bytes left over", longer, 0x12),
        ("another version", other_version, 0x13),
    ] {
        let mut wire = Wire::connect(&relay).await;
        wire.send.write_all(&bytes).await.unwrap();
        let _ = wire.send.finish();
        assert_eq!(wire.closed().await, code, "{what}");
        assert!(bystander.ask(read(&keys, 0)).await.is_ok(), "{what}");
    }
    let connection = try_connect(&relay, default_client()).await.unwrap();
    let (mut send, receive) = connection.open_bi().await.unwrap();
    send.write_all(&whole).await.unwrap();
    let wire = Wire {
        connection,
        send,
        receive,
        next: 0,
    };
    assert_eq!(wire.closed().await, 0x14, "no hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_are_pushed_what_is_added_until_they_unfollow() {
    let relay = memory();
    let keys = opened(&relay, Class::Case).await;
    let (mut follower, mut writer) = (Wire::connect(&relay).await, Wire::connect(&relay).await);
    writer.ask(add(&keys, 0, 2048)).await.unwrap();
    let Ok(Answer::Slots(page)) = follower.ask(follow(&keys)).await else {
        panic!()
    };
    assert_eq!(page.slots.len(), 1);
    writer.ask(add(&keys, 1, 2048)).await.unwrap();
    let (request, message) = next(&mut follower.receive).await.unwrap();
    assert_eq!(request, Request(follower.next - 1));
    assert!(matches!(&message, ToClient::Pushed(slots) if slots[0].seq() == Seq::new(1)));
    let mut unfollow = Vec::new();
    ToRelay::Unfollow.encode(request, &mut unfollow);
    follower.send.write_all(&unfollow).await.unwrap();
    follower.ask(read(&keys, 0)).await.unwrap();
    writer.ask(add(&keys, 2, 2048)).await.unwrap();
    let Ok(Answer::Slots(page)) = follower.ask(read(&keys, 2)).await else {
        panic!("a push came")
    };
    assert_eq!(page.slots.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_listens_too_slowly_is_told_of_a_gap_and_misses_nothing() {
    let relay = memory();
    let keys = opened(&relay, Class::Case).await;
    let mut narrow = default_client();
    let mut transport = quinn::TransportConfig::default();
    transport.stream_receive_window(VarInt::from_u32(8 << 10));
    narrow.transport_config(std::sync::Arc::new(transport));
    let mut follower = Wire::connect_with(&relay, narrow).await;
    follower.ask(follow(&keys)).await.unwrap();
    let mut writer = Wire::connect(&relay).await;
    let added = 4 * PUSHES_WAITING_MAX as u64;
    for number in 0..added {
        writer.ask(add(&keys, number, 16384)).await.unwrap();
    }
    // Nobody calls any more: what follows must come by itself.
    let (mut seen, mut gaps) = (0, 0);
    while gaps == 0 {
        match next(&mut follower.receive).await.unwrap().1 {
            ToClient::Pushed(slots) => {
                assert_eq!(slots[0].seq(), Seq::new(seen));
                seen += slots.len() as u64;
            }
            ToClient::Gap => gaps += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(seen < added);
    while seen < added {
        let Ok(Answer::Slots(page)) = follower.ask(read(&keys, seen)).await else {
            panic!()
        };
        assert!(page.slots.iter().all(|slot| matches!(slot, Slot::Here(_))));
        seen += page.slots.len() as u64;
    }
    writer.ask(add(&keys, added, 2048)).await.unwrap();
    let pushed = next(&mut follower.receive).await.unwrap().1;
    assert!(matches!(pushed, ToClient::Pushed(slots) if slots[0].seq() == Seq::new(added)));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_and_never_listens_delays_nobody() {
    let relay = memory();
    let keys = opened(&relay, Class::Case).await;
    let mut wire = Wire::connect(&relay).await;
    for number in 0..8 {
        wire.ask(add(&keys, number, 65536)).await.unwrap();
    }
    let greedy = Wire::connect(&relay).await;
    let mut kept = Vec::new();
    for _ in 1..STREAMS_MAX {
        let (mut send, receive) = greedy.connection.open_bi().await.unwrap();
        send.write_all(&hello()).await.unwrap();
        let frames: Vec<u8> = (0..IN_FLIGHT_MAX as u32)
            .flat_map(|at| frame(at, read(&keys, 0)))
            .collect();
        send.write_all(&frames).await.unwrap();
        kept.push((send, receive));
    }
    for number in 8..40 {
        wire.ask(add(&keys, number, 2048)).await.unwrap();
        wire.ask(read(&keys, 0)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_over_the_bound_are_refused() {
    let serving = Serving {
        connections_max: 2,
        ..Serving::default()
    };
    let (relay, _) = start(Memory::default(), &serving);
    let (_one, two) = (Wire::connect(&relay).await, Wire::connect(&relay).await);
    assert!(try_connect(&relay, default_client()).await.is_err());
    two.connection.close(VarInt::from_u32(0), b"");
    for _ in 0..100 {
        if try_connect(&relay, default_client()).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the place was not given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_stops_answers_all_it_took_and_keeps_it() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        floor_bytes: 0,
        ..Options::default()
    };
    let store = || Segments::open(dir.path(), options).unwrap().0;
    let (relay, _) = start(store(), &Serving::default());
    let keys = opened(&relay, Class::Case).await;
    let mut wire = Wire::connect(&relay).await;
    let mut send = wire.send;
    let frames: Vec<u8> = (0..3000)
        .flat_map(|at| frame(at, add(&keys, at.into(), 2048)))
        .collect();
    let sending = tokio::spawn(async move {
        let _ = send.write_all(&frames).await;
    });
    assert!(next(&mut wire.receive).await.is_some());
    let stopping = tokio::spawn(relay.stop());
    let mut answered = 1u64;
    while let Some((_, message)) = next(&mut wire.receive).await {
        assert!(matches!(message, ToClient::Answer(Answer::Placed(_))));
        answered += 1;
    }
    assert_eq!(
        wire.connection.closed().await,
        closed_with(1),
        "it says that it stops"
    );
    stopping.await.unwrap().unwrap();
    sending.await.unwrap();

    let (relay, _) = start(store(), &Serving::default());
    let mut wire = Wire::connect(&relay).await;
    let Ok(Answer::Slots(page)) = wire.ask(read(&keys, 0)).await else {
        panic!()
    };
    assert_eq!(
        page.tip.next.as_u64(),
        answered,
        "taken and answered are the same"
    );
    relay.stop().await.unwrap();
}

/// A store whose commits fail.
struct Failing(Memory);

impl Store for Failing {
    fn era(&mut self) -> Result<martlet_server::log::Era, StoreError> {
        self.0.era()
    }
    fn load(&mut self, channel: &ChannelId) -> Result<Option<Log>, StoreError> {
        self.0.load(channel)
    }
    fn envelope(&mut self, channel: &ChannelId, seq: Seq) -> Result<Option<Envelope>, StoreError> {
        self.0.envelope(channel, seq)
    }
    fn commit(&mut self, _: &[Change]) -> Result<(), StoreError> {
        Err(StoreError::Failed(std::io::Error::other("a broken disk")))
    }
    fn sweep(&mut self, today: Day) -> Result<(), StoreError> {
        self.0.sweep(today)
    }
    fn day(&mut self) -> Result<Day, StoreError> {
        self.0.day()
    }
    fn set_day(&mut self, day: Day) -> Result<(), StoreError> {
        self.0.set_day(day)
    }
    fn close(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
    fn totals(&self) -> Totals {
        self.0.totals()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_whose_disk_failed_answers_nothing_and_ends() {
    let (relay, _) = start(Failing(Memory::default()), &Serving::default());
    let mut wire = Wire::connect(&relay).await;
    let keys = Keys::new(Class::Case, 1);
    assert_eq!(wire.ask(read(&keys, 0)).await, Err(Refusal::Closed));
    let mut open = keys.open();
    open.admission = Some(relay.link().admission.clone());
    wire.send
        .write_all(&frame(7, Call::new(&keys.writer, open)))
        .await
        .unwrap();
    assert!(next(&mut wire.receive).await.is_none());
    tokio::time::timeout(Duration::from_secs(5), relay.failed())
        .await
        .unwrap();
    assert!(relay.stop().await.is_err());
}
