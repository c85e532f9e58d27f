//! Cases that share no connection: what the relay sees on each, with real sockets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests fail by panicking, and count on small numbers"
)]

use std::{
    collections::BTreeSet,
    net::{SocketAddr, UdpSocket as StdSocket},
    sync::{Arc, Mutex},
    time::Duration,
};

use martlet::{
    Client, NewCase, NewInvite, NewProfile,
    link::{BoxFuture, Connect, Link, LinkError, Pushes, quic::Quic},
    record::Isolation,
    vault::Vault,
};
use martlet_proto::{
    Answer, Call, ChannelId, Day, call::Slots, card::Uses, invite::Invite, link::RelayAddress,
};
use martlet_server::{
    identity::Identity,
    serve::{Running, Serving, serve},
    store::memory::Memory,
};
use martlet_tests::write_file;
use tokio::{net::UdpSocket, time::timeout};

/// The channels that each connection of a client was used for.
type Log = Arc<Mutex<Vec<BTreeSet<ChannelId>>>>;

/// Links that remember for which channels they were used.
#[derive(Default)]
struct Recording {
    quic: Quic,
    log: Log,
}

struct RecordingLink {
    inner: Arc<dyn Link>,
    log: Log,
    number: usize,
}

impl Recording {
    fn record(&self, inner: Arc<dyn Link>) -> Arc<dyn Link> {
        let mut log = self.log.lock().unwrap();
        log.push(BTreeSet::new());
        Arc::new(RecordingLink {
            inner,
            log: Arc::clone(&self.log),
            number: log.len() - 1,
        })
    }
}

impl Connect for Recording {
    fn connect<'a>(&'a self, relay: &'a RelayAddress) -> BoxFuture<'a, Result<Arc<dyn Link>, LinkError>> {
        Box::pin(async move { Ok(self.record(self.quic.connect(relay).await?)) })
    }
    fn connect_apart<'a>(
        &'a self,
        relay: &'a RelayAddress,
    ) -> BoxFuture<'a, Result<Arc<dyn Link>, LinkError>> {
        Box::pin(async move { Ok(self.record(self.quic.connect_apart(relay).await?)) })
    }
}

impl RecordingLink {
    fn note(&self, call: &Call) {
        self.log.lock().unwrap()[self.number].insert(call.channel);
    }
}

impl Link for RecordingLink {
    fn call(&self, call: Call) -> BoxFuture<'_, Result<Answer, LinkError>> {
        self.note(&call);
        self.inner.call(call)
    }
    fn follow(&self, call: Call) -> BoxFuture<'_, Result<(Slots, Pushes), LinkError>> {
        self.note(&call);
        self.inner.follow(call)
    }
    fn stream(&self) -> BoxFuture<'_, Result<Arc<dyn Link>, LinkError>> {
        Box::pin(async move {
            let (inner, log) = (self.inner.stream().await?, Arc::clone(&self.log));
            let number = self.number;
            Ok(Arc::new(Self { inner, log, number }) as Arc<dyn Link>)
        })
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

/// Somebody, and what their connections were used for.
struct Person {
    client: Client,
    log: Log,
    dir: tempfile::TempDir,
}

impl Person {
    fn new(name: &str, relay: Option<&Running>) -> Self {
        let recording = Recording::default();
        let log = Arc::clone(&recording.log);
        let dir = tempfile::tempdir().unwrap();
        let profile = NewProfile {
            name: name.into(),
            relay: relay.map(|relay| relay.link().clone()),
        };
        let vault = Vault::in_memory().unwrap();
        let client = Client::over(Arc::new(recording), vault, dir.path(), profile).unwrap();
        Self { client, log, dir }
    }

    async fn invite(&self, apart: bool) -> Invite {
        let new = NewInvite {
            uses: Uses::Many,
            label: None,
            days: 9,
            apart,
        };
        self.client.invite(new).await.unwrap().invite.parse().unwrap()
    }

    /// Opens a case with a few words and a document.
    async fn open(&self, invite: &Invite, apart: bool) {
        let new = NewCase {
            text: Some("I need a lawyer".into()),
            label: None,
            apart,
        };
        let (case, ..) = self.client.open_case(invite, new).await.unwrap();
        let paper = self.dir.path().join("paper.pdf");
        write_file(&paper, 100_000);
        self.client
            .send_file(&case.case, &paper, &mut |_| {})
            .await
            .unwrap();
    }

    /// By connection: the channels it was used for.
    fn connections(&self) -> Vec<BTreeSet<ChannelId>> {
        self.log.lock().unwrap().clone()
    }

    fn channels(&self) -> BTreeSet<ChannelId> {
        self.connections().into_iter().flatten().collect()
    }

    /// Answers in all cases, fetches what documents there are, and follows for a while.
    async fn answer(&self) {
        self.client.sync().await.unwrap();
        for case in self.client.cases().unwrap() {
            self.client.send_text(&case.case, "I am here").await.unwrap();
            let letters = self.client.letters(&case.case, martlet::Which::All).unwrap();
            let files = letters.into_iter().filter_map(|letter| letter.file);
            for (file, at) in files.zip(0..) {
                let to = self.dir.path().join(format!("{}-{at}", case.case));
                std::fs::create_dir_all(&to).unwrap();
                let id = file.id.to_text();
                self.client.get(&case.case, &id, &to, &mut |_| {}).await.unwrap();
            }
        }
        self.client.sync().await.unwrap();
        let mut following = self.client.follow(None).await.unwrap();
        while timeout(Duration::from_secs(6), following.next()).await.is_ok() {}
    }
}

