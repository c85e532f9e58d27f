//! Where a passphrase comes from: a file, a descriptor or the terminal. Never an argument or the environment.

use std::{
    fs::File,
    io::{IsTerminal as _, Read as _},
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
    let first = prompt("Passphrase: ")?;
    if purpose == Purpose::Create && prompt("The same again: ")? != first {
        return Err(Failure::usage("the two passphrases differ".into()));
    }
    Ok(first)
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
}
