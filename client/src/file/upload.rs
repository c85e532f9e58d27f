//! Sending a spooled document: from the relay's last stored chunk on, several calls ahead.

use std::sync::Arc;

use martlet_proto::{
    Admission, Append, Bind, Call, Class, Grant, Head, Keeper, Kind, Open, Seq, Token,
    call::{Answer, Item, Placed},
    derive::FileKeys,
    letter::{LetterId, Manifest},
    limits::ITEMS_MAX,
    log::Digest,
};
use tokio::task::JoinSet;

use super::spool::Spool;
use crate::{
    error::Error,
    link::{Link, LinkError, ask},
};

/// Calls that are under way at a time: 4 MiB.
const AHEAD: usize = 16;

/// A document to send.
#[derive(Debug)]
pub struct Upload<'a> {
    /// Where its chunks are.
    pub spool: &'a Spool,
    /// Under which name.
    pub id: LetterId,
    /// What its letter will say.
    pub manifest: &'a Manifest,
    /// The right to trim and drop it.
    pub keep: &'a Token<Keeper>,
    /// The right to open a channel.
    pub admission: Option<Admission>,
}

impl Upload<'_> {
    /// Sends what the relay does not have, and checks that it then has all of it and nothing else.
    ///
    /// `progress` is told chunks done and chunks in all.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`] and what the relay refuses; doing it again goes on from the last stored chunk.
    ///
    /// # Cancel safety
    ///
    /// What the relay stored is stored.
    pub async fn run(
        &self,
        link: Arc<dyn Link>,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<(), Error> {
        let keys = FileKeys::derive(&self.manifest.key);
        let channel = keys.channel(&self.keep.hash());
        let writer = Grant {
            channel,
            token: keys.write.clone(),
        };
        let open = Open {
            class: Class::File,
            read: keys.read.hash(),
            keep: self.keep.hash(),
            bind: Bind::NONE,
            admission: self.admission.clone(),
        };
        let tip = ask(link.as_ref(), &writer, open).await?;
        let count = self.manifest.chunks();
        let start = tip.next.as_u64();
        if start > count {
            return Err(Error::Protocol("the relay has more of a document than was sent"));
        }
        let mut head = self.head_at(&Head::first(&channel, &tip.incarnation), 0, start)?;
        if head != tip.head {
            return Err(Error::Protocol(
                "the relay has something else in place of a document",
            ));
        }
        let mut heads = std::collections::BTreeMap::new();
        let mut calls: JoinSet<Result<Answer, LinkError>> = JoinSet::new();
        let (mut next, mut done) = (start, start);
        progress(done, count);
        while done < count {
            while next < count && calls.len() < AHEAD {
                let wanted = usize::try_from(count.saturating_sub(next))
                    .unwrap_or(ITEMS_MAX)
                    .min(ITEMS_MAX);
                let envelopes = self.spool.read(&self.id, next, wanted)?;
                let mut items = Vec::with_capacity(envelopes.len());
                for envelope in envelopes {
                    let at = u32::try_from(next).map_err(|_| Error::Internal("too many chunks"))?;
                    head = head.after(Seq::new(next), Kind::Chunk, &Digest::of(&envelope));
                    items.push(Item {
                        kind: Kind::Chunk,
                        id: keys.entry_id(at),
                        envelope,
                    });
                    next = next.saturating_add(1);
                }
                heads.insert(next, head);
                let call = Call::new(
                    &writer,
                    Append {
                        within: Some(tip.incarnation),
                        items,
                    },
                );
                let link = Arc::clone(&link);
                // Calls go out in the order in which they are made: the first poll queues them.
                let mut call = Box::pin(async move { link.call(call).await });
                let sent =
                    std::future::poll_fn(|context| std::task::Poll::Ready(call.as_mut().poll(context))).await;
                match sent {
                    std::task::Poll::Ready(answer) => drop(calls.spawn(std::future::ready(answer))),
                    std::task::Poll::Pending => drop(calls.spawn(call)),
                }
            }
            let answer = calls
                .join_next()
                .await
                .ok_or(Error::Internal("no call is under way"))?;
            let placed = match answer.map_err(|_| Error::Internal("a task was lost"))?? {
                Answer::Placed(placed) => placed,
                Answer::Tip(_) | Answer::Slots(_) | Answer::Done => {
                    return Err(Error::Protocol("the relay answered another question"));
                }
            };
            done = done.saturating_add(check(&placed, &mut heads, start)?);
            progress(done, count);
        }
        Ok(())
    }

    /// The chain after the chunks `from..to`.
    fn head_at(&self, head: &Head, from: u64, to: u64) -> Result<Head, Error> {
        let mut head = *head;
        for at in from..to {
            for envelope in self.spool.read(&self.id, at, 1)? {
                head = head.after(Seq::new(at), Kind::Chunk, &Digest::of(&envelope));
            }
        }
        Ok(head)
    }
}

/// How many chunks an answer stands for, if the relay's chain is the one that was sent.
fn check(
    placed: &Placed,
    heads: &mut std::collections::BTreeMap<u64, Head>,
    start: u64,
) -> Result<u64, Error> {
    let lies = Error::Protocol("the relay stored something else in place of a document");
    let first = placed.first.as_u64();
    if first < start {
        return Err(lies);
    }
    let (end, head) = heads
        .range(first.saturating_add(1)..)
        .next()
        .map(|(end, head)| (*end, *head))
        .ok_or(lies)?;
    if head != placed.head {
        return Err(Error::Protocol(
            "the relay stored something else in place of a document",
        ));
    }
    heads.remove(&end);
    Ok(end.saturating_sub(first))
}
