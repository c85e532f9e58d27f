//! The age format, version 1, with a passphrase (C2SP `age.md`): what `age` and `rage` open too.
//!
//! Only what an archive and a backup need: one scrypt stanza, and the payload in STREAM over ChaCha20-Poly1305 with chunks of 64
//! KiB. Whoever reads learns of every changed bit and of a cut end, at the chunk where it is.

use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};

use aead_stream::{NewStream, StreamBE32, StreamPrimitive};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, aead::Aead};
use data_encoding::BASE64_NOPAD;
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::Secret;

const VERSION: &str = "age-encryption.org/v1";
const STANZA: &str = "-> scrypt ";
const MAC: &str = "---";
const SALT_LABEL: &[u8] = b"age-encryption.org/v1/scrypt";
const HEADER_LINES: usize = 4;
const HEADER_BYTES_MAX: u64 = 512;
const NONCE_BYTES: usize = 16;
const CHUNK_BYTES: usize = 64 << 10;
const TAG_BYTES: usize = 16;

/// How much work a guess at the passphrase costs: the logarithm of scrypt's N. Memory is 1 KiB times N.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work(u8);

impl Work {
    /// 128 MiB: what a weak device can bear, and what is advised where scrypt is the choice.
    pub const STANDARD: Self = Self(17);
    /// The most that is believed when a file is opened, 1 GiB: it must not be able to take all memory.
    const MAX: u8 = 20;

    /// Work of N = 2^`log`, for files that others made; `None` beyond what would be opened again.
    pub fn from_log(log: u8) -> Option<Self> {
        (1..=Self::MAX).contains(&log).then_some(Self(log))
    }
}

/// Why a file does not open.
#[derive(Debug, thiserror::Error)]
pub enum Unopened {
    /// It is not of this format, or was changed or cut.
    #[error("this is no age file with a passphrase")]
    Malformed,
    /// The passphrase does not fit; a changed salt or key looks the same.
    #[error("the passphrase does not open the file")]
    WrongPassphrase,
    /// It cannot be read.
    #[error("the file cannot be read")]
    Io(#[from] io::Error),
}

fn malformed() -> io::Error {
    io::Error::from(io::ErrorKind::InvalidData)
}

fn wrapping_key(passphrase: &[u8], salt: &[u8; 16], work: Work) -> io::Result<ChaCha20Poly1305> {
    let params = scrypt::Params::new(work.0, 8, 1).map_err(|_| malformed())?;
    let mut key = Secret::<32>::new([0; 32]);
    let salt = [SALT_LABEL, salt].concat();
    scrypt::scrypt(passphrase, &salt, &params, key.expose_mut()).map_err(|_| malformed())?;
    Ok(ChaCha20Poly1305::new(key.expose().into()))
}

fn derived(file_key: &Secret<16>, salt: Option<&[u8]>, label: &str) -> io::Result<Secret<32>> {
    let mut key = Secret::new([0; 32]);
    Hkdf::<Sha256>::new(salt, file_key.expose())
        .expand(label.as_bytes(), key.expose_mut())
        .map_err(|_| malformed())?;
    Ok(key)
}

fn header_mac(file_key: &Secret<16>, header: &str) -> io::Result<Hmac<Sha256>> {
    let key = derived(file_key, None, "header")?;
    let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key.expose()).map_err(|_| malformed())?;
    mac.update(header.as_bytes());
    Ok(mac)
}

/// Chunks of the payload. The nonce of age, eleven bytes of counter and one that marks the last, is that of STREAM with
/// a prefix of zeros.
fn payload(file_key: &Secret<16>, nonce: &[u8; NONCE_BYTES]) -> io::Result<StreamBE32<ChaCha20Poly1305>> {
    let key = derived(file_key, Some(nonce), "payload")?;
    let aead = ChaCha20Poly1305::new(key.expose().into());
    Ok(StreamBE32::from_aead(aead, (&[0; 7]).into()))
}

/// What is random in a file: each is used for one file only.
pub struct Random {
    /// Its key.
    pub file_key: Secret<16>,
    /// Of the passphrase.
    pub salt: [u8; 16],
    /// Of the payload.
    pub nonce: [u8; NONCE_BYTES],
}

/// Seals what is written to it. Nothing is whole before [`finish`](Self::finish).
pub struct Sealer<W> {
    to: W,
    stream: StreamBE32<ChaCha20Poly1305>,
    at: u32,
    chunk: Zeroizing<Vec<u8>>,
}

impl<W: Write> Sealer<W> {
    /// Writes the header.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub fn begin(mut to: W, passphrase: &[u8], work: Work, random: &Random) -> io::Result<Self> {
        let Random {
            file_key,
            salt,
            nonce,
        } = random;
        let wrapped = wrapping_key(passphrase, salt, work)?
            .encrypt(&[0; 12].into(), file_key.expose().as_slice())
            .map_err(|_| malformed())?;
        let (salt, wrapped) = (BASE64_NOPAD.encode(salt), BASE64_NOPAD.encode(&wrapped));
        let header = format!("{VERSION}\n{STANZA}{salt} {}\n{wrapped}\n{MAC}", work.0);
        let mac = header_mac(file_key, &header)?.finalize().into_bytes();
        writeln!(to, "{header} {}", BASE64_NOPAD.encode(&mac))?;
        to.write_all(nonce)?;
        Ok(Self {
            to,
            stream: payload(file_key, nonce)?,
            at: 0,
            chunk: fresh_chunk(),
        })
    }

    /// Writes the last chunk, and gives the writer back.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub fn finish(mut self) -> io::Result<W> {
        self.seal(true)?;
        Ok(self.to)
    }

    fn seal(&mut self, last: bool) -> io::Result<()> {
        self.stream
            .encrypt_in_place(self.at, last, &[], &mut *self.chunk)
            .map_err(|_| malformed())?;
        self.to.write_all(&self.chunk)?;
        self.chunk = fresh_chunk();
        self.at = self.at.checked_add(1).ok_or_else(malformed)?;
        Ok(())
    }
}

