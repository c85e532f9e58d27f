//! The words of the command line.

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use clap_complete::Shell;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

/// Cases, letters and documents between people seeking protection and their lawyers, end to end encrypted.
#[derive(Debug, Parser)]
#[command(name = "martlet", version, arg_required_else_help = true)]
pub(crate) struct Args {
    /// The folder of the vault
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
    /// One JSON object on stdout, for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The language of messages: ar, en, es, fa, fr or ru; else the locale's
    // `words::choose` reads it before the others are parsed, so that their mistakes are told in it.
    #[arg(long, global = true, value_name = "TAG")]
    pub(crate) lang: Option<String>,
    /// Read the passphrase from a file
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "passphrase_fd")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Read the passphrase from an open file descriptor
    #[arg(long, global = true, value_name = "N")]
    pub(crate) passphrase_fd: Option<u32>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand, Serialize, Deserialize)]
pub(crate) enum Command {
    /// Make a vault
    Init {
        /// The name that others see
        #[arg(long, default_value = "")]
        name: String,
        /// The relay's link
        #[arg(long)]
        relay: Option<String>,
        /// The least work per passphrase guess that the standard allows (19 MiB, 2 passes)
        #[arg(long, hide = true)]
        kdf_floor: bool,
    },
    /// Make an invite to your inbox
    Invite {
        /// Good for one case only
        #[arg(long)]
        once: bool,
        /// A note for yourself
        #[arg(long)]
        label: Option<String>,
        /// Days until it expires
        #[arg(long, value_name = "DAYS", default_value_t = 30)]
        expires: u32,
        /// Good once, and what it brings never shares a connection with another case
        #[arg(long)]
        apart: bool,
        /// Also write it as a QR code
        #[arg(long, value_name = "FILE.png")]
        qr: Option<PathBuf>,
    },
    /// List your invites
    Invites,
    /// Withdraw an invite
    Revoke {
        /// Its id
        id: String,
    },
    /// Open a case from an invite
    Open {
        /// The invite, or `-` to read it from stdin
        #[arg(required = true)]
        invite: Vec<String>,
        /// The first words
        #[arg(long)]
        text: Option<String>,
        /// A note for yourself
        #[arg(long)]
        label: Option<String>,
        /// Never let it share a connection with another case
        #[arg(long)]
        apart: bool,
    },
    /// List cases, urgent first
    Cases,
    /// Send words and documents
    Send {
        /// The case
        case: String,
        /// The words, or `-` to read them from stdin
        #[arg(required_unless_present = "file")]
        text: Option<String>,
        /// A document
        #[arg(long)]
        file: Vec<PathBuf>,
        /// Of photographs that say more than can be seen: send the original and a scrubbed copy, only the copy, or neither
        /// scrub nor look (off)
        #[arg(long, value_name = "WHICH", default_value = "both")]
        scrub: ScrubName,
    },
    /// Make a working copy of a photograph without what it says beside its pixels: JPEG, PNG, WebP
    Scrub {
        /// The photograph
        file: PathBuf,
        /// The new file
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Send what waits and fetch what is new
    Sync,
    /// Show unread letters and mark them read
    Read {
        /// The case
        case: String,
        /// Read ones too
        #[arg(long)]
        all: bool,
    },
    /// Fetch a document and verify it
    Get {
        /// The case
        case: String,
        /// The document's id
        file: String,
        /// The folder to put it in
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        /// Put pictures of its pages there instead, made where it can do no harm: PDF, JPEG, PNG, WebP, GIF, TIFF
        #[arg(long)]
        as_images: bool,
    },
    /// Show events as they come, until stopped
    Follow {
        /// Only this case
        case: Option<String>,
    },
    /// Show the safety number to compare
    Verify {
        /// The case
        case: String,
        /// With whom, if there are several
        #[arg(long)]
        member: Option<String>,
        /// Record that it matched
        #[arg(long)]
        confirm: bool,
    },
    /// Add somebody to a case (counsel)
    Add {
        /// The case
        case: String,
        /// Their invite
        #[arg(required = true)]
        invite: Vec<String>,
        /// What they are in the case
        #[arg(long)]
        role: RoleName,
    },
    /// Remove somebody from a case, with all their devices (counsel)
    Remove {
        /// The case
        case: String,
        /// The member, as `cases --json` names them, or by name
        member: String,
    },
    /// Take somebody in again who asked for it (counsel)
    Readmit {
        /// The case
        case: String,
        /// The member
        member: String,
    },
    /// Lead a case from this device, in place of another of counsel's
    Takeover {
        /// The case
        case: String,
    },
    /// Keep letters for so many days on your side of a case: counsel's, or that of all others
    Retention {
        /// The case
        case: String,
        /// Days; 0 to keep them for good
        #[arg(value_parser = clap::value_parser!(u32).range(0..=36_500))]
        days: u32,
    },
    /// Stop the deletion of a case's letters on this device, or let it go on
    Hold {
        /// The case
        case: String,
        /// Whether it stops
        switch: Switch,
    },
    /// Show or choose whether cases share connections to a relay
    Isolation {
        /// `case`: each has its own; `shared`: those that are not apart share one
        choice: Option<IsolationName>,
    },
    /// Show or choose a SOCKS5 proxy, such as Tor's, through which every relay is reached
    Proxy {
        /// HOST:PORT, or `off`
        address: Option<String>,
    },
    /// Try which roads lead to the relays from here, and say what to do
    Doctor,
    /// Leave a case
    Leave {
        /// The case
        case: String,
    },
    /// Ask counsel to be taken in again as a new device
    Rejoin {
        /// The case; all cases that cannot go on if none is named
        case: Option<String>,
        #[command(flatten)]
        source: DigitsSource,
        #[arg(skip)]
        digits: Option<Hidden>,
    },
    /// Make digits to write down, by which counsel knows you when you come back with `rejoin`
    Recovery {
        /// The case; all cases if none is named
        case: Option<String>,
    },
    /// Your devices
    #[command(subcommand)]
    Device(DeviceCommand),
    /// The relays of your cases and invites
    #[command(subcommand)]
    Relay(RelayCommand),
    /// Show whether the relay is reached and what waits
    Status,
    /// Write an archive of cases and letters, but not of documents, against the loss of the device
    Backup {
        /// Where to: a new file
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
        #[command(flatten)]
        source: ArchiveSource,
        #[arg(skip)]
        passphrase: Hidden,
    },
    /// Make a new vault of an archive; its cases can be read, and written in after `rejoin`
    Restore {
        /// The archive
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
        #[command(flatten)]
        source: ArchiveSource,
        /// The least work per passphrase guess that the standard allows (19 MiB, 2 passes)
        #[arg(long, hide = true)]
        kdf_floor: bool,
    },
    /// Play a whole case through on this machine, told step by step
    #[cfg(feature = "demo")]
    Demo,
    /// Destroy the vault for good
    Wipe {
        /// Yes, destroy it
        #[arg(long)]
        yes: bool,
    },
    /// Print the completions of a shell
    Completions {
        /// The shell
        #[serde(with = "shell_name")]
        shell: Shell,
    },
    /// Print the manual
    Man,
}

/// What to do with devices.
#[derive(Clone, Debug, Subcommand, Serialize, Deserialize)]
pub(crate) enum DeviceCommand {
    /// On a new device: show a request. On the device you use: take that request and let the new one in
    Link {
        /// What the new device shows; hold it in your hand
        request: Vec<String>,
        /// The relay on which the devices meet, if the new one knows none
        #[arg(long)]
        relay: Option<String>,
        /// Also give it the letters that this device keeps
        #[arg(long, requires = "request")]
        history: bool,
        /// Seconds to wait for the other device
        #[arg(long, value_name = "SECONDS", default_value_t = 120)]
        wait: u64,
    },
    /// List them
    List,
    /// Remove one from all cases: it reads nothing more
    Remove {
        /// Its id
        device: String,
    },
}

/// What to do with relays.
#[derive(Clone, Debug, Subcommand, Serialize, Deserialize)]
pub(crate) enum RelayCommand {
    /// List them
    List,
    /// Use a relay for new invites, and as the place where your cases are looked for when theirs is gone
    Add {
        /// Its link
        link: String,
    },
    /// Move your cases to a relay. On a device that does not lead them: look for them there
    Move {
        /// Its link
        link: String,
        /// Only this case
        #[arg(long)]
        case: Option<String>,
        /// Do not use the old relay any more, even if it answers
        #[arg(long)]
        gone: bool,
    },
    /// The link by which others find a case's relay, to be shown face to face
    Link {
        /// The case
        case: String,
    },
}

/// A role as people write it.
#[derive(Clone, Copy, Debug, clap::ValueEnum, Serialize, Deserialize)]
pub(crate) enum RoleName {
    /// Acts for the client
    Counsel,
    /// Interprets
    Interpreter,
    /// Whose case it is
    Client,
    /// Only reads
    Observer,
}

/// What is sent of a photograph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub(crate) enum ScrubName {
    // The original as evidence, and a scrubbed working copy.
    #[default]
    Both,
    // The scrubbed copy alone; nothing of what cannot be scrubbed.
    Only,
    // The original alone.
    Off,
}

