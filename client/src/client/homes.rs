//! The relays on which this person's cases live: moving them, and finding them again.

use martlet_proto::{
    Answer, Refusal,
    case::Home,
    link::{RelayAddress, RelayLink},
};

use super::{Client, entropy, find::Found, lanes::Lane, now};
use crate::{
    error::{Error, Missing},
    link::LinkError,
    record::HomeRelay,
    vault::Batch,
    view::RelayView,
};

impl Client {
    /// Has new invites made on a relay, if there is none for them yet, and names it in every case that this device
    /// leads as a place to look when theirs is gone. Says whether some of that still waits.
    ///
    /// # Errors
    ///
    /// [`Usage::TooManyRelays`](crate::Usage::TooManyRelays), and those of the vault.
    ///
    /// # Cancel safety
    ///
    /// Once it is polled the changes go on with the next call.
    pub async fn use_relay(&self, link: RelayLink) -> Result<bool, Error> {
        let home = Home {
            relay: link.relay.clone(),
            admission: Some(link.admission.clone()),
        };
        let ids = {
            let mut core = self.core()?;
            let core = &mut *core;
            let mut batch = Batch::default();
            if core.me.profile().relay.is_none() {
                core.me.profile_mut().relay = Some(HomeRelay {
                    relay: link.relay,
                    admission: link.admission,
                });
                core.save_profile(&mut batch)?;
            }
            let mut ids = Vec::new();
            for case in &mut core.cases {
                if case.may_move(&core.me) {
                    batch.merge(case.add_home(&core.me, home.clone())?);
                    ids.push(*case.id());
                }
            }
            core.commit(batch)?;
            ids
        };
        self.changes_made(&ids).await
    }

    /// Moves this person's cases, or one, to a relay: those that this device leads by a commit, on the old relay if it
    /// answers and is not `gone`, else on the new one; others are looked for there. Says whether some of that still waits.
    ///
    /// # Errors
    ///
    /// [`Missing::Case`], those of the vault and of the new relay.
    ///
    /// # Cancel safety
    ///
    /// Once it is polled the moves go on with the next call.
    pub async fn move_cases(&self, link: RelayLink, case: Option<&str>, gone: bool) -> Result<bool, Error> {
        let home = Home {
            relay: link.relay,
            admission: Some(link.admission),
        };
        let ids = match case {
            Some(case) => vec![self.named(case)?],
            None => self.core()?.cases.iter().map(|case| *case.id()).collect(),
        };
        // Nothing moves to where nobody is.
        self.link(&home.relay, Lane::Shared).await?;
        for id in &ids {
            let leads = {
                let core = self.core()?;
                let at = core.at_id(id)?;
                core.cases.get(at).is_some_and(|case| case.may_move(&core.me))
            };
            if !leads {
                self.peek(id, &home.relay).await?;
                continue;
            }
            self.change(id, |case, me| case.move_to(me, home.clone()))?;
            let old = self.relay_of(id)?;
            let reached = !gone && self.link_for(id, &old).await.is_ok();
            if !reached && old.pin != home.relay.pin {
                self.change(id, |case, _| case.settle_at(&home))?;
            }
        }
        self.changes_made(&ids).await
    }

    /// The link by which others find the relay of a case.
    ///
    /// # Errors
    ///
    /// [`Missing::Case`]; [`Missing::Admission`] if this device may not pass on the right to open channels there.
    pub fn relay_link(&self, case: &str) -> Result<RelayLink, Error> {
        let core = self.core()?;
        let record = match core.find(case)? {
            Found::Case(at) => core.case_at(at)?.record(),
            Found::Archived(at) => core.archived_at(at)?.record(),
        };
        Ok(RelayLink {
            relay: record.relay.clone(),
            admission: record
                .admission
                .clone()
                .ok_or(Error::NotFound(Missing::Admission))?,
        })
    }

    /// The relays in use.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] after an earlier failure.
    pub fn relay_list(&self) -> Result<Vec<RelayView>, Error> {
        let home = self.core()?.me.profile().relay.clone().map(|home| home.relay);
        let view = |relay: RelayAddress| {
            Ok(RelayView {
                addresses: relay.addresses.iter().map(ToString::to_string).collect(),
                pin: *relay.pin.as_bytes(),
                home: home.as_ref() == Some(&relay),
                cases: u64::try_from(self.cases_on(&relay)?.len()).unwrap_or(u64::MAX),
            })
        };
        self.relays()?.into_iter().map(view).collect()
    }

    /// A relay is out of reach: the cases on it are looked for on the others that they name. Says whether all of them
    /// were found.
    pub(super) async fn look_elsewhere(&self, gone: &RelayAddress, lane: Lane) -> Result<bool, Error> {
        let ids = self.cases_of(gone, lane)?;
        let cases: Vec<([u8; 16], Vec<Home>)> = {
            let core = self.core()?;
            let here = core.cases.iter().filter(|case| ids.contains(case.id()));
            here.map(|case| (*case.id(), case.homes().to_vec())).collect()
        };
        let mut found = !cases.is_empty();
        for (id, homes) in cases {
            let others = homes.iter().filter(|home| home.relay.pin != gone.pin);
            let mut here = false;
            for home in others {
                here = here || self.peek(&id, &home.relay).await.unwrap_or(false);
            }
            if here {
                let link = self.link_of(&id).await?;
                self.look_again(&id)?;
                self.drive(&id, link.as_ref()).await?;
            }
            found &= here;
        }
        Ok(found)
    }

    /// Looks whether a case has moved to a relay, and follows it if so.
    async fn peek(&self, id: &[u8; 16], relay: &RelayAddress) -> Result<bool, Error> {
        let link = self.link_for(id, relay).await?;
        let turn = self.turn_of(id)?;
        let _mine = turn.lock().await;
        let before = self.relay_of(id)?;
        let call = {
            let core = self.core()?;
            let at = core.at_id(id)?;
            core.cases.get(at).and_then(|case| case.peek())
        };
        let Some(call) = call else { return Ok(false) };
        let page = match link.call(call).await {
            Ok(Answer::Slots(page)) => page,
            Ok(_) => return Err(Error::Protocol("the relay answered another question")),
            Err(LinkError::Refused(Refusal::Closed)) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let events = {
            let mut core = self.core()?;
            let at = core.at_id(id)?;
            let core = &mut *core;
            let case = core.cases.get_mut(at).ok_or(Error::Internal("a case vanished"))?;
            let turn = case.peeked(&core.me, &page, now(), &mut entropy()?)?;
            core.commit_turn(turn)?
        };
        self.tell(events).await;
        Ok(self.relay_of(id)? != before)
    }

    /// Speaks for cases that were changed; says whether something still waits.
    async fn changes_made(&self, ids: &[[u8; 16]]) -> Result<bool, Error> {
        self.inner.wake.notify_one();
        let mut waits = false;
        for id in ids {
            self.look_again(id)?;
            let done = match self.link_of(id).await {
                Ok(link) => self.drive(id, link.as_ref()).await,
                Err(error) => Err(error),
            };
            match done {
                Ok(()) => {}
                Err(Error::Unreachable) => waits = true,
                Err(error) => return Err(error),
            }
        }
        Ok(waits)
    }
}
