//! Following: a task for each relay that reads, pushes and reconnects for as long as somebody listens.

use std::{sync::Arc, time::Duration};

use martlet_proto::{ChannelId, link::RelayAddress};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};

use super::{
    Client, entropy,
    lanes::{Lane, Route},
    now,
};
use crate::{
    error::Error,
    link::{Link, Push, follow},
    view::{Event, InviteState, name_of},
};

/// Events that wait for a slow listener; the tasks wait with them.
const EVENTS_WAITING: usize = 256;
/// The shortest and the longest pause before a relay is tried again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// How often everything is looked at again, push or no push.
const ROUND: Duration = Duration::from_secs(60);

/// How far apart connections that belong to different cases begin: up to so many times half a second.
const SPREAD: u32 = 8;
/// How often relays that came into use since are looked for.
const LOOK_ROUND: Duration = Duration::from_secs(2);

/// Live events, until it is dropped.
pub struct Following {
    events: mpsc::Receiver<Event>,
    case: Option<String>,
    client: Client,
    task: AbortHandle,
}

impl Following {
    /// The next event; `None` when another `follow` took over.
    ///
    /// # Cancel safety
    ///
    /// No event is lost.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let event = self.events.recv().await?;
            let of = match &event {
                Event::Letter { case, .. }
                | Event::Sent { case, .. }
                | Event::Delivered { case, .. }
                | Event::Asks { case, .. }
                | Event::Returned { case }
                | Event::Warning { case, .. } => Some(case),
                Event::Case { case } => Some(&case.case),
                Event::Online | Event::Offline => None,
            };
            match (&self.case, of) {
                (Some(wanted), Some(of)) if wanted != of => {}
                _ => return Some(event),
            }
        }
    }
}

impl std::ops::Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
        if let Ok(mut listener) = self.client.inner.listener.lock() {
            *listener = None;
        }
    }
}

impl std::fmt::Debug for Following {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Following(..)")
    }
}

/// What a push belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// A case, and the channel of the epoch that is followed: what it brings means nothing in another.
    Case([u8; 16], ChannelId),
    Inbox,
}

/// Up to half a second, never the same.
fn jitter() -> Duration {
    let millis = entropy().map_or(0, |mut entropy| {
        u64::from(u16::from_be_bytes(entropy.bytes())) / 128
    });
    Duration::from_millis(millis)
}

impl Client {
    /// Follows one case, or all and the inboxes too: letters, receipts, new cases, as they come. Reconnects by itself.
    ///
    /// # Errors
    ///
    /// [`crate::Missing::Case`], [`crate::Usage::CaseRestored`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is left behind.
    pub async fn follow(&self, case: Option<&str>) -> Result<Following, Error> {
        let case = match case {
            Some(case) => {
                let core = self.core()?;
                Some(name_of(&core.id_at(core.find_at(case)?)?))
            }
            None => None,
        };
        let (listener, events) = mpsc::channel(EVENTS_WAITING);
        if let Ok(mut place) = self.inner.listener.lock() {
            *place = Some(listener);
        }
        let client = self.clone();
        let task = tokio::spawn(async move { client.follow_all().await }).abort_handle();
        Ok(Following {
            events,
            case,
            client: self.clone(),
            task,
        })
    }

    /// A task for each relay and lane in use, and for those that come into use.
    async fn follow_all(&self) {
        let (mut followed, mut tasks): (Vec<(Route, AbortHandle)>, JoinSet<()>) =
            (Vec::new(), JoinSet::new());
        loop {
            let routes = self.routes().unwrap_or_default();
            followed.retain(|(route, task)| {
                let in_use = routes.contains(route);
                if !in_use {
                    task.abort();
                }
                in_use
            });
            for route in routes {
                if !followed.iter().any(|(known, _)| *known == route) {
                    let (client, (relay, lane)) = (self.clone(), route.clone());
                    let task = tasks.spawn(async move { client.follow_route(relay, lane).await });
                    followed.push((route, task));
                }
            }
            tokio::time::sleep(LOOK_ROUND).await;
        }
    }

    async fn follow_route(&self, relay: RelayAddress, lane: Lane) {
        let mut pause = PAUSE.0;
        if lane != Lane::Shared {
            // Connections that begin together would tell that they belong together.
            tokio::time::sleep(jitter().saturating_mul(SPREAD)).await;
        }
        loop {
            let began = now();
            match self.link(&relay, lane).await {
                Ok(link) => {
                    self.tell_reach(Event::Online).await;
                    let ended = self.follow_link(&relay, lane, &link).await;
                    if !matches!(ended, Err(Error::Unreachable) | Ok(())) {
                        link.close();
                    }
                    self.tell_reach(Event::Offline).await;
                }
                Err(_) => {
                    self.tell_reach(Event::Offline).await;
                    // Nothing found there either: the next round looks again.
                    let _ = self.look_elsewhere(&relay, lane).await;
                }
            }
            if now().as_secs().saturating_sub(began.as_secs()) > PAUSE.1.as_secs() {
                pause = PAUSE.0;
            }
            tokio::time::sleep(pause.saturating_add(jitter())).await;
            pause = pause.saturating_mul(2).min(PAUSE.1);
        }
    }

