//! One case's MLS group, as a value.
//!
//! Every method works in memory. What it changed is durable when the caller has stored [`Group::to_blob`]; a letter
//! or commit must not leave the device before that. After an error the group is as it was before the call.

use martlet_proto::Secret;
use openmls::{
    group::{MergeCommitError, MergePendingCommitError},
    prelude::{
        GroupId, Lifetime, MlsGroup, MlsGroupJoinConfig, MlsMessageBodyIn, MlsMessageIn,
        PURE_CIPHERTEXT_WIRE_FORMAT_POLICY, ProcessedMessageContent, ProtocolMessage, Sender,
        SenderRatchetConfiguration, StagedWelcome,
    },
};
use openmls_traits::OpenMlsProvider as _;
use tls_codec::DeserializeBytes as _;
use zeroize::Zeroizing;

use super::{
    Change, Commit, EPOCH_LABEL, EpochOrder, Leaf, Member, MlsError, Processed, Provider, SUITE, Staged,
    blob, change,
    package::{self, LeafSigner},
    refusal, staged,
};

/// Letters that may come this much later than newer ones of the same sender.
const LATE_LETTERS_MAX: u32 = 32;
/// Letters of one sender that may be missing before the next one that is opened.
const MISSING_LETTERS_MAX: u32 = 2000;

/// A case's group, with the private state of this device's leaf.
pub struct Group {
    group: MlsGroup,
    provider: Provider,
    signer: LeafSigner,
    /// Until the next start: the leaf key that signed the Welcome by which it was joined.
    welcomed_by: Option<[u8; 32]>,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Group(..)")
    }
}

/// Whether bytes are a Welcome, for whomever.
pub fn is_welcome(bytes: &[u8]) -> bool {
    let message = MlsMessageIn::tls_deserialize_exact_bytes(bytes);
    message.is_ok_and(|message| matches!(message.extract(), MlsMessageBodyIn::Welcome(_)))
}

impl Group {
    /// Creates a group with one member, in epoch 0.
    ///
    /// # Errors
    ///
    /// [`MlsError::Internal`] if OpenMLS fails.
    pub fn create(
        seed: Secret<32>,
        leaf: &Leaf,
        group_id: &[u8],
        context: &[u8],
        keep_key: Option<&[u8]>,
    ) -> Result<Self, MlsError> {
        let (provider, signer) = (Provider::new(seed), LeafSigner::from(leaf));
        let group = MlsGroup::builder()
            .with_group_id(GroupId::from_slice(group_id))
            .ciphersuite(SUITE)
            // The first commit replaces this leaf, so no one else ever sees a lifetime in it.
            .lifetime(Lifetime::init(0, u64::MAX))
            .with_capabilities(package::capabilities())
            .with_leaf_node_extensions(package::leaf_extensions(keep_key)?)
            .map_err(|_| MlsError::Internal)?
            .with_group_context_extensions(change::context_extensions(context)?)
            .with_wire_format_policy(PURE_CIPHERTEXT_WIRE_FORMAT_POLICY)
            .use_ratchet_tree_extension(true)
            .sender_ratchet_configuration(ratchet())
            .max_past_epochs(0)
            .padding_size(0)
            .build(&provider, &signer, leaf.credential_with_key())
            .map_err(|_| MlsError::Internal)?;
        blob::forget_resumption(provider.storage())?;
        let group = MlsGroup::load(provider.storage(), group.group_id())
            .ok()
            .flatten();
        Ok(Self {
            group: group.ok_or(MlsError::Internal)?,
            provider,
            signer,
            welcomed_by: None,
        })
    }

