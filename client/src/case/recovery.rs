//! Recovery digits in a case: telling counsel their public keys, and proving by them who asks to come back.
//! SPEC.md 10.4.

use martlet_proto::{
    Secret, Time,
    case::{Rescue, Signature},
    letter::{Body, LetterId},
};

use super::Case;
use crate::{
    entropy::Entropy,
    error::{Error, Usage},
    identity::{leaf_public, sign_with_leaf, signed_by},
    me::Me,
    record::Ask,
    shown::name_of_member,
    vault::Batch,
    view::RequestView,
};

impl Case {
    /// Whether counsel could take this device in again, so that recovery digits are of use.
    pub fn can_return(&self) -> bool {
        self.record.rescue.is_some() && self.writable().is_ok()
    }

    /// Tells counsel the key of new recovery digits, in place of any before. Of the key only the public half is told, and
    /// nothing of it is kept.
    ///
    /// # Errors
    ///
    /// [`Usage::NoRescue`] where nobody could take this device in; as [`write`](Self::write).
    pub fn give_recovery(
        &mut self,
        me: &Me,
        id: LetterId,
        signer: &Secret<32>,
        now: Time,
    ) -> Result<Batch, Error> {
        if self.record.rescue.is_none() {
            return Err(Error::Usage(Usage::NoRescue));
        }
        self.write(me, id, &Body::Recovery(leaf_public(signer)), now)
    }

    /// A member has other recovery digits from now on.
    pub(super) fn take_recovery(&mut self, key: [u8; 32], from: [u8; 32], now: Time) {
        let mut members = self.record.members.iter_mut();
        if let Some(member) = members.find(|member| member.identity == from)
            && self.keep.is_some()
            && member.recovery.is_none_or(|(known, _)| known != key)
        {
            member.recovery = Some((key, now));
        }
    }

    /// Asks to be taken in again with a proof, in place of a request that has none.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask).
    pub fn ask_proved(
        &mut self,
        me: &Me,
        signer: &Secret<32>,
        now: Time,
        entropy: &mut Entropy,
    ) -> Result<Batch, Error> {
        let proof = prove(&self.record.id, me, signer);
        self.ask_with(me, Some(proof), now, entropy)
    }

    /// Since when the recovery digits are known that prove a request of this device.
    pub(super) fn proved(
        &self,
        identity: &[u8; 32],
        leaf: &[u8; 32],
        proof: Option<&Signature>,
    ) -> Option<Time> {
        let mut members = self.record.members.iter();
        let (key, since) = members.find(|member| member.identity == *identity)?.recovery?;
        let signed = Rescue::signed(&self.record.id, leaf);
        signed_by(&key, &signed, proof?).then_some(since)
    }

    /// Who asks for help, by which device and with which proof.
    pub(super) fn requests(&self) -> Vec<RequestView> {
        let view = |ask: &Ask| RequestView {
            member: name_of_member(&ask.identity),
            known_device: self.has_leaf(&ask.leaf),
            digits_since: ask.proved,
            received: ask.received,
        };
        self.record.asks.iter().map(view).collect()
    }
}

/// The proof that whoever knows the recovery digits wants this device to come back.
pub fn prove(case: &[u8; 16], me: &Me, signer: &Secret<32>) -> Signature {
    sign_with_leaf(signer, &Rescue::signed(case, me.leaf_public()))
}
