//! Links over QUIC: TLS 1.3 with a hybrid post-quantum key exchange, and the relay's key pinned.

mod pin;
mod stream;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use martlet_proto::{
    frame::ALPN,
    limits::IDLE_SECS_MAX,
    link::{Address, Pin, RelayAddress},
};
use quinn::{ClientConfig, Endpoint, IdleTimeout, TransportConfig, VarInt};

use self::stream::Stream;
use super::{BoxFuture, Connect, Link, LinkError};

/// How long one address may take.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);
/// How often an idle connection shows that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(25);

/// Makes links over QUIC.
#[derive(Default)]
pub struct Quic {
    endpoints: Mutex<Vec<(bool, Endpoint)>>,
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

    async fn try_address(&self, address: &Address, pin: Pin) -> Result<Arc<dyn Link>, LinkError> {
        let (name, candidates) = resolve(address).await?;
        let mut failed = LinkError::Unreachable;
        for candidate in candidates {
            let endpoint = self.endpoint(candidate.is_ipv6())?;
            let (config, verdict) = config(pin, matches!(address, Address::Host(..)))?;
            let connecting = endpoint
                .connect_with(config, candidate, &name)
                .map_err(|_| LinkError::Unreachable)?;
            match tokio::time::timeout(HANDSHAKE_WAIT, connecting).await {
                Ok(Ok(connection)) => return Ok(Arc::new(Stream::open(connection).await?)),
                Ok(Err(_)) if verdict.was_wrong() => return Err(LinkError::WrongPin),
                Ok(Err(_)) | Err(_) => failed = LinkError::Unreachable,
            }
        }
        Err(failed)
    }
}

impl Connect for Quic {
    fn connect<'a>(&'a self, relay: &'a RelayAddress) -> BoxFuture<'a, Result<Arc<dyn Link>, LinkError>> {
        Box::pin(async move {
            let mut failed = LinkError::Unreachable;
            for address in &relay.addresses {
                match self.try_address(address, relay.pin).await {
                    Ok(link) => return Ok(link),
                    // That somebody is in between must not be hidden by an address that is down.
                    Err(LinkError::WrongPin) => failed = LinkError::WrongPin,
                    Err(error) if failed != LinkError::WrongPin => failed = error,
                    Err(_) => {}
                }
            }
            Err(failed)
        })
    }
}

async fn resolve(address: &Address) -> Result<(String, Vec<SocketAddr>), LinkError> {
    Ok(match address {
        Address::V4(ip, port) => (ip.to_string(), vec![SocketAddr::from((*ip, *port))]),
        Address::V6(ip, port) => (ip.to_string(), vec![SocketAddr::from((*ip, *port))]),
        Address::Host(host, port) => {
            let found = tokio::net::lookup_host((host.as_str(), *port))
                .await
                .map_err(|_| LinkError::Unreachable)?;
            (host.clone(), found.collect())
        }
    })
}

fn config(pin: Pin, sni: bool) -> Result<(ClientConfig, pin::Verdict), LinkError> {
    let broken = LinkError::Protocol("this program's TLS cannot be set up");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let (verifier, verdict) = pin::verifier(pin, Arc::clone(&provider));
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|_| broken)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.enable_sni = sni;
    tls.enable_early_data = false;
    tls.resumption = rustls::client::Resumption::disabled();
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).map_err(|_| broken)?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(IdleTimeout::try_from(Duration::from_secs(IDLE_SECS_MAX)).ok())
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(4 << 20))
        .receive_window(VarInt::from_u32(8 << 20))
        .send_window(8 << 20)
        .datagram_receive_buffer_size(None);
    config.transport_config(Arc::new(transport));
    Ok((config, verdict))
}
