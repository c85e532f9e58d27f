//! Speaking for cases: the loop of asking, making durable and answering, and `sync`.

use std::{sync::Arc, time::Duration};

use martlet_proto::{Answer, Call, letter::LetterId, link::RelayAddress};

use super::{
    Client, entropy,
    lanes::{Lane, Route},
    now,
};
use crate::{
    case::Next,
    error::{Error, Mismatch},
    link::{Link, LinkError},
    view::{Event, Synced},
};

/// Moves of a case that are followed in one go.
const MOVES_MAX: usize = 16;
/// Calls made for one case in one go; a relay that wants more misbehaves.
const CALLS_MAX: usize = 100_000;

impl From<LinkError> for Error {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Unreachable => Self::Unreachable,
            LinkError::WrongPin => Self::Verification(Mismatch::Pin),
            LinkError::Version(_) => Self::Protocol("the relay speaks another version; update this program"),
            LinkError::Protocol(what) => Self::Protocol(what),
            LinkError::Refused(refusal) => Self::Refused(refusal),
        }
    }
}

impl Client {
    /// Every relay that a case, an invite or the owner uses.
    pub(super) fn relays(&self) -> Result<Vec<RelayAddress>, Error> {
        let mut relays: Vec<RelayAddress> = Vec::new();
        for (relay, _) in self.routes()? {
            if !relays.contains(&relay) {
                relays.push(relay);
            }
        }
        Ok(relays)
    }

    /// Speaks for one case until there is nothing more to say, documents included.
    /// A case that moves on the way is followed to its new relay.
    pub(super) async fn drive(&self, id: &[u8; 16], link: &dyn Link) -> Result<(), Error> {
        let mut relay = self.relay_of(id)?;
        self.drive_here(id, link).await?;
        for _ in 0..MOVES_MAX {
            let now_at = self.relay_of(id)?;
            if now_at == relay {
                break;
            }
            relay = now_at;
            let link = self.link_for(id, &relay).await?;
            self.drive_here(id, link.as_ref()).await?;
        }
        Ok(())
    }

    async fn drive_here(&self, id: &[u8; 16], link: &dyn Link) -> Result<(), Error> {
        self.drive_letters(id, link).await?;
        if self.send_uploads(id, link).await? {
            self.drive_letters(id, link).await?;
        }
        Ok(())
    }

    pub(super) fn turn_of(&self, id: &[u8; 16]) -> Result<Arc<tokio::sync::Mutex<()>>, Error> {
        let mut driving = self
            .inner
            .driving
            .lock()
            .map_err(|_| Error::Internal("an earlier failure"))?;
        Ok(Arc::clone(driving.entry(*id).or_default()))
    }

    pub(super) async fn drive_letters(&self, id: &[u8; 16], link: &dyn Link) -> Result<(), Error> {
        let turn = self.turn_of(id)?;
        let _mine = turn.lock().await;
        let relay = self.relay_of(id)?;
        for _ in 0..CALLS_MAX {
            if self.relay_of(id)? != relay {
                return Ok(());
            }
            let Some(next) = self.next(id)? else {
                return Ok(());
            };
            let Next { call, purpose, .. } = next;
            let answered = match &next.relay {
                Some(elsewhere) => Ok(self.call_elsewhere(id, elsewhere, call).await?),
                None => link.call(call).await,
            };
            let answer = match answered {
                Ok(answer) => Ok(answer),
                Err(LinkError::Refused(refusal)) => Err(refusal),
                Err(other) => return Err(other.into()),
            };
            let events = {
                let mut core = self.core()?;
                let at = core.at_id(id)?;
                let core = &mut *core;
                let case = core.cases.get_mut(at).ok_or(Error::Internal("a case vanished"))?;
                let turn = case.answered(&core.me, purpose, answer, now(), &mut entropy()?)?;
                core.commit_turn(turn)?
            };
            self.tell(events).await;
        }
        Err(Error::Protocol("the relay's log has no end"))
    }

