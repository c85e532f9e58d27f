//! Links over QUIC: TLS 1.3 with a hybrid post-quantum key exchange, and the relay's key pinned.

mod pin;
mod stream;

use std::{
    future::Future,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use martlet_proto::{
    frame::ALPN,
    limits::{ATTEMPT_GAP_MS, CONNECT_SECS_MAX, IDLE_SECS_MAX},
    link::{Address, Pin, RelayAddress},
};
use quinn::{ClientConfig, Endpoint, IdleTimeout, TransportConfig, VarInt};
use tokio::task::JoinSet;

use self::stream::Stream;
use super::{BoxFuture, Connect, Link, LinkError};

/// How long all addresses of a relay may take together.
const CONNECT_WAIT: Duration = Duration::from_secs(CONNECT_SECS_MAX);
/// How long one address has before the next is tried beside it.
const ATTEMPT_GAP: Duration = Duration::from_millis(ATTEMPT_GAP_MS);
/// How often an idle connection shows that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(25);

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

    /// All that a name or number stands for, one beside the other.
    async fn try_address(self, address: Address, pin: Pin) -> Result<Arc<dyn Link>, LinkError> {
        let (name, candidates) = resolve(&address).await?;
        let sni = matches!(address, Address::Host(..));
        let attempts = candidates
            .into_iter()
            .map(|candidate| self.clone().attempt(candidate, name.clone(), pin, sni));
        race(attempts, CONNECT_WAIT).await
    }

    async fn attempt(
        self,
        candidate: SocketAddr,
        name: String,
        pin: Pin,
        sni: bool,
    ) -> Result<Arc<dyn Link>, LinkError> {
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
        let attempts = relay
            .addresses
            .iter()
            .map(|address| self.clone().try_address(address.clone(), relay.pin));
        Box::pin(race(attempts, CONNECT_WAIT))
    }

    fn connect_apart<'a>(
        &'a self,
        relay: &'a RelayAddress,
    ) -> BoxFuture<'a, Result<Arc<dyn Link>, LinkError>> {
        Box::pin(async move { Self::new().connect(relay).await })
    }
}

/// The first attempt that succeeds. The next begins when one has failed or [`ATTEMPT_GAP`] has passed (RFC 8305); when
/// one has succeeded or the time is over, the others are dropped.
async fn race<T, A>(mut attempts: impl Iterator<Item = A>, wait: Duration) -> Result<T, LinkError>
where
    T: Send + 'static,
    A: Future<Output = Result<T, LinkError>> + Send + 'static,
{
    let mut failed = LinkError::Unreachable;
    let mut running = JoinSet::new();
    let mut over = std::pin::pin!(tokio::time::sleep(wait));
    loop {
        match attempts.next() {
            Some(attempt) => drop(running.spawn(attempt)),
            None if running.is_empty() => return Err(failed),
            None => {}
        }
        let ended = tokio::select! {
            () = &mut over => return Err(failed),
            ended = tokio::time::timeout(ATTEMPT_GAP, running.join_next()) => ended,
        };
        match ended {
            Ok(Some(Ok(Ok(made)))) => return Ok(made),
            // That somebody is in between must not be hidden by an address that is down.
            Ok(Some(Ok(Err(error)))) if failed != LinkError::WrongPin => failed = error,
            Ok(Some(Ok(Err(_)) | Err(_)) | None) | Err(_) => {}
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    type Attempt = BoxFuture<'static, Result<u8, LinkError>>;

    fn silent() -> Attempt {
        Box::pin(std::future::pending())
    }

    fn ended(how: Result<u8, LinkError>) -> Attempt {
        Box::pin(std::future::ready(how))
    }

    /// Longer than any test may last: what needs it to be over never ends.
    const NEVER: Duration = Duration::from_secs(1 << 20);

    #[tokio::test]
    async fn a_silent_address_does_not_keep_the_others_waiting() {
        let attempts = [
            silent(),
            ended(Err(LinkError::Unreachable)),
            silent(),
            ended(Ok(4)),
        ];
        assert_eq!(race(attempts.into_iter(), NEVER).await, Ok(4));
    }

    #[tokio::test]
    async fn all_addresses_together_have_one_deadline() {
        let attempts = [ended(Err(LinkError::WrongPin)), silent(), silent()];
        let failed = race(attempts.into_iter(), ATTEMPT_GAP).await;
        assert_eq!(failed, Err(LinkError::WrongPin));
    }

    #[tokio::test]
    async fn a_wrong_key_is_told_though_other_addresses_are_down() {
        let attempts = [
            ended(Err(LinkError::WrongPin)),
            ended(Err(LinkError::Unreachable)),
        ];
        assert_eq!(race(attempts.into_iter(), NEVER).await, Err(LinkError::WrongPin));
        assert_eq!(
            race([ended(Err(LinkError::Unreachable))].into_iter(), NEVER).await,
            Err(LinkError::Unreachable)
        );
    }
}
