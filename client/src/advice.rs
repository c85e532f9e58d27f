//! Which words go with each failure: the keys under which `client/words/*.ftl` say what happened and what to do.
//!
//! A failure without keys does not compile; that each key has words in each language, the `martlet` binary's tests show.

use crate::{Error, Mismatch, Missing, Usage, error::Undrawn};

/// The keys of what is said about one failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words {
    /// What happened.
    pub err: &'static str,
    /// What the person can do.
    pub advice: &'static str,
}

macro_rules! words {
    ($($failure:pat => $err:literal, $advice:literal;)*) => {
        impl Words {
            /// Every pair that [`Error::words`] can give.
            pub const ALL: &[Self] = &[$(Self { err: $err, advice: $advice }),*];
        }

        impl Error {
            /// The keys of what happened and what to do.
            pub const fn words(&self) -> Words {
                match self {
                    $($failure => Words { err: $err, advice: $advice },)*
                }
            }
        }
    };
}

words! {
    Self::Usage(Usage::TextTooLong) => "err-usage-text-too-long", "do-usage";
    Self::Usage(Usage::TextEmpty) => "err-usage-text-empty", "do-usage";
    Self::Usage(Usage::NameTooLong) => "err-usage-name-too-long", "do-usage";
    Self::Usage(Usage::DocumentTooLarge) => "err-usage-document-too-large", "do-usage";
    Self::Usage(Usage::NotAFile) => "err-usage-not-a-file", "do-usage";
    Self::Usage(Usage::NoRelay) => "err-usage-no-relay", "do-usage";
    Self::Usage(Usage::Days) => "err-usage-days", "do-usage";
    Self::Usage(Usage::Ambiguous) => "err-usage-ambiguous", "do-usage";
    Self::Usage(Usage::OwnInvite) => "err-usage-own-invite", "do-usage";
    Self::Usage(Usage::CaseEnded) => "err-usage-case-ended", "do-usage";
    Self::Usage(Usage::NotCounsel) => "err-usage-not-counsel", "do-usage";
    Self::Usage(Usage::NotCommitter) => "err-usage-not-committer", "do-not-committer";
    Self::Usage(Usage::AlreadyMember) => "err-usage-already-member", "do-usage";
    Self::Usage(Usage::OtherRelay) => "err-usage-other-relay", "do-other-relay";
    Self::Usage(Usage::TooManyMembers) => "err-usage-too-many-members", "do-usage";
    Self::Usage(Usage::TooManyRelays) => "err-usage-too-many-relays", "do-usage";
    Self::Usage(Usage::Yourself) => "err-usage-yourself", "do-yourself";
    Self::Usage(Usage::NoRescue) => "err-usage-no-rescue", "do-no-rescue";
    Self::Usage(Usage::RecoveryDigits) => "err-usage-recovery-digits", "do-recovery-digits";
    Self::Usage(Usage::NotThisDevice) => "err-usage-not-this-device", "do-usage";
    Self::Usage(Usage::InUse) => "err-usage-in-use", "do-in-use";
    Self::Usage(Usage::Change) => "err-usage-change", "do-usage";
    Self::Usage(Usage::CaseRestored) => "err-usage-case-restored", "do-case-restored";
    Self::Link(_) => "err-bad-link", "do-bad-link";
    Self::NoVault => "err-no-vault", "do-no-vault";
    Self::VaultExists => "err-vault-exists", "do-vault-exists";
    Self::VaultBusy => "err-vault-busy", "do-vault-busy";
    Self::Passphrase => "err-wrong-passphrase", "do-wrong-passphrase";
    Self::VaultDamaged(_) => "err-vault-damaged", "do-vault-damaged";
    Self::VaultRolledBack => "err-vault-rolled-back", "do-vault-rolled-back";
    Self::ArchivePassphrase => "err-archive-passphrase", "do-archive-passphrase";
    Self::ArchiveDamaged(_) => "err-archive-damaged", "do-archive-damaged";
    Self::FileExists => "err-file-exists", "do-file-exists";
    Self::DiskFull => "err-disk-full", "do-disk-full";
    Self::File(_) => "err-file", "do-file";
    Self::Unreachable => "err-unreachable", "do-unreachable";
    Self::Verification(Mismatch::Pin) => "err-wrong-pin", "do-wrong-pin";
    Self::Verification(Mismatch::CardHash) => "err-wrong-card-hash", "do-wrong-card";
    Self::Verification(Mismatch::CardSignature) => "err-wrong-card-signature", "do-wrong-card";
    Self::Verification(Mismatch::CardPackage) => "err-wrong-card-package", "do-wrong-card";
    Self::Verification(Mismatch::Document) => "err-wrong-document", "do-wrong-document";
    Self::NotFound(Missing::Expired) => "err-expired", "do-expired";
    Self::NotFound(Missing::InviteExpired) => "err-invite-expired", "do-invite-expired";
    Self::NotFound(Missing::Case) => "err-not-found-case", "do-not-found-case";
    Self::NotFound(Missing::Member) => "err-not-found-member", "do-not-found-member";
    Self::NotFound(Missing::Admission) => "err-not-found-admission", "do-not-found-admission";
    Self::NotFound(Missing::Device) => "err-not-found-device", "do-not-found-device";
    Self::NotFound(Missing::Ask) => "err-not-found-ask", "do-not-found-ask";
    Self::NotFound(Missing::Document) => "err-not-found-document", "do-not-found-document";
    Self::NotFound(Missing::Invite) => "err-not-found-invite", "do-not-found-invite";
    Self::Refused(_) => "err-refused", "do-refused";
    Self::Protocol(_) => "err-protocol", "do-protocol";
    Self::Undrawn(Undrawn::Kind) => "err-undrawn-kind", "do-undrawn";
    Self::Undrawn(Undrawn::TooLarge) => "err-undrawn-too-large", "do-undrawn";
    Self::Undrawn(Undrawn::Damaged) => "err-undrawn-damaged", "do-undrawn";
    Self::Undrawn(Undrawn::TooSlow) => "err-undrawn-too-slow", "do-undrawn";
    Self::Undrawn(Undrawn::Broke) => "err-undrawn-broke", "do-undrawn";
    Self::Undrawn(Undrawn::NotConfined) => "err-undrawn-not-confined", "do-undrawn";
    Self::Partly => "err-partly", "do-partly";
    Self::Internal(_) => "err-internal", "do-internal";
}

impl Error {
    /// What is told of the failure beyond its kind, in technical English.
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::Link(why) => Some(why.to_string()),
            Self::File(why) => Some(why.to_string()),
            Self::Refused(why) => Some(why.to_string()),
            Self::VaultDamaged(why)
            | Self::ArchiveDamaged(why)
            | Self::Protocol(why)
            | Self::Internal(why) => Some((*why).to_string()),
            _ => None,
        }
    }
}
