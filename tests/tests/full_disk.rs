//! A relay whose disk is full: what needs room is refused, everything else works, nothing acknowledged is lost, and it
//! goes on by itself when there is room again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::print_stderr,
    reason = "tests fail by panicking, and count on small numbers"
)]

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use martlet::link::{Connect, Link, LinkError, ask, quic::Quic};
use martlet_proto::{
    Admission, Append, Bind, Call, ChannelId, Class, Day, Drop as DropChannel, EntryId, Envelope, Follow,
    Grant, Incarnation, Keeper, Kind, Open, Read, Reader, Refusal, Seal, Secret, Seq, Slot, Token, Trim,
    Writer, call::Item, frame::Request, link::RelayLink,
};
use martlet_server::{
    Effect, Input, Peer,
    relay::{From, Stream},
    store::segments::{Options, Segments},
};
use martlet_tests::processes::{Daemon, World, binary};

/// A small disk of its own, in a namespace that ends with it.
struct SmallDisk {
    holder: Child,
    at: PathBuf,
    _dir: tempfile::TempDir,
}

impl SmallDisk {
    /// `None` where this machine does not let us mount.
    fn new(mib: u32) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("disk");
        std::fs::create_dir(&at).unwrap();
        let mount = format!(
            "mount -t tmpfs -o size={mib}m,mode=700 tmpfs '{}' && echo mounted && exec sleep 3600",
            at.display()
        );
        let mut holder = Command::new("unshare")
            .args(["-m", "sh", "-c", &mount])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut line = String::new();
        BufReader::new(holder.stdout.take()?).read_line(&mut line).ok()?;
        if line.trim() == "mounted" {
            return Some(Self {
                holder,
                at,
                _dir: dir,
            });
        }
        holder.wait().ok()?;
        eprintln!("NOT RUN: a small disk needs the right to mount one");
        None
    }

    /// Its files as they are seen from outside.
    fn outside(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(self.at.strip_prefix("/").unwrap())
    }

    fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-m", "-t", &self.holder.id().to_string()]);
        command.arg(binary(program));
        command
    }

    fn free_bytes(&self) -> u64 {
        let disk = rustix::fs::statvfs(self.outside()).unwrap();
        disk.f_bavail * disk.f_frsize
    }

    /// Leaves about so many bytes free.
    fn fill(&self, leave: u64) {
        let mut filler = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.outside().join("filler"))
            .unwrap();
        while self.free_bytes() > leave + 4096 {
            let size = (self.free_bytes() - leave).min(1 << 20);
            filler
                .write_all(&vec![7; usize::try_from(size).unwrap()])
                .unwrap();
        }
    }

    fn give_room(&self) {
        let _ = std::fs::remove_file(self.outside().join("filler"));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// All rights on a channel, and what the relay acknowledged in it.
struct Channel {
    class: Class,
    read: Grant<Reader>,
    write: Grant<Writer>,
    keep: Grant<Keeper>,
    acknowledged: Vec<EntryId>,
}

impl Channel {
    fn new(class: Class, seed: u8) -> Self {
        let read = Token::<Reader>::new(Secret::new([seed; 32]));
        let write = Token::<Writer>::new(Secret::new([seed ^ 0x55; 32]));
        let keep = Token::<Keeper>::new(Secret::new([seed ^ 0xaa; 32]));
        let channel = ChannelId::commit(class, &read.hash(), &write.hash(), &keep.hash(), &Bind::NONE);
        Self {
            class,
            read: Grant { channel, token: read },
            write: Grant {
                channel,
                token: write,
            },
            keep: Grant { channel, token: keep },
            acknowledged: Vec::new(),
        }
    }

    fn opening(&self, admission: Admission) -> Open {
        Open {
            class: self.class,
            read: self.read.token.hash(),
            keep: self.keep.token.hash(),
            bind: Bind::NONE,
            admission: Some(admission),
        }
    }

    async fn open(&self, link: &dyn Link, relay: &RelayLink) -> Result<(), LinkError> {
        let open = self.opening(relay.admission.clone());
        ask(link, &self.write, open).await.map(|_| ())
    }

    fn item(&self, kind: Kind) -> Item {
        let mut id = [0xee; 16];
        id[..8].copy_from_slice(&(self.acknowledged.len() as u64).to_be_bytes());
        Item {
            kind,
            id: EntryId::new(id),
            envelope: Envelope::new(vec![id[7]; 16 << 10].into()).unwrap(),
        }
    }

    async fn append(&mut self, link: &dyn Link) -> Result<(), LinkError> {
        let kind = match self.class {
            Class::Case => Kind::Letter,
            Class::Inbox => Kind::Packet,
            Class::File => Kind::Chunk,
            Class::Card => Kind::Card,
        };
        let item = self.item(kind);
        let (id, items) = (item.id, vec![item]);
        ask(link, &self.write, Append { within: None, items }).await?;
        self.acknowledged.push(id);
        Ok(())
    }

    /// The names of what is there, trimmed ones left out.
    async fn names(&self, link: &dyn Link) -> Vec<EntryId> {
        let (mut names, mut from) = (Vec::new(), Seq::FIRST);
        loop {
            let page = ask(link, &self.read, Read { from }).await.unwrap();
            for slot in &page.slots {
                if let Slot::Here(entry) = slot {
                    names.push(entry.id);
                }
                from = slot.seq().next().unwrap();
            }
            if from >= page.tip.next {
                return names;
            }
        }
    }
}

async fn connect(daemon: &Daemon) -> (Arc<dyn Link>, RelayLink) {
    let relay: RelayLink = daemon.ready["link"].as_str().unwrap().parse().unwrap();
    (Quic::new().connect(&relay.relay).await.unwrap(), relay)
}

fn admission() -> Admission {
    Admission::new(Secret::new([0xad; 16]))
}

fn is_full(done: &Result<(), LinkError>) -> bool {
    matches!(done, Err(LinkError::Refused(Refusal::Full)))
}

fn begin(disk: &SmallDisk) -> PathBuf {
    let dir = disk.at.join("relay");
    let made = disk
        .inside("martletd")
        .args(["init", "--listen", "127.0.0.1:0", "--json", "--dir"])
        .arg(&dir)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
    floor(disk, 0);
    dir
}

/// Free MiB below which the relay takes nothing: with none it meets the end of the disk itself.
fn floor(disk: &SmallDisk, mib: u32) {
    let config = disk.outside().join("relay/martletd.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let lines = text.lines().map(|line| match line.starts_with("disk_floor_mib") {
        true => format!("disk_floor_mib = {mib}\n"),
        false => format!("{line}\n"),
    });
    std::fs::write(config, lines.collect::<String>()).unwrap();
}

