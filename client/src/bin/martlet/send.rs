//! `send` and `scrub`: what photographs say beside their pixels is told, and a working copy goes without it.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use martlet::{
    Client, Error,
    scrub::{self, Finding, Scrubbed, Unscrubbed},
    view::Sent,
};
use serde_json::{Value, json};

use crate::{
    args::ScrubName,
    json as shape,
    progress::Bar,
    run::{Exit, list, queued},
    speak::{Failure, Out},
    tell, words,
};

const REFUSED: u8 = 8;

/// Sends words, then documents.
pub(crate) async fn send(
    client: &Client,
    case: &str,
    text: Option<String>,
    (files, which): (&[PathBuf], ScrubName),
    out: &mut dyn Out,
) -> Exit {
    let mut sending = Sending::default();
    if let Some(text) = text {
        sending.letters.push(client.send_text(case, &text).await?);
    }
    for file in files {
        let done = sending.file(client, case, (file, which), out).await;
        match done {
            Ok(()) => {}
            Err(failure) if sending.letters.is_empty() => return Err(failure),
            Err(failure) => {
                // What was stored before must not be sent again: the letters are told, then the failure.
                let told =
                    json!({"code": failure.code, "message": failure.message, "advice": failure.advice});
                list(
                    &sending.value(("error", told)),
                    sending.letters.iter().map(tell::sent).collect(),
                    out,
                );
                out.say(&format!(
                    "{}: {}\n{}",
                    file.display(),
                    failure.message,
                    failure.advice
                ));
                return Ok(failure.exit);
            }
        }
    }
    let waits = sending.letters.iter().any(|letter| letter.queued);
    let told = sending.letters.iter().map(tell::sent).collect();
    list(&sending.value(("queued", waits.into())), told, out);
    Ok(queued(waits, out))
}

/// What has been sent so far.
#[derive(Default)]
struct Sending {
    letters: Vec<Sent>,
    files: Vec<Value>,
}

impl Sending {
    async fn file(
        &mut self,
        client: &Client,
        case: &str,
        (file, which): (&Path, ScrubName),
        out: &mut dyn Out,
    ) -> Result<(), Failure> {
        let scrubbed = match which {
            ScrubName::Off => None,
            ScrubName::Both | ScrubName::Only => Some(read_and_scrub(file)?),
        };
        let state = match &scrubbed {
            None => "off",
            Some(Ok(copy)) if copy.found.is_empty() => "clean",
            Some(Ok(_)) => "scrubbed",
            Some(Err(why)) if which == ScrubName::Only => return Err(refused(*why)),
            Some(Err(_)) => "sealed-only",
        };
        let found = scrubbed.as_ref().and_then(|copy| copy.as_ref().ok());
        tell_found(file, scrubbed.as_ref(), out);
        let mut bar = Bar::new(out.draws());
        let mut original = None;
        if which != ScrubName::Only {
            let sent = client
                .send_file(case, file, &mut |progress| bar.show(progress))
                .await;
            bar.end();
            let sent = sent?;
            original = sent.sha256;
            self.letters.push(sent);
        }
        if let Some(copy) = found.filter(|copy| which == ScrubName::Only || !copy.found.is_empty()) {
            let mut bar = Bar::new(out.draws());
            let name = original.map_or_else(|| file.to_path_buf(), |_| copys_name(file));
            let content = (name.as_path(), copy.bytes.as_slice());
            let sent = client
                .send_copy(case, content, original, &mut |progress| bar.show(progress))
                .await;
            bar.end();
            self.letters.push(sent?);
        }
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        self.files
            .push(json!({"file": name, "scrub": state, "found": names(found)}));
        Ok(())
    }

    /// What programs are told, with one thing more.
    fn value(&self, (name, more): (&str, Value)) -> Value {
        let letters: Vec<_> = self.letters.iter().map(shape::sent).collect();
        json!({"letters": letters, "files": self.files, name: more})
    }
}

/// A name that tells a copy from its original.
fn copys_name(file: &Path) -> PathBuf {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let ending = file.extension().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!("{stem}.scrubbed.{ending}"))
}

/// Writes a working copy beside a photograph.
pub(crate) fn scrub(file: &Path, to: &Path, out: &mut dyn Out) -> Exit {
    let copy = read_and_scrub(file)?.map_err(refused)?;
    let mut made = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(to)
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => Error::FileExists,
            _ => Error::File(error),
        })?;
    let written = made.write_all(&copy.bytes).and_then(|()| made.sync_all());
    if let Err(error) = written {
        let _ = std::fs::remove_file(to);
        return Err(Error::File(error).into());
    }
    let found = names(Some(&copy));
    let path = to.display().to_string();
    out.both(&json!({"path": path, "found": found, "removed": found}), &path);
    tell_found(file, Some(&Ok(copy)), out);
    Ok(0)
}

fn read_and_scrub(file: &Path) -> Result<Result<Scrubbed, Unscrubbed>, Failure> {
    let open = File::open(file).map_err(Error::File)?;
    let about = open.metadata().map_err(Error::File)?;
    if !about.is_file() {
        return Err(Error::Usage(martlet::Usage::NotAFile).into());
    }
    let mut head = Vec::new();
    let mut open = open;
    (&mut open).take(16).read_to_end(&mut head).map_err(Error::File)?;
    // What is no image is not read as a whole: it may be a film of many gigabytes.
    if scrub::scrub(&head) == Err(Unscrubbed::Kind) {
        return Ok(Err(Unscrubbed::Kind));
    }
    if about.len() > scrub::BYTES_MAX {
        return Ok(Err(Unscrubbed::TooLarge));
    }
    open.take(scrub::BYTES_MAX)
        .read_to_end(&mut head)
        .map_err(Error::File)?;
    Ok(scrub::scrub(&head))
}

fn names(copy: Option<&Scrubbed>) -> Vec<&'static str> {
    copy.map(|copy| copy.found.iter().map(|finding| finding.name()).collect())
        .unwrap_or_default()
}

/// Tells the person what a file carries.
fn tell_found(file: &Path, copy: Option<&Result<Scrubbed, Unscrubbed>>, out: &mut dyn Out) {
    let name = shape::line(&file.file_name().unwrap_or_default().to_string_lossy());
    match copy {
        None => {}
        Some(Err(_)) => out.say(&words::say("scrub-sealed-only", Some(&name))),
        Some(Ok(copy)) if copy.found.is_empty() => {}
        Some(Ok(copy)) => {
            out.say(&words::say("scrub-found", Some(&name)));
            for finding in &copy.found {
                out.say(&format!("  {}", words::say(key(*finding), None)));
            }
        }
    }
}

const fn key(finding: Finding) -> &'static str {
    match finding {
        Finding::Position => "found-position",
        Finding::Time => "found-time",
        Finding::Device => "found-device",
        Finding::Author => "found-author",
        Finding::Thumbnail => "found-thumbnail",
        Finding::Comment => "found-comment",
        Finding::MakerNote => "found-maker-note",
        Finding::Metadata => "found-metadata",
        Finding::Profile => "found-profile",
        Finding::Trailing => "found-trailing",
    }
}

fn refused(why: Unscrubbed) -> Failure {
    let (code, key) = match why {
        Unscrubbed::Kind => ("not-scrubbed", "err-unscrubbed-kind"),
        Unscrubbed::TooLarge => ("not-scrubbed", "err-unscrubbed-too-large"),
        Unscrubbed::Damaged => ("not-scrubbed", "err-unscrubbed-damaged"),
    };
    Failure {
        code,
        message: words::say(key, None),
        advice: words::say("do-unscrubbed", None),
        exit: REFUSED,
    }
}
