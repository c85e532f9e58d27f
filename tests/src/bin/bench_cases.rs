//! What cases of several people cost: `bench_cases [add|behind|follow]...`.
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
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use martlet::{
    Client, NewCase, NewInvite, NewProfile,
    link::{BoxFuture, Connect, Link, LinkError, quic::Quic},
    vault::Vault,
};
use martlet_proto::{
    Call, Day,
    call::{Action, Slots},
    card::Uses,
    case::Role,
    invite::Invite,
    link::{RelayAddress, RelayLink},
};
use martlet_tests::{Relay, processes::World};

/// Counts calls, and the bytes of the envelopes that they carry.
#[derive(Default)]
struct Tally {
    calls: AtomicU64,
    sealed: AtomicU64,
    appended: AtomicU64,
}

struct Counting {
    quic: Quic,
    tally: Arc<Tally>,
}

struct CountingLink {
    inner: Arc<dyn Link>,
    tally: Arc<Tally>,
}

impl Connect for Counting {
    fn connect<'a>(&'a self, relay: &'a RelayAddress) -> BoxFuture<'a, Result<Arc<dyn Link>, LinkError>> {
        Box::pin(async move {
            let inner = self.quic.connect(relay).await?;
            let tally = Arc::clone(&self.tally);
            Ok(Arc::new(CountingLink { inner, tally }) as Arc<dyn Link>)
        })
    }
    fn connect_apart<'a>(
        &'a self,
        relay: &'a RelayAddress,
    ) -> BoxFuture<'a, Result<Arc<dyn Link>, LinkError>> {
        Box::pin(async move {
            let inner = self.quic.connect_apart(relay).await?;
            let tally = Arc::clone(&self.tally);
            Ok(Arc::new(CountingLink { inner, tally }) as Arc<dyn Link>)
        })
    }
}

impl Link for CountingLink {
    fn call(&self, call: Call) -> BoxFuture<'_, Result<martlet_proto::Answer, LinkError>> {
        self.tally.calls.fetch_add(1, Ordering::Relaxed);
        let (items, count) = match &call.action {
            Action::Append(append) => (&append.items[..], &self.tally.appended),
            Action::Seal(seal) => (&seal.items[..], &self.tally.sealed),
            _ => (&[][..], &self.tally.appended),
        };
        let bytes = items.iter().map(|item| item.envelope.as_bytes().len() as u64);
        count.fetch_add(bytes.sum(), Ordering::Relaxed);
        self.inner.call(call)
    }
    fn follow(&self, call: Call) -> BoxFuture<'_, Result<(Slots, martlet::link::Pushes), LinkError>> {
        self.inner.follow(call)
    }
    fn stream(&self) -> BoxFuture<'_, Result<Arc<dyn Link>, LinkError>> {
        self.inner.stream()
    }
    fn relay_day(&self) -> Option<Day> {
        self.inner.relay_day()
    }
    fn is_closed(&self) -> bool {
        self.inner.is_closed()
    }
    fn closed(&self) -> BoxFuture<'_, ()> {
        self.inner.closed()
    }
    fn close(&self) {
        self.inner.close();
    }
    fn path(&self) -> &'static str {
        self.inner.path()
    }
}

/// Somebody with a vault in memory, whose calls are counted.
struct Somebody {
    client: Client,
    tally: Arc<Tally>,
}

impl Somebody {
    fn new(name: &str, relay: Option<RelayLink>, dir: &Path) -> Self {
        let tally = Arc::new(Tally::default());
        let connect = Arc::new(Counting {
            quic: Quic::new(),
            tally: Arc::clone(&tally),
        });
        let profile = NewProfile {
            name: name.into(),
            relay,
        };
        let client = Client::over(connect, Vault::in_memory().unwrap(), dir, profile).unwrap();
        Self { client, tally }
    }

    async fn invite(&self) -> Invite {
        let new = NewInvite {
            uses: Uses::Many,
            label: None,
            days: 30,
            apart: false,
        };
        self.client.invite(new).await.unwrap().invite.parse().unwrap()
    }

    fn case(&self) -> String {
        self.client.cases().unwrap()[0].case.clone()
    }

    fn take(&self) -> (u64, u64, u64) {
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        (
            take(&self.tally.calls),
            take(&self.tally.sealed),
            take(&self.tally.appended),
        )
    }
}

