//! The relay's local socket: totals for `status`, and the operator's word on the clock.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use martlet_server::serve::Running;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixListener,
};

use crate::run::{Failure, Said};

const WAIT: Duration = Duration::from_secs(5);

/// The socket of a running relay, and the file that says where it listens.
pub(crate) struct Local {
    listener: UnixListener,
    files: [PathBuf; 2],
    began: Instant,
}

fn socket_path(dir: &Path) -> PathBuf {
    dir.join("control.sock")
}

impl Local {
    #[expect(clippy::disallowed_methods, reason = "uptime is measured by the shell")]
    pub(crate) fn open(dir: &Path, listen: &[SocketAddr]) -> std::io::Result<Self> {
        let files = [socket_path(dir), dir.join("listening")];
        let [socket, listening] = &files;
        if socket.exists() {
            std::fs::remove_file(socket)?;
        }
        let listener = UnixListener::bind(socket)?;
        std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
        let lines: Vec<String> = listen.iter().map(ToString::to_string).collect();
        std::fs::write(listening, lines.join("\n"))?;
        std::fs::set_permissions(listening, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self {
            listener,
            files,
            began: Instant::now(),
        })
    }

    /// Answers what is asked, for as long as it is polled.
    pub(crate) async fn answer(&self, relay: &Running) {
        loop {
            let Ok((mut stream, _)) = self.listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let mut word = [0; 1];
            let asked = tokio::time::timeout(WAIT, stream.read_exact(&mut word)).await;
            let Ok(Ok(_)) = asked else { continue };
            if word == *b"c" {
                relay.accept_clock().await;
            }
            let Some((totals, clock)) = relay.totals().await else {
                continue;
            };
            let told = json!({
                "channels": totals.channels,
                "entries": totals.entries,
                "bytes": totals.bytes,
                "connections": relay.connections(),
                "uptime_s": self.began.elapsed().as_secs(),
                "day": clock.today.0,
                "clock_doubted": clock.doubted,
            });
            let _ = tokio::time::timeout(WAIT, stream.write_all(told.to_string().as_bytes())).await;
        }
    }

    pub(crate) fn close(self) {
        for file in &self.files {
            let _ = std::fs::remove_file(file);
        }
    }
}

/// What the running relay says; `None` if none runs.
pub(crate) fn ask(dir: &Path, word: u8) -> Option<Value> {
    let mut stream = UnixStream::connect(socket_path(dir)).ok()?;
    stream.set_read_timeout(Some(WAIT)).ok()?;
    stream.write_all(&[word]).ok()?;
    let mut told = Vec::new();
    stream.take(64 << 10).read_to_end(&mut told).ok()?;
    serde_json::from_slice(&told).ok()
}

/// Where the running relay listens.
pub(crate) fn listening(dir: &Path) -> Option<Vec<SocketAddr>> {
    UnixStream::connect(socket_path(dir)).ok()?;
    let text = std::fs::read_to_string(dir.join("listening")).ok()?;
    text.lines().map(|line| line.parse().ok()).collect()
}

pub(crate) fn status(dir: &Path) -> Result<Said, Failure> {
    if !dir.join("martletd.toml").exists() {
        return Err(Failure::new(
            "no-relay",
            "there is no relay in this folder",
            "Make one: martletd init --dir DIR",
            6,
        ));
    }
    let told = ask(dir, b's').ok_or_else(|| {
        Failure::new(
            "not-running",
            "the relay does not run",
            "Start it: martletd serve --dir DIR",
            3,
        )
    })?;
    let number = |name: &str| told.get(name).and_then(Value::as_u64).unwrap_or(0);
    let text = format!(
        "{} channels, {} entries, {} bytes, {} connections, up {} s",
        number("channels"),
        number("entries"),
        number("bytes"),
        number("connections"),
        number("uptime_s")
    );
    Ok(Said { json: told, text })
}
