//! Commands that go through a running `follow`, which holds the vault.
//!
//! The running program sends 32 random bytes; the other answers with their HMAC-SHA256 under a key that only the
//! passphrase opens, then `u32 length ‖ JSON`. What comes back is pieces: `u8 kind ‖ u32 length ‖ bytes`, where kind is 1
//! for standard output, 2 for standard error, 3 for the exit code, which is the last.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use hmac::{Hmac, KeyInit, Mac};
use martlet::{Client, Error};
use martlet_proto::Secret;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};
use zeroize::Zeroizing;

use crate::{
    args::Command,
    run,
    speak::{Failure, Out},
};

const REQUEST_BYTES_MAX: u32 = 4 << 20;
const ANSWER_BYTES_MAX: u32 = 256 << 20;
const GREETING_WAIT: Duration = Duration::from_secs(10);

#[derive(Serialize, Deserialize)]
struct Request {
    command: Command,
    json: bool,
}

fn socket(home: &Path) -> PathBuf {
    home.join("follow.sock")
}

fn mac(key: &Secret<32>, nonce: &[u8; 32]) -> Option<Hmac<Sha256>> {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key.expose()).ok()?;
    mac.update(nonce);
    Some(mac)
}

/// Runs a command in the program that follows; `None` if none does.
pub(crate) async fn ask(
    home: &Path,
    passphrase: &[u8],
    command: &Command,
    json: bool,
    out: &mut dyn Out,
) -> Result<Option<u8>, Failure> {
    let Ok(mut stream) = UnixStream::connect(socket(home)).await else {
        return Ok(None);
    };
    let key = Client::check(home, passphrase)?;
    let mut nonce = [0; 32];
    match tokio::time::timeout(GREETING_WAIT, stream.read_exact(&mut nonce)).await {
        Ok(Ok(_)) => {}
        Ok(Err(_)) | Err(_) => return Ok(None),
    }
    let internal = || Failure::from(Error::Internal("the running follow cannot be asked"));
    let proof = mac(&key, &nonce).ok_or_else(internal)?.finalize().into_bytes();
    // A backup's passphrase is in it.
    let request = Zeroizing::new(
        serde_json::to_vec(&Request {
            command: command.clone(),
            json,
        })
        .map_err(|_| internal())?,
    );
    let length = u32::try_from(request.len()).map_err(|_| internal())?;
    let bytes = Zeroizing::new([proof.as_slice(), &length.to_be_bytes(), &request].concat());
    stream.write_all(&bytes).await.map_err(Error::File)?;
    loop {
        let kind = stream.read_u8().await.map_err(Error::File)?;
        let length = stream.read_u32().await.map_err(Error::File)?;
        if length > ANSWER_BYTES_MAX {
            return Err(internal());
        }
        let mut piece = vec![0; usize::try_from(length).map_err(|_| internal())?];
        stream.read_exact(&mut piece).await.map_err(Error::File)?;
        let text = String::from_utf8_lossy(&piece);
        match kind {
            1 => out.data(&text),
            2 => out.say(&text),
            _ => return Ok(Some(piece.first().copied().unwrap_or(1))),
        }
    }
}

/// Where a running `follow` takes the commands of others.
pub(crate) struct Desk {
    listener: UnixListener,
    client: Client,
    path: PathBuf,
}

impl Desk {
    pub(crate) fn open(client: &Client) -> Result<Self, Failure> {
        let path = socket(&client.home());
        if path.exists() {
            std::fs::remove_file(&path).map_err(Error::File)?;
        }
        let listener = UnixListener::bind(&path).map_err(Error::File)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(Error::File)?;
        Ok(Self {
            listener,
            client: client.clone(),
            path,
        })
    }

    /// Takes commands for as long as it is polled.
    pub(crate) async fn serve(&self) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let client = self.client.clone();
                    tokio::spawn(async move {
                        // Whoever went away needs no answer.
                        let _gone = attend(stream, client).await;
                    });
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.path);
    }
}

async fn attend(mut stream: UnixStream, client: Client) -> std::io::Result<()> {
    let refused = || std::io::Error::other("refused");
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).map_err(|_| refused())?;
    stream.write_all(&nonce).await?;
    let mut proof = [0; 32];
    tokio::time::timeout(GREETING_WAIT, stream.read_exact(&mut proof))
        .await
        .map_err(|_| refused())??;
    let key = client.follow_key().map_err(|_| refused())?;
    mac(&key, &nonce)
        .ok_or_else(refused)?
        .verify_slice(&proof)
        .map_err(|_| refused())?;
    let length = stream.read_u32().await?;
    if length > REQUEST_BYTES_MAX {
        return Err(refused());
    }
    let mut request = Zeroizing::new(vec![0; usize::try_from(length).map_err(|_| refused())?]);
    stream.read_exact(&mut request).await?;
    let request: Request = serde_json::from_slice(&request).map_err(|_| refused())?;
    let mut gathered = Gathered {
        json: request.json,
        pieces: Vec::new(),
    };
    let code = match request.command {
        Command::Follow { .. } => gathered.fail(&Error::VaultBusy.into()),
        command => match run::run_boxed(command, &client, &mut gathered).await {
            Ok(code) => code,
            Err(failure) => gathered.fail(&failure),
        },
    };
    for (kind, text) in gathered.pieces {
        stream.write_u8(kind).await?;
        stream
            .write_u32(u32::try_from(text.len()).map_err(|_| refused())?)
            .await?;
        stream.write_all(text.as_bytes()).await?;
    }
    stream.write_all(&[3, 0, 0, 0, 1, code]).await
}

/// What a command said, until it is done.
struct Gathered {
    json: bool,
    pieces: Vec<(u8, String)>,
}

impl Out for Gathered {
    fn json(&self) -> bool {
        self.json
    }

    fn data(&mut self, text: &str) {
        self.pieces.push((1, text.to_string()));
    }

    fn say(&mut self, text: &str) {
        self.pieces.push((2, text.to_string()));
    }

    fn draws(&self) -> bool {
        false
    }
}
