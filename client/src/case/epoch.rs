//! From one epoch to the next: commits judged and applied, and what is noted of them. SPEC.md 10.2.

use martlet_proto::{
    Entry, Envelope, Incarnation, Keeper, Kind, Slot, Token, TokenHash,
    case::{CaseContext, CounselSecrets, KeepShare, SignedCommit},
    letter::{Letter, NOTICE_KIND},
    limits::COUNSEL_DEVICES_MAX,
};

use super::{
    Case, Epoch, Turn,
    begin::rescue_records,
    internal, judge, keep_info, member, parse_context,
    plan::leaf_key,
    read::{Flow, Reader},
};
use crate::{
    error::Error,
    identity::behind_leaf,
    me::Me,
    mls::{Group, MlsError, Processed, Staged, is_welcome},
    record::{LetterRecord, Notice, OutRecord, Reading, RescueRecord, Standing, Wish, encode},
    sealed,
    view::{Event, Warning, name_of},
};

/// Leaf keys of removed devices that are remembered.
const BARRED_KEPT: usize = 64;

impl Case {
    /// A commit of another device: applied if it is the first that every member must find valid, skipped if every
    /// member must find it invalid; anything else ends this device's part until it is taken in again.
    pub(super) fn take_commit(
        &mut self,
        reader: &mut Reader<'_>,
        message: &[u8],
        rest: &[Slot],
    ) -> Result<Flow, Error> {
        let Ok((commit, [])) = postcard::take_from_bytes::<SignedCommit>(message) else {
            return Ok(Flow::On);
        };
        let members = self.group.members();
        let epoch = self.group.epoch();
        if !judge::is_signed(&self.epoch.context, &members, &self.record.id, epoch, &commit) {
            return Ok(Flow::On);
        }
        let before = self.group.to_blob().map_err(internal)?;
        if self.group.has_pending() {
            self.group.clear_pending().map_err(internal)?;
        }
        let flow = match self.group.process(&commit.message) {
            Ok(Processed::Commit(staged)) => match parse_context(staged.context()) {
                Ok(context)
                    if judge::is_valid(&self.epoch.context, &members, &commit.leaf, &staged, &context) =>
                {
                    self.merge_theirs(reader, *staged, context, commit.next, rest)?
                }
                Ok(_) | Err(_) => None,
            },
            Err(MlsError::Inapplicable) => Some(self.lose(reader.turn)),
            Ok(_) | Err(_) => None,
        };
        match flow {
            Some(Flow::Again) | None => {
                self.group =
                    Group::from_blob(reader.entropy.secret(), reader.me.leaf(), &before).map_err(internal)?;
                Ok(flow.unwrap_or(Flow::On))
            }
            Some(flow) => Ok(flow),
        }
    }

    /// One's own commit is the first in the log.
    pub(super) fn merge_own(&mut self, reader: &mut Reader<'_>) -> Result<Flow, Error> {
        let Some(pending) = self.pending.take() else {
            return Ok(Flow::On);
        };
        let before = (self.epoch.context.clone(), self.leaves());
        let welcome = pending
            .items
            .get(1)
            .and_then(|item| self.open_welcome(&item.envelope));
        self.group.merge_pending().map_err(internal)?;
        self.record.commit_due = false;
        self.record.committed = Some(reader.now);
        self.record.rescues = pending.rescues;
        let done = pending.wishes.min(self.record.wishes.len());
        let back = self.record.wishes.drain(..done).filter_map(|wish| match wish {
            Wish::Readmit { identity, package } => Some((identity, leaf_key(&package)?)),
            _ => None,
        });
        let back: Vec<Returned> = back.collect();
        // Whoever came back has fresh keys, and not what they offered before for getting some.
        let fresh = |key: &[u8; 32]| back.iter().any(|(_, leaf)| leaf == key);
        self.record
            .wishes
            .retain(|wish| !matches!(wish, Wish::Refresh { leaf, .. } if fresh(leaf)));
        for (to, sealed) in pending.packets {
            self.put_out(OutRecord::Packet { to, sealed }, &mut reader.turn.batch)?;
        }
        let by = reader.me.identity().public();
        self.enter_epoch(Some(pending.keep), Some(pending.next))?;
        // Whoever leads the case has nobody to ask.
        self.withdraw_ask(reader.me, reader.entropy);
        self.go_home(&before.0);
        self.hand_over(&before.1, welcome.as_deref(), reader);
        self.note_changes(&before, &back, by, reader)?;
        Ok(Flow::Stop)
    }

