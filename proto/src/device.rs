//! A person's further devices: what a new one shows, and what it and the one that vouches for it tell each other. SPEC.md 7.8.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    Secret, Time,
    armor::{self, ArmorError, Fields},
    case::Packet,
    letter::Letter,
    link::{Pin, RelayAddress, expect_version},
};

/// The first byte of a request's payload.
const DEVICE_V1: u8 = 0x21;
/// What the HPKE info of a [`Joining`] begins with.
pub const JOINING_INFO: &[u8] = b"martlet/1 joining";
/// What the HPKE info of a [`History`] begins with.
pub const HISTORY_INFO: &[u8] = b"martlet/1 history";
/// Places that a new device keeps free for letters from before it joined.
pub const HISTORY_ROOM: u64 = 1 << 40;

/// What a new device shows, to be scanned or typed on a device of the same person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRequest {
    /// What the two mailboxes between the devices are derived from.
    pub seed: Secret<16>,
    /// The new device's leaf signature key.
    pub leaf: [u8; 32],
    /// The first bytes of the pin of the relay on which the two devices meet.
    pub relay: [u8; 8],
}

impl DeviceRequest {
    /// Whether the devices meet on the relay of this pin.
    pub fn is_on(&self, pin: &Pin) -> bool {
        pin.as_bytes().starts_with(&self.relay)
    }
}

impl fmt::Display for DeviceRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut payload = vec![DEVICE_V1];
        payload.extend_from_slice(self.seed.expose());
        payload.extend_from_slice(&self.leaf);
        payload.extend_from_slice(&self.relay);
        f.write_str(&armor::encode(&payload))
    }
}

impl FromStr for DeviceRequest {
    type Err = ArmorError;

    fn from_str(text: &str) -> Result<Self, ArmorError> {
        let payload = armor::decode(text)?;
        let mut fields = Fields::new(&payload);
        expect_version(fields.take()?, DEVICE_V1)?;
        let request = Self {
            seed: Secret::new(fields.take()?),
            leaf: fields.take()?,
            relay: fields.take()?,
        };
        fields.end()?;
        Ok(request)
    }
}

/// What stands in the mailboxes between two devices, in postcard, in an envelope of kind packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceMessage {
    /// To the new device: it belongs to this person.
    Accept {
        /// The content of its credential.
        credential: Vec<u8>,
        /// The person's name.
        name: String,
        /// How many cases it is to join.
        cases: u32,
    },
    /// To the device that vouches: key packages (MLSMessages), one for each case to join.
    Packages {
        /// What the device calls itself.
        name: String,
        /// The packages.
        packages: Vec<Vec<u8>>,
    },
    /// To the new device: a [`Joining`] in postcard, sealed by HPKE to its keep key.
    Join(Vec<u8>),
    /// To the new device: a [`History`] in postcard, sealed by HPKE to its keep key.
    History(Vec<u8>),
}

/// Letters of a case from before a new device joined it, as its owner's other device kept them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The case.
    pub case: [u8; 16],
    /// Some of its letters, in the order in which they came.
    pub letters: Vec<PastLetter>,
}

/// A letter from before a new device joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastLetter {
    /// Its place among the letters of the device that hands it over; below [`HISTORY_ROOM`].
    pub at: u64,
    /// As it was written.
    pub letter: Letter,
    /// The identity of its sender.
    pub from: [u8; 32],
    /// When the owner's other device received or wrote it.
    pub received: Time,
    /// Whether the owner had read it.
    pub read: bool,
    /// The identities from which a receipt came.
    pub delivered_to: Vec<[u8; 32]>,
}

/// A case that a new device joins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joining {
    /// The Welcome, and what goes with it.
    pub packet: Packet,
    /// Where the case lives.
    pub relay: RelayAddress,
    /// The owner's note.
    pub label: String,
    /// The identities that the owner has verified.
    pub verified: Vec<[u8; 32]>,
    /// Whether it never shares a connection with another case.
    pub apart: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{invite::Invite, link::RelayLink};

    #[test]
    fn a_request_is_typed_in_and_is_nothing_else() {
        let request = DeviceRequest {
            seed: Secret::new([1; 16]),
            leaf: [2; 32],
            relay: [3; 8],
        };
        let text = request.to_string();
        assert_eq!(text.len(), 103);
        assert_eq!(text.parse::<DeviceRequest>(), Ok(request));
        assert!(matches!(text.parse::<Invite>(), Err(ArmorError::Kind { .. })));
        assert!(matches!(text.parse::<RelayLink>(), Err(ArmorError::Kind { .. })));
    }
}
