//! The relay and its service manager: ready, alive, stopping; and a probe that sends a letter of its own.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests fail by panicking, and count on small numbers"
)]

use std::{
    io::Write,
    net::UdpSocket,
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    process::{Command, Output, Stdio},
    time::Duration,
};

use martlet_tests::processes::{Daemon, World, binary, martletd};
use serde_json::Value;

/// Three words are said in this time.
const WAIT: Duration = Duration::from_millis(600);

struct Manager(UnixDatagram);

impl Manager {
    fn listen(world: &World) -> Self {
        let socket = UnixDatagram::bind(world.path("notify")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self(socket)
    }

    fn start(&self, world: &World) -> Daemon {
        let mut command = Command::new(binary("martletd"));
        command
            .env("NOTIFY_SOCKET", world.path("notify"))
            .env("WATCHDOG_USEC", WAIT.as_micros().to_string());
        Daemon::start_through(command, &world.path("relay"))
    }

    /// The next word; `None` if none comes in time.
    fn word(&self) -> Option<String> {
        let mut bytes = [0; 64];
        let size = self.0.recv(&mut bytes).ok()?;
        Some(String::from_utf8(bytes[..size].to_vec()).unwrap())
    }
}

#[test]
fn the_manager_hears_when_the_relay_is_ready_alive_and_stopping() {
    let (world, daemon) = World::start();
    daemon.terminate();
    let manager = Manager::listen(&world);
    let daemon = manager.start(&world);
    assert_eq!(manager.word().as_deref(), Some("READY=1"));
    for _ in 0..3 {
        assert_eq!(manager.word().as_deref(), Some("WATCHDOG=1"));
    }
    daemon.terminate();
    let mut last = manager.word();
    while last.as_deref() == Some("WATCHDOG=1") {
        last = manager.word();
    }
    assert_eq!(last.as_deref(), Some("STOPPING=1"));
}

#[test]
fn a_relay_whose_disk_hangs_is_silent_until_the_disk_answers() {
    let (world, daemon) = World::start();
    daemon.terminate();
    let manager = Manager::listen(&world);
    let daemon = manager.start(&world);
    assert_eq!(manager.word().as_deref(), Some("READY=1"));
    assert_eq!(manager.word().as_deref(), Some("WATCHDOG=1"));
    // A write to a pipe that nobody reads waits, as one to a disk that hangs does.
    let pulse = world.path("relay/pulse");
    std::fs::remove_file(&pulse).unwrap();
    assert!(Command::new("mkfifo").arg(&pulse).status().unwrap().success());
    std::thread::sleep(WAIT);
    manager
        .0
        .set_read_timeout(Some(Duration::from_millis(1)))
        .unwrap();
    while manager.word().is_some() {}
    manager.0.set_read_timeout(Some(WAIT * 4)).unwrap();
    assert_eq!(manager.word(), None, "alive though nothing is written");
    let told = martletd(&["status", "--json", "--dir", daemon.dir.to_str().unwrap()]);
    assert!(told.status.success(), "all but the disk goes on");
    // The pipe is read at last, and the next write finds a file.
    let reader = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&pulse)
        .unwrap();
    std::fs::remove_file(&pulse).unwrap();
    assert_eq!(manager.word().as_deref(), Some("WATCHDOG=1"));
    drop(reader);
    daemon.terminate();
}

/// Puts a link to a file elsewhere in the place of a file that the relay writes.
fn lead_away(world: &World) {
    std::fs::write(world.path("elsewhere"), "old").unwrap();
    std::os::unix::fs::symlink(world.path("elsewhere"), world.path("relay/pulse")).unwrap();
}

