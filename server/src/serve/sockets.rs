//! The sockets that a relay listens on: UDP for the first road, TCP for the second, at the same ports.

use std::{
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
};

/// How often a free port is looked for that is free on both roads.
const TRIES_MAX: usize = 64;

/// The sockets of both roads.
#[derive(Debug, Default)]
pub struct Sockets {
    /// For QUIC.
    pub udp: Vec<UdpSocket>,
    /// For TLS over TCP.
    pub tcp: Vec<TcpListener>,
}

impl Sockets {
    /// Both sockets of each address. Port 0 takes one that is free on both roads.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn bind(listen: &[SocketAddr]) -> io::Result<Self> {
        let mut sockets = Self::default();
        for address in listen {
            let (udp, tcp) = pair(*address)?;
            sockets.udp.push(udp);
            sockets.tcp.push(tcp);
        }
        Ok(sockets)
    }

    /// The sockets of the first road only.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub fn bind_udp(listen: &[SocketAddr]) -> io::Result<Self> {
        let udp: io::Result<Vec<_>> = listen.iter().map(UdpSocket::bind).collect();
        Ok(udp?.into())
    }
}

/// The first road only.
impl From<Vec<UdpSocket>> for Sockets {
    fn from(udp: Vec<UdpSocket>) -> Self {
        Self { udp, tcp: Vec::new() }
    }
}

fn pair(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let mut tries = 0usize;
    loop {
        let udp = UdpSocket::bind(address)?;
        match TcpListener::bind(udp.local_addr()?) {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) if address.port() != 0 || tries >= TRIES_MAX => return Err(error),
            Err(_) => tries = tries.saturating_add(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_roads_have_one_port() {
        let sockets = Sockets::bind(&["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()]).unwrap();
        for (udp, tcp) in sockets.udp.iter().zip(&sockets.tcp) {
            assert_eq!(udp.local_addr().unwrap(), tcp.local_addr().unwrap());
        }
        let taken = sockets.tcp[0].local_addr().unwrap();
        assert!(Sockets::bind(&[taken]).is_err());
    }
}