/// Which cases share connections.
#[derive(Clone, Copy, Debug, clap::ValueEnum, Serialize, Deserialize)]
pub(crate) enum IsolationName {
    /// Those that are not apart
    Shared,
    /// None
    Case,
}

/// Whether something is so.
#[derive(Clone, Copy, Debug, clap::ValueEnum, Serialize, Deserialize)]
pub(crate) enum Switch {
    /// It is
    On,
    /// It is not
    Off,
}

/// Where the passphrase of an archive comes from; else it is the vault's, or is asked for.
#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct ArchiveSource {
    /// Read the archive's passphrase from a file; without, it is the vault's, or is asked for
    #[arg(long, value_name = "FILE", conflicts_with = "archive_passphrase_fd")]
    pub(crate) archive_passphrase_file: Option<PathBuf>,
    /// Read the archive's passphrase from an open file descriptor
    #[arg(long, value_name = "N")]
    pub(crate) archive_passphrase_fd: Option<u32>,
}

/// Where recovery digits come from, if they are used.
#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
#[group(multiple = false)]
pub(crate) struct DigitsSource {
    /// Prove who asks by recovery digits, and ask for them here
    #[arg(long)]
    pub(crate) digits: bool,
    /// Prove who asks by recovery digits, read from a file
    #[arg(long, value_name = "FILE")]
    pub(crate) digits_file: Option<PathBuf>,
    /// Prove who asks by recovery digits, read from an open file descriptor
    #[arg(long, value_name = "N")]
    pub(crate) digits_fd: Option<u32>,
}