#[test]
fn a_relay_that_runs_writes_nowhere_but_in_its_folder() {
    let (world, daemon) = World::start();
    daemon.terminate();
    lead_away(&world);
    let manager = Manager::listen(&world);
    let daemon = manager.start(&world);
    assert_eq!(manager.word().as_deref(), Some("READY=1"));
    manager.0.set_read_timeout(Some(WAIT * 4)).unwrap();
    assert_eq!(manager.word(), None, "it wrote outside");
    assert_eq!(std::fs::read(world.path("elsewhere")).unwrap(), b"old");
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.child.id())).unwrap();
    for held in ["NoNewPrivs:\t1\n", "Seccomp:\t2\n"] {
        assert!(status.contains(held), "{status}");
    }
    daemon.terminate();
}

#[test]
fn only_an_operator_who_says_so_has_a_relay_without_it() {
    let (world, daemon) = World::start();
    daemon.terminate();
    lead_away(&world);
    let config = world.path("relay/martletd.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("sandbox = \"on\"", "sandbox = \"off\"")).unwrap();
    let manager = Manager::listen(&world);
    let daemon = manager.start(&world);
    assert_eq!(manager.word().as_deref(), Some("READY=1"));
    assert_eq!(manager.word().as_deref(), Some("WATCHDOG=1"));
    assert_eq!(std::fs::read(world.path("elsewhere")).unwrap(), b"alive\n");
    daemon.terminate();
}

/// Runs something in a thread, and in the processes that it starts, as on a system without landlock.
fn without_landlock<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    let acting = std::thread::spawn(move || {
        let filter: seccompiler::BpfProgram = seccompiler::SeccompFilter::new(
            [(libc::SYS_landlock_create_ruleset, Vec::new())].into(),
            seccompiler::SeccompAction::Allow,
            seccompiler::SeccompAction::Errno(libc::ENOSYS.unsigned_abs()),
            std::env::consts::ARCH.try_into().unwrap(),
        )
        .unwrap()
        .try_into()
        .unwrap();
        seccompiler::apply_filter(&filter).unwrap();
        act()
    });
    acting.join().unwrap()
}

#[test]
fn where_the_system_does_not_confine_it_a_relay_does_not_start() {
    let (world, daemon) = World::start();
    daemon.terminate();
    let dir = world.path("relay").to_str().unwrap().to_string();
    let (started, doctor) = without_landlock(move || {
        (
            martletd(&["serve", "--json", "--dir", &dir]),
            martletd(&["doctor", "--json", "--dir", &dir]),
        )
    });
    assert_eq!(
        (started.status.code(), json(&started)["error"]["code"].as_str()),
        (Some(1), Some("sandbox"))
    );
    let found = json(&doctor);
    let checks = found["checks"].as_array().unwrap();
    let bad: Vec<&str> = checks
        .iter()
        .filter(|check| check["ok"] == false)
        .map(|check| check["name"].as_str().unwrap())
        .collect();
    assert_eq!(bad, ["sandbox"], "{found}");
    assert!(!checks.last().unwrap()["advice"].as_str().unwrap().is_empty());
}

/// A command that passes a socket to the relay as a service manager does, in namespaces of its own if `apart` names
/// the program for that.
fn passing(socket: &UdpSocket, apart: &[&str]) -> Command {
    let program = [
        apart,
        &[
            "sh",
            "-c",
            "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\"",
        ],
    ]
    .concat();
    let mut command = Command::new(program[0]);
    command
        .args(&program[1..])
        .arg(binary("martletd"))
        .stdin(Stdio::from(OwnedFd::from(socket.try_clone().unwrap())));
    command
}

#[test]
fn a_socket_that_is_passed_stands_for_the_config() {
    let (world, daemon) = World::start();
    daemon.terminate();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let there = socket.local_addr().unwrap().to_string();
    let daemon = Daemon::start_through(passing(&socket, &[]), &world.path("relay"));
    assert_eq!(daemon.ready["listen"], serde_json::json!([there]));
    let link = daemon.ready["link"].as_str().unwrap();
    assert_eq!(martletd(&["probe", link]).status.code(), Some(0));
    daemon.terminate();
}

