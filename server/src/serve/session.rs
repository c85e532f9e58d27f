//! One connection: streams of frames in, streams of frames out, over whatever carries them.

use std::{future::Future, sync::Arc, time::Duration};

use martlet_proto::{
    call::Action,
    frame::{self, FrameError, LENGTH_BYTES, Request, ToClient, ToRelay, VERSION},
    limits::IN_FLIGHT_MAX,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
};

use super::{
    now,
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

/// What carries the streams of one connection.
pub(super) trait Carrier: Clone + Send + Sync + 'static {
    /// Ends the connection; tells a code of SPEC.md 4.5 and a reason, if it can tell any.
    fn close(&self, code: u32, reason: &'static str);

    /// Waits until the connection is over.
    fn closed(&self) -> impl Future<Output = ()> + Send;
}

/// The relay's half of a stream.
pub(super) trait Outward: AsyncWrite + Unpin + Send + 'static {
    /// After the end was written: waits until the client has all of it, or is gone.
    fn arrived(&mut self) -> impl Future<Output = ()> + Send;
}

/// What the streams of a connection share.
#[derive(Clone)]
pub(super) struct Session<C> {
    carrier: C,
    peer: Peer,
    queue: Queue,
    pages: Arc<Semaphore>,
    stopping: Stopping,
}

impl<C: Carrier> Session<C> {
    pub(super) fn new(carrier: C, peer: Peer, queue: Queue, stopping: Stopping) -> Self {
        Self {
            carrier,
            peer,
            queue,
            pages: Arc::new(Semaphore::new(PAGES_MAX)),
            stopping,
        }
    }

    /// Serves one stream until it ends, or the relay stops and its last answers have been written.
    pub(super) async fn stream<O: Outward, I: AsyncRead + Unpin + Send>(
        mut self,
        stream: Stream,
        send: O,
        mut receive: I,
    ) {
        let (outlet, answers, pushes) = outlet(IN_FLIGHT_MAX.saturating_add(2));
        let greetings = outlet.answers.clone();
        let begin = Job::Begin(self.peer, stream, outlet);
        if self.queue.send(begin).await.is_err() {
            return;
        }
        let places = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
        let writer = tokio::spawn(write(send, answers, pushes, Arc::clone(&places)));
        let (mut stopping, queue) = (self.stopping.clone(), self.queue.clone());
        let end = tokio::select! {
            end = read(&mut self, stream, &mut receive, &greetings, &places) => end,
            _ = stopping.wait_for(|stopping| *stopping) => End::Finished,
            () = queue.ended() => End::Finished,
        };
        if let End::Broken { code, reason } = end {
            self.carrier.close(code, reason);
        } else {
            // Whoever finished asking still gets the answers.
            let all = u32::try_from(IN_FLIGHT_MAX).unwrap_or(u32::MAX);
            tokio::select! {
                _ = places.acquire_many(all) => {}
                () = self.carrier.closed() => {}
                () = queue.ended() => {}
            }
        }
        drop(greetings);
        let closed = Input::Closed(self.peer, stream);
        let _ = self.queue.send(Job::Input(closed, Held::default())).await;
        let _ = writer.await;
    }
}

async fn read<C, I: AsyncRead + Unpin>(
    shared: &mut Session<C>,
    stream: Stream,
    receive: &mut I,
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
                // Where no code is told, this tells it.
                let _ = greetings.send(hello(request)).await;
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

async fn next_frame<I: AsyncRead + Unpin>(receive: &mut I) -> Result<(Request, ToRelay, usize), End> {
    let mut field = [0; LENGTH_BYTES];
    let Some((first, rest)) = field.split_first_mut() else {
        return Err(End::Finished);
    };
    match receive.read(std::slice::from_mut(first)).await {
        Ok(1) => {}
        Ok(_) | Err(_) => return Err(End::Finished),
    }
    receive.read_exact(rest).await.map_err(cut)?;
    let mut bytes = vec![0; frame::length(field)?];
    match tokio::time::timeout(FRAME_WAIT, receive.read_exact(&mut bytes)).await {
        Ok(read) => drop(read.map_err(cut)?),
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

/// Within a frame.
fn cut(error: std::io::Error) -> End {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => FrameError::Length.into(),
        _ => End::Finished,
    }
}

/// Writes what comes, as much at a time as there is. Answers go before pushes.
async fn write<O: Outward>(mut send: O, mut answers: Frames, mut pushes: Frames, places: Arc<Semaphore>) {
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
    if send.shutdown().await.is_ok() {
        // Until then a connection that closes would take the last answers with it.
        let _ = tokio::time::timeout(LAST_WAIT, send.arrived()).await;
    }
}
