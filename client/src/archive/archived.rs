//! A case out of an archive: there to be read. It has no group, so nothing in it can be sent.

use std::collections::BTreeMap;

use martlet_proto::{
    Cursor, Secret, Time,
    letter::{Body, LetterId, Manifest},
};

use super::{KeptCase, KeptLetter, KeptMember};
use crate::{
    case::{Case, ratchet_name, record_name, recovery::prove, rescue::request},
    entropy::Entropy,
    error::{Error, Missing},
    identity::safety_number,
    me::Me,
    record::{CaseRecord, LetterRecord, MemberRecord, Standing, encode},
    shown,
    vault::{Batch, Name, Table},
    view::{CaseView, LetterView, Retention, Safety, name_of},
};

/// A restored case in memory.
pub struct Archived {
    index: u64,
    record: CaseRecord,
    letters: BTreeMap<u64, LetterRecord>,
}

impl Archived {
    /// A restored case as the vault kept it.
    pub fn load(index: u64, record: CaseRecord, letters: BTreeMap<u64, LetterRecord>) -> Self {
        Self {
            index,
            record,
            letters,
        }
    }

    /// The case's id.
    pub fn id(&self) -> &[u8; 16] {
        &self.record.id
    }

    /// What the vault keeps of it.
    pub fn record(&self) -> &CaseRecord {
        &self.record
    }

    /// The case as its owner sees it.
    pub fn view(&self, me: &Me) -> CaseView {
        let mine = me.identity().public();
        let members = &self.record.members;
        CaseView {
            case: name_of(&self.record.id),
            label: shown::label(&self.record.label, members, &mine),
            members: shown::members(members, &mine),
            unread: self.record.unread,
            unsent: 0,
            last: self.record.last,
            standing: self.record.standing,
            warnings: self.record.warnings.clone(),
            asks: Vec::new(),
            requests: Vec::new(),
            heard: None,
            retention: Retention::default(),
            hold: true,
            apart: self.record.apart,
        }
    }

    /// Letters in the order in which they came, all or those not read yet.
    pub fn letters(&self, me: &Me, unread_only: bool) -> Vec<LetterView> {
        let mine = me.identity().public();
        let wanted = self
            .letters
            .values()
            .filter(|letter| !(unread_only && letter.read));
        wanted
            .map(|letter| LetterView {
                // It waits for nothing: whether it ever goes out is for the owner to say.
                queued: false,
                not_sent: letter.queued,
                ..shown::letter(letter, &self.record.members, &mine)
            })
            .collect()
    }

    /// The manifest of a document, by the name of its letter, as much of its beginning as is unique, or its own name.
    ///
    /// # Errors
    ///
    /// [`Missing::Document`] or [`crate::Usage::Ambiguous`].
    pub fn document(&self, reference: &str) -> Result<(LetterId, Manifest), Error> {
        shown::document(self.letters.values(), reference)
    }

    /// Asks counsel to be taken in again, proved by the key of recovery digits if there is one. Asking twice changes nothing,
    /// but that a proof is added.
    ///
    /// # Errors
    ///
    /// [`Usage::NoRescue`](crate::Usage::NoRescue) where nobody could answer.
    pub fn ask(
        &mut self,
        me: &Me,
        signer: Option<&Secret<32>>,
        now: Time,
        entropy: &mut Entropy,
    ) -> Result<Batch, Error> {
        let mut batch = Batch::default();
        if self.record.asking.is_some() && signer.is_none() {
            return Ok(batch);
        }
        let proof = signer.map(|signer| prove(&self.record.id, me, signer));
        let seeds = self.record.rescue.as_ref();
        let seeds = seeds.ok_or(Error::Usage(crate::error::Usage::NoRescue))?;
        let (asking, package) = request(me, seeds, 0, proof, now, entropy)?;
        self.record.asking = Some(asking);
        batch.put_ratchet(&ratchet_name(&self.record.id), package.private.to_vec());
        batch.put(record_name(self.index), encode(&self.record)?);
        Ok(batch)
    }

    /// Notes how far the request and its answers have come.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] if a record cannot be written.
    pub fn note_asking(&mut self, placed: Time, cursor: Option<Cursor>) -> Result<Batch, Error> {
        let mut batch = Batch::default();
        if let Some(asking) = &mut self.record.asking {
            (asking.placed, asking.cursor) = (Some(placed), cursor);
            batch.put(record_name(self.index), encode(&self.record)?);
        }
        Ok(batch)
    }

