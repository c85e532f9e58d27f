//! The second road: sessions within HTTP/2 over TLS, and what everybody else gets on that port.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests fail by panicking, and count on small numbers"
)]

mod cast;
#[allow(dead_code, reason = "other tests use more of it")]
mod wire;

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use cast::*;
use http::{Method, Request as HttpRequest, StatusCode};
use martlet_proto::{
    Answer, Call, Class,
    frame::{self, Request, ToClient, ToRelay, VERSION},
};
use martlet_server::{
    identity::Identity,
    serve::{Running, Serving, Site, Sockets, serve},
    store::memory::Memory,
};
use rustls::{
    NamedGroup,
    crypto::{SupportedKxGroup, aws_lc_rs},
    pki_types::ServerName,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

const WAIT: Duration = Duration::from_secs(20);

fn start() -> Running {
    start_with(Site::default())
}

fn start_with(site: Site) -> Running {
    let identity = Identity::generate().unwrap();
    let sockets = Sockets::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
    let serving = Serving {
        site,
        ..Serving::default()
    };
    serve(sockets, Memory::default(), &identity, &serving).unwrap()
}

async fn dial(
    relay: &Running,
    groups: &[&'static dyn SupportedKxGroup],
    protocol: &[u8],
) -> TlsStream<TcpStream> {
    let mut tls = wire::tls(groups);
    tls.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(relay.listen()[0]).await.unwrap();
    let name = ServerName::try_from("any.example").unwrap();
    TlsConnector::from(Arc::new(tls))
        .connect(name, stream)
        .await
        .unwrap()
}

fn usual() -> Vec<&'static dyn SupportedKxGroup> {
    aws_lc_rs::default_provider().kx_groups
}

type Sender = h2::client::SendRequest<Bytes>;

async fn two(stream: TlsStream<TcpStream>) -> Sender {
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender.ready().await.unwrap()
}

fn post(path: &str) -> HttpRequest<()> {
    let uri = format!("https://any.example{path}");
    HttpRequest::builder()
        .method(Method::POST)
        .uri(uri)
        .body(())
        .unwrap()
}

/// A stream of frames within HTTP/2.
struct Frames {
    send: h2::SendStream<Bytes>,
    receive: h2::RecvStream,
    left: BytesMut,
}

impl Frames {
    async fn open(sender: &mut Sender, relay: &Running) -> Self {
        let (answer, send) = sender
            .send_request(post(&relay.link().relay.door.path()), false)
            .unwrap();
        let answer = tokio::time::timeout(WAIT, answer).await.unwrap().unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        Self {
            send,
            receive: answer.into_body(),
            left: BytesMut::new(),
        }
    }

    fn say(&mut self, bytes: Vec<u8>) {
        self.send.send_data(bytes.into(), false).unwrap();
    }

    /// The next frame; `None` when the stream is over.
    async fn next(&mut self) -> Option<(Request, ToClient)> {
        loop {
            if let Some(field) = self.left.first_chunk::<4>() {
                let length = frame::length(*field).unwrap();
                if self.left.len() >= 4 + length {
                    let whole = self.left.split_to(4 + length);
                    return Some(ToClient::decode(&whole[4..]).unwrap());
                }
            }
            let data = tokio::time::timeout(WAIT, self.receive.data())
                .await
                .expect("the relay says something");
            let data = data?.ok()?;
            self.receive.flow_control().release_capacity(data.len()).unwrap();
            self.left.extend_from_slice(&data);
        }
    }
}

async fn page(sender: &mut Sender, request: HttpRequest<()>) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let (answer, _) = sender.send_request(request, true).unwrap();
    let answer = tokio::time::timeout(WAIT, answer).await.unwrap().unwrap();
    let status = answer.status().as_u16();
    let headers = answer.headers().iter();
    let mut headers: Vec<_> = headers
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_string()))
        .filter(|(name, _)| name != "date")
        .collect();
    headers.sort();
    let (mut body, mut all) = (answer.into_body(), Vec::new());
    while let Some(data) = body.data().await {
        all.extend_from_slice(&data.unwrap());
    }
    (status, headers, all)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_over_tcp_as_over_udp() {
    let relay = start();
    let stream = dial(&relay, &usual(), b"h2").await;
    let group = stream.get_ref().1.negotiated_key_exchange_group().unwrap();
    assert_eq!(group.name(), NamedGroup::X25519MLKEM768);
    let mut sender = two(stream).await;
    let mut frames = Frames::open(&mut sender, &relay).await;
    frames.say(wire::hello());
    assert!(matches!(
        frames.next().await,
        Some((Request(0), ToClient::Hello { version: VERSION, .. }))
    ));
    let keys = Keys::new(Class::Case, 1);
    let mut open = keys.open();
    open.admission = Some(relay.link().admission.clone());
    // A frame may come in pieces.
    let bytes = wire::frame(1, Call::new(&keys.writer, open));
    for piece in bytes.chunks(7) {
        frames.say(piece.to_vec());
    }
    assert!(matches!(
        frames.next().await,
        Some((Request(1), ToClient::Answer(Answer::Tip(_))))
    ));
    // What came over one road is there for the other.
    let mut other = wire::Wire::connect(&relay).await;
    let mut again = keys.open();
    again.admission = None;
    assert!(matches!(
        other.ask(Call::new(&keys.writer, again)).await,
        Ok(Answer::Tip(_))
    ));
    // A second stream beside the first, as for a document.
    let mut second = Frames::open(&mut sender, &relay).await;
    second.say(wire::hello());
    assert!(matches!(
        second.next().await,
        Some((Request(0), ToClient::Hello { .. }))
    ));
    assert_eq!(relay.connections(), 2);
    tokio::time::timeout(WAIT, relay.stop()).await.unwrap().unwrap();
    assert!(frames.next().await.is_none() && second.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_frame_ends_the_connection() {
    let relay = start();
    let mut version = Vec::new();
    ToRelay::Hello { version: 99 }.encode(Request(0), &mut version);
    for bytes in [
        vec![0xff; 8],
        version,
        [wire::hello(), vec![0, 0, 0, 5, 0x77, 0, 0, 0, 1]].concat(),
    ] {
        let mut sender = two(dial(&relay, &usual(), b"h2").await).await;
        let mut frames = Frames::open(&mut sender, &relay).await;
        frames.say(bytes);
        while frames.next().await.is_some() {}
        let mut late = sender.clone();
        let refused = tokio::time::timeout(WAIT, async {
            loop {
                match late.ready().await {
                    Ok(ready) => late = ready,
                    Err(_) => return,
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        refused.await.expect("the connection ends");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_hybrid_there_is_only_the_site() {
    let relay = start();
    let door = relay.link().relay.door.path();
    let mut sender = two(dial(&relay, &[aws_lc_rs::kx_group::X25519], b"h2").await).await;
    assert_eq!(page(&mut sender, post(&door)).await.0, 404);
    assert_eq!(page(&mut sender, post("/")).await.0, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_know_the_door_gets_the_site() {
    let relay = start();
    let door = relay.link().relay.door.path();
    let mut sender = two(dial(&relay, &usual(), b"h2").await).await;
    let missing = page(&mut sender, post("/none")).await;
    assert_eq!(missing.0, 404);
    let near = format!("{}a", &door[..door.len() - 1]);
    for path in [
        &near,
        "/martlet",
        &door.to_uppercase(),
        &format!("{door}/"),
        &format!("/{door}"),
        &door[..8],
    ] {
        assert_eq!(page(&mut sender, post(path)).await, missing, "{path}");
    }
    // The door is there for one method only.
    for method in [Method::GET, Method::PUT, Method::OPTIONS, Method::DELETE] {
        let mut request = post(&door);
        *request.method_mut() = method.clone();
        assert_eq!(page(&mut sender, request).await, missing, "{method}");
    }
    let mut home = post("/");
    *home.method_mut() = Method::GET;
    let (status, _, body) = page(&mut sender, home).await;
    assert!(status == 200 && String::from_utf8(body).unwrap().contains("Welcome"));
}

/// What HTTP/1.1 answers to these bytes, without the date.
async fn raw(relay: &Running, bytes: &[u8]) -> String {
    let mut stream = dial(relay, &usual(), b"http/1.1").await;
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(WAIT, stream.read_to_end(&mut answer))
        .await
        .unwrap();
    let text = String::from_utf8(answer).unwrap();
    text.lines()
        .filter(|line| !line.starts_with("date:"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_older_http_gets_the_site_whatever_it_asks() {
    let relay = start();
    let door = relay.link().relay.door.path();
    let ask = |method: &str, path: &str| {
        format!("{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .into_bytes()
    };
    assert!(raw(&relay, &ask("GET", "/")).await.starts_with("HTTP/1.1 200 OK"));
    let missing = raw(&relay, &ask("POST", "/none")).await;
    assert!(missing.starts_with("HTTP/1.1 404 Not Found"));
    assert_eq!(raw(&relay, &ask("POST", &door)).await, missing);
    assert!(
        raw(&relay, b"\x00\x01\x02 nonsense\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 400 Bad Request")
    );
    let long = [b"GET /".as_slice(), &[b'a'; 40_000], b" HTTP/1.1\r\n\r\n"].concat();
    assert!(raw(&relay, &long).await.starts_with("HTTP/1.1 4"));
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_on_the_port_is_answered_with_an_alert_and_counts_for_nothing() {
    let relay = start();
    for noise in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0; 300],
        (0..=255).collect(),
    ] {
        let mut stream = TcpStream::connect(relay.listen()[0]).await.unwrap();
        stream.write_all(&noise).await.unwrap();
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(WAIT, stream.read_to_end(&mut answer))
            .await
            .unwrap();
        assert!(answer.is_empty() || answer[0] == 21, "a TLS alert, or nothing");
    }
    assert_eq!(relay.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_end_is_not_waited_for() {
    let relay = start();
    let mut stream = dial(&relay, &usual(), b"http/1.1").await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost").await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(WAIT, stream.read_to_end(&mut answer))
        .await
        .expect("the relay closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_flight_said_again_opens_nothing() {
    let relay = start();
    // In between somebody writes down what the client says.
    let between = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = between.local_addr().unwrap();
    let to = relay.listen()[0];
    let noting = tokio::spawn(async move {
        let (client, _) = between.accept().await.unwrap();
        let relay = TcpStream::connect(to).await.unwrap();
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_relay, mut to_relay) = relay.into_split();
        tokio::spawn(async move { tokio::io::copy(&mut from_relay, &mut to_client).await });
        let (mut noted, mut buffer) = (Vec::new(), vec![0; 4096]);
        while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
            noted.extend_from_slice(&buffer[..length]);
            to_relay.write_all(&buffer[..length]).await.unwrap();
        }
        noted
    });
    let mut tls = wire::tls(&usual());
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from("any.example").unwrap();
    let stream = TcpStream::connect(at).await.unwrap();
    let connector = TlsConnector::from(Arc::new(tls));
    let mut sender = two(connector.connect(name, stream).await.unwrap()).await;
    let mut frames = Frames::open(&mut sender, &relay).await;
    frames.say(wire::hello());
    assert!(frames.next().await.is_some());
    drop((frames, sender));
    let noted = tokio::time::timeout(WAIT, noting).await.unwrap().unwrap();
    assert!(noted.len() > 1500, "the handshake, and a stream");
    while relay.connections() > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut again = TcpStream::connect(to).await.unwrap();
    again.write_all(&noted).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(WAIT, again.read_to_end(&mut answer))
        .await
        .unwrap();
    assert_eq!(answer[0], 22, "a handshake begins, as with any server");
    assert_eq!(relay.connections(), 0, "and does not end");
}
