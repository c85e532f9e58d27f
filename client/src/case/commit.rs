//! Commits of this device: from wishes to a commit, its Welcomes, and everybody's new secrets. SPEC.md 10.2.

use martlet_proto::{
    Call, Envelope, Grant, Incarnation, Kind, Seal, Time,
    call::{Item, Tip},
    card::Mailbox,
    case::{CounselSecrets, KeepShare, Packet, Rescue, RescueSeeds, Role, SignedCommit},
    derive::RescueKeys,
    envelope::NONCE,
    limits::COMMIT_GAP_SECS,
};

use super::{
    Case, Epoch, Next, Purpose, Turn, internal, keep_info,
    plan::{Invitation, Plan},
};
use crate::{
    contact::seal_packet,
    entropy::Entropy,
    error::{Error, Usage},
    identity::{behind_leaf, sign_with_leaf},
    me::Me,
    mls::{Change, Commit, Group},
    record::{PendingCommit, RescueRecord, SealedItem, Wish, encode},
    sealed,
    vault::Batch,
};

/// What a commit sends: entries that are sealed in together, and packets for mailboxes once they are.
struct Outgoing {
    items: Vec<SealedItem>,
    packets: Vec<(Mailbox, SealedItem)>,
}

/// A commit that is neither signed nor kept yet. Whoever dies now drafts another one.
pub(super) struct Draft {
    plan: Plan,
    secrets: CounselSecrets,
    commit: Commit,
    /// What it leads to.
    epoch: Epoch,
}

impl Case {
    /// Whether this device is the committer of this epoch.
    pub(super) fn is_committer(&self, me: &Me) -> bool {
        self.epoch.context.committer == Some(*me.leaf_public())
    }

    /// Whether this device could commit if its owner wished: it is counsel's, and can seal the channel.
    pub(super) fn may_commit(&self) -> bool {
        self.keep.is_some()
    }

    /// Whether a commit is to be made now.
    pub(super) fn is_commit_wished(&self, me: &Me, now: Time) -> bool {
        if !self.may_commit() {
            return false;
        }
        let takes_over = |wish: &Wish| matches!(wish, Wish::TakeOver);
        let entitled = self.epoch.context.committer.is_none()
            || self.is_committer(me)
            || self.record.wishes.iter().any(takes_over);
        let waited = self
            .record
            .committed
            .is_none_or(|last| now.as_secs().saturating_sub(last.as_secs()) >= COMMIT_GAP_SECS);
        let urgent = |wish: &Wish| !matches!(wish, Wish::Refresh { .. });
        let due = self.record.commit_due
            || self.record.wishes.iter().any(urgent)
            || (waited && !self.record.wishes.is_empty());
        entitled && due
    }

    pub(super) fn next_commit(&self) -> Option<Next> {
        let (pending, keep) = (self.pending.as_ref()?, self.keep.as_ref()?);
        let items = pending.items.iter().map(|item| Item {
            kind: Kind::Commit,
            id: item.entry,
            envelope: item.envelope.clone(),
        });
        let within = self.record.reading.at.map(|(cursor, _)| cursor.incarnation);
        let grant = Grant {
            channel: self.epoch.channel,
            token: keep.clone(),
        };
        let seal = Seal {
            within,
            items: items.collect(),
        };
        Some(Next::new(Call::new(&grant, seal), Purpose::Commit))
    }

