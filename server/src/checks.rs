//! `doctor`: what is well and what is not, each with advice.

use std::{
    net::{TcpListener, UdpSocket},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use martlet_server::{
    config::{Config, Sandbox},
    identity::Identity,
    store::{
        StoreError,
        segments::{Options, Segments},
    },
};
use serde_json::{Value, json};

use crate::{
    init, local,
    run::{Failure, Said},
    sandbox,
};

struct Check {
    name: &'static str,
    ok: bool,
    advice: String,
}

fn check(name: &'static str, bad: Option<String>) -> Check {
    Check {
        name,
        ok: bad.is_none(),
        advice: bad.unwrap_or_default(),
    }
}

pub(crate) fn doctor(dir: &Path, accept_clock: bool) -> Result<Said, Failure> {
    if !dir.exists() {
        return Err(Failure::new(
            "no-relay",
            "there is no such folder",
            "Make a relay: martletd init --dir DIR",
            6,
        ));
    }
    let running = local::ask(dir, if accept_clock { b'c' } else { b's' });
    let checks = [
        check(
            "keys",
            Identity::load(dir)
                .err()
                .map(|error| format!("{error}: restore them from a backup")),
        ),
        check(
            "config",
            Config::load(dir)
                .err()
                .map(|error| format!("{error}: mend martletd.toml")),
        ),
        check("permissions", permissions(dir)),
        check("store", store(dir, running.is_some())),
        check("disk", disk(dir)),
        check("clock", clock(running.as_ref())),
        check("ports", ports(dir, running.is_some())),
        check("sandbox", confinement(dir)),
    ];
    let ok = checks.iter().all(|check| check.ok);
    let lines: Vec<String> = checks
        .iter()
        .map(|check| {
            if check.ok {
                format!("ok    {}", check.name)
            } else {
                format!("BAD   {}: {}", check.name, check.advice)
            }
        })
        .collect();
    let told: Vec<Value> = checks
        .iter()
        .map(|check| json!({"name": check.name, "ok": check.ok, "advice": check.advice}))
        .collect();
    Ok(Said {
        json: json!({"ok": ok, "checks": told}),
        text: lines.join("\n"),
    })
}

fn permissions(dir: &Path) -> Option<String> {
    let wide = |name: &str| {
        let path = if name.is_empty() {
            dir.to_path_buf()
        } else {
            dir.join(name)
        };
        std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o077 != 0)
    };
    let found: Vec<&str> = ["", "relay.key", "door", "opening.token", "martletd.toml"]
        .into_iter()
        .filter(|name| wide(name))
        .collect();
    (!found.is_empty()).then(|| "others may read the relay's folder or keys: chmod -R go= DIR".to_string())
}

fn store(dir: &Path, running: bool) -> Option<String> {
    if running {
        return None;
    }
    match Segments::open(
        &dir.join("store"),
        Options {
            floor_bytes: 0,
            ..Options::default()
        },
    ) {
        Ok(_) => None,
        Err(error @ StoreError::Damaged(_)) => {
            Some(format!("{error}: copy the folder before you do anything else"))
        }
        Err(error) => Some(error.to_string()),
    }
}

fn disk(dir: &Path) -> Option<String> {
    let floor = Config::load(dir).map_or(256, |config| config.disk_floor_mib);
    let disk = rustix::fs::statvfs(dir).ok()?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize) >> 20;
    (free < floor).then(|| {
        format!("{free} MiB are free, less than the floor of {floor}: nothing new is taken; free some")
    })
}

fn clock(running: Option<&Value>) -> Option<String> {
    let doubted = running?.get("clock_doubted")?.as_bool()?;
    doubted.then(|| {
        "the clock jumped ahead by more than 7 days, so nothing expires: set it right, or if it is right run \
         martletd doctor --accept-clock"
            .to_string()
    })
}

/// Tries it in a thread of its own, which ends with what it took from itself.
fn confinement(dir: &Path) -> Option<String> {
    match Config::load(dir).ok()?.sandbox {
        Sandbox::Off => return None,
        Sandbox::On => {}
    }
    let folder = dir.to_path_buf();
    let tried = std::thread::spawn(move || sandbox::enter(&folder, None)).join();
    match tried {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!(
            "{error}: the relay does not start here; use a system such as Debian 12"
        )),
        Err(_) => Some("it could not be tried: run martletd doctor again".to_string()),
    }
}

fn ports(dir: &Path, running: bool) -> Option<String> {
    // Where systemd has the port, nobody else can have it, and the relay gets it passed.
    if running || init::has_units(dir) {
        return None;
    }
    let config = Config::load(dir).ok()?;
    let taken = config.listen.iter().find(|address| {
        UdpSocket::bind(address).is_err() || (config.tcp && TcpListener::bind(address).is_err())
    })?;
    Some(format!(
        "port {} cannot be bound: stop what uses it or choose another in martletd.toml",
        taken.port()
    ))
}
