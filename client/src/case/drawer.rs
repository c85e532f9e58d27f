//! Drawers: the keys under which a case's letters lie in the vault. SPEC.md 10.7. Pure.
//!
//! A letter and its copy in the outbox are sealed under the key of a drawer before the vault seals them. Drawers' keys are
//! ratchet state: a drawer that was shredded cannot be opened again, whatever older pages the disk still holds. Each
//! key comes from a chain that only runs forward, so none needs randomness of its own.

use chacha20poly1305::{
    XChaCha20Poly1305,
    aead::{Aead as _, KeyInit as _, Payload},
};
use hmac::{Hmac, Mac};
use martlet_proto::{Day, Secret, letter::LetterId, secret::sealed};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{
    error::Error,
    record::{decode, encode},
    vault::Name,
};

/// Days of receipt that share a drawer where letters are kept for good.
const SPAN_DAYS: u32 = 365;

/// What the vault keeps in the place of a letter, or of an item of the outbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Row {
    /// It, sealed.
    Sealed {
        /// The number of its drawer.
        drawer: u32,
        /// Made from what is sealed.
        nonce: [u8; 24],
        /// Ciphertext and tag.
        sealed: Vec<u8>,
    },
    /// A letter was here: a copy of it that comes later is not new.
    Gone {
        /// Its name.
        id: LetterId,
        /// When it was deleted.
        since: Day,
    },
}

/// The drawers of a case. Kept as ratchet state.
#[derive(Clone, Serialize, Deserialize)]
pub struct Drawers {
    #[serde(with = "sealed")]
    chain: Secret<32>,
    next: u32,
    open: Vec<Drawer>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Drawer {
    number: u32,
    from: Day,
    #[serde(with = "sealed")]
    key: Secret<32>,
}

/// Whether there was a drawer to use, or one was made and its key must be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    There(u32),
    Made(u32),
}

/// What became of a row.
pub(super) enum Opened<T> {
    Row(u32, T),
    /// Its drawer was shredded, or it never was one of these.
    Shredded,
}

/// How many days of receipt share a drawer: a quarter of the days that letters are kept.
const fn span(days: Option<u32>) -> u32 {
    match days {
        Some(days) if days < 8 => 1,
        Some(days) => days / 4,
        None => SPAN_DAYS,
    }
}

impl Drawers {
    /// None yet; all to come follow from this secret.
    pub fn new(chain: Secret<32>) -> Self {
        Self {
            chain,
            next: 0,
            open: Vec::new(),
        }
    }

    /// The drawer for what comes in on a day.
    pub(super) fn on(&mut self, day: Day, days: Option<u32>) -> Found {
        match self.open.last() {
            Some(last) if day < last.from.plus(span(days)) => Found::There(last.number),
            _ => self.make(day),
        }
    }

    /// The newest drawer: for what is on its way out, whenever it was written.
    pub(super) fn newest(&mut self) -> Found {
        match self.open.last() {
            Some(last) => Found::There(last.number),
            None => self.make(Day(0)),
        }
    }

    fn make(&mut self, from: Day) -> Found {
        let number = self.next;
        self.next = number.saturating_add(1);
        let key = mac(&self.chain, &[b"martlet/1 drawer"]);
        self.chain = mac(&self.chain, &[b"martlet/1 next drawer"]);
        self.open.push(Drawer { number, from, key });
        Found::Made(number)
    }

    /// The drawers that take nothing more in: their numbers, and when they were begun.
    pub(super) fn closed(&self, today: Day, days: Option<u32>) -> Vec<(u32, Day)> {
        let newest = self.open.last().map(|drawer| drawer.number);
        let closed =
            |drawer: &&Drawer| Some(drawer.number) != newest || today >= drawer.from.plus(span(days));
        let closed = self.open.iter().filter(closed);
        closed.map(|drawer| (drawer.number, drawer.from)).collect()
    }

    /// Forgets a key. What was sealed under it is lost once the drawers are stored as ratchet state.
    pub(super) fn shred(&mut self, number: u32) {
        self.open.retain(|drawer| drawer.number != number);
    }

    /// Seals something into a drawer, for one place in the vault.
    pub(super) fn seal<T: Serialize>(&self, number: u32, name: &Name, what: &T) -> Result<Row, Error> {
        let drawer = self.open.iter().find(|drawer| drawer.number == number);
        let key = &drawer.ok_or(Error::Internal("a letter has no drawer"))?.key;
        let plain = Zeroizing::new(encode(what)?.to_vec());
        let place = place(number, name);
        // Made from key, place and content: the same content twice is the same row, other content has another nonce.
        let made = mac(key, &[b"martlet/1 drawer nonce", &place, &plain]);
        let nonce = *made.expose().first_chunk::<24>().unwrap_or(&[0; 24]);
        let payload = Payload {
            msg: &plain,
            aad: &place,
        };
        let sealed = cipher(key).encrypt(&nonce.into(), payload);
        let sealed = sealed.map_err(|_| Error::Internal("a letter cannot be sealed"))?;
        Ok(Row::Sealed {
            drawer: number,
            nonce,
            sealed,
        })
    }