    /// Drafts the commit that refreshes this device's keys, makes it the committer, and fulfils the wishes. It is signed
    /// when the channel that it leads to is open.
    pub(super) fn draft_commit(&mut self, me: &Me, entropy: &mut Entropy) -> Result<(), Error> {
        let mut plan = self.plan(me, entropy);
        let keep = entropy.keeper();
        plan.context.committer = Some(*me.leaf_public());
        plan.context.keep = keep.hash();
        let secrets = CounselSecrets {
            keep: keep.clone(),
            rescues: plan
                .rescues
                .iter()
                .map(|rescue| (rescue.identity, rescue.seeds.clone()))
                .collect(),
        };
        let shares = self.keep_shares(&plan, &secrets, entropy)?;
        let change = Change {
            add: std::mem::take(&mut plan.add),
            remove: std::mem::take(&mut plan.remove),
            context: Some(encode(&plan.context)?.to_vec()),
            aad: encode(&shares)?.to_vec(),
        };
        let drafted = self
            .group
            .commit(change)
            .map_err(|_| Error::Usage(Usage::Change))
            .and_then(|commit| Ok((commit, self.epoch_after(me, entropy)?)));
        match drafted {
            Ok((commit, epoch)) => {
                self.round.draft = Some(Draft {
                    plan,
                    secrets,
                    commit,
                    epoch,
                });
                Ok(())
            }
            Err(error) => Err(self.give_up_wishes(error)),
        }
    }

    /// What cannot be done must not be tried for ever.
    fn give_up_wishes(&mut self, error: Error) -> Error {
        self.drop_draft();
        self.record.wishes.clear();
        error
    }

    /// The epoch that the commit just made leads to.
    fn epoch_after(&self, me: &Me, entropy: &mut Entropy) -> Result<Epoch, Error> {
        let blob = self.group.to_blob().map_err(internal)?;
        let mut next = Group::from_blob(entropy.secret(), me.leaf(), &blob).map_err(internal)?;
        next.merge_pending().map_err(internal)?;
        Epoch::of(&next)
    }

    /// The call that opens the channel of the epoch that the draft leads to, on the relay where that will be.
    pub(super) fn next_draft(&self) -> Option<Next> {
        let draft = self.round.draft.as_ref()?;
        let home = draft.plan.context.homes.first()?;
        let elsewhere = home.relay != self.record.relay;
        let admission = home.admission.as_ref().or(self.record.admission.as_ref());
        Some(Next {
            relay: elsewhere.then(|| home.relay.clone()),
            ..Next::new(draft.epoch.open(admission), Purpose::Draft)
        })
    }

    /// The next epoch's channel is open: the commit names its incarnation, is signed, sealed, and waits to be sent.
    pub(super) fn draft_opened(&mut self, me: &Me, tip: &Tip, entropy: &mut Entropy) -> Result<Turn, Error> {
        let mut turn = Turn::default();
        let Some(draft) = self.round.draft.take() else {
            return Ok(turn);
        };
        match self.seal_commit(me, &draft, tip.incarnation, entropy) {
            Ok(Outgoing { items, packets }) => {
                self.pending = Some(PendingCommit {
                    items,
                    keep: draft.secrets.keep,
                    next: tip.incarnation,
                    rescues: draft.plan.rescues,
                    packets,
                    wishes: draft.plan.wishes,
                });
                self.save(&mut turn.batch)?;
                Ok(turn)
            }
            Err(error) => Err(self.give_up_wishes(error)),
        }
    }

    /// Forgets a commit that was neither signed nor kept: nobody else has seen anything of it.
    pub(super) fn drop_draft(&mut self) {
        self.round.draft = None;
        if self.pending.is_none() && self.group.has_pending() {
            // It fails only where nothing is pending.
            let _ = self.group.clear_pending();
        }
    }

    /// The relay that the case was to move to does not answer, or does not let this device in: the case stays.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] if the record cannot be written.
    pub fn stay(&mut self) -> Result<Batch, Error> {
        self.drop_draft();
        let moves = |wish: &Wish| matches!(wish, Wish::Move { .. });
        self.record.wishes.retain(|wish| !moves(wish));
        let mut batch = Batch::default();
        self.save_record(&mut batch)?;
        Ok(batch)
    }

    fn seal_commit(
        &self,
        me: &Me,
        draft: &Draft,
        next: Incarnation,
        entropy: &mut Entropy,
    ) -> Result<Outgoing, Error> {
        let message = &draft.commit.message;
        let signed = SignedCommit::signed(&self.record.id, self.group.epoch(), &next, message);
        let signed = SignedCommit {
            leaf: *me.leaf_public(),
            next,
            signature: sign_with_leaf(&me.leaf().signer, &signed),
            message: message.clone(),
        };
        let mut items = vec![self.seal_item(&encode(&signed)?, entropy)?];
        if draft.plan.refreshes {
            let welcome = draft.commit.welcome.as_deref();
            items.push(self.seal_item(welcome.unwrap_or_default(), entropy)?);
        }
        let mut packets = Vec::new();
        for invitation in &draft.plan.invite {
            packets.push(self.seal_invitation(draft, invitation, next, entropy)?);
        }
        Ok(Outgoing { items, packets })
    }

