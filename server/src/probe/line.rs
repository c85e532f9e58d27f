//! One stream of frames to a relay, one question at a time: no more than a probe needs.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use martlet_proto::{
    Call, Grant, Refusal,
    call::Verb,
    frame::{self, ALPN, LENGTH_BYTES, Request, ToClient, ToRelay, VERSION},
    link::{Address, RelayAddress},
};
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, VarInt};

use super::pin;

/// How long one address may take.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
const CLOSED: VarInt = VarInt::from_u32(0);

/// Why a probe did not get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Trouble {
    #[error("the relay cannot be reached")]
    Unreachable,
    #[error("what answers there does not hold the relay's key")]
    WrongKey,
    #[error("the relay refused: {0}")]
    Refused(#[from] Refusal),
    #[error("what was read is not what was written")]
    Differs,
    #[error("what answers there breaks the protocol")]
    Broken,
    #[error("the connection ended")]
    Cut,
    #[error("this program cannot set up its part")]
    Here,
}

/// A stream to a relay.
pub(crate) struct Line {
    endpoint: Endpoint,
    connection: Connection,
    send: SendStream,
    receive: RecvStream,
    asked: u32,
}

impl Line {
    /// Connects to the first of a relay's addresses that answers, and greets it.
    ///
    /// # Cancel safety
    ///
    /// Nothing is left behind.
    pub(crate) async fn open(relay: &RelayAddress) -> Result<Self, Trouble> {
        let mut failed = Trouble::Unreachable;
        for address in &relay.addresses {
            let (name, candidates) = resolve(address).await;
            for candidate in candidates {
                let connecting = connect(relay, candidate, &name);
                match tokio::time::timeout(CONNECT_WAIT, connecting).await {
                    Ok(Ok(line)) => return line.greeted().await,
                    // That somebody is in between must not be hidden by an address that is down.
                    Ok(Err(trouble)) if failed != Trouble::WrongKey => failed = trouble,
                    Ok(Err(_)) | Err(_) => {}
                }
            }
        }
        Err(failed)
    }

    async fn greeted(mut self) -> Result<Self, Trouble> {
        match self.exchange(ToRelay::Hello { version: VERSION }).await? {
            ToClient::Hello { version: VERSION, .. } => Ok(self),
            _ => Err(Trouble::Broken),
        }
    }

    /// Asks one thing.
    ///
    /// # Cancel safety
    ///
    /// The relay may have done it; the line is of no more use.
    pub(crate) async fn ask<V: Verb>(
        &mut self,
        grant: &Grant<V::Right>,
        verb: V,
    ) -> Result<V::Answer, Trouble> {
        match self.exchange(ToRelay::Call(Call::new(grant, verb))).await? {
            ToClient::Answer(answer) => V::Answer::try_from(answer).map_err(|_| Trouble::Broken),
            ToClient::Refused(refusal) => Err(refusal.into()),
            _ => Err(Trouble::Broken),
        }
    }

    async fn exchange(&mut self, said: ToRelay) -> Result<ToClient, Trouble> {
        let request = Request(self.asked);
        self.asked = self.asked.saturating_add(1);
        let mut bytes = Vec::new();
        said.encode(request, &mut bytes);
        self.send.write_all(&bytes).await.map_err(|_| Trouble::Cut)?;
        let mut field = [0; LENGTH_BYTES];
        self.receive
            .read_exact(&mut field)
            .await
            .map_err(|_| Trouble::Cut)?;
        let mut heard = vec![0; frame::length(field).map_err(|_| Trouble::Broken)?];
        self.receive
            .read_exact(&mut heard)
            .await
            .map_err(|_| Trouble::Cut)?;
        match ToClient::decode(&heard) {
            Ok((to, heard)) if to == request => Ok(heard),
            Ok(_) | Err(_) => Err(Trouble::Broken),
        }
    }

    /// Ends the connection.
    ///
    /// # Cancel safety
    ///
    /// The relay may not hear of the end.
    pub(crate) async fn close(self) {
        self.connection.close(CLOSED, b"");
        let _ = tokio::time::timeout(Duration::from_secs(1), self.endpoint.wait_idle()).await;
    }
}

async fn resolve(address: &Address) -> (String, Vec<SocketAddr>) {
    match address {
        Address::V4(ip, port) => (ip.to_string(), vec![SocketAddr::from((*ip, *port))]),
        Address::V6(ip, port) => (ip.to_string(), vec![SocketAddr::from((*ip, *port))]),
        Address::Host(host, port) => {
            let found = tokio::net::lookup_host((host.as_str(), *port)).await;
            (host.clone(), found.map(Iterator::collect).unwrap_or_default())
        }
    }
}

async fn connect(relay: &RelayAddress, to: SocketAddr, name: &str) -> Result<Line, Trouble> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let (verifier, verdict) = pin::verifier(relay.pin, Arc::clone(&provider));
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|_| Trouble::Here)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).map_err(|_| Trouble::Here)?;
    let any = match to {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let endpoint = Endpoint::client(SocketAddr::new(any, 0)).map_err(|_| Trouble::Here)?;
    let connecting = endpoint
        .connect_with(ClientConfig::new(Arc::new(crypto)), to, name)
        .map_err(|_| Trouble::Unreachable)?;
    let connection = connecting.await.map_err(|_| match verdict.was_wrong() {
        true => Trouble::WrongKey,
        false => Trouble::Unreachable,
    })?;
    let (send, receive) = connection.open_bi().await.map_err(|_| Trouble::Cut)?;
    Ok(Line {
        endpoint,
        connection,
        send,
        receive,
        asked: 0,
    })
}