fn relay(socket: StdSocket, public: SocketAddr) -> Running {
    let serving = Serving {
        public: vec![public.into()],
        ..Serving::default()
    };
    serve(
        vec![socket],
        Memory::default(),
        &Identity::generate().unwrap(),
        &serving,
    )
    .unwrap()
}

/// The connections of `counsel` that were used for channels of both of these people.
fn mixed(counsel: &Person, one: &Person, other: &Person) -> usize {
    let (one, other) = (one.channels(), other.channels());
    let shared: BTreeSet<_> = one.intersection(&other).copied().collect();
    let of = |channels: &BTreeSet<ChannelId>| channels.difference(&shared).copied().collect::<BTreeSet<_>>();
    let (one, other) = (of(&one), of(&other));
    assert!(one.len() >= 3 && other.len() >= 3);
    let connections = counsel.connections();
    let seen = |channels: &BTreeSet<ChannelId>| connections.iter().any(|used| !used.is_disjoint(channels));
    assert!(seen(&one) && seen(&other));
    let both = |used: &&BTreeSet<ChannelId>| !used.is_disjoint(&one) && !used.is_disjoint(&other);
    connections.iter().filter(both).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_isolation_no_connection_carries_two_cases() {
    let socket = StdSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let relay = relay(socket, address);
    for isolation in [Isolation::Case, Isolation::Shared] {
        let ines = Person::new("Ines", Some(&relay));
        ines.client.set_isolation(isolation).unwrap();
        let invite = ines.invite(false).await;
        let (amal, yusuf) = (Person::new("Amal", None), Person::new("Yusuf", None));
        amal.open(&invite, false).await;
        yusuf.open(&invite, false).await;
        ines.answer().await;
        amal.client.sync().await.unwrap();
        yusuf.client.sync().await.unwrap();
        ines.answer().await;
        assert_eq!(ines.client.cases().unwrap().len(), 2);
        let mixed = mixed(&ines, &amal, &yusuf);
        match isolation {
            Isolation::Case => assert_eq!(mixed, 0),
            Isolation::Shared => assert_ne!(mixed, 0),
        }
    }
}

/// A relay's front that remembers from where datagrams came.
async fn front(relay: SocketAddr) -> (SocketAddr, Arc<Mutex<BTreeSet<SocketAddr>>>) {
    let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let address = front.local_addr().unwrap();
    let sources: Arc<Mutex<BTreeSet<SocketAddr>>> = Arc::default();
    let seen = Arc::clone(&sources);
    tokio::spawn(async move {
        let mut backs: Vec<(SocketAddr, Arc<UdpSocket>)> = Vec::new();
        let mut buffer = vec![0; 65_536];
        while let Ok((length, client)) = front.recv_from(&mut buffer).await {
            seen.lock().unwrap().insert(client);
            let known = backs.iter().find(|(of, _)| *of == client);
            let back = match known {
                Some((_, back)) => Arc::clone(back),
                None => {
                    let back = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
                    backs.push((client, Arc::clone(&back)));
                    let (listen, front) = (Arc::clone(&back), Arc::clone(&front));
                    tokio::spawn(async move {
                        let mut buffer = vec![0; 65_536];
                        while let Ok((length, _)) = listen.recv_from(&mut buffer).await {
                            let _ = front.send_to(&buffer[..length], client).await;
                        }
                    });
                    back
                }
            };
            let _ = back.send_to(&buffer[..length], relay).await;
        }
    });
    (address, sources)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_apart_shares_no_channel_connection_or_port() {
    let socket = StdSocket::bind("127.0.0.1:0").unwrap();
    let (front, sources) = front(socket.local_addr().unwrap()).await;
    let relay = relay(socket, front);
    let ines = Person::new("Ines", Some(&relay));
    let (invite, apart) = (ines.invite(false).await, ines.invite(true).await);
    // The client of two cases keeps one of them apart, too.
    let (amal, witness) = (Person::new("Amal", None), Person::new("Witness", None));
    amal.open(&invite, false).await;
    witness.open(&apart, false).await;
    let double = Person::new("Noor", None);
    double.open(&invite, false).await;
    double.open(&ines.invite(true).await, true).await;
    ines.answer().await;
    witness.client.sync().await.unwrap();
    double.client.sync().await.unwrap();
    ines.answer().await;
    let cases = ines.client.cases().unwrap();
    assert_eq!(
        (cases.len(), cases.iter().filter(|case| case.apart).count()),
        (4, 2)
    );
    let (of_witness, of_amal) = (witness.channels(), amal.channels());
    assert!(of_witness.is_disjoint(&of_amal));
    for used in ines.connections() {
        assert!(used.is_disjoint(&of_witness) || used.is_disjoint(&of_amal));
        if !used.is_disjoint(&of_witness) {
            let rescue_and_own = used.difference(&of_witness).count();
            assert!(rescue_and_own <= 2, "{rescue_and_own}");
        }
    }
    let connections = double.connections();
    assert!(connections.len() >= 2);
    for (at, one) in connections.iter().enumerate() {
        for other in &connections[at + 1..] {
            assert!(one.is_disjoint(other));
        }
    }
    // What is apart has ports of its own: at least one a connection that is not the shared one of its owner.
    let all = [&ines, &amal, &witness, &double];
    let used = all.iter().flat_map(|person| person.connections());
    let used = used.filter(|channels| !channels.is_empty()).count();
    let ports = sources.lock().unwrap().len();
    assert!(ports >= used, "{ports} ports for {used} connections");
}
