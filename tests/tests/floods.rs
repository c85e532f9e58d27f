//! A relay that is flooded from one network goes on for everybody else. All of it is in a network of its own on this
//! machine.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests fail by panicking, and count on small numbers"
)]

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use martlet_server::limits::{SOURCE_SHOWN_MAX, SOURCE_UNSHOWN_MAX};
use martlet_tests::processes::{Daemon, World, binary};
use serde_json::Value;

/// A network with three addresses of different sources, in a namespace that ends with it.
struct Network(Child);

const RELAY: &str = "10.66.0.1";
const FLOOD: &str = "10.66.1.1";

impl Network {
    /// `None` where this machine lets nobody have one.
    fn new() -> Option<Self> {
        let make = format!(
            "ip link set lo up && ip address add {RELAY}/24 dev lo && ip address add {FLOOD}/24 dev lo \
             && echo made && exec sleep 600"
        );
        let mut holder = Command::new("unshare")
            .args(["--map-root-user", "--net", "sh", "-c", &make])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut line = String::new();
        BufReader::new(holder.stdout.take()?).read_line(&mut line).ok()?;
        let network = Self(holder);
        (line.trim() == "made").then_some(network)
    }

    fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args([
                "--user",
                "--net",
                "--preserve-credentials",
                "--target",
                &self.0.id().to_string(),
            ])
            .arg(binary(program));
        command
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn resident_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn one_network_that_floods_is_held_back_and_the_others_get_through() {
    let Some(network) = Network::new() else {
        return;
    };
    let (world, daemon) = World::start();
    daemon.terminate();
    let config = world.path("relay/martletd.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let listen = text
        .lines()
        .find(|line| line.starts_with("listen"))
        .unwrap()
        .to_string();
    std::fs::write(
        &config,
        text.replace(&listen, &format!("listen = [\"{RELAY}:4433\"]")),
    )
    .unwrap();
    let daemon = Daemon::start_through(network.inside("martletd"), &world.path("relay"));
    let link = daemon.ready["link"].as_str().unwrap().to_string();
    let count = SOURCE_SHOWN_MAX + SOURCE_UNSHOWN_MAX + 400;
    let mut flood = network
        .inside("flood")
        .env("FLOOD_OWN_NETWORK", "1")
        .args([
            &format!("{FLOOD}:0"),
            &format!("{RELAY}:4433"),
            &count.to_string(),
            "--hold",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let honest = || {
        network
            .inside("martletd")
            .args(["probe", "--json", &link])
            .output()
            .unwrap()
    };
    // While it floods, and while it holds what it got.
    for _ in 0..3 {
        let told = honest();
        assert!(told.status.success(), "{told:?}");
    }
    let mut line = String::new();
    BufReader::new(flood.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let got: Value = serde_json::from_str(&line).unwrap();
    let told = honest();
    let resident = resident_kib(daemon.child.id());
    let _ = flood.kill();
    let _ = flood.wait();
    assert!(told.status.success(), "{told:?}");
    let (held, refused) = (got["held"].as_u64().unwrap(), got["refused"].as_u64().unwrap());
    assert!(refused >= 300, "{held} were let in, {refused} were not");
    assert!(held >= u64::from(SOURCE_UNSHOWN_MAX), "an office would be let in");
    assert!(resident < 256 << 10, "{resident} KiB");
    daemon.terminate();
}
