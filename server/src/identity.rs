//! What makes a relay itself: its key and certificate, the opening token and the door. Files of the relay's folder.

use std::{io::Write, os::unix::fs::OpenOptionsExt, path::Path, sync::Arc};

use martlet_proto::{
    Admission, Secret,
    link::{Door, Pin},
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use zeroize::Zeroizing;

/// The name in a new certificate: that of countless servers that nobody gave one.
const COMMON_NAME: &str = "localhost";

/// A relay's key, certificate, opening token and door.
pub struct Identity {
    certificate: CertificateDer<'static>,
    /// What an authority says of the same key, if the operator has it so: for the site.
    chain: Vec<CertificateDer<'static>>,
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
    /// The authority's certificates cannot be read, or are for another key.
    #[error("chain.pem is not a chain of certificates for the relay's key")]
    Chain,
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
            chain: Vec::new(),
            key,
            pin,
            door,
            admission,
        })
    }

    /// The identity in a relay's folder. One that has no door is given one. If there is a `chain.pem`, its certificates are shown
    /// on the second road; the first has to be for the relay's key, so that the pin holds.
    ///
    /// # Errors
    ///
    /// [`IdentityError::File`], [`IdentityError::Damaged`] and [`IdentityError::Chain`].
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
        let mut identity = Self::assemble(certificate, key, door, Admission::new(token))?;
        let chain = dir.join("chain.pem");
        if chain.exists() {
            identity.chain = read_chain(&chain, identity.pin).ok_or(IdentityError::Chain)?;
        }
        Ok(identity)
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
        self.tls_with(vec![self.certificate.clone()], protocols)
    }

    /// The same, with what an authority says of the key, if there is any.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Damaged`] if key and certificate do not fit.
    pub(crate) fn tls_of_site(&self, protocols: &[&[u8]]) -> Result<rustls::ServerConfig, IdentityError> {
        if self.chain.is_empty() {
            return self.tls(protocols);
        }
        self.tls_with(self.chain.clone(), protocols)
    }

    fn tls_with(
        &self,
        certificates: Vec<CertificateDer<'static>>,
        protocols: &[&[u8]],
    ) -> Result<rustls::ServerConfig, IdentityError> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.to_vec()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|_| IdentityError::Damaged)?
            .with_no_client_auth()
            .with_single_cert(certificates, key)
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

/// Certificates from a file, the first of which is for the pinned key.
fn read_chain(file: &Path, pin: Pin) -> Option<Vec<CertificateDer<'static>>> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file).ok()?.collect();
    let chain = chain.ok()?;
    let parsed = rustls::server::ParsedCertificate::try_from(chain.first()?).ok()?;
    (Pin::of(&parsed.subject_public_key_info()) == pin).then_some(chain)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate as an authority would give it for this name and key.
    fn certificate(name: &str, key: &rcgen::KeyPair) -> String {
        let about = rcgen::CertificateParams::new(vec![name.into()]).unwrap();
        about.self_signed(key).unwrap().pem()
    }

    #[test]
    fn an_authoritys_certificate_is_taken_for_the_same_key_only() {
        let dir = tempfile::tempdir().unwrap();
        let made = Identity::generate().unwrap();
        made.save(dir.path()).unwrap();
        assert!(Identity::load(dir.path()).unwrap().chain.is_empty());
        let key = std::fs::read(dir.path().join("relay.key")).unwrap();
        let key = rcgen::KeyPair::try_from(key.as_slice()).unwrap();
        let chain = dir.path().join("chain.pem");
        let other = rcgen::KeyPair::generate().unwrap();
        let authority = certificate("authority.example", &other);
        std::fs::write(&chain, certificate("relay.example", &key) + &authority).unwrap();
        let loaded = Identity::load(dir.path()).unwrap();
        assert_eq!((loaded.chain.len(), loaded.pin() == made.pin()), (2, true));
        assert!(loaded.tls_of_site(&[b"h2"]).is_ok());
        for wrong in [authority, "nonsense".into(), String::new()] {
            std::fs::write(&chain, wrong).unwrap();
            assert!(matches!(Identity::load(dir.path()), Err(IdentityError::Chain)));
        }
    }

    #[test]
    fn a_relay_without_a_door_is_given_one_that_stays() {
        let dir = tempfile::tempdir().unwrap();
        let made = Identity::generate().unwrap();
        made.save(dir.path()).unwrap();
        assert_eq!(Identity::load(dir.path()).unwrap().door(), made.door());
        std::fs::remove_file(dir.path().join("door")).unwrap();
        let given = Identity::load(dir.path()).unwrap().door();
        assert!(given != made.door());
        assert_eq!(Identity::load(dir.path()).unwrap().door(), given);
    }
}
