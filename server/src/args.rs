//! The command line.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

/// Where the relay of the system is, unless it is said otherwise.
pub(crate) const SYSTEM_DIR: &str = "/var/lib/martlet";

/// A relay for sealed letters: it knows no accounts, names, contacts or content.
#[derive(Debug, Parser)]
#[command(name = "martletd", version)]
pub(crate) struct Command {
    /// One JSON object on standard output, and nothing else there.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Args)]
pub(crate) struct Dir {
    /// The relay's folder.
    #[arg(long, default_value = SYSTEM_DIR)]
    pub(crate) dir: PathBuf,
}

#[derive(Args)]
pub(crate) struct Probing {
    /// The relay's link; `-` reads it from standard input, where no list of processes shows it.
    #[arg(value_name = "LINK", required_unless_present = "dir", conflicts_with = "dir")]
    pub(crate) link: Option<String>,
    /// The folder of the relay, on its own machine.
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Also writes how it went to this file, for Prometheus.
    #[arg(long, value_name = "FILE")]
    pub(crate) metrics: Option<PathBuf>,
}

impl std::fmt::Debug for Probing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Probing(..)")
    }
}

/// Where the passphrase of a backup comes from; without, it is asked for.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct Source {
    /// Reads the passphrase from a file.
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Reads the passphrase from an open file descriptor.
    #[arg(long, value_name = "N")]
    pub(crate) passphrase_fd: Option<u32>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Makes keys, certificate, config and store; refuses to overwrite.
    ///
    /// The relay of the system's own folder is started, too, where its units are installed.
    Init {
        #[command(flatten)]
        at: Dir,
        /// An address and port to listen on, with UDP and TCP; port 0 takes a free one.
        #[arg(long, value_name = "ADDR:PORT", default_values = ["0.0.0.0:4433"])]
        listen: Vec<SocketAddr>,
        /// What clients are told; without it, the addresses that are listened on.
        #[arg(long, value_name = "HOST:PORT")]
        public: Vec<String>,
    },
    /// Runs the relay until SIGTERM or SIGINT.
    Serve {
        /// The relay's folder.
        #[arg(long)]
        dir: PathBuf,
    },
    /// The relay's link: its addresses, its pinned key, the right to open channels.
    Link {
        #[command(flatten)]
        at: Dir,
    },
    /// Totals, asked of the running relay.
    Status {
        #[command(flatten)]
        at: Dir,
    },
    /// Sends a letter of its own through a relay and back, and says how long it took.
    Probe {
        #[command(flatten)]
        probing: Probing,
    },
    /// To be run after an old copy of the folder was put back, before the relay is started: clients then send again what it
    /// forgot of theirs.
    Restored {
        #[command(flatten)]
        at: Dir,
    },
    /// Writes the relay's keys, config and site into one file under a passphrase; never entries.
    Backup {
        #[command(flatten)]
        at: Dir,
        /// The new file.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
        #[command(flatten)]
        source: Source,
    },
    /// Makes a relay's folder of such a file, so that clients find the relay on another machine.
    Restore {
        /// The file.
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
        #[command(flatten)]
        at: Dir,
        #[command(flatten)]
        source: Source,
    },
    /// Checks keys, store, disk, clock, ports, permissions and sandbox.
    Doctor {
        #[command(flatten)]
        at: Dir,
        /// Tells the running relay to believe a clock that jumped ahead.
        #[arg(long)]
        accept_clock: bool,
    },
    /// Prints the completions of a shell.
    Completions {
        /// Which shell.
        shell: Shell,
    },
    /// Prints the manual.
    Man,
}
