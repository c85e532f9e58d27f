//! Invites of one's own: publishing cards, and taking in what arrives.

use martlet_proto::{
    Append, Cursor, Drop, Entry, Kind, Read, Refusal, Seq, Slot, Time, Trim, call::Item, card::Uses,
    link::RelayAddress,
};

use super::{
    Client, NewInvite, entropy, keep,
    lanes::{Lane, invite_lane},
    now,
};
use crate::{
    archive::Archived,
    case::Case,
    error::{Error, Missing, Usage},
    inbox::{self, Wanted},
    link::{Link, LinkError, ask},
    record::{InviteRecord, PackageKeys, Publish, decode, encode},
    vault::Batch,
    view::{Event, InviteState, InviteView},
};

/// Pages of an inbox read in one go.
const PAGES_MAX: usize = 1000;

impl Client {
    /// Makes an invite and brings its card to the owner's relay.
    ///
    /// # Errors
    ///
    /// [`Usage::NoRelay`], [`Usage::Days`], [`Usage::NameTooLong`]. An unreachable relay is no error: the invite says
    /// that it is queued.
    ///
    /// # Cancel safety
    ///
    /// Once it is polled the invite exists; its card goes out with the next `sync`.
    pub async fn invite(&self, new: NewInvite) -> Result<InviteView, Error> {
        if !(1..=365).contains(&new.days) {
            return Err(Error::Usage(Usage::Days));
        }
        keep::check_name(new.label.as_deref().unwrap_or_default())?;
        let (index, relay) = {
            let mut core = self.core()?;
            let core = &mut *core;
            let home = core
                .me
                .profile()
                .relay
                .clone()
                .ok_or(Error::Usage(Usage::NoRelay))?;
            let relay = home.relay.clone();
            let index = core.me.profile().next_invite;
            let wanted = Wanted {
                uses: new.uses,
                apart: new.apart,
                label: new.label,
                days: new.days,
            };
            let (record, mut batch) = inbox::create(&core.me, home, wanted, index, now(), &mut entropy()?)?;
            core.me.profile_mut().next_invite = index.saturating_add(1);
            core.save_profile(&mut batch)?;
            core.commit(batch)?;
            core.invites.push((index, record));
            (index, relay)
        };
        self.try_publish(index, &relay).await?;
        self.invite_view(index)
    }

    /// Withdraws an invite: its card and inbox are dropped, its keys deleted. Cases it brought go on.
    ///
    /// # Errors
    ///
    /// [`Missing::Invite`]. An unreachable relay is no error: the invite says that it is queued.
    ///
    /// # Cancel safety
    ///
    /// Once it is polled the invite is withdrawn here; the relay hears of it with the next `sync`.
    pub async fn revoke(&self, id: &str) -> Result<InviteView, Error> {
        let wanted = id.trim().to_lowercase();
        let (index, relay) = {
            let mut core = self.core()?;
            let core = &mut *core;
            let found = core
                .invites
                .iter_mut()
                .find(|(_, record)| inbox::view(record).id == wanted);
            let (index, record) = found.ok_or(Error::NotFound(Missing::Invite))?;
            let (index, relay) = (*index, record.home.relay.clone());
            if record.state != InviteState::Revoked {
                let batch = inbox::withdraw(record, index, InviteState::Revoked)?;
                core.commit(batch)?;
            }
            (index, relay)
        };
        self.try_publish(index, &relay).await?;
        self.invite_view(index)
    }

