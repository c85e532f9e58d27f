//! `martletd.toml`: what an operator decides.

use std::{net::SocketAddr, path::Path};

use martlet_proto::link::{Address, ArmorError};
use serde::{Deserialize, Serialize};

/// An operator's decisions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Addresses and ports to listen on, with UDP and with TCP.
    pub listen: Vec<SocketAddr>,
    /// Whether to listen with TCP, too.
    #[serde(default = "tcp")]
    pub tcp: bool,
    /// Addresses that clients are told, `HOST:PORT`; empty for those that are listened on.
    #[serde(default)]
    pub public: Vec<String>,
    /// Connections at a time.
    #[serde(default = "connections_max")]
    pub connections_max: u64,
    /// Free MiB of the disk below which nothing new is taken.
    #[serde(default = "disk_floor_mib")]
    pub disk_floor_mib: u64,
}

fn tcp() -> bool {
    true
}

fn connections_max() -> u64 {
    10_000
}

fn disk_floor_mib() -> u64 {
    256
}

/// Why a config cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read or written.
    #[error("martletd.toml cannot be used")]
    File(#[source] std::io::Error),
    /// The file says something that this program does not know, or wrongly.
    #[error("martletd.toml: {0}")]
    Malformed(#[source] Box<toml::de::Error>),
    /// An address is none.
    #[error("martletd.toml: public: {0}")]
    Public(#[source] ArmorError),
    /// There is nothing to listen on.
    #[error("martletd.toml: listen names no address")]
    NoListen,
}

impl Config {
    /// What a new relay listens on and tells.
    pub fn new(listen: Vec<SocketAddr>, public: Vec<String>) -> Self {
        Self {
            listen,
            tcp: tcp(),
            public,
            connections_max: connections_max(),
            disk_floor_mib: disk_floor_mib(),
        }
    }

    /// Parses a file's text.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] saying which line.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| ConfigError::Malformed(Box::new(error)))?;
        if config.listen.is_empty() {
            return Err(ConfigError::NoListen);
        }
        config.addresses()?;
        Ok(config)
    }

    /// The config in a relay's folder.
    ///
    /// # Errors
    ///
    /// [`ConfigError`].
    pub fn load(dir: &Path) -> Result<Self, ConfigError> {
        Self::parse(&std::fs::read_to_string(dir.join("martletd.toml")).map_err(ConfigError::File)?)
    }

    /// The file's text.
    pub fn to_text(&self) -> String {
        let quoted = |items: Vec<String>| {
            items
                .iter()
                .map(|item| format!("{item:?}"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let listen = quoted(self.listen.iter().map(ToString::to_string).collect());
        format!(
            "# Addresses and ports to listen on, with UDP and with TCP.\nlisten = [{listen}]\n\n\
             # Whether to listen with TCP, too: for those whose network passes no UDP.\ntcp = {}\n\n\
             # What clients are told, \"HOST:PORT\". Empty: the addresses above.\npublic = [{}]\n\n\
             # Connections at a time.\nconnections_max = {}\n\n\
             # Free MiB of the disk below which nothing new is taken; reading and trimming go on.\n\
             disk_floor_mib = {}\n",
            self.tcp,
            quoted(self.public.clone()),
            self.connections_max,
            self.disk_floor_mib
        )
    }

    /// The addresses that clients are told.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Public`].
    pub fn addresses(&self) -> Result<Vec<Address>, ConfigError> {
        self.public
            .iter()
            .map(|text| text.parse().map_err(ConfigError::Public))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_parses_and_unknown_keys_do_not() {
        let sample = include_str!("../../deploy/martletd.toml");
        assert!(Config::parse(sample).is_ok());
        let config = Config::new(
            vec!["127.0.0.1:0".parse().unwrap()],
            vec!["relay.example:443".into()],
        );
        assert_eq!(Config::parse(&config.to_text()).unwrap(), config);
        assert!(matches!(
            Config::parse(&format!("{sample}\nsurprise = 1\n")),
            Err(ConfigError::Malformed(_))
        ));
        assert!(matches!(Config::parse("listen = []"), Err(ConfigError::NoListen)));
    }
}
