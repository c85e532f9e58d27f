//! What Martlet reaches, as ratios measured in one interleaved run: `bench [store|quic|document|memory|large|trips]...`.
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
    net::UdpSocket,
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use martlet::{
    NewCase,
    link::{Connect, Link, ask, quic::Quic},
};
use martlet_proto::{
    Append, ChannelId, Class, Day, Digest, EntryId, Envelope, Incarnation, Kind, Open, Secret, Seq, Token,
    TokenHash, Writer, call::Item,
};
use martlet_server::{
    Store,
    identity::Identity,
    log::{Change, Hand, Record, Step},
    serve::{Serving, serve},
    store::segments::{Options, Segments},
};
use martlet_tests::{Person, Relay, processes::World, write_file};

const WRITERS: u8 = 64;
const ROUNDS: usize = 5;

fn options() -> Options {
    Options {
        floor_bytes: 0,
        ..Options::default()
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn envelope(seed: u64) -> Envelope {
    let mut bytes = vec![seed as u8; 2048];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    Envelope::new(bytes.into()).unwrap()
}

fn placed(number: u8, seq: u64) -> Change {
    let envelope = envelope(u64::from(number) << 32 | seq);
    let mut id = [number; 16];
    id[..8].copy_from_slice(&seq.to_be_bytes());
    let digest = Digest::of(&envelope);
    let (incarnation, seq, id) = (Incarnation::new([1; 16]), Seq::new(seq), EntryId::new(id));
    let (kind, by, expires) = (Kind::Letter, Hand::Writer, Day(u32::MAX));
    let step = Step::Placed {
        incarnation,
        seq,
        kind,
        id,
        digest,
        expires,
        by,
        envelope,
    };
    Change {
        channel: ChannelId::new([number; 32]),
        step,
    }
}

fn store_with_channels(dir: &Path) -> Segments {
    let (mut store, _) = Segments::open(dir, options()).unwrap();
    let hash = TokenHash::new([0; 32]);
    let opened: Vec<Change> = (0..WRITERS)
        .map(|number| {
            let (class, incarnation, expires) = (Class::Case, Incarnation::new([1; 16]), Day(u32::MAX));
            let record = Record {
                class,
                read: hash,
                write: hash,
                keep: hash,
                incarnation,
                expires,
            };
            Change {
                channel: ChannelId::new([number; 32]),
                step: Step::Opened(record),
            }
        })
        .collect();
    store.commit(&opened).unwrap();
    store
}

fn written_bytes() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap();
    io.lines()
        .find_map(|line| line.strip_prefix("write_bytes: "))
        .unwrap()
        .parse()
        .unwrap()
}

/// Commits for a while; entries a second.
fn commit_for(store: &mut Segments, next: &mut u64, how_long: Duration) -> f64 {
    let (began, first) = (Instant::now(), *next);
    while began.elapsed() < how_long {
        let changes: Vec<Change> = (0..WRITERS).map(|number| placed(number, *next)).collect();
        store.commit(&changes).unwrap();
        *next += 1;
    }
    ((*next - first) * u64::from(WRITERS)) as f64 / began.elapsed().as_secs_f64()
}

fn bench_store(dir: &Path) {
    let bare = std::fs::File::create(dir.join("bare")).unwrap();
    let mut store = store_with_channels(&dir.join("store"));
    let (mut next, mut offset, mut plain, mut stored, mut amplified) =
        (0, 0, Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (began, first) = (Instant::now(), offset);
        while began.elapsed() < Duration::from_secs(2) {
            let batch: Vec<u8> = (0..WRITERS)
                .flat_map(|number| envelope(u64::from(number)).as_bytes().to_vec())
                .collect();
            bare.write_all_at(&batch, offset).unwrap();
            bare.sync_data().unwrap();
            offset += batch.len() as u64;
        }
        plain.push((offset - first) as f64 / 2048.0 / began.elapsed().as_secs_f64());
        let (before, from) = (written_bytes(), next);
        stored.push(commit_for(&mut store, &mut next, Duration::from_secs(2)));
        let payload = (next - from) * u64::from(WRITERS) * 2048;
        amplified.push((written_bytes() - before) as f64 / payload as f64);
    }
    let (plain, stored) = (median(plain), median(stored));
    println!(
        "store: {stored:.0} appends/s, bare file {plain:.0}/s, ratio {:.2} (target 0.7)",
        stored / plain
    );
    println!(
        "store: {:.2} bytes written a byte (target at most 1.5)",
        median(amplified)
    );
}

async fn bench_quic(dir: &Path) {
    let identity = Identity::generate().unwrap();
    let (through, _) = Segments::open(&dir.join("relay"), options()).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let relay = serve(vec![socket], through, &identity, &Serving::default()).unwrap();
    let link = Quic::new().connect(&relay.link().relay).await.unwrap();
    let mut channels = Vec::new();
    for number in 0..WRITERS {
        let token: Token<Writer> = Token::new(Secret::new([number; 32]));
        let (read, keep, bind) = (
            TokenHash::new([1; 32]),
            TokenHash::new([2; 32]),
            martlet_proto::Bind::NONE,
        );
        let channel = ChannelId::commit(Class::Case, &read, &token.hash(), &keep, &bind);
        let grant = martlet_proto::Grant { channel, token };
        let admission = Some(relay.link().admission.clone());
        ask(
            link.as_ref(),
            &grant,
            Open {
                class: Class::Case,
                read,
                keep,
                bind,
                admission,
            },
        )
        .await
        .unwrap();
        channels.push(grant);
    }
    let mut store = store_with_channels(&dir.join("alone"));
    let (mut next, mut alone, mut quic) = (0, Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        alone.push(commit_for(&mut store, &mut next, Duration::from_secs(2)));
        let began = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for (number, grant) in channels.iter().enumerate() {
            let (link, grant) = (Arc::clone(&link), grant.clone());
            tasks.spawn(async move {
                let mut count = 0u64;
                while began.elapsed() < Duration::from_secs(2) {
                    let seed = (round as u64) << 48 | (number as u64) << 32 | count;
                    let mut id = [0; 16];
                    id[..8].copy_from_slice(&seed.to_be_bytes());
                    let items = vec![Item {
                        kind: Kind::Letter,
                        id: EntryId::new(id),
                        envelope: envelope(seed),
                    }];
                    ask(link.as_ref(), &grant, Append { within: None, items })
                        .await
                        .unwrap();
                    count += 1;
                }
                count
            });
        }
        let count: u64 = tasks.join_all().await.into_iter().sum();
        quic.push(count as f64 / began.elapsed().as_secs_f64());
    }
    let (alone, quic) = (median(alone), median(quic));
    println!(
        "quic: {quic:.0} appends/s with 64 in flight, store alone {alone:.0}/s, ratio {:.2} (target 0.5)",
        quic / alone
    );
    relay.stop().await.unwrap();
}

const DOCUMENT: usize = 256 << 20;

/// Bytes a second of one plain quinn stream over loopback, with the windows that Martlet uses.
async fn raw_quinn() -> f64 {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let mut transport = quinn::TransportConfig::default();
    transport
        .stream_receive_window((4u32 << 20).into())
        .receive_window((8u32 << 20).into())
        .send_window(8 << 20);
    let transport = Arc::new(transport);
    let mut server = quinn::ServerConfig::with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    server.transport_config(Arc::clone(&transport));
    let server = quinn::Endpoint::server(server, "127.0.0.1:0".parse().unwrap()).unwrap();
    let address = server.local_addr().unwrap();
    let sink = tokio::spawn(async move {
        let connection = server.accept().await.unwrap().await.unwrap();
        let mut stream = connection.accept_uni().await.unwrap();
        let (mut buffer, mut count) = (vec![0; 1 << 20], 0);
        while let Ok(Some(read)) = stream.read(&mut buffer).await {
            count += read;
        }
        connection.close(0u32.into(), b"");
        count
    });
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let mut client = quinn::ClientConfig::with_root_certificates(Arc::new(roots)).unwrap();
    client.transport_config(transport);
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let connection = endpoint
        .connect_with(client, address, "localhost")
        .unwrap()
        .await
        .unwrap();
    let mut stream = connection.open_uni().await.unwrap();
    let began = Instant::now();
    let piece = vec![7; 1 << 20];
    for _ in 0..DOCUMENT >> 20 {
        stream.write_all(&piece).await.unwrap();
    }
    stream.finish().unwrap();
    assert_eq!(sink.await.unwrap(), DOCUMENT);
    DOCUMENT as f64 / began.elapsed().as_secs_f64()
}

/// A line of what the kernel says about a process.
fn status_kib(pid: &str, line: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let found = status.lines().find_map(|found| found.strip_prefix(line))?;
    found.split_whitespace().next()?.parse().ok()
}

async fn bench_document() {
    let relay = Relay::start();
    let ines = Person::new("Ines", Some(&relay)).await;
    let amal = Person::new("Amal", None).await;
    amal.client
        .open_case(&ines.invite().await, NewCase::default())
        .await
        .unwrap();
    let path = amal.dir.path().join("video.mp4");
    write_file(&path, DOCUMENT);
    let (mut raw, mut up, mut down, mut sealing) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..3 {
        raw.push(raw_quinn().await);
        let began = Instant::now();
        let mut sealed = None;
        let sent = amal
            .client
            .send_file(&amal.case(), &path, &mut |progress| {
                if progress.stage == martlet::view::Stage::Sending {
                    sealed.get_or_insert_with(|| began.elapsed());
                }
            })
            .await
            .unwrap();
        let (whole, sealed) = (began.elapsed(), sealed.unwrap());
        sealing.push(DOCUMENT as f64 / sealed.as_secs_f64());
        up.push(DOCUMENT as f64 / (whole - sealed).as_secs_f64());
        ines.client.sync().await.unwrap();
        let to = ines.dir.path().join(round.to_string());
        std::fs::create_dir(&to).unwrap();
        let began = Instant::now();
        let got = ines
            .client
            .get(&ines.case(), &sent.id.to_text(), &to, &mut |_| {})
            .await
            .unwrap();
        down.push(DOCUMENT as f64 / began.elapsed().as_secs_f64());
        assert_eq!(Some(got.sha256), sent.sha256);
        std::fs::remove_file(got.path).unwrap();
    }
    let mib = |rate: f64| rate / f64::from(1 << 20);
    let (raw, up, down, sealing) = (median(raw), median(up), median(down), median(sealing));
    println!(
        "document: raw quinn {:.0} MiB/s; sealing into the vault {:.0} MiB/s",
        mib(raw),
        mib(sealing)
    );
    println!(
        "document: sending {:.0} MiB/s, ratio {:.2} (target 0.25)",
        mib(up),
        up / raw
    );
    println!(
        "document: fetching {:.0} MiB/s, ratio {:.2} (target 0.25)",
        mib(down),
        down / raw
    );
}

/// The most memory that a process held, until it ends.
fn peak_kib_of(mut command: std::process::Command) -> (u64, serde_json::Value) {
    let mut child = command
        .arg("--json")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        // A process that has just ended has no such line any more.
        peak = peak.max(status_kib(&child.id().to_string(), "VmHWM:").unwrap_or(0));
        std::thread::sleep(Duration::from_millis(20));
    }
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success());
    (peak, serde_json::from_slice(&done.stdout).unwrap())
}

