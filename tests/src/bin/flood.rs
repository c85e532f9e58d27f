//! Somebody who opens connections to a relay as fast as it lets them, from one address, and holds them:
//! `flood FROM TO COUNT`. Says in JSON how many it got and how many it did not; with `--hold` it then waits to be ended.
//! It is for relays of one's own, on this machine.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    reason = "a tool for tests fails by panicking"
)]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use martlet_proto::frame::ALPN;
use quinn::{ClientConfig, Connection, Endpoint};
use rustls::{
    DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::task::JoinSet;

/// Attempts at a time.
const AT_ONCE: usize = 64;

/// Whoever floods does not care who answers.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 only".into()))
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn config() -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    ClientConfig::new(Arc::new(crypto))
}

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let from: SocketAddr = args[0].parse().unwrap();
    let to: SocketAddr = args[1].parse().unwrap();
    assert!(
        to.ip().is_loopback() || std::env::var_os("FLOOD_OWN_NETWORK").is_some(),
        "only a relay of this machine"
    );
    let count: usize = args[2].parse().unwrap();
    let mut endpoint = Endpoint::client(from).unwrap();
    endpoint.set_default_client_config(config());
    let (mut attempts, mut held, mut refused) = (JoinSet::new(), Vec::<Connection>::new(), 0u32);
    let mut begun = 0;
    while begun < count || !attempts.is_empty() {
        while begun < count && attempts.len() < AT_ONCE {
            let connecting = endpoint.connect(to, "flood").unwrap();
            attempts.spawn(async move { tokio::time::timeout(Duration::from_secs(5), connecting).await });
            begun += 1;
        }
        match attempts.join_next().await {
            Some(Ok(Ok(Ok(connection)))) => held.push(connection),
            Some(_) => refused += 1,
            None => {}
        }
    }
    println!("{{\"held\":{},\"refused\":{refused}}}", held.len());
    if args.get(3).is_some_and(|arg| arg == "--hold") {
        tokio::time::sleep(Duration::from_secs(120)).await;
    }
}
