//! Further devices of people in a case: proposed, added, and told how to come in. SPEC.md 7.8 and 10.2.

use martlet_proto::{
    Time,
    case::{CounselSecrets, Packet, Role},
    device::{HISTORY_ROOM, Joining},
    letter::{Body, LetterId},
};

use super::{
    Beginning, Case,
    begin::{kept, rescue_records, welcomed},
    judge::LeafKeys,
};
use crate::{
    entropy::Entropy,
    error::Error,
    me::Me,
    record::{Standing, Wish},
    vault::Batch,
};

impl Case {
    /// Whether a device of this leaf key should be proposed: the case goes on, and has not heard of it.
    pub fn lacks_device(&self, leaf: &[u8; 32]) -> bool {
        self.record.standing == Standing::Member
            && self.epoch.context.committer.is_some()
            && !self.record.proposed.contains(leaf)
            && !self.has_leaf(leaf)
    }

    /// Whether a device of this leaf key is in the case.
    pub fn has_leaf(&self, leaf: &[u8; 32]) -> bool {
        let members = self.group.members();
        members.iter().any(|member| member.signature_key == *leaf)
    }

    /// The leaf keys of the owner's devices in this case.
    pub fn own_leaves(&self, me: &Me) -> Vec<[u8; 32]> {
        let mine = Some(me.identity().public());
        let members = self.group.members();
        let leaves = members.iter().map(LeafKeys::from);
        leaves
            .filter(|leaf| leaf.identity == mine)
            .map(|leaf| leaf.key)
            .collect()
    }

    /// Proposes a further device of the owner's: to oneself, or by a letter to whoever commits.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub fn propose_device(
        &mut self,
        me: &Me,
        leaf: &[u8; 32],
        package: Vec<u8>,
        id: LetterId,
        now: Time,
    ) -> Result<Batch, Error> {
        self.record.proposed.push(*leaf);
        if self.is_committer(me) {
            let identity = me.identity().public();
            return self.wish(Wish::Device { identity, package });
        }
        self.write(me, id, &Body::Device(package), now)
    }

    /// Has a device of the owner's removed, if it is here.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub fn withdraw_device(
        &mut self,
        me: &Me,
        leaf: &[u8; 32],
        id: LetterId,
        now: Time,
    ) -> Result<Batch, Error> {
        if self.record.standing != Standing::Member || !self.has_leaf(leaf) {
            return Ok(Batch::default());
        }
        if self.is_committer(me) {
            return self.wish(Wish::WithoutDevice { leaf: *leaf });
        }
        self.write(me, id, &Body::WithoutDevice(*leaf), now)
    }

    /// What a further device needs to come in, by the Welcome of the commit that has just been applied.
    pub(super) fn joining(&self, me: &Me, welcome: &[u8]) -> Joining {
        let counsel = self.role_of(&me.identity().public()) == Some(Role::Counsel);
        let secrets = self.keep.clone().filter(|_| counsel).map(|keep| CounselSecrets {
            keep,
            rescues: self
                .record
                .rescues
                .iter()
                .map(|rescue| (rescue.identity, rescue.seeds.clone()))
                .collect(),
        });
        let verified = self.record.members.iter().filter(|member| member.verified);
        Joining {
            packet: Packet {
                welcome: welcome.to_vec(),
                admission: self.record.admission.clone(),
                rescue: self.record.rescue.clone(),
                secrets,
                incarnation: self.record.reading.named,
            },
            relay: self.record.relay.clone(),
            label: self.record.label.clone(),
            verified: verified.map(|member| member.identity).collect(),
            apart: self.record.apart,
        }
    }

    /// Comes into a case as a further device of somebody who is in it.
    ///
    /// # Errors
    ///
    /// [`Error::Protocol`] if what was handed over does not fit.
    pub fn join_as_device(
        me: &Me,
        joining: Joining,
        private: &[u8],
        index: u64,
        now: Time,
        entropy: &mut Entropy,
    ) -> Result<(Self, Batch), Error> {
        let misfit = || Error::Protocol("a case that was handed over is not what it should be");
        let (group, context) = welcomed(me, &joining.packet, private, entropy)?;
        let id: [u8; 16] = group.id().try_into().map_err(|_| misfit())?;
        let keep = kept(&joining.packet, &context);
        let mut record = Beginning {
            id,
            label: joining.label,
            relay: joining.relay,
            admission: joining.packet.admission,
            rescue: joining.packet.rescue,
            rescues: joining.packet.secrets.map(rescue_records).unwrap_or_default(),
            commit_due: false,
        }
        .record(&context, now);
        for member in &mut record.members {
            member.verified = joining.verified.contains(&member.identity);
        }
        let mut case = Self::begin(index, record, group, keep, entropy)?;
        case.record.apart = joining.apart;
        case.record.reading.named = joining.packet.incarnation;
        case.record.next_letter = HISTORY_ROOM;
        let mut batch = Batch::default();
        case.save(&mut batch)?;
        Ok((case, batch))
    }
}
