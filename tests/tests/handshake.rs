//! The handshake: hybrid post-quantum key exchange on both sides, and frames that break a rule.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::sync::Arc;

use martlet::link::{Connect, LinkError, quic::Quic, tcp::Tcp};
use martlet_proto::{
    Day,
    frame::{ALPN, Request, ToClient, ToRelay, VERSION},
    link::{Door, Pin, RelayAddress},
};
use martlet_tests::Relay;
use rustls::{
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::io::AsyncReadExt;

fn provider(group: &'static dyn rustls::crypto::SupportedKxGroup) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        kx_groups: vec![group],
        ..aws_lc_rs::default_provider()
    })
}

/// Takes any certificate: these tests are about what comes before and after it.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 only".into()))
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

async fn connect(relay: &Relay, group: &'static dyn rustls::crypto::SupportedKxGroup) -> quinn::Connection {
    let provider = provider(group);
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = relay.link().relay.addresses[0].to_string().parse().unwrap();
    endpoint
        .connect_with(quinn::ClientConfig::new(Arc::new(crypto)), address, "relay")
        .unwrap()
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_negotiates_the_hybrid_with_one_who_offers_nothing_else() {
    let relay = Relay::start();
    connect(&relay, aws_lc_rs::kx_group::X25519MLKEM768)
        .await
        .close(0u32.into(), b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn our_link_negotiates_the_hybrid_with_a_relay_that_takes_nothing_else() {
    let made = rcgen::generate_simple_self_signed(Vec::new()).unwrap();
    let certificate = made.cert.der().clone();
    let pin = Pin::of(
        &rustls::server::ParsedCertificate::try_from(&certificate)
            .unwrap()
            .subject_public_key_info(),
    );
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider(aws_lc_rs::kx_group::X25519MLKEM768))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
    let server = quinn::Endpoint::server(
        quinn::ServerConfig::with_crypto(Arc::new(crypto)),
        "127.0.0.1:0".parse().unwrap(),
    )
    .unwrap();
    let addresses = vec![server.local_addr().unwrap().into()];
    let accepted = tokio::spawn(async move {
        let connection = server.accept().await.unwrap().await.unwrap();
        let (mut send, _receive) = connection.accept_bi().await.unwrap();
        let mut hello = Vec::new();
        let (version, day) = (VERSION, Day(20_000));
        ToClient::Hello { version, day }.encode(Request(0), &mut hello);
        send.write_all(&hello).await.unwrap();
        connection.closed().await;
    });
    let right = Quic::new()
        .connect(&RelayAddress {
            addresses: addresses.clone(),
            pin,
            door: Door::new([4; 8]),
        })
        .await;
    drop(right.unwrap());
    accepted.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tcp_our_link_says_nothing_without_the_hybrid() {
    let made = rcgen::generate_simple_self_signed(Vec::new()).unwrap();
    let certificate = made.cert.der().clone();
    let parsed = rustls::server::ParsedCertificate::try_from(&certificate).unwrap();
    let pin = Pin::of(&parsed.subject_public_key_info());
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider(aws_lc_rs::kx_group::X25519))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addresses = vec![listener.local_addr().unwrap().into()];
    let heard = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let mut stream = acceptor.accept(stream).await.unwrap();
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said).await;
        said
    });
    let relay = RelayAddress {
        addresses,
        pin,
        door: Door::new([4; 8]),
    };
    let refused = Tcp::new().connect(&relay).await.err();
    assert_eq!(refused, Some(LinkError::Unreachable));
    assert!(heard.await.unwrap().is_empty(), "the door is not told to it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_with_another_key_is_refused() {
    let relay = Relay::start();
    let address = RelayAddress {
        pin: Pin::new([7; 32]),
        ..relay.link().relay
    };
    assert_eq!(
        Quic::new().connect(&address).await.err(),
        Some(LinkError::WrongPin)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_breaks_a_rule_ends_its_connection_and_no_other() {
    let relay = Relay::start();
    let other = connect(&relay, aws_lc_rs::kx_group::X25519MLKEM768).await;
    let mut hello = Vec::new();
    ToRelay::Hello { version: VERSION }.encode(Request(0), &mut hello);
    let mut wrong_version = Vec::new();
    ToRelay::Hello { version: 99 }.encode(Request(0), &mut wrong_version);
    let cases: [(Vec<u8>, u32); 5] = [
        ([hello.clone(), vec![0xff; 8]].concat(), 0x10),
        ([hello.clone(), vec![0, 0, 0, 5, 0x77, 0, 0, 0, 1]].concat(), 0x11),
        (
            [hello.clone(), vec![0, 0, 0, 6, 0x05, 0, 0, 0, 1, 9]].concat(),
            0x12,
        ),
        (wrong_version, 0x13),
        (vec![0, 0, 0, 5, 0x09, 0, 0, 0, 1], 0x14),
    ];
    for (bytes, code) in cases {
        let connection = connect(&relay, aws_lc_rs::kx_group::X25519MLKEM768).await;
        let (mut send, _receive) = connection.open_bi().await.unwrap();
        send.write_all(&bytes).await.unwrap();
        match connection.closed().await {
            quinn::ConnectionError::ApplicationClosed(closed) => {
                assert_eq!(closed.error_code, quinn::VarInt::from_u32(code));
                assert!(!closed.reason.is_empty());
            }
            closed => panic!("{closed:?}"),
        }
    }
    let (mut send, mut receive) = other.open_bi().await.unwrap();
    send.write_all(&hello).await.unwrap();
    let mut answer = [0; 5];
    receive.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer[4], 0x81, "the other connection feels nothing");
}