/// What sending and fetching a document costs in memory, by processes of their own.
fn bench_document_memory() {
    let (world, daemon) = World::start();
    let (amals, iness, _) = world.case(&daemon);
    for mib in [64, 512, 2048] {
        let path = world.path("video.mp4");
        write_file(&path, mib << 20);
        let (sender, sent) =
            peak_kib_of(world.command("amal", &["send", &amals, "--file", path.to_str().unwrap()]));
        world.ok("ines", &["sync"]);
        let id = sent["letters"][0]["id"].as_str().unwrap();
        let to = world.path("received");
        std::fs::create_dir_all(&to).unwrap();
        let (receiver, got) =
            peak_kib_of(world.command("ines", &["get", &iness, id, "--to", to.to_str().unwrap()]));
        assert_eq!(got["size"], mib << 20);
        std::fs::remove_file(got["path"].as_str().unwrap()).unwrap();
        let relay = status_kib(&daemon.child.id().to_string(), "VmHWM:").unwrap();
        println!(
            "memory: a document of {mib} MiB: peak {} MiB sending, {} MiB fetching, {} MiB in the relay",
            sender >> 10,
            receiver >> 10,
            relay >> 10
        );
    }
}

async fn bench_memory(dir: &Path) {
    use std::io::BufRead;
    let daemon = std::env::current_exe().unwrap().with_file_name("martletd");
    let folder = dir.join("memory");
    let init = std::process::Command::new(&daemon)
        .args(["init", "--listen", "127.0.0.1:0", "--dir"])
        .arg(&folder)
        .output();
    assert!(init.unwrap().status.success());
    let mut child = std::process::Command::new(&daemon)
        .args(["serve", "--json", "--dir"])
        .arg(&folder)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
    let link: martlet_proto::link::RelayLink = ready["link"].as_str().unwrap().parse().unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let idle = status_kib(&child.id().to_string(), "VmRSS:").unwrap();
    println!(
        "memory: {:.1} MiB resident at rest (target under 20)",
        idle as f64 / 1024.0
    );
    let (read, keep, bind) = (
        Token::new(Secret::new([5; 32])),
        TokenHash::new([2; 32]),
        martlet_proto::Bind::NONE,
    );
    let token: Token<Writer> = Token::new(Secret::new([6; 32]));
    let channel = ChannelId::commit(Class::Case, &read.hash(), &token.hash(), &keep, &bind);
    let quic = Quic::new();
    let mut followers: Vec<(Arc<dyn Link>, martlet::link::Pushes)> = Vec::new();
    for number in 0..2000 {
        let connected = quic.connect(&link.relay).await.unwrap();
        if number == 0 {
            let (read, admission) = (read.hash(), Some(link.admission.clone()));
            let grant = martlet_proto::Grant {
                channel,
                token: token.clone(),
            };
            ask(
                connected.as_ref(),
                &grant,
                Open {
                    class: Class::Case,
                    read,
                    keep,
                    bind,
                    admission,
                },
            )
            .await
            .unwrap();
        }
        let grant = martlet_proto::Grant {
            channel,
            token: read.clone(),
        };
        let from = martlet_proto::Follow { from: Seq::FIRST };
        let (_, pushes) = martlet::link::follow(connected.as_ref(), &grant, from)
            .await
            .unwrap();
        followers.push((connected, pushes));
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let busy = status_kib(&child.id().to_string(), "VmRSS:").unwrap();
    println!(
        "memory: {:.1} KiB for each of {} idle followers (target under 64)",
        (busy - idle) as f64 / 2000.0,
        followers.len()
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A path that takes 50 ms each way.
async fn slow_path(to: std::net::SocketAddr) -> std::net::SocketAddr {
    let front = Arc::new(tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let back = Arc::new(tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap());
    back.connect(to).await.unwrap();
    let address = front.local_addr().unwrap();
    let client = Arc::new(std::sync::Mutex::new(None));
    let (from_front, to_back, seen) = (Arc::clone(&front), Arc::clone(&back), Arc::clone(&client));
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        while let Ok((length, from)) = from_front.recv_from(&mut buffer).await {
            *seen.lock().unwrap() = Some(from);
            let (datagram, to_back) = (buffer[..length].to_vec(), Arc::clone(&to_back));
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                let _ = to_back.send(&datagram).await;
            });
        }
    });
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        while let Ok(length) = back.recv(&mut buffer).await {
            let Some(to) = *client.lock().unwrap() else {
                continue;
            };
            let (datagram, front) = (buffer[..length].to_vec(), Arc::clone(&front));
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                let _ = front.send_to(&datagram, to).await;
            });
        }
    });
    address
}

