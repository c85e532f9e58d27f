//! Where monitoring asks for metrics: HTTP on a local socket or a loopback port, one question at a time.
//!
//! It knows one page, `/metrics`; what is on it is decided in [`martlet_server::metrics`].

use std::{
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use martlet_server::{
    config::{Config, MetricsAt},
    metrics::{Activity, Health, Teller},
    serve::Running,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, UnixListener},
};

use crate::run::{Failure, file_failed};

/// How long a question, an answer, and the turn thread may take, each.
const WAIT: Duration = Duration::from_secs(2);
/// The longest question.
const QUESTION_BYTES_MAX: usize = 4096;

enum Listener {
    /// Nobody asked for metrics.
    None,
    Socket(UnixListener, PathBuf),
    Loopback(TcpListener),
}

/// Answers questions for metrics.
pub(crate) struct Scrape {
    listener: Listener,
    teller: Teller,
    dir: PathBuf,
    floor_bytes: u64,
    connections_max: u64,
    began: Instant,
    started_secs: u64,
}

impl Scrape {
    /// Begins to listen where the config says, if it does.
    #[expect(clippy::disallowed_methods, reason = "the start is measured by the shell")]
    pub(crate) fn open(dir: &Path, config: &Config) -> Result<Self, Failure> {
        let listener = match &config.metrics {
            None => Listener::None,
            Some(MetricsAt::Socket(path)) => {
                let path = dir.join(path);
                Listener::Socket(bind(&path).map_err(unusable)?, path)
            }
            Some(MetricsAt::Loopback(address)) => {
                let socket = std::net::TcpListener::bind(address).map_err(unusable)?;
                socket.set_nonblocking(true).map_err(unusable)?;
                Listener::Loopback(TcpListener::from_std(socket).map_err(unusable)?)
            }
        };
        let mut beginning = [0; 8];
        getrandom::fill(&mut beginning).map_err(|error| file_failed(std::io::Error::other(error)))?;
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Ok(Self {
            listener,
            teller: Teller::new(u64::from_be_bytes(beginning)),
            dir: dir.to_path_buf(),
            floor_bytes: config.disk_floor_mib.saturating_mul(1 << 20),
            connections_max: config.connections_max,
            began: Instant::now(),
            started_secs: since.map(|since| since.as_secs()).unwrap_or_default(),
        })
    }

    /// Answers what is asked, for as long as it is polled.
    ///
    /// # Cancel safety
    ///
    /// A question may stay without an answer.
    pub(crate) async fn answer(&mut self, relay: &Running) {
        loop {
            let mut stream: Box<dyn Stream> = match &self.listener {
                Listener::None => std::future::pending().await,
                Listener::Socket(listener, _) => match listener.accept().await {
                    Ok((stream, _)) => Box::new(stream),
                    Err(_) => {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
                Listener::Loopback(listener) => match listener.accept().await {
                    Ok((stream, _)) => Box::new(stream),
                    Err(_) => {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
            };
            let Ok(Some(wanted)) = tokio::time::timeout(WAIT, question(&mut stream)).await else {
                continue;
            };
            let answer = match wanted {
                Wanted::Metrics => {
                    let text = self.metrics(relay).await;
                    response("200 OK", "text/plain; version=0.0.4; charset=utf-8", &text)
                }
                Wanted::Other => response("404 Not Found", "text/plain", "metrics are at /metrics\n"),
            };
            let _ = tokio::time::timeout(WAIT, async {
                stream.write_all(answer.as_bytes()).await?;
                stream.shutdown().await
            })
            .await;
        }
    }

    async fn metrics(&mut self, relay: &Running) -> String {
        let totals = tokio::time::timeout(WAIT, relay.totals()).await.ok().flatten();
        let (disk_bytes, free_bytes) = rustix::fs::statvfs(&self.dir).map_or((0, 0), |disk| {
            let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
            (bytes(disk.f_blocks), bytes(disk.f_bavail))
        });
        let connections = relay.connections();
        let health = Health {
            started_secs: self.started_secs,
            clock_doubted: totals.map(|(_, clock)| clock.doubted),
            disk_bytes,
            free_bytes,
            floor_bytes: self.floor_bytes,
            connections_max: self.connections_max,
            connections,
            slowest: relay.counts().take_slowest(),
        };
        let activity = totals.map(|(totals, _)| Activity {
            totals,
            connections,
            calls: relay.counts().calls(),
        });
        self.teller.tell(self.began.elapsed(), &health, activity)
    }

    pub(crate) fn close(self) {
        if let Listener::Socket(_, path) = self.listener {
            let _ = std::fs::remove_file(path);
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

fn unusable(error: std::io::Error) -> Failure {
    Failure::new(
        "metrics",
        format!("metrics cannot be told where martletd.toml says: {error}"),
        "Choose another place in martletd.toml, or take the line out.",
        1,
    )
}

/// Binds a socket that the owner and the group may use, in the place of an old one.
fn bind(path: &Path) -> std::io::Result<UnixListener> {
    if std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

enum Wanted {
    Metrics,
    Other,
}

/// Reads a question to its empty line; `None` if there is none, or too long a one.
async fn question(stream: &mut (impl AsyncRead + Unpin)) -> Option<Wanted> {
    let mut asked = Vec::with_capacity(QUESTION_BYTES_MAX);
    while !asked.windows(4).any(|end| end == b"\r\n\r\n") {
        let room = u64::try_from(QUESTION_BYTES_MAX.checked_sub(asked.len())?).ok()?;
        if stream.take(room).read_buf(&mut asked).await.ok()? == 0 {
            return None;
        }
    }
    let mut words = asked
        .split(|byte| byte.is_ascii_whitespace())
        .filter(|word| !word.is_empty());
    Some(match (words.next(), words.next()) {
        (Some(b"GET"), Some(b"/metrics")) => Wanted::Metrics,
        _ => Wanted::Other,
    })
}

fn response(status: &str, kind: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}
