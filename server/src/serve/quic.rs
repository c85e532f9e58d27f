//! QUIC: the endpoint, its bounds, and the acceptance of connections.

use std::{
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use martlet_proto::limits::{IDLE_SECS_MAX, STREAMS_MAX};
use quinn::{Endpoint, EndpointConfig, IdleTimeout, ServerConfig, TokioRuntime, TransportConfig, VarInt};
use tokio::sync::mpsc;

use super::{ServeError, session, turns::Job};
use crate::{
    identity::{Identity, IdentityError},
    relay::Peer,
};

/// The code with which a relay that stops closes its connections.
pub(super) const GOING_AWAY: VarInt = VarInt::from_u32(1);
/// Handshakes under way beyond which newcomers must show their address first.
const HANDSHAKES_FREE: usize = 256;

/// What quinn leaves open, closed.
fn transport() -> Result<TransportConfig, IdentityError> {
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
        .datagram_receive_buffer_size(None);
    Ok(transport)
}

pub(super) fn endpoint(socket: UdpSocket, identity: &Identity) -> Result<Endpoint, ServeError> {
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(identity.tls()?)
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

pub(super) async fn accept(
    endpoint: Endpoint,
    jobs: mpsc::Sender<Job>,
    connections: Arc<AtomicU64>,
    peers: Arc<AtomicU64>,
    connections_max: u64,
) {
    let mut sessions = tokio::task::JoinSet::new();
    while let Some(incoming) = endpoint.accept().await {
        while sessions.try_join_next().is_some() {}
        if connections.load(Ordering::Relaxed) >= connections_max {
            incoming.refuse();
            continue;
        }
        if sessions.len() > HANDSHAKES_FREE && !incoming.remote_address_validated() {
            let _ = incoming.retry();
            continue;
        }
        let peer = Peer(peers.fetch_add(1, Ordering::Relaxed));
        let (jobs, connections) = (jobs.clone(), Arc::clone(&connections));
        sessions.spawn(async move {
            let shaken = tokio::time::timeout(Duration::from_secs(10), incoming).await;
            let Ok(Ok(connection)) = shaken else { return };
            connections.fetch_add(1, Ordering::Relaxed);
            session::run(connection, peer, jobs).await;
            connections.fetch_sub(1, Ordering::Relaxed);
        });
    }
}
