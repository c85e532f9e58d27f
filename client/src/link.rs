//! The way to a relay. Code above this talks to [`Link`] and [`Connect`] only; QUIC and TCP lie beneath.

mod carrier;
mod http2;
mod pin;
pub mod quic;
mod race;
pub mod roads;
mod socks;
mod stream;
pub mod tcp;

use std::{future::Future, pin::Pin, sync::Arc};

use martlet_proto::{
    Answer, Call, Day, Follow, Grant, Reader, Refusal, Slot, Verb, call::Slots, link::RelayAddress,
};
use tokio::sync::mpsc;

/// A future on the heap, so that links can be objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why a link did not give an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// There is no way there, no answer in time, or the connection broke.
    #[error("the relay cannot be reached")]
    Unreachable,
    /// Whoever answered does not hold the pinned key. Nothing was sent.
    #[error("the relay's key is not the one pinned")]
    WrongPin,
    /// The relay speaks another version of the protocol.
    #[error("the relay speaks version {0} of the protocol")]
    Version(u16),
    /// The relay breaks the protocol.
    #[error("the relay breaks the protocol: {0}")]
    Protocol(&'static str),
    /// The relay refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// What makes links.
pub trait Connect: Send + Sync + 'static {
    /// A new link to a relay whose key is the pinned one.
    ///
    /// # Cancel safety
    ///
    /// Nothing is left behind.
    fn connect<'a>(&'a self, relay: &'a RelayAddress) -> BoxFuture<'a, Result<Arc<dyn Link>, LinkError>>;

    /// As [`connect`](Self::connect), over a socket of its own, with nothing by which the relay or anybody on the way could
    /// tell that it belongs to another link but the address of this device and the time.
    ///
    /// # Cancel safety
    ///
    /// Nothing is left behind.
    fn connect_apart<'a>(
        &'a self,
        relay: &'a RelayAddress,
    ) -> BoxFuture<'a, Result<Arc<dyn Link>, LinkError>>;

    /// Tries each road that there is to a relay, by its name; where it leads there, what the relay's day is.
    ///
    /// # Cancel safety
    ///
    /// Nothing is left behind.
    fn try_roads<'a>(&'a self, relay: &'a RelayAddress) -> BoxFuture<'a, Vec<Tried>> {
        Box::pin(async move {
            let made = self.connect(relay).await;
            let road = made.as_ref().map_or("relay", |link| link.path());
            vec![tried(road, made)]
        })
    }
}

/// A road's name, and the relay's day if it leads there.
pub type Tried = (&'static str, Result<Option<Day>, LinkError>);

fn tried(road: &'static str, made: Result<Arc<dyn Link>, LinkError>) -> Tried {
    let day = made.map(|link| {
        let day = link.relay_day();
        link.close();
        day
    });
    (road, day)
}

/// A link to a relay: calls go out in the order in which they are made, and many may wait for their answers.
pub trait Link: Send + Sync + 'static {
    /// Makes a call and waits for its answer.
    ///
    /// # Cancel safety
    ///
    /// The relay may have done what it was asked.
    fn call(&self, call: Call) -> BoxFuture<'_, Result<Answer, LinkError>>;

    /// Follows a channel: what is there, and then what is added.
    ///
    /// # Cancel safety
    ///
    /// The follow is over.
    fn follow(&self, call: Call) -> BoxFuture<'_, Result<(Slots, Pushes), LinkError>>;

    /// A stream of its own on the same connection, for a document.
    ///
    /// # Cancel safety
    ///
    /// Nothing is left behind.
    fn stream(&self) -> BoxFuture<'_, Result<Arc<dyn Link>, LinkError>>;

    /// The relay's day, once it has said hello.
    fn relay_day(&self) -> Option<Day>;

    /// Whether the connection is over.
    fn is_closed(&self) -> bool;

    /// Waits until the connection is over.
    fn closed(&self) -> BoxFuture<'_, ()>;

    /// Ends the connection.
    fn close(&self);

    /// By which way it goes.
    fn path(&self) -> &'static str;
}

/// What a follow brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Push {
    /// Slots that were added.
    Slots(Vec<Slot>),
    /// Some were left out: read on.
    Gap,
}

/// What comes of one follow. Dropping it ends the follow.
pub struct Pushes {
    incoming: mpsc::Receiver<Push>,
    _end: Box<dyn Send>,
}

impl Pushes {
    /// Pushes from a queue; `end` is dropped with them.
    pub fn new(incoming: mpsc::Receiver<Push>, end: Box<dyn Send>) -> Self {
        Self { incoming, _end: end }
    }

    /// The next; `None` when the link is over.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn next(&mut self) -> Option<Push> {
        self.incoming.recv().await
    }
}

impl std::fmt::Debug for Pushes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pushes(..)")
    }
}

/// Makes a typed call: the verb says which right its grant must carry and what is answered.
///
/// # Errors
///
/// [`LinkError`]; an answer of another kind is [`LinkError::Protocol`].
///
/// # Cancel safety
///
/// The relay may have done what it was asked.
pub async fn ask<V: Verb>(link: &dyn Link, grant: &Grant<V::Right>, verb: V) -> Result<V::Answer, LinkError> {
    let answer = link.call(Call::new(grant, verb)).await?;
    V::Answer::try_from(answer).map_err(|_| LinkError::Protocol("it answered another question"))
}

/// Follows a channel.
///
/// # Errors
///
/// As [`ask`].
///
/// # Cancel safety
///
/// The follow is over.
pub async fn follow(
    link: &dyn Link,
    grant: &Grant<Reader>,
    verb: Follow,
) -> Result<(Slots, Pushes), LinkError> {
    link.follow(Call::new(grant, verb)).await
}
