//! First contact: making a card, and what a client puts into counsel's inbox. SPEC.md 7.2 and 7.6. Pure.

use martlet_proto::{
    ChannelId, Envelope, Kind, Time,
    card::{Card, Inbox, Mailbox, SIGNED_AS, SignedCard},
    case::{ENCAPSULATED_BYTES, PACKET_INFO, Packet, SUITE},
    derive::CardKeys,
    envelope::NONCE,
    link::Pin,
    pad,
};
use zeroize::Zeroizing;

use crate::{
    entropy::Entropy,
    error::Error,
    identity::Identity,
    me::Me,
    mls::{self, Package},
    record::{InviteRecord, encode},
    sealed,
};

/// By how many seconds the clock of whoever opens a card may be behind that of whoever made it.
const CLOCK_BEHIND_SECS: u64 = 24 * 60 * 60;

/// A card for an invite, sealed into its envelope, and the key package in it.
///
/// # Errors
///
/// [`Error::Internal`] if it cannot be made.
pub fn make_card(
    me: &Me,
    invite: &InviteRecord,
    now: Time,
    entropy: &mut Entropy,
) -> Result<(Envelope, Package), Error> {
    let internal = |_| Error::Internal("a card cannot be made");
    let not_after = crate::verified::card_not_after(now.day()).min(invite.expires);
    let package = mls::keypackage(
        entropy.secret(),
        me.leaf(),
        Some(me.keep_public()),
        now.as_secs().saturating_sub(CLOCK_BEHIND_SECS),
        not_after.start().as_secs(),
    )
    .map_err(|_| Error::Internal("a key package cannot be made"))?;
    let card = Card {
        number: invite.number,
        identity: me.identity().public(),
        name: me.name().to_string(),
        not_after,
        write: invite.card.write.hash(),
        keep: invite.card.keep.hash(),
        packages: vec![package.public.clone()],
        inbox: Inbox {
            mailbox: Mailbox {
                write: invite.inbox.write.clone(),
                read: invite.inbox.read.hash(),
                keep: invite.inbox.keep.hash(),
            },
            key: sealed::public_key(&invite.inbox_key).map_err(internal)?,
        },
        admission: Some(invite.home.admission.clone()),
        uses: invite.uses,
    };
    let content = sign_card(me.identity(), &card)?;
    let keys = CardKeys::derive(&invite.seed);
    let nonce: [u8; NONCE] = entropy.bytes();
    let envelope = Envelope::seal(
        &keys.envelope,
        nonce,
        &invite.card.channel(),
        Kind::Card,
        &content,
    )
    .map_err(|_| Error::Internal("the card is too large"))?;
    Ok((envelope, package))
}

/// A signed card's bytes.
///
/// # Errors
///
/// [`Error::Internal`] if it cannot be written.
pub fn sign_card(identity: &Identity, card: &Card) -> Result<Zeroizing<Vec<u8>>, Error> {
    let body = encode(card)?.to_vec();
    let signature = identity.sign(&[SIGNED_AS, &body].concat())?;
    encode(&SignedCard { body, signature })
}

fn packet_info(pin: &Pin, inbox: &ChannelId) -> Vec<u8> {
    [
        PACKET_INFO,
        pin.as_bytes(),
        inbox.as_bytes(),
        &SUITE.to_be_bytes(),
    ]
    .concat()
}

/// Seals a packet to an inbox: the encapsulated key and a ciphertext that fill an envelope exactly.
///
/// # Errors
///
/// [`Error::Protocol`] if the inbox's key is malformed; [`Error::Internal`] if the packet is too large.
pub fn seal_packet(
    inbox: &Inbox,
    pin: &Pin,
    packet: &Packet,
    entropy: &mut Entropy,
) -> Result<Envelope, Error> {
    let too_large = Error::Internal("the packet is too large");
    let content = encode(packet)?;
    let around = ENCAPSULATED_BYTES.saturating_add(16);
    let Some(room) = pad::SIZES
        .into_iter()
        .filter_map(|size| size.checked_sub(around))
        .find(|room| *room >= content.len().saturating_add(4))
    else {
        return Err(too_large);
    };
    let plain = pad::pad_to(&content, room).map(Zeroizing::new).ok_or(too_large)?;
    let sealed = sealed::seal(
        &inbox.key,
        &packet_info(pin, &inbox.mailbox.channel()),
        &plain,
        entropy,
    )
    .map_err(|_| Error::Protocol("the inbox's key is malformed"))?;
    Envelope::new(sealed.into()).ok_or(Error::Internal("a packet fills no envelope"))
}

/// Opens a packet in an inbox of one's own; `None` for junk.
pub fn open_packet(invite: &InviteRecord, envelope: &Envelope) -> Option<Packet> {
    let info = packet_info(&invite.home.relay.pin, &invite.inbox.channel());
    let plain = sealed::open(&invite.inbox_key, &info, envelope.as_bytes()).ok()?;
    let content = Zeroizing::new(pad::unpad(plain.to_vec())?);
    let (packet, rest) = postcard::take_from_bytes::<Packet>(&content).ok()?;
    rest.is_empty().then_some(packet)
}

#[cfg(test)]
mod tests {
    use martlet_proto::{
        Admission, Secret,
        card::Uses,
        invite::Invite,
        link::{Door, Pin, RelayAddress},
    };

    use super::*;
    use crate::{
        inbox::{self, Wanted},
        record::{HomeRelay, Publish},
        verified,
    };

    /// Found by the simulation, seed 28 of its first form.
    #[test]
    fn a_fresh_card_is_good_by_a_clock_that_is_behind() {
        let entropy = &mut Entropy::from_seed(&Secret::new([1; 32]));
        let (day, made) = (24 * 60 * 60, Time::from_secs(1_800_000_000));
        let me = Me::new("Ines".into(), None, made.day(), entropy).unwrap();
        let home = HomeRelay {
            relay: RelayAddress {
                addresses: vec!["relay.example:4433".parse().unwrap()],
                pin: Pin::new([2; 32]),
                door: Door::new([4; 8]),
            },
            admission: Admission::new(Secret::new([3; 16])),
        };
        let wanted = Wanted {
            uses: Uses::Many,
            label: None,
            days: 60,
            apart: false,
        };
        let (record, _) = inbox::create(&me, home, wanted, 0, made, entropy).unwrap();
        let Publish::Card { envelope, .. } = &record.publish else {
            panic!("a new invite has a card to publish");
        };
        let invite: Invite = record.text.parse().unwrap();
        let key = CardKeys::derive(&invite.seed).envelope;
        let content = envelope.open(&key, &record.card.channel(), Kind::Card).unwrap();
        let opens = |at: u64| verified::card(&invite, &content, Time::from_secs(at)).is_ok();
        assert!(opens(made.as_secs()));
        assert!(opens(made.as_secs() - 60));
        assert!(opens(made.as_secs() - day));
        assert!(!opens(made.as_secs() - day - 60));
    }
}
