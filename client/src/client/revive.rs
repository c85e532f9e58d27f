//! Bringing cases out of an archive back to life: asking counsel, and taking the answer.

use martlet_proto::{derive::RescueKeys, link::RelayAddress};

use super::{
    Client,
    devices::{post, read_page},
    entropy,
    lanes::{Lane, case_lane},
    now,
};
use crate::{
    case::{self, rescue},
    error::{Error, Missing},
    link::Link,
    record::SealedItem,
    recovery::signer_of,
    view::{Event, name_of},
};

/// Pages of a rescue channel read in one go.
const PAGES_MAX: usize = 100;

impl Client {
    /// Asks in every restored case, or in one, proved by recovery digits if there are some; gives the ids of those in which it asks now.
    pub(super) fn ask_archived(
        &self,
        only: Option<&[u8; 16]>,
        digits: Option<&str>,
    ) -> Result<Vec<[u8; 16]>, Error> {
        let mut core = self.core()?;
        let core = &mut *core;
        let mut asked = Vec::new();
        for at in 0..core.archived.len() {
            let Some(archived) = core.archived.get_mut(at) else {
                continue;
            };
            let id = *archived.id();
            if only.is_some_and(|only| *only != id) {
                continue;
            }
            let signer = digits.map(|digits| signer_of(digits, &id)).transpose()?;
            let batch = match archived.ask(&core.me, signer.as_ref(), now(), &mut entropy()?) {
                Ok(batch) => batch,
                // Of many, those that nobody can answer do not keep the others from asking.
                Err(Error::Usage(_)) if only.is_none() => continue,
                Err(error) => return Err(error),
            };
            core.commit(batch)?;
            asked.push(id);
        }
        Ok(asked)
    }

    /// Whether a restored case's request still waits for the relay.
    pub(super) fn is_archived_waiting(&self, id: &[u8; 16]) -> Result<bool, Error> {
        let core = self.core()?;
        let case = core.archived.iter().find(|case| case.id() == id);
        let asking = case.and_then(|case| case.record().asking.as_ref());
        Ok(asking.is_some_and(|asking| asking.placed.is_none()))
    }

    /// What there is to do for restored cases on a relay: requests go out, answers come in.
    pub(super) async fn tend_archived(
        &self,
        relay: &RelayAddress,
        lane: Lane,
        link: &dyn Link,
    ) -> Result<(), Error> {
        let ids: Vec<[u8; 16]> = {
            let core = self.core()?;
            let here = core.archived.iter().map(crate::archive::Archived::record);
            here.filter(|record| record.relay == *relay && record.asking.is_some())
                .filter(|record| case_lane(core.me.profile(), record) == lane)
                .map(|record| record.id)
                .collect()
        };
        for id in ids {
            self.tend_request(&id, link).await?;
        }
        Ok(())
    }

    async fn tend_request(&self, id: &[u8; 16], link: &dyn Link) -> Result<(), Error> {
        let record = {
            let core = self.core()?;
            let case = core.archived.iter().find(|case| case.id() == id);
            case.ok_or(Error::NotFound(Missing::Case))?.record().clone()
        };
        let (Some(asking), Some(seeds)) = (&record.asking, &record.rescue) else {
            return Ok(());
        };
        let admission = record.admission.as_ref();
        let mut cursor = asking.cursor;
        if asking.placed.is_none_or(|placed| placed.day() != now().day()) {
            let item = SealedItem {
                entry: asking.entry,
                envelope: asking.envelope.clone(),
            };
            post(link, &RescueKeys::derive(&seeds.to_counsel), admission, &item).await?;
            self.note_asking(id, cursor)?;
        }
        let keys = RescueKeys::derive(&seeds.to_member);
        for _ in 0..PAGES_MAX {
            let read = read_page(link, &keys, admission, &mut cursor).await?;
            for (envelope, _) in &read.envelopes {
                let Some(packet) = rescue::answer(seeds, envelope) else {
                    continue;
                };
                if self.revive(id, packet).await? {
                    return Ok(());
                }
            }
            if read.is_last {
                break;
            }
        }
        if cursor != asking.cursor {
            self.note_asking(id, cursor)?;
        }
        Ok(())
    }

    fn note_asking(&self, id: &[u8; 16], cursor: Option<martlet_proto::Cursor>) -> Result<(), Error> {
        let mut core = self.core()?;
        let core = &mut *core;
        if let Some(case) = core.archived.iter_mut().find(|case| case.id() == id) {
            let batch = case.note_asking(now(), cursor)?;
            core.commit(batch)?;
        }
        Ok(())
    }

    /// The case goes on, if the answer fits.
    async fn revive(&self, id: &[u8; 16], packet: martlet_proto::case::Packet) -> Result<bool, Error> {
        {
            let mut core = self.core()?;
            let core = &mut *core;
            let Some(at) = core.archived.iter().position(|case| case.id() == id) else {
                return Ok(false);
            };
            let Some(private) = core.vault.ratchet(&case::ratchet_name(id))? else {
                return Ok(false);
            };
            let revived = core
                .archived
                .get(at)
                .map(|case| case.revive(&core.me, packet, &private, now(), &mut entropy()?));
            let (case, batch) = match revived {
                Some(Ok(revived)) => revived,
                Some(Err(Error::Protocol(_))) | None => return Ok(false),
                Some(Err(error)) => return Err(error),
            };
            core.commit(batch)?;
            core.archived.remove(at);
            core.cases.push(case);
        }
        self.tell(vec![Event::Returned { case: name_of(id) }]).await;
        Ok(true)
    }
}
