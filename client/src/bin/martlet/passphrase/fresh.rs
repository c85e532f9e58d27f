//! Passphrases made for the person: six words, or digits for those who do not read Latin letters. Both are worth 66
//! bits. No entropy of its own.

use bip39::Language;
use zeroize::Zeroizing;

/// How many random bytes one takes.
pub(super) const ENTROPY_BYTES: usize = 16;
const WORDS: u32 = 6;
const WORD_BITS: u32 = 11;
const GROUPS: u32 = 5;

/// Six words of 11 bits each.
pub(super) fn words(entropy: &[u8; ENTROPY_BYTES]) -> Zeroizing<String> {
    let bits = u128::from_be_bytes(*entropy);
    let list = Language::English.word_list();
    joined((0..WORDS).filter_map(|nth| {
        let bits = bits.checked_shr(nth.checked_mul(WORD_BITS)?)? & 0x7ff;
        list.get(usize::try_from(bits).ok()?).map(|word| (*word).into())
    }))
}

/// Twenty digits in groups of four.
pub(super) fn digits(entropy: &[u8; ENTROPY_BYTES]) -> Zeroizing<String> {
    let bits = u128::from_be_bytes(*entropy);
    joined((0..GROUPS).filter_map(|nth| {
        // What 2^128 is more than a multiple of 10^20 favours no digit by more than 2^-61.
        let group = bits
            .checked_div(10_000u128.checked_pow(nth)?)?
            .checked_rem(10_000)?;
        Some(format!("{group:04}"))
    }))
}

fn joined(pieces: impl Iterator<Item = String>) -> Zeroizing<String> {
    // Long enough for six words of eight letters: growing would leave copies behind.
    let mut whole = Zeroizing::new(String::with_capacity(64));
    for piece in pieces.map(Zeroizing::new) {
        if !whole.is_empty() {
            whole.push(' ');
        }
        whole.push_str(&piece);
    }
    whole
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "tests count on small numbers")]
mod tests {
    use super::*;

    #[test]
    fn every_word_carries_eleven_bits() {
        assert_eq!(
            *words(&[0; 16]),
            "abandon abandon abandon abandon abandon abandon"
        );
        assert_eq!(*words(&[0xff; 16]), "zoo zoo zoo zoo zoo zoo");
        let nth = |nth: u32| (1u128 << (11 * nth)).to_be_bytes();
        assert_eq!(*words(&nth(0)), "ability abandon abandon abandon abandon abandon");
        assert_eq!(*words(&nth(5)), "abandon abandon abandon abandon abandon ability");
    }

    #[test]
    fn twenty_digits_stand_in_fours() {
        assert_eq!(*digits(&[0; 16]), "0000 0000 0000 0000 0000");
        assert_eq!(*digits(&9_999u128.to_be_bytes()), "9999 0000 0000 0000 0000");
        let last = 10u128.pow(20) - 1;
        assert_eq!(*digits(&last.to_be_bytes()), "9999 9999 9999 9999 9999");
        assert_eq!(*digits(&(last + 1).to_be_bytes()), "0000 0000 0000 0000 0000");
    }
}
