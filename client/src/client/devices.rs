//! Linking further devices, and keeping them in the cases.

use martlet_proto::{
    Admission, Append, Cursor, Entry, Envelope, Kind, Read, Refusal, Seq, Slot, Trim,
    call::Item,
    derive::{DeviceKeys, RescueKeys},
    device::{DeviceMessage, DeviceRequest, Joining},
    link::{RelayAddress, RelayLink},
};

use super::{Client, entropy, now};
use crate::{
    case::Case,
    devices::{self, PACKAGES_NAME},
    error::{Error, Missing, Usage},
    link::{Link, LinkError, ask},
    me::Me,
    record::{DeviceRecord, HomeRelay, OwnerRecord, PackageKeys, SealedItem, decode, encode},
    vault::Batch,
    view::{DeviceView, Event, Linking},
};

/// Pages of a mailbox read in one go.
const PAGES_MAX: usize = 100;

impl Client {
    /// Makes this empty vault a further device of a person: gives the request to scan or type on a device of theirs.
    /// Asking again gives the same request, and says whether it was heard.
    ///
    /// # Errors
    ///
    /// [`Usage::InUse`] for a vault with cases or invites; [`Usage::NoRelay`] if none is given or known.
    ///
    /// # Cancel safety
    ///
    /// Once it is polled the request stands.
    pub async fn request_link(&self, relay: Option<RelayLink>) -> Result<Linking, Error> {
        let request = {
            let mut core = self.core()?;
            let core = &mut *core;
            let known = core.me.profile().owner.clone();
            match known {
                Some(owner) => devices::request(&core.me, &owner),
                None => {
                    if !(core.cases.is_empty() && core.invites.is_empty()) {
                        return Err(Error::Usage(Usage::InUse));
                    }
                    let given = relay.map(|link| HomeRelay {
                        relay: link.relay,
                        admission: link.admission,
                    });
                    let home = given.or_else(|| core.me.profile().relay.clone());
                    let home = home.ok_or(Error::Usage(Usage::NoRelay))?;
                    let owner = devices::begin(home, &mut entropy()?);
                    let request = devices::request(&core.me, &owner);
                    core.me.profile_mut().owner = Some(owner);
                    let mut batch = Batch::default();
                    core.save_profile(&mut batch)?;
                    core.commit(batch)?;
                    request
                }
            }
        };
        match self.sync_all().await {
            Ok(_) | Err(Error::Unreachable) => {}
            Err(error) => return Err(error),
        }
        let core = self.core()?;
        let owner = core.me.profile().owner.as_ref();
        let linked = owner.is_some_and(|owner| owner.identity.is_some());
        Ok(Linking {
            request: Some(request.to_string()),
            linked,
        })
    }

    /// Vouches for a new device of this person and has it added to all cases; with `history` it is also given the letters
    /// that this one keeps. Asking again with the same request goes on.
    ///
    /// # Errors
    ///
    /// [`Usage::NotThisDevice`] on a device that has not the identity key; [`Usage::OtherRelay`] if it
    /// waits on a relay that this one does not know.
    ///
    /// # Cancel safety
    ///
    /// Once it is polled the device is vouched for; the rest goes on with the next call.
    pub async fn link_device(&self, request: &DeviceRequest, history: bool) -> Result<Linking, Error> {
        {
            let mut core = self.core()?;
            let core = &mut *core;
            if !core.me.has_device(&request.leaf) {
                let home = core.home_of(request).ok_or(Error::Usage(Usage::OtherRelay))?;
                let waiting = u32::try_from(core.cases.len()).unwrap_or(u32::MAX);
                let device = devices::accept(&core.me, request, home, waiting, now(), &mut entropy()?)?;
                core.me.profile_mut().devices.push(device);
                let mut batch = Batch::default();
                core.save_profile(&mut batch)?;
                core.commit(batch)?;
            }
            if history {
                core.promise_history(&request.leaf)?;
            }
        }
        match self.sync_all().await {
            Ok(_) | Err(Error::Unreachable) => {}
            Err(error) => return Err(error),
        }
        let core = self.core()?;
        let device = core.me.profile().devices.iter();
        let told = |device: &DeviceRecord| device.history.as_ref().is_none_or(|left| left.cases.is_empty());
        let sent = device
            .filter(|device| device.leaf == request.leaf)
            .all(|device| device.outgoing.is_empty() && !device.keep_key.is_empty() && told(device));
        let everywhere = !core.cases.iter().any(|case| case.lacks_device(&request.leaf));
        let joined = core
            .cases
            .iter()
            .all(|case| case.has_leaf(&request.leaf) || case.writable().is_err());
        Ok(Linking {
            request: None,
            linked: sent && everywhere && joined,
        })
    }