    /// Follows everything on one link until it breaks.
    async fn follow_link(&self, relay: &RelayAddress, lane: Lane, link: &Arc<dyn Link>) -> Result<(), Error> {
        self.sync_patiently(relay, lane, link).await?;
        let (pushes, mut incoming) = mpsc::channel(64);
        let mut pumps = JoinSet::new();
        let mut followed = Vec::new();
        loop {
            self.follow_new((relay, lane), link, &pushes, &mut pumps, &mut followed)
                .await?;
            tokio::select! {
                Some((source, push)) = incoming.recv() => match source {
                    Source::Inbox => self.sync_patiently(relay, lane, link).await?,
                    Source::Case(id, channel) => self.take_push(&id, &channel, push, link).await?,
                },
                () = self.inner.wake.notified() => self.sync_patiently(relay, lane, link).await?,
                () = tokio::time::sleep(ROUND) => self.sync_patiently(relay, lane, link).await?,
                () = link.closed() => return Ok(()),
            }
        }
    }

    /// A refusal in one place does not end the following of the others.
    async fn sync_patiently(
        &self,
        relay: &RelayAddress,
        lane: Lane,
        link: &Arc<dyn Link>,
    ) -> Result<(), Error> {
        match self.sync_route(relay, lane, link.as_ref()).await {
            Ok(()) | Err(Error::Refused(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn take_push(
        &self,
        id: &[u8; 16],
        channel: &ChannelId,
        push: Push,
        link: &Arc<dyn Link>,
    ) -> Result<(), Error> {
        let events = {
            let turn = self.turn_of(id)?;
            let _mine = turn.lock().await;
            let mut core = self.core()?;
            let core = &mut *core;
            let at = core.at_id(id)?;
            let case = core.cases.get_mut(at).ok_or(Error::Internal("a case vanished"))?;
            match push {
                _ if case.channel() != *channel => Vec::new(),
                Push::Slots(slots) => {
                    let turn = case.pushed(&core.me, slots, now(), &mut entropy()?)?;
                    core.commit_turn(turn)?
                }
                Push::Gap => {
                    case.look_again();
                    Vec::new()
                }
            }
        };
        self.tell(events).await;
        match self.drive(id, link.as_ref()).await {
            Ok(()) | Err(Error::Refused(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Begins to follow what is not followed yet: new cases, next epochs, inboxes.
    async fn follow_new(
        &self,
        (relay, lane): (&RelayAddress, Lane),
        link: &Arc<dyn Link>,
        pushes: &mpsc::Sender<(Source, Push)>,
        pumps: &mut JoinSet<()>,
        followed: &mut Vec<ChannelId>,
    ) -> Result<(), Error> {
        let mut wanted = Vec::new();
        {
            let (cases, invites) = (self.cases_of(relay, lane)?, self.invites_of(relay, lane)?);
            let core = self.core()?;
            for case in core.cases.iter().filter(|case| cases.contains(case.id())) {
                if let Some((grant, verb)) = case.following() {
                    wanted.push((Source::Case(*case.id(), case.channel()), grant, verb));
                }
            }
            for (index, invite) in &core.invites {
                if invites.contains(index) && invite.state == InviteState::Open {
                    let from = invite
                        .cursor
                        .map_or(martlet_proto::Seq::FIRST, |cursor| cursor.seq);
                    wanted.push((
                        Source::Inbox,
                        invite.inbox.reader(),
                        martlet_proto::Follow { from },
                    ));
                }
            }
        }
        for (source, grant, verb) in wanted {
            if followed.contains(&grant.channel) {
                continue;
            }
            let Ok((page, mut incoming)) = follow(link.as_ref(), &grant, verb).await else {
                continue;
            };
            followed.push(grant.channel);
            let pushes = pushes.clone();
            pumps.spawn(async move {
                if !page.slots.is_empty() && pushes.send((source, Push::Slots(page.slots))).await.is_err() {
                    return;
                }
                while let Some(push) = incoming.next().await {
                    if pushes.send((source, push)).await.is_err() {
                        return;
                    }
                }
            });
        }
        Ok(())
    }
}
