//! Padding: the sizes that envelopes and documents may have, so that length tells little. SPEC.md 5.1.

use crate::envelope::{NONCE, TAG};

/// The sizes of envelopes, in bytes.
pub const SIZES: [usize; 4] = [2 << 10, 16 << 10, 32 << 10, 64 << 10];

/// Bytes before the content that say how long it is.
const LENGTH: usize = 4;

/// How much content an envelope of `size` bytes holds.
pub const fn capacity(size: usize) -> usize {
    size.saturating_sub(NONCE + TAG + LENGTH)
}

/// The most content that one envelope holds: 65,492 bytes.
pub const CAPACITY_MAX: usize = capacity(64 << 10);

/// `u32 length ‖ content ‖ zeros` for the smallest envelope that holds it; `None` if none does.
pub fn pad(content: &[u8]) -> Option<Vec<u8>> {
    let size = SIZES.into_iter().find(|size| capacity(*size) >= content.len())?;
    pad_to(content, size.checked_sub(NONCE + TAG)?)
}

/// `u32 length ‖ content ‖ zeros`, `size` bytes in all; `None` if it does not fit.
pub fn pad_to(content: &[u8], size: usize) -> Option<Vec<u8>> {
    let length = u32::try_from(content.len()).ok()?;
    if size < content.len().checked_add(LENGTH)? {
        return None;
    }
    let mut plain = Vec::with_capacity(size.checked_add(TAG)?);
    plain.extend_from_slice(&length.to_be_bytes());
    plain.extend_from_slice(content);
    plain.resize(size, 0);
    Some(plain)
}

/// The content of what [`pad`] made; `None` if the length is wrong or a byte of the padding is not zero.
pub fn unpad(mut plain: Vec<u8>) -> Option<Vec<u8>> {
    let length = u32::from_be_bytes(*plain.first_chunk::<LENGTH>()?);
    let content = usize::try_from(length).ok()?;
    let end = content.checked_add(LENGTH)?;
    if plain.get(end..)?.iter().any(|byte| *byte != 0) {
        return None;
    }
    plain.truncate(end);
    plain.drain(..LENGTH);
    Some(plain)
}

/// How many chunks stand for a document of `chunks` chunks: PADMÉ, at most 12 % more. SPEC.md 8.3.
///
/// The floating part of the number keeps no more bits than the number of bits of its exponent.
pub const fn padme(chunks: u64) -> u64 {
    if chunks < 2 {
        return 1;
    }
    let exponent = chunks.ilog2();
    let bits = exponent.ilog2().saturating_add(1);
    let mask = (1u64 << exponent.saturating_sub(bits)).wrapping_sub(1);
    match chunks.checked_add(mask) {
        Some(up) => up & !mask,
        None => chunks,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn padme_of_known_numbers() {
        for (chunks, padded) in [
            (0, 1),
            (1, 1),
            (2, 2),
            (8, 8),
            (9, 10),
            (33, 36),
            (1000, 1024),
            (32_769, 34_816),
        ] {
            assert_eq!(padme(chunks), padded, "{chunks}");
        }
    }

    proptest! {
        #[test]
        fn padme_never_shrinks_and_adds_at_most_an_eighth(chunks in 1u64..1 << 40) {
            let padded = padme(chunks);
            prop_assert!(padded >= chunks && padded <= chunks + chunks / 8 + 1);
            prop_assert_eq!(padme(padded), padded);
        }

        #[test]
        fn content_survives_padding(content in proptest::collection::vec(any::<u8>(), 0..20_000)) {
            prop_assert_eq!(unpad(pad(&content).unwrap()), Some(content));
        }
    }

    #[test]
    fn padding_that_is_not_zero_is_refused() {
        let mut plain = pad(b"x").unwrap();
        *plain.last_mut().unwrap() = 1;
        assert_eq!(unpad(plain), None);
        assert_eq!(unpad(vec![0, 0, 0, 9, 1]), None);
        assert_eq!(unpad(vec![0, 0]), None);
    }
}
