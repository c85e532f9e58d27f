//! What a case shows of itself, and what its owner notes in it.

use martlet_proto::{
    Time,
    letter::{LetterId, Manifest},
};

use super::Case;
use crate::{
    error::{Error, Missing},
    identity::{epoch_code, safety_number},
    me::Me,
    record::{LetterRecord, OutRecord},
    shown,
    vault::Batch,
    view::{CaseView, LetterView, Safety, name_of},
};

impl Case {
    /// The case as its owner sees it now; `uploads` documents wait besides what is in the outbox.
    pub fn view(&self, me: &Me, uploads: u64, now: Time) -> CaseView {
        let mine = me.identity().public();
        let waiting = self.outbox.values().filter(|item| match item {
            OutRecord::Packet { .. } => false,
            OutRecord::Letter { letter, .. } => self.by_id.contains_key(&letter.id),
        });
        CaseView {
            case: name_of(&self.record.id),
            label: shown::label(&self.record.label, &self.record.members, &mine),
            members: shown::members(&self.record.members, &mine),
            unread: self.record.unread,
            unsent: uploads.saturating_add(u64::try_from(waiting.count()).unwrap_or(u64::MAX)),
            last: self.record.last,
            warnings: self
                .record
                .warnings
                .iter()
                .copied()
                .chain(self.asks_warning())
                .chain(self.silence(me, now))
                .collect(),
            standing: self.record.standing,
            asks: self.asking(),
            requests: self.requests(),
            heard: self.record.heard,
            retention: self.retention(),
            hold: self.record.hold,
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
        wanted.map(|letter| self.letter_view(letter, &mine)).collect()
    }

    /// One of the letters.
    pub fn letter(&self, me: &Me, id: &LetterId) -> Option<LetterView> {
        let letter = self.letters.get(self.by_id.get(id)?)?;
        Some(self.letter_view(letter, &me.identity().public()))
    }

    pub(super) fn letter_view(&self, record: &LetterRecord, mine: &[u8; 32]) -> LetterView {
        shown::letter(record, &self.record.members, mine)
    }

    /// The manifest of a document, by the name of its letter or as much of the beginning as is unique.
    ///
    /// # Errors
    ///
    /// [`Missing::Document`] or [`crate::Usage::Ambiguous`].
    pub fn document(&self, reference: &str) -> Result<(LetterId, Manifest), Error> {
        shown::document(self.letters.values(), reference)
    }

    /// Notes that letters were read.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] if a record cannot be written.
    pub fn mark_read(&mut self, letters: &[LetterId]) -> Result<Batch, Error> {
        let mut batch = Batch::default();
        for id in letters {
            let Some(at) = self.by_id.get(id).copied() else {
                continue;
            };
            let Some(kept) = self.letters.get_mut(&at).filter(|kept| !kept.read) else {
                continue;
            };
            kept.read = true;
            self.record.unread = self.record.unread.saturating_sub(1);
            self.save_letter(at, &mut batch)?;
        }
        if !batch.is_empty() {
            self.save_record(&mut batch)?;
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
        let at = shown::member_at(&self.record.members, &mine, reference)?;
        let member = self
            .record
            .members
            .get(at)
            .ok_or(Error::NotFound(Missing::Member))?;
        Ok(Safety {
            number: safety_number(&mine, &member.identity),
            epoch_code: epoch_code(&self.group.epoch_authenticator()),
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
        let member = self
            .record
            .members
            .get_mut(at)
            .ok_or(Error::NotFound(Missing::Member))?;
        member.verified = true;
        let mut batch = Batch::default();
        self.save_record(&mut batch)?;
        Ok(batch)
    }
}