    /// This person's devices, as far as this one knows them.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] after an earlier failure.
    pub fn device_list(&self) -> Result<Vec<DeviceView>, Error> {
        let core = self.core()?;
        let mut leaves = vec![*core.me.leaf_public()];
        let linked = core.me.profile().devices.iter().map(|device| device.leaf);
        let seen = core.cases.iter().flat_map(|case| case.own_leaves(&core.me));
        for leaf in linked.chain(seen) {
            if !leaves.contains(&leaf) {
                leaves.push(leaf);
            }
        }
        let view = |leaf: &[u8; 32]| {
            let linked = core.me.profile().devices.iter();
            let mut named = linked.filter(|device| device.leaf == *leaf);
            let cases = core.cases.iter().filter(|case| case.has_leaf(leaf)).count();
            DeviceView {
                device: device_name(leaf),
                name: named.next().map(|device| device.name.clone()).unwrap_or_default(),
                me: leaf == core.me.leaf_public(),
                cases: u64::try_from(cases).unwrap_or(u64::MAX),
            }
        };
        Ok(leaves.iter().map(view).collect())
    }

    /// Removes a device of this person from all cases: it reads and writes nothing any more once counsel's devices
    /// have committed that.
    ///
    /// # Errors
    ///
    /// [`Missing::Device`]; [`Usage::Ambiguous`]; [`Usage::Yourself`] for this device.
    ///
    /// # Cancel safety
    ///
    /// Once it is polled the removal goes on with the next call.
    pub async fn remove_device(&self, reference: &str) -> Result<Vec<DeviceView>, Error> {
        let wanted = reference.trim().to_lowercase();
        let list = self.device_list()?;
        let mut found = list
            .iter()
            .filter(|device| !wanted.is_empty() && device.device.starts_with(&wanted));
        let device = match (found.next(), found.next()) {
            (Some(device), None) => device.clone(),
            (Some(_), Some(_)) => return Err(Error::Usage(Usage::Ambiguous)),
            (None, _) => return Err(Error::NotFound(Missing::Device)),
        };
        if device.me {
            return Err(Error::Usage(Usage::Yourself));
        }
        {
            let mut core = self.core()?;
            let core = &mut *core;
            let mut batch = Batch::default();
            for case in &mut core.cases {
                for leaf in case.own_leaves(&core.me) {
                    if device_name(&leaf) == device.device {
                        let letter = entropy()?.letter();
                        batch.merge(case.withdraw_device(&core.me, &leaf, letter, now())?);
                    }
                }
            }
            let devices = &mut core.me.profile_mut().devices;
            devices.retain(|known| device_name(&known.leaf) != device.device);
            core.save_profile(&mut batch)?;
            core.commit(batch)?;
        }
        match self.sync_all().await {
            Ok(_) | Err(Error::Unreachable) => {}
            Err(error) => return Err(error),
        }
        self.device_list()
    }

    /// What there is to do between this person's devices on a relay.
    pub(super) async fn tend_devices(&self, relay: &RelayAddress, link: &dyn Link) -> Result<(), Error> {
        let _mine = self.inner.inboxes.lock().await;
        let (owner, leaves) = {
            let core = self.core()?;
            let profile = core.me.profile();
            let here = profile
                .devices
                .iter()
                .filter(|device| device.home.relay == *relay);
            let owner = profile.owner.clone().filter(|owner| owner.home.relay == *relay);
            (owner, here.map(|device| device.leaf).collect::<Vec<_>>())
        };
        if let Some(owner) = owner {
            self.read_answers(&owner, link).await?;
            self.send_offers(link).await?;
        }
        for leaf in leaves {
            self.read_offers(&leaf, link).await?;
            self.propose(&leaf)?;
            self.send_answers(&leaf, link).await?;
            self.send_history(&leaf, link).await?;
        }
        Ok(())
    }

