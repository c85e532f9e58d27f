//! A journey over links that break at every call in turn: nothing is lost, nothing comes twice.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests fail by panicking, and count on small numbers"
)]

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use martlet::{
    Client, Error, NewCase, NewInvite, NewProfile, Which,
    link::{BoxFuture, Connect, Link, LinkError, Pushes, quic::Quic},
    vault::Vault,
};
use martlet_proto::{
    Answer, Call, Day,
    call::{Slots, Tip},
    card::Uses,
    letter::LetterId,
    link::RelayAddress,
};
use martlet_tests::{Relay, write_file};

/// When the link breaks: before the call reaches the relay, or before its answer comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Before,
    After,
}

/// Counts down with every call; breaks the link at zero, once.
struct Fuse {
    left: AtomicI64,
    cut: Cut,
}

struct Breaking {
    quic: Quic,
    fuse: Arc<Fuse>,
}

struct BreakingLink {
    inner: Arc<dyn Link>,
    fuse: Arc<Fuse>,
}

impl Connect for Breaking {
    fn connect<'a>(&'a self, relay: &'a RelayAddress) -> BoxFuture<'a, Result<Arc<dyn Link>, LinkError>> {
        Box::pin(async move {
            let inner = self.quic.connect(relay).await?;
            Ok(Arc::new(BreakingLink {
                inner,
                fuse: Arc::clone(&self.fuse),
            }) as Arc<dyn Link>)
        })
    }

    fn connect_apart<'a>(
        &'a self,
        relay: &'a RelayAddress,
    ) -> BoxFuture<'a, Result<Arc<dyn Link>, LinkError>> {
        self.connect(relay)
    }
}

