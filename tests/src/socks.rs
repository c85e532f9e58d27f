//! A small SOCKS5 proxy that knows some names, and notes what it is asked for.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

/// Addresses that were asked for, and the names of those who asked.
pub type Asked = Arc<Mutex<Vec<(String, Option<String>)>>>;

/// A proxy that runs until the runtime ends.
pub struct Socks {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it was asked for, and by whom: the name that was given, if it asks for one.
    pub asked: Asked,
}

impl Socks {
    /// A proxy that leads each of these names, whatever the port, to an address. One that is `strict` asks who comes.
    pub async fn start(names: BTreeMap<String, SocketAddr>, strict: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, names.clone(), strict, Arc::clone(&noted)));
            }
        });
        Self { address, asked }
    }
}

async fn serve(
    mut client: TcpStream,
    names: BTreeMap<String, SocketAddr>,
    strict: bool,
    noted: Asked,
) -> std::io::Result<()> {
    let mut head = [0; 2];
    client.read_exact(&mut head).await?;
    let mut ways = vec![0; usize::from(head[1])];
    client.read_exact(&mut ways).await?;
    let way = if strict { 2 } else { 0 };
    assert!(head[0] == 5 && ways.contains(&way));
    client.write_all(&[5, way]).await?;
    let mut who = None;
    if strict {
        client.read_exact(&mut head).await?;
        let name = text(&mut client, head[1]).await?;
        let length = client.read_u8().await?;
        text(&mut client, length).await?;
        client.write_all(&[1, 0]).await?;
        who = Some(name);
    }
    let mut request = [0; 4];
    client.read_exact(&mut request).await?;
    assert_eq!(request[..3], [5, 1, 0]);
    let name = match request[3] {
        1 => {
            let mut ip = [0; 4];
            client.read_exact(&mut ip).await?;
            std::net::Ipv4Addr::from(ip).to_string()
        }
        3 => {
            let length = client.read_u8().await?;
            text(&mut client, length).await?
        }
        other => panic!("{other}"),
    };
    let port = client.read_u16().await?;
    noted.lock().unwrap().push((format!("{name}:{port}"), who));
    let relay = match names.get(&name) {
        Some(to) => TcpStream::connect(to).await,
        None => Err(std::io::ErrorKind::NotFound.into()),
    };
    let Ok(mut relay) = relay else {
        return client.write_all(&[5, 4, 0, 1, 0, 0, 0, 0, 0, 0]).await;
    };
    // Where it goes on from, as a name: some proxies say it so.
    client.write_all(&[5, 0, 0, 3, 1, b'x', 0, 80]).await?;
    copy_bidirectional(&mut client, &mut relay).await.map(drop)
}

async fn text(client: &mut TcpStream, length: u8) -> std::io::Result<String> {
    let mut bytes = vec![0; usize::from(length)];
    client.read_exact(&mut bytes).await?;
    Ok(String::from_utf8(bytes).unwrap())
}
