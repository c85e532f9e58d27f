//! What the second road costs beside the first, in one interleaved run: `bench_roads [rates|bytes]...`.
//!
//! Figures and their targets stand in `tests/BENCHMARKS.md`.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a measuring tool"
)]

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use martlet::{
    Client, NewCase, NewInvite, NewProfile,
    link::{Connect, Link, ask, quic::Quic, tcp::Tcp},
    record::Isolation,
    vault::Vault,
};
use martlet_proto::{
    Append, Bind, ChannelId, Class, EntryId, Envelope, Grant, Kind, Open, Secret, Token, TokenHash, Writer,
    call::Item, card::Uses, link::RelayLink,
};
use martlet_server::{
    identity::Identity,
    serve::{Running, Serving, Sockets, serve},
    store::memory::Memory,
};
use martlet_tests::front::Front;

const IN_FLIGHT: u8 = 64;
const ROUNDS: u64 = 5;
const ROUND: Duration = Duration::from_secs(2);
const DOCUMENT_BYTES: usize = 64 << 20;

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn relay(public: Vec<martlet_proto::link::Address>) -> Running {
    let sockets = Sockets::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
    let serving = Serving {
        public,
        ..Serving::default()
    };
    serve(
        sockets,
        Memory::default(),
        &Identity::generate().unwrap(),
        &serving,
    )
    .unwrap()
}

async fn channel(link: &dyn Link, relay: &RelayLink, token: [u8; 32], class: Class) -> Grant<Writer> {
    let token: Token<Writer> = Token::new(Secret::new(token));
    let (read, keep) = (TokenHash::new([1; 32]), TokenHash::new([2; 32]));
    let channel = ChannelId::commit(class, &read, &token.hash(), &keep, &Bind::NONE);
    let grant = Grant { channel, token };
    let open = Open {
        class,
        read,
        keep,
        bind: Bind::NONE,
        admission: Some(relay.admission.clone()),
    };
    ask(link, &grant, open).await.unwrap();
    grant
}

/// Appends of 2 KiB a second, 64 in flight on one stream. The relay keeps no log longer than its quota: each round has
/// channels of its own.
async fn appends(link: Arc<dyn Link>, relay: &RelayLink, round: u64) -> f64 {
    let mut channels = Vec::new();
    for number in 0..IN_FLIGHT {
        let mut token = [number; 32];
        token[..8].copy_from_slice(&round.to_be_bytes());
        let grant = channel(link.as_ref(), relay, token, Class::Case).await;
        channels.push(grant);
    }
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for grant in channels {
        let link = Arc::clone(&link);
        tasks.spawn(async move {
            let mut count = 0u64;
            while began.elapsed() < ROUND {
                let mut id = [0; 16];
                id[..8].copy_from_slice(&count.to_be_bytes());
                let items = vec![Item {
                    kind: Kind::Letter,
                    id: EntryId::new(id),
                    envelope: Envelope::new(vec![7; 2048].into()).unwrap(),
                }];
                let append = Append { within: None, items };
                ask(link.as_ref(), &grant, append).await.unwrap();
                count += 1;
            }
            count
        });
    }
    let count: u64 = tasks.join_all().await.into_iter().sum();
    count as f64 / began.elapsed().as_secs_f64()
}

/// MiB a second of chunks of a document, 16 calls ahead on a stream of their own.
async fn chunks(link: &dyn Link, relay: &RelayLink, number: u8) -> f64 {
    let link = link.stream().await.unwrap();
    let grant = channel(link.as_ref(), relay, [number; 32], Class::File).await;
    let began = Instant::now();
    let mut calls = tokio::task::JoinSet::new();
    let (mut at, each) = (0u64, 4 << 16);
    while (at as usize) * each < DOCUMENT_BYTES {
        if calls.len() >= 16 {
            calls.join_next().await.unwrap().unwrap();
        }
        let items = (0..4u64).map(|part| {
            let mut id = [9; 16];
            id[..8].copy_from_slice(&(at * 4 + part).to_be_bytes());
            let envelope = Envelope::new(vec![7; 1 << 16].into()).unwrap();
            let (kind, id) = (Kind::Chunk, EntryId::new(id));
            Item { kind, id, envelope }
        });
        let append = Append {
            within: None,
            items: items.collect(),
        };
        let (link, grant) = (Arc::clone(&link), grant.clone());
        calls.spawn(async move { ask(link.as_ref(), &grant, append).await.unwrap() });
        at += 1;
    }
    calls.join_all().await;
    DOCUMENT_BYTES as f64 / f64::from(1 << 20) / began.elapsed().as_secs_f64()
}

