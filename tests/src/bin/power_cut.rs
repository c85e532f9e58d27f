//! Power cuts on a real file system: ext4 on a loop file, shut down without flushing while a child commits.
//!
//! `power_cut ROUNDS [--without-sync]` needs root, `mkfs.ext4`, loop devices and python3 (for one ioctl that has no safe
//! call). With `--without-sync` the store waits for no disk, and the harness must find entries lost: that shows that it
//! would notice. What is acknowledged while the file system goes down does not count: ext4 lets a sync that races with
//! its shutdown return as if it had been done, which no power cut can. The last line is `rounds R acknowledged A lost L`.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a test tool"
)]

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio, exit},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use martlet_proto::{ChannelId, Class, Day, Digest, EntryId, Envelope, Incarnation, Kind, Seq, TokenHash};
use martlet_server::{
    Store,
    log::{Change, Hand, Record, Step},
    store::segments::{Options, Segments, Sync},
};

const CHANNELS: u8 = 8;

fn options(sync: Sync) -> Options {
    Options {
        segment_bytes: 1 << 20,
        floor_bytes: 0,
        sync,
    }
}

fn channel(number: u8) -> ChannelId {
    ChannelId::new([number; 32])
}

fn envelope(number: u8, seq: u64, size: usize) -> Envelope {
    let mut bytes = vec![number; size];
    bytes[..8].copy_from_slice(&seq.to_be_bytes());
    Envelope::new(bytes.into()).unwrap()
}

fn size_of(seq: u64) -> usize {
    if seq.is_multiple_of(16) { 64 << 10 } else { 2 << 10 }
}

fn placed(number: u8, seq: u64) -> Change {
    let envelope = envelope(number, seq, size_of(seq));
    let mut id = [number; 16];
    id[..8].copy_from_slice(&seq.to_be_bytes());
    let digest = Digest::of(&envelope);
    let (incarnation, seq, id) = (Incarnation::new([1; 16]), Seq::new(seq), EntryId::new(id));
    let (kind, by, expires) = (Kind::Letter, Hand::Writer, Day(u32::MAX));
    Change {
        channel: channel(number),
        step: Step::Placed {
            incarnation,
            seq,
            kind,
            id,
            digest,
            expires,
            by,
            envelope,
        },
    }
}

/// Commits to all channels until it is cut off; says how far each commit went, once it returned.
fn child(dir: &Path, sync: Sync) {
    let (mut store, _) = Segments::open(dir, options(sync)).unwrap();
    let hash = TokenHash::new([0; 32]);
    for number in 0..CHANNELS {
        if store.load(&channel(number)).unwrap().is_none() {
            let class = if number.is_multiple_of(2) {
                Class::Case
            } else {
                Class::File
            };
            let (read, write, keep) = (hash, hash, hash);
            let record = Record {
                class,
                read,
                write,
                keep,
                incarnation: Incarnation::new([1; 16]),
                expires: Day(u32::MAX),
            };
            store
                .commit(&[Change {
                    channel: channel(number),
                    step: Step::Opened(record),
                }])
                .unwrap();
        }
    }
    let mut next = store.load(&channel(0)).unwrap().unwrap().next().as_u64();
    loop {
        let done = (0..CHANNELS)
            .map(|number| placed(number, next))
            .collect::<Vec<_>>();
        if store.commit(&done).is_err() {
            exit(0);
        }
        println!("{next}");
        std::io::stdout().flush().unwrap();
        next += 1;
    }
}

fn run(program: &str, args: &[&str]) {
    let done = Command::new(program)
        .args(args)
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(done.success(), "{program} {args:?}");
}

/// How many acknowledged entries are not there as they were.
fn lost(dir: &Path, acknowledged: u64) -> u64 {
    let Ok((mut store, _)) = Segments::open(dir, options(Sync::On)) else {
        return acknowledged;
    };
    let mut lost = 0;
    for number in 0..CHANNELS {
        let there = store
            .load(&channel(number))
            .unwrap()
            .map_or(0, |log| log.next().as_u64());
        for seq in 0..acknowledged {
            let whole = seq < there
                && store
                    .envelope(&channel(number), Seq::new(seq))
                    .is_ok_and(|found| found == Some(envelope(number, seq, size_of(seq))));
            lost += u64::from(!whole);
        }
    }
    store.close().unwrap();
    lost
}