    /// Joins a group by a Welcome and the private half of the key package it names.
    ///
    /// # Errors
    ///
    /// [`MlsError::OtherPackage`] if it names another one; [`MlsError::Malformed`], [`MlsError::Undecryptable`] or
    /// [`MlsError::Unsupported`] for what the sender did wrong; [`MlsError::Damaged`] or [`MlsError::OtherLeaf`] for
    /// wrong arguments.
    pub fn join(
        seed: Secret<32>,
        leaf: &Leaf,
        package_private: &[u8],
        welcome: &[u8],
    ) -> Result<Self, MlsError> {
        let provider = Provider::new(seed);
        blob::unpack(package_private, provider.storage())?;
        let message = MlsMessageIn::tls_deserialize_exact_bytes(welcome).map_err(|_| MlsError::Malformed)?;
        let MlsMessageBodyIn::Welcome(welcome) = message.extract() else {
            return Err(MlsError::Malformed);
        };
        let config = MlsGroupJoinConfig::builder()
            .wire_format_policy(PURE_CIPHERTEXT_WIRE_FORMAT_POLICY)
            .use_ratchet_tree_extension(true)
            .sender_ratchet_configuration(ratchet())
            .max_past_epochs(0)
            .padding_size(0)
            .number_of_resumption_psks(0)
            .build();
        let staged = StagedWelcome::build_from_welcome(&provider, &config, welcome)
            .and_then(|builder| builder.skip_lifetime_validation().build())
            .map_err(|why| refusal::welcome(&why))?;
        let by = staged.welcome_sender().map_err(|_| MlsError::Malformed)?;
        let by = by.signature_key().as_slice().try_into();
        let by: [u8; 32] = by.map_err(|_| MlsError::Malformed)?;
        let group = staged
            .into_group(&provider)
            .map_err(|why| refusal::welcome(&why))?;
        let group = Self {
            group,
            provider,
            signer: LeafSigner::from(leaf),
            welcomed_by: Some(by),
        };
        if group.group.ciphersuite() != SUITE || staged::context(group.group.extensions()).is_none() {
            return Err(MlsError::Unsupported);
        }
        group.check_leaf()
    }

    /// Everything this device needs to go on: secret, not encrypted, and of one moment. Never go back to an older one.
    ///
    /// # Errors
    ///
    /// [`MlsError::Internal`] only.
    pub fn to_blob(&self) -> Result<Zeroizing<Vec<u8>>, MlsError> {
        blob::pack(self.group.group_id().as_slice(), self.provider.storage())
    }

    /// Goes on from a blob, with a fresh seed.
    ///
    /// # Errors
    ///
    /// [`MlsError::Damaged`] if it is not one of ours, [`MlsError::OtherLeaf`] if it belongs to another leaf.
    pub fn from_blob(seed: Secret<32>, leaf: &Leaf, blob: &[u8]) -> Result<Self, MlsError> {
        let provider = Provider::new(seed);
        let id = blob::unpack(blob, provider.storage())?;
        let group = MlsGroup::load(provider.storage(), &GroupId::from_slice(&id))
            .ok()
            .flatten()
            .ok_or(MlsError::Damaged)?;
        Self {
            group,
            provider,
            signer: LeafSigner::from(leaf),
            welcomed_by: None,
        }
        .check_leaf()
    }

    /// The leaf key that signed the Welcome, in the program that joined by it.
    pub fn welcomed_by(&self) -> Option<[u8; 32]> {
        self.welcomed_by
    }

    /// The group's id.
    pub fn id(&self) -> &[u8] {
        self.group.group_id().as_slice()
    }

    /// The number of the current epoch.
    pub fn epoch(&self) -> u64 {
        self.group.epoch().as_u64()
    }

    /// Whether this device is still a member.
    pub fn is_active(&self) -> bool {
        self.group.is_active()
    }

    /// The case's context in the current epoch.
    ///
    /// # Errors
    ///
    /// [`MlsError::Internal`] only: a group without one is not joined.
    pub fn context(&self) -> Result<Vec<u8>, MlsError> {
        staged::context(self.group.extensions()).ok_or(MlsError::Internal)
    }

