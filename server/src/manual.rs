//! The manual and the completions of a shell, made from the command line itself.

use clap::CommandFactory;
use clap_complete::Shell;
use serde_json::json;

use crate::{
    args::Command,
    run::{Failure, Said, file_failed},
};

pub(crate) fn completions(shell: Shell) -> Said {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Command::command(), "martletd", &mut text);
    told(&text)
}

/// All pages, one after the other, as man(1) reads them.
pub(crate) fn pages() -> Result<Said, Failure> {
    let mut text = Vec::new();
    let mut root = Command::command();
    root.build();
    let page = |of: clap::Command, text: &mut Vec<u8>| clap_mangen::Man::new(of).render(text);
    page(root.clone(), &mut text).map_err(file_failed)?;
    for verb in root.get_subcommands() {
        page(verb.clone(), &mut text).map_err(file_failed)?;
    }
    Ok(told(&text))
}

fn told(text: &[u8]) -> Said {
    let text = String::from_utf8_lossy(text).into_owned();
    Said {
        json: json!({"text": text}),
        text,
    }
}
