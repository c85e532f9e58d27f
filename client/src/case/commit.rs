//! Commits of this device: from wishes to a commit, its Welcomes, and everybody's new secrets. SPEC.md 10.2.

use martlet_proto::{
    Call, Envelope, Grant, Kind, Seal, Time,
    call::Item,
    card::Mailbox,
    case::{
        CaseContext, CounselSecrets, Home, KeepShare, Packet, Person, Rescue, RescueSeeds, Role, SignedCommit,
    },
    derive::RescueKeys,
    envelope::NONCE,
    limits::{COMMIT_GAP_SECS, HOMES_MAX, PERSON_DEVICES_MAX},
};

use super::{Case, Next, Purpose, internal, keep_info};
use crate::{
    contact::seal_packet,
    entropy::Entropy,
    error::{Error, Usage},
    identity::{behind_leaf, sign_with_leaf},
    me::Me,
    mls::{Change, Commit, Member, describe_package},
    record::{PendingCommit, RescueRecord, SealedItem, Wish, encode},
    sealed,
    vault::Batch,
};

/// A commit that is being put together.
struct Plan {
    context: CaseContext,
    rescues: Vec<RescueRecord>,
    /// Leaves to remove, and key packages to add.
    remove: Vec<u32>,
    add: Vec<Vec<u8>>,
    /// Devices that are removed and added: they stay, with the same leaf key.
    again: Vec<[u8; 32]>,
    /// Who is to be told by a packet.
    invite: Vec<Invitation>,
    /// Whether the Welcome goes into the log.
    refreshes: bool,
}

/// What a commit sends: entries that are sealed in together, and packets for mailboxes once they are.
struct Outgoing {
    items: Vec<SealedItem>,
    packets: Vec<(Mailbox, SealedItem)>,
}

/// Where a Welcome goes besides the log.
enum Invitation {
    /// Into the inbox of somebody new.
    Inbox(Box<martlet_proto::card::Inbox>, [u8; 32]),
    /// Into the rescue channel of somebody who asked.
    Rescue([u8; 32]),
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

    pub(super) fn next_commit(&self, batch: Batch) -> Option<Next> {
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
        Some(Next {
            batch,
            call: Call::new(&grant, seal),
            purpose: Purpose::Commit,
        })
    }

    /// Makes the commit that refreshes this device's keys, makes it the committer, and fulfils the wishes. It stays
    /// pending.
    pub(super) fn make_commit(&mut self, me: &Me, entropy: &mut Entropy) -> Result<Batch, Error> {
        let wishes = self.record.wishes.len();
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
        let sealed = self
            .group
            .commit(change)
            .map_err(|_| Error::Usage(Usage::Change))
            .and_then(|commit| self.seal_commit(me, &plan, &secrets, commit, entropy));
        let mut batch = Batch::default();
        match sealed {
            Ok(Outgoing { items, packets }) => {
                self.pending = Some(PendingCommit {
                    items,
                    keep,
                    rescues: plan.rescues,
                    packets,
                    wishes,
                });
                self.save(&mut batch)?;
                Ok(batch)
            }
            Err(error) => {
                // What cannot be done must not be tried for ever.
                self.group.clear_pending().map_err(internal)?;
                self.record.wishes.clear();
                Err(error)
            }
        }
    }

