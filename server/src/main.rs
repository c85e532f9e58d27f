//! `martletd`: the relay's commands. What they print and how they end is a contract: see `README.md`.

mod args;
mod backup;
mod checks;
mod daemon;
mod init;
mod local;
mod manual;
mod notify;
mod probe;
mod run;
mod sandbox;
mod scrape;

use std::process::ExitCode;

fn main() -> ExitCode {
    let none = rustix::process::Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    run::main(std::env::args_os())
}