fn serve(disk: &SmallDisk, dir: &Path) -> Daemon {
    Daemon::start_through(disk.inside("martletd"), dir)
}

/// One round: from room to none, to a crash and a restart without room, to room again.
async fn round(disk: &SmallDisk, dir: &Path, number: u8, leave: u64) {
    let daemon = serve(disk, dir);
    let (link, relay) = connect(&daemon).await;
    let mut all: Vec<Channel> = [Class::Case, Class::Inbox, Class::File]
        .into_iter()
        .zip(1u8..)
        .map(|(class, at)| Channel::new(class, number * 8 + at))
        .collect();
    for channel in &mut all {
        channel.open(link.as_ref(), &relay).await.unwrap();
        channel.append(link.as_ref()).await.unwrap();
    }
    let spare = Channel::new(Class::Inbox, number * 8 + 7);
    spare.open(link.as_ref(), &relay).await.unwrap();
    let case = all[0].read.clone();
    let (_, mut pushes) = link
        .follow(martlet_proto::Call::new(&case, Follow { from: Seq::FIRST }))
        .await
        .unwrap();
    all[0].append(link.as_ref()).await.unwrap();

    disk.fill(leave);
    for channel in &mut all {
        let mut tries = 0;
        let refused = loop {
            tries += 1;
            assert!(tries < 3000, "a full disk was never said to be full");
            match channel.append(link.as_ref()).await {
                Ok(()) => {}
                refused => break refused,
            }
        };
        assert!(is_full(&refused), "leaving {leave}: {refused:?}");
    }
    let another = Channel::new(Class::Inbox, number * 8 + 6);
    // A record is small: it may still find a corner.
    let opened = another.open(link.as_ref(), &relay).await;
    assert!(opened.is_ok() || is_full(&opened), "{opened:?}");
    for channel in &all {
        assert_eq!(
            channel.names(link.as_ref()).await,
            channel.acknowledged,
            "leaving {leave}"
        );
    }
    // What gives room back, or needs none, is never refused for want of it.
    ask(link.as_ref(), &all[1].keep, Trim { before: Seq::new(1) })
        .await
        .unwrap();
    ask(link.as_ref(), &spare.keep, DropChannel).await.unwrap();
    assert!(pushes.next().await.is_some(), "followers are served");

    drop(link);
    daemon.kill();
    let daemon = serve(disk, dir);
    let (link, _) = connect(&daemon).await;
    for channel in &all {
        let trimmed = usize::from(channel.class == Class::Inbox);
        assert_eq!(
            channel.names(link.as_ref()).await,
            channel.acknowledged[trimmed..],
            "after a crash without room, leaving {leave}"
        );
    }
    let refused = all[0].append(link.as_ref()).await;
    assert!(refused.is_ok() || is_full(&refused), "{refused:?}");

    disk.give_room();
    for channel in &mut all {
        channel.append(link.as_ref()).await.unwrap();
    }
    let items = vec![Item {
        id: EntryId::new([0xcc; 16]),
        ..all[0].item(Kind::Commit)
    }];
    ask(link.as_ref(), &all[0].keep, Seal { within: None, items })
        .await
        .unwrap();
    all[0].acknowledged.push(EntryId::new([0xcc; 16]));
    daemon.terminate();

    let daemon = serve(disk, dir);
    let (link, _) = connect(&daemon).await;
    for channel in &all {
        let trimmed = usize::from(channel.class == Class::Inbox);
        assert_eq!(
            channel.names(link.as_ref()).await,
            channel.acknowledged[trimmed..]
        );
    }
    for channel in &all[1..] {
        ask(link.as_ref(), &channel.keep, DropChannel).await.unwrap();
    }
    daemon.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_loses_nothing_and_stops_no_reader() {
    let Some(disk) = SmallDisk::new(24) else { return };
    let dir = begin(&disk);
    for (number, leave) in (1u8..).zip([0, 4 << 10, 40 << 10, 300 << 10, 1200 << 10, 3 << 20]) {
        round(&disk, &dir, number, leave).await;
    }
}

#[test]
fn a_day_that_begins_on_a_full_disk_costs_nothing() {
    let Some(disk) = SmallDisk::new(24) else { return };
    let dir = disk.outside().join("store");
    let options = Options {
        segment_bytes: 64 << 10,
        floor_bytes: 0,
        ..Options::default()
    };
    let days = |count: u32| Day(20_500).plus(count);
    let mut relay =
        martlet_server::Relay::new(Segments::open(&dir, options).unwrap().0, admission()).unwrap();
    let channel = Channel::new(Class::Case, 1);
    let turn = |relay: &mut martlet_server::Relay<Segments>, day: u32, call: Option<Call>| {
        let from = From {
            peer: Peer(1),
            stream: Stream(0),
            request: Request(1),
        };
        let inputs: Vec<Input> = call
            .map(|call| Input::Call(from, call, Incarnation::new([1; 16])))
            .into_iter()
            .collect();
        let effects = relay.turn(days(day).start(), &inputs).unwrap();
        effects.into_iter().find_map(|effect| match effect {
            Effect::Answer(_, answer) => Some(answer),
            Effect::Push(..) | Effect::Gap(_) => None,
        })
    };
    let open = Call::new(&channel.write, channel.opening(admission()));
    turn(&mut relay, 0, Some(open)).unwrap().unwrap();
    let append = |relay: &mut martlet_server::Relay<Segments>, day: u32, number: u8| {
        let mut item = channel.item(Kind::Letter);
        item.id = EntryId::new([number; 16]);
        let call = Call::new(
            &channel.write,
            Append {
                within: None,
                items: vec![item],
            },
        );
        turn(relay, day, Some(call)).unwrap().map(|_| ())
    };
    for number in 0..20 {
        append(&mut relay, 0, number).unwrap();
    }
    disk.fill(0);
    for day in 1..40 {
        let done = append(&mut relay, day, 100 + u8::try_from(day).unwrap());
        assert!(matches!(done, Ok(()) | Err(Refusal::Full)), "{done:?}");
    }
    // Day 30 took the first letters, and with them the segments they were in: there is room again.
    append(&mut relay, 40, 200).unwrap();
    disk.give_room();
    append(&mut relay, 41, 201).unwrap();
    drop(relay);
    let mut relay =
        martlet_server::Relay::new(Segments::open(&dir, options).unwrap().0, admission()).unwrap();
    append(&mut relay, 42, 202).unwrap();
    append(&mut relay, 42, 201).unwrap();
}

#[test]
fn a_relay_is_not_begun_by_halves_on_a_full_disk() {
    let Some(disk) = SmallDisk::new(8) else { return };
    let dir = disk.at.join("relay");
    let init = || {
        let mut command = disk.inside("martletd");
        command
            .args(["init", "--listen", "127.0.0.1:0", "--json", "--dir"])
            .arg(&dir);
        command.output().unwrap()
    };
    disk.fill(0);
    let refused = init();
    let said: serde_json::Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said["error"]["advice"].is_string(), "{said}");
    disk.give_room();
    let made = init();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
    serve(&disk, &dir).terminate();
}

#[test]
fn a_client_hears_that_the_relay_is_full_and_its_letter_waits() {
    let Some(disk) = SmallDisk::new(64) else { return };
    let dir = begin(&disk);
    let daemon = serve(&disk, &dir);
    let world = World::without_relay();
    let (ours, theirs, _) = world.case(&daemon);
    let port = daemon.ready["listen"][0].as_str().unwrap().to_string();
    daemon.terminate();
    let config = disk.outside().join("relay/martletd.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("127.0.0.1:0", &port)).unwrap();
    floor(&disk, 63);
    let daemon = serve(&disk, &dir);
    world.fails("amal", &["send", &ours, "waits"], 8, "refused");
    assert_eq!(world.texts("ines", &theirs), ["first"]);
    daemon.terminate();
    floor(&disk, 1);
    let daemon = serve(&disk, &dir);
    world.ok("amal", &["sync"]);
    assert_eq!(world.texts("ines", &theirs), ["first", "waits"]);
    daemon.terminate();
}
