//! Where a relay is, how it is known again, and the right to open channels on it. SPEC.md 7.1.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

pub use crate::armor::ArmorError;
use crate::{
    Admission, Secret,
    armor::{self, Fields},
    limits::LINK_ADDRESSES_MAX,
};

/// The first byte of a relay link's payload.
pub(crate) const LINK_V2: u8 = 0x42;

/// SHA-256 of the SubjectPublicKeyInfo of the relay's certificate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pin([u8; 32]);

impl Pin {
    /// Takes a hash as it is.
    pub const fn new(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// The pin of a key, given its DER-encoded SubjectPublicKeyInfo.
    pub fn of(spki: &[u8]) -> Self {
        Self(Sha256::digest(spki).into())
    }

    /// The hash.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin(..)")
    }
}

/// The secret name under which a relay's session lies among the pages of its site. SPEC.md 4.6.
///
/// It keeps those who only look from finding a relay; it gives no right to anything.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Door([u8; DOOR_BYTES]);

const DOOR_BYTES: usize = 8;

impl Door {
    /// Takes random bytes.
    pub const fn new(bytes: [u8; DOOR_BYTES]) -> Self {
        Self(bytes)
    }

    /// Takes random bytes of the right length; `None` for any other.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; DOOR_BYTES] {
        &self.0
    }

    /// The path of the request that begins a stream: a slash and 13 letters and digits.
    pub fn path(&self) -> String {
        let mut path = String::from("/");
        path.push_str(&data_encoding::BASE32_NOPAD.encode(&self.0).to_lowercase());
        path
    }

    /// Whether a path is the door's. Takes as long for a near miss as for any other.
    pub fn is_at(&self, path: &str) -> bool {
        self.path().as_bytes().ct_eq(path.as_bytes()).into()
    }
}

impl PartialEq for Door {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}
impl Eq for Door {}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Door(..)")
    }
}

/// An address and a port, of UDP and of TCP alike.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Address {
    /// An IPv4 address.
    V4(Ipv4Addr, u16),
    /// An IPv6 address.
    V6(Ipv6Addr, u16),
    /// A host name, 1 to 127 bytes of ASCII letters, digits, hyphens and dots.
    Host(String, u16),
}

const V4: u8 = 4;
const V6: u8 = 6;
/// A host's tag is this and its length.
const HOST: u8 = 0x80;

impl Address {
    fn encode(&self, to: &mut Vec<u8>) {
        let port = match self {
            Self::V4(ip, port) => {
                to.push(V4);
                to.extend_from_slice(&ip.octets());
                port
            }
            Self::V6(ip, port) => {
                to.push(V6);
                to.extend_from_slice(&ip.octets());
                port
            }
            Self::Host(host, port) => {
                to.push(HOST | u8::try_from(host.len()).unwrap_or(0));
                to.extend_from_slice(host.as_bytes());
                port
            }
        };
        to.extend_from_slice(&port.to_be_bytes());
    }

    fn decode(from: &mut Fields<'_>) -> Result<Self, ArmorError> {
        let [tag] = from.take()?;
        let address = match tag {
            V4 => Self::V4(Ipv4Addr::from(from.take::<4>()?), port(from)?),
            V6 => Self::V6(Ipv6Addr::from(from.take::<16>()?), port(from)?),
            tag if tag & HOST != 0 => {
                let host = from.take_slice(usize::from(tag & !HOST))?;
                let host = String::from_utf8(host.to_vec()).map_err(|_| ArmorError::Address)?;
                Self::host(host, port(from)?).ok_or(ArmorError::Address)?
            }
            _ => return Err(ArmorError::Address),
        };
        Ok(address)
    }

    /// A host name; `None` if it is none.
    pub fn host(name: String, port: u16) -> Option<Self> {
        let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.');
        ((1..=127).contains(&name.len()) && name.bytes().all(plain)).then_some(Self::Host(name, port))
    }
}

