//! What makes a relay itself: its key and certificate, and the opening token. Files of the relay's folder.

use std::{io::Write, os::unix::fs::OpenOptionsExt, path::Path, sync::Arc};

use martlet_proto::{Admission, Secret, link::Pin};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

/// A relay's key, certificate and opening token.
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: Zeroizing<Vec<u8>>,
    pin: Pin,
    admission: Admission,
}

/// Why an identity cannot be made or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// A file is missing or cannot be read or written.
    #[error("the relay's key files cannot be used")]
    File(#[source] std::io::Error),
    /// A file is not what this program wrote.
    #[error("the relay's key files are damaged")]
    Damaged,
    /// The system gives no randomness.
    #[error("the system gives no randomness")]
    NoRandomness,
}

impl Identity {
    /// A new identity, nowhere but in memory.
    ///
    /// # Errors
    ///
    /// [`IdentityError::NoRandomness`].
    pub fn generate() -> Result<Self, IdentityError> {
        let made = rcgen::generate_simple_self_signed(Vec::new()).map_err(|_| IdentityError::NoRandomness)?;
        let mut token = Secret::new([0; 16]);
        getrandom::fill(token.expose_mut()).map_err(|_| IdentityError::NoRandomness)?;
        let key = Zeroizing::new(made.signing_key.serialize_der());
        Self::assemble(made.cert.der().to_vec(), key, Admission::new(token))
    }

    fn assemble(
        certificate: Vec<u8>,
        key: Zeroizing<Vec<u8>>,
        admission: Admission,
    ) -> Result<Self, IdentityError> {
        let certificate = CertificateDer::from(certificate);
        let parsed =
            rustls::server::ParsedCertificate::try_from(&certificate).map_err(|_| IdentityError::Damaged)?;
        let pin = Pin::of(&parsed.subject_public_key_info());
        Ok(Self {
            certificate,
            key,
            pin,
            admission,
        })
    }

    /// The identity in a relay's folder.
    ///
    /// # Errors
    ///
    /// [`IdentityError::File`] and [`IdentityError::Damaged`].
    pub fn load(dir: &Path) -> Result<Self, IdentityError> {
        let read = |name| {
            std::fs::read(dir.join(name))
                .map(Zeroizing::new)
                .map_err(IdentityError::File)
        };
        let token = Secret::from_slice(&read("opening.token")?).ok_or(IdentityError::Damaged)?;
        Self::assemble(
            read("relay.cert")?.to_vec(),
            read("relay.key")?,
            Admission::new(token),
        )
    }

    /// Writes it into a relay's folder; refuses to overwrite.
    ///
    /// # Errors
    ///
    /// [`IdentityError::File`].
    pub fn save(&self, dir: &Path) -> Result<(), IdentityError> {
        let write = |name: &str, bytes: &[u8]| {
            let path = dir.join(name);
            let mut file = std::fs::OpenOptions::new()
                .create_new(true)
                .write(true)
                .mode(0o600)
                .open(path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write("relay.key", &self.key).map_err(IdentityError::File)?;
        write("relay.cert", &self.certificate).map_err(IdentityError::File)?;
        write("opening.token", self.admission.secret().expose()).map_err(IdentityError::File)
    }

    /// The hash by which clients know the relay again.
    pub fn pin(&self) -> Pin {
        self.pin
    }

    /// The right to open channels.
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// TLS 1.3 only, hybrid post-quantum key exchange first, no early data.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Damaged`] if key and certificate do not fit.
    pub(crate) fn tls(&self) -> Result<rustls::ServerConfig, IdentityError> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.to_vec()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|_| IdentityError::Damaged)?
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], key)
            .map_err(|_| IdentityError::Damaged)?;
        tls.alpn_protocols = vec![martlet_proto::frame::ALPN.to_vec()];
        tls.max_early_data_size = 0;
        tls.send_tls13_tickets = 0;
        Ok(tls)
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity(..)")
    }
}
