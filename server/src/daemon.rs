//! `serve`: the relay as a process, until a signal or a failure ends it.

use std::{net::UdpSocket, path::Path, time::Duration};

use martlet_server::{
    config::Config,
    identity::Identity,
    serve::{Running, ServeError, Serving, serve},
    store::segments::{Options, Segments},
};
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind};

use crate::{
    local,
    notify::Manager,
    run::{Failure, Said, file_failed, say, say_error},
    scrape::Scrape,
};

/// How long the process waits at its end for a disk that does not answer.
const END_WAIT: Duration = Duration::from_secs(2);

pub(crate) fn run(dir: &Path, json: bool) -> Result<Said, Failure> {
    let (config, identity) = (Config::load(dir)?, Identity::load(dir)?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(file_failed)?;
    let done = runtime.block_on(until_told(dir, &config, &identity, json));
    runtime.shutdown_timeout(END_WAIT);
    done.map(|()| Said {
        json: Value::Null,
        text: String::new(),
    })
}

async fn until_told(dir: &Path, config: &Config, identity: &Identity, json: bool) -> Result<(), Failure> {
    let manager = Manager::from_environment();
    let relay = begin(dir, config, identity)?;
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

fn begin(dir: &Path, config: &Config, identity: &Identity) -> Result<Running, Failure> {
    let serving = Serving {
        public: config.addresses()?,
        connections_max: config.connections_max,
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
    let sockets = config
        .listen
        .iter()
        .map(UdpSocket::bind)
        .collect::<Result<Vec<_>, _>>();
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