    /// On the new device: what the one that vouches wrote.
    async fn read_answers(&self, owner: &OwnerRecord, link: &dyn Link) -> Result<(), Error> {
        let keys = DeviceKeys::derive(&owner.seed).to_new;
        let mut cursor = owner.cursor;
        for _ in 0..PAGES_MAX {
            let read = read_page(link, &keys, Some(&owner.home.admission), &mut cursor).await?;
            for (envelope, cursor) in &read.envelopes {
                self.take_answer(envelope, *cursor).await?;
            }
            make_room(link, &keys, &read).await?;
            if read.is_last {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn take_answer(&self, envelope: &Envelope, cursor: Cursor) -> Result<(), Error> {
        let mut events = Vec::new();
        {
            let mut core = self.core()?;
            let core = &mut *core;
            let Some(mut owner) = core.me.profile().owner.clone() else {
                return Ok(());
            };
            owner.cursor = Some(cursor);
            let mut batch = Batch::default();
            match devices::take_answer(&owner, envelope) {
                Some(DeviceMessage::Accept {
                    credential,
                    name,
                    cases,
                }) if owner.identity.is_none() => {
                    let Some(identity) = devices::vouched_by(&core.me, &credential) else {
                        return Ok(());
                    };
                    owner.identity = Some(identity);
                    let own_name = core.me.name().to_string();
                    let mut profile = core.me.profile().clone();
                    profile.credential = credential;
                    profile.name = martlet_proto::clean(&name).replace(['\n', '\t'], " ");
                    profile.owner = Some(owner.clone());
                    core.me = Me::from_profile(profile)?;
                    let mut kept = PackageKeys::default();
                    let count = devices::offer_due(&owner, cases);
                    devices::offer(
                        &core.me,
                        &own_name,
                        &mut owner,
                        &mut kept,
                        count,
                        now(),
                        &mut entropy()?,
                    )?;
                    batch.put_ratchet(PACKAGES_NAME, encode(&kept)?);
                }
                Some(DeviceMessage::Join(sealed)) => {
                    if let Some(joining) = devices::open_joining(&core.me, &sealed) {
                        events = core.join_handed_over(&mut owner, joining, &mut batch)?;
                    }
                }
                Some(DeviceMessage::History(sealed)) => {
                    if let Some(history) = devices::open_history(&core.me, &sealed) {
                        batch.merge(core.take_history(history)?);
                    }
                }
                Some(DeviceMessage::Accept { .. } | DeviceMessage::Packages { .. }) | None => {}
            }
            core.me.profile_mut().owner = Some(owner);
            core.save_profile(&mut batch)?;
            core.commit(batch)?;
        }
        self.tell(events).await;
        Ok(())
    }

    /// On the new device: packages go out, and more are made when they run low.
    async fn send_offers(&self, link: &dyn Link) -> Result<(), Error> {
        let owner = {
            let mut core = self.core()?;
            let core = &mut *core;
            let Some(mut owner) = core.me.profile().owner.clone() else {
                return Ok(());
            };
            let due = devices::offer_due(&owner, 0);
            if owner.identity.is_some() && due > 0 {
                let kept = core.vault.ratchet(PACKAGES_NAME)?;
                let mut kept: PackageKeys = kept.map(|kept| decode(&kept)).transpose()?.unwrap_or_default();
                let name = core.me.name().to_string();
                devices::offer(
                    &core.me,
                    &name,
                    &mut owner,
                    &mut kept,
                    due,
                    now(),
                    &mut entropy()?,
                )?;
                let mut batch = Batch::default();
                batch.put_ratchet(PACKAGES_NAME, encode(&kept)?);
                core.me.profile_mut().owner = Some(owner.clone());
                core.save_profile(&mut batch)?;
                core.commit(batch)?;
            }
            owner
        };
        let keys = DeviceKeys::derive(&owner.seed).to_old;
        for item in owner.outgoing {
            post(link, &keys, Some(&owner.home.admission), &item).await?;
            let mut core = self.core()?;
            if let Some(owner) = &mut core.me.profile_mut().owner {
                owner.outgoing.retain(|left| left.entry != item.entry);
            }
            let mut batch = Batch::default();
            core.save_profile(&mut batch)?;
            core.commit(batch)?;
        }
        Ok(())
    }

    /// On the device that vouches: packages that the new one offers.
    async fn read_offers(&self, leaf: &[u8; 32], link: &dyn Link) -> Result<(), Error> {
        let Some(device) = self.core()?.device(leaf).cloned() else {
            return Ok(());
        };
        let keys = DeviceKeys::derive(&device.seed).to_old;
        let mut cursor = device.cursor;
        for _ in 0..PAGES_MAX {
            let before = cursor;
            let read = read_page(link, &keys, Some(&device.home.admission), &mut cursor).await?;
            if cursor != before {
                let mut core = self.core()?;
                let core = &mut *core;
                let Some(mut device) = core.device(leaf).cloned() else {
                    return Ok(());
                };
                for (envelope, _) in &read.envelopes {
                    devices::take_offer(&core.me, &mut device, envelope, now());
                }
                device.cursor = cursor;
                let known = core.me.profile_mut().devices.iter_mut();
                for known in known.filter(|known| known.leaf == *leaf) {
                    *known = device.clone();
                }
                let mut batch = Batch::default();
                core.save_profile(&mut batch)?;
                core.commit(batch)?;
            }
            if read.is_last {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Proposes a device to the cases that lack it, as far as its packages reach.
    fn propose(&self, leaf: &[u8; 32]) -> Result<(), Error> {
        let mut core = self.core()?;
        let core = &mut *core;
        let mut batch = Batch::default();
        let lacking = core.cases.iter().enumerate();
        let lacking: Vec<usize> = lacking
            .filter(|(_, case)| case.lacks_device(leaf))
            .map(|(at, _)| at)
            .collect();
        for at in lacking {
            let devices = core.me.profile_mut().devices.iter_mut();
            let mut packages = devices.filter(|device| device.leaf == *leaf && !device.packages.is_empty());
            let Some(package) = packages.next().map(|device| device.packages.remove(0)) else {
                break;
            };
            let letter = entropy()?.letter();
            if let Some(case) = core.cases.get_mut(at) {
                batch.merge(case.propose_device(&core.me, leaf, package, letter, now())?);
            }
        }
        if !batch.is_empty() {
            core.save_profile(&mut batch)?;
            core.commit(batch)?;
        }
        Ok(())
    }

    /// On the device that vouches: what it has for the new one goes out.
    pub(super) async fn send_answers(&self, leaf: &[u8; 32], link: &dyn Link) -> Result<(), Error> {
        let Some(device) = self.core()?.device(leaf).cloned() else {
            return Ok(());
        };
        let keys = DeviceKeys::derive(&device.seed).to_new;
        for item in device.outgoing {
            post(link, &keys, Some(&device.home.admission), &item).await?;
            let mut core = self.core()?;
            let devices = core.me.profile_mut().devices.iter_mut();
            for known in devices.filter(|known| known.leaf == *leaf) {
                known.outgoing.retain(|left| left.entry != item.entry);
            }
            let mut batch = Batch::default();
            core.save_profile(&mut batch)?;
            core.commit(batch)?;
        }
        Ok(())
    }

    /// Sends what the cases have just handed over to further devices.
    pub(super) async fn send_all_answers(&self, relay: &RelayAddress, link: &dyn Link) -> Result<(), Error> {
        let leaves: Vec<[u8; 32]> = {
            let core = self.core()?;
            let devices = core.me.profile().devices.iter();
            devices
                .filter(|device| device.home.relay == *relay && !device.outgoing.is_empty())
                .map(|device| device.leaf)
                .collect()
        };
        for leaf in leaves {
            self.send_answers(&leaf, link).await?;
            self.send_history(&leaf, link).await?;
        }
        Ok(())
    }
}

impl super::Core {
    pub(super) fn device(&self, leaf: &[u8; 32]) -> Option<&DeviceRecord> {
        self.me
            .profile()
            .devices
            .iter()
            .find(|device| device.leaf == *leaf)
    }

    /// The relay on which a new device waits, if this one may open mailboxes there: its own, or that of a case.
    fn home_of(&self, request: &DeviceRequest) -> Option<HomeRelay> {
        let of_case = |case: &Case| {
            Some(HomeRelay {
                relay: case.record().relay.clone(),
                admission: case.record().admission.clone()?,
            })
        };
        let own = self.me.profile().relay.clone().into_iter();
        own.chain(self.cases.iter().filter_map(of_case))
            .find(|home| request.is_on(&home.relay.pin))
    }

    fn join_handed_over(
        &mut self,
        owner: &mut OwnerRecord,
        joining: Joining,
        batch: &mut Batch,
    ) -> Result<Vec<Event>, Error> {
        let kept = self.vault.ratchet(PACKAGES_NAME)?;
        let mut kept: PackageKeys = kept.map(|kept| decode(&kept)).transpose()?.unwrap_or_default();
        let number = self.me.profile().next_case;
        let mut joined = None;
        for (at, package) in kept.packages.iter().enumerate() {
            match Case::join_as_device(
                &self.me,
                joining.clone(),
                &package.private,
                number,
                now(),
                &mut entropy()?,
            ) {
                Ok((case, founded)) => {
                    joined = Some((at, case, founded));
                    break;
                }
                Err(Error::Protocol(_)) => {}
                Err(other) => return Err(other),
            }
        }
        let Some((at, case, founded)) = joined else {
            return Ok(Vec::new());
        };
        kept.packages.remove(at);
        owner.joined = owner.joined.saturating_add(1);
        batch.put_ratchet(PACKAGES_NAME, encode(&kept)?);
        if self.cases.iter().any(|known| known.id() == case.id()) {
            return Ok(Vec::new());
        }
        batch.merge(founded);
        self.me.profile_mut().next_case = number.saturating_add(1);
        let view = case.view(&self.me, 0, now());
        self.cases.push(case);
        Ok(vec![Event::Case { case: view }])
    }
}

/// By which commands name a device: the first bytes of its leaf key.
fn device_name(leaf: &[u8; 32]) -> String {
    let (first, _) = leaf.split_at(10);
    data_encoding::BASE32_NOPAD.encode(first).to_lowercase()
}

/// What a page of a mailbox brought.
pub(super) struct Page {
    /// With the place behind each.
    pub(super) envelopes: Vec<(Envelope, Cursor)>,
    pub(super) is_last: bool,
}

/// Has the relay forget what was read of a mailbox: room for what is still to come. If it will not, that does no harm.
async fn make_room(link: &dyn Link, keys: &RescueKeys, read: &Page) -> Result<(), Error> {
    let Some((_, cursor)) = read.envelopes.last() else {
        return Ok(());
    };
    let trim = Trim { before: cursor.seq };
    match ask(link, &keys.keeper(), trim).await {
        Ok(_) | Err(LinkError::Refused(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Reads on in a mailbox, opening it if nobody has.
pub(super) async fn read_page(
    link: &dyn Link,
    keys: &RescueKeys,
    admission: Option<&Admission>,
    cursor: &mut Option<Cursor>,
) -> Result<Page, Error> {
    let from = cursor.map_or(Seq::FIRST, |cursor| cursor.seq);
    let whole = || Read { from: Seq::FIRST };
    let page = match ask(link, &keys.reader(), Read { from }).await {
        Err(LinkError::Refused(Refusal::Closed)) => {
            let mailbox = keys.mailbox();
            ask(link, &mailbox.writer(), mailbox.opening(admission.cloned())).await?;
            ask(link, &keys.reader(), whole()).await?
        }
        other => other?,
    };
    let known = cursor.is_some_and(|cursor| cursor.incarnation == page.tip.incarnation);
    let page = if known || from == Seq::FIRST {
        page
    } else {
        ask(link, &keys.reader(), whole()).await?
    };
    let known = cursor.is_some_and(|cursor| cursor.incarnation == page.tip.incarnation);
    let mut seq = if known { from } else { Seq::FIRST };
    let mut envelopes = Vec::new();
    let start = seq;
    for slot in page.slots.into_iter().filter(|slot| slot.seq() >= start) {
        seq = slot
            .seq()
            .next()
            .ok_or(Error::Protocol("the relay's log has no end"))?;
        if let Slot::Here(Entry {
            kind: Kind::Packet,
            envelope,
            ..
        }) = slot
        {
            let incarnation = page.tip.incarnation;
            envelopes.push((envelope, Cursor { incarnation, seq }));
        }
    }
    *cursor = Some(Cursor {
        incarnation: page.tip.incarnation,
        seq,
    });
    Ok(Page {
        envelopes,
        is_last: seq >= page.tip.next,
    })
}

/// Brings an item to a mailbox, opening it if nobody has. Bringing it twice changes nothing.
pub(super) async fn post(
    link: &dyn Link,
    keys: &RescueKeys,
    admission: Option<&Admission>,
    item: &SealedItem,
) -> Result<(), Error> {
    let mailbox = keys.mailbox();
    let append = || Append {
        within: None,
        items: vec![Item {
            kind: Kind::Packet,
            id: item.entry,
            envelope: item.envelope.clone(),
        }],
    };
    match ask(link, &mailbox.writer(), append()).await {
        Err(LinkError::Refused(Refusal::Closed)) => {
            ask(link, &mailbox.writer(), mailbox.opening(admission.cloned())).await?;
            ask(link, &mailbox.writer(), append()).await?;
        }
        other => {
            other?;
        }
    }
    Ok(())
}