/// The folder in which the last round left the store must hold as many entries in each channel.
fn level(dir: &Path) {
    let (mut store, _) = Segments::open(dir, options(Sync::On)).unwrap();
    let counts: Vec<u64> = (0..CHANNELS)
        .map(|number| {
            store
                .load(&channel(number))
                .unwrap()
                .map_or(0, |log| log.next().as_u64())
        })
        .collect();
    let most = counts.iter().copied().max().unwrap_or(0);
    for (number, count) in (0..CHANNELS).zip(counts) {
        for seq in count..most {
            store.commit(&[placed(number, seq)]).unwrap();
        }
    }
    store.close().unwrap();
}

/// The ioctl that shuts a file system down without flushing its log, ready to be made.
struct Scissors(Child);

impl Scissors {
    fn open(mount: &str) -> Self {
        let cut = "import fcntl,os,struct,sys; fd=os.open(sys.argv[1],os.O_RDONLY); print('open',flush=True); \
                   sys.stdin.readline(); fcntl.ioctl(fd,0x8004587d,struct.pack('I',2))";
        let mut python = Command::new("python3")
            .args(["-c", cut, mount])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(python.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        Self(python)
    }

    fn cut(&mut self) {
        self.0.stdin.take().unwrap().write_all(b"cut\n").unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

fn rounds(count: u64, sync: Sync) -> (u64, u64) {
    let lab = tempfile::tempdir().unwrap();
    let (image, mount) = (lab.path().join("disk.img"), lab.path().join("mnt"));
    let (image, at) = (image.to_str().unwrap(), mount.to_str().unwrap());
    std::fs::create_dir(&mount).unwrap();
    std::fs::File::create(image).unwrap().set_len(1 << 30).unwrap();
    run("mkfs.ext4", &["-q", "-F", image]);
    run("mount", &["-o", "loop", image, at]);
    let store: PathBuf = mount.join("store");
    let (mut acknowledged, mut total_lost) = (0, 0);
    for round in 0..count {
        let flag = if sync == Sync::Off { "off" } else { "on" };
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child", flag])
            .arg(&store)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let said = Arc::new(AtomicU64::new(acknowledged));
        let (counter, out) = (Arc::clone(&said), child.stdout.take().unwrap());
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                counter.store(line.parse::<u64>().unwrap() + 1, Ordering::SeqCst);
            }
        });
        let mut scissors = Scissors::open(at);
        let wanted = acknowledged + 20 + round * 7 % 40;
        while said.load(Ordering::SeqCst) < wanted {
            std::thread::yield_now();
        }
        acknowledged = said.load(Ordering::SeqCst);
        scissors.cut();
        child.kill().unwrap();
        child.wait().unwrap();
        reader.join().unwrap();
        for _ in 0..50 {
            if Command::new("umount")
                .arg(at)
                .stderr(Stdio::null())
                .status()
                .unwrap()
                .success()
            {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        run("mount", &["-o", "loop", image, at]);
        let lost = lost(&store, acknowledged);
        total_lost += lost;
        if lost > 0 {
            let _ = std::fs::remove_dir_all(&store);
            acknowledged = 0;
        } else {
            level(&store);
        }
    }
    run("umount", &[at]);
    (acknowledged * u64::from(CHANNELS), total_lost)
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["child", sync, dir] => child(Path::new(dir), if *sync == "off" { Sync::Off } else { Sync::On }),
        [count, rest @ ..] if std::env::var_os("MARTLET_IN_NAMESPACE").is_some() => {
            let count: u64 = count.parse().unwrap();
            let sync = if rest.contains(&"--without-sync") {
                Sync::Off
            } else {
                Sync::On
            };
            let (acknowledged, lost) = rounds(count, sync);
            println!("rounds {count} acknowledged {acknowledged} lost {lost}");
            exit(i32::from(lost > 0));
        }
        [_, ..] => {
            // Mounts stay in a namespace of their own and end with it.
            let me = std::env::current_exe().unwrap();
            let done = Command::new("unshare")
                .arg("-m")
                .arg(me)
                .args(&args)
                .env("MARTLET_IN_NAMESPACE", "1")
                .status();
            exit(done.ok().and_then(|done| done.code()).unwrap_or(2));
        }
        [] => {
            eprintln!("power_cut ROUNDS [--without-sync]");
            exit(2);
        }
    }
}
