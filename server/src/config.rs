//! `martletd.toml`: what an operator decides.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

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
    /// Where metrics are told; nowhere without it.
    #[serde(default)]
    pub metrics: Option<MetricsAt>,
    /// Whether the relay confines itself before it serves, and does not start where it cannot.
    #[serde(default)]
    pub sandbox: Sandbox,
}

/// Whether the relay confines itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sandbox {
    /// It does, or does not start.
    #[default]
    On,
    /// It does not.
    Off,
}

/// Where metrics are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum MetricsAt {
    /// A local socket; a path that is not absolute begins in the relay's folder.
    Socket(PathBuf),
    /// A loopback address and TCP port: every user of the machine can ask there.
    Loopback(SocketAddr),
}

/// Metrics are to be told where others than this machine could ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("metrics: neither a path nor a loopback address with a port")]
pub struct NotLocal;

impl TryFrom<String> for MetricsAt {
    type Error = NotLocal;

    fn try_from(text: String) -> Result<Self, NotLocal> {
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(Self::Loopback(address)),
            Ok(_) => Err(NotLocal),
            // What looks like an address that was mistyped does not become a file.
            Err(_) if text.is_empty() || text.contains(':') => Err(NotLocal),
            Err(_) => Ok(Self::Socket(PathBuf::from(text))),
        }
    }
}

impl From<MetricsAt> for String {
    fn from(at: MetricsAt) -> Self {
        match at {
            MetricsAt::Socket(path) => path.to_string_lossy().into_owned(),
            MetricsAt::Loopback(address) => address.to_string(),
        }
    }
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
            metrics: None,
            sandbox: Sandbox::On,
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
        let metrics = match &self.metrics {
            Some(at) => format!("metrics = {:?}", String::from(at.clone())),
            None => "# metrics = \"metrics.sock\"".to_string(),
        };
        let sandbox = match self.sandbox {
            Sandbox::On => "on",
            Sandbox::Off => "off",
        };
        let listen = quoted(self.listen.iter().map(ToString::to_string).collect());
        format!(
            "# Addresses and ports to listen on, with UDP and with TCP.\nlisten = [{listen}]\n\n\
             # Whether to listen with TCP, too: for those whose network passes no UDP.\ntcp = {}\n\n\
             # What clients are told, \"HOST:PORT\". Empty: the addresses above.\npublic = [{}]\n\n\
             # Connections at a time.\nconnections_max = {}\n\n\
             # Free MiB of the disk below which nothing new is taken; reading and trimming go on.\n\
             disk_floor_mib = {}\n\n\
             # Where monitoring may ask for metrics: a local socket, or a loopback address as \"127.0.0.1:9464\".\n\
             # Nowhere, as long as this line is a comment.\n{metrics}\n\n\
             # Whether the relay shuts itself off from other files, programs and machines before it serves.\n\
             # \"on\": where the system does not enforce it, the relay does not start.\nsandbox = \"{sandbox}\"\n",
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
        let told = Config {
            metrics: Some(MetricsAt::Socket("/run/martlet/metrics.sock".into())),
            sandbox: Sandbox::Off,
            ..config
        };
        assert_eq!(Config::parse(&told.to_text()).unwrap(), told);
        assert!(matches!(
            Config::parse(&format!("{sample}\nsurprise = 1\n")),
            Err(ConfigError::Malformed(_))
        ));
        let told =
            |at: &str| Config::parse(&format!("{sample}\nmetrics = \"{at}\"\n")).map(|config| config.metrics);
        assert_eq!(
            told("127.0.0.1:9464").unwrap(),
            Some(MetricsAt::Loopback("127.0.0.1:9464".parse().unwrap()))
        );
        assert_eq!(
            told("metrics.sock").unwrap(),
            Some(MetricsAt::Socket("metrics.sock".into()))
        );
        for open in [
            "0.0.0.0:9464",
            "192.0.2.1:9464",
            "[::]:9464",
            "localhost:9464",
            "",
        ] {
            assert!(told(open).is_err(), "{open}");
        }
        assert!(matches!(Config::parse("listen = []"), Err(ConfigError::NoListen)));
    }
}
