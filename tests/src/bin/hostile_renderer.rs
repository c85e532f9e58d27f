//! A renderer that a document took over: it closes its fences like the real one, then does what its argument says. Behind
//! `open-` the fences are left out, which shows that they are what stops it.

#![allow(clippy::expect_used, reason = "a tool of the tests")]

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, UdpSocket},
    process::Command,
};

use martlet::pictures::{Frame, confine};

fn main() {
    let deed = std::env::args().nth(1).unwrap_or_default();
    let target = std::env::args().nth(2).unwrap_or_default();
    let deed = match deed.strip_prefix("open-") {
        Some(deed) => deed,
        None => {
            confine().expect("this kernel closes the fences");
            &deed
        }
    };
    let mut document = Vec::new();
    std::io::stdin()
        .read_to_end(&mut document)
        .expect("standard input");
    let mut out = std::io::stdout().lock();
    let done = match deed {
        "write" => std::fs::write(target, "harm").is_ok(),
        "read" => std::fs::read(target).is_ok(),
        "tcp" => TcpListener::bind("127.0.0.1:0").is_ok(),
        "udp" => UdpSocket::bind("127.0.0.1:0").is_ok(),
        "run" => Command::new("/bin/true").status().is_ok(),
        "memory" => {
            let mut taken = Vec::new();
            for _ in 0..8 {
                taken.push(std::hint::black_box(vec![1_u8; 1 << 30]));
            }
            true
        }
        "forever" => loop {
            std::hint::spin_loop();
        },
        "huge" => {
            // A picture of 16 million by 16 million pixels.
            out.write_all(&[1, 0, 0, 0, 1, 0, 0, 0, 1]).is_ok()
        }
        "flood" => {
            let dot = || Frame::Picture {
                width: 1,
                height: 1,
                pixels: vec![0; 3],
            };
            while dot().write(&mut out).is_ok() {}
            true
        }
        "garbage" => out.write_all(&[9; 100_000]).is_ok(),
        "die" => std::process::abort(),
        _ => false,
    };
    if done {
        let _ = Frame::Done.write(&mut out);
    }
}
