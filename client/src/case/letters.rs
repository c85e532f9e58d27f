//! Letters of others: kept, receipted, and understood where they are wishes. SPEC.md 8.

use martlet_proto::{
    Head, Seq, Time,
    case::Role,
    letter::{Body, Letter, LetterId, NOTICE_KIND},
};

use super::{Case, Turn, read::Reader};
use crate::{
    entropy::Entropy,
    error::Error,
    identity::behind_leaf,
    mls::inspect_package,
    record::{LetterRecord, Wish},
    shown::name_of_member,
    view::{Event, Warning, name_of},
};

/// Who sent a letter.
#[derive(Clone, Copy)]
pub(super) struct Sender {
    /// The person.
    pub(super) identity: [u8; 32],
    /// The device's leaf key.
    pub(super) leaf: [u8; 32],
}

impl Case {
    /// Who is behind a leaf of the present epoch.
    pub(super) fn sender(&self, index: u32) -> Option<Sender> {
        let members = self.group.members();
        let member = members.iter().find(|member| member.index == index)?;
        Some(Sender {
            identity: behind_leaf(&member.credential, &member.signature_key)?,
            leaf: member.signature_key,
        })
    }

    pub(super) fn take_letter(
        &mut self,
        letter: Letter,
        from: Sender,
        reader: &mut Reader<'_>,
    ) -> Result<(), Error> {
        let mine = reader.me.identity().public();
        let (now, turn) = (reader.now, &mut *reader.turn);
        let Ok(body) = letter.parse_body() else {
            return Ok(());
        };
        if letter.seen.is_some_and(|seen| self.was_shown_otherwise(seen)) {
            self.warn(Warning::RelayDiffers, &mut turn.events);
        }
        self.note_thread(&letter, from, reader.me, reader.entropy);
        if from.identity != mine && self.role_of(&from.identity) == Some(Role::Counsel) {
            let heard = letter.sent.min(now);
            self.record.heard = self.record.heard.max(Some(heard));
        }
        match &body {
            Body::Receipt(ids) => return self.take_receipt(ids, from, turn),
            Body::Beat => return Ok(()),
            Body::Refresh(package) => {
                self.wish_refresh(package, from, reader);
                return Ok(());
            }
            Body::Retention(days) => {
                self.take_retention(from.identity, *days);
                return Ok(());
            }
            Body::Device(package) => {
                self.wish_device(package, from.identity, reader.now);
                return Ok(());
            }
            Body::WithoutDevice(leaf) => {
                self.wish_without_device(*leaf, from.identity);
                return Ok(());
            }
            Body::Recovery(key) => {
                self.take_recovery(*key, from.identity, now);
                return Ok(());
            }
            Body::Leave => self.wish_leave(from),
            Body::Text(_) | Body::Document(_) | Body::Copy(_) | Body::Unknown(_) => {}
        }
        if letter.kind == NOTICE_KIND {
            return Ok(());
        }
        if from.identity != mine {
            self.record.receipts_due.push(letter.id);
        }
        if self.by_id.contains_key(&letter.id) || self.keeping.is_gone(&letter.id) {
            return Ok(());
        }
        self.record.last = Some(now);
        self.record.unread = self.record.unread.saturating_add(1);
        let record = LetterRecord {
            letter,
            from: from.identity,
            received: now,
            read: false,
            queued: false,
            delivered_to: Vec::new(),
            confirmed_by: Vec::new(),
            to: Vec::new(),
            placed: None,
        };
        let view = self.letter_view(&record, &mine);
        self.keep_letter(record, &mut turn.batch)?;
        turn.events.push(Event::Letter {
            case: name_of(&self.record.id),
            letter: view,
        });
        Ok(())
    }

    /// Whether a sender saw another log than this device: another head at the same place, or more entries before the
    /// letter than there are.
    fn was_shown_otherwise(&self, (seq, head): (Seq, Head)) -> bool {
        let differs = |(at, own): &(Seq, Head)| *at == seq && *own != head;
        let behind = self.record.reading.at.map(|(cursor, _)| cursor.seq);
        behind.is_some_and(|behind| seq >= behind) || self.record.reading.heads.iter().any(differs)
    }

