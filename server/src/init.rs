//! `init`: a relay's folder, its keys and its config; and, where a package brought the units, the relay started.

use std::{
    io::{IsTerminal, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    process::{Command, Stdio},
};

use martlet_server::{config::Config, identity::Identity};

use crate::{
    args::SYSTEM_DIR,
    run::{Failure, Said, file_failed, linked, make_store, relay_link, say_error},
};

/// Where a package or an operator puts units.
const UNITS: [&str; 3] = [
    "/etc/systemd/system/martletd.service",
    "/usr/lib/systemd/system/martletd.service",
    "/lib/systemd/system/martletd.service",
];

/// What `init` makes.
pub(crate) const PARTS: [&str; 6] = [
    "martletd.toml",
    "relay.key",
    "relay.cert",
    "door",
    "opening.token",
    "store",
];

pub(crate) fn init(
    dir: &Path,
    listen: Vec<SocketAddr>,
    public: Vec<String>,
    json: bool,
) -> Result<Said, Failure> {
    if PARTS.iter().any(|name| dir.join(name).exists()) {
        let advice = "Choose another folder, or use the relay that is there.";
        return Err(Failure::new(
            "exists",
            "there is a relay in this folder already",
            advice,
            1,
        ));
    }
    let public = match public.is_empty() {
        true => reached_at(&listen),
        false => public,
    };
    let config = Config::new(listen, public);
    let told = config
        .addresses()
        .map_err(|error| Failure::new("usage", error, "Write HOST:PORT.", 2))?;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(file_failed)?;
    match make(dir, &config) {
        Ok(identity) => {
            let said = linked(&relay_link(&identity, told, &config.listen));
            if !json {
                explain(&said.text, &config);
            }
            start(dir)?;
            Ok(said)
        }
        Err(failure) => {
            // None of it was there before, and half a relay would stand in the way of the next attempt.
            for name in PARTS {
                let _ = std::fs::remove_file(dir.join(name));
                let _ = std::fs::remove_dir_all(dir.join(name));
            }
            Err(failure)
        }
    }
}

fn make(dir: &Path, config: &Config) -> Result<Identity, Failure> {
    let identity = Identity::generate()?;
    identity.save(dir)?;
    make_store(dir)?;
    let path = dir.join("martletd.toml");
    let mut file = std::fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(file_failed)?;
    file.write_all(config.to_text().as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(file_failed)?;
    Ok(identity)
}

/// Where a relay that listens on all of a machine's addresses is reached: the addresses from which it would send.
fn reached_at(listen: &[SocketAddr]) -> Vec<String> {
    let mut found = Vec::new();
    for at in listen
        .iter()
        .filter(|at| at.ip().is_unspecified() && at.port() != 0)
    {
        let both = [
            Some(Ipv4Addr::UNSPECIFIED.into()),
            at.is_ipv6().then_some(Ipv6Addr::UNSPECIFIED.into()),
        ];
        for family in both.into_iter().flatten() {
            let own = own_address(family).map(|ip| SocketAddr::new(ip, at.port()).to_string());
            found.extend(own.filter(|own| !found.contains(own)));
        }
    }
    found
}

/// The address from which this machine reaches the world, of a family. Nothing is sent: the system is asked for the way
/// to an address that is set aside for examples.
fn own_address(family: IpAddr) -> Option<IpAddr> {
    let there: IpAddr = match family {
        IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 1).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    };
    let socket = UdpSocket::bind((family, 0)).ok()?;
    socket.connect((there, 9)).ok()?;
    let own = socket.local_addr().ok()?.ip();
    (!own.is_unspecified() && !own.is_loopback()).then_some(own)
}

/// Whether an address is of a network that the world does not reach.
fn is_inside(text: &str) -> bool {
    match text.parse::<SocketAddr>().map(|at| at.ip()) {
        Ok(IpAddr::V4(ip)) => {
            ip.is_private() || ip.is_link_local() || ip.is_loopback() || ip.is_unspecified()
        }
        Ok(IpAddr::V6(ip)) => {
            ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_loopback() || ip.is_unspecified()
        }
        Err(_) => false,
    }
}

/// What a person should see beside the link.
fn explain(link: &str, config: &Config) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    if let Ok(code) = qrcode::QrCode::new(link.to_uppercase()) {
        say_error(&code.render::<qrcode::render::unicode::Dense1x2>().build());
    }
    let listened: Vec<String> = config.listen.iter().map(ToString::to_string).collect();
    let told = match config.public.is_empty() {
        true => &listened,
        false => &config.public,
    };
    say_error(&format!("Clients are told to come to {}.", told.join(", ")));
    if told.iter().any(|at| is_inside(at)) {
        say_error(
            "That is not reached from elsewhere: say --public HOST:PORT, or write it into martletd.toml.",
        );
    }
}

/// Whether systemd runs here and has units for the relay of this folder.
pub(crate) fn has_units(dir: &Path) -> bool {
    let installed = UNITS.iter().any(|unit| Path::new(unit).exists());
    dir == Path::new(SYSTEM_DIR) && installed && Path::new("/run/systemd/system").exists()
}

/// Starts the relay of the system's own folder, if the units are there and systemd runs.
fn start(dir: &Path) -> Result<(), Failure> {
    if !has_units(dir) {
        return Ok(());
    }
    let done = Command::new("systemctl")
        .args([
            "enable",
            "--quiet",
            "--now",
            "martletd.socket",
            "martletd.service",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    match done {
        Ok(status) if status.success() => Ok(()),
        Ok(_) | Err(_) => Err(Failure::new(
            "not-started",
            "the relay is made, but does not run",
            "See systemctl status martletd; then systemctl enable --now martletd.socket martletd.service. martletd link shows its link.",
            7,
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_tells_its_own_address_for_all_of_them_only() {
        let listen = |text: &str| vec![text.parse::<SocketAddr>().unwrap()];
        assert!(reached_at(&listen("127.0.0.1:4433")).is_empty());
        assert!(reached_at(&listen("0.0.0.0:0")).is_empty());
        for told in reached_at(&listen("[::]:4433")) {
            let told: SocketAddr = told.parse().unwrap();
            assert!(told.port() == 4433 && !told.ip().is_unspecified());
        }
    }

    #[test]
    fn addresses_that_the_world_does_not_reach_are_known() {
        for inside in [
            "10.1.2.3:1",
            "192.168.0.1:1",
            "[fd00::1]:1",
            "127.0.0.1:1",
            "0.0.0.0:1",
            "[fe80::1]:1",
        ] {
            assert!(is_inside(inside), "{inside}");
        }
        for outside in ["192.0.2.1:1", "[2001:db8::1]:1", "relay.example:4433"] {
            assert!(!is_inside(outside), "{outside}");
        }
    }
}