    fn seal_commit(
        &self,
        me: &Me,
        plan: &Plan,
        secrets: &CounselSecrets,
        commit: Commit,
        entropy: &mut Entropy,
    ) -> Result<Outgoing, Error> {
        let signed = SignedCommit::signed(&self.record.id, self.group.epoch(), &commit.message);
        let signed = SignedCommit {
            leaf: *me.leaf_public(),
            signature: sign_with_leaf(&me.leaf().signer, &signed),
            message: commit.message,
        };
        let mut items = vec![self.seal_item(&encode(&signed)?, entropy)?];
        let welcome = commit.welcome.unwrap_or_default();
        if plan.refreshes {
            items.push(self.seal_item(&welcome, entropy)?);
        }
        let mut packets = Vec::new();
        for invitation in &plan.invite {
            packets.push(self.seal_invitation(plan, invitation, secrets, &welcome, entropy)?);
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
        plan: &Plan,
        invitation: &Invitation,
        secrets: &CounselSecrets,
        welcome: &[u8],
        entropy: &mut Entropy,
    ) -> Result<(Mailbox, SealedItem), Error> {
        let (Invitation::Inbox(_, identity) | Invitation::Rescue(identity)) = invitation;
        let seeds = seeds_of(&plan.rescues, identity);
        let counsel = plan.context.role(identity) == Some(Role::Counsel);
        let packet = Packet {
            welcome: welcome.to_vec(),
            admission: self.record.admission.clone(),
            rescue: seeds.cloned(),
            secrets: counsel.then(|| secrets.clone()),
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

    /// What the wishes come to, in their order. Those that time has overtaken come to nothing.
    fn plan(&self, me: &Me, entropy: &mut Entropy) -> Plan {
        let members = self.group.members();
        let mut plan = Plan {
            context: self.epoch.context.clone(),
            rescues: self.record.rescues.clone(),
            remove: Vec::new(),
            add: Vec::new(),
            again: Vec::new(),
            invite: Vec::new(),
            refreshes: false,
        };
        for wish in &self.record.wishes {
            match wish {
                Wish::Add {
                    person,
                    packages,
                    inbox,
                } => plan.add_person(person, packages, inbox, entropy),
                Wish::Remove { identity } if *identity != me.identity().public() => {
                    plan.remove_person(identity, &members);
                }
                Wish::Refresh { leaf, package } => plan.refresh(leaf, package, &members),
                Wish::Readmit { identity, package } => plan.readmit(identity, package, &members),
                Wish::Move { home } => {
                    plan.context
                        .homes
                        .retain(|known| known.relay.pin != home.relay.pin);
                    plan.context.homes.insert(0, home.clone());
                    plan.context.homes.truncate(HOMES_MAX);
                }
                Wish::Fallback { home } => {
                    let known = |known: &Home| known.relay.pin == home.relay.pin;
                    if !plan.context.homes.iter().any(known) && plan.context.homes.len() < HOMES_MAX {
                        plan.context.homes.push(home.clone());
                    }
                }
                Wish::Device { identity, package } => plan.add_device(identity, package, &members),
                Wish::WithoutDevice { leaf } if leaf != me.leaf_public() => {
                    plan.remove_device(leaf, &members);
                }
                Wish::Retain { side, days } => match side {
                    Role::Client => plan.context.client_days = *days,
                    _ => plan.context.counsel_days = *days,
                },
                Wish::TakeOver | Wish::Remove { .. } | Wish::WithoutDevice { .. } => {}
            }
        }
        plan
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

impl Plan {
    fn add_person(
        &mut self,
        person: &Person,
        packages: &[Vec<u8>],
        inbox: &martlet_proto::card::Inbox,
        entropy: &mut Entropy,
    ) {
        if self.context.person(&person.identity).is_some() {
            return;
        }
        self.context.people.push(person.clone());
        self.context.people.sort_by_key(|person| person.identity);
        self.add.extend_from_slice(packages);
        self.rescues.retain(|rescue| rescue.identity != person.identity);
        let seeds = RescueSeeds {
            to_counsel: entropy.secret(),
            to_member: entropy.secret(),
        };
        self.rescues.push(RescueRecord {
            identity: person.identity,
            seeds,
            cursor: None,
        });
        self.invite
            .push(Invitation::Inbox(Box::new(inbox.clone()), person.identity));
    }

    fn remove_person(&mut self, identity: &[u8; 32], members: &[Member]) {
        self.context.people.retain(|person| person.identity != *identity);
        self.rescues.retain(|rescue| rescue.identity != *identity);
        self.remove_leaves(members, |leaf| identity_of(leaf) == Some(*identity));
    }

    fn add_device(&mut self, identity: &[u8; 32], package: &[u8], members: &[Member]) {
        let Ok(info) = describe_package(package) else {
            return;
        };
        let here = members
            .iter()
            .filter(|leaf| identity_of(leaf) == Some(*identity))
            .count();
        let known = members
            .iter()
            .any(|leaf| leaf.signature_key == info.signature_key);
        if self.context.person(identity).is_some() && !known && here < PERSON_DEVICES_MAX {
            self.add.push(package.to_vec());
            self.refreshes = true;
        }
    }

    fn remove_device(&mut self, key: &[u8; 32], members: &[Member]) {
        let Some(leaf) = members.iter().find(|leaf| leaf.signature_key == *key) else {
            return;
        };
        let Some(identity) = identity_of(leaf) else { return };
        let more = |other: &&Member| {
            identity_of(other) == Some(identity)
                && other.index != leaf.index
                && !self.remove.contains(&other.index)
        };
        if members.iter().any(|other| more(&other)) {
            self.remove_leaves(members, |leaf| leaf.signature_key == *key);
        } else {
            self.remove_person(&identity, members);
        }
    }

    fn refresh(&mut self, key: &[u8; 32], package: &[u8], members: &[Member]) {
        if self.remove_leaves(members, |leaf| leaf.signature_key == *key) {
            self.add.push(package.to_vec());
            self.again.push(*key);
            self.refreshes = true;
        }
    }

    fn readmit(&mut self, identity: &[u8; 32], package: &[u8], members: &[Member]) {
        let Ok(info) = describe_package(package) else {
            return;
        };
        if self.context.person(identity).is_none() {
            return;
        }
        let same = |leaf: &Member| leaf.signature_key == info.signature_key;
        if !self.remove_leaves(members, same) {
            self.remove_leaves(members, |leaf| identity_of(leaf) == Some(*identity));
        }
        self.add.push(package.to_vec());
        self.invite.push(Invitation::Rescue(*identity));
    }

    /// Has these leaves removed, unless they are already; says whether there were any.
    fn remove_leaves(&mut self, members: &[Member], which: impl Fn(&Member) -> bool) -> bool {
        let mut found = false;
        for leaf in members.iter().filter(|leaf| which(leaf)) {
            if !self.remove.contains(&leaf.index) {
                self.remove.push(leaf.index);
                found = true;
            }
        }
        found
    }
}

fn identity_of(leaf: &Member) -> Option<[u8; 32]> {
    behind_leaf(&leaf.credential, &leaf.signature_key)
}

pub(super) fn seeds_of<'a>(rescues: &'a [RescueRecord], identity: &[u8; 32]) -> Option<&'a RescueSeeds> {
    let found = rescues.iter().find(|rescue| rescue.identity == *identity);
    found.map(|rescue| &rescue.seeds)
}