    /// A letter of the committer that saw this very log: nobody waits in vain in a channel that came back.
    fn note_thread(&mut self, letter: &Letter, from: Sender, me: &crate::me::Me, entropy: &mut Entropy) {
        let same = |(seq, head)| self.record.reading.heads.contains(&(seq, head));
        if self.record.held_since.is_some()
            && self.epoch.context.committer == Some(from.leaf)
            && letter.seen.is_some_and(same)
        {
            self.record.held_since = None;
            self.withdraw_own_ask(me, entropy);
            self.record
                .warnings
                .retain(|warning| *warning != Warning::RelayForgot);
        }
    }

    /// A device asks for fresh keys: the committer makes a commit for it.
    fn wish_refresh(&mut self, package: &[u8], from: Sender, reader: &Reader<'_>) {
        let own = inspect_package(package, reader.now.as_secs()).is_ok_and(|info| {
            info.signature_key == from.leaf
                && behind_leaf(&info.credential, &info.signature_key) == Some(from.identity)
        });
        if !own || !self.is_committer(reader.me) || from.leaf == *reader.me.leaf_public() {
            return;
        }
        self.record
            .wishes
            .retain(|wish| !matches!(wish, Wish::Refresh { leaf, .. } if *leaf == from.leaf));
        self.record.wishes.push(Wish::Refresh {
            leaf: from.leaf,
            package: package.to_vec(),
        });
    }

    /// Somebody wishes a further device of theirs to be added.
    fn wish_device(&mut self, package: &[u8], from: [u8; 32], now: Time) {
        let own = inspect_package(package, now.as_secs())
            .is_ok_and(|info| behind_leaf(&info.credential, &info.signature_key) == Some(from));
        if own && self.keep.is_some() {
            self.record.wishes.push(Wish::Device {
                identity: from,
                package: package.to_vec(),
            });
        }
    }

    /// Somebody wishes a device of theirs to be removed: nobody else's can be.
    fn wish_without_device(&mut self, leaf: [u8; 32], from: [u8; 32]) {
        let theirs = |member: &crate::mls::Member| {
            member.signature_key == leaf
                && behind_leaf(&member.credential, &member.signature_key) == Some(from)
        };
        if self.keep.is_some() && self.group.members().iter().any(theirs) {
            self.record.wishes.push(Wish::WithoutDevice { leaf });
        }
    }

    /// What one of counsel's devices wished for by a letter it may have to do itself: it may be the next to lead the case.
    pub(super) fn keep_own_wish(&mut self, letter: &Letter, now: Time) {
        let Some(own) = self.sender(self.group.own_index()) else {
            return;
        };
        match letter.parse_body() {
            Ok(Body::Device(package)) => self.wish_device(&package, own.identity, now),
            Ok(Body::WithoutDevice(leaf)) => self.wish_without_device(leaf, own.identity),
            Ok(Body::Retention(days)) => self.take_retention(own.identity, days),
            Ok(_) | Err(_) => {}
        }
    }

    /// Somebody leaves: whoever commits lets them go.
    fn wish_leave(&mut self, from: Sender) {
        if self.keep.is_some() {
            self.wish_removal(from.identity);
        }
    }

    fn take_receipt(&mut self, ids: &[LetterId], from: Sender, turn: &mut Turn) -> Result<(), Error> {
        let Sender { identity, leaf } = from;
        for id in ids {
            let Some(at) = self.by_id.get(id).copied() else {
                continue;
            };
            let Some(kept) = self.letters.get_mut(&at) else {
                continue;
            };
            if kept.from == identity || kept.confirmed_by.contains(&leaf) {
                continue;
            }
            kept.confirmed_by.push(leaf);
            let known = kept.delivered_to.contains(&identity);
            if !known {
                kept.delivered_to.push(identity);
            }
            self.save_letter(at, &mut turn.batch)?;
            if known {
                continue;
            }
            let to = name_of_member(&identity);
            turn.events.push(Event::Delivered {
                case: name_of(&self.record.id),
                id: *id,
                to,
            });
        }
        Ok(())
    }
}
