//! A bare client: frames over QUIC, and a look at which key exchange was used.

use std::{
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use martlet_proto::{
    Answer, Call, Refusal,
    frame::{self, Request, ToClient, ToRelay, VERSION},
};
use martlet_server::serve::Running;
use quinn::{
    ApplicationClose, ClientConfig, Connection, ConnectionError, Endpoint, RecvStream, SendStream, VarInt,
};
use rustls::{
    NamedGroup,
    crypto::{ActiveKeyExchange, SharedSecret, SupportedKxGroup, aws_lc_rs},
};

const WAIT: Duration = Duration::from_secs(20);

/// A connection and its control stream, greeted.
pub(crate) struct Wire {
    pub(crate) connection: Connection,
    pub(crate) send: SendStream,
    pub(crate) receive: RecvStream,
    pub(crate) next: u32,
}

impl Wire {
    pub(crate) async fn connect(relay: &Running) -> Self {
        Self::connect_with(relay, default_client()).await
    }

    pub(crate) async fn connect_with(relay: &Running, config: ClientConfig) -> Self {
        let connection = try_connect(relay, config).await.unwrap();
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        send.write_all(&hello()).await.unwrap();
        let (_, greeting) = next(&mut receive).await.unwrap();
        assert!(matches!(greeting, ToClient::Hello { version: VERSION, .. }));
        Self {
            connection,
            send,
            receive,
            next: 1,
        }
    }

    /// Asks, and takes the next frame as the answer.
    pub(crate) async fn ask(&mut self, call: Call) -> Result<Answer, Refusal> {
        let request = Request(self.next);
        self.next += 1;
        self.send.write_all(&frame(request.0, call)).await.unwrap();
        let (answered, message) = next(&mut self.receive).await.unwrap();
        assert_eq!(answered, request, "{message:?}");
        match message {
            ToClient::Answer(answer) => Ok(answer),
            ToClient::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    /// The code with which the relay closes the connection.
    pub(crate) async fn closed(&self) -> u64 {
        let closed = tokio::time::timeout(WAIT, self.connection.closed())
            .await
            .unwrap();
        match closed {
            ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn closed_with(code: u32) -> ConnectionError {
    ConnectionError::ApplicationClosed(ApplicationClose {
        error_code: VarInt::from_u32(code),
        reason: b"the relay stops".as_slice().into(),
    })
}

pub(crate) fn hello() -> Vec<u8> {
    let mut bytes = Vec::new();
    ToRelay::Hello { version: VERSION }.encode(Request(0), &mut bytes);
    bytes
}

pub(crate) fn frame(request: u32, call: Call) -> Vec<u8> {
    let mut bytes = Vec::new();
    ToRelay::Call(call).encode(Request(request), &mut bytes);
    bytes
}

/// The next frame; `None` when the stream or the connection is over.
pub(crate) async fn next(receive: &mut RecvStream) -> Option<(Request, ToClient)> {
    let mut field = [0; frame::LENGTH_BYTES];
    let began = tokio::time::timeout(WAIT, receive.read_exact(&mut field)).await;
    began.expect("the relay says something").ok()?;
    let mut bytes = vec![0; frame::length(field).unwrap()];
    receive.read_exact(&mut bytes).await.ok()?;
    Some(ToClient::decode(&bytes).unwrap())
}

pub(crate) async fn try_connect(
    relay: &Running,
    config: ClientConfig,
) -> Result<Connection, ConnectionError> {
    let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let at = relay.listen()[0];
    endpoint.connect_with(config, at, "any.example").unwrap().await
}

pub(crate) fn default_client() -> ClientConfig {
    client(&aws_lc_rs::default_provider().kx_groups)
}

pub(crate) fn client(groups: &[&'static dyn SupportedKxGroup]) -> ClientConfig {
    quic(tls(groups))
}

pub(crate) fn quic(tls: rustls::ClientConfig) -> ClientConfig {
    ClientConfig::new(Arc::new(
        quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap(),
    ))
}

pub(crate) fn tls(groups: &[&'static dyn SupportedKxGroup]) -> rustls::ClientConfig {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = groups.to_vec();
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    tls.alpn_protocols = vec![frame::ALPN.to_vec()];
    tls
}

/// Takes any certificate: these tests are about what comes after it.
#[derive(Debug)]
struct Anyone;

mod verifier {
    use rustls::{
        DigitallySignedStruct, Error, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        pki_types::{CertificateDer, ServerName, UnixTime},
    };

    impl ServerCertVerifier for super::Anyone {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(Error::General("not TLS 1.3".into()))
        }
        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            super::aws_lc_rs::default_provider()
                .signature_verification_algorithms
                .supported_schemes()
        }
    }
}

/// Key exchanges that were brought to an end.
pub(crate) struct Agreed(&'static Mutex<Vec<NamedGroup>>);

impl Agreed {
    pub(crate) fn named(&self) -> Vec<NamedGroup> {
        self.0.lock().unwrap().clone()
    }
}

static AGREED: Mutex<Vec<NamedGroup>> = Mutex::new(Vec::new());

/// A client with the usual groups, that notes with which of them it came to an agreement.
pub(crate) fn spying_client() -> (ClientConfig, Agreed) {
    static SPIES: OnceLock<Vec<Spy>> = OnceLock::new();
    let spies = SPIES.get_or_init(|| {
        aws_lc_rs::default_provider()
            .kx_groups
            .into_iter()
            .map(Spy)
            .collect()
    });
    let groups: Vec<&'static dyn SupportedKxGroup> =
        spies.iter().map(|spy| spy as &dyn SupportedKxGroup).collect();
    AGREED.lock().unwrap().clear();
    (client(&groups), Agreed(&AGREED))
}

#[derive(Debug)]
struct Spy(&'static dyn SupportedKxGroup);

impl SupportedKxGroup for Spy {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, rustls::Error> {
        Ok(Box::new(Spying(self.0.start()?)))
    }
    fn name(&self) -> NamedGroup {
        self.0.name()
    }
}

struct Spying(Box<dyn ActiveKeyExchange>);

impl ActiveKeyExchange for Spying {
    fn complete(self: Box<Self>, theirs: &[u8]) -> Result<SharedSecret, rustls::Error> {
        let group = self.0.group();
        let secret = self.0.complete(theirs)?;
        AGREED.lock().unwrap().push(group);
        Ok(secret)
    }
    fn pub_key(&self) -> &[u8] {
        self.0.pub_key()
    }
    fn group(&self) -> NamedGroup {
        self.0.group()
    }
}
