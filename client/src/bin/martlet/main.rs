//! `martlet`: the client for people and scripts. It reads words, asks the library, and says what came of it.

mod archive;
mod args;
#[cfg(feature = "demo")]
mod demo;
mod device;
mod ipc;
mod json;
mod passphrase;
mod progress;
mod received;
mod roads;
mod run;
mod send;
mod speak;
mod tell;
mod words;

use std::process::ExitCode;

use clap::Parser as _;

use crate::{
    args::Args,
    speak::{Failure, Out as _, Terminal},
};

fn main() -> ExitCode {
    martlet::vault::harden();
    if std::env::args_os()
        .nth(1)
        .is_some_and(|word| word == received::DRAW)
    {
        martlet::pictures::serve();
        return ExitCode::SUCCESS;
    }
    let wants_json = std::env::args_os().any(|word| word == "--json");
    words::speak(words::choose(std::env::args_os(), |name| std::env::var_os(name)));
    let mut out = Terminal::new(wants_json);
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            if error.use_stderr() {
                return ExitCode::from(out.fail(&Failure::usage(error.to_string())));
            }
            out.data(&error.to_string());
            return ExitCode::SUCCESS;
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return ExitCode::from(out.fail(&martlet::Error::File(error).into())),
    };
    let code = match runtime.block_on(run::start(args, &mut out)) {
        Ok(code) => code,
        Err(failure) => out.fail(&failure),
    };
    ExitCode::from(code)
}