impl Link for BreakingLink {
    fn call(&self, call: Call) -> BoxFuture<'_, Result<Answer, LinkError>> {
        Box::pin(async move {
            if self.fuse.left.fetch_sub(1, Ordering::Relaxed) != 0 {
                return self.inner.call(call).await;
            }
            if self.fuse.cut == Cut::After {
                let _ = self.inner.call(call).await;
            }
            self.inner.close();
            Err(LinkError::Unreachable)
        })
    }

    fn follow(&self, call: Call) -> BoxFuture<'_, Result<(Slots, Pushes), LinkError>> {
        self.inner.follow(call)
    }

    fn stream(&self) -> BoxFuture<'_, Result<Arc<dyn Link>, LinkError>> {
        Box::pin(async move {
            let inner = self.inner.stream().await?;
            Ok(Arc::new(Self {
                inner,
                fuse: Arc::clone(&self.fuse),
            }) as Arc<dyn Link>)
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

struct Side {
    client: Client,
    fuse: Arc<Fuse>,
    dir: tempfile::TempDir,
}

fn side(name: &str, relay: Option<&Relay>, left: i64, cut: Cut) -> Side {
    let fuse = Arc::new(Fuse {
        left: AtomicI64::new(left),
        cut,
    });
    let connect = Arc::new(Breaking {
        quic: Quic::new(),
        fuse: Arc::clone(&fuse),
    });
    let dir = tempfile::tempdir().unwrap();
    let profile = NewProfile {
        name: name.into(),
        relay: relay.map(Relay::link),
    };
    let client = Client::over(connect, Vault::in_memory().unwrap(), dir.path(), profile).unwrap();
    Side { client, fuse, dir }
}

impl Side {
    async fn sync(&self) {
        for _ in 0..4 {
            match self.client.sync().await {
                Ok(_) => return,
                Err(Error::Unreachable) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
        panic!("the link breaks only once");
    }

    fn case(&self) -> String {
        let cases = self.client.cases().unwrap();
        assert_eq!(cases.len(), 1, "one case, not two");
        cases[0].case.clone()
    }

    fn texts(&self) -> Vec<String> {
        let letters = self.client.letters(&self.case(), Which::All).unwrap();
        let mut texts: Vec<String> = letters.into_iter().filter_map(|letter| letter.text).collect();
        texts.sort();
        texts
    }

    async fn write(&self, text: &str) {
        match self.client.send_text(&self.case(), text).await {
            Ok(_) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// The whole journey; says whether the fuses were long enough never to burn down.
async fn journey(relay: &Relay, amal_breaks: i64, ines_breaks: i64, cut: Cut) -> bool {
    let ines = side("Ines", Some(relay), ines_breaks, cut);
    let amal = side("Amal", None, amal_breaks, cut);
    let new = NewInvite {
        uses: Uses::Many,
        label: None,
        days: 9,
        apart: false,
    };
    let invite = ines.client.invite(new).await.unwrap().invite.parse().unwrap();
    ines.sync().await;
    let new = NewCase {
        text: Some("1 first".into()),
        label: None,
        apart: false,
    };
    if let Err(Error::Unreachable) = amal.client.open_case(&invite, new.clone()).await
        && amal.client.cases().unwrap().is_empty()
    {
        amal.client.open_case(&invite, new).await.unwrap();
    }
    amal.sync().await;
    ines.sync().await;
    ines.write("2 second").await;
    amal.write("3 third").await;
    let paper = amal.dir.path().join("paper.pdf");
    write_file(&paper, 400_000);
    let sent = amal
        .client
        .send_file(&amal.case(), &paper, &mut |_| {})
        .await
        .unwrap();
    for _ in 0..3 {
        amal.sync().await;
        ines.sync().await;
    }
    assert_eq!(ines.texts(), ["1 first", "2 second", "3 third"]);
    assert_eq!(amal.texts(), ["1 first", "2 second", "3 third"]);
    check_document(&ines, &sent.id, sent.sha256).await;
    let delivered = amal.client.letters(&amal.case(), Which::All).unwrap();
    assert!(
        delivered
            .iter()
            .filter(|letter| letter.mine)
            .all(|letter| letter.delivered_to.len() == 1)
    );
    let long_enough = |side: &Side| side.fuse.left.load(Ordering::Relaxed) >= 0;
    long_enough(&amal) && long_enough(&ines)
}

async fn check_document(ines: &Side, id: &LetterId, sha256: Option<[u8; 32]>) {
    for _ in 0..3 {
        match ines
            .client
            .get(&ines.case(), &id.to_text(), ines.dir.path(), &mut |_| {})
            .await
        {
            Ok(got) => {
                assert_eq!(Some(got.sha256), sha256);
                return;
            }
            Err(Error::Unreachable) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("the link breaks only once");
}

const NEVER: i64 = i64::MAX;

#[tokio::test(flavor = "multi_thread")]
async fn the_clients_link_breaks_at_every_call_in_turn() {
    let relay = Relay::start();
    for cut in [Cut::Before, Cut::After] {
        let mut at = 0;
        while !journey(&relay, at, NEVER, cut).await {
            at += 1;
            assert!(at < 200);
        }
        assert!(at > 10, "the journey takes more calls than {at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn counsels_link_breaks_at_every_call_in_turn() {
    let relay = Relay::start();
    for cut in [Cut::Before, Cut::After] {
        let mut at = 0;
        while !journey(&relay, NEVER, at, cut).await {
            at += 1;
            assert!(at < 200);
        }
        assert!(at > 10, "the journey takes more calls than {at}");
    }
}

/// A relay that tells another end of the log than the chain leads to.
struct Lying(Quic);
struct LyingLink(Arc<dyn Link>);

impl Connect for Lying {
    fn connect<'a>(&'a self, relay: &'a RelayAddress) -> BoxFuture<'a, Result<Arc<dyn Link>, LinkError>> {
        Box::pin(async move { Ok(Arc::new(LyingLink(self.0.connect(relay).await?)) as Arc<dyn Link>) })
    }

    fn connect_apart<'a>(
        &'a self,
        relay: &'a RelayAddress,
    ) -> BoxFuture<'a, Result<Arc<dyn Link>, LinkError>> {
        self.connect(relay)
    }
}

impl Link for LyingLink {
    fn call(&self, call: Call) -> BoxFuture<'_, Result<Answer, LinkError>> {
        Box::pin(async move {
            let answer = self.0.call(call).await?;
            Ok(match answer {
                Answer::Slots(Slots { mut slots, tip }) if slots.len() > 1 => {
                    slots.remove(0);
                    Answer::Slots(Slots {
                        slots,
                        tip: Tip { ..tip },
                    })
                }
                other => other,
            })
        })
    }
    fn follow(&self, call: Call) -> BoxFuture<'_, Result<(Slots, Pushes), LinkError>> {
        self.0.follow(call)
    }
    fn stream(&self) -> BoxFuture<'_, Result<Arc<dyn Link>, LinkError>> {
        self.0.stream()
    }
    fn relay_day(&self) -> Option<Day> {
        self.0.relay_day()
    }
    fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
    fn closed(&self) -> BoxFuture<'_, ()> {
        self.0.closed()
    }
    fn close(&self) {
        self.0.close();
    }
    fn path(&self) -> &'static str {
        "lying"
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_leaves_out_an_entry_is_found_out() {
    let relay = Relay::start();
    let ines = side("Ines", Some(&relay), NEVER, Cut::Before);
    let new = NewInvite {
        uses: Uses::Many,
        label: None,
        days: 9,
        apart: false,
    };
    let invite = ines.client.invite(new).await.unwrap().invite.parse().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let profile = NewProfile {
        name: "Amal".into(),
        relay: None,
    };
    let lying = Arc::new(Lying(Quic::new()));
    let amal = Client::over(lying, Vault::in_memory().unwrap(), dir.path(), profile).unwrap();
    amal.open_case(&invite, NewCase::default()).await.unwrap();
    ines.sync().await;
    for text in ["one", "two", "three"] {
        ines.write(text).await;
    }
    // The first page of the new epoch lacks its first letter: no word of it is believed.
    amal.sync().await.unwrap_err();
    let letters = amal.letters(&amal.cases().unwrap()[0].case, Which::All).unwrap();
    assert!(letters.is_empty());
}
