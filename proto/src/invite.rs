//! Invites: what a lawyer prints, shows as a QR code, or reads out. SPEC.md 7.1.

use std::{fmt, str::FromStr};

use crate::{
    ChannelId, Day, Secret,
    armor::{self, ArmorError, Fields},
    derive::CardKeys,
    link::{Address, Door, Pin, RelayAddress, decode_address, encode_address, expect_version},
    log::Mark,
};

/// The first byte of an invite's payload.
const INVITE_V2: u8 = 0x02;

/// One address of a relay, its pin, and what leads to a card and proves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invite {
    /// Where the relay is.
    pub address: Address,
    /// How it is known again.
    pub pin: Pin,
    /// Where the relay's session lies on the second road.
    pub door: Door,
    /// What the card's read token and key are derived from.
    pub seed: Secret<16>,
    /// The hash that pins the card's channel and the identity behind it.
    pub mark: Mark,
    /// The first day on which it is of no use.
    pub expires: Day,
}

impl Invite {
    /// The card's channel.
    pub fn channel(&self) -> ChannelId {
        CardKeys::derive(&self.seed).channel(&self.mark)
    }

    /// The relay that holds the card.
    pub fn relay(&self) -> RelayAddress {
        RelayAddress {
            addresses: vec![self.address.clone()],
            pin: self.pin,
            door: self.door,
        }
    }

    /// The same text in the characters that make the smallest QR code.
    pub fn to_qr(&self) -> String {
        self.to_string().to_uppercase()
    }
}

impl fmt::Display for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut payload = vec![INVITE_V2];
        encode_address(&self.address, &mut payload);
        payload.extend_from_slice(self.pin.as_bytes());
        payload.extend_from_slice(self.door.as_bytes());
        payload.extend_from_slice(self.seed.expose());
        payload.extend_from_slice(self.mark.as_bytes());
        payload.extend_from_slice(&u16::try_from(self.expires.0).unwrap_or(u16::MAX).to_be_bytes());
        f.write_str(&armor::encode(&payload))
    }
}

impl FromStr for Invite {
    type Err = ArmorError;

    fn from_str(text: &str) -> Result<Self, ArmorError> {
        let payload = armor::decode(text)?;
        let mut fields = Fields::new(&payload);
        expect_version(fields.take()?, INVITE_V2)?;
        let invite = Self {
            address: decode_address(&mut fields)?,
            pin: Pin::new(fields.take()?),
            door: Door::new(fields.take()?),
            seed: Secret::new(fields.take()?),
            mark: Mark::new(fields.take()?),
            expires: Day(u16::from_be_bytes(fields.take()?).into()),
        };
        fields.end()?;
        Ok(invite)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::RelayLink;

    fn invite(address: &str) -> Invite {
        Invite {
            address: address.parse().unwrap(),
            pin: Pin::new([1; 32]),
            door: Door::new([4; 8]),
            seed: Secret::new([2; 16]),
            mark: Mark::new([3; 32]),
            expires: Day(20_000),
        }
    }

    #[test]
    fn an_invite_is_short_enough_for_a_terminal() {
        for (address, length) in [
            ("192.0.2.1:4433", 168),
            ("[2001:db8::1]:443", 188),
            ("abcdefghijklmnopqrstuvwxyz.on.ion:443", 215),
        ] {
            let text = invite(address).to_string();
            assert!(text.len() <= length, "{address}: {}", text.len());
            assert_eq!(text.parse::<Invite>(), Ok(invite(address)));
            assert_eq!(invite(address).to_qr().parse::<Invite>(), Ok(invite(address)));
        }
    }

    #[test]
    fn an_invite_is_not_a_relay_link() {
        let text = invite("192.0.2.1:4433").to_string();
        let error = text.parse::<RelayLink>().unwrap_err();
        assert_eq!(
            error,
            ArmorError::Kind {
                found: "an invite",
                wanted: "a relay link"
            }
        );
    }

    #[test]
    fn a_cut_invite_is_refused() {
        let text = invite("192.0.2.1:4433").to_string();
        for end in 0..text.len() {
            assert!(text[..end].parse::<Invite>().is_err());
        }
    }
}