    fn seal_item(&self, message: &[u8], entropy: &mut Entropy) -> Result<SealedItem, Error> {
        let nonce: [u8; NONCE] = entropy.bytes();
        let envelope = Envelope::seal(
            &self.epoch.keys.envelope,
            nonce,
            &self.epoch.channel,
            Kind::Commit,
            message,
        )
        .map_err(|_| Error::Usage(Usage::TooManyMembers))?;
        Ok(SealedItem {
            entry: entropy.entry(),
            envelope,
        })
    }

    fn seal_invitation(
        &self,
        draft: &Draft,
        invitation: &Invitation,
        next: Incarnation,
        entropy: &mut Entropy,
    ) -> Result<(Mailbox, SealedItem), Error> {
        let plan = &draft.plan;
        let (Invitation::Inbox(_, identity) | Invitation::Rescue(identity)) = invitation;
        let seeds = seeds_of(&plan.rescues, identity);
        let counsel = plan.context.role(identity) == Some(Role::Counsel);
        let packet = Packet {
            welcome: draft.commit.welcome.clone().unwrap_or_default(),
            admission: self.record.admission.clone(),
            rescue: seeds.cloned(),
            secrets: counsel.then(|| draft.secrets.clone()),
            incarnation: Some(next),
        };
        let (to, envelope) = match (invitation, seeds) {
            (Invitation::Inbox(inbox, _), _) => {
                let envelope = seal_packet(inbox, &self.record.relay.pin, &packet, entropy)?;
                (inbox.mailbox.clone(), envelope)
            }
            (Invitation::Rescue(_), Some(seeds)) => {
                let keys = RescueKeys::derive(&seeds.to_member);
                let nonce: [u8; NONCE] = entropy.bytes();
                let answer = encode(&Rescue::Answer(packet))?;
                let envelope = Envelope::seal(&keys.envelope, nonce, &keys.channel(), Kind::Packet, &answer)
                    .map_err(|_| Error::Usage(Usage::TooManyMembers))?;
                (keys.mailbox(), envelope)
            }
            (Invitation::Rescue(_), None) => return Err(Error::Internal("nobody can be answered")),
        };
        let sealed = SealedItem {
            entry: entropy.entry(),
            envelope,
        };
        Ok((to, sealed))
    }

    /// The next secrets, sealed to each of counsel's devices that stays.
    fn keep_shares(
        &self,
        plan: &Plan,
        secrets: &CounselSecrets,
        entropy: &mut Entropy,
    ) -> Result<Vec<KeepShare>, Error> {
        let info = keep_info(&self.record.id, &plan.context.keep);
        let secrets = encode(secrets)?;
        let mut shares = Vec::new();
        for leaf in self.group.members() {
            let stays = !plan.remove.contains(&leaf.index) || plan.again.contains(&leaf.signature_key);
            let Some(key) = leaf.keep_key.as_ref().filter(|_| stays) else {
                continue;
            };
            let identity = behind_leaf(&leaf.credential, &leaf.signature_key);
            if identity.and_then(|identity| plan.context.role(&identity)) == Some(Role::Counsel)
                && let Ok(sealed) = sealed::seal(key, &info, &secrets, entropy)
            {
                shares.push(KeepShare {
                    device: leaf.signature_key,
                    sealed,
                });
            }
        }
        Ok(shares)
    }
}

pub(super) fn seeds_of<'a>(rescues: &'a [RescueRecord], identity: &[u8; 32]) -> Option<&'a RescueSeeds> {
    let found = rescues.iter().find(|rescue| rescue.identity == *identity);
    found.map(|rescue| &rescue.seeds)
}