fn port(from: &mut Fields<'_>) -> Result<u16, ArmorError> {
    Ok(u16::from_be_bytes(from.take()?))
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(v4) => Self::V4(*v4.ip(), v4.port()),
            SocketAddr::V6(v6) => Self::V6(*v6.ip(), v6.port()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(ip, port) => write!(f, "{ip}:{port}"),
            Self::V6(ip, port) => write!(f, "[{ip}]:{port}"),
            Self::Host(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Address(..)")
    }
}

/// `HOST:PORT`, `1.2.3.4:PORT` or `[::1]:PORT`.
impl FromStr for Address {
    type Err = ArmorError;

    fn from_str(text: &str) -> Result<Self, ArmorError> {
        if let Ok(address) = SocketAddr::from_str(text) {
            return Ok(address.into());
        }
        let (host, port) = text.rsplit_once(':').ok_or(ArmorError::Address)?;
        let port = port.parse().map_err(|_| ArmorError::Address)?;
        Self::host(host.to_string(), port).ok_or(ArmorError::Address)
    }
}

/// Where a relay is and how it is known again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayAddress {
    /// Where to try, in this order; at least one.
    pub addresses: Vec<Address>,
    /// The pin of its key.
    pub pin: Pin,
    /// Where its session lies on the second road.
    pub door: Door,
}

/// What an operator gives to those who may open channels: `martletd link`.
///
/// ```
/// use martlet_proto::{Admission, Secret, link::{Door, Pin, RelayAddress, RelayLink}};
/// let link = RelayLink {
///     relay: RelayAddress {
///         addresses: vec!["relay.example:4433".parse()?],
///         pin: Pin::new([1; 32]),
///         door: Door::new([3; 8]),
///     },
///     admission: Admission::new(Secret::new([2; 16])),
/// };
/// assert_eq!(link.to_string().parse::<RelayLink>()?, link);
/// # Ok::<(), martlet_proto::link::ArmorError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayLink {
    /// Where it is and how it is known again.
    pub relay: RelayAddress,
    /// The right to open channels.
    pub admission: Admission,
}

impl fmt::Display for RelayLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut payload = vec![
            LINK_V2,
            u8::try_from(self.relay.addresses.len()).unwrap_or(u8::MAX),
        ];
        for address in &self.relay.addresses {
            encode_address(address, &mut payload);
        }
        payload.extend_from_slice(self.relay.pin.as_bytes());
        payload.extend_from_slice(self.relay.door.as_bytes());
        payload.extend_from_slice(self.admission.secret().expose());
        f.write_str(&armor::encode(&payload))
    }
}

impl FromStr for RelayLink {
    type Err = ArmorError;

    fn from_str(text: &str) -> Result<Self, ArmorError> {
        let payload = armor::decode(text)?;
        let mut fields = Fields::new(&payload);
        expect_version(fields.take()?, LINK_V2)?;
        let [count] = fields.take()?;
        if !(1..=LINK_ADDRESSES_MAX).contains(&usize::from(count)) {
            return Err(ArmorError::Address);
        }
        let addresses = (0..count)
            .map(|_| decode_address(&mut fields))
            .collect::<Result<_, _>>()?;
        let pin = Pin(fields.take()?);
        let door = Door(fields.take()?);
        let admission = Admission::new(Secret::new(fields.take()?));
        fields.end()?;
        Ok(Self {
            relay: RelayAddress { addresses, pin, door },
            admission,
        })
    }
}

pub(crate) fn encode_address(address: &Address, to: &mut Vec<u8>) {
    address.encode(to);
}

pub(crate) fn decode_address(from: &mut Fields<'_>) -> Result<Address, ArmorError> {
    Address::decode(from)
}

/// Refuses a payload of another kind or version than `wanted`.
pub(crate) fn expect_version([found]: [u8; 1], wanted: u8) -> Result<(), ArmorError> {
    let name = |version: u8| match version & 0x60 {
        0 => "an invite",
        0x20 => "a request of a new device",
        _ => "a relay link",
    };
    if found == wanted {
        Ok(())
    } else if name(found) == name(wanted) {
        Err(ArmorError::Version(found & !0x60))
    } else {
        Err(ArmorError::Kind {
            found: name(found),
            wanted: name(wanted),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_is_at_its_own_path_only() {
        let door = Door::new([0xa5; 8]);
        let path = door.path();
        assert_eq!(path.len(), 14);
        assert!(
            path.bytes()
                .skip(1)
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        );
        assert!(door.is_at(&path));
        assert!(!door.is_at("/"));
        assert!(!door.is_at(&path.to_uppercase()));
        assert!(!door.is_at(&format!("{path}/")));
        assert!(!Door::new([0xa4; 8]).is_at(&path));
        assert_eq!(format!("{door:?}"), "Door(..)");
    }
}
