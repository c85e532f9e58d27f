//! A path that drops, delays, reorders and, for a while, cuts: letters and a document arrive once and whole.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests fail by panicking, and count on small numbers"
)]

use std::{
    net::{SocketAddr, UdpSocket as StdSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use martlet::{Client, Error, NewCase, NewInvite, NewProfile, Which, link::quic::Quic, vault::Vault};
use martlet_proto::card::Uses;
use martlet_server::{
    identity::Identity,
    serve::{Serving, serve},
    store::memory::Memory,
};
use martlet_tests::write_file;
use tokio::net::UdpSocket;

/// One bad path: each datagram is dropped, or comes after 1 to 40 ms, in whatever order that gives.
struct Path {
    state: AtomicU64,
    cut: AtomicBool,
}

impl Path {
    fn random(&self) -> u64 {
        let step = self.state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (step ^ (step >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 33
    }

    fn carry(self: &Arc<Self>, datagram: Vec<u8>, from: Arc<UdpSocket>, to: SocketAddr) {
        let random = self.random();
        if self.cut.load(Ordering::Relaxed) || random.is_multiple_of(20) {
            return;
        }
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(1 + random % 40)).await;
            let _ = from.send_to(&datagram, to).await;
        });
    }
}

/// A front for a relay; every client address gets a socket of its own behind it.
async fn bad_path(relay: SocketAddr, seed: u64) -> (SocketAddr, Arc<Path>) {
    let path = Arc::new(Path {
        state: AtomicU64::new(seed),
        cut: AtomicBool::new(false),
    });
    let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let address = front.local_addr().unwrap();
    let sockets: Mutex<Vec<(SocketAddr, Arc<UdpSocket>)>> = Mutex::default();
    let outer = Arc::clone(&path);
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        while let Ok((length, client)) = front.recv_from(&mut buffer).await {
            let known = sockets
                .lock()
                .unwrap()
                .iter()
                .find(|(of, _)| *of == client)
                .map(|(_, back)| Arc::clone(back));
            let back = match known {
                Some(back) => back,
                None => {
                    let back = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
                    sockets.lock().unwrap().push((client, Arc::clone(&back)));
                    let (listen, front, path) = (Arc::clone(&back), Arc::clone(&front), Arc::clone(&outer));
                    tokio::spawn(async move {
                        let mut buffer = vec![0; 65_536];
                        while let Ok((length, _)) = listen.recv_from(&mut buffer).await {
                            path.carry(buffer[..length].to_vec(), Arc::clone(&front), client);
                        }
                    });
                    back
                }
            };
            outer.carry(buffer[..length].to_vec(), back, relay);
        }
    });
    (address, path)
}

fn person(name: &str, relay: Option<martlet_proto::link::RelayLink>, dir: &std::path::Path) -> Client {
    let profile = NewProfile {
        name: name.into(),
        relay,
    };
    Client::over(Arc::new(Quic::new()), Vault::in_memory().unwrap(), dir, profile).unwrap()
}

/// Syncs until it works; the path breaks it now and then.
async fn sync(client: &Client) {
    for _ in 0..20 {
        match client.sync().await {
            Ok(_) => return,
            Err(Error::Unreachable) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("the path is not that bad");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_path_loses_and_doubles_nothing() {
    let identity = Identity::generate().unwrap();
    let socket = StdSocket::bind("127.0.0.1:0").unwrap();
    let seed = 7;
    let (front, path) = bad_path(socket.local_addr().unwrap(), seed).await;
    let serving = Serving {
        public: vec![front.into()],
        ..Serving::default()
    };
    let relay = serve(vec![socket], Memory::default(), &identity, &serving).unwrap();
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ines = person("Ines", Some(relay.link().clone()), here.path());
    let amal = person("Amal", None, there.path());
    let new = NewInvite {
        uses: Uses::Many,
        label: None,
        days: 9,
        apart: false,
    };
    let invite = ines.invite(new).await.unwrap().invite.parse().unwrap();
    sync(&ines).await;
    while amal.cases().unwrap().is_empty() {
        match amal.open_case(&invite, NewCase::default()).await {
            Ok(_) | Err(Error::Unreachable) => {}
            Err(error) => panic!("seed {seed}: {error:?}"),
        }
    }
    let case = amal.cases().unwrap()[0].case.clone();
    let mut written = Vec::new();
    for number in 0..20 {
        if number == 10 {
            path.cut.store(true, Ordering::Relaxed);
            let path = Arc::clone(&path);
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(1500)).await;
                path.cut.store(false, Ordering::Relaxed);
            });
        }
        let text = format!("letter {number:02}");
        amal.send_text(&case, &text).await.unwrap();
        written.push(text);
    }
    let paper = there.path().join("paper.pdf");
    write_file(&paper, 1_000_000);
    let sent = amal.send_file(&case, &paper, &mut |_| {}).await.unwrap();
    sync(&amal).await;
    sync(&ines).await;
    let theirs = ines.cases().unwrap()[0].case.clone();
    let letters = ines.letters(&theirs, Which::All).unwrap();
    let arrived: Vec<String> = letters.into_iter().filter_map(|letter| letter.text).collect();
    assert_eq!(arrived, written, "seed {seed}");
    let got = ines
        .get(&theirs, &sent.id.to_text(), here.path(), &mut |_| {})
        .await
        .unwrap();
    assert_eq!(Some(got.sha256), sent.sha256);
}