    /// All members, this one included, in the order of their leaves.
    pub fn members(&self) -> Vec<Member> {
        let leaves = self.group.members().filter_map(|member| {
            let leaf = self.group.public_group().leaf(member.index)?;
            Some(Member {
                index: member.index.u32(),
                credential: leaf.credential().serialized_content().to_vec(),
                signature_key: leaf.signature_key().as_slice().try_into().ok()?,
                keep_key: package::keep_key(leaf),
            })
        });
        leaves.collect()
    }

    /// This device's leaf index.
    pub fn own_index(&self) -> u32 {
        self.group.own_leaf_index().u32()
    }

    /// The secret of the current epoch from which its channel is derived.
    ///
    /// # Errors
    ///
    /// [`MlsError::Removed`] after this device's removal.
    pub fn epoch_secret(&self) -> Result<Secret<32>, MlsError> {
        if !self.is_active() {
            return Err(MlsError::Removed);
        }
        let secret = self
            .group
            .export_secret(self.provider.crypto(), EPOCH_LABEL, b"", 32);
        let secret = Zeroizing::new(secret.map_err(|_| MlsError::Internal)?);
        Secret::from_slice(&secret).ok_or(MlsError::Internal)
    }

    /// What members compare by voice to be sure that they are in the same epoch.
    pub fn epoch_authenticator(&self) -> Vec<u8> {
        self.group.epoch_authenticator().as_slice().to_vec()
    }

    /// Encrypts a letter for the current epoch: an MLSMessage. Store the blob before sending it.
    ///
    /// # Errors
    ///
    /// [`MlsError::Removed`] after this device's removal.
    pub fn encrypt(&mut self, body: &[u8], aad: &[u8]) -> Result<Vec<u8>, MlsError> {
        if !self.is_active() {
            return Err(MlsError::Removed);
        }
        self.group.set_aad(aad.to_vec());
        let message = self.group.create_message(&self.provider, &self.signer, body);
        self.group.set_aad(Vec::new());
        change::message_bytes(&message.map_err(|_| MlsError::Internal)?)
    }

    /// Makes a commit and leaves it pending. Store the blob before sending it.
    ///
    /// # Errors
    ///
    /// [`MlsError::Pending`] if there is one already, [`MlsError::Removed`] after removal, [`MlsError::Inapplicable`]
    /// if the change makes no sense, and those of [`inspect_package`](super::inspect_package).
    pub fn commit(&mut self, change: Change) -> Result<Commit, MlsError> {
        if self.has_pending() {
            return Err(MlsError::Pending);
        }
        if !self.is_active() {
            return Err(MlsError::Removed);
        }
        let crypto = self.provider.crypto();
        let add = change
            .add
            .iter()
            .map(|bytes| package::read(bytes, crypto))
            .collect::<Result<Vec<_>, _>>()?;
        self.group.set_aad(change.aad);
        let bundle = change::stage(
            &mut self.group,
            &self.provider,
            &self.signer,
            add,
            change.remove,
            change.context.as_deref(),
        );
        self.group.set_aad(Vec::new());
        let (message, welcome) = bundle?;
        let pending = self.group.pending_commit().ok_or(MlsError::Internal)?;
        let next = staged::next_secret(pending, self.provider.crypto())?;
        Ok(Commit {
            message,
            welcome,
            next,
        })
    }

    /// Whether a commit of ours is pending.
    pub fn has_pending(&self) -> bool {
        self.group.pending_commit().is_some()
    }

    /// Goes on to the epoch of our pending commit.
    ///
    /// # Errors
    ///
    /// [`MlsError::NotPending`] if there is none.
    pub fn merge_pending(&mut self) -> Result<(), MlsError> {
        if !self.has_pending() {
            return Err(MlsError::NotPending);
        }
        self.group
            .merge_pending_commit(&self.provider)
            .map_err(|why| match why {
                MergePendingCommitError::MlsGroupStateError(why) => refusal::state(&why),
                MergePendingCommitError::MergeCommitError(_) => MlsError::Internal,
            })
    }

