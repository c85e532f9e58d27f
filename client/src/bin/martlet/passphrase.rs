//! Where a passphrase comes from: a file, a descriptor or the terminal. Never an argument or the environment.

use std::{
    fs::File,
    io::{IsTerminal as _, Read as _, Write},
    path::{Path, PathBuf},
};

use martlet::Error;
use zeroize::Zeroizing;

use crate::{args::Args, speak::Failure};

const BYTES_MAX: u64 = 4096;
const NONE: &str =
    "a passphrase is needed: use --passphrase-file FILE or --passphrase-fd N, or run it in a terminal";

/// Whether a new one is being chosen.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Open,
    Create,
}

/// Reads it from where the arguments say, or asks.
pub(crate) fn take(args: &Args, purpose: Purpose) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let taken = match (&args.passphrase_file, args.passphrase_fd) {
        (Some(file), _) => read(file)?,
        (None, Some(fd)) => read(&PathBuf::from(format!("/dev/fd/{fd}")))?,
        (None, None) if !std::io::stdin().is_terminal() => return Err(Failure::usage(NONE.into())),
        (None, None) => ask(purpose)?,
    };
    if purpose == Purpose::Create && taken.is_empty() {
        return Err(Failure::usage("the passphrase is empty".into()));
    }
    Ok(taken)
}

fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(4097));
    File::open(file)
        .and_then(|file| file.take(BYTES_MAX).read_to_end(&mut bytes))
        .map_err(Error::File)?;
    chomp(&mut bytes);
    Ok(bytes)
}

/// Drops one trailing newline.
fn chomp(bytes: &mut Vec<u8>) {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
}

fn ask(purpose: Purpose) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let prompt = |text: &str| {
        rpassword::prompt_password(text)
            .map(|typed| Zeroizing::new(typed.into_bytes()))
            .map_err(Error::File)
    };
    if purpose == Purpose::Open {
        return Ok(prompt("Passphrase: ")?);
    }
    let first = prompt("Passphrase (press Enter to be offered a good one): ")?;
    if first.is_empty() {
        let offer = Offer::draw()?;
        offer.show(&mut std::io::stderr().lock());
        let typed = prompt("Type the one you chose: ")?;
        return offer
            .chosen(&typed)
            .ok_or_else(|| Failure::usage("this is neither of the two; run it again for new ones".into()));
    }
    if prompt("The same again: ")? != first {
        return Err(Failure::usage("the two passphrases differ".into()));
    }
    Ok(first)
}

/// Words of 11 bits each in a generated passphrase: 66 bits, behind Argon2id.
const WORDS: usize = 6;
/// Groups of four digits in one: 66 bits too.
const GROUPS: usize = 5;
/// Bytes that are drawn for an offer.
const DRAWN: usize = 64;

/// Two generated passphrases, one of them for those who do not read Latin letters.
struct Offer {
    words: Zeroizing<String>,
    digits: Zeroizing<String>,
}

impl Offer {
    fn draw() -> Result<Self, Failure> {
        loop {
            let mut drawn = Zeroizing::new([0; DRAWN]);
            getrandom::fill(drawn.as_mut()).map_err(|_| Error::Internal("the system gives no randomness"))?;
            if let Some(offer) = Self::from(&drawn) {
                return Ok(offer);
            }
        }
    }

    /// What these bytes give; `None` if too few of them fit.
    fn from(drawn: &[u8; DRAWN]) -> Option<Self> {
        let list = bip39::Language::English.word_list();
        let (pairs, _) = drawn.as_chunks::<2>();
        let numbers = || pairs.iter().map(|pair| u16::from_be_bytes(*pair));
        let words: Vec<&str> = numbers()
            .take(WORDS)
            .filter_map(|number| list.get(usize::from(number & 0x7ff)).copied())
            .collect();
        // Of 16,384 numbers only the first 10,000 are taken, so that all are as likely.
        let digits: Vec<Zeroizing<String>> = numbers()
            .skip(WORDS)
            .map(|number| number & 0x3fff)
            .filter(|number| *number < 10_000)
            .take(GROUPS)
            .map(|number| Zeroizing::new(format!("{number:04}")))
            .collect();
        let joined: Vec<&str> = digits.iter().map(|group| group.as_str()).collect();
        (joined.len() == GROUPS).then(|| Self {
            words: Zeroizing::new(words.join(" ")),
            digits: Zeroizing::new(joined.join(" ")),
        })
    }

    fn show(&self, to: &mut impl Write) {
        let _gone = write!(
            to,
            "\n  words:   {}\n  digits:  {}\n\nChoose one of the two. Learn it by heart, or write it down where nobody looks.\n\
             Its spaces count. Nobody can reset it, and it is not shown again.\n\n",
            self.words.as_str(),
            self.digits.as_str()
        );
    }

    /// The one that was typed, however it was spaced.
    fn chosen(&self, typed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let typed = Zeroizing::new(String::from_utf8(typed.to_vec()).ok()?);
        let plain = |text: &str| Zeroizing::new(text.split_whitespace().collect::<String>().to_lowercase());
        [&self.words, &self.digits]
            .into_iter()
            .find(|offered| plain(offered) == plain(&typed))
            .map(|offered| Zeroizing::new(offered.as_bytes().to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_trailing_newline_is_dropped() {
        for (from, to) in [
            ("a\n", "a"),
            ("a\r\n", "a"),
            ("a\n\n", "a\n"),
            (" a ", " a "),
            ("", ""),
        ] {
            let mut bytes = from.as_bytes().to_vec();
            chomp(&mut bytes);
            assert_eq!(bytes, to.as_bytes());
        }
    }

    #[test]
    fn what_is_offered_has_all_its_bits_and_is_recognised() {
        let mut drawn = [0u8; DRAWN];
        drawn[..12].copy_from_slice(&[0, 0, 7, 255, 8, 1, 0xff, 0xff, 0, 2, 0, 3]);
        drawn[12..24].copy_from_slice(&[0x27, 0x10, 0x27, 0x0f, 0, 0, 0x3f, 0xff, 0, 42, 0x40, 7]);
        drawn[24..26].copy_from_slice(&[1, 0]);
        let offer = Offer::from(&drawn).unwrap();
        assert_eq!(offer.words.as_str(), "abandon zoo ability zoo able about");
        assert_eq!(offer.digits.as_str(), "9999 0000 0042 0007 0256");
        let digits = offer.chosen(b" 99990000 0042  00070256").unwrap();
        assert_eq!(digits.as_slice(), b"9999 0000 0042 0007 0256");
        let words = offer.chosen(b"Abandon zoo ability  zoo able about").unwrap();
        assert_eq!(words.as_slice(), offer.words.as_bytes());
        assert!(offer.chosen(b"abandon zoo").is_none() && offer.chosen(b"").is_none());
        assert!(Offer::from(&[0xff; DRAWN]).is_none(), "too few numbers fit");
    }

    #[test]
    fn two_offers_differ() {
        let (one, other) = (Offer::draw().unwrap(), Offer::draw().unwrap());
        assert!(one.words != other.words && one.digits != other.digits);
        let mut shown = Vec::new();
        one.show(&mut shown);
        let shown = String::from_utf8(shown).unwrap();
        assert!(shown.contains(one.words.as_str()) && shown.contains(one.digits.as_str()));
    }
}