async fn bench_trips(dir: &Path) {
    let identity = Identity::generate().unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let far = slow_path(socket.local_addr().unwrap()).await;
    let (store, _) = Segments::open(&dir.join("far"), options()).unwrap();
    let serving = Serving {
        public: vec![far.into()],
        ..Serving::default()
    };
    let relay = serve(vec![socket], store, &identity, &serving).unwrap();
    let new = |name: &str, relay| martlet::NewProfile {
        name: name.into(),
        relay,
    };
    let passphrase = martlet_tests::PASSPHRASE;
    let floor = martlet::Cost::Floor;
    let counsel = new("Ines", Some(relay.link().clone()));
    let ines = martlet::Client::create(&dir.join("ines"), passphrase, floor, counsel)
        .await
        .unwrap();
    let amal = martlet::Client::create(&dir.join("amal"), passphrase, floor, new("Amal", None))
        .await
        .unwrap();
    let wanted = martlet::NewInvite {
        uses: martlet_proto::card::Uses::Many,
        label: None,
        days: 3,
        apart: false,
    };
    let invite = ines.invite(wanted).await.unwrap().invite.parse().unwrap();
    let (case, ..) = amal.open_case(&invite, NewCase::default()).await.unwrap();
    ines.sync().await.unwrap();
    amal.sync().await.unwrap();
    drop(amal);
    let amal = martlet::Client::open(&dir.join("amal"), passphrase)
        .await
        .unwrap();
    let began = Instant::now();
    amal.status().await.unwrap();
    let shaken = began.elapsed();
    let began = Instant::now();
    amal.send_text(&case.case, "short").await.unwrap();
    let sent = began.elapsed();
    println!(
        "trips: {:.1} for the handshake, {:.1} for a text after it (target under 3)",
        shaken.as_secs_f64() * 10.0,
        sent.as_secs_f64() * 10.0
    );
}

#[tokio::main]
async fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    // A disk that holds what is written, not memory.
    let dir = tempfile::tempdir_in(".").unwrap();
    if wants("store") {
        bench_store(dir.path());
    }
    if wants("quic") {
        bench_quic(dir.path()).await;
    }
    if wants("document") {
        bench_document().await;
    }
    if wants("memory") {
        bench_memory(dir.path()).await;
    }
    if wants("large") {
        bench_document_memory();
    }
    if wants("trips") {
        bench_trips(dir.path()).await;
    }
}
