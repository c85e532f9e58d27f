//! Where a passphrase or recovery digits come from: a file, a descriptor or the terminal. Never an argument or the environment.

mod fresh;

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read as _, Write as _},
    path::{Path, PathBuf},
};

use martlet::Error;
use zeroize::Zeroizing;

use crate::{
    args::{ArchiveSource, Args, DigitsSource},
    speak::Failure,
    words::say,
};

const BYTES_MAX: u64 = 4096;
const TRIES: u32 = 3;

/// Whether a new one is being chosen.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Open,
    Create,
}

/// Reads it from where the arguments say, or asks.
pub(crate) fn take(args: &Args, purpose: Purpose) -> Result<Zeroizing<Vec<u8>>, Failure> {
    match given(args.passphrase_file.as_deref(), args.passphrase_fd)? {
        Some(taken) => checked(taken, purpose),
        None => asked(purpose, "ask-passphrase"),
    }
}

/// The passphrase of an archive: from a source of its own, else the vault's if that has a source, else asked for.
pub(crate) fn take_for_archive(
    args: &Args,
    source: &ArchiveSource,
    purpose: Purpose,
) -> Result<Option<Zeroizing<Vec<u8>>>, Failure> {
    let own = given(
        source.archive_passphrase_file.as_deref(),
        source.archive_passphrase_fd,
    )?;
    match own {
        Some(taken) => checked(taken, purpose).map(Some),
        None if args.passphrase_file.is_some() || args.passphrase_fd.is_some() => Ok(None),
        None => {
            if purpose == Purpose::Create {
                Terminal.show(&say("tell-archive", None)).map_err(Error::File)?;
            }
            asked(purpose, "ask-archive").map(Some)
        }
    }
}

/// Recovery digits as typed: from a file, a descriptor or the terminal, if the command is to use some.
pub(crate) fn take_digits(source: &DigitsSource) -> Result<Option<Zeroizing<Vec<u8>>>, Failure> {
    let taken = given(source.digits_file.as_deref(), source.digits_fd)?;
    if taken.is_some() || !source.digits {
        return Ok(taken);
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(say("err-digits-needed", None)));
    }
    ask(Purpose::Open, "ask-digits", &mut Terminal).map(Some)
}

fn given(file: Option<&Path>, fd: Option<u32>) -> Result<Option<Zeroizing<Vec<u8>>>, Failure> {
    match (file, fd) {
        (Some(file), _) => read(file).map(Some),
        (None, Some(fd)) => read(&PathBuf::from(format!("/dev/fd/{fd}"))).map(Some),
        (None, None) => Ok(None),
    }
}

fn asked(purpose: Purpose, key: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(say("err-passphrase-needed", None)));
    }
    checked(ask(purpose, key, &mut Terminal)?, purpose)
}

