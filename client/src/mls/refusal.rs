//! OpenMLS's many errors, sorted by who must act.

use openmls::{
    framing::errors::{MessageDecryptionError, SecretTreeError},
    group::{CreateCommitError, MlsGroupStateError, ProcessMessageError, ValidationError, WelcomeError},
    prelude::KeyPackageVerifyError,
};

use super::{EpochOrder, MlsError};

/// Why a message was not processed.
pub(super) fn process<S>(why: &ProcessMessageError<S>) -> MlsError {
    match why {
        ProcessMessageError::ValidationError(why) => validation(why),
        ProcessMessageError::GroupStateError(why) => state(why),
        ProcessMessageError::InvalidCommit(_) => MlsError::Inapplicable,
        ProcessMessageError::IncompatibleWireFormat
        | ProcessMessageError::UnauthorizedExternalApplicationMessage
        | ProcessMessageError::UnauthorizedExternalCommitMessage
        | ProcessMessageError::UnsupportedProposalType => MlsError::Malformed,
        ProcessMessageError::LibraryError(_) | ProcessMessageError::StorageError(_) => MlsError::Internal,
    }
}

fn validation(why: &ValidationError) -> MlsError {
    match why {
        ValidationError::LibraryError(_) => MlsError::Internal,
        ValidationError::WrongGroupId => MlsError::OtherGroup,
        ValidationError::WrongEpoch => MlsError::WrongEpoch(EpochOrder::Newer),
        ValidationError::NoPastEpochData => MlsError::WrongEpoch(EpochOrder::Older),
        ValidationError::UnableToDecrypt(why) => decryption(why),
        ValidationError::InvalidSignature | ValidationError::UnknownMember => MlsError::Undecryptable,
        // The only part of the check of an Add that depends on the reader.
        ValidationError::KeyPackageVerifyError(KeyPackageVerifyError::LifetimeError(_)) => {
            MlsError::Inapplicable
        }
        _ => MlsError::Malformed,
    }
}

fn decryption(why: &MessageDecryptionError) -> MlsError {
    match why {
        MessageDecryptionError::LibraryError(_) => MlsError::Internal,
        MessageDecryptionError::SecretTreeError(SecretTreeError::SecretReuseError) => MlsError::AlreadySeen,
        MessageDecryptionError::GenerationOutOfBound
        | MessageDecryptionError::SecretTreeError(
            SecretTreeError::TooDistantInThePast | SecretTreeError::TooDistantInTheFuture,
        ) => MlsError::OutOfReach,
        MessageDecryptionError::MalformedContent => MlsError::Malformed,
        _ => MlsError::Undecryptable,
    }
}

/// What the group's own state forbids.
pub(super) fn state(why: &MlsGroupStateError) -> MlsError {
    match why {
        MlsGroupStateError::UseAfterEviction => MlsError::Removed,
        MlsGroupStateError::PendingCommit => MlsError::Pending,
        MlsGroupStateError::NoPendingCommit => MlsError::NotPending,
        MlsGroupStateError::LibraryError(_)
        | MlsGroupStateError::PendingProposal
        | MlsGroupStateError::PendingProposalNotFound => MlsError::Internal,
    }
}

/// Why a Welcome was not accepted.
pub(super) fn welcome<S>(why: &WelcomeError<S>) -> MlsError {
    match why {
        WelcomeError::NoMatchingKeyPackage | WelcomeError::JoinerSecretNotFound => MlsError::OtherPackage,
        WelcomeError::CiphersuiteMismatch
        | WelcomeError::UnsupportedCiphersuite(_)
        | WelcomeError::UnsupportedMlsVersion
        | WelcomeError::UnsupportedCapability
        | WelcomeError::UnsupportedExtensions => MlsError::Unsupported,
        WelcomeError::GroupSecrets(_) | WelcomeError::UnableToDecrypt | WelcomeError::GroupInfo(_) => {
            MlsError::Undecryptable
        }
        WelcomeError::LibraryError(_) | WelcomeError::StorageError(_) => MlsError::Internal,
        _ => MlsError::Malformed,
    }
}

/// Why a key package is no good.
pub(super) fn package(why: &KeyPackageVerifyError) -> MlsError {
    match why {
        KeyPackageVerifyError::LibraryError(_) => MlsError::Internal,
        KeyPackageVerifyError::LifetimeError(_) => MlsError::PackageExpired,
        KeyPackageVerifyError::UnsupportedExtension => MlsError::Unsupported,
        _ => MlsError::Malformed,
    }
}

/// Why a commit of ours was not made.
pub(super) fn commit(why: &CreateCommitError) -> MlsError {
    match why {
        CreateCommitError::CannotRemoveSelf
        | CreateCommitError::ProposalValidationError(_)
        | CreateCommitError::GroupContextExtensionsProposalValidationError(_)
        | CreateCommitError::TreeSyncAddLeaf(_) => MlsError::Inapplicable,
        _ => MlsError::Internal,
    }
}
