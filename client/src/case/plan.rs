//! What the wishes of people come to: a plan for one commit. SPEC.md 10.2.

use martlet_proto::{
    case::{CaseContext, Home, Person, RescueSeeds, Role},
    limits::{HOMES_MAX, PERSON_DEVICES_MAX},
};

use super::Case;
use crate::{
    entropy::Entropy,
    identity::behind_leaf,
    me::Me,
    mls::{Member, describe_package},
    record::{RescueRecord, Wish},
};

/// A commit that is being put together.
pub(super) struct Plan {
    /// The leaf key of the device that commits: it cannot remove itself.
    own: [u8; 32],
    pub(super) context: CaseContext,
    pub(super) rescues: Vec<RescueRecord>,
    /// Leaves to remove, and key packages to add.
    pub(super) remove: Vec<u32>,
    pub(super) add: Vec<Vec<u8>>,
    /// Devices that are removed and added: they stay, with the same leaf key.
    pub(super) again: Vec<[u8; 32]>,
    /// Who is to be told by a packet.
    pub(super) invite: Vec<Invitation>,
    /// Whether the Welcome goes into the log.
    pub(super) refreshes: bool,
    /// How many wishes, from the first on, it fulfils.
    pub(super) wishes: usize,
}

/// Where a Welcome goes besides the log.
pub(super) enum Invitation {
    /// Into the inbox of somebody new.
    Inbox(Box<martlet_proto::card::Inbox>, [u8; 32]),
    /// Into the rescue channel of somebody who asked.
    Rescue([u8; 32]),
}

impl Case {
    /// What the wishes come to, in their order. Those that time has overtaken come to nothing. A commit with a Welcome in
    /// the log takes nobody in again, so that everybody knows who comes back: the wishes from there on wait for the next.
    pub(super) fn plan(&self, me: &Me, entropy: &mut Entropy) -> Plan {
        let members = self.group.members();
        let mut plan = Plan {
            own: *me.leaf_public(),
            context: self.epoch.context.clone(),
            rescues: self.record.rescues.clone(),
            remove: Vec::new(),
            add: Vec::new(),
            again: Vec::new(),
            invite: Vec::new(),
            refreshes: false,
            wishes: 0,
        };
        for wish in &self.record.wishes {
            if plan.must_end_before(wish) {
                break;
            }
            plan.wishes = plan.wishes.saturating_add(1);
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
                Wish::Readmit { identity, package } => {
                    plan.readmit(identity, package, &members, &self.record.barred);
                }
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
}

impl Plan {
    /// Whether a wish belongs into another commit than those before it.
    fn must_end_before(&self, wish: &Wish) -> bool {
        let mut invited = self.invite.iter();
        match wish {
            Wish::Readmit { .. } => self.refreshes,
            Wish::Refresh { .. } | Wish::Device { .. } => {
                invited.any(|to| matches!(to, Invitation::Rescue(_)))
            }
            _ => false,
        }
    }

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
        // An earlier wish of the same commit may have had them added, or taken in again.
        self.add
            .retain(|package| identity_behind(package) != Some(*identity));
        self.invite.retain(|invitation| invitation.identity() != identity);
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
        let known = known || self.adds(&info.signature_key);
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
                && (!self.remove.contains(&other.index) || self.adds(&other.signature_key))
        };
        if members.iter().any(|other| more(&other)) {
            self.remove_leaves(members, |leaf| leaf.signature_key == *key);
            // An earlier wish of the same commit may have had it refreshed, or taken in again.
            self.again.retain(|again| again != key);
            self.add.retain(|package| leaf_key(package) != Some(*key));
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

    fn readmit(&mut self, identity: &[u8; 32], package: &[u8], members: &[Member], barred: &[[u8; 32]]) {
        let Ok(info) = describe_package(package) else {
            return;
        };
        let key = info.signature_key;
        if self.context.person(identity).is_none() || barred.contains(&key) || key == self.own {
            return;
        }
        let here = members.iter().find(|leaf| leaf.signature_key == key);
        let known = here.is_some();
        if self.adds(&key) || here.is_some_and(|leaf| self.remove.contains(&leaf.index)) {
            return;
        }
        let own = self.own;
        self.remove_leaves(members, |leaf| {
            let replaced = !known && identity_of(leaf) == Some(*identity) && leaf.signature_key != own;
            leaf.signature_key == key || replaced
        });
        self.add.push(package.to_vec());
        if !self.invite.iter().any(|to| to.identity() == identity) {
            self.invite.push(Invitation::Rescue(*identity));
        }
    }

    /// Whether the device of a leaf key is to be added.
    fn adds(&self, key: &[u8; 32]) -> bool {
        self.add.iter().any(|package| leaf_key(package) == Some(*key))
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

impl Invitation {
    /// Whose it is.
    fn identity(&self) -> &[u8; 32] {
        let (Self::Inbox(_, identity) | Self::Rescue(identity)) = self;
        identity
    }
}

fn identity_behind(package: &[u8]) -> Option<[u8; 32]> {
    let info = describe_package(package).ok()?;
    behind_leaf(&info.credential, &info.signature_key)
}

/// The leaf key of the device that a key package is of.
pub(super) fn leaf_key(package: &[u8]) -> Option<[u8; 32]> {
    Some(describe_package(package).ok()?.signature_key)
}

fn identity_of(leaf: &Member) -> Option<[u8; 32]> {
    behind_leaf(&leaf.credential, &leaf.signature_key)
}
