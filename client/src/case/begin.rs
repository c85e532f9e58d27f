//! How a case begins: the client founds it, counsel joins it. SPEC.md 10.1.

use martlet_proto::{
    Time,
    card::Card,
    case::{CaseContext, Packet, Role},
    invite::Invite,
};

use super::{BTreeMap, Beginning, Case, Epoch, internal, member, parse_context};
use crate::{
    contact::seal_packet,
    entropy::Entropy,
    error::{Error, Usage},
    identity::behind_leaf,
    me::Me,
    mls::{Change, Group},
    record::{InviteRecord, OutRecord, encode},
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
        entropy: &mut Entropy,
    ) -> Result<(Self, Batch), Error> {
        let card = card.get();
        if card.identity == me.identity().public() {
            return Err(Error::Usage(Usage::OwnInvite));
        }
        let keep = entropy.keeper();
        let mut roles = vec![
            (me.identity().public(), Role::Client),
            (card.identity, Role::Counsel),
        ];
        roles.sort_by_key(|(identity, _)| *identity);
        let context = CaseContext {
            version: 1,
            roles,
            committer: None,
            relay: invite.relay(),
            keep: keep.hash(),
            client_days: None,
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
        let packet = Packet {
            welcome: commit
                .welcome
                .ok_or(Error::Internal("a commit that adds has no welcome"))?,
            rescue_counsel: entropy.secret(),
            rescue_client: entropy.secret(),
            keep,
            name: me.name().to_string(),
        };
        let envelope = seal_packet(&card.inbox, &invite.pin, &packet, entropy)?;
        let contact = OutRecord::Contact {
            inbox: card.inbox.clone(),
            entry: entropy.entry(),
            envelope,
        };
        let record = Beginning {
            id,
            label,
            members: vec![
                member(me.identity().public(), me.name(), Role::Client),
                member(card.identity, &card.name, Role::Counsel),
            ],
            rescue_counsel: packet.rescue_counsel.clone(),
            rescue_client: packet.rescue_client.clone(),
            relay: invite.relay(),
            admission: card.admission.clone(),
            commit_due: false,
        }
        .record();
        let mut case = Self {
            index,
            record,
            epoch: Epoch::of(&group)?,
            group,
            keep: None,
            pending: None,
            letters: BTreeMap::new(),
            by_id: BTreeMap::new(),
            outbox: BTreeMap::new(),
            caught_up: false,
            must_open: false,
            inbox_must_open: false,
        };
        let mut batch = Batch::default();
        case.put_out(contact, &mut batch)?;
        case.save(&mut batch)?;
        Ok((case, batch))
    }

    /// Counsel's side: joins by a packet from an inbox. The first commit is due when the log was read.
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
        entropy: &mut Entropy,
    ) -> Result<(Self, Batch), Error> {
        let junk = || Error::Protocol("a packet is not what it should be");
        let group = Group::join(entropy.secret(), me.leaf(), private, &packet.welcome).map_err(|_| junk())?;
        let id: [u8; 16] = group.id().try_into().map_err(|_| junk())?;
        let context = parse_context(&group.context().map_err(internal)?)?;
        let mine = me.identity().public();
        let [(one, _), (other, _)] = context.roles.as_slice() else {
            return Err(junk());
        };
        let client = if *one == mine { *other } else { *one };
        let known = context.role(&mine) == Some(Role::Counsel) && context.role(&client) == Some(Role::Client);
        let honest = group.members().iter().all(|member| {
            let identity = behind_leaf(&member.credential, &member.signature_key);
            identity == Some(client) || identity == Some(mine)
        });
        let here = context.relay.pin == invite.home.relay.pin && context.keep == packet.keep.hash();
        if !known || !honest || !here || client == mine {
            return Err(junk());
        }
        let record = Beginning {
            id,
            label: invite.label.clone().unwrap_or_default(),
            members: vec![
                member(client, &packet.name, Role::Client),
                member(mine, me.name(), Role::Counsel),
            ],
            rescue_counsel: packet.rescue_counsel.clone(),
            rescue_client: packet.rescue_client.clone(),
            relay: invite.home.relay.clone(),
            admission: Some(invite.home.admission.clone()),
            commit_due: true,
        }
        .record();
        let case = Self {
            index,
            record,
            epoch: Epoch::of(&group)?,
            group,
            keep: Some(packet.keep),
            pending: None,
            letters: BTreeMap::new(),
            by_id: BTreeMap::new(),
            outbox: BTreeMap::new(),
            caught_up: false,
            must_open: false,
            inbox_must_open: false,
        };
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
