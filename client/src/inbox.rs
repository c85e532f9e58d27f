//! Invites of one's own: making them, and taking in what arrives in their inboxes. SPEC.md 7. Pure.

use martlet_proto::{
    Bind, Class, Day, Envelope, Time,
    card::Uses,
    derive::{CardKeys, Keys, card_bind},
    invite::Invite,
    log::Mark,
};

use crate::{
    case::Case,
    contact::{make_card, open_packet},
    entropy::Entropy,
    error::Error,
    me::Me,
    record::{HomeRelay, InviteRecord, PackageKey, PackageKeys, Publish, encode},
    vault::{Batch, Name, Table},
    view::{InviteState, InviteView},
};

/// Days after which a card is replaced.
const CARD_ROTATED_DAYS: u32 = 7;
/// Days for which the private halves of replaced key packages are kept.
const PACKAGES_KEPT_DAYS: u32 = 90;

/// An invite's name in the vault.
pub fn record_name(index: u64) -> Name {
    Name::new(Table::Invites, [0; 16], index)
}

/// The name of its key packages' private halves in the vault.
pub fn packages_name(index: u64) -> Vec<u8> {
    [b"packages ".as_slice(), &index.to_be_bytes()].concat()
}

/// What an owner wants of a new invite.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// How often it may be used: once if it is apart.
    pub uses: Uses,
    /// Whether it and the case that it brings never share a connection.
    pub apart: bool,
    /// A note.
    pub label: Option<String>,
    /// Days for which it is good.
    pub days: u32,
}

/// Makes an invite; its card waits to be published.
///
/// # Errors
///
/// [`Error::Internal`] if the card cannot be made.
pub fn create(
    me: &Me,
    home: HomeRelay,
    wanted: Wanted,
    index: u64,
    now: Time,
    entropy: &mut Entropy,
) -> Result<(InviteRecord, Batch), Error> {
    let seed = entropy.secret();
    let card = Keys {
        read: CardKeys::derive(&seed).read,
        write: entropy.writer(),
        keep: entropy.keeper(),
        class: Class::Card,
        bind: card_bind(&me.identity().public(), &seed),
    };
    let inbox = Keys {
        read: entropy.reader(),
        write: entropy.writer(),
        keep: entropy.keeper(),
        class: Class::Inbox,
        bind: Bind::NONE,
    };
    let address = home
        .relay
        .addresses
        .first()
        .cloned()
        .ok_or(Error::Internal("a relay without an address"))?;
    let expires = now.day().plus(wanted.days);
    let mark = Mark::commit(&card.write.hash(), &card.keep.hash(), &card.bind);
    let invite = Invite {
        address,
        pin: home.relay.pin,
        door: home.relay.door,
        seed: seed.clone(),
        mark,
        expires,
    };
    let mut record = InviteRecord {
        id: entropy.bytes(),
        text: invite.to_string(),
        seed,
        card,
        inbox,
        inbox_key: entropy.secret(),
        home,
        label: wanted.label,
        uses: if wanted.apart { Uses::Once } else { wanted.uses },
        apart: wanted.apart,
        expires,
        state: InviteState::Open,
        number: 0,
        publish: Publish::Done,
        published: now.day(),
        cursor: None,
    };
    let mut batch = Batch::default();
    renew(
        me,
        &mut record,
        index,
        PackageKeys::default(),
        now,
        entropy,
        &mut batch,
    )?;
    Ok((record, batch))
}

/// Whether the card should be replaced by now.
pub fn is_due(record: &InviteRecord, now: Time) -> bool {
    record.state == InviteState::Open
        && matches!(record.publish, Publish::Done)
        && record.expires > now.day()
        && record.published.plus(CARD_ROTATED_DAYS) <= now.day()
}

/// The relay forgot the inbox, and so the card: the inbox is read from its beginning, and the card is due.
pub fn forgotten(record: &mut InviteRecord) {
    record.cursor = None;
    record.published = Day::default();
}

/// Makes a new card with a new key package; it waits to be published.
///
/// # Errors
///
/// [`Error::Internal`] if the card cannot be made.
pub fn renew(
    me: &Me,
    record: &mut InviteRecord,
    index: u64,
    mut keys: PackageKeys,
    now: Time,
    entropy: &mut Entropy,
    batch: &mut Batch,
) -> Result<(), Error> {
    record.number = record.number.saturating_add(1);
    record.published = now.day();
    let (envelope, package) = make_card(me, record, now, entropy)?;
    record.publish = Publish::Card {
        entry: entropy.entry(),
        envelope,
    };
    keys.packages
        .retain(|key| key.made.plus(PACKAGES_KEPT_DAYS) > now.day());
    keys.packages.insert(
        0,
        PackageKey {
            private: package.private.to_vec(),
            made: now.day(),
        },
    );
    batch.put_ratchet(&packages_name(index), encode(&keys)?);
    batch.put(record_name(index), encode(record)?);
    Ok(())
}

/// Withdraws an invite, or notes that it was used: its keys are deleted, its channels wait to be dropped.
///
/// # Errors
///
/// [`Error::Internal`] if the record cannot be written.
pub fn withdraw(record: &mut InviteRecord, index: u64, state: InviteState) -> Result<Batch, Error> {
    let mut batch = Batch::default();
    record.state = state;
    record.publish = Publish::Withdraw;
    batch.delete_ratchet(&packages_name(index));
    batch.put(record_name(index), encode(record)?);
    Ok(batch)
}

/// A case from what arrived in an inbox; `None` for junk.
///
/// # Errors
///
/// [`Error::Internal`] if a record cannot be written.
pub fn receive(
    me: &Me,
    invite: &InviteRecord,
    keys: &PackageKeys,
    envelope: &Envelope,
    index: u64,
    now: Time,
    entropy: &mut Entropy,
) -> Result<Option<(Case, Batch)>, Error> {
    let Some(packet) = open_packet(invite, envelope) else {
        return Ok(None);
    };
    for key in &keys.packages {
        match Case::join(me, invite, packet.clone(), &key.private, index, now, entropy) {
            Ok(joined) => return Ok(Some(joined)),
            Err(Error::Protocol(_)) => {}
            Err(other) => return Err(other),
        }
    }
    Ok(None)
}

/// The invite as its owner sees it.
pub fn view(record: &InviteRecord) -> InviteView {
    InviteView {
        invite: record.text.clone(),
        id: data_encoding::BASE32_NOPAD.encode(&record.id).to_lowercase(),
        label: record.label.clone(),
        uses: record.uses,
        expires: record.expires,
        state: record.state,
        queued: !matches!(record.publish, Publish::Done),
    }
}