/// The bytes that adding a sixth member to a case of five sends.
async fn bench_add(dir: &Path) {
    let relay = Relay::start();
    let link = || Some(relay.link());
    let (ines, amal) = (
        Somebody::new("Ines", link(), dir),
        Somebody::new("Amal", None, dir),
    );
    let invite = ines.invite().await;
    amal.client.open_case(&invite, NewCase::default()).await.unwrap();
    ines.client.sync().await.unwrap();
    for (count, role) in [Role::Counsel, Role::Interpreter, Role::Observer, Role::Observer]
        .into_iter()
        .enumerate()
    {
        let other = Somebody::new("Somebody", link(), dir);
        let invite = other.invite().await;
        ines.client.sync().await.unwrap();
        ines.take();
        ines.client.add(&ines.case(), &invite, role).await.unwrap();
        let (calls, sealed, appended) = ines.take();
        println!(
            "add: to a case of {}: {calls} calls, commit {} KiB, the new member's packet and what else was sent {} KiB",
            count + 2,
            sealed >> 10,
            appended >> 10
        );
        other.client.sync().await.unwrap();
    }
}

/// How many calls a client makes that is 1,000 letters and 50 epochs behind.
async fn bench_behind(dir: &Path) {
    let relay = Relay::start();
    let (ines, amal, carol) = (
        Somebody::new("Ines", Some(relay.link()), dir),
        Somebody::new("Amal", None, dir),
        Somebody::new("Carol", Some(relay.link()), dir),
    );
    let invite = ines.invite().await;
    amal.client.open_case(&invite, NewCase::default()).await.unwrap();
    ines.client.sync().await.unwrap();
    let invite = carol.invite().await;
    ines.client
        .add(&ines.case(), &invite, Role::Counsel)
        .await
        .unwrap();
    carol.client.sync().await.unwrap();
    amal.client.sync().await.unwrap();
    for epoch in 0..50 {
        let leads = if epoch % 2 == 0 { &carol } else { &ines };
        leads.client.take_over(&leads.case()).await.unwrap();
        for letter in 0..20 {
            let text = format!("letter {letter} of epoch {epoch}");
            leads.client.send_text(&leads.case(), &text).await.unwrap();
        }
    }
    amal.take();
    let began = Instant::now();
    let synced = amal.client.sync().await.unwrap();
    let took = began.elapsed();
    let (calls, ..) = amal.take();
    println!(
        "behind: {} letters and notices in {calls} calls, one after the other (target: 60 round trips plus transfer), {:.1} s over loopback",
        synced.received,
        took.as_secs_f64()
    );
}

/// The memory of a client that follows 200 cases.
async fn bench_follow(dir: &Path) {
    let (world, daemon) = World::start();
    let link: RelayLink = daemon.ready["link"].as_str().unwrap().parse().unwrap();
    let floor = ["init", "--name", "Ines", "--kdf-floor", "--relay"];
    world.ok("ines", &[&floor[..], &[&link.to_string()]].concat());
    let invite = world.ok("ines", &["invite"])["invite"]
        .as_str()
        .unwrap()
        .to_string();
    let invite: Invite = invite.parse().unwrap();
    for number in 0..200 {
        let client = Somebody::new(&format!("Client {number}"), None, dir);
        let new = NewCase {
            text: Some("They took my brother.".into()),
            label: None,
            apart: false,
        };
        client.client.open_case(&invite, new).await.unwrap();
    }
    world.ok("ines", &["sync"]);
    for isolation in ["shared", "case"] {
        world.ok("ines", &["isolation", isolation]);
        follow_for_a_while(&world, isolation).await;
    }
}

async fn follow_for_a_while(world: &World, isolation: &str) {
    let mut following = world.command("ines", &["follow"]);
    let mut child = following.stdout(std::process::Stdio::null()).spawn().unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let of = |line: &str| -> u64 {
        let found = status.lines().find_map(|found| found.strip_prefix(line)).unwrap();
        found.split_whitespace().next().unwrap().parse().unwrap()
    };
    println!(
        "follow: {:.1} MiB resident with 200 cases followed, isolation {isolation}, peak {:.1} MiB (target under 64)",
        of("VmRSS:") as f64 / 1024.0,
        of("VmHWM:") as f64 / 1024.0
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::main]
async fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    let dir = tempfile::tempdir().unwrap();
    if wants("add") {
        bench_add(dir.path()).await;
    }
    if wants("behind") {
        bench_behind(dir.path()).await;
    }
    if wants("follow") {
        bench_follow(dir.path()).await;
    }
}
