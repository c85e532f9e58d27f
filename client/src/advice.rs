//! What to do about each failure, in one or two short sentences. A failure without advice does not compile.

use crate::{Error, Mismatch, Missing};

impl Error {
    /// What the person can do.
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::Usage(_) => "Nothing was done. See `martlet help` for how to write the command.",
            Self::Link(_) => {
                "Copy the whole text again, from `martlet:` to its end. Spaces and capitals do not matter."
            }
            Self::NoVault => "Make one with `martlet init`, or say where it is with --home.",
            Self::VaultExists => {
                "Nothing was changed. Use it as it is, or choose another folder with --home."
            }
            Self::VaultBusy => "Wait until the other martlet is done, then try again. Nothing is lost.",
            Self::Passphrase => "Try again; capitals and spaces count. Nobody can reset a passphrase.",
            Self::VaultDamaged(_) => "Do not delete it. Copy the folder somewhere safe, then ask for help.",
            Self::VaultRolledBack => {
                "Do not write from this copy. Use the newest one, or start anew with a new vault and invite."
            }
            Self::DiskFull => "Free some space on this device, then run it again. What was stored is safe.",
            Self::File(_) => "Check that the file or folder exists and that you may use it, then try again.",
            Self::Unreachable => "Nothing is lost. Check the internet connection, then run `martlet sync`.",
            Self::Verification(Mismatch::Pin) => {
                "Somebody may be in between. Do not go on; try another network, or ask for a new link."
            }
            Self::Verification(Mismatch::CardHash | Mismatch::CardSignature | Mismatch::CardPackage) => {
                "This may not be the person you mean. Ask them, by voice or in person, for a new invite."
            }
            Self::Verification(Mismatch::Document) => {
                "The document was not kept. Ask its sender to send it again."
            }
            Self::NotFound(Missing::Expired) => "Ask its sender to send the document again.",
            Self::NotFound(Missing::InviteExpired) => "Ask for a new invite.",
            Self::NotFound(Missing::Case) => "`martlet cases` lists the cases.",
            Self::NotFound(Missing::Member) => "`martlet cases` lists the members of each case.",
            Self::NotFound(Missing::Document) => "`martlet read CASE --all` lists the documents of a case.",
            Self::NotFound(Missing::Invite) => "`martlet invites` lists your invites.",
            Self::Refused(_) => {
                "What was to be sent is kept. Try again later; if it goes on, ask whoever runs the relay."
            }
            Self::Protocol(_) => {
                "Nothing was shown that could not be checked. Update martlet; if it goes on, tell whoever runs the relay."
            }
            Self::Partly => "Run the same command again; it goes on where it stopped.",
            Self::Internal(_) => "This is a fault of martlet. Your vault is kept; please report it.",
        }
    }
}
