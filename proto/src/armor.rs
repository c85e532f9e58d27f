//! `martlet:` strings: base32 (RFC 4648, no padding) with two check bytes, forgiving in what people type.
//! SPEC.md 7.1.

use data_encoding::BASE32_NOPAD;
use sha2::{Digest as _, Sha256};

const PREFIX: &str = "martlet:";
const CHECK: usize = 2;

/// Why a `martlet:` string cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArmorError {
    /// There is nothing in it.
    #[error("the link is empty")]
    Empty,
    /// A character that no such string has.
    #[error("character {at} of the link, {found:?}, cannot stand there")]
    Character {
        /// Which one, counted from 1 after `martlet:`, without spaces.
        at: usize,
        /// What stands there.
        found: char,
    },
    /// Characters are missing or too many.
    #[error("the link has {have} characters after \"martlet:\"; some are missing or doubled")]
    Length {
        /// How many there are.
        have: usize,
    },
    /// The check digits at the end do not fit the rest.
    #[error("the check digits at the end do not fit: a character of the link was mistyped")]
    Check,
    /// It is a link of another kind.
    #[error("this is {found}, where {wanted} was expected")]
    Kind {
        /// What it is.
        found: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// A later version of the program made it.
    #[error("the link is of version {0}, which this program does not know; update it")]
    Version(u8),
    /// What it says is not possible.
    #[error("the address in the link is malformed")]
    Address,
}

fn check(payload: &[u8]) -> [u8; CHECK] {
    let hash: [u8; 32] = Sha256::new_with_prefix(b"martlet/1 check")
        .chain_update(payload)
        .finalize()
        .into();
    let [a, b, ..] = hash;
    [a, b]
}

/// `martlet:` and the payload with its check bytes.
pub(crate) fn encode(payload: &[u8]) -> String {
    let mut bytes = payload.to_vec();
    bytes.extend_from_slice(&check(payload));
    format!("{PREFIX}{}", BASE32_NOPAD.encode(&bytes))
}

/// The payload of what [`encode`] made and a person may have retyped.
pub(crate) fn decode(text: &str) -> Result<Vec<u8>, ArmorError> {
    let kept: String = text
        .chars()
        .filter(|c| !ignored(*c))
        .flat_map(char::to_lowercase)
        .collect();
    let body = kept.strip_prefix(PREFIX).unwrap_or(&kept);
    if body.is_empty() {
        return Err(ArmorError::Empty);
    }
    let mut symbols = String::with_capacity(body.len());
    for (index, found) in body.chars().enumerate() {
        let at = index.saturating_add(1);
        symbols.push(symbol(found).ok_or(ArmorError::Character { at, found })?);
    }
    let have = symbols.len();
    let bytes = BASE32_NOPAD
        .decode(symbols.as_bytes())
        .map_err(|error| match error.kind {
            data_encoding::DecodeKind::Trailing => ArmorError::Check,
            _ => ArmorError::Length { have },
        })?;
    let (payload, digits) = bytes
        .split_last_chunk::<CHECK>()
        .ok_or(ArmorError::Length { have })?;
    if payload.is_empty() {
        return Err(ArmorError::Length { have });
    }
    if check(payload) == *digits {
        Ok(payload.to_vec())
    } else {
        Err(ArmorError::Check)
    }
}

/// What people and programs put between characters: spaces, line breaks, hyphens, a full stop at the end.
fn ignored(c: char) -> bool {
    c.is_whitespace()
        || c.is_control()
        || crate::text::steers(c)
        || matches!(
            c,
            '-' | '.' | ',' | ';' | '"' | '\'' | '<' | '>' | '“' | '”' | '«' | '»' | '。' | '\u{2010}'
                ..='\u{2015}'
        )
}

/// The symbol that a typed character stands for; digits of other scripts count, and look-alikes are put right.
fn symbol(c: char) -> Option<char> {
    let digit = match c {
        '0'..='9' => u32::from(c).checked_sub(0x30),
        '\u{660}'..='\u{669}' => u32::from(c).checked_sub(0x660),
        '\u{6f0}'..='\u{6f9}' => u32::from(c).checked_sub(0x6f0),
        '\u{966}'..='\u{96f}' => u32::from(c).checked_sub(0x966),
        '\u{ff10}'..='\u{ff19}' => u32::from(c).checked_sub(0xff10),
        _ => None,
    };
    match (digit, c) {
        (Some(0), _) => Some('O'),
        (Some(1), _) => Some('I'),
        (Some(8), _) => Some('B'),
        (Some(digit @ 2..=7), _) => char::from_digit(digit, 10),
        (None, 'a'..='z') => Some(c.to_ascii_uppercase()),
        _ => None,
    }
}

/// Takes fixed-length fields off the front of a payload.
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
    have: usize,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(payload: &'a [u8]) -> Self {
        let bytes = payload.len().saturating_add(CHECK);
        Self {
            rest: payload,
            have: bytes.saturating_mul(8).div_ceil(5),
        }
    }

    pub(crate) fn take<const N: usize>(&mut self) -> Result<[u8; N], ArmorError> {
        let (field, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(ArmorError::Length { have: self.have })?;
        self.rest = rest;
        Ok(*field)
    }

    pub(crate) fn take_slice(&mut self, len: usize) -> Result<&'a [u8], ArmorError> {
        let (field, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(ArmorError::Length { have: self.have })?;
        self.rest = rest;
        Ok(field)
    }

    pub(crate) fn end(self) -> Result<(), ArmorError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(ArmorError::Length { have: self.have })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_people_type_is_understood() {
        let text = encode(b"some payload");
        for typed in [
            text.to_lowercase(),
            text.to_uppercase(),
            format!("  {}.", text),
            text.chars().map(|c| format!("{c} ")).collect(),
            text.replace(':', ":\r\n"),
            text[PREFIX.len()..].to_string(),
            text.replace('O', "0").replace('I', "1"),
        ] {
            assert_eq!(decode(&typed).as_deref(), Ok(&b"some payload"[..]), "{typed}");
        }
    }

    #[test]
    fn digits_of_other_scripts_count() {
        let text = encode(b"234567");
        let arabic: String = text
            .chars()
            .map(|c| c.to_digit(10).map_or(c, |d| char::from_u32(0x660 + d).unwrap()))
            .collect();
        assert_eq!(decode(&arabic).as_deref(), Ok(&b"234567"[..]));
    }

    #[test]
    fn every_mistyped_character_is_noticed() {
        let text = encode(&[9; 40]);
        for at in PREFIX.len()..text.len() {
            let mut typed: Vec<char> = text.chars().collect();
            typed[at] = if typed[at] == 'A' { 'C' } else { 'A' };
            assert!(decode(&typed.into_iter().collect::<String>()).is_err());
        }
        assert_eq!(
            decode("martlet:AB!C"),
            Err(ArmorError::Character { at: 3, found: '!' })
        );
        assert_eq!(decode("martlet:"), Err(ArmorError::Empty));
        assert_eq!(decode(" "), Err(ArmorError::Empty));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_fail_other_than_by_an_error(text in ".{0,200}") {
            let _ = decode(&text);
        }
    }
}
