//! What an operator's monitoring is told: by a relay that runs, and in the files of `deploy/`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests fail by panicking, and count on small numbers"
)]

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::{fs::PermissionsExt, net::UnixStream},
};

use martlet_server::metrics::{METRICS, PROBE_METRICS};
use martlet_tests::processes::{Daemon, World};

/// A relay that tells metrics at a place.
fn start(at: &str) -> (World, Daemon) {
    let (world, daemon) = World::start();
    daemon.terminate();
    let config = world.path("relay/martletd.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    assert!(!text.contains("\nmetrics"), "off unless the operator says so");
    std::fs::write(&config, format!("{text}metrics = {at:?}\n")).unwrap();
    let daemon = Daemon::start(&world.path("relay"));
    (world, daemon)
}

fn ask(mut stream: impl Read + Write, page: &str) -> (String, String) {
    let question = format!("GET {page} HTTP/1.1\r\nHost: relay\r\n\r\n");
    stream.write_all(question.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_string(), body.to_string())
}

fn names(text: &str) -> Vec<&str> {
    text.lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split(' ').next())
        .collect()
}

#[test]
fn a_whole_case_within_the_hour_changes_nothing_that_is_told() {
    let (world, daemon) = start("metrics.sock");
    let socket = world.path("relay/metrics.sock");
    assert_eq!(
        std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777,
        0o660
    );
    let scrape = || ask(UnixStream::connect(&socket).unwrap(), "/metrics");
    let (status, before) = scrape();
    assert_eq!(status, "HTTP/1.1 200 OK");
    let known: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(names(&before), known);
    assert!(before.contains("\nmartlet_turns_answer 1\n"), "{before}");
    world.case(&daemon);
    // Health may change beside it: the disk is everybody's.
    let of_people = |text: &str| -> Vec<String> {
        text.lines()
            .filter(|line| {
                ["_connections ", "_channels ", "_entries ", "_bytes ", "_total"]
                    .iter()
                    .any(|part| line.contains(part))
            })
            .map(ToString::to_string)
            .collect()
    };
    let after = scrape().1;
    assert_eq!(of_people(&before).len(), 3 * 6 + 3, "{before}");
    assert_eq!(of_people(&before), of_people(&after));
    let status: serde_json::Value = serde_json::from_slice(
        &martlet_tests::processes::martletd(&[
            "status",
            "--json",
            "--dir",
            socket.parent().unwrap().to_str().unwrap(),
        ])
        .stdout,
    )
    .unwrap();
    assert!(
        status["channels"].as_u64().unwrap() > 3,
        "the case was there: {status}"
    );
    assert!(ask(UnixStream::connect(&socket).unwrap(), "/").0.contains("404"));
    daemon.terminate();
    assert!(!socket.exists());
}

#[test]
fn who_asks_and_never_listens_or_writes_without_end_does_not_stop_the_next() {
    let (world, daemon) = start("metrics.sock");
    let socket = world.path("relay/metrics.sock");
    let silent = UnixStream::connect(&socket).unwrap();
    let mut endless = UnixStream::connect(&socket).unwrap();
    let _ = endless.write_all(&[b'a'; 64 << 10]);
    let (status, _) = ask(UnixStream::connect(&socket).unwrap(), "/metrics");
    assert_eq!(status, "HTTP/1.1 200 OK");
    drop(silent);
    daemon.terminate();
}

#[test]
fn a_loopback_port_tells_the_same() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (_world, daemon) = start(&free.to_string());
    let (status, text) = ask(TcpStream::connect(free).unwrap(), "/metrics");
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert_eq!(names(&text).len(), METRICS.len());
    daemon.terminate();
}

fn all() -> BTreeSet<&'static str> {
    METRICS
        .iter()
        .chain(PROBE_METRICS)
        .map(|metric| metric.name)
        .collect()
}

/// All names of metrics in a text.
fn named(text: &str) -> BTreeSet<&str> {
    text.split(|character: char| !(character.is_ascii_alphanumeric() || character == '_'))
        .filter(|word| word.starts_with("martlet_"))
        .collect()
}

#[test]
fn every_metric_is_explained_to_the_operator_and_no_other() {
    let guide = include_str!("../../deploy/OPERATING.md");
    let explained: BTreeSet<&str> = guide
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter(|name| name.starts_with("martlet_"))
        .collect();
    assert_eq!(all(), explained);
}

#[test]
fn alerts_and_dashboard_name_metrics_that_are_told() {
    let rules = include_str!("../../deploy/monitoring/alerts.yml");
    let series = include_str!("../../deploy/monitoring/alerts_test.yml");
    let dashboard = include_str!("../../deploy/monitoring/dashboard.json");
    for text in [rules, series, dashboard] {
        let unknown: Vec<&str> = named(text).difference(&all()).copied().collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
    let unseen: Vec<&str> = all().difference(&named(dashboard)).copied().collect();
    assert!(unseen.is_empty(), "not on the dashboard: {unseen:?}");
    let alerts: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(alerts.len() > 9);
    for alert in alerts {
        let tested = series.matches(&format!("alertname: {alert}\n")).count();
        assert!(tested > 1, "{alert} is tested neither to fire nor to be silent");
    }
    let parsed: serde_json::Value = serde_json::from_str(dashboard).unwrap();
    for panel in parsed["panels"].as_array().unwrap() {
        let asked = panel["targets"][0]["expr"].as_str().unwrap();
        assert!(!named(asked).is_empty(), "{panel}");
    }
}
