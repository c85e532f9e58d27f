//! Transcripts: what a person types and what they see, in `tests/cmd/*.txt`.
//!
//! `$ ` begins a line for the shell. What follows is its output: as it is from stdout, after `! ` from stderr, then
//! `? CODE` unless the code is 0. `[..]` stands for anything within a line, a line `[...]` for any lines. `# ` begins a
//! comment; `# relay` has a relay run, whose link is in `$LINK`. Each transcript has an empty folder of its own, with
//! a passphrase in the file `pass`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests fail by panicking, and count on small numbers"
)]

use std::{
    path::Path,
    process::{Command, Stdio},
};

use martlet_tests::processes::{World, binary};

struct Step {
    typed: String,
    seen: Vec<String>,
}

fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in text.lines() {
        if let Some(typed) = line.strip_prefix("$ ") {
            steps.push(Step {
                typed: typed.into(),
                seen: Vec::new(),
            });
        } else if !line.starts_with("# ") && !line.is_empty() {
            steps.last_mut().unwrap().seen.push(line.into());
        }
    }
    steps
}

fn fits(line: &str, wanted: &str) -> bool {
    let mut parts = wanted.split("[..]");
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        let Some((_, after)) = rest.split_once(part) else {
            return false;
        };
        rest = after;
    }
    rest.ends_with(last)
}

fn all_fit(lines: &[String], wanted: &[String]) -> bool {
    match wanted.split_first() {
        None => lines.is_empty(),
        Some((first, after)) if first == "[...]" => {
            (0..=lines.len()).any(|skipped| all_fit(&lines[skipped..], after))
        }
        Some((first, after)) => {
            lines.first().is_some_and(|line| fits(line, first)) && all_fit(&lines[1..], after)
        }
    }
}

/// What a person sees of a command: stdout, stderr, the exit code.
fn run(typed: &str, dir: &Path, link: &str) -> Vec<String> {
    let programs = binary("martlet");
    binary("martletd");
    let path = format!("{}:/usr/bin:/bin", programs.parent().unwrap().display());
    let done = Command::new("sh")
        .args(["-c", typed])
        .current_dir(dir)
        .env_clear()
        .envs([
            ("PATH", path.as_str()),
            ("HOME", "."),
            ("MARTLET_HOME", "home"),
            ("LINK", link),
        ])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let lines = |bytes: &[u8]| -> Vec<String> {
        let text = String::from_utf8_lossy(bytes).into_owned();
        text.lines()
            .map(str::to_string)
            .filter(|line| !line.is_empty())
            .collect()
    };
    let mut seen = lines(&done.stdout);
    seen.extend(lines(&done.stderr).iter().map(|line| format!("! {line}")));
    match done.status.code() {
        Some(0) => {}
        code => seen.push(format!("? {}", code.unwrap())),
    }
    seen
}

fn plays(text: &str) -> Result<(), String> {
    let with_relay = text.lines().any(|line| line == "# relay");
    let (world, daemon) = match with_relay {
        true => {
            let (world, daemon) = World::start();
            (world, Some(daemon))
        }
        false => (World::without_relay(), None),
    };
    let link = daemon
        .as_ref()
        .map(|daemon| daemon.ready["link"].as_str().unwrap().to_string());
    let dir = world.path("desk");
    std::fs::create_dir(&dir).unwrap();
    std::fs::copy(world.path("passphrase"), dir.join("pass")).unwrap();
    std::fs::copy(world.path("wrong"), dir.join("wrong")).unwrap();
    let (mut told, mut right) = (String::new(), true);
    for step in steps(text) {
        let seen = run(&step.typed, &dir, link.as_deref().unwrap_or_default());
        right &= all_fit(&seen, &step.seen);
        told.push_str(&format!("$ {}\n{}\n", step.typed, seen.join("\n")));
    }
    if right { Ok(()) } else { Err(told) }
}

#[test]
fn people_see_what_the_transcripts_say() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("cmd");
    let mut paths: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(paths.len() >= 5);
    let wrong: Vec<String> = paths
        .iter()
        .filter_map(|path| {
            let told = plays(&std::fs::read_to_string(path).unwrap()).err()?;
            Some(format!(
                "{} played otherwise:\n{told}",
                path.file_name()?.display()
            ))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_transcript_that_differs_is_noticed() {
    assert!(plays("$ echo one two\none [..]\n$ echo a; echo b; exit 3\n[...]\nb\n? 3\n").is_ok());
    for wrong in [
        "$ echo one\ntwo\n",
        "$ echo one\n",
        "$ exit 1\n",
        "$ echo one >&2\none\n",
        "$ true\n[..]\n",
    ] {
        assert!(plays(wrong).is_err(), "{wrong}");
    }
}
