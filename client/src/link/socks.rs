//! Through a SOCKS5 proxy (RFC 1928), as a system's Tor is one: the relay's name goes to the proxy and is looked up there, if at
//! all.

use std::io;

use martlet_proto::link::Address;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const VERSION: u8 = 5;
/// Ways to say who one is: none, and by a name and a password (RFC 1929).
const NOBODY: u8 = 0;
const BY_NAME: u8 = 2;
const CONNECT: u8 = 1;
const V4: u8 = 1;
const HOST: u8 = 3;
const V6: u8 = 4;

/// A connection to an address, made by a proxy.
///
/// A proxy that asks for a name is given a random one: Tor takes another circuit for each.
pub(super) async fn connect(proxy: &Address, to: &Address) -> io::Result<TcpStream> {
    let mut stream = match proxy {
        Address::V4(ip, port) => TcpStream::connect((*ip, *port)).await?,
        Address::V6(ip, port) => TcpStream::connect((*ip, *port)).await?,
        Address::Host(host, port) => TcpStream::connect((host.as_str(), *port)).await?,
    };
    stream.write_all(&[VERSION, 2, NOBODY, BY_NAME]).await?;
    match read(&mut stream).await? {
        [VERSION, NOBODY] => {}
        [VERSION, BY_NAME] => name_oneself(&mut stream).await?,
        _ => return Err(refused()),
    }
    stream.write_all(&request(to)?).await?;
    let [VERSION, 0, 0, kind] = read(&mut stream).await? else {
        return Err(refused());
    };
    // From where the proxy goes on is of no use here.
    match kind {
        V4 => drop(read::<6>(&mut stream).await?),
        V6 => drop(read::<18>(&mut stream).await?),
        HOST => {
            let [length] = read(&mut stream).await?;
            for _ in 0..u16::from(length).saturating_add(2) {
                read::<1>(&mut stream).await?;
            }
        }
        _ => return Err(refused()),
    }
    Ok(stream)
}

fn refused() -> io::Error {
    io::ErrorKind::ConnectionRefused.into()
}

async fn read<const N: usize>(stream: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn name_oneself(stream: &mut TcpStream) -> io::Result<()> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|_| refused())?;
    let name = data_encoding::HEXLOWER.encode(&random);
    let length = u8::try_from(name.len()).map_err(|_| refused())?;
    let mut said = vec![1, length];
    said.extend_from_slice(name.as_bytes());
    said.extend_from_slice(&[1, b'0']);
    stream.write_all(&said).await?;
    match read(stream).await? {
        [1, 0] => Ok(()),
        _ => Err(refused()),
    }
}

fn request(to: &Address) -> io::Result<Vec<u8>> {
    let mut request = vec![VERSION, CONNECT, 0];
    let port = match to {
        Address::V4(ip, port) => {
            request.push(V4);
            request.extend_from_slice(&ip.octets());
            port
        }
        Address::V6(ip, port) => {
            request.push(V6);
            request.extend_from_slice(&ip.octets());
            port
        }
        Address::Host(host, port) => {
            request.extend_from_slice(&[HOST, u8::try_from(host.len()).map_err(|_| refused())?]);
            request.extend_from_slice(host.as_bytes());
            port
        }
    };
    request.extend_from_slice(&port.to_be_bytes());
    Ok(request)
}
