//! Which connection something goes over: cases may share one for each relay, or each have its own. SPEC.md 10.8.

use std::sync::Arc;

use martlet_proto::{card::Uses, link::RelayAddress};

use super::Client;
use crate::{
    case::Case,
    error::Error,
    link::Link,
    record::{CaseRecord, InviteRecord, Isolation, Profile},
    vault::Batch,
};

/// A way to a relay that nothing of another lane goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// What shares a connection.
    Shared,
    /// All of one case.
    Case([u8; 16]),
    /// Card and inbox of one invite, by its number.
    Invite(u64),
}

/// A lane to a relay.
pub(super) type Route = (RelayAddress, Lane);

impl Client {
    /// Whether cases share connections.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] after an earlier failure.
    pub fn isolation(&self) -> Result<Isolation, Error> {
        Ok(self.core()?.me.profile().isolation)
    }

    /// Has cases share connections from now on, or each have its own. Connections in use are closed.
    ///
    /// # Errors
    ///
    /// Those of the vault.
    pub fn set_isolation(&self, isolation: Isolation) -> Result<(), Error> {
        {
            let mut core = self.core()?;
            let core = &mut *core;
            core.me.profile_mut().isolation = isolation;
            let mut batch = Batch::default();
            core.save_profile(&mut batch)?;
            core.commit(batch)?;
        }
        self.close_links();
        Ok(())
    }

    /// Ends the connections in use.
    pub(super) fn close_links(&self) {
        if let Ok(mut links) = self.inner.links.lock() {
            for (_, link) in links.drain(..) {
                link.close();
            }
        }
    }

    /// A link to a relay on a lane: the one in use, or a new one.
    pub(super) async fn link(&self, relay: &RelayAddress, lane: Lane) -> Result<Arc<dyn Link>, Error> {
        let in_use = self.inner.links.lock().ok().and_then(|mut links| {
            links.retain(|(_, link)| !link.is_closed());
            let mut links = links.iter();
            links
                .find(|((at, on), _)| at == relay && *on == lane)
                .map(|(_, link)| Arc::clone(link))
        });
        if let Some(link) = in_use {
            return Ok(link);
        }
        let connect = self.connect()?;
        let link = match lane {
            Lane::Shared => connect.connect(relay).await?,
            Lane::Case(_) | Lane::Invite(_) => connect.connect_apart(relay).await?,
        };
        if !Arc::ptr_eq(&connect, &self.connect()?) {
            // Meanwhile the owner chose another way.
            link.close();
            return Err(Error::Unreachable);
        }
        self.keep_link(relay, lane, &link);
        Ok(link)
    }

    /// Uses a link for a lane from now on.
    pub(super) fn keep_link(&self, relay: &RelayAddress, lane: Lane, link: &Arc<dyn Link>) {
        if let Ok(mut links) = self.inner.links.lock() {
            links.push(((relay.clone(), lane), Arc::clone(link)));
        }
    }

    /// A link to a relay for what belongs to a case.
    pub(super) async fn link_for(&self, id: &[u8; 16], relay: &RelayAddress) -> Result<Arc<dyn Link>, Error> {
        let lane = self.lane_of(id)?;
        self.link(relay, lane).await
    }

    /// The link of a case, to the relay where it is.
    pub(super) async fn link_of(&self, id: &[u8; 16]) -> Result<Arc<dyn Link>, Error> {
        self.link_for(id, &self.relay_of(id)?).await
    }

    fn lane_of(&self, id: &[u8; 16]) -> Result<Lane, Error> {
        let core = self.core()?;
        let here = core.cases.iter().map(Case::record);
        let restored = core.archived.iter().map(crate::archive::Archived::record);
        let record = here.chain(restored).find(|record| record.id == *id);
        Ok(record.map_or(Lane::Shared, |record| case_lane(core.me.profile(), record)))
    }

    /// Everything that this device goes to: what is shared first.
    pub(super) fn routes(&self) -> Result<Vec<Route>, Error> {
        let core = self.core()?;
        let profile = core.me.profile();
        let cases = core.cases.iter().map(Case::record);
        let restored = core.archived.iter().map(crate::archive::Archived::record);
        let restored = restored.filter(|record| record.asking.is_some());
        let cases = cases.chain(restored);
        let cases = cases.map(|record| (record.relay.clone(), case_lane(profile, record)));
        let invites = core.invites.iter();
        let invites = invites.map(|(index, invite)| {
            let lane = invite_lane(profile, *index, invite);
            (invite.home.relay.clone(), lane)
        });
        let homes = profile.devices.iter().map(|device| &device.home);
        let homes = homes.chain(profile.owner.as_ref().map(|owner| &owner.home));
        let home = profile.relay.iter().chain(homes);
        let home = home.map(|home| (home.relay.clone(), Lane::Shared));
        let mut routes: Vec<Route> = Vec::new();
        for route in cases.chain(invites).chain(home) {
            if !routes.contains(&route) {
                routes.push(route);
            }
        }
        routes.sort_by_key(|(_, lane)| *lane != Lane::Shared);
        Ok(routes)
    }

    /// The cases of a lane that are on a relay.
    pub(super) fn cases_of(&self, relay: &RelayAddress, lane: Lane) -> Result<Vec<[u8; 16]>, Error> {
        let core = self.core()?;
        let profile = core.me.profile();
        let records = core.cases.iter().map(Case::record);
        let here = records.filter(|record| record.relay == *relay && case_lane(profile, record) == lane);
        Ok(here.map(|record| record.id).collect())
    }

    /// The invites of a lane that are on a relay.
    pub(super) fn invites_of(&self, relay: &RelayAddress, lane: Lane) -> Result<Vec<u64>, Error> {
        let core = self.core()?;
        let profile = core.me.profile();
        let here = core
            .invites
            .iter()
            .filter(|(index, invite)| {
                invite.home.relay == *relay && invite_lane(profile, *index, invite) == lane
            })
            .map(|(index, _)| *index);
        Ok(here.collect())
    }
}

pub(super) fn case_lane(profile: &Profile, record: &CaseRecord) -> Lane {
    if record.apart || profile.isolation == Isolation::Case {
        Lane::Case(record.id)
    } else {
        Lane::Shared
    }
}

/// What an invite brings that is good for many is many cases: its inbox is shared.
pub(super) fn invite_lane(profile: &Profile, index: u64, invite: &InviteRecord) -> Lane {
    if invite.apart || (profile.isolation == Isolation::Case && invite.uses == Uses::Once) {
        Lane::Invite(index)
    } else {
        Lane::Shared
    }
}
