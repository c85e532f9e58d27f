//! What the commands do.

use std::{
    ffi::OsString,
    io::Write,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    process::ExitCode,
};

use clap::Parser;
use martlet_proto::link::{Address, RelayAddress, RelayLink};
use martlet_server::{
    config::{Config, ConfigError},
    identity::{Identity, IdentityError},
    serve::{ServeError, Serving, Site, Sockets, serve},
    store::{
        StoreError,
        segments::{Options, Segments},
    },
};
use serde_json::{Value, json};

use crate::{
    args::{Command, Verb},
    checks, local,
};

/// Why a command failed: a stable name, what happened, what to do, and the exit code.
pub(crate) struct Failure {
    code: &'static str,
    message: String,
    advice: &'static str,
    exit: u8,
}

impl Failure {
    pub(crate) fn new(code: &'static str, message: impl ToString, advice: &'static str, exit: u8) -> Self {
        Self {
            code,
            message: message.to_string(),
            advice,
            exit,
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        match error {
            ConfigError::File(cause) if cause.kind() == std::io::ErrorKind::NotFound => no_relay(),
            other => Self::new(
                "config",
                other,
                "Mend martletd.toml; deploy/martletd.toml is a sample.",
                2,
            ),
        }
    }
}

fn no_relay() -> Failure {
    Failure::new(
        "no-relay",
        "there is no relay in this folder",
        "Make one: martletd init --dir DIR",
        6,
    )
}

impl From<IdentityError> for Failure {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::File(cause) if cause.kind() == std::io::ErrorKind::NotFound => no_relay(),
            IdentityError::Chain => Self::new(
                "chain",
                error,
                "Ask the authority for a certificate of the relay's own key, or take the file away: OPERATING.md says how.",
                1,
            ),
            other => Self::new(
                "keys",
                other,
                "Restore relay.key, relay.cert and opening.token from a backup.",
                1,
            ),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let advice = match error {
            StoreError::Full => "Free some room on the disk.",
            StoreError::Damaged(_) => "Keep the folder as it is and copy it; then run martletd doctor.",
            _ => "Look at the disk, then start the relay again.",
        };
        let cause = std::error::Error::source(&error)
            .map(|cause| format!(" ({cause})"))
            .unwrap_or_default();
        Self::new("store", format!("{error}{cause}"), advice, 1)
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        match error {
            ServeError::Identity(error) => error.into(),
            ServeError::Store(error) => error.into(),
            other => Self::new(
                "socket",
                other,
                "Is another program on this port? Try martletd doctor.",
                1,
            ),
        }
    }
}

fn file_failed(error: std::io::Error) -> Failure {
    Failure::new("file", error, "Look at the folder's permissions and the disk.", 1)
}

/// What a command has to say: for programs, and for people.
pub(crate) struct Said {
    pub(crate) json: Value,
    pub(crate) text: String,
}

/// Runs a command and says how it went.
pub(crate) fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.collect();
    let wants_json = args.iter().any(|arg| arg == "--json");
    let command = match Command::try_parse_from(&args) {
        Ok(command) => command,
        Err(error) if error.use_stderr() => {
            let text = error.to_string();
            if wants_json {
                let first = text
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .trim_start_matches("error: ")
                    .to_string();
                return fail(true, &Failure::new("usage", first, "See martletd --help.", 2));
            }
            say_error(&text);
            return ExitCode::from(2);
        }
        Err(help) => {
            say(&help.to_string());
            return ExitCode::SUCCESS;
        }
    };
    let done = match command.verb {
        Verb::Init { at, listen, public } => init(&at.dir, listen, public),
        Verb::Serve { at } => run_relay(&at.dir, command.json),
        Verb::Link { at } => link(&at.dir),
        Verb::Restored { at } => restored(&at.dir),
        Verb::Status { at } => local::status(&at.dir),
        Verb::Doctor { at, accept_clock } => checks::doctor(&at.dir, accept_clock),
    };
    match done {
        Ok(said) => {
            let ok = said.json.get("ok").and_then(Value::as_bool).unwrap_or(true);
            if !said.text.is_empty() {
                say(&if command.json {
                    said.json.to_string()
                } else {
                    said.text
                });
            }
            if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(failure) => fail(command.json, &failure),
    }
}

fn fail(json: bool, failure: &Failure) -> ExitCode {
    if json {
        let Failure {
            code,
            message,
            advice,
            ..
        } = failure;
        say(&json!({"error": {"code": code, "message": message, "advice": advice}}).to_string());
    } else {
        say_error(&format!("{}\n{}", failure.message, failure.advice));
    }
    ExitCode::from(failure.exit)
}