    async fn try_publish(&self, index: u64, relay: &RelayAddress) -> Result<(), Error> {
        self.inner.wake.notify_one();
        let lane = {
            let core = self.core()?;
            let mut invites = core.invites.iter();
            let invite = invites.find(|(at, _)| *at == index);
            invite.map_or(Lane::Shared, |(_, invite)| {
                invite_lane(core.me.profile(), index, invite)
            })
        };
        let done = match self.link(relay, lane).await {
            Ok(link) => self.tend_invites(relay, lane, link.as_ref()).await,
            Err(error) => Err(error),
        };
        match done {
            Ok(()) | Err(Error::Unreachable) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn invite_view(&self, index: u64) -> Result<InviteView, Error> {
        let core = self.core()?;
        let found = core.invites.iter().find(|(at, _)| *at == index);
        found
            .map(|(_, record)| inbox::view(record))
            .ok_or(Error::NotFound(Missing::Invite))
    }

    /// Publishes, withdraws, renews and reads the invites of a lane that live on a relay.
    pub(super) async fn tend_invites(
        &self,
        relay: &RelayAddress,
        lane: Lane,
        link: &dyn Link,
    ) -> Result<(), Error> {
        let _mine = self.inner.inboxes.lock().await;
        for index in self.invites_of(relay, lane)? {
            self.renew(index)?;
            self.publish(index, link).await?;
            if self.invite_record(index)?.state == InviteState::Open {
                self.read_inbox(index, link).await?;
                // A single-use invite may have been used up just now, or the relay has forgotten the card.
                self.renew(index)?;
                self.publish(index, link).await?;
            }
        }
        Ok(())
    }

    fn invite_record(&self, index: u64) -> Result<InviteRecord, Error> {
        let core = self.core()?;
        let found = core.invites.iter().find(|(at, _)| *at == index);
        found
            .map(|(_, record)| record.clone())
            .ok_or(Error::NotFound(Missing::Invite))
    }

    /// Makes the next card where the old one has served its days.
    fn renew(&self, index: u64) -> Result<(), Error> {
        let mut core = self.core()?;
        let core = &mut *core;
        let keys = core.vault.ratchet(&inbox::packages_name(index))?;
        let Some((_, record)) = core.invites.iter_mut().find(|(at, _)| *at == index) else {
            return Ok(());
        };
        let now: Time = now();
        if !inbox::is_due(record, now) {
            return Ok(());
        }
        let keys: PackageKeys = keys.map(|keys| decode(&keys)).transpose()?.unwrap_or_default();
        let mut batch = Batch::default();
        inbox::renew(&core.me, record, index, keys, now, &mut entropy()?, &mut batch)?;
        core.commit(batch)
    }

    /// Does what an invite's record says must still reach the relay. Doing it twice changes nothing.
    async fn publish(&self, index: u64, link: &dyn Link) -> Result<(), Error> {
        let record = self.invite_record(index)?;
        let admission = Some(record.home.admission.clone());
        match &record.publish {
            Publish::Done => return Ok(()),
            Publish::Card { entry, envelope } => {
                ask(
                    link,
                    &record.card.writer(),
                    record.card.opening(admission.clone()),
                )
                .await?;
                ask(link, &record.inbox.writer(), record.inbox.opening(admission)).await?;
                let items = vec![Item {
                    kind: Kind::Card,
                    id: *entry,
                    envelope: envelope.clone(),
                }];
                let placed = ask(link, &record.card.writer(), Append { within: None, items }).await?;
                ask(link, &record.card.keeper(), Trim { before: placed.first }).await?;
            }
            Publish::Withdraw => {
                for keys in [&record.card, &record.inbox] {
                    match ask(link, &keys.keeper(), Drop).await {
                        Ok(()) | Err(LinkError::Refused(Refusal::Closed)) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
        self.update(index, |record| record.publish = Publish::Done)
    }

    fn update(&self, index: u64, change: impl FnOnce(&mut InviteRecord)) -> Result<(), Error> {
        let mut core = self.core()?;
        let core = &mut *core;
        let Some((_, record)) = core.invites.iter_mut().find(|(at, _)| *at == index) else {
            return Ok(());
        };
        change(record);
        let mut batch = Batch::default();
        batch.put(inbox::record_name(index), encode(record)?);
        core.commit(batch)
    }

    /// Reads an inbox to its end; each packet becomes a case, or is junk.
    async fn read_inbox(&self, index: u64, link: &dyn Link) -> Result<(), Error> {
        for _ in 0..PAGES_MAX {
            let record = self.invite_record(index)?;
            if record.state != InviteState::Open {
                return Ok(());
            }
            let from = record.cursor.map_or(Seq::FIRST, |cursor| cursor.seq);
            let page = match ask(link, &record.inbox.reader(), Read { from }).await {
                Ok(page) => page,
                Err(LinkError::Refused(Refusal::Closed)) => {
                    let admission = Some(record.home.admission.clone());
                    ask(link, &record.inbox.writer(), record.inbox.opening(admission)).await?;
                    self.update(index, inbox::forgotten)?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let known = record.cursor.map(|cursor| cursor.incarnation);
            if known.is_some_and(|known| known != page.tip.incarnation) {
                self.update(index, inbox::forgotten)?;
                continue;
            }
            let mut seq = from;
            for slot in page.slots {
                seq = slot
                    .seq()
                    .next()
                    .ok_or(Error::Protocol("the relay's log has no end"))?;
                let cursor = Cursor {
                    incarnation: page.tip.incarnation,
                    seq,
                };
                self.take_packet(index, slot, cursor).await?;
            }
            if seq >= page.tip.next {
                if seq > from {
                    ask(link, &record.inbox.keeper(), Trim { before: seq }).await?;
                }
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes one slot of an inbox: what it brings and the place to read on from are in one batch.
    async fn take_packet(&self, index: u64, slot: Slot, cursor: Cursor) -> Result<(), Error> {
        let mut events = Vec::new();
        {
            let mut core = self.core()?;
            let core = &mut *core;
            let keys = core.vault.ratchet(&inbox::packages_name(index))?;
            let keys: PackageKeys = keys.map(|keys| decode(&keys)).transpose()?.unwrap_or_default();
            let Some((_, record)) = core.invites.iter_mut().find(|(at, _)| *at == index) else {
                return Ok(());
            };
            record.cursor = Some(cursor);
            let number = core.me.profile().next_case;
            let joined = match &slot {
                Slot::Here(Entry {
                    kind: Kind::Packet,
                    envelope,
                    ..
                }) if record.state == InviteState::Open => {
                    inbox::receive(&core.me, record, &keys, envelope, number, now(), &mut entropy()?)?
                }
                Slot::Here(_) | Slot::Gone { .. } => None,
            };
            let mut batch = Batch::default();
            batch.put(inbox::record_name(index), encode(record)?);
            let joined = joined.filter(|(case, _)| {
                let known = core.cases.iter().map(Case::id);
                let archived = core.archived.iter().map(Archived::id);
                !known.chain(archived).any(|known| known == case.id())
            });
            if let Some((mut case, founded)) = joined {
                batch.merge(founded);
                if record.apart {
                    batch.merge(case.keep_apart()?);
                }
                if record.uses == Uses::Once {
                    batch.merge(inbox::withdraw(record, index, InviteState::Used)?);
                }
                core.me.profile_mut().next_case = number.saturating_add(1);
                core.save_profile(&mut batch)?;
                events.push(Event::Case {
                    case: case.view(&core.me, 0, now()),
                });
                core.commit(batch)?;
                core.cases.push(case);
            } else {
                core.commit(batch)?;
            }
        }
        self.tell(events).await;
        Ok(())
    }
}
