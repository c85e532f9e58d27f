//! Links over QUIC: TLS 1.3 with a hybrid post-quantum key exchange, and the relay's key pinned.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use martlet_proto::{
    frame::ALPN,
    limits::{ATTEMPT_GAP_MS, CONNECT_SECS_MAX, DATAGRAM_STEP_BYTES, IDLE_SECS_MAX, KEEP_ALIVE_SECS},
    link::{Address, Pin, RelayAddress},
};
use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, IdleTimeout, MtuDiscoveryConfig, RecvStream,
    SendStream, TransportConfig, VarInt,
};

use super::{
    BoxFuture, Connect, Link, LinkError,
    carrier::Carrier,
    pin,
    race::{race, resolve},
    roads::Road,
    stream::Stream,
};

/// How long all addresses of a relay may take together.
const CONNECT_WAIT: Duration = Duration::from_secs(CONNECT_SECS_MAX);
/// How long one address has before the next is tried beside it.
const ATTEMPT_GAP: Duration = Duration::from_millis(ATTEMPT_GAP_MS);
/// How often an idle connection shows that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(KEEP_ALIVE_SECS);
/// The code with which a relay that speaks another version ends a connection. SPEC.md 4.5.
const OTHER_VERSION: VarInt = VarInt::from_u32(0x13);

/// Makes links over QUIC.
#[derive(Clone, Default)]
pub struct Quic {
    endpoints: Arc<Mutex<Vec<(bool, Endpoint)>>>,
}

impl Quic {
    /// Without a socket until it is needed.
    pub fn new() -> Self {
        Self::default()
    }

    /// The socket for an address family.
    fn endpoint(&self, v6: bool) -> Result<Endpoint, LinkError> {
        let mut endpoints = self.endpoints.lock().map_err(|_| LinkError::Unreachable)?;
        if let Some((_, endpoint)) = endpoints.iter().find(|(family, _)| *family == v6) {
            return Ok(endpoint.clone());
        }
        let any = if v6 {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        } else {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        };
        let endpoint = Endpoint::client(SocketAddr::new(any, 0)).map_err(|_| LinkError::Unreachable)?;
        endpoints.push((v6, endpoint.clone()));
        Ok(endpoint)
    }

    /// The first of a relay's addresses at which it says hello.
    pub(super) async fn reach(&self, relay: &RelayAddress) -> Result<Arc<dyn Road>, LinkError> {
        let attempts = relay
            .addresses
            .iter()
            .map(|address| self.clone().try_address(address.clone(), relay.pin));
        race(attempts, ATTEMPT_GAP, CONNECT_WAIT).await
    }

    /// All that a name or number stands for, one beside the other.
    async fn try_address(self, address: Address, pin: Pin) -> Result<Arc<dyn Road>, LinkError> {
        let (name, candidates) = resolve(&address).await?;
        let sni = matches!(address, Address::Host(..));
        let attempts = candidates
            .into_iter()
            .map(|candidate| self.clone().attempt(candidate, name.clone(), pin, sni));
        race(attempts, ATTEMPT_GAP, CONNECT_WAIT).await
    }

    async fn attempt(
        self,
        candidate: SocketAddr,
        name: String,
        pin: Pin,
        sni: bool,
    ) -> Result<Arc<dyn Road>, LinkError> {
        let endpoint = self.endpoint(candidate.is_ipv6())?;
        let (config, verdict) = config(pin, sni)?;
        let connecting = endpoint
            .connect_with(config, candidate, &name)
            .map_err(|_| LinkError::Unreachable)?;
        match connecting.await {
            Ok(connection) => Ok(Arc::new(Stream::open(connection).await?)),
            Err(_) if verdict.was_wrong() => Err(LinkError::WrongPin),
            Err(_) => Err(LinkError::Unreachable),
        }
    }
}

impl Connect for Quic {
    fn connect<'a>(&'a self, relay: &'a RelayAddress) -> BoxFuture<'a, Result<Arc<dyn Link>, LinkError>> {
        Box::pin(async move { Ok(self.reach(relay).await? as Arc<dyn Link>) })
    }

    fn connect_apart<'a>(
        &'a self,
        relay: &'a RelayAddress,
    ) -> BoxFuture<'a, Result<Arc<dyn Link>, LinkError>> {
        Box::pin(async move { Self::new().connect(relay).await })
    }
}

fn config(pin: Pin, sni: bool) -> Result<(ClientConfig, pin::Verdict), LinkError> {
    let broken = LinkError::Protocol("this program's TLS cannot be set up");
    let (tls, verdict) = pin::config(pin, sni, &[ALPN]).ok_or(broken)?;
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).map_err(|_| broken)?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    let mut sizes = MtuDiscoveryConfig::default();
    sizes.minimum_change(DATAGRAM_STEP_BYTES);
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(IdleTimeout::try_from(Duration::from_secs(IDLE_SECS_MAX)).ok())
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(4 << 20))
        .receive_window(VarInt::from_u32(8 << 20))
        .send_window(8 << 20)
        .mtu_discovery_config(Some(sizes))
        .datagram_receive_buffer_size(None);
    config.transport_config(Arc::new(transport));
    Ok((config, verdict))
}

impl Carrier for Connection {
    type Send = SendStream;
    type Receive = RecvStream;

    async fn open(&self) -> Result<(SendStream, RecvStream), LinkError> {
        self.open_bi().await.map_err(|_| LinkError::Unreachable)
    }

    fn close(&self, code: u32) {
        Connection::close(self, VarInt::from_u32(code), b"");
    }

    fn over(&self) -> Option<LinkError> {
        Some(match self.close_reason()? {
            ConnectionError::ApplicationClosed(closed) if closed.error_code == OTHER_VERSION => {
                LinkError::Protocol("it speaks another version; update this program")
            }
            _ => LinkError::Unreachable,
        })
    }

    async fn closed(&self) {
        Connection::closed(self).await;
    }

    fn heard(&self) -> u64 {
        self.stats().udp_rx.datagrams
    }

    fn path(&self) -> &'static str {
        "quic"
    }
}
