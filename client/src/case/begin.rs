//! How a case begins: the client founds it, counsel joins it. SPEC.md 10.1.

use martlet_proto::{
    Keeper, Time, Token,
    card::Card,
    case::{CaseContext, CounselSecrets, Home, Packet, Person, RescueSeeds, Role},
    invite::Invite,
    limits::CLIENT_DAYS,
};

use super::{Beginning, Case, internal, judge, parse_context};
use crate::{
    contact::seal_packet,
    entropy::Entropy,
    error::{Error, Usage},
    me::Me,
    mls::{Change, Group},
    record::{InviteRecord, MemberRecord, OutRecord, RescueRecord, SealedItem, encode},
    vault::Batch,
    verified::Verified,
};

impl Case {
    /// The client's side: a new case with counsel's devices in it, and first contact waiting to be made.
    ///
    /// # Errors
    ///
    /// [`Usage::OwnInvite`]; [`Error::Protocol`] if a key package cannot be added.
    pub fn found(
        me: &Me,
        invite: &Invite,
        card: &Verified<Card>,
        label: String,
        index: u64,
        now: Time,
        entropy: &mut Entropy,
    ) -> Result<(Self, Batch), Error> {
        let card = card.get();
        if card.identity == me.identity().public() {
            return Err(Error::Usage(Usage::OwnInvite));
        }
        let keep = entropy.keeper();
        let mut people = vec![
            person(me.identity().public(), Role::Client, me.name()),
            person(card.identity, Role::Counsel, &card.name),
        ];
        people.sort_by_key(|person| person.identity);
        let context = CaseContext {
            version: 2,
            people,
            committer: None,
            homes: vec![Home {
                relay: invite.relay(),
                admission: card.admission.clone(),
            }],
            keep: keep.hash(),
            client_days: Some(CLIENT_DAYS),
            counsel_days: None,
        };
        let id: [u8; 16] = entropy.bytes();
        let mut group =
            Group::create(entropy.secret(), me.leaf(), &id, &encode(&context)?, None).map_err(internal)?;
        let change = Change {
            add: card.packages.clone(),
            ..Change::default()
        };
        let commit = group
            .commit(change)
            .map_err(|_| Error::Protocol("counsel's key package cannot be added"))?;
        group.merge_pending().map_err(internal)?;
        let seeds = RescueSeeds {
            to_counsel: entropy.secret(),
            to_member: entropy.secret(),
        };
        let packet = Packet {
            welcome: commit
                .welcome
                .ok_or(Error::Internal("a commit that adds has no welcome"))?,
            admission: None,
            rescue: None,
            secrets: Some(CounselSecrets {
                keep,
                rescues: vec![(me.identity().public(), seeds.clone())],
            }),
            incarnation: None,
        };
        let contact = OutRecord::Packet {
            to: card.inbox.mailbox.clone(),
            sealed: SealedItem {
                entry: entropy.entry(),
                envelope: seal_packet(&card.inbox, &invite.pin, &packet, entropy)?,
            },
        };
        let record = Beginning {
            id,
            label,
            relay: invite.relay(),
            admission: card.admission.clone(),
            rescue: Some(seeds),
            rescues: Vec::new(),
            commit_due: false,
        }
        .record(&context, now);
        let mut case = Self::begin(index, record, group, None, entropy)?;
        let mut batch = Batch::default();
        case.put_out(contact, &mut batch)?;
        case.save(&mut batch)?;
        Ok((case, batch))
    }