async fn rates() {
    let (mut letters, mut documents) = ([vec![], vec![]], [vec![], vec![]]);
    for round in 0..ROUNDS {
        // A relay for each round: its store is in memory.
        let relay = relay(Vec::new());
        let to = relay.link().relay.clone();
        let links = [
            Quic::new().connect(&to).await.unwrap(),
            Tcp::new().connect(&to).await.unwrap(),
        ];
        // Whoever comes first is not always the same.
        for turn in 0..2 {
            let which = (turn + round as usize) % 2;
            let link = &links[which];
            let seed = round * 2 + which as u64;
            letters[which].push(appends(Arc::clone(link), relay.link(), seed).await);
            documents[which].push(chunks(link.as_ref(), relay.link(), 200 + which as u8).await);
        }
        drop(links);
        relay.stop().await.unwrap();
    }
    let [quic, tcp] = letters.map(median);
    println!(
        "2 KiB appends, 64 in flight: quic {quic:.0}/s, tcp {tcp:.0}/s, ratio {:.2} (target 0.45)",
        tcp / quic
    );
    let [quic, tcp] = documents.map(median);
    println!(
        "chunks of a document: quic {quic:.0} MiB/s, tcp {tcp:.0} MiB/s, ratio {:.2}",
        tcp / quic
    );
}

async fn person(name: &str, connect: Arc<dyn Connect>, relay: Option<RelayLink>, dir: &Path) -> Client {
    let profile = NewProfile {
        name: name.into(),
        relay,
    };
    Client::over(connect, Vault::in_memory().unwrap(), dir, profile).unwrap()
}

/// What connecting anew and sending one text of 200 bytes takes on one road, both ways together, without the headers of IP, UDP
/// and TCP.
async fn bytes(road: &str, connect: Arc<dyn Connect>) {
    let front = Front::start();
    let relay = relay(vec![front.address.into()]);
    front.leads_to(relay.listen()[0]);
    let dir = tempfile::tempdir().unwrap();
    let ines = person(
        "Ines",
        Arc::clone(&connect),
        Some(relay.link().clone()),
        dir.path(),
    )
    .await;
    let new = NewInvite {
        uses: Uses::Many,
        label: None,
        days: 9,
        apart: false,
    };
    let invite = ines.invite(new).await.unwrap().invite.parse().unwrap();
    ines.sync().await.unwrap();
    let amal = person("Amal", Arc::clone(&connect), None, dir.path()).await;
    let (case, ..) = amal.open_case(&invite, NewCase::default()).await.unwrap();
    amal.sync().await.unwrap();
    let count =
        || front.rules.udp_bytes.load(Ordering::SeqCst) + front.rules.tcp_bytes.load(Ordering::SeqCst);
    // Connections in use are closed by it.
    amal.set_isolation(Isolation::Shared).unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = count();
    let link = connect.connect(&relay.link().relay).await.unwrap();
    let connected = count() - before;
    link.close();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = count();
    amal.send_text(&case.case, &"a".repeat(200)).await.unwrap();
    let sent = count() - before;
    println!(
        "{road}: {connected} bytes to connect and be greeted; {sent} with one text of 200 bytes (target 12,000)"
    );
    relay.stop().await.unwrap();
}

#[tokio::main]
async fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let wants = |what: &str| wanted.is_empty() || wanted.iter().any(|name| name == what);
    if wants("rates") {
        rates().await;
    }
    if wants("bytes") {
        bytes("quic", Arc::new(Quic::new())).await;
        bytes("tcp", Arc::new(Tcp::new())).await;
    }
}
