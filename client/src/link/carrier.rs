//! What carries streams of frames: QUIC, or HTTP/2 over TCP.

use std::future::Future;

use tokio::io::{AsyncRead, AsyncWrite};

use super::LinkError;

/// What carries the streams of one connection.
pub(super) trait Carrier: Clone + Send + Sync + 'static {
    /// The way out of a stream.
    type Send: AsyncWrite + Unpin + Send + 'static;
    /// The way in.
    type Receive: AsyncRead + Unpin + Send + 'static;

    /// A new stream.
    fn open(&self) -> impl Future<Output = Result<(Self::Send, Self::Receive), LinkError>> + Send;

    /// Ends the connection; tells a code of SPEC.md 4.5, if it can tell any.
    fn close(&self, code: u32);

    /// Why the connection is over, if it is.
    fn over(&self) -> Option<LinkError>;

    /// Waits until the connection is over.
    fn closed(&self) -> impl Future<Output = ()> + Send;

    /// A count that grows with whatever comes from the other side.
    fn heard(&self) -> u64;

    /// Which way it is.
    fn path(&self) -> &'static str;
}
