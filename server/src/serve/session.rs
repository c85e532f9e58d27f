//! One connection: streams of frames in, streams of frames out.

use std::{sync::Arc, time::Duration};

use martlet_proto::{
    call::Action,
    frame::{self, FrameError, LENGTH_BYTES, Request, ToClient, ToRelay, VERSION},
    limits::IN_FLIGHT_MAX,
};
use quinn::{Connection, ReadExactError, RecvStream, SendStream, VarInt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::{
    now,
    quic::GOING_AWAY,
    turns::{Frames, Held, Job, Outgoing, Queue, incarnation, outlet},
};
use crate::relay::{From, Input, Peer, Stream};

/// How long a frame may take once it has begun.
const FRAME_WAIT: Duration = Duration::from_secs(60);
/// Bytes that are gathered before they are written.
const WRITE_BYTES: usize = 256 << 10;
/// Pages that are read for one connection, on all its streams, and not written yet: what a client that asks and
/// never listens makes the relay hold.
const PAGES_MAX: usize = 16;
/// How long the last answers of a stream may take to arrive.
const LAST_WAIT: Duration = Duration::from_secs(5);
const WRONG_VERSION: u32 = 0x13;
const HELLO_FIRST: u32 = 0x14;

/// Why a stream ended.
enum End {
    /// It was finished, or the connection is over.
    Finished,
    /// The client broke the protocol.
    Broken { code: u32, reason: &'static str },
}

impl std::convert::From<FrameError> for End {
    fn from(error: FrameError) -> Self {
        let reason = match error {
            FrameError::Length => "a frame's length is out of bounds",
            FrameError::Type => "a frame's type is unknown",
            _ => "a frame's body is malformed",
        };
        Self::Broken {
            code: error.code(),
            reason,
        }
    }
}

/// Whether the relay stops.
pub(super) type Stopping = watch::Receiver<bool>;

/// What the streams of a connection share.
#[derive(Clone)]
struct Shared {
    connection: Connection,
    peer: Peer,
    queue: Queue,
    pages: Arc<Semaphore>,
    stopping: Stopping,
}

/// Serves a connection until it ends, or the relay stops and its last answers have been written.
pub(super) async fn run(connection: Connection, peer: Peer, queue: Queue, mut stopping: Stopping) {
    let shared = Shared {
        connection: connection.clone(),
        peer,
        queue,
        pages: Arc::new(Semaphore::new(PAGES_MAX)),
        stopping: stopping.clone(),
    };
    let mut streams = tokio::task::JoinSet::new();
    let mut number = 0u64;
    loop {
        tokio::select! {
            accepted = connection.accept_bi() => {
                let Ok((send, receive)) = accepted else { break };
                let stream = Stream(number);
                number = number.saturating_add(1);
                streams.spawn(serve_stream(shared.clone(), stream, send, receive));
            }
            Some(_) = streams.join_next(), if !streams.is_empty() => {}
            _ = stopping.wait_for(|stopping| *stopping) => break,
            () = shared.queue.ended() => break,
        }
    }
    while streams.join_next().await.is_some() {}
    connection.close(GOING_AWAY, b"the relay stops");
}

async fn serve_stream(mut shared: Shared, stream: Stream, send: SendStream, mut receive: RecvStream) {
    let (outlet, answers, pushes) = outlet(IN_FLIGHT_MAX.saturating_add(2));
    let greetings = outlet.answers.clone();
    if shared
        .queue
        .send(Job::Begin(shared.peer, stream, outlet))
        .await
        .is_err()
    {
        return;
    }
    let places = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let writer = tokio::spawn(write(send, answers, pushes, Arc::clone(&places)));
    let (mut stopping, queue) = (shared.stopping.clone(), shared.queue.clone());
    let end = tokio::select! {
        end = read(&mut shared, stream, &mut receive, &greetings, &places) => end,
        _ = stopping.wait_for(|stopping| *stopping) => End::Finished,
        () = queue.ended() => End::Finished,
    };
    if let End::Broken { code, reason } = end {
        shared.connection.close(VarInt::from_u32(code), reason.as_bytes());
    } else {
        // Whoever finished asking still gets the answers.
        let all = u32::try_from(IN_FLIGHT_MAX).unwrap_or(u32::MAX);
        tokio::select! {
            _ = places.acquire_many(all) => {}
            _ = shared.connection.closed() => {}
            () = queue.ended() => {}
        }
    }
    drop(greetings);
    let closed = Input::Closed(shared.peer, stream);
    let _ = shared.queue.send(Job::Input(closed, Held::default())).await;
    let _ = writer.await;
}

async fn read(
    shared: &mut Shared,
    stream: Stream,
    receive: &mut RecvStream,
    greetings: &mpsc::Sender<Outgoing>,
    places: &Arc<Semaphore>,
) -> End {
    let mut greeted = false;
    loop {
        let (request, message, size_bytes) = match next_frame(receive).await {
            Ok(frame) => frame,
            Err(end) => return end,
        };
        let from = From {
            peer: shared.peer,
            stream,
            request,
        };
        match message {
            ToRelay::Hello { version } if version == VERSION => {
                greeted = true;
                let Ok(place) = places.acquire().await else {
                    return End::Finished;
                };
                if greetings.send(hello(request)).await.is_err() {
                    return End::Finished;
                }
                place.forget();
            }
            ToRelay::Hello { .. } => {
                return End::Broken {
                    code: WRONG_VERSION,
                    reason: "the relay speaks another version",
                };
            }
            _ if !greeted => {
                return End::Broken {
                    code: HELLO_FIRST,
                    reason: "a stream begins with hello",
                };
            }
            ToRelay::Call(call) => {
                let Ok(place) = places.acquire().await else {
                    return End::Finished;
                };
                let page = match &call.action {
                    Action::Read(_) | Action::Follow(_) => page(&shared.pages).await,
                    _ => None,
                };
                let input = Input::Call(from, call, incarnation());
                if shared.queue.call(input, size_bytes, page).await.is_err() {
                    return End::Finished;
                }
                // Its answer gives the place back.
                place.forget();
            }
            ToRelay::Unfollow => {
                if shared
                    .queue
                    .call(Input::Unfollow(from), size_bytes, None)
                    .await
                    .is_err()
                {
                    return End::Finished;
                }
            }
        }
    }
}

fn hello(request: Request) -> Outgoing {
    let (version, day) = (VERSION, now().day());
    Outgoing {
        request,
        message: ToClient::Hello { version, day },
        page: None,
    }
}

/// A place for a page on its way. The semaphore is never closed.
async fn page(pages: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(pages).acquire_owned().await.ok()
}

async fn next_frame(receive: &mut RecvStream) -> Result<(Request, ToRelay, usize), End> {
    let mut field = [0; LENGTH_BYTES];
    match receive.read_exact(&mut field).await {
        Ok(()) => {}
        Err(ReadExactError::FinishedEarly(0)) | Err(ReadExactError::ReadError(_)) => {
            return Err(End::Finished);
        }
        Err(ReadExactError::FinishedEarly(_)) => return Err(FrameError::Length.into()),
    }
    let mut bytes = vec![0; frame::length(field)?];
    match tokio::time::timeout(FRAME_WAIT, receive.read_exact(&mut bytes)).await {
        Ok(Ok(())) => {}
        Ok(Err(ReadExactError::FinishedEarly(_))) => return Err(FrameError::Length.into()),
        Ok(Err(ReadExactError::ReadError(_))) => return Err(End::Finished),
        Err(_) => {
            return Err(End::Broken {
                code: 0x15,
                reason: "a frame took too long",
            });
        }
    }
    let (request, message) = ToRelay::decode(&bytes)?;
    Ok((request, message, bytes.len()))
}

/// Writes what comes, as much at a time as there is. Answers go before pushes.
async fn write(mut send: SendStream, mut answers: Frames, mut pushes: Frames, places: Arc<Semaphore>) {
    let mut buffer = Vec::new();
    let mut pages = Vec::new();
    loop {
        let first = tokio::select! {
            biased;
            answer = answers.recv() => answer.map(|answer| (answer, true)),
            Some(push) = pushes.recv() => Some((push, false)),
        };
        let Some((first, answered)) = first else {
            break;
        };
        let mut take = |frame: Outgoing| {
            frame.message.encode(frame.request, &mut buffer);
            pages.extend(frame.page);
            buffer.len() < WRITE_BYTES
        };
        let mut room = take(first);
        let mut freed = usize::from(answered);
        while room {
            if let Ok(answer) = answers.try_recv() {
                room = take(answer);
                freed = freed.saturating_add(1);
            } else if let Ok(push) = pushes.try_recv() {
                room = take(push);
            } else {
                break;
            }
        }
        if send.write_all(&buffer).await.is_err() {
            places.close();
            return;
        }
        places.add_permits(freed);
        pages.clear();
        buffer.clear();
        buffer.shrink_to(4 << 10);
    }
    if send.finish().is_ok() {
        // Until then a connection that closes would take the last answers with it.
        let _ = tokio::time::timeout(LAST_WAIT, send.stopped()).await;
    }
}
