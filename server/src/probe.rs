//! `probe`: a letter through a relay and back, as a client would send it. It opens a channel of its own, appends an
//! envelope of random bytes, reads it back, compares, and drops the channel.

mod line;
mod pin;

use std::{
    io::{Read as _, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, Instant},
};

use martlet_proto::{
    Append, Bind, ChannelId, Class, Drop as DropChannel, EntryId, Envelope, Grant, Keeper, Kind, Open, Read,
    Reader, Secret, Seq, Slot, Token, Writer, call::Item, link::RelayLink,
};
use martlet_server::metrics::{Probed, tell_probe};
use serde_json::json;

use self::line::{Line, Trouble};
use crate::{
    args::Probing,
    run::{self, Failure, Said, file_failed},
};

/// How long all of it may take.
const WAIT: Duration = Duration::from_secs(30);
/// The smallest envelope: that of a text.
const ENVELOPE_BYTES: usize = 2 << 10;
/// The longest link on standard input.
const LINK_BYTES_MAX: u64 = 4096;

/// What is done, in this order.
const STEPS: [&str; 5] = ["connect", "open", "append", "read", "drop"];

pub(crate) fn probe(probing: &Probing) -> Result<Said, Failure> {
    let link = link(probing)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(file_failed)?;
    let began = clock();
    let done = runtime.block_on(async {
        tokio::time::timeout(WAIT, letter(&link))
            .await
            .unwrap_or(Err(Trouble::Unreachable))
    });
    // Without saying goodbye, which waits for the other side.
    let took = match &done {
        Ok(steps) => steps.iter().sum(),
        Err(_) => began.elapsed(),
    };
    if let Some(path) = &probing.metrics {
        let told = tell_probe(&Probed {
            through: done.is_ok(),
            took,
            at_secs: unix_secs(),
        });
        replace(path, &told).map_err(file_failed)?;
    }
    done.map(|steps| said(took, &steps)).map_err(failure)
}

fn link(probing: &Probing) -> Result<RelayLink, Failure> {
    let text = match (&probing.link, &probing.dir) {
        (None, Some(dir)) => return run::own_link(dir),
        (Some(link), _) if link != "-" => link.clone(),
        _ => {
            let mut text = String::new();
            std::io::stdin()
                .take(LINK_BYTES_MAX)
                .read_to_string(&mut text)
                .map_err(file_failed)?;
            text
        }
    };
    text.trim()
        .parse()
        .map_err(|error| Failure::new("usage", error, "Give the link that martletd link prints.", 2))
}

fn said(took: Duration, steps: &[Duration; STEPS.len()]) -> Said {
    let ms = |time: &Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let each: serde_json::Map<String, serde_json::Value> = STEPS
        .iter()
        .zip(steps)
        .map(|(name, time)| ((*name).to_string(), json!(ms(time))))
        .collect();
    let parts: Vec<String> = STEPS
        .iter()
        .zip(steps)
        .map(|(name, time)| format!("{name} {}", ms(time)))
        .collect();
    Said {
        json: json!({"ok": true, "took_ms": ms(&took), "steps_ms": each}),
        text: format!("through and back in {} ms: {}", ms(&took), parts.join(", ")),
    }
}

fn failure(trouble: Trouble) -> Failure {
    let (code, advice, exit) = match trouble {
        Trouble::Unreachable | Trouble::Cut => (
            "unreachable",
            "Does the relay run? Is its UDP port open? martletd doctor on the relay says more.",
            3,
        ),
        Trouble::WrongKey => (
            "wrong-key",
            "Somebody is in between, or the relay was made anew: compare martletd link on the relay.",
            5,
        ),
        Trouble::Differs => (
            "differs",
            "Stop the relay, copy its folder, run martletd doctor.",
            5,
        ),
        Trouble::Refused(_) => (
            "refused",
            "Is the disk full? Is the link the one that martletd link prints?",
            8,
        ),
        Trouble::Broken | Trouble::Here => ("protocol", "Are both programs of the same version?", 1),
    };
    Failure::new(code, trouble, advice, exit)
}

/// Sends a letter, reads it back, and says how long each step took.
async fn letter(link: &RelayLink) -> Result<[Duration; STEPS.len()], Trouble> {
    let read = Token::<Reader>::new(random()?);
    let write = Token::<Writer>::new(random()?);
    let keep = Token::<Keeper>::new(random()?);
    let channel = ChannelId::commit(
        Class::File,
        &read.hash(),
        &write.hash(),
        &keep.hash(),
        &Bind::NONE,
    );
    let open = Open {
        class: Class::File,
        read: read.hash(),
        keep: keep.hash(),
        bind: Bind::NONE,
        admission: Some(link.admission.clone()),
    };
    let item = item()?;
    let append = Append {
        within: None,
        items: vec![item.clone()],
    };
    let (reader, writer, keeper) = (
        Grant { channel, token: read },
        Grant {
            channel,
            token: write,
        },
        Grant { channel, token: keep },
    );
    let mut watch = Watch::start();
    let mut line = Line::open(&link.relay).await?;
    let connected = watch.lap();
    line.ask(&writer, open).await?;
    let opened = watch.lap();
    let placed = line.ask(&writer, append).await?;
    let appended = watch.lap();
    let page = line.ask(&reader, Read { from: Seq::FIRST }).await?;
    let was_read = watch.lap();
    line.ask(&keeper, DropChannel).await?;
    let dropped = watch.lap();
    line.close().await;
    let [Slot::Here(entry)] = page.slots.as_slice() else {
        return Err(Trouble::Differs);
    };
    let same = entry.id == item.id && entry.envelope == item.envelope && page.tip.head == placed.head;
    match same {
        true => Ok([connected, opened, appended, was_read, dropped]),
        false => Err(Trouble::Differs),
    }
}

fn item() -> Result<Item, Trouble> {
    let (mut id, mut bytes) = ([0; 16], vec![0; ENVELOPE_BYTES]);
    getrandom::fill(&mut id).map_err(|_| Trouble::Here)?;
    getrandom::fill(&mut bytes).map_err(|_| Trouble::Here)?;
    Ok(Item {
        kind: Kind::Chunk,
        id: EntryId::new(id),
        envelope: Envelope::new(bytes.into()).ok_or(Trouble::Here)?,
    })
}

fn random() -> Result<Secret<32>, Trouble> {
    let mut secret = Secret::new([0; 32]);
    getrandom::fill(secret.expose_mut()).map_err(|_| Trouble::Here)?;
    Ok(secret)
}

struct Watch(Instant);

impl Watch {
    fn start() -> Self {
        Self(clock())
    }

    /// The time since this was asked last.
    fn lap(&mut self) -> Duration {
        let lap = self.0.elapsed();
        self.0 = clock();
        lap
    }
}

#[expect(clippy::disallowed_methods, reason = "the shell measures durations")]
fn clock() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the shell asks the system for the time")]
fn unix_secs() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map(|since| since.as_secs()).unwrap_or_default()
}

/// Puts a text in the place of a file, whole: who reads it sees the old one or the new one.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .open(&beside)?;
    // Whatever the umask: it is there to be read by another user's program.
    file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
    file.write_all(text.as_bytes())?;
    drop(file);
    std::fs::rename(&beside, path)
}
