//! Only a SOCKS5 proxy is reachable: everything goes through it, by the relay's name, and nothing beside it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::{collections::BTreeMap, net::SocketAddr, sync::atomic::Ordering};

use martlet::{
    Client, Error, NewCase, NewInvite, NewProfile, Which,
    link::{Connect, LinkError, roads::Roads},
    vault::Vault,
};
use martlet_proto::{card::Uses, link::Address};
use martlet_server::{
    identity::Identity,
    serve::{Running, Serving, Sockets, serve},
    store::memory::Memory,
};
use martlet_tests::{front::Front, socks::Socks, write_file};

/// A name that nobody but the proxy knows.
const NAME: &str = "relay.invalid";

fn relay(public: Address) -> Running {
    let sockets = Sockets::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
    let serving = Serving {
        public: vec![public],
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

async fn proxy(to: SocketAddr, strict: bool) -> Socks {
    let names = [NAME, "127.0.0.1"].map(|name| (name.to_string(), to));
    Socks::start(BTreeMap::from(names), strict).await
}

fn person(name: &str, running: Option<&Running>, dir: &std::path::Path) -> Client {
    let dir = dir.join(name);
    std::fs::create_dir_all(&dir).unwrap();
    let profile = NewProfile {
        name: name.into(),
        relay: running.map(|running| running.link().clone()),
    };
    Client::over(
        std::sync::Arc::new(Roads::new()),
        Vault::in_memory().unwrap(),
        &dir,
        profile,
    )
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_case_goes_through_the_proxy_by_name_and_in_no_other_way() {
    let relay = relay(format!("{NAME}:443").parse().unwrap());
    let proxy = proxy(relay.listen()[0], true).await;
    let dir = tempfile::tempdir().unwrap();
    let (ines, amal) = (
        person("Ines", Some(&relay), dir.path()),
        person("Amal", None, dir.path()),
    );
    for client in [&ines, &amal] {
        client.set_proxy(Some(proxy.address.into())).unwrap();
    }
    let new = NewInvite {
        uses: Uses::Many,
        label: None,
        days: 9,
        apart: false,
    };
    let invite = ines.invite(new).await.unwrap().invite.parse().unwrap();
    ines.sync().await.unwrap();
    let new = NewCase {
        text: Some("They took my brother.".into()),
        apart: true,
        ..NewCase::default()
    };
    let (case, ..) = amal.open_case(&invite, new).await.unwrap();
    let paper = dir.path().join("paper.pdf");
    write_file(&paper, 5 << 20);
    let sent = amal.send_file(&case.case, &paper, &mut |_| {}).await.unwrap();
    ines.sync().await.unwrap();
    assert_eq!(ines.status().await.unwrap().path.as_deref(), Some("proxy"));
    let theirs = ines.cases().unwrap()[0].case.clone();
    assert!(
        ines.letters(&theirs, Which::All)
            .unwrap()
            .iter()
            .any(|letter| letter.text.is_some())
    );
    let to = dir.path().join("got");
    std::fs::create_dir(&to).unwrap();
    let got = ines
        .get(&theirs, &sent.id.to_text(), &to, &mut |_| {})
        .await
        .unwrap();
    assert_eq!(Some(got.sha256), sent.sha256);
    let asked = proxy.asked.lock().unwrap();
    assert!(asked.len() >= 2 && asked.iter().all(|(name, _)| *name == format!("{NAME}:443")));
    let names: std::collections::BTreeSet<_> = asked.iter().map(|(_, who)| who.clone().unwrap()).collect();
    assert_eq!(names.len(), asked.len(), "no two connections give one name");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_proxy_not_a_datagram_is_sent() {
    let front = Front::start();
    let relay = relay(front.address.into());
    front.leads_to(relay.listen()[0]);
    let proxy = proxy(relay.listen()[0], false).await;
    let roads = Roads::through(proxy.address.into());
    let link = roads.connect(&relay.link().relay).await.unwrap();
    assert_eq!(link.path(), "proxy");
    let apart = roads.connect_apart(&relay.link().relay).await.unwrap();
    assert_eq!(apart.path(), "proxy");
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    let through = &front.rules;
    assert_eq!(
        through.udp_bytes.load(Ordering::SeqCst) + through.tcp_bytes.load(Ordering::SeqCst),
        0
    );
    assert_eq!(proxy.asked.lock().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_is_not_there_is_not_gone_around() {
    let relay = relay("127.0.0.1:9".parse().unwrap());
    let mut to = relay.link().relay.clone();
    to.addresses = vec![relay.listen()[0].into()];
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let refused = Roads::through(nowhere.into()).connect(&to).await.err();
    assert_eq!(refused, Some(LinkError::Unreachable));
    assert_eq!(relay.connections(), 0);
    // Nor does a proxy that refuses lead to another way.
    let socks = Socks::start(BTreeMap::new(), false).await;
    let refused = Roads::through(socks.address.into()).connect(&to).await.err();
    assert_eq!(refused, Some(LinkError::Unreachable));
    assert_eq!(relay.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_in_use_end_when_a_proxy_is_chosen() {
    let front = Front::start();
    let relay = relay(front.address.into());
    front.leads_to(relay.listen()[0]);
    let dir = tempfile::tempdir().unwrap();
    let ines = person("Ines", Some(&relay), dir.path());
    ines.sync().await.unwrap();
    assert_eq!(ines.status().await.unwrap().path.as_deref(), Some("quic"));
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    ines.set_proxy(Some(nowhere.into())).unwrap();
    assert!(matches!(ines.sync().await, Err(Error::Unreachable)));
    let health = ines.health().await.unwrap();
    assert!(!health.reached && health.roads.len() == 1 && health.roads[0].road == "proxy");
    ines.set_proxy(None).unwrap();
    ines.sync().await.unwrap();
    let health = ines.health().await.unwrap();
    assert!(health.reached && health.roads.iter().all(|road| road.ok) && health.roads.len() == 2);
    front.let_datagrams(0);
    let health = ines.health().await.unwrap();
    let found: Vec<_> = health
        .roads
        .iter()
        .map(|road| (road.road.as_str(), road.ok))
        .collect();
    assert!(health.reached && found == [("quic", false), ("tcp", true)]);
}