    /// Forgets our pending commit, if there is one.
    ///
    /// # Errors
    ///
    /// [`MlsError::Internal`] only.
    pub fn clear_pending(&mut self) -> Result<(), MlsError> {
        self.group
            .clear_pending_commit(self.provider.storage())
            .map_err(|_| MlsError::Internal)
    }

    /// Opens a message of the current epoch. A commit is only applied by [`merge`](Self::merge).
    ///
    /// # Errors
    ///
    /// Those of [`MlsError`] that name the peer or the log. The group remains usable.
    pub fn process(&mut self, message: &[u8]) -> Result<Processed, MlsError> {
        let message = MlsMessageIn::tls_deserialize_exact_bytes(message).map_err(|_| MlsError::Malformed)?;
        // OpenMLS would take an external commit in a PublicMessage whatever the wire format policy says.
        let MlsMessageBodyIn::PrivateMessage(message) = message.extract() else {
            return Err(MlsError::Malformed);
        };
        let message = ProtocolMessage::from(message);
        if message.group_id() != self.group.group_id() {
            return Err(MlsError::OtherGroup);
        }
        match message.epoch().as_u64().cmp(&self.epoch()) {
            std::cmp::Ordering::Less => return Err(MlsError::WrongEpoch(EpochOrder::Older)),
            std::cmp::Ordering::Greater => return Err(MlsError::WrongEpoch(EpochOrder::Newer)),
            std::cmp::Ordering::Equal => {}
        }
        let handshake = message.is_handshake_message();
        let processed = self
            .group
            .process_message(&self.provider, message)
            .map_err(|why| refusal::process(&why))?;
        let Sender::Member(sender) = *processed.sender() else {
            return Err(MlsError::Malformed);
        };
        let aad = processed.aad().to_vec();
        match processed.into_content() {
            ProcessedMessageContent::ApplicationMessage(letter) => Ok(Processed::Letter {
                sender: sender.u32(),
                body: Zeroizing::new(letter.into_bytes()),
                aad,
            }),
            ProcessedMessageContent::StagedCommitMessage(commit) => {
                let crypto = self.provider.crypto();
                let staged = Staged::judge(&self.group, crypto, sender.u32(), aad, commit)?;
                Ok(Processed::Commit(Box::new(staged)))
            }
            ProcessedMessageContent::OwnPendingCommit => Ok(Processed::OwnCommit),
            ProcessedMessageContent::OwnPrivateMessage if handshake => Ok(Processed::OwnCommit),
            ProcessedMessageContent::OwnPrivateMessage => Ok(Processed::Own),
            ProcessedMessageContent::ProposalMessage(_)
            | ProcessedMessageContent::ExternalJoinProposalMessage(_) => Ok(Processed::Proposal),
        }
    }

    /// Applies another member's commit. A pending commit of ours is forgotten.
    ///
    /// # Errors
    ///
    /// [`MlsError::OtherGroup`] if it is not of this group's current epoch.
    pub fn merge(&mut self, staged: Staged) -> Result<(), MlsError> {
        let commit = staged.into_commit_for(&self.group)?;
        self.group
            .merge_staged_commit(&self.provider, commit)
            .map_err(|_: MergeCommitError<_>| MlsError::Internal)
    }

    /// Refuses a leaf whose key is not the one in the group.
    fn check_leaf(self) -> Result<Self, MlsError> {
        let key = self
            .group
            .own_leaf_node()
            .map(|leaf| leaf.signature_key().as_slice());
        // A removed member has no leaf any more, and nothing to sign.
        if self.is_active() && key != Some(self.signer.public().as_slice()) {
            return Err(MlsError::OtherLeaf);
        }
        Ok(self)
    }
}

fn ratchet() -> SenderRatchetConfiguration {
    SenderRatchetConfiguration::new(LATE_LETTERS_MAX, MISSING_LETTERS_MAX)
}