    fn leaves(&self) -> Vec<judge::LeafKeys> {
        self.group.members().iter().map(judge::LeafKeys::from).collect()
    }

    /// Applies a valid commit; `None` if it is not, after all.
    fn merge_theirs(
        &mut self,
        reader: &mut Reader<'_>,
        staged: Staged,
        context: CaseContext,
        next: Incarnation,
        rest: &[Slot],
    ) -> Result<Option<Flow>, Error> {
        let before = (self.epoch.context.clone(), self.leaves());
        let members = self.group.members();
        let sender = members.iter().find(|leaf| leaf.index == staged.sender());
        let by = sender.and_then(|leaf| behind_leaf(&leaf.credential, &leaf.signature_key));
        let Some(by) = by else { return Ok(None) };
        let again = added_again(&self.epoch.context, &staged);
        let welcome = match rest.first() {
            Some(Slot::Here(entry)) if entry.kind == Kind::Commit => self.open_welcome(&entry.envelope),
            Some(_) => None,
            None if !reader.to_end && !again.is_empty() => return Ok(Some(Flow::Again)),
            None => None,
        };
        // A Welcome that stands in the log is for devices that only got fresh keys, or are new.
        let back = if welcome.is_some() { Vec::new() } else { again };
        let secrets = open_share(reader.me, &self.record.id, staged.aad(), &context.keep);
        if staged.removes_us() {
            let own = |leaf: &crate::mls::PackageInfo| leaf.signature_key == *reader.me.leaf_public();
            if !staged.added().iter().any(own) {
                return self.removed(by, reader).map(Some);
            }
            match self.returned(reader, &staged, rest, welcome.as_deref())? {
                Return::In(group, used) => {
                    self.group = *group;
                    self.packages.remove(used);
                }
                Return::Later => return Ok(Some(Flow::Again)),
                // Counsel answers elsewhere: what was asked for in a rescue channel comes back through one.
                Return::Out if self.record.asking.is_some() => {
                    self.record.standing = Standing::Lost;
                    return Ok(Some(Flow::Stop));
                }
                Return::Out => return Ok(Some(self.lose(reader.turn))),
            }
            self.record.refreshed = reader.now;
        } else {
            self.group.merge(staged).map_err(internal)?;
        }
        self.pending = None;
        if context.committer != Some(*reader.me.leaf_public()) {
            // Somebody else decides now; what was wished for here is theirs to wish for again.
            self.record.wishes.clear();
            self.record.commit_due = false;
        }
        let keep = secrets.as_ref().map(|secrets| secrets.keep.clone());
        if let Some(secrets) = secrets {
            self.record.rescues = merged(&self.record.rescues, rescue_records(secrets));
        }
        self.enter_epoch(keep, Some(next))?;
        self.withdraw_own_ask(reader.me, reader.entropy);
        self.go_home(&before.0);
        self.hand_over(&before.1, welcome.as_deref(), reader);
        self.note_changes(&before, &back, by, reader)?;
        Ok(Some(Flow::Stop))
    }

    /// The Welcome that stands behind a commit of the present epoch; `None` if it is something else, such as a commit that
    /// came too late.
    fn open_welcome(&self, envelope: &Envelope) -> Option<Vec<u8>> {
        let keys = &self.epoch.keys;
        let plain = envelope
            .open(&keys.envelope, &self.epoch.channel, Kind::Commit)
            .ok()?;
        is_welcome(&plain).then(|| plain.to_vec())
    }

    /// Tells further devices of the owner's that were just added how to come in.
    fn hand_over(&self, before: &[judge::LeafKeys], welcome: Option<&[u8]>, reader: &mut Reader<'_>) {
        let Some(welcome) = welcome else { return };
        for leaf in self.leaves() {
            if !before.contains(&leaf) && reader.me.has_device(&leaf.key) {
                let joining = self.joining(reader.me, welcome);
                reader.turn.parcels.push((leaf.key, joining));
            }
        }
    }

    /// This device was removed and added in one commit, as it asked: the Welcome stands right behind.
    fn returned(
        &mut self,
        reader: &mut Reader<'_>,
        staged: &Staged,
        rest: &[Slot],
        welcome: Option<&[u8]>,
    ) -> Result<Return, Error> {
        let Some(welcome) = welcome else {
            let later = rest.is_empty() && !reader.to_end;
            return Ok(if later { Return::Later } else { Return::Out });
        };
        let mut packages = self.packages.iter().enumerate();
        let joined = packages.find_map(|(at, package)| {
            let group = Group::join(reader.entropy.secret(), reader.me.leaf(), package, welcome);
            Some((group.ok()?, at))
        });
        Ok(match joined {
            Some((group, used))
                if group.epoch() == staged.epoch()
                    && group.id() == self.record.id
                    && group.context().is_ok_and(|context| context == staged.context()) =>
            {
                Return::In(Box::new(group), used)
            }
            Some(_) | None => Return::Out,
        })
    }

