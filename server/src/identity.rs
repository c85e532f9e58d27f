//! What makes a relay itself: its key and certificate, the opening token and the door. Files of the relay's folder.

use std::{io::Write, os::unix::fs::OpenOptionsExt, path::Path, sync::Arc};

use martlet_proto::{
    Admission, Secret,
    link::{Door, Pin},
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

/// The name in a new certificate: that of countless servers that nobody gave one.
const COMMON_NAME: &str = "localhost";

/// A relay's key, certificate, opening token and door.
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: Zeroizing<Vec<u8>>,
    pin: Pin,
    door: Door,
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
        let (certificate, key) = certify().map_err(|_| IdentityError::NoRandomness)?;
        let mut token = Secret::new([0; 16]);
        getrandom::fill(token.expose_mut()).map_err(|_| IdentityError::NoRandomness)?;
        Self::assemble(certificate, key, fresh_door()?, Admission::new(token))
    }

    fn assemble(
        certificate: Vec<u8>,
        key: Zeroizing<Vec<u8>>,
        door: Door,
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
            door,
            admission,
        })
    }

    /// The identity in a relay's folder. One that has no door is given one.
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
        let (certificate, key) = (read("relay.cert")?.to_vec(), read("relay.key")?);
        let door = match read("door") {
            Ok(bytes) => Door::from_slice(&bytes).ok_or(IdentityError::Damaged)?,
            Err(IdentityError::File(cause)) if cause.kind() == std::io::ErrorKind::NotFound => {
                let door = fresh_door()?;
                write(dir, "door", door.as_bytes())?;
                door
            }
            Err(error) => return Err(error),
        };
        Self::assemble(certificate, key, door, Admission::new(token))
    }

    /// Writes it into a relay's folder; refuses to overwrite.
    ///
    /// # Errors
    ///
    /// [`IdentityError::File`].
    pub fn save(&self, dir: &Path) -> Result<(), IdentityError> {
        write(dir, "relay.key", &self.key)?;
        write(dir, "relay.cert", &self.certificate)?;
        write(dir, "door", self.door.as_bytes())?;
        write(dir, "opening.token", self.admission.secret().expose())
    }

    /// The hash by which clients know the relay again.
    pub fn pin(&self) -> Pin {
        self.pin
    }

    /// Where its session lies on the second road.
    pub fn door(&self) -> Door {
        self.door
    }

    /// The right to open channels.
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// TLS 1.3 only, hybrid post-quantum key exchange first, no early data; for these protocols.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Damaged`] if key and certificate do not fit.
    pub(crate) fn tls(&self, protocols: &[&[u8]]) -> Result<rustls::ServerConfig, IdentityError> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.to_vec()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|_| IdentityError::Damaged)?
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], key)
            .map_err(|_| IdentityError::Damaged)?;
        tls.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        tls.max_early_data_size = 0;
        tls.send_tls13_tickets = 0;
        Ok(tls)
    }
}

/// A key, and a certificate for it that says as little as one can.
fn certify() -> Result<(Vec<u8>, Zeroizing<Vec<u8>>), rcgen::Error> {
    let key = rcgen::KeyPair::generate()?;
    let mut about = rcgen::CertificateParams::new(vec![COMMON_NAME.into()])?;
    about.distinguished_name = rcgen::DistinguishedName::new();
    about
        .distinguished_name
        .push(rcgen::DnType::CommonName, COMMON_NAME);
    let certificate = about.self_signed(&key)?;
    Ok((certificate.der().to_vec(), Zeroizing::new(key.serialize_der())))
}

fn fresh_door() -> Result<Door, IdentityError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|_| IdentityError::NoRandomness)?;
    Ok(Door::new(bytes))
}

/// A new file that only its owner reads, on the disk when this returns.
fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), IdentityError> {
    let path = dir.join(name);
    let mut options = std::fs::OpenOptions::new();
    let file = options.create_new(true).write(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(IdentityError::File)
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity(..)")
    }
}