    /// Opens what [`seal`](Self::seal) made.
    pub(super) fn open<T: DeserializeOwned>(&self, name: &Name, row: &Row) -> Result<Opened<T>, Error> {
        let Row::Sealed {
            drawer: number,
            nonce,
            sealed,
        } = row
        else {
            return Ok(Opened::Shredded);
        };
        let Some(drawer) = self.open.iter().find(|drawer| drawer.number == *number) else {
            return Ok(Opened::Shredded);
        };
        let payload = Payload {
            msg: sealed,
            aad: &place(*number, name),
        };
        let plain = cipher(&drawer.key).decrypt(nonce.into(), payload);
        let plain = Zeroizing::new(plain.map_err(|_| Error::VaultDamaged("a letter"))?);
        Ok(Opened::Row(*number, decode(&plain)?))
    }
}

fn cipher(key: &Secret<32>) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(mac(key, &[b"martlet/1 drawer letters"]).expose().into())
}

fn place(drawer: u32, name: &Name) -> Vec<u8> {
    [
        [name.table as u8].as_slice(),
        &name.group,
        &name.index.to_be_bytes(),
        &drawer.to_be_bytes(),
    ]
    .concat()
}

/// HMAC-SHA256 of labelled parts.
#[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
fn mac(key: &Secret<32>, parts: &[&[u8]]) -> Secret<32> {
    let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key.expose()).expect("any length");
    for part in parts {
        mac.update(part);
    }
    Secret::new(mac.finalize().into_bytes().into())
}

impl std::fmt::Debug for Drawers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Drawers(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::Table;

    fn drawers() -> Drawers {
        Drawers::new(Secret::new([5; 32]))
    }

    fn name(index: u64) -> Name {
        Name::new(Table::Letters, [7; 16], index)
    }

    #[test]
    fn a_drawer_takes_what_comes_within_its_span() {
        let mut drawers = drawers();
        assert_eq!(drawers.on(Day(100), Some(30)), Found::Made(0));
        assert_eq!(drawers.on(Day(106), Some(30)), Found::There(0));
        assert_eq!(drawers.on(Day(107), Some(30)), Found::Made(1));
        assert_eq!(drawers.on(Day(400), None), Found::There(1), "for good: a year");
        assert_eq!(
            drawers.on(Day(400), Some(4)),
            Found::Made(2),
            "a shorter time closes it"
        );
        assert_eq!(drawers.closed(Day(400), Some(4)), [(0, Day(100)), (1, Day(107))]);
        assert_eq!(drawers.closed(Day(401), Some(4)).len(), 3);
    }

    #[test]
    fn what_was_shredded_does_not_open_and_nothing_left_leads_to_its_key() {
        let mut drawers = drawers();
        drawers.on(Day(100), Some(4));
        let row = drawers.seal(0, &name(3), &"words").unwrap();
        drawers.on(Day(200), Some(4));
        let other = drawers.seal(1, &name(4), &"others").unwrap();
        let key = drawers.open[0].key.clone();
        assert!(
            matches!(drawers.open::<String>(&name(3), &row), Ok(Opened::Row(0, words)) if words == "words")
        );
        drawers.shred(0);
        let kept = encode(&drawers).unwrap();
        assert!(!kept.windows(32).any(|part| part == key.expose()));
        assert!(matches!(
            drawers.open::<String>(&name(3), &row),
            Ok(Opened::Shredded)
        ));
        assert!(
            matches!(drawers.open::<String>(&name(4), &other), Ok(Opened::Row(1, words)) if words == "others")
        );
    }

    #[test]
    fn a_row_opens_at_its_own_place_only() {
        let mut drawers = drawers();
        drawers.on(Day(100), None);
        let row = drawers.seal(0, &name(3), &"words").unwrap();
        assert!(drawers.open::<String>(&name(4), &row).is_err());
        let outbox = Name::new(Table::Outbox, [7; 16], 3);
        assert!(drawers.open::<String>(&outbox, &row).is_err());
    }

    #[test]
    fn other_content_at_the_same_place_has_another_nonce() {
        let mut drawers = drawers();
        drawers.on(Day(100), None);
        let nonce = |words: &str| match drawers.seal(0, &name(3), &words).unwrap() {
            Row::Sealed { nonce, .. } => nonce,
            Row::Gone { .. } => panic!("sealed"),
        };
        assert_eq!(nonce("one"), nonce("one"));
        assert_ne!(nonce("one"), nonce("two"));
    }

    #[test]
    fn nothing_is_printed() {
        assert_eq!(format!("{:?}", drawers()), "Drawers(..)");
    }
}
