//! What goes into and comes out of a group: members, changes, commits and messages; and how a commit of ours is made.

use martlet_proto::Secret;
use openmls::prelude::{
    Extension, ExtensionType, Extensions, GroupContext, KeyPackage, LeafNodeIndex, MlsGroup, MlsMessageOut,
    RequiredCapabilitiesExtension, UnknownExtension,
};
use openmls_traits::OpenMlsProvider as _;
use tls_codec::Serialize as _;
use zeroize::Zeroizing;

use super::{CONTEXT_EXTENSION, MlsError, Provider, Staged, package::LeafSigner, refusal};

/// One leaf of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its place in the tree, which a later member may be given after its removal.
    pub index: u32,
    /// The content of its basic credential.
    pub credential: Vec<u8>,
    /// Its Ed25519 public key.
    pub signature_key: [u8; 32],
    /// Its X-Wing public key for `keep` tokens, which counsel's leaves have.
    pub keep_key: Option<Vec<u8>>,
}

/// What a commit is to change. It always refreshes the sender's own keys as well.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Key packages of those to add, passed by [`inspect_package`](super::inspect_package) before.
    pub add: Vec<Vec<u8>>,
    /// Leaf indices of those to remove; removed before the others are added.
    pub remove: Vec<u32>,
    /// The case's new context, if it changes.
    pub context: Option<Vec<u8>>,
    /// Data to send beside the commit, in clear but signed.
    pub aad: Vec<u8>,
}

/// A commit of ours, pending until it is merged or cleared.
#[derive(Debug)]
pub struct Commit {
    /// The MLSMessage for the members of the epoch that ends.
    pub message: Vec<u8>,
    /// The MLSMessage for all those added, if any were.
    pub welcome: Option<Vec<u8>>,
    /// The [`epoch_secret`](super::Group::epoch_secret) of the epoch it leads to.
    pub next: Secret<32>,
}

/// What a message was.
#[derive(Debug)]
pub enum Processed {
    /// A letter of another member.
    Letter {
        /// The leaf index of its sender.
        sender: u32,
        /// Its content.
        body: Zeroizing<Vec<u8>>,
        /// The data sent beside it, in clear but signed.
        aad: Vec<u8>,
    },
    /// A commit of another member, to be judged.
    Commit(Box<Staged>),
    /// It says that it is a letter of this leaf. Any member could have made it say so: compare it with what was sent.
    Own,
    /// It says that it is a commit of this leaf. Any member could have made it say so: compare it with what was sent.
    OwnCommit,
    /// A proposal of its own, which a case has no use for. It was dropped.
    Proposal,
}

pub(super) fn stage(
    group: &mut MlsGroup,
    provider: &Provider,
    signer: &LeafSigner,
    add: Vec<KeyPackage>,
    remove: Vec<u32>,
    context: Option<&[u8]>,
) -> Result<(Vec<u8>, Option<Vec<u8>>), MlsError> {
    let mut builder = group
        .commit_builder()
        .consume_proposal_store(false)
        .force_self_update(true)
        .propose_removals(remove.into_iter().map(LeafNodeIndex::new))
        .propose_adds(add);
    if let Some(context) = context {
        builder = builder
            .propose_group_context_extensions(context_extensions(context)?)
            .map_err(|_| MlsError::Inapplicable)?;
    }
    let (message, welcome, _) = builder
        .load_psks(provider.storage())
        .map_err(|why| refusal::commit(&why))?
        .build(provider.rand(), provider.crypto(), signer, |_| true)
        .map_err(|why| refusal::commit(&why))?
        .stage_commit(provider)
        .map_err(|_| MlsError::Internal)?
        .into_messages();
    Ok((
        message_bytes(&message)?,
        welcome.as_ref().map(message_bytes).transpose()?,
    ))
}

pub(super) fn context_extensions(context: &[u8]) -> Result<Extensions<GroupContext>, MlsError> {
    let required = RequiredCapabilitiesExtension::new(&[ExtensionType::Unknown(CONTEXT_EXTENSION)], &[], &[]);
    Extensions::from_vec(vec![
        Extension::RequiredCapabilities(required),
        Extension::Unknown(CONTEXT_EXTENSION, UnknownExtension(context.to_vec())),
    ])
    .map_err(|_| MlsError::Internal)
}

pub(super) fn message_bytes(message: &MlsMessageOut) -> Result<Vec<u8>, MlsError> {
    message.tls_serialize_detached().map_err(|_| MlsError::Internal)
}
