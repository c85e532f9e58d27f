//! Where output goes: data to stdout, words for people to stderr.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this file is the program's voice"
)]

use std::io::{IsTerminal as _, Write as _};

use martlet::{Error, ErrorClass};
use serde_json::{Value, json};

use crate::words;

/// Takes what a command has to say.
pub(crate) trait Out: Send {
    /// Whether programs listen.
    fn json(&self) -> bool;
    /// Data.
    fn data(&mut self, text: &str);
    /// Words for people.
    fn say(&mut self, text: &str);
    /// Whether bars and QR codes can be drawn for people.
    fn draws(&self) -> bool;

    /// One JSON object for programs, or text for people.
    fn both(&mut self, value: &Value, text: &str) {
        if self.json() {
            self.data(&value.to_string());
        } else {
            self.data(text);
        }
    }

    /// Says what failed and gives the exit code.
    fn fail(&mut self, failure: &Failure) -> u8 {
        if self.json() {
            let error = json!({"code": failure.code, "message": failure.message, "advice": failure.advice});
            self.data(&json!({ "error": error }).to_string());
        } else {
            self.say(&failure.message);
            self.say(&failure.advice);
        }
        failure.exit
    }
}

/// A failure as it is said.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) advice: String,
    pub(crate) exit: u8,
}

impl Failure {
    /// Words that the command line does not have.
    pub(crate) fn usage(message: String) -> Self {
        let advice = words::say("do-usage", None);
        Self {
            code: "usage",
            message: message.trim_start_matches("error: ").trim_end().into(),
            advice,
            exit: 2,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = exit(error.class());
        Self {
            code: error.code(),
            message: words::say(error.words().err, error.detail().as_deref()),
            advice: words::say(error.words().advice, None),
            exit,
        }
    }
}

/// The exit code of a class of failures.
pub(crate) const fn exit(class: ErrorClass) -> u8 {
    match class {
        ErrorClass::Other => 1,
        ErrorClass::Usage => 2,
        ErrorClass::Network => 3,
        ErrorClass::Locked => 4,
        ErrorClass::Verification => 5,
        ErrorClass::NotFound => 6,
        ErrorClass::Partly => 7,
        ErrorClass::Refused => 8,
    }
}

/// This process's own stdout and stderr.
pub(crate) struct Terminal {
    json: bool,
}

impl Terminal {
    pub(crate) const fn new(json: bool) -> Self {
        Self { json }
    }
}

impl Out for Terminal {
    fn json(&self) -> bool {
        self.json
    }

    fn data(&mut self, text: &str) {
        let mut stdout = std::io::stdout().lock();
        // A reader that went away is no failure of ours.
        let _gone = writeln!(stdout, "{}", text.trim_end_matches('\n')).and_then(|()| stdout.flush());
    }

    fn say(&mut self, text: &str) {
        let _gone = writeln!(std::io::stderr().lock(), "{text}");
    }

    fn draws(&self) -> bool {
        !self.json
            && std::io::stderr().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())
    }
}
