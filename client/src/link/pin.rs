//! The pin: whoever proves to hold the key of this SubjectPublicKeyInfo is the relay. Names and dates mean nothing.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use martlet_proto::link::Pin;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};

/// Whether a handshake failed for the pin.
pub(super) struct Verdict(Arc<AtomicBool>);

impl Verdict {
    pub(super) fn was_wrong(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// TLS 1.3 only, hybrid post-quantum key exchange first, nothing remembered from one connection to the next; `None`
/// if this program's TLS cannot be set up.
pub(super) fn config(pin: Pin, sni: bool, protocols: &[&[u8]]) -> Option<(ClientConfig, Verdict)> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let (verifier, verdict) = verifier(pin, Arc::clone(&provider));
    let mut tls = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .ok()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    tls.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    tls.enable_sni = sni;
    tls.enable_early_data = false;
    tls.resumption = Resumption::disabled();
    Some((tls, verdict))
}

#[derive(Debug)]
struct Verifier {
    pin: Pin,
    provider: Arc<CryptoProvider>,
    wrong: Arc<AtomicBool>,
}

fn verifier(pin: Pin, provider: Arc<CryptoProvider>) -> (Arc<dyn ServerCertVerifier>, Verdict) {
    let wrong = Arc::new(AtomicBool::new(false));
    (
        Arc::new(Verifier {
            pin,
            provider,
            wrong: Arc::clone(&wrong),
        }),
        Verdict(wrong),
    )
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = rustls::server::ParsedCertificate::try_from(certificate)?;
        if Pin::of(&parsed.subject_public_key_info()) == self.pin {
            return Ok(ServerCertVerified::assertion());
        }
        self.wrong.store(true, Ordering::Relaxed);
        Err(Error::InvalidCertificate(
            CertificateError::ApplicationVerificationFailure,
        ))
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
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        // Whoever shows the relay's certificate without its key is not the relay either.
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
            .inspect_err(|_| self.wrong.store(true, Ordering::Relaxed))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