    /// The case that goes on, by what counsel answered.
    ///
    /// # Errors
    ///
    /// [`Error::Protocol`] if the answer does not fit.
    pub fn revive(
        &self,
        me: &Me,
        packet: martlet_proto::case::Packet,
        private: &[u8],
        now: Time,
        entropy: &mut Entropy,
    ) -> Result<(Case, Batch), Error> {
        let kept = (self.index, self.record.clone(), self.letters.clone());
        Case::revive(me, kept, packet, private, now, entropy)
    }

    /// Notes that letters were read.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] if a record cannot be written.
    pub fn mark_read(&mut self, letters: &[LetterId]) -> Result<Batch, Error> {
        let mut batch = Batch::default();
        let unread = self.letters.iter_mut().filter(|(_, kept)| !kept.read);
        for (at, kept) in unread.filter(|(_, kept)| letters.contains(&kept.letter.id)) {
            kept.read = true;
            self.record.unread = self.record.unread.saturating_sub(1);
            batch.put(Name::new(Table::Letters, self.record.id, *at), encode(kept)?);
        }
        if !batch.is_empty() {
            batch.put(record_name(self.index), encode(&self.record)?);
        }
        Ok(batch)
    }

    /// The number to compare with a member: the one named, or the only other one.
    ///
    /// # Errors
    ///
    /// [`Missing::Member`] or [`crate::Usage::Ambiguous`].
    pub fn safety(&self, me: &Me, reference: Option<&str>) -> Result<Safety, Error> {
        let mine = me.identity().public();
        let members = &self.record.members;
        let at = shown::member_at(members, &mine, reference)?;
        let member = members.get(at).ok_or(Error::NotFound(Missing::Member))?;
        Ok(Safety {
            number: safety_number(&mine, &member.identity),
            epoch_code: String::new(),
            verified: member.verified,
            member: shown::member(member, &mine),
        })
    }

    /// Notes that the number was compared and matched.
    ///
    /// # Errors
    ///
    /// As [`safety`](Self::safety).
    pub fn confirm(&mut self, me: &Me, reference: Option<&str>) -> Result<Batch, Error> {
        let at = shown::member_at(&self.record.members, &me.identity().public(), reference)?;
        let member = self.record.members.get_mut(at);
        member.ok_or(Error::NotFound(Missing::Member))?.verified = true;
        let mut batch = Batch::default();
        batch.put(record_name(self.index), encode(&self.record)?);
        Ok(batch)
    }
}

impl std::fmt::Debug for Archived {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Archived(..)")
    }
}

impl KeptCase {
    /// What an archive keeps of a case.
    pub fn of(record: &CaseRecord) -> Self {
        let member = |member: &MemberRecord| KeptMember {
            identity: member.identity,
            name: member.name.clone(),
            role: member.role,
            verified: member.verified,
            present: member.present,
        };
        Self {
            id: record.id,
            label: record.label.clone(),
            relay: record.relay.clone(),
            admission: record.admission.clone(),
            members: record.members.iter().map(member).collect(),
            rescue: record.rescue.clone(),
            last: record.last,
            standing: record.standing,
        }
    }

    /// The record of the restored case. However the device stood that made the archive, this one was never in the group.
    pub fn into_record(self) -> CaseRecord {
        let member = |member: KeptMember| MemberRecord {
            identity: member.identity,
            name: member.name,
            role: member.role,
            verified: member.verified,
            present: member.present,
            recovery: None,
        };
        let rescue = self.rescue;
        let mut record = CaseRecord::new(self.id, self.label, self.relay, self.admission);
        record.members = self.members.into_iter().map(member).collect();
        record.rescue = rescue;
        record.last = self.last;
        record.standing = Standing::Restored;
        record
    }
}

impl KeptLetter {
    /// What an archive keeps of a letter; nothing of one that only carries a key package.
    pub fn of(record: &LetterRecord) -> Option<Self> {
        if let Ok(Body::Refresh(_)) = record.letter.parse_body() {
            return None;
        }
        Some(Self {
            letter: record.letter.clone(),
            from: record.from,
            received: record.received,
            read: record.read,
            queued: record.queued,
            delivered_to: record.delivered_to.clone(),
        })
    }

    /// The record of the restored letter.
    pub fn into_record(self) -> LetterRecord {
        LetterRecord {
            letter: self.letter,
            from: self.from,
            received: self.received,
            read: self.read,
            queued: self.queued,
            delivered_to: self.delivered_to,
            confirmed_by: Vec::new(),
            to: Vec::new(),
            placed: None,
        }
    }
}
