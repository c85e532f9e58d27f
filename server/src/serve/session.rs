//! One connection: streams of frames in, streams of frames out.

use std::{sync::Arc, time::Duration};

use martlet_proto::{
    frame::{self, FrameError, LENGTH_BYTES, Request, ToClient, ToRelay, VERSION},
    limits::IN_FLIGHT_MAX,
};
use quinn::{Connection, ReadExactError, RecvStream, SendStream, VarInt};
use tokio::sync::{Semaphore, mpsc};

use super::{
    now,
    turns::{Frames, Job, incarnation, outlet},
};
use crate::relay::{From, Input, Peer, Stream};

/// How long a frame may take once it has begun.
const FRAME_WAIT: Duration = Duration::from_secs(60);
/// Bytes that are gathered before they are written.
const WRITE_BYTES: usize = 256 << 10;
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

/// Serves a connection until it ends.
pub(super) async fn run(connection: Connection, peer: Peer, jobs: mpsc::Sender<Job>) {
    let mut streams = tokio::task::JoinSet::new();
    let mut number = 0u64;
    loop {
        tokio::select! {
            accepted = connection.accept_bi() => {
                let Ok((send, receive)) = accepted else { break };
                let stream = Stream(number);
                number = number.saturating_add(1);
                streams.spawn(serve_stream(connection.clone(), peer, stream, send, receive, jobs.clone()));
            }
            Some(_) = streams.join_next(), if !streams.is_empty() => {}
        }
    }
    while streams.join_next().await.is_some() {}
}

async fn serve_stream(
    connection: Connection,
    peer: Peer,
    stream: Stream,
    send: SendStream,
    mut receive: RecvStream,
    jobs: mpsc::Sender<Job>,
) {
    let (outlet, answers, pushes) = outlet(IN_FLIGHT_MAX.saturating_add(2));
    let greetings = outlet.answers.clone();
    if jobs.send(Job::Begin(peer, stream, outlet)).await.is_err() {
        return;
    }
    let places = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let writer = tokio::spawn(write(send, answers, pushes, Arc::clone(&places)));
    let end = read(peer, stream, &mut receive, &greetings, &jobs, &places).await;
    if let End::Broken { code, reason } = end {
        connection.close(VarInt::from_u32(code), reason.as_bytes());
    } else {
        // Whoever finished asking still gets the answers.
        let all = u32::try_from(IN_FLIGHT_MAX).unwrap_or(u32::MAX);
        tokio::select! {
            _ = places.acquire_many(all) => {}
            _ = connection.closed() => {}
        }
    }
    drop(greetings);
    let _ = jobs.send(Job::Input(Input::Closed(peer, stream))).await;
    let _ = writer.await;
}

async fn read(
    peer: Peer,
    stream: Stream,
    receive: &mut RecvStream,
    greetings: &mpsc::Sender<(Request, ToClient)>,
    jobs: &mpsc::Sender<Job>,
    places: &Arc<Semaphore>,
) -> End {
    let mut greeted = false;
    loop {
        let (request, message) = match next_frame(receive).await {
            Ok(frame) => frame,
            Err(end) => return end,
        };
        let from = From {
            peer,
            stream,
            request,
        };
        let input = match message {
            ToRelay::Hello { version } if version == VERSION => {
                greeted = true;
                let hello = ToClient::Hello {
                    version: VERSION,
                    day: now().day(),
                };
                match places.acquire().await {
                    Ok(place) => place.forget(),
                    Err(_) => return End::Finished,
                }
                if greetings.send((request, hello)).await.is_err() {
                    return End::Finished;
                }
                continue;
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
                match places.acquire().await {
                    Ok(place) => place.forget(),
                    Err(_) => return End::Finished,
                }
                Input::Call(from, call, incarnation())
            }
            ToRelay::Unfollow => Input::Unfollow(from),
        };
        if jobs.send(Job::Input(input)).await.is_err() {
            return End::Finished;
        }
    }
}

async fn next_frame(receive: &mut RecvStream) -> Result<(Request, ToRelay), End> {
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
    Ok(ToRelay::decode(&bytes)?)
}

/// Writes what comes, as much at a time as there is. Answers go before pushes.
async fn write(mut send: SendStream, mut answers: Frames, mut pushes: Frames, places: Arc<Semaphore>) {
    let mut buffer = Vec::new();
    loop {
        let first = tokio::select! {
            biased;
            answer = answers.recv() => answer.map(|answer| (answer, true)),
            Some(push) = pushes.recv() => Some((push, false)),
        };
        let Some(((request, message), answered)) = first else {
            break;
        };
        message.encode(request, &mut buffer);
        let mut freed = usize::from(answered);
        while buffer.len() < WRITE_BYTES {
            if let Ok((request, message)) = answers.try_recv() {
                message.encode(request, &mut buffer);
                freed = freed.saturating_add(1);
            } else if let Ok((request, message)) = pushes.try_recv() {
                message.encode(request, &mut buffer);
            } else {
                break;
            }
        }
        if send.write_all(&buffer).await.is_err() {
            places.close();
            return;
        }
        places.add_permits(freed);
        buffer.clear();
        buffer.shrink_to(4 << 10);
    }
    let _ = send.finish();
}
