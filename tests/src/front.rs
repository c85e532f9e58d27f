//! A front for a relay: one address with UDP and TCP through which everything goes, or does not. It counts bytes.

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpListener as StdListener, UdpSocket as StdSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::watch,
};

/// What the network lets through.
#[derive(Debug)]
pub struct Rules {
    /// Datagrams that it still lets through, both ways together.
    pub datagrams_left: AtomicI64,
    /// Whether it lets TCP through; connections that are there fall silent when it does not.
    pub tcp: AtomicBool,
    /// Bytes of datagrams and of TCP that went through, both ways together.
    pub udp_bytes: AtomicU64,
    /// The same of TCP.
    pub tcp_bytes: AtomicU64,
}

/// A front that runs until the runtime ends.
pub struct Front {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it lets through.
    pub rules: Arc<Rules>,
    relay: watch::Sender<Option<SocketAddr>>,
}

impl Front {
    /// A new one, that leads nowhere yet.
    pub fn start() -> Self {
        let (udp, tcp) = loop {
            let udp = StdSocket::bind("127.0.0.1:0").unwrap();
            if let Ok(tcp) = StdListener::bind(udp.local_addr().unwrap()) {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        udp.set_nonblocking(true).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let rules = Arc::new(Rules {
            datagrams_left: AtomicI64::new(i64::MAX),
            tcp: AtomicBool::new(true),
            udp_bytes: AtomicU64::new(0),
            tcp_bytes: AtomicU64::new(0),
        });
        let (relay, seen) = watch::channel(None);
        let udp = UdpSocket::from_std(udp).unwrap();
        let tcp = TcpListener::from_std(tcp).unwrap();
        tokio::spawn(datagrams(Arc::new(udp), seen.clone(), Arc::clone(&rules)));
        tokio::spawn(connections(tcp, seen, Arc::clone(&rules)));
        Self {
            address,
            rules,
            relay,
        }
    }

    /// Leads to a relay from now on.
    pub fn leads_to(&self, relay: SocketAddr) {
        self.relay.send_replace(Some(relay));
    }

    /// Lets so many datagrams through, and then none.
    pub fn let_datagrams(&self, count: i64) {
        self.rules.datagrams_left.store(count, Ordering::SeqCst);
    }

    /// Lets TCP through, or not.
    pub fn let_tcp(&self, whether: bool) {
        self.rules.tcp.store(whether, Ordering::SeqCst);
    }
}

impl Rules {
    fn lets_datagram(&self, bytes: usize) -> bool {
        let through = self.datagrams_left.fetch_sub(1, Ordering::SeqCst) > 0;
        if through {
            self.udp_bytes.fetch_add(bytes as u64, Ordering::SeqCst);
        }
        through
    }
}

async fn datagrams(front: Arc<UdpSocket>, relay: watch::Receiver<Option<SocketAddr>>, rules: Arc<Rules>) {
    let backs: Mutex<BTreeMap<SocketAddr, Arc<UdpSocket>>> = Mutex::default();
    let mut buffer = vec![0; 65_536];
    loop {
        // Linux tells a socket of refusals by others.
        let Ok((length, client)) = front.recv_from(&mut buffer).await else {
            continue;
        };
        let Some(relay) = *relay.borrow() else { continue };
        if !rules.lets_datagram(length) {
            continue;
        }
        let known = backs.lock().unwrap().get(&client).cloned();
        let back = match known {
            Some(back) => back,
            None => {
                let back = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
                backs.lock().unwrap().insert(client, Arc::clone(&back));
                let (from, to, rules) = (Arc::clone(&back), Arc::clone(&front), Arc::clone(&rules));
                tokio::spawn(async move {
                    let mut buffer = vec![0; 65_536];
                    loop {
                        let Ok((length, _)) = from.recv_from(&mut buffer).await else {
                            continue;
                        };
                        if rules.lets_datagram(length) {
                            let _ = to.send_to(&buffer[..length], client).await;
                        }
                    }
                });
                back
            }
        };
        let _ = back.send_to(&buffer[..length], relay).await;
    }
}

async fn connections(front: TcpListener, relay: watch::Receiver<Option<SocketAddr>>, rules: Arc<Rules>) {
    loop {
        let Ok((client, _)) = front.accept().await else {
            continue;
        };
        let Some(relay) = *relay.borrow() else { continue };
        let rules = Arc::clone(&rules);
        tokio::spawn(async move {
            let Ok(relay) = TcpStream::connect(relay).await else {
                return;
            };
            let _ = client.set_nodelay(true);
            let _ = relay.set_nodelay(true);
            let ((from_client, to_client), (from_relay, to_relay)) =
                (client.into_split(), relay.into_split());
            let _ = tokio::join!(
                pass(from_client, to_relay, Arc::clone(&rules)),
                pass(from_relay, to_client, rules)
            );
        });
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    rules: Arc<Rules>,
) -> io::Result<()> {
    let mut buffer = vec![0; 65_536];
    loop {
        let length = from.read(&mut buffer).await?;
        while !rules.tcp.load(Ordering::SeqCst) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        if length == 0 {
            return to.shutdown().await;
        }
        rules.tcp_bytes.fetch_add(length as u64, Ordering::SeqCst);
        to.write_all(&buffer[..length]).await?;
    }
}
