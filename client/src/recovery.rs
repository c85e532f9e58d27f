//! Recovery digits: written on paper once, kept on no device, and proof later of who asks to come back. SPEC.md 10.4.
//! Pure.

use hkdf::Hkdf;
use martlet_proto::Secret;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{
    error::{Error, Usage},
    identity::digits,
};

/// Groups of five digits: seven that are random, worth 116 bits, and one by which slips are found.
const GROUPS: usize = 7;
const DIGITS: usize = 5 * (GROUPS + 1);

/// Digits for a person to write down.
pub(crate) fn digits_of(random: &Secret<32>) -> Zeroizing<String> {
    let body = digits::<GROUPS, 35>(random.expose(), "martlet/1 recovery digits");
    let check = check_of(&bare(&body));
    Zeroizing::new(format!("{body} {check}"))
}

/// The seed of the key that typed digits stand for in one case. Spaces and hyphens do not matter, and digits of other
/// scripts count.
///
/// # Errors
///
/// [`Usage::RecoveryDigits`] for another number of digits, or a slip in them.
pub(crate) fn signer_of(typed: &str, case: &[u8; 16]) -> Result<Secret<32>, Error> {
    let body = checked(typed)?;
    let mut seed = Secret::new([0; 32]);
    Hkdf::<Sha256>::new(None, body.as_bytes())
        .expand_multi_info(&[b"martlet/1 recovery key", case], seed.expose_mut())
        .map_err(|_| Error::Internal("a key cannot be derived"))?;
    Ok(seed)
}

/// The random digits among typed ones.
///
/// # Errors
///
/// As [`signer_of`].
pub(crate) fn checked(typed: &str) -> Result<Zeroizing<String>, Error> {
    let wrong = Error::Usage(Usage::RecoveryDigits);
    let plain = bare(typed);
    let odd = |c: char| !(c.is_whitespace() || c == '-' || digit(c).is_some());
    if plain.len() != DIGITS || typed.chars().any(odd) {
        return Err(wrong);
    }
    let Some((body, check)) = plain.split_at_checked(5 * GROUPS) else {
        return Err(wrong);
    };
    if check_of(body) != check {
        return Err(wrong);
    }
    Ok(Zeroizing::new(body.to_owned()))
}

fn check_of(body: &str) -> String {
    digits::<1, 5>(body.as_bytes(), "martlet/1 recovery check")
}

/// The digits of a text alone, as Latin ones.
fn bare(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.chars().filter_map(digit).collect())
}

fn digit(c: char) -> Option<char> {
    let zeros = ['0', '\u{660}', '\u{6f0}', '\u{966}', '\u{ff10}'];
    let value = zeros.iter().find_map(|zero| {
        let value = u32::from(c).checked_sub(u32::from(*zero))?;
        (value < 10).then_some(value)
    });
    char::from_digit(value?, 10)
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    reason = "tests fail by panicking, and count on small numbers"
)]
mod tests {
    use super::*;

    const CASE: [u8; 16] = [1; 16];

    #[test]
    fn digits_are_read_back_however_they_are_written() {
        let shown = digits_of(&Secret::new([7; 32]));
        assert_eq!(shown.split(' ').count(), 8);
        let key = signer_of(&shown, &CASE).unwrap();
        let arabic: String = shown
            .chars()
            .map(|c| digit(c).map_or('-', |d| char::from_u32(0x660 + d.to_digit(10).unwrap()).unwrap()))
            .collect();
        for typed in [bare(&shown).to_string(), format!(" {}\n", *shown), arabic] {
            assert_eq!(signer_of(&typed, &CASE).unwrap().expose(), key.expose());
        }
        let other = digits_of(&Secret::new([8; 32]));
        assert_ne!(signer_of(&other, &CASE).unwrap().expose(), key.expose());
        assert_ne!(signer_of(&shown, &[2; 16]).unwrap().expose(), key.expose());
    }

    #[test]
    fn digits_and_keys_stay_what_they_are() {
        let shown = digits_of(&Secret::new([7; 32]));
        assert_eq!(*shown, "44025 96189 73166 68293 15977 55611 97085 23901");
        let key = signer_of(&shown, &CASE).unwrap();
        assert_eq!(
            data_encoding::HEXLOWER.encode(key.expose()),
            "bda8b17e402f2c901bd2495785718bbb738b47017dc340b0df2062e1125989ca"
        );
    }

    #[test]
    fn a_slip_is_found() {
        let shown = bare(&digits_of(&Secret::new([7; 32])));
        for at in 0..shown.len() {
            let mut slipped: Vec<char> = shown.chars().collect();
            let value = slipped.get(at).unwrap().to_digit(10).unwrap();
            *slipped.get_mut(at).unwrap() = char::from_digit((value + 1) % 10, 10).unwrap();
            let slipped: String = slipped.into_iter().collect();
            assert!(signer_of(&slipped, &CASE).is_err(), "{at}");
        }
        for wrong in ["", "12345", &format!("{}0", *shown), &format!("{} x", *shown)] {
            assert!(signer_of(wrong, &CASE).is_err());
        }
    }
}