/// A passphrase or digits on their way to the program that has the vault open.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Hidden(Vec<u8>);

impl Hidden {
    pub(crate) fn new(passphrase: &[u8]) -> Self {
        Self(passphrase.to_vec())
    }

    pub(crate) fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hidden(..)")
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Command {
    /// Makes the paths in a command absolute, as seen from a folder.
    pub(crate) fn anchor(&mut self, folder: &Path) {
        let anchor = |path: &mut PathBuf| *path = folder.join(&*path);
        match self {
            Self::Send { file, .. } => file.iter_mut().for_each(anchor),
            Self::Get { to, .. } | Self::Backup { to, .. } => anchor(to),
            Self::Invite { qr: Some(qr), .. } => anchor(qr),
            _ => {}
        }
    }

    /// Whether it reads words from standard input.
    pub(crate) fn reads_stdin(&self) -> bool {
        match self {
            Self::Send { text, .. } => text.as_deref() == Some("-"),
            Self::Open { invite, .. } => matches!(invite.as_slice(), [only] if only == "-"),
            _ => false,
        }
    }

    /// Puts words in the place where they were to be read from standard input.
    pub(crate) fn put_stdin(&mut self, words: String) {
        match self {
            Self::Send { text, .. } => *text = Some(words),
            Self::Open { invite, .. } => *invite = vec![words],
            _ => {}
        }
    }
}

mod shell_name {
    use std::str::FromStr;

    use clap_complete::Shell;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(shell: &Shell, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(shell)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Shell, D::Error> {
        Shell::from_str(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}
