//! The checks between an invite and a case. SPEC.md 7.2.
//!
//! A [`Verified<Card>`] has one constructor, [`card`], which makes every check; opening a case takes nothing else:
//!
//! ```compile_fail
//! # use martlet_proto::card::Card;
//! # use martlet::verified::Verified;
//! fn skip(card: Card) -> Verified<Card> {
//!     Verified { value: card } // private
//! }
//! ```

use martlet_proto::{
    Bind, Day, Time, TokenHash,
    card::{Card, SIGNED_AS, SignedCard},
    derive::card_bind,
    invite::Invite,
    limits::{CARD_DAYS_MAX, CARD_PACKAGES_MAX, NAME_BYTES_MAX},
    log::Mark,
};

use crate::{
    error::{Error, Mismatch, Missing},
    identity::{behind_leaf, signed_by},
    mls::inspect_package,
};

/// A value whose every claim was checked.
#[derive(Clone, Debug)]
pub struct Verified<T> {
    value: T,
}

impl<T> Verified<T> {
    /// The value.
    pub fn get(&self) -> &T {
        &self.value
    }
}

/// Checks a card against the invite that led to it.
///
/// # Errors
///
/// [`Error::Verification`] naming what does not hold; [`Missing::InviteExpired`] for a card past its day;
/// [`Error::Protocol`] for one that is malformed though signed.
pub fn card(invite: &Invite, content: &[u8], now: Time) -> Result<Verified<Card>, Error> {
    let malformed = Error::Protocol("the card is malformed");
    let (signed, rest): (SignedCard, _) =
        postcard::take_from_bytes(content).map_err(|_| Error::Verification(Mismatch::CardHash))?;
    let (card, rest_of_body): (Card, _) =
        postcard::take_from_bytes(&signed.body).map_err(|_| Error::Verification(Mismatch::CardHash))?;
    if !rest.is_empty() || !rest_of_body.is_empty() {
        return Err(malformed);
    }
    let bind = card_bind(&card.identity, &invite.seed);
    if mark(&card.write, &card.keep, &bind) != invite.mark {
        return Err(Error::Verification(Mismatch::CardHash));
    }
    if !signed_by(
        &card.identity,
        &[SIGNED_AS, &signed.body].concat(),
        &signed.signature,
    ) {
        return Err(Error::Verification(Mismatch::CardSignature));
    }
    if card.not_after <= now.day() {
        return Err(Error::NotFound(Missing::InviteExpired));
    }
    let latest = now.day().plus(CARD_DAYS_MAX.saturating_add(1));
    let packages = (1..=CARD_PACKAGES_MAX).contains(&card.packages.len());
    if card.not_after > latest || !packages || card.name.len() > NAME_BYTES_MAX {
        return Err(malformed);
    }
    for package in &card.packages {
        package_is_of(package, &card.identity, now)?;
    }
    Ok(Verified { value: card })
}

fn mark(write: &TokenHash, keep: &TokenHash, bind: &Bind) -> Mark {
    Mark::commit(write, keep, bind)
}

fn package_is_of(package: &[u8], identity: &[u8; 32], now: Time) -> Result<(), Error> {
    let foreign = Error::Verification(Mismatch::CardPackage);
    let Ok(info) = inspect_package(package, now.as_secs()) else {
        return Err(foreign);
    };
    let behind = behind_leaf(&info.credential, &info.signature_key);
    if behind == Some(*identity) && info.keep_key.is_some() {
        Ok(())
    } else {
        Err(foreign)
    }
}

/// The last day on which a card made today may be good.
pub(crate) fn card_not_after(today: Day) -> Day {
    today.plus(CARD_DAYS_MAX)
}