#[test]
fn a_relay_without_a_network_answers_on_the_socket_that_it_was_passed() {
    let apart = ["unshare", "--map-root-user", "--net"];
    let may = Command::new(apart[0]).args(&apart[1..]).arg("true").output();
    if !may.is_ok_and(|done| done.status.success()) {
        // This machine lets nobody have a network of their own.
        return;
    }
    let (world, daemon) = World::start();
    daemon.terminate();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let daemon = Daemon::start_through(passing(&socket, &apart), &world.path("relay"));
    let interfaces = |process: &str| std::fs::read_to_string(format!("/proc/{process}/net/dev")).unwrap();
    let names = |process: &str| {
        interfaces(process)
            .lines()
            .filter(|line| line.contains(':'))
            .count()
    };
    assert_eq!(
        names(&daemon.child.id().to_string()),
        1,
        "only a loopback, and that is down"
    );
    assert_ne!(interfaces(&daemon.child.id().to_string()), interfaces("self"));
    world.case(&daemon);
    daemon.terminate();
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_probe_goes_through_and_leaves_no_channel() {
    let (world, daemon) = World::start();
    let dir = daemon.dir.to_str().unwrap().to_string();
    let link = daemon.ready["link"].as_str().unwrap().to_string();
    let (dir, link) = (dir.as_str(), link.as_str());
    let prom = world.path("probe.prom");
    let told = martletd(&[
        "probe",
        "--json",
        "--dir",
        dir,
        "--metrics",
        prom.to_str().unwrap(),
    ]);
    assert_eq!(told.status.code(), Some(0), "{told:?}");
    let told = json(&told);
    assert_eq!(told["ok"], true);
    assert_eq!(told["steps_ms"].as_object().unwrap().len(), 5);
    let text = std::fs::read_to_string(&prom).unwrap();
    assert!(text.contains("\nmartlet_probe_success 1\n"), "{text}");
    assert_eq!(martletd(&["probe", link]).status.code(), Some(0));
    // By a link that no list of processes shows.
    let mut child = Command::new(binary("martletd"))
        .args(["probe", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(link.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    let status = json(&martletd(&["status", "--json", "--dir", dir]));
    assert_eq!((&status["channels"], &status["entries"]), (&0.into(), &0.into()));
    daemon.terminate();
    let told = martletd(&[
        "probe",
        "--json",
        "--dir",
        dir,
        "--metrics",
        prom.to_str().unwrap(),
    ]);
    assert_eq!(
        (told.status.code(), json(&told)["error"]["code"].as_str()),
        (Some(3), Some("unreachable"))
    );
    let text = std::fs::read_to_string(&prom).unwrap();
    assert!(text.contains("\nmartlet_probe_success 0\n"), "{text}");
}

#[test]
fn a_probe_says_who_answers_with_another_key_and_who_refuses() {
    let (_first, honest) = World::start();
    let (_second, other) = World::start();
    let link = |daemon: &Daemon| -> martlet_proto::link::RelayLink {
        daemon.ready["link"].as_str().unwrap().parse().unwrap()
    };
    let mut moved = link(&honest);
    moved.relay.addresses = link(&other).relay.addresses;
    let told = martletd(&["probe", "--json", &moved.to_string()]);
    assert_eq!(
        (told.status.code(), json(&told)["error"]["code"].as_str()),
        (Some(5), Some("wrong-key"))
    );
    let mut stranger = link(&honest);
    stranger.admission = link(&other).admission;
    let told = martletd(&["probe", "--json", &stranger.to_string()]);
    assert_eq!(
        (told.status.code(), json(&told)["error"]["code"].as_str()),
        (Some(8), Some("refused"))
    );
    let told = martletd(&["probe", "--json", "martlet:nonsense"]);
    assert_eq!(told.status.code(), Some(2));
    assert_eq!(martletd(&["probe"]).status.code(), Some(2));
}