    /// Calls the relay to which a case moves. If that one is not there, or wants none of it, the case stays.
    async fn call_elsewhere(&self, id: &[u8; 16], relay: &RelayAddress, call: Call) -> Result<Answer, Error> {
        let answered = match self.link_for(id, relay).await {
            Ok(link) => link.call(call).await.map_err(Error::from),
            Err(error) => Err(error),
        };
        if answered.is_err() {
            self.change(id, |case, _| case.stay())?;
        }
        answered
    }

    /// What to ask for a case, with everything durable that must be before.
    fn next(&self, id: &[u8; 16]) -> Result<Option<Next>, Error> {
        let mut core = self.core()?;
        let at = core.at_id(id)?;
        let core = &mut *core;
        let case = core.cases.get_mut(at).ok_or(Error::Internal("a case vanished"))?;
        let Some(mut next) = case.next(&core.me, now(), &mut entropy()?)? else {
            return Ok(None);
        };
        core.commit(std::mem::take(&mut next.batch))?;
        Ok(Some(next))
    }

    /// Tries to deliver what a case has; says whether this letter still waits.
    pub(super) async fn deliver(&self, id: &[u8; 16], letter: &LetterId) -> Result<bool, Error> {
        self.inner.wake.notify_one();
        self.look_again(id)?;
        let tried = match self.link_of(id).await {
            Ok(link) => match self.drive(id, link.as_ref()).await {
                // Its road may have died. The next link is made on the other one.
                Err(Error::Unreachable) if link.is_closed() => match self.link_of(id).await {
                    Ok(link) => self.drive(id, link.as_ref()).await,
                    Err(error) => Err(error),
                },
                driven => driven,
            },
            Err(error) => Err(error),
        };
        let queued = self.is_queued(id, letter)?;
        match tried {
            Ok(()) | Err(Error::Unreachable) => Ok(queued),
            Err(_) if !queued => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) fn look_again(&self, id: &[u8; 16]) -> Result<(), Error> {
        let mut core = self.core()?;
        let at = core.at_id(id)?;
        if let Some(case) = core.cases.get_mut(at) {
            case.look_again();
        }
        core.with(at, |case, me| case.forget(me, now()))
    }

    fn look_for_asks(&self, id: &[u8; 16]) -> Result<(), Error> {
        let mut core = self.core()?;
        let at = core.at_id(id)?;
        if let Some(case) = core.cases.get_mut(at) {
            case.look_for_asks();
        }
        Ok(())
    }

    pub(super) fn relay_of(&self, id: &[u8; 16]) -> Result<RelayAddress, Error> {
        let core = self.core()?;
        let at = core.at_id(id)?;
        core.cases
            .get(at)
            .map(|case| case.record().relay.clone())
            .ok_or(Error::Internal("a case vanished"))
    }

    fn is_queued(&self, id: &[u8; 16], letter: &LetterId) -> Result<bool, Error> {
        let core = self.core()?;
        let at = core.at_id(id)?;
        let letter = core.cases.get(at).and_then(|case| case.letter(&core.me, letter));
        Ok(letter.is_some_and(|letter| letter.queued))
    }

    pub(super) async fn sync_all(&self) -> Result<Synced, Error> {
        let (before_letters, before_queued, before_cases) = self.tally()?;
        let (mut failed, mut done) = (None, Vec::new());
        // An invite that is read may bring a case with a connection of its own.
        while let Some((relay, lane)) = self.next_route(&done).await? {
            done.push((relay.clone(), lane));
            let mut synced = match self.link(&relay, lane).await {
                Ok(link) => match self.sync_route(&relay, lane, link.as_ref()).await {
                    Err(Error::Unreachable) if link.is_closed() => match self.link(&relay, lane).await {
                        Ok(link) => self.sync_route(&relay, lane, link.as_ref()).await,
                        Err(error) => Err(error),
                    },
                    synced => synced,
                },
                Err(error) => Err(error),
            };
            if matches!(synced, Err(Error::Unreachable)) && self.look_elsewhere(&relay, lane).await? {
                synced = Ok(());
            }
            if let Err(error) = synced {
                failed = Some(worse(failed, error));
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        let (letters, queued, cases) = self.tally()?;
        Ok(Synced {
            sent: before_queued.saturating_sub(queued),
            received: letters.saturating_sub(before_letters),
            queued,
            new_cases: cases.saturating_sub(before_cases),
        })
    }

    /// Where to go next: to what is shared, then to the others in no order, with a pause that is never the same between
    /// them: a burst in a fixed order would tell that they belong together.
    async fn next_route(&self, done: &[Route]) -> Result<Option<Route>, Error> {
        let mut left: Vec<Route> = self.routes()?;
        left.retain(|route| !done.contains(route));
        if left.first().is_none_or(|(_, lane)| *lane == Lane::Shared) {
            return Ok(left.into_iter().next());
        }
        let mut entropy = entropy()?;
        let at = usize::from(u16::from_be_bytes(entropy.bytes()));
        let at = at.checked_rem(left.len()).unwrap_or_default();
        if !done.is_empty() {
            let pause = u64::from(u8::from_be_bytes(entropy.bytes()));
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        Ok(Some(left.swap_remove(at)))
    }

    /// Everything there is to do on one relay and lane. One case's trouble does not keep the others waiting.
    pub(super) async fn sync_route(
        &self,
        relay: &RelayAddress,
        lane: Lane,
        link: &dyn Link,
    ) -> Result<(), Error> {
        let mut failed = None;
        if let Err(error) = self.tend_invites(relay, lane, link).await {
            failed = Some(error);
        }
        if let Err(error) = self.tend_archived(relay, lane, link).await {
            failed = Some(worse(failed, error));
        }
        if lane == Lane::Shared
            && let Err(error) = self.tend_devices(relay, link).await
        {
            failed = Some(worse(failed, error));
        }
        for id in self.cases_of(relay, lane)? {
            self.look_again(&id)?;
            self.look_for_asks(&id)?;
            match self.drive(&id, link).await {
                Ok(()) => {}
                Err(Error::Unreachable) => return Err(Error::Unreachable),
                Err(error) => failed = Some(worse(failed, error)),
            }
        }
        if lane == Lane::Shared
            && let Err(error) = self.send_all_answers(relay, link).await
        {
            failed = Some(worse(failed, error));
        }
        failed.map_or(Ok(()), Err)
    }

    pub(super) fn cases_on(&self, relay: &RelayAddress) -> Result<Vec<[u8; 16]>, Error> {
        let core = self.core()?;
        let here = core.cases.iter().filter(|case| case.record().relay == *relay);
        Ok(here.map(|case| *case.id()).collect())
    }

    /// Letters of others, letters of one's own that wait, cases.
    fn tally(&self) -> Result<(u64, u64, u64), Error> {
        let core = self.core()?;
        let (mut received, mut queued) = (0u64, 0u64);
        for case in &core.cases {
            let letters = case.letters(&core.me, false);
            let theirs = letters.iter().filter(|letter| !letter.mine).count();
            received = received.saturating_add(u64::try_from(theirs).unwrap_or(u64::MAX));
            queued = queued.saturating_add(core.view(case).unsent);
        }
        Ok((
            received,
            queued,
            u64::try_from(core.cases.len()).unwrap_or(u64::MAX),
        ))
    }

    /// Tells whoever follows whether a relay is in reach.
    pub(super) async fn tell_reach(&self, event: Event) {
        self.tell(vec![event]).await;
    }
}

/// Of two failures, the one a person should hear of: what failed to verify, then what was refused, then the rest.
fn worse(one: Option<Error>, other: Error) -> Error {
    let rank = |error: &Error| match error {
        Error::Verification(_) => 0,
        Error::Unreachable => 2,
        _ => 1,
    };
    match one {
        Some(one) if rank(&one) <= rank(&other) => one,
        Some(_) | None => other,
    }
}
