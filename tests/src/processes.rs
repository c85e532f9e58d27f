//! The two binaries as processes of their own, with folders of their own.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;

/// A binary of the workspace: beside this program, or one folder up if this is a test.
pub fn binary(name: &str) -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let mut dir = program.parent().unwrap();
    if dir.ends_with("deps") {
        dir = dir.parent().unwrap();
    }
    let path = dir.join(name);
    if !path.exists() {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        assert!(
            Command::new(cargo)
                .args(["build", "--workspace", "--bins"])
                .status()
                .unwrap()
                .success()
        );
    }
    path
}

/// A relay that runs.
pub struct Daemon {
    /// Its folder.
    pub dir: PathBuf,
    /// Its process.
    pub child: Child,
    /// What it said when it was ready.
    pub ready: Value,
}

impl Daemon {
    /// Starts the relay of a folder and waits until it accepts.
    pub fn start(dir: &Path) -> Self {
        Self::start_through(Command::new(binary("martletd")), dir)
    }

    /// Starts the relay of a folder by a command that takes the arguments of `martletd`.
    pub fn start_through(mut command: Command, dir: &Path) -> Self {
        let mut child = command
            .args(["serve", "--json", "--dir"])
            .arg(dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        Self {
            dir: dir.to_path_buf(),
            child,
            ready: serde_json::from_str(&line).unwrap(),
        }
    }

    /// Fixes the port, so that links stay true over restarts.
    pub fn settle(&self) {
        let config = self.dir.join("martletd.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        let listen = self.ready["listen"][0].as_str().unwrap();
        std::fs::write(config, text.replace("127.0.0.1:0", listen)).unwrap();
    }

    /// Kills it with signal 9.
    pub fn kill(self) {
        drop(self);
    }

    /// Ends it as a service manager would.
    pub fn terminate(mut self) {
        let pid = self.child.id().to_string();
        let told = Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(told.success() && self.child.wait().unwrap().success());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command of `martletd` to its end.
pub fn martletd(args: &[&str]) -> Output {
    Command::new(binary("martletd")).args(args).output().unwrap()
}

/// A folder with a relay and the vaults of people in it.
pub struct World {
    /// The folder.
    pub dir: tempfile::TempDir,
}

impl World {
    /// A new relay that runs, and nobody yet.
    pub fn start() -> (Self, Daemon) {
        let world = Self::without_relay();
        let relay = world.path("relay");
        let made = martletd(&[
            "init",
            "--dir",
            relay.to_str().unwrap(),
            "--listen",
            "127.0.0.1:0",
            "--json",
        ]);
        assert!(made.status.success());
        let daemon = Daemon::start(&relay);
        daemon.settle();
        (world, daemon)
    }

    /// A folder for people whose relay is elsewhere.
    pub fn without_relay() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("passphrase"), "correct horse\n").unwrap();
        std::fs::write(dir.path().join("wrong"), "incorrect horse\n").unwrap();
        Self { dir }
    }

    /// A file or folder in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A command of somebody's.
    pub fn command(&self, who: &str, args: &[&str]) -> Command {
        let mut command = Command::new(binary("martlet"));
        command
            .arg("--home")
            .arg(self.path(who))
            .args(args)
            .stdin(Stdio::null());
        if !args.contains(&"--passphrase-file") {
            command.arg("--passphrase-file").arg(self.path("passphrase"));
        }
        command
    }

    /// Runs a command with `--json`: its exit code, and the one object that it may print.
    pub fn run(&self, who: &str, args: &[&str]) -> (i32, Value) {
        let done = self.command(who, args).arg("--json").output().unwrap();
        let (out, err) = (
            String::from_utf8(done.stdout).unwrap(),
            String::from_utf8(done.stderr).unwrap(),
        );
        assert!(!err.contains("panicked"), "{err}");
        let value = serde_json::from_str(&out)
            .unwrap_or_else(|_| panic!("{args:?}: one JSON object, not {out:?} {err}"));
        (done.status.code().unwrap(), value)
    }

    /// Runs a command that must succeed.
    pub fn ok(&self, who: &str, args: &[&str]) -> Value {
        let (code, value) = self.run(who, args);
        assert_eq!(code, 0, "{args:?}: {value}");
        value
    }

    /// Runs a command that must fail with this exit code and error code, and with advice.
    pub fn fails(&self, who: &str, args: &[&str], code: i32, name: &str) {
        let (found, value) = self.run(who, args);
        assert_eq!(
            (found, value["error"]["code"].as_str()),
            (code, Some(name)),
            "{args:?}: {value}"
        );
        assert!(!value["error"]["message"].as_str().unwrap().is_empty());
        assert!(!value["error"]["advice"].as_str().unwrap().is_empty());
    }

    /// Counsel and client with a case between them; the names of the case on both sides.
    pub fn case(&self, daemon: &Daemon) -> (String, String, String) {
        let link = daemon.ready["link"].as_str().unwrap();
        self.ok(
            "ines",
            &["init", "--name", "Ines", "--relay", link, "--kdf-floor"],
        );
        self.ok("amal", &["init", "--name", "Amal", "--kdf-floor"]);
        let invite = self.ok("ines", &["invite"])["invite"]
            .as_str()
            .unwrap()
            .to_string();
        let opened = self.ok("amal", &["open", &invite, "--text", "first"]);
        assert_eq!(opened["with"]["name"], "Ines");
        assert!(opened["with"]["fingerprint"].is_string());
        let theirs = self.ok("ines", &["cases"])["cases"][0]["case"]
            .as_str()
            .unwrap()
            .to_string();
        (opened["case"].as_str().unwrap().to_string(), theirs, invite)
    }

    /// All texts of a case, as somebody reads them.
    pub fn texts(&self, who: &str, case: &str) -> Vec<String> {
        let read = self.ok(who, &["read", case, "--all"]);
        let letters = read["letters"].as_array().unwrap().clone();
        letters
            .iter()
            .filter_map(|letter| Some(letter["text"].as_str()?.to_string()))
            .collect()
    }
}