    /// Counsel removed this device: it reads and writes nothing any more.
    fn removed(&mut self, by: [u8; 32], reader: &mut Reader<'_>) -> Result<Flow, Error> {
        let identity = reader.me.identity().public();
        self.record.standing = Standing::Removed;
        self.record.wishes.clear();
        for out in std::mem::take(&mut self.outbox).into_keys() {
            reader.turn.batch.delete(self.out_name(out));
        }
        self.note(Notice::Removed { identity }, by, reader)?;
        self.warn(Warning::Removed, &mut reader.turn.events);
        Ok(Flow::Stop)
    }

    /// The next epoch begins: another channel, other keys; what waits is encrypted again when it is sent. Its channel is
    /// known by the incarnation that was named, if one was.
    pub(super) fn enter_epoch(
        &mut self,
        keep: Option<Token<Keeper>>,
        named: Option<Incarnation>,
    ) -> Result<(), Error> {
        self.keep = keep;
        self.epoch = Epoch::of(&self.group)?;
        self.record.reading = Reading {
            named,
            ..Reading::default()
        };
        self.round.draft = None;
        self.record.held_since = None;
        self.record
            .warnings
            .retain(|warning| !matches!(warning, Warning::RelayForgot | Warning::Lost));
        self.round.caught_up = false;
        self.round.must_open = false;
        for out in self.outbox.values_mut() {
            if let OutRecord::Letter { sealed, .. } = out {
                *sealed = None;
            }
        }
        self.refresh_members();
        Ok(())
    }

    /// Brings who is known by name into line with who is in the case.
    fn refresh_members(&mut self) {
        let context = &self.epoch.context;
        for known in &mut self.record.members {
            known.present = context.person(&known.identity).is_some();
        }
        for person in &context.people {
            let known = self
                .record
                .members
                .iter_mut()
                .find(|known| known.identity == person.identity);
            match known {
                Some(known) => known.role = person.role,
                None => self
                    .record
                    .members
                    .push(member(person.identity, &person.name, person.role)),
            }
        }
        let here = |identity: &[u8; 32]| context.person(identity).is_some();
        self.record.asks.retain(|ask| here(&ask.identity));
    }

    /// Remembers the leaf keys that a commit took out: whoever holds one of these devices is not taken in again by asking.
    fn bar_removed(&mut self, old: &[judge::LeafKeys], new: &[judge::LeafKeys]) {
        let here = |key: &[u8; 32]| new.iter().any(|leaf| leaf.key == *key);
        let barred = &mut self.record.barred;
        barred.extend(old.iter().map(|leaf| leaf.key));
        barred.retain(|key| !here(key));
        barred.drain(..barred.len().saturating_sub(BARRED_KEPT));
        let barred = &self.record.barred;
        self.record.asks.retain(|ask| !barred.contains(&ask.leaf));
    }

    /// Notes what a commit changed, in the order in which people care.
    fn note_changes(
        &mut self,
        (old, old_leaves): &(CaseContext, Vec<judge::LeafKeys>),
        back: &[Returned],
        by: [u8; 32],
        reader: &mut Reader<'_>,
    ) -> Result<(), Error> {
        let (new, leaves) = (self.epoch.context.clone(), self.leaves());
        self.bar_removed(old_leaves, &leaves);
        let owner = |key: &[u8; 32]| {
            let leaf = leaves.iter().find(|leaf| leaf.key == *key);
            leaf.and_then(|leaf| leaf.identity)
        };
        let mut notices = Vec::new();
        for person in old
            .people
            .iter()
            .filter(|person| new.person(&person.identity).is_none())
        {
            notices.push(Notice::Removed {
                identity: person.identity,
            });
        }
        for person in &new.people {
            let (identity, role) = (person.identity, person.role);
            let devices = |leaves: &[judge::LeafKeys]| {
                leaves
                    .iter()
                    .filter(|leaf| leaf.identity == Some(identity))
                    .count()
            };
            if old.person(&identity).is_none() {
                notices.push(Notice::Added { identity, role });
            } else if back.iter().any(|(person, _)| *person == identity) {
                notices.push(Notice::Returned { identity });
            } else if devices(old_leaves) != devices(&leaves) {
                let count = u32::try_from(devices(&leaves)).unwrap_or(u32::MAX);
                notices.push(Notice::Devices { identity, count });
            }
        }
        if old.committer.is_some()
            && old.committer != new.committer
            && let Some(identity) = new.committer.as_ref().and_then(owner)
        {
            notices.push(Notice::Committer { identity });
        }
        if old.homes.first() != new.homes.first() {
            notices.push(Notice::Moved);
        }
        if (old.client_days, old.counsel_days) != (new.client_days, new.counsel_days) {
            notices.push(Notice::Retention {
                client_days: new.client_days,
                counsel_days: new.counsel_days,
            });
        }
        for returned in back {
            self.send_again_to(reader.me, returned, reader.now, &mut reader.turn.batch)?;
            self.record.asks.retain(|ask| ask.leaf != returned.1);
        }
        for notice in notices {
            self.note(notice, by, reader)?;
        }
        Ok(())
    }