/// Room for a chunk and its tag: growing would leave copies behind.
fn fresh_chunk() -> Zeroizing<Vec<u8>> {
    Zeroizing::new(Vec::with_capacity(CHUNK_BYTES.saturating_add(TAG_BYTES)))
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.chunk.len() == CHUNK_BYTES && !bytes.is_empty() {
            self.seal(false)?;
        }
        let room = CHUNK_BYTES.saturating_sub(self.chunk.len()).min(bytes.len());
        self.chunk.extend(bytes.iter().take(room));
        Ok(room)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Opens what a [`Sealer`] made. What is not as it was written fails with [`io::ErrorKind::InvalidData`].
pub struct Opener<R> {
    from: R,
    stream: StreamBE32<ChaCha20Poly1305>,
    /// Where the payload begins.
    begins: u64,
    at: u32,
    chunk: Zeroizing<Vec<u8>>,
    taken: usize,
    ended: bool,
}

impl<R: BufRead + Seek> Opener<R> {
    /// Reads the header.
    ///
    /// # Errors
    ///
    /// [`Unopened`].
    pub fn begin(mut from: R, passphrase: &[u8]) -> Result<Self, Unopened> {
        let header = read_header(&mut from)?;
        let (signed, stanza) = parse(&header).ok_or(Unopened::Malformed)?;
        let opened = wrapping_key(passphrase, &stanza.salt, stanza.work)?
            .decrypt(&[0; 12].into(), stanza.wrapped.as_slice())
            .map(Zeroizing::new)
            .map_err(|_| Unopened::WrongPassphrase)?;
        let file_key = Secret::from_slice(&opened).ok_or(Unopened::Malformed)?;
        header_mac(&file_key, signed)?
            .verify_slice(&stanza.mac)
            .map_err(|_| Unopened::Malformed)?;
        let mut nonce = [0; NONCE_BYTES];
        from.read_exact(&mut nonce).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Unopened::Malformed,
            _ => Unopened::Io(error),
        })?;
        Ok(Self {
            begins: from.stream_position()?,
            from,
            stream: payload(&file_key, &nonce)?,
            at: 0,
            chunk: Zeroizing::default(),
            taken: 0,
            ended: false,
        })
    }

    /// Goes back to the beginning of what was sealed.
    ///
    /// # Errors
    ///
    /// Those of the reader.
    pub fn rewind(&mut self) -> io::Result<()> {
        self.from.seek(SeekFrom::Start(self.begins))?;
        (self.at, self.taken, self.ended) = (0, 0, false);
        self.chunk = Zeroizing::default();
        Ok(())
    }

    fn open(&mut self) -> io::Result<()> {
        let mut chunk = fresh_chunk();
        let whole = u64::try_from(CHUNK_BYTES.saturating_add(TAG_BYTES)).unwrap_or(u64::MAX);
        self.from.by_ref().take(whole).read_to_end(&mut chunk)?;
        let last = self.from.fill_buf()?.is_empty();
        self.stream
            .decrypt_in_place(self.at, last, &[], &mut *chunk)
            .map_err(|_| malformed())?;
        if chunk.is_empty() && self.at > 0 {
            return Err(malformed());
        }
        self.at = self.at.checked_add(1).ok_or_else(malformed)?;
        (self.chunk, self.taken, self.ended) = (chunk, 0, last);
        Ok(())
    }
}

impl<R: BufRead + Seek> Read for Opener<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.chunk.len() && !self.ended {
            self.open()?;
        }
        let rest = self.chunk.get(self.taken..).unwrap_or_default();
        let length = rest.len().min(to.len());
        for (to, from) in to.iter_mut().zip(rest) {
            *to = *from;
        }
        self.taken = self.taken.saturating_add(length);
        Ok(length)
    }
}

fn read_header(from: &mut impl BufRead) -> Result<String, Unopened> {
    let mut header = Vec::new();
    let mut from = from.take(HEADER_BYTES_MAX);
    for _ in 0..HEADER_LINES {
        from.read_until(b'\n', &mut header)?;
    }
    String::from_utf8(header).map_err(|_| Unopened::Malformed)
}

struct Stanza {
    salt: [u8; 16],
    work: Work,
    wrapped: [u8; 32],
    mac: [u8; 32],
}

/// What the MAC is over, and what the header says. Every character has its place: there is one way to write each header.
fn parse(header: &str) -> Option<(&str, Stanza)> {
    let lines: Vec<&str> = header.strip_suffix('\n')?.split('\n').collect();
    let [VERSION, stanza, wrapped, last] = lines.as_slice() else {
        return None;
    };
    let (salt, work) = stanza.strip_prefix(STANZA)?.split_once(' ')?;
    let mac = last.strip_prefix(MAC)?.strip_prefix(' ')?;
    let plain = !work.starts_with('0') && work.bytes().all(|byte| byte.is_ascii_digit());
    let log = plain.then(|| work.parse().ok()).flatten()?;
    let after = mac.len().checked_add(2)?;
    let signed = header.get(..header.len().checked_sub(after)?)?;
    let stanza = Stanza {
        salt: fixed(salt)?,
        work: Work::from_log(log)?,
        wrapped: fixed(wrapped)?,
        mac: fixed(mac)?,
    };
    Some((signed, stanza))
}

fn fixed<const N: usize>(text: &str) -> Option<[u8; N]> {
    BASE64_NOPAD.decode(text.as_bytes()).ok()?.try_into().ok()
}