fn checked(taken: Zeroizing<Vec<u8>>, purpose: Purpose) -> Result<Zeroizing<Vec<u8>>, Failure> {
    if purpose == Purpose::Create && taken.is_empty() {
        return Err(Failure::usage(say("err-passphrase-empty", None)));
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

/// Somebody who can be asked.
trait Person {
    /// Asks for what must not be seen.
    fn secret(&mut self, prompt: &str) -> io::Result<Zeroizing<String>>;
    /// Asks for what may be seen.
    fn choice(&mut self, prompt: &str) -> io::Result<String>;
    /// Shows something once.
    fn show(&mut self, text: &str) -> io::Result<()>;
    /// Random bytes, out of this person's sight.
    fn entropy(&mut self) -> Result<Zeroizing<[u8; fresh::ENTROPY_BYTES]>, Error>;
}

fn ask(purpose: Purpose, key: &str, person: &mut dyn Person) -> Result<Zeroizing<Vec<u8>>, Failure> {
    if purpose == Purpose::Create {
        return create(key, person);
    }
    let typed = person.secret(&prompt(key)).map_err(Error::File)?;
    Ok(Zeroizing::new(typed.as_bytes().to_vec()))
}

/// Offers one made here, or takes the person's own; either is typed once more.
fn create(key: &str, person: &mut dyn Person) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let how = person.choice(&prompt("ask-how")).map_err(Error::File)?;
    let (chosen, tries) = match how.trim() {
        "1" => (fresh::words(&*person.entropy()?), TRIES),
        "2" => (fresh::digits(&*person.entropy()?), TRIES),
        _ => (person.secret(&prompt(key)).map_err(Error::File)?, 1),
    };
    if tries == TRIES {
        let text = Zeroizing::new(format!("{}\n\n    {}\n", say("tell-made", None), *chosen));
        person.show(&text).map_err(Error::File)?;
    }
    for _ in 0..tries {
        if person.secret(&prompt("ask-again")).map_err(Error::File)? == chosen {
            return Ok(Zeroizing::new(chosen.as_bytes().to_vec()));
        }
    }
    Err(Failure::usage(say("err-passphrase-differs", None)))
}

fn prompt(key: &str) -> String {
    format!("{} ", say(key, None))
}

/// The person at this process's terminal.
struct Terminal;

impl Person for Terminal {
    fn secret(&mut self, prompt: &str) -> io::Result<Zeroizing<String>> {
        rpassword::prompt_password(prompt).map(Zeroizing::new)
    }

    fn choice(&mut self, prompt: &str) -> io::Result<String> {
        let mut stderr = io::stderr().lock();
        write!(stderr, "{prompt}")?;
        stderr.flush()?;
        let mut line = String::new();
        io::stdin().read_line(&mut line)?;
        Ok(line)
    }

    fn show(&mut self, text: &str) -> io::Result<()> {
        writeln!(io::stderr().lock(), "{text}")
    }

    fn entropy(&mut self) -> Result<Zeroizing<[u8; fresh::ENTROPY_BYTES]>, Error> {
        let mut bytes = Zeroizing::new([0; fresh::ENTROPY_BYTES]);
        getrandom::fill(&mut *bytes).map_err(|_| Error::Internal("no randomness"))?;
        Ok(bytes)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
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
    fn a_made_passphrase_is_shown_once_and_typed_again() {
        let made = "zoo zoo zoo zoo zoo zoo";
        let mut person = Scripted::new(&["1\n", "typo", made]);
        assert_eq!(**create("ask-passphrase", &mut person).unwrap(), *made.as_bytes());
        assert_eq!(person.shown.matches(made).count(), 1);
        let mut person = Scripted::new(&["2\n", "no", "no", "no", made]);
        assert_eq!(create("ask-passphrase", &mut person).unwrap_err().exit, 2);
        assert_eq!(person.answers.len(), 1);
    }

    #[test]
    fn ones_own_passphrase_is_typed_twice() {
        let mut person = Scripted::new(&["\n", "my own", "my own"]);
        assert_eq!(**create("ask-passphrase", &mut person).unwrap(), *b"my own");
        assert!(person.shown.is_empty());
        assert_eq!(
            create("ask-passphrase", &mut Scripted::new(&["", "my own", "my"]))
                .unwrap_err()
                .exit,
            2
        );
        let mut person = Scripted::new(&["my own"]);
        assert_eq!(
            **ask(Purpose::Open, "ask-passphrase", &mut person).unwrap(),
            *b"my own"
        );
        assert_eq!(person.asked, "Passphrase: ");
    }

    #[test]
    fn an_archives_passphrase_is_asked_for_as_that() {
        let mut person = Scripted::new(&["", "its own", "its own"]);
        let taken = ask(Purpose::Create, "ask-archive", &mut person).unwrap();
        assert_eq!(**taken, *b"its own");
        let asked = "Passphrase of the archive: The same again: ";
        assert!(person.asked.ends_with(asked), "{}", person.asked);
    }

    /// Answers in order, and what was shown.
    struct Scripted {
        answers: Vec<String>,
        asked: String,
        shown: String,
    }

    impl Scripted {
        fn new(answers: &[&str]) -> Self {
            Self {
                answers: answers.iter().rev().map(ToString::to_string).collect(),
                asked: String::new(),
                shown: String::new(),
            }
        }
    }

    impl Person for Scripted {
        fn secret(&mut self, prompt: &str) -> io::Result<Zeroizing<String>> {
            self.choice(prompt).map(Zeroizing::new)
        }

        fn choice(&mut self, prompt: &str) -> io::Result<String> {
            self.asked.push_str(prompt);
            self.answers
                .pop()
                .ok_or_else(|| io::Error::other("no more answers"))
        }

        fn show(&mut self, text: &str) -> io::Result<()> {
            self.shown.push_str(text);
            Ok(())
        }

        fn entropy(&mut self) -> Result<Zeroizing<[u8; fresh::ENTROPY_BYTES]>, Error> {
            Ok(Zeroizing::new([0xff; fresh::ENTROPY_BYTES]))
        }
    }
}
