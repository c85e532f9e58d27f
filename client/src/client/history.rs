//! Handing a new device what was written before it joined, and taking it there. SPEC.md 7.8.

use martlet_proto::{Refusal, derive::DeviceKeys, device::History};

use super::{Client, Core, devices::post, entropy};
use crate::{
    case::Case,
    devices,
    error::{Error, Missing},
    link::Link,
    record::{DeviceRecord, HistoryRecord, SealedItem},
    vault::Batch,
};

impl Client {
    /// Hands over the letters of the cases that a new device has joined, if its owner said so. When the mailbox is full
    /// the rest waits until the new device has read it.
    pub(super) async fn send_history(&self, leaf: &[u8; 32], link: &dyn Link) -> Result<(), Error> {
        loop {
            let piece = self.core()?.history_piece(leaf)?;
            let Some((device, item, left)) = piece else {
                return Ok(());
            };
            if let Some(item) = item {
                let keys = DeviceKeys::derive(&device.seed).to_new;
                match post(link, &keys, Some(&device.home.admission), &item).await {
                    Err(Error::Refused(Refusal::Quota | Refusal::Full)) => return Ok(()),
                    other => other?,
                }
            }
            let mut core = self.core()?;
            let known = core.me.profile_mut().devices.iter_mut();
            for known in known.filter(|known| known.leaf == *leaf) {
                known.history = Some(left.clone());
            }
            let mut batch = Batch::default();
            core.save_profile(&mut batch)?;
            core.commit(batch)?;
        }
    }
}

impl Core {
    /// Notes that a new device is to be given the letters of all present cases; once is enough.
    pub(super) fn promise_history(&mut self, leaf: &[u8; 32]) -> Result<(), Error> {
        let cases: Vec<[u8; 16]> = self.cases.iter().map(|case| *case.id()).collect();
        let devices = self.me.profile_mut().devices.iter_mut();
        for device in devices.filter(|device| device.leaf == *leaf && device.history.is_none()) {
            device.history = Some(HistoryRecord {
                cases: cases.clone(),
                next: 0,
            });
        }
        let mut batch = Batch::default();
        self.save_profile(&mut batch)?;
        self.commit(batch)
    }

    /// The next letters for a new device, and what is left after them; `None` while there is nothing to hand over.
    fn history_piece(
        &self,
        leaf: &[u8; 32],
    ) -> Result<Option<(DeviceRecord, Option<SealedItem>, HistoryRecord)>, Error> {
        let device = self.device(leaf).cloned();
        let Some(device) = device.filter(|device| device.outgoing.is_empty() && !device.keep_key.is_empty())
        else {
            return Ok(None);
        };
        let Some(mut left) = device.history.clone() else {
            return Ok(None);
        };
        // A case that was left or ended is not waited for; one that the device has not joined yet keeps its turn.
        let of = |id: &[u8; 16]| self.cases.iter().find(|case| case.id() == id);
        let over = |id: &[u8; 16]| of(id).is_none_or(|case| case.writable().is_err());
        let before = left.clone();
        if left.cases.first().is_some_and(over) {
            left.cases.remove(0);
            left.next = 0;
            return Ok(Some((device, None, left)));
        }
        if left.next == 0 {
            let joined = |id: &[u8; 16]| of(id).is_some_and(|case: &Case| case.has_leaf(leaf));
            let Some(first) = left.cases.iter().position(joined) else {
                return Ok(None);
            };
            left.cases.swap(0, first);
        }
        let first = left.cases.first().and_then(of);
        let case = first.ok_or(Error::NotFound(Missing::Case))?;
        match case.history(left.next)? {
            Some((history, next)) => {
                left.next = next;
                let item = devices::hand_history(&device, &history, &mut entropy()?)?;
                Ok(Some((device, Some(item), left)))
            }
            None => {
                left.cases.remove(0);
                left.next = 0;
                Ok((left != before).then_some((device, None, left)))
            }
        }
    }

    /// On the new device: keeps what was handed over, if it has joined the case.
    pub(super) fn take_history(&mut self, history: History) -> Result<Batch, Error> {
        let case = self.cases.iter_mut().find(|case| *case.id() == history.case);
        case.map_or_else(|| Ok(Batch::default()), |case| case.take_history(history.letters))
    }
}
