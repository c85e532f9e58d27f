//! Networks that pass no UDP, or stop to, or pass no TCP: letters and a document arrive once and whole.
//!
//! The relay is a process of its own behind a front. `MARTLET_LETTERS` says how many letters are written in each network: 1,000 if it is not set.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and count on small numbers and the clock"
)]

use std::time::{Duration, Instant};

use martlet::{
    Client, NewCase, NewInvite, NewProfile, Which,
    link::{Connect, LinkError, roads::Roads, tcp::Tcp},
    vault::Vault,
};
use martlet_proto::{
    card::Uses,
    invite::Invite,
    link::{Door, RelayLink},
};
use martlet_tests::{
    Relay,
    front::Front,
    processes::{Daemon, martletd},
    write_file,
};

const DOCUMENT_BYTES: usize = 5 << 20;

fn letters() -> usize {
    std::env::var("MARTLET_LETTERS").map_or(1000, |count| count.parse().unwrap())
}

/// A relay behind a front.
struct World {
    front: Front,
    link: RelayLink,
    dir: tempfile::TempDir,
    _daemon: Daemon,
}

impl World {
    fn start() -> Self {
        let front = Front::start();
        let dir = tempfile::tempdir().unwrap();
        let relay = dir.path().join("relay");
        let public = front.address.to_string();
        let made = martletd(&[
            "init",
            "--dir",
            relay.to_str().unwrap(),
            "--listen",
            "127.0.0.1:0",
            "--public",
            &public,
        ]);
        assert!(made.status.success());
        let daemon = Daemon::start(&relay);
        front.leads_to(daemon.ready["listen"][0].as_str().unwrap().parse().unwrap());
        let link: RelayLink = daemon.ready["link"].as_str().unwrap().parse().unwrap();
        assert_eq!(link.relay.addresses[0].to_string(), public);
        Self {
            front,
            link,
            dir,
            _daemon: daemon,
        }
    }

    fn person(&self, name: &str) -> Client {
        let dir = self.dir.path().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let profile = NewProfile {
            name: name.into(),
            relay: (name == "Ines").then(|| self.link.clone()),
        };
        Client::over(
            std::sync::Arc::new(Roads::new()),
            Vault::in_memory().unwrap(),
            &dir,
            profile,
        )
        .unwrap()
    }

    /// Counsel with an invite.
    async fn counsel(&self) -> (Client, Invite) {
        let ines = self.person("Ines");
        let new = NewInvite {
            uses: Uses::Many,
            label: None,
            days: 9,
            apart: false,
        };
        let invite = ines.invite(new).await.unwrap().invite.parse().unwrap();
        ines.sync().await.unwrap();
        (ines, invite)
    }

    /// Writes letters, does something in the middle, sends a document, and has counsel look at all of it.
    async fn a_case_gets_through(&self, midway: impl Fn(&Front)) -> (Client, Client) {
        let (ines, invite) = self.counsel().await;
        let amal = self.person("Amal");
        let opened = amal.open_case(&invite, NewCase::default()).await.unwrap();
        let mut written = Vec::new();
        for number in 0..letters() {
            if number == letters() / 2 {
                midway(&self.front);
            }
            let text = format!("letter {number:04}");
            let sent = amal.send_text(&opened.0.case, &text).await.unwrap();
            assert!(!sent.queued, "{text}");
            written.push(text);
        }
        let paper = self.dir.path().join("paper.pdf");
        write_file(&paper, DOCUMENT_BYTES);
        let sent = amal.send_file(&opened.0.case, &paper, &mut |_| {}).await.unwrap();
        assert!(!sent.queued);
        ines.sync().await.unwrap();
        let theirs = ines.cases().unwrap()[0].case.clone();
        let letters = ines.letters(&theirs, Which::All).unwrap();
        let arrived: Vec<String> = letters.into_iter().filter_map(|letter| letter.text).collect();
        assert_eq!(arrived, written);
        let got = ines
            .get(&theirs, &sent.id.to_text(), self.dir.path(), &mut |_| {})
            .await;
        // The paper that was sent lies in the same folder: nothing is overwritten.
        let got = got.unwrap();
        assert_eq!(Some(got.sha256), sent.sha256);
        (ines, amal)
    }
}

async fn path(client: &Client) -> String {
    client.status().await.unwrap().path.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn where_udp_is_dropped_everything_goes_over_tcp() {
    let world = World::start();
    world.front.let_datagrams(0);
    let (ines, _) = world.a_case_gets_through(|_| {}).await;
    assert_eq!(path(&ines).await, "tcp");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_letter_is_there_within_two_seconds_though_udp_is_dropped() {
    let world = World::start();
    let (_ines, invite) = world.counsel().await;
    world.front.let_datagrams(0);
    let amal = world.person("Amal");
    let began = Instant::now();
    let new = NewCase {
        text: Some("They took my brother last night.".into()),
        ..NewCase::default()
    };
    amal.open_case(&invite, new).await.unwrap();
    assert_eq!(amal.cases().unwrap()[0].unsent, 0);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn wherever_udp_dies_before_the_hello_tcp_is_taken() {
    let world = World::start();
    // One datagram more each time: first none, then half a handshake, then all of it and no hello.
    let mut left = 0;
    loop {
        world.front.let_datagrams(left);
        let link = Roads::new().connect(&world.link.relay).await.unwrap();
        if link.path() == "quic" {
            break;
        }
        assert_eq!(link.path(), "tcp");
        left += 1;
    }
    assert!((5..100).contains(&left), "{left}");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_udp_dies_on_the_way_the_rest_goes_over_tcp_at_once() {
    let world = World::start();
    let began = std::sync::Mutex::new(None);
    let (_, amal) = world
        .a_case_gets_through(|front| {
            front.let_datagrams(0);
            *began.lock().unwrap() = Some(Instant::now());
        })
        .await;
    assert_eq!(path(&amal).await, "tcp");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_tcp_is_dropped_everything_goes_over_udp() {
    let world = World::start();
    world.front.let_tcp(false);
    let (ines, _) = world.a_case_gets_through(|_| {}).await;
    assert_eq!(path(&ines).await, "quic");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_tcp_freezes_on_the_way_and_udp_is_back_the_rest_goes_over_udp() {
    let world = World::start();
    world.front.let_datagrams(0);
    let (_, amal) = world
        .a_case_gets_through(|front| {
            front.let_datagrams(i64::MAX);
            front.let_tcp(false);
        })
        .await;
    assert_eq!(path(&amal).await, "quic");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_takes_less_than_three_seconds() {
    let world = World::start();
    let (_ines, invite) = world.counsel().await;
    let amal = world.person("Amal");
    let opened = amal.open_case(&invite, NewCase::default()).await.unwrap();
    assert_eq!(path(&amal).await, "quic");
    world.front.let_datagrams(0);
    let began = Instant::now();
    let sent = amal.send_text(&opened.0.case, "I am still here.").await.unwrap();
    assert!(!sent.queued);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_pinned_key_is_spoken_to_over_tcp() {
    let relay = Relay::start();
    let right = relay.link().relay;
    assert_eq!(Tcp::new().connect(&right).await.unwrap().path(), "tcp");
    let mut other_key = right.clone();
    other_key.pin = martlet_proto::link::Pin::new([7; 32]);
    assert_eq!(
        Tcp::new().connect(&other_key).await.err(),
        Some(LinkError::WrongPin)
    );
    let mut other_door = right;
    other_door.door = Door::new([7; 8]);
    assert_eq!(
        Tcp::new().connect(&other_door).await.err(),
        Some(LinkError::Unreachable)
    );
}