pub(crate) fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", text.trim_end());
    let _ = out.flush();
}

fn say_error(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", text.trim_end());
}

/// What `init` makes.
const PARTS: [&str; 6] = [
    "martletd.toml",
    "relay.key",
    "relay.cert",
    "door",
    "opening.token",
    "store",
];

fn init(dir: &Path, listen: Vec<SocketAddr>, public: Vec<String>) -> Result<Said, Failure> {
    if PARTS.iter().any(|name| dir.join(name).exists()) {
        let advice = "Choose another folder, or use the relay that is there.";
        return Err(Failure::new(
            "exists",
            "there is a relay in this folder already",
            advice,
            1,
        ));
    }
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
        Ok(identity) => Ok(linked(&relay_link(&identity, told, &config.listen))),
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
    let (mut store, _) = Segments::open(
        &dir.join("store"),
        Options {
            floor_bytes: 0,
            ..Options::default()
        },
    )?;
    martlet_server::Store::close(&mut store)?;
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

fn relay_link(identity: &Identity, public: Vec<Address>, listen: &[SocketAddr]) -> RelayLink {
    let addresses = match public.is_empty() {
        true => listen.iter().map(|address| Address::from(*address)).collect(),
        false => public,
    };
    RelayLink {
        relay: RelayAddress {
            addresses,
            pin: identity.pin(),
            door: identity.door(),
        },
        admission: identity.admission().clone(),
    }
}

fn linked(link: &RelayLink) -> Said {
    let text = link.to_string();
    Said {
        json: json!({"link": text}),
        text,
    }
}

/// The link; of a running relay, with the ports that it took.
fn link(dir: &Path) -> Result<Said, Failure> {
    let (config, identity) = (Config::load(dir)?, Identity::load(dir)?);
    let listen = local::listening(dir).unwrap_or_else(|| config.listen.clone());
    Ok(linked(&relay_link(&identity, config.addresses()?, &listen)))
}

/// Gives all channels another incarnation, after an old copy was put back.
fn restored(dir: &Path) -> Result<Said, Failure> {
    Identity::load(dir)?;
    let mut name = [0; 16];
    getrandom::fill(&mut name).map_err(|_| {
        Failure::new(
            "internal",
            "the system gives no randomness",
            "Start the machine again.",
            1,
        )
    })?;
    Segments::restored(&dir.join("store"), name).map_err(|error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        Failure::new(
            "store",
            cause.unwrap_or_else(|| error.to_string()),
            "Stop the relay first; then run this again, and start it.",
            1,
        )
    })?;
    Ok(Said {
        json: json!({"restored": true}),
        text: "Every channel has another incarnation: clients send again what this copy lacks of theirs. Start the relay.".into(),
    })
}

fn run_relay(dir: &Path, json: bool) -> Result<Said, Failure> {
    let (config, identity) = (Config::load(dir)?, Identity::load(dir)?);
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
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(file_failed)?;
    runtime.block_on(async {
        let (store, report) = Segments::open(&dir.join("store"), options)?;
        if report.rebuilt {
            say_error("the index was built anew from the segments; nothing is lost");
        }
        if report.cut_bytes > 0 {
            say_error(
                "the end of a segment was never acknowledged and was cut off; nothing acknowledged is lost",
            );
        }
        let sockets = match config.tcp {
            true => Sockets::bind(&config.listen),
            false => Sockets::bind_udp(&config.listen),
        };
        let sockets = sockets.map_err(ServeError::Socket)?;
        let relay = serve(sockets, store, &identity, &serving)?;
        let signals = (
            signal(tokio::signal::unix::SignalKind::terminate()),
            signal(tokio::signal::unix::SignalKind::interrupt()),
        );
        let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
            return Err(Failure::new(
                "signals",
                "signals cannot be received",
                "Start the relay again.",
                1,
            ));
        };
        let local = local::Local::open(dir, relay.listen()).map_err(file_failed)?;
        let listen: Vec<String> = relay.listen().iter().map(ToString::to_string).collect();
        let link = relay.link().to_string();
        say(&match json {
            true => json!({"ready": true, "listen": listen, "link": link}).to_string(),
            false => format!("ready on {}: {link}", listen.join(", ")),
        });
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = local.answer(&relay) => {}
            () = relay.failed() => {}
        }
        local.close();
        relay.stop().await?;
        Ok(Said {
            json: Value::Null,
            text: String::new(),
        })
    })
}

fn signal(kind: tokio::signal::unix::SignalKind) -> std::io::Result<tokio::signal::unix::Signal> {
    tokio::signal::unix::signal(kind)
}
