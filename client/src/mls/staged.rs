//! A commit of another member, verified and not applied yet.

use martlet_proto::Secret;
use openmls::prelude::{Extensions, GroupContext, LeafNode, MlsGroup, Proposal, StagedCommit};

use super::{CONTEXT_EXTENSION, EPOCH_LABEL, MlsError, PackageInfo, package, provider::Crypto};

/// A commit that can be applied: what it would change, for the caller to judge before [`Group::merge`](super::Group::merge).
///
/// Apply it or throw the group away and load it again: the keys that opened it are used up.
pub struct Staged {
    commit: Box<StagedCommit>,
    group_id: Vec<u8>,
    sender: u32,
    aad: Vec<u8>,
    next: Option<Secret<32>>,
    context: Vec<u8>,
    added: Vec<PackageInfo>,
    removed: Vec<u32>,
}

impl std::fmt::Debug for Staged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Staged(..)")
    }
}

impl Staged {
    /// Refuses commits with anything but adds, removals by value, a context and an unchanged identity. Each rule is
    /// one that every member judges alike.
    pub(super) fn judge(
        group: &MlsGroup,
        crypto: &Crypto,
        sender: u32,
        aad: Vec<u8>,
        commit: Box<StagedCommit>,
    ) -> Result<Self, MlsError> {
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        for queued in commit.queued_proposals() {
            match queued.proposal() {
                Proposal::Add(add) => added.push(package::describe(add.key_package(), crypto)?),
                Proposal::Remove(remove) => removed.push(remove.removed().u32()),
                Proposal::GroupContextExtensions(_) => {}
                _ => return Err(MlsError::Malformed),
            }
        }
        let old = group
            .public_group()
            .leaf(openmls::prelude::LeafNodeIndex::new(sender));
        if !same_identity(old, commit.update_path_leaf_node()) {
            return Err(MlsError::Malformed);
        }
        let next = if commit.self_removed() {
            None
        } else {
            Some(next_secret(&commit, crypto)?)
        };
        let context = context(commit.group_context().extensions()).ok_or(MlsError::Malformed)?;
        let group_id = group.group_id().to_vec();
        Ok(Self {
            commit,
            group_id,
            sender,
            aad,
            next,
            context,
            added,
            removed,
        })
    }

    /// The leaf index of its sender.
    pub fn sender(&self) -> u32 {
        self.sender
    }

    /// The data sent beside it, in clear but signed.
    pub fn aad(&self) -> &[u8] {
        &self.aad
    }

    /// The number of the epoch it leads to.
    pub fn epoch(&self) -> u64 {
        self.commit.epoch().as_u64()
    }

    /// The [`epoch_secret`](super::Group::epoch_secret) of the epoch it leads to.
    ///
    /// # Errors
    ///
    /// [`MlsError::Removed`] if it removes this device.
    pub fn next(&self) -> Result<Secret<32>, MlsError> {
        self.next.clone().ok_or(MlsError::Removed)
    }

    /// The case's context in the epoch it leads to.
    pub fn context(&self) -> &[u8] {
        &self.context
    }

    /// The members it adds. Their credentials are not judged yet.
    pub fn added(&self) -> &[PackageInfo] {
        &self.added
    }

    /// The leaf indices of the members it removes.
    pub fn removed(&self) -> &[u32] {
        &self.removed
    }

    /// Whether it removes this device.
    pub fn removes_us(&self) -> bool {
        self.commit.self_removed()
    }

    /// The commit, if it belongs to this very state of this group.
    pub(super) fn into_commit_for(self, group: &MlsGroup) -> Result<StagedCommit, MlsError> {
        let due = group.epoch().as_u64().checked_add(1);
        if self.group_id != group.group_id().as_slice() || due != Some(self.epoch()) {
            return Err(MlsError::OtherGroup);
        }
        Ok(*self.commit)
    }
}

/// The epoch secret of the epoch that a staged commit, ours or another's, leads to.
pub(super) fn next_secret(commit: &StagedCommit, crypto: &Crypto) -> Result<Secret<32>, MlsError> {
    let secret = commit
        .export_secret(crypto, EPOCH_LABEL, b"", 32)
        .map_err(|_| MlsError::Internal)?;
    Secret::from_slice(&zeroize::Zeroizing::new(secret)).ok_or(MlsError::Internal)
}

/// The case's context among the extensions of a GroupContext.
pub(super) fn context(extensions: &Extensions<GroupContext>) -> Option<Vec<u8>> {
    extensions
        .unknown(CONTEXT_EXTENSION)
        .map(|extension| extension.0.clone())
}

fn same_identity(old: Option<&LeafNode>, new: Option<&LeafNode>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => {
            old.credential() == new.credential() && old.signature_key() == new.signature_key()
        }
        _ => false,
    }
}
