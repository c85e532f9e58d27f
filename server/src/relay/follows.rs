//! Who follows what.

use std::collections::{BTreeMap, BTreeSet};

use martlet_proto::{ChannelId, frame::Request};

use super::{From, Peer, Stream};

/// The follows of all connections, by both ends.
#[derive(Debug, Default)]
pub(super) struct Follows {
    channels: BTreeMap<From, ChannelId>,
    followers: BTreeMap<ChannelId, BTreeSet<From>>,
}

impl Follows {
    /// How many follows a connection has.
    pub(super) fn count(&self, peer: Peer) -> usize {
        self.channels.range(of(peer)).count()
    }

    /// Whether a request is a follow under way.
    pub(super) fn contains(&self, from: &From) -> bool {
        self.channels.contains_key(from)
    }

    /// Begins a follow, in place of what the request followed before.
    pub(super) fn begin(&mut self, from: From, channel: ChannelId) {
        self.end(&from);
        self.channels.insert(from, channel);
        self.followers.entry(channel).or_default().insert(from);
    }

    /// Ends the follow that a request began, if it did.
    pub(super) fn end(&mut self, from: &From) {
        if let Some(channel) = self.channels.remove(from)
            && let Some(followers) = self.followers.get_mut(&channel)
        {
            followers.remove(from);
            if followers.is_empty() {
                self.followers.remove(&channel);
            }
        }
    }

    /// Ends all follows of a stream.
    pub(super) fn end_stream(&mut self, peer: Peer, stream: Stream) {
        let theirs = self.channels.range(of(peer)).map(|(from, _)| *from);
        let over: Vec<From> = theirs.filter(|from| from.stream == stream).collect();
        for from in over {
            self.end(&from);
        }
    }

    /// Ends all follows of a channel.
    pub(super) fn end_channel(&mut self, channel: &ChannelId) {
        for from in self.followers.remove(channel).into_iter().flatten() {
            self.channels.remove(&from);
        }
    }

    /// Whether anybody follows a channel.
    pub(super) fn is_followed(&self, channel: &ChannelId) -> bool {
        self.followers.contains_key(channel)
    }

    /// Those who follow a channel.
    pub(super) fn followers(&self, channel: &ChannelId) -> impl Iterator<Item = From> {
        self.followers.get(channel).into_iter().flatten().copied()
    }
}

/// All requests of a connection.
fn of(peer: Peer) -> std::ops::RangeInclusive<From> {
    let at = |stream, request| From {
        peer,
        stream: Stream(stream),
        request: Request(request),
    };
    at(0, 0)..=at(u64::MAX, u32::MAX)
}
