//! What scenarios share: a cast, and relays and clients of their own, on loopback and in temporary folders.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "this crate is tests"
)]

pub mod front;
pub mod model;
pub mod parsers;
pub mod processes;
pub mod socks;
pub mod world;

use std::path::Path;

use martlet::{Client, Cost, NewInvite, NewProfile};
use martlet_proto::{card::Uses, invite::Invite, link::RelayLink};
use martlet_server::{
    identity::Identity,
    serve::{Running, Serving, Sockets, serve},
    store::segments::{Options, Segments},
};
use tempfile::TempDir;

/// The passphrase of everybody in the cast.
pub const PASSPHRASE: &[u8] = b"correct horse battery staple";

/// A relay in this process, over a real store and a real socket.
pub struct Relay {
    /// Its folder.
    pub dir: TempDir,
    identity: Identity,
    port: u16,
    running: Option<Running>,
}

impl Relay {
    /// A new relay on a free port.
    pub fn start() -> Self {
        let identity = Identity::generate().unwrap();
        let mut relay = Self {
            dir: tempfile::tempdir().unwrap(),
            identity,
            port: 0,
            running: None,
        };
        relay.restart();
        relay
    }

    /// Starts it again, on the same port and store.
    pub fn restart(&mut self) {
        let sockets = Sockets::bind(&[([127, 0, 0, 1], self.port).into()]).unwrap();
        self.port = sockets.udp[0].local_addr().unwrap().port();
        let options = Options {
            floor_bytes: 0,
            ..Options::default()
        };
        let (store, _) = Segments::open(self.dir.path(), options).unwrap();
        self.running = Some(serve(sockets, store, &self.identity, &Serving::default()).unwrap());
    }

    /// Stops it cleanly.
    pub async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop().await.unwrap();
        }
    }

    /// Its link.
    pub fn link(&self) -> RelayLink {
        self.running.as_ref().unwrap().link().clone()
    }
}

/// A person with a vault in a folder of their own.
pub struct Person {
    /// The folder.
    pub dir: TempDir,
    /// The open vault.
    pub client: Client,
}

impl Person {
    /// A new vault.
    pub async fn new(name: &str, relay: Option<&Relay>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let profile = NewProfile {
            name: name.into(),
            relay: relay.map(Relay::link),
        };
        let client = Client::create(&home(&dir), PASSPHRASE, Cost::Floor, profile)
            .await
            .unwrap();
        Self { dir, client }
    }

    /// Closes the vault and opens it again, as another command would.
    pub async fn reopen(self) -> Self {
        let Self { dir, client } = self;
        drop(client);
        let client = Client::open(&home(&dir), PASSPHRASE).await.unwrap();
        Self { dir, client }
    }

    /// An invite that is good for many.
    pub async fn invite(&self) -> Invite {
        let new = NewInvite {
            uses: Uses::Many,
            label: None,
            days: 30,
            apart: false,
        };
        self.client.invite(new).await.unwrap().invite.parse().unwrap()
    }

    /// The only case of this person.
    pub fn case(&self) -> String {
        let cases = self.client.cases().unwrap();
        assert_eq!(cases.len(), 1);
        cases.into_iter().next().unwrap().case
    }

    /// The texts of the only case, in order.
    pub fn texts(&self) -> Vec<String> {
        let letters = self.client.letters(&self.case(), martlet::Which::All).unwrap();
        letters.into_iter().filter_map(|letter| letter.text).collect()
    }
}

fn home(dir: &TempDir) -> std::path::PathBuf {
    dir.path().join("home")
}

/// Writes a file of so many bytes that do not repeat.
pub fn write_file(path: &Path, size: usize) {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let bytes: Vec<u8> = (0..size)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        })
        .collect();
    std::fs::write(path, bytes).unwrap();
}