    /// Joins by a packet from an inbox: counsel a case that a client opened, anybody else one that they were added to.
    ///
    /// # Errors
    ///
    /// [`Error::Protocol`] if the packet is not one that this program makes; it is then junk.
    pub fn join(
        me: &Me,
        invite: &InviteRecord,
        packet: Packet,
        private: &[u8],
        index: u64,
        now: Time,
        entropy: &mut Entropy,
    ) -> Result<(Self, Batch), Error> {
        let (group, context) = welcomed(me, &packet, private, entropy)?;
        let id: [u8; 16] = group.id().try_into().map_err(|_| junk())?;
        let mine = me.identity().public();
        // Nobody who holds an invite may make this device speak to a relay that its owner did not choose.
        if context
            .homes
            .first()
            .is_none_or(|home| home.relay.pin != invite.home.relay.pin)
        {
            return Err(junk());
        }
        let keep = kept(&packet, &context);
        let first = context.committer.is_none();
        if first {
            let client = |person: &Person| person.identity != mine && person.role == Role::Client;
            let two = context.people.len() == 2 && context.people.iter().any(client);
            if !two || context.role(&mine) != Some(Role::Counsel) || keep.is_none() {
                return Err(junk());
            }
        }
        let record = Beginning {
            id,
            label: invite.label.clone().unwrap_or_default(),
            relay: invite.home.relay.clone(),
            admission: Some(invite.home.admission.clone()),
            rescue: packet.rescue,
            rescues: packet.secrets.map(rescue_records).unwrap_or_default(),
            commit_due: first,
        }
        .record(&context, now);
        let mut case = Self::begin(index, record, group, keep, entropy)?;
        case.record.reading.named = packet.incarnation;
        let mut batch = Batch::default();
        case.save(&mut batch)?;
        Ok((case, batch))
    }

    /// Whether a letter may be written here now.
    ///
    /// # Errors
    ///
    /// [`Usage::CaseEnded`] after removal, or when the thread was lost.
    pub fn writable(&self) -> Result<(), Error> {
        if self.record.standing == crate::record::Standing::Member {
            Ok(())
        } else {
            Err(Error::Usage(Usage::CaseEnded))
        }
    }

    /// When this case's leaf was last read or written to: for the order in which cases are shown.
    pub fn last(&self) -> Option<Time> {
        self.record.last
    }
}

fn junk() -> Error {
    Error::Protocol("a packet is not what it should be")
}

fn person(identity: [u8; 32], role: Role, name: &str) -> Person {
    Person {
        identity,
        role,
        name: name.to_string(),
    }
}

/// The group that a packet's Welcome leads to, if everyone in it is who the context says, this device's owner too.
pub(super) fn welcomed(
    me: &Me,
    packet: &Packet,
    private: &[u8],
    entropy: &mut Entropy,
) -> Result<(Group, CaseContext), Error> {
    let group = Group::join(entropy.secret(), me.leaf(), private, &packet.welcome).map_err(|_| junk())?;
    let context = parse_context(&group.context().map_err(internal)?)?;
    let leaves: Vec<judge::LeafKeys> = group.members().iter().map(judge::LeafKeys::from).collect();
    // Whoever knows old key packages of counsel's can put her into a group of their own, but not sign for her.
    let committer = match &context.committer {
        Some(committer) => {
            judge::is_counsel(&context, &leaves, committer) && group.welcomed_by() == Some(*committer)
        }
        None => true,
    };
    if !committer || !judge::fits(&context, &leaves) || context.role(&me.identity().public()).is_none() {
        return Err(junk());
    }
    Ok((group, context))
}

/// As [`welcomed`], back into a case: by a committer whose owner was counsel as far as this device knows.
pub(super) fn welcomed_back(
    me: &Me,
    members: &[MemberRecord],
    packet: &Packet,
    private: &[u8],
    entropy: &mut Entropy,
) -> Result<(Group, CaseContext), Error> {
    let (group, context) = welcomed(me, packet, private, entropy)?;
    let leaves = group.members();
    let mut leaves = leaves.iter().map(judge::LeafKeys::from);
    let committer = leaves.find(|leaf| Some(leaf.key) == context.committer);
    let identity = committer.and_then(|leaf| leaf.identity);
    let counsel = |known: &MemberRecord| Some(known.identity) == identity && known.role == Role::Counsel;
    if members.iter().any(counsel) {
        Ok((group, context))
    } else {
        Err(junk())
    }
}

/// The right to seal that a packet brings, if it is that of the epoch.
pub(super) fn kept(packet: &Packet, context: &CaseContext) -> Option<Token<Keeper>> {
    let secrets = packet.secrets.as_ref()?;
    (secrets.keep.hash() == context.keep).then(|| secrets.keep.clone())
}

pub(super) fn rescue_records(secrets: CounselSecrets) -> Vec<RescueRecord> {
    let rescues = secrets.rescues.into_iter();
    rescues
        .map(|(identity, seeds)| RescueRecord {
            identity,
            seeds,
            cursor: None,
        })
        .collect()
}