    /// Keeps a notice among the letters.
    fn note(&mut self, notice: Notice, by: [u8; 32], reader: &mut Reader<'_>) -> Result<(), Error> {
        let own = by == reader.me.identity().public();
        let record = LetterRecord {
            letter: Letter {
                id: reader.entropy.letter(),
                sent: reader.now,
                seen: None,
                kind: NOTICE_KIND,
                body: encode(&notice)?.to_vec(),
            },
            from: by,
            received: reader.now,
            read: own,
            queued: false,
            delivered_to: Vec::new(),
            confirmed_by: Vec::new(),
            to: Vec::new(),
            placed: None,
        };
        if !own {
            self.record.unread = self.record.unread.saturating_add(1);
        }
        let letter = self.letter_view(&record, &reader.me.identity().public());
        self.keep_letter(record, &mut reader.turn.batch)?;
        reader.turn.events.push(Event::Letter {
            case: name_of(&self.record.id),
            letter,
        });
        Ok(())
    }

    pub(super) fn lose(&mut self, turn: &mut Turn) -> Flow {
        self.record.standing = Standing::Lost;
        self.warn(Warning::Lost, &mut turn.events);
        Flow::Stop
    }
}

/// Who was taken in again, and with which leaf key.
type Returned = ([u8; 32], [u8; 32]);

/// What came of a commit that removes this device and adds it again.
enum Return {
    /// It is in the next epoch, by the key package at this place.
    In(Box<Group>, usize),
    /// The Welcome has not been read yet.
    Later,
    /// There is no Welcome for it.
    Out,
}

/// Devices that a commit adds and whose owners were in the case before.
fn added_again(old: &CaseContext, staged: &Staged) -> Vec<Returned> {
    let added = staged.added().iter().map(judge::LeafKeys::from);
    added
        .filter_map(|leaf| Some((leaf.identity?, leaf.key)))
        .filter(|(identity, _)| old.person(identity).is_some())
        .collect()
}

/// Rescue channels of the next epoch, with how far those known were read.
fn merged(old: &[RescueRecord], new: Vec<RescueRecord>) -> Vec<RescueRecord> {
    let known = |rescue: RescueRecord| {
        let old = old
            .iter()
            .find(|old| old.identity == rescue.identity && old.seeds == rescue.seeds);
        old.cloned().unwrap_or(rescue)
    };
    new.into_iter().map(known).collect()
}

/// This device's share of a commit, if the commit has one that fits.
fn open_share(me: &Me, group: &[u8; 16], aad: &[u8], hash: &TokenHash) -> Option<CounselSecrets> {
    let shares: Vec<KeepShare> = postcard::from_bytes(aad).ok()?;
    if shares.len() > COUNSEL_DEVICES_MAX {
        return None;
    }
    let share = shares.iter().find(|share| share.device == *me.leaf_public())?;
    let plain = sealed::open(me.keep_seed(), &keep_info(group, hash), &share.sealed).ok()?;
    match postcard::take_from_bytes::<CounselSecrets>(&plain) {
        Ok((secrets, [])) if secrets.keep.hash() == *hash => Some(secrets),
        Ok(_) | Err(_) => None,
    }
}

/// The entry that one of one's own items is.
pub(super) fn is_item(entry: &Entry, item: &crate::record::SealedItem) -> bool {
    item.entry == entry.id && item.envelope == entry.envelope
}
