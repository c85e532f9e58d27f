//! What the commands do.

use std::{ffi::OsString, io::Write, net::SocketAddr, path::Path, process::ExitCode};

use clap::Parser;
use martlet_proto::link::{Address, RelayAddress, RelayLink};
use martlet_server::{
    config::{Config, ConfigError},
    identity::{Identity, IdentityError},
    serve::ServeError,
    store::{
        StoreError,
        segments::{Options, Segments},
    },
};
use serde_json::{Value, json};

use crate::{
    args::{Command, Verb},
    backup, checks, daemon, init, local, manual, probe,
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

pub(crate) fn file_failed(error: std::io::Error) -> Failure {
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
        Verb::Init { at, listen, public } => init::init(&at.dir, listen, public, command.json),
        Verb::Completions { shell } => Ok(manual::completions(shell)),
        Verb::Man => manual::pages(),
        Verb::Serve { dir } => daemon::run(&dir, command.json),
        Verb::Probe { probing } => probe::probe(&probing),
        Verb::Link { at } => own_link(&at.dir).map(|link| linked(&link)),
        Verb::Backup { at, to, source } => backup::backup(&at.dir, &to, &source),
        Verb::Restore { from, at, source } => backup::restore(&from, &at.dir, &source),
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

pub(crate) fn say_error(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", text.trim_end());
}

/// An empty store.
pub(crate) fn make_store(dir: &Path) -> Result<(), Failure> {
    let (mut store, _) = Segments::open(
        &dir.join("store"),
        Options {
            floor_bytes: 0,
            ..Options::default()
        },
    )?;
    Ok(martlet_server::Store::close(&mut store)?)
}

pub(crate) fn relay_link(identity: &Identity, public: Vec<Address>, listen: &[SocketAddr]) -> RelayLink {
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

pub(crate) fn linked(link: &RelayLink) -> Said {
    let text = link.to_string();
    Said {
        json: json!({"link": text}),
        text,
    }
}

/// The link; of a running relay, with the ports that it took.
pub(crate) fn own_link(dir: &Path) -> Result<RelayLink, Failure> {
    let (config, identity) = (Config::load(dir)?, Identity::load(dir)?);
    let listen = local::listening(dir).unwrap_or_else(|| config.listen.clone());
    Ok(relay_link(&identity, config.addresses()?, &listen))
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
