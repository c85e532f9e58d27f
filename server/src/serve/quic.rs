//! QUIC: the endpoint, its bounds, and the acceptance of connections.

use std::{
    net::UdpSocket,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use martlet_proto::limits::{DATAGRAM_STEP_BYTES, IDLE_SECS_MAX, STREAMS_MAX};
use quinn::{
    Connection, Endpoint, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, SendStream, ServerConfig,
    TokioRuntime, TransportConfig, VarInt,
};

use super::{
    Accepting, ServeError, clock,
    session::{Carrier, Outward, Session, Stopping},
    sources::{Address, Crowd, Verdict},
    turns::Queue,
};
use crate::{
    identity::{Identity, IdentityError},
    limits::HANDSHAKE_SECS_MAX,
    relay::{Peer, Stream},
};

/// The code with which a relay that stops closes its connections.
pub(super) const GOING_AWAY: VarInt = VarInt::from_u32(1);
/// How long a handshake may take.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(HANDSHAKE_SECS_MAX);

/// What quinn leaves open, closed.
fn transport() -> Result<TransportConfig, IdentityError> {
    let mut sizes = MtuDiscoveryConfig::default();
    sizes.minimum_change(DATAGRAM_STEP_BYTES);
    let mut transport = TransportConfig::default();
    let idle =
        IdleTimeout::try_from(Duration::from_secs(IDLE_SECS_MAX)).map_err(|_| IdentityError::Damaged)?;
    transport
        .max_idle_timeout(Some(idle))
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(4 << 20))
        .receive_window(VarInt::from_u32(8 << 20))
        .send_window(8 << 20)
        .mtu_discovery_config(Some(sizes))
        .datagram_receive_buffer_size(None);
    Ok(transport)
}

pub(super) fn endpoint(socket: UdpSocket, identity: &Identity) -> Result<Endpoint, ServeError> {
    let crypto =
        quinn::crypto::rustls::QuicServerConfig::try_from(identity.tls(&[martlet_proto::frame::ALPN])?)
            .map_err(|_| IdentityError::Damaged)?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport()?));
    config.migration(true);
    Endpoint::new(
        EndpointConfig::default(),
        Some(config),
        socket,
        Arc::new(TokioRuntime),
    )
    .map_err(ServeError::Socket)
}

/// Accepts and serves connections until the relay stops; then ends when their last answers have been written.
pub(super) async fn accept(endpoint: Endpoint, mut with: Accepting) {
    let mut sessions = tokio::task::JoinSet::new();
    let (handshakes, began) = (Arc::new(AtomicU64::new(0)), clock());
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => incoming,
            _ = with.stopping.wait_for(|stopping| *stopping) => None,
        };
        let Some(incoming) = incoming else { break };
        while sessions.try_join_next().is_some() {}
        let address = match incoming.remote_address_validated() {
            true => Address::Shown,
            false => Address::Unshown,
        };
        let crowd = Crowd {
            shaking: handshakes.load(Ordering::Relaxed),
            connections: with.connections.load(Ordering::Relaxed),
            connections_max: with.connections_max,
        };
        let (place, verdict) = {
            let mut sources = with.sources.lock().unwrap_or_else(PoisonError::into_inner);
            let place = sources.place(incoming.remote_address().ip());
            (place, sources.come(began.elapsed(), place, address, crowd))
        };
        match verdict {
            Verdict::Welcome => {}
            Verdict::Refuse => {
                incoming.refuse();
                continue;
            }
            Verdict::Show => {
                let _ = incoming.retry();
                continue;
            }
        }
        let peer = Peer(with.peers.fetch_add(1, Ordering::Relaxed));
        let (queue, connections, handshakes) = (
            with.queue.clone(),
            Arc::clone(&with.connections),
            Arc::clone(&handshakes),
        );
        let (stopping, sources) = (with.stopping.clone(), Arc::clone(&with.sources));
        handshakes.fetch_add(1, Ordering::Relaxed);
        sessions.spawn(async move {
            let shaken = tokio::time::timeout(HANDSHAKE_WAIT, incoming).await;
            handshakes.fetch_sub(1, Ordering::Relaxed);
            let Ok(Ok(connection)) = shaken else { return };
            connections.fetch_add(1, Ordering::Relaxed);
            let sources = || sources.lock().unwrap_or_else(PoisonError::into_inner);
            sources().hold(place);
            run(connection, peer, queue, stopping).await;
            sources().release(place);
            connections.fetch_sub(1, Ordering::Relaxed);
        });
    }
    while sessions.join_next().await.is_some() {}
}

/// Serves a connection until it ends, or the relay stops and its last answers have been written.
async fn run(connection: Connection, peer: Peer, queue: Queue, mut stopping: Stopping) {
    let session = Session::new(connection.clone(), peer, queue.clone(), stopping.clone());
    let mut streams = tokio::task::JoinSet::new();
    let mut number = 0u64;
    loop {
        tokio::select! {
            accepted = connection.accept_bi() => {
                let Ok((send, receive)) = accepted else { break };
                streams.spawn(session.clone().stream(Stream(number), send, receive));
                number = number.saturating_add(1);
            }
            Some(_) = streams.join_next(), if !streams.is_empty() => {}
            _ = stopping.wait_for(|stopping| *stopping) => break,
            () = queue.ended() => break,
        }
    }
    while streams.join_next().await.is_some() {}
    connection.close(GOING_AWAY, b"the relay stops");
}

impl Carrier for Connection {
    fn close(&self, code: u32, reason: &'static str) {
        Connection::close(self, VarInt::from_u32(code), reason.as_bytes());
    }

    async fn closed(&self) {
        Connection::closed(self).await;
    }
}

impl Outward for SendStream {
    async fn arrived(&mut self) {
        let _ = self.stopped().await;
    }
}
