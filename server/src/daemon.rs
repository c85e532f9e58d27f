//! `serve`: the relay as a process, until a signal or a failure ends it.

use std::{path::Path, time::Duration};

use listenfd::ListenFd;
use martlet_server::{
    config::{Config, MetricsAt, Sandbox},
    identity::Identity,
    serve::{Running, ServeError, Serving, Site, Sockets, serve},
    store::segments::{Options, Segments},
};
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind};

use crate::{
    local,
    notify::Manager,
    run::{Failure, Said, file_failed, say, say_error},
    sandbox,
    scrape::Scrape,
};

/// How long the process waits at its end for a disk that does not answer.
const END_WAIT: Duration = Duration::from_secs(2);

pub(crate) fn run(dir: &Path, json: bool) -> Result<Said, Failure> {
    let (config, identity) = (Config::load(dir)?, Identity::load(dir)?);
    let manager = Manager::from_environment();
    let passed = passed()?;
    if config.sandbox == Sandbox::On {
        confine(dir, &config)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(file_failed)?;
    let done = runtime.block_on(until_told(dir, &config, &identity, (manager, passed), json));
    runtime.shutdown_timeout(END_WAIT);
    done.map(|()| Said {
        json: Value::Null,
        text: String::new(),
    })
}

/// Shuts the relay off from what is not its own; there must be no other thread yet.
fn confine(dir: &Path, config: &Config) -> Result<(), Failure> {
    let sockets = match &config.metrics {
        Some(MetricsAt::Socket(path)) => dir.join(path).parent().map(Path::to_path_buf),
        Some(MetricsAt::Loopback(_)) | None => None,
    };
    sandbox::enter(dir, sockets.as_deref()).map_err(|error| {
        Failure::new(
            "sandbox",
            error,
            "Use a system with landlock and seccomp, such as Debian 12, or write sandbox = \"off\" in martletd.toml.",
            1,
        )
    })
}

/// The sockets that the service manager opened for the relay; they stand for what the config would listen on.
fn passed() -> Result<Sockets, Failure> {
    let mut passed = ListenFd::from_env();
    let mut sockets = Sockets::default();
    let taken = (0..passed.len()).try_for_each(|at| {
        // One that is not of UDP is left where it is.
        if let Ok(Some(udp)) = passed.take_udp_socket(at) {
            sockets.udp.push(udp);
        } else if let Some(tcp) = passed.take_tcp_listener(at)? {
            sockets.tcp.push(tcp);
        }
        Ok::<(), std::io::Error>(())
    });
    taken.map(|()| sockets).map_err(|_| {
        Failure::new(
            "socket",
            "the service manager passed a socket that is neither of UDP nor of TCP",
            "Let martletd.socket say ListenDatagram= and ListenStream= only.",
            1,
        )
    })
}

async fn until_told(
    dir: &Path,
    config: &Config,
    identity: &Identity,
    (manager, passed): (Manager, Sockets),
    json: bool,
) -> Result<(), Failure> {
    let relay = begin(dir, config, identity, passed)?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let local = local::Local::open(dir, relay.listen()).map_err(file_failed)?;
    let mut scrape = Scrape::open(dir, config)?;
    let listen: Vec<String> = relay.listen().iter().map(ToString::to_string).collect();
    let link = relay.link().to_string();
    say(&match json {
        true => json!({"ready": true, "listen": listen, "link": link}).to_string(),
        false => format!("ready on {}: {link}", listen.join(", ")),
    });
    manager.say("READY=1");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = local.answer(&relay) => {}
        () = scrape.answer(&relay) => {}
        () = manager.watch(dir, &relay) => {}
        () = relay.failed() => {}
    }
    manager.say("STOPPING=1");
    scrape.close();
    local.close();
    Ok(relay.stop().await?)
}

fn begin(dir: &Path, config: &Config, identity: &Identity, passed: Sockets) -> Result<Running, Failure> {
    let serving = Serving {
        public: config.addresses()?,
        connections_max: config.connections_max,
        site: Site::read(&dir.join("site")).map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            let advice = "Look at the folder site in the relay's folder; without it a plain page is shown.";
            Failure::new("site", cause.unwrap_or_else(|| error.to_string()), advice, 2)
        })?,
    };
    let options = Options {
        floor_bytes: config.disk_floor_mib.saturating_mul(1 << 20),
        ..Options::default()
    };
    let (store, report) = Segments::open(&dir.join("store"), options)?;
    if report.rebuilt {
        say_error("the index was built anew from the segments; nothing is lost");
    }
    if report.cut_bytes > 0 {
        say_error(
            "the end of a segment was never acknowledged and was cut off; nothing acknowledged is lost",
        );
    }
    let sockets = match passed.udp.is_empty() && passed.tcp.is_empty() {
        true if config.tcp => Sockets::bind(&config.listen),
        true => Sockets::bind_udp(&config.listen),
        false => Ok(passed),
    };
    Ok(serve(
        sockets.map_err(ServeError::Socket)?,
        store,
        identity,
        &serving,
    )?)
}

fn signal(kind: SignalKind) -> Result<Signal, Failure> {
    tokio::signal::unix::signal(kind).map_err(|_| {
        Failure::new(
            "signals",
            "signals cannot be received",
            "Start the relay again.",
            1,
        )
    })
}
