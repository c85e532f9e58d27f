//! The rules that keep a case from getting stuck or forked (`SPEC.md`, 10), as two small worlds that are searched whole.
//!
//! [`case`] is a case over an honest relay: a client who writes, one or two devices of counsel, an insider who is to be
//! removed, crashes, absences, a seized device. It asks whether the honest can still bring every state to a good end.
//! [`fork`] is the same people under a relay that orders, withholds and forks as it likes. It asks what goes unnoticed.
//!
//! Not covered: bytes, keys and MLS itself (other tests); clocks (an expiry is a step that may come at any time); receipts
//! as letters (a receipt is what the client learns when counsel has read); what a removed device still reads of its own
//! epochs, which nothing can prevent; the number of counsel devices beyond two; loss of a relay's disk; and that a device which asks because its channel was
//! lost goes on beside asking (here it stops).

pub mod case;
pub mod fork;
pub mod search;

/// A rule that can be taken away, numbered as in the design; `SPEC.md` 10 says them in its own order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// 1: one device commits, and takes over on a person's command only.
    OneCommitter,
    /// 1: it never signs two commits for one epoch.
    OneCommitAnEpoch,
    /// 2: what is not a valid commit is skipped.
    SkipInvalid,
    /// 2: only counsel's commits are valid.
    CounselOnly,
    /// 2: the first valid commit wins, not the last.
    FirstWins,
    /// 2: who cannot apply a valid commit stops, and does not skip it.
    StopAtInapplicable,
    /// 3: the relay keeps room for the keeper.
    RoomForKeeper,
    /// Found here: the committer commits when the room for letters is full.
    CommitWhenFull,
    /// 4: nobody drops the channel of a case.
    NoDrop,
    /// 5: any member may open an epoch's channel.
    AnyoneOpens,
    /// 6: what is to be sent is stored before it is sent, and goes on after a crash.
    StoredFirst,
    /// 7: a channel that expired may be opened again.
    OpenAgain,
    /// 7: and in such a channel nobody writes letters.
    NoLettersInUnfamiliar,
    /// 7: the committer opens the next channel before it seals, and its commit names the incarnation.
    NamedIncarnation,
    /// 8: commits outlive letters.
    CommitsOutlive,
    /// 9: there are no standalone proposals.
    NoProposals,
    /// 10: a letter that was refused is encrypted again in the next epoch.
    EncryptAgain,
    /// 11: a letter is kept and sent again until there is a receipt.
    KeptUntilReceipt,
    /// 11: with the same letter id, which the receiver remembers.
    SameLetterId,
    /// 12: the hour between commits is courtesy, never validity.
    HourIsCourtesy,
    /// Rescue: who lost the thread is removed and added again.
    Rescue,
    /// Heads: a letter says which log its sender saw.
    HeadsInLetters,
    /// A device with an unsent commit of its own writes no letters.
    NoLettersWhilePending,
}
