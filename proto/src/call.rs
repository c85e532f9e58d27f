//! The verbs: typed at the client's edge, one enum on the wire. SPEC.md, section 4.

use serde::{Deserialize, Serialize};

use crate::{
    Admission, Bearer, Bind, ChannelId, Class, Day, EntryId, Envelope, Grant, Head, Incarnation, Keeper,
    Kind, Reader, Right, Rights, Seq, Slot, TokenHash, Writer,
};

/// A request whose needed right and whose answer are known to the compiler.
///
/// ```compile_fail
/// # use martlet_proto::*;
/// fn wrong(grant: &Grant<Reader>, append: Append) -> Call {
///     Call::new(grant, append) // a reader's grant cannot append
/// }
/// ```
///
/// ```
/// # use martlet_proto::*;
/// fn right(grant: &Grant<Writer>, append: Append) -> Call {
///     Call::new(grant, append)
/// }
/// ```
pub trait Verb: Into<Action> {
    /// The right its grant must carry.
    type Right: Right;
    /// What the relay answers.
    type Answer: TryFrom<Answer, Error = WrongAnswer>;
}

/// One request as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// The channel it is about.
    pub channel: ChannelId,
    /// The secret that proves the right.
    pub bearer: Bearer,
    /// What to do.
    pub action: Action,
}

impl Call {
    /// Pairs a verb with a grant that carries the right it needs.
    pub fn new<V: Verb>(grant: &Grant<V::Right>, verb: V) -> Self {
        Self {
            channel: grant.channel,
            bearer: grant.token.bearer().clone(),
            action: verb.into(),
        }
    }
}

/// Creates the channel, or renews one that is there; any holder of `write` may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// What the channel is for.
    pub class: Class,
    /// Hash of the token that may read.
    pub read: TokenHash,
    /// Hash of the token that may seal, trim and drop.
    pub keep: TokenHash,
    /// What else the id is bound to.
    pub bind: Bind,
    /// The relay's opening token; not needed where the channel exists.
    pub admission: Option<Admission>,
}

/// One envelope to add.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// What it holds, as far as the relay may know.
    pub kind: Kind,
    /// A fresh random name; the same name and bytes again change nothing.
    pub id: EntryId,
    /// The sealed bytes.
    pub envelope: Envelope,
}

/// Adds 1 to 4 envelopes after the last, all or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Append {
    /// The only incarnation in which they may be added; `None` for any.
    pub within: Option<Incarnation>,
    /// The envelopes, in order.
    pub items: Vec<Item>,
}

/// Adds 1 to 4 envelopes by the keeper; from then on only the keeper adds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// The only incarnation in which they may be added; `None` for any.
    pub within: Option<Incarnation>,
    /// The envelopes, in order.
    pub items: Vec<Item>,
}

/// Reads slots from a position on, as many as fit in one answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// The first position wanted.
    pub from: Seq,
}

/// Like [`Read`], and pushes what is added from then on to this stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Follow {
    /// The first position wanted.
    pub from: Seq,
}

/// Forgets the entries before a position; their digests stay. Not in class `case`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trim {
    /// The first position to keep.
    pub before: Seq,
}

/// Forgets the channel. Not in class `case`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drop;

/// Every verb, as one value for the relay to match on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each variant is documented at the struct it holds")]
pub enum Action {
    Open(Open),
    Append(Append),
    Seal(Seal),
    Read(Read),
    Follow(Follow),
    Trim(Trim),
    Drop(Drop),
}

/// The state of a log: what `open` answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tip {
    /// Which life of the channel this is.
    pub incarnation: Incarnation,
    /// The position the next entry gets.
    pub next: Seq,
    /// The chain over all entries so far.
    pub head: Head,
    /// Whether only the keeper may add.
    pub sealed: bool,
    /// The first day on which the relay may forget the channel, if nobody renews it.
    pub expires: Day,
}

/// Where added entries stand, and the head after them: what `append` and `seal` answer, once they are durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// Which life of the channel this is.
    pub incarnation: Incarnation,
    /// The position of the first of them.
    pub first: Seq,
    /// The chain over all entries up to the last of them.
    pub head: Head,
}

/// Some slots of a log, dense and in order: what `read` and `follow` answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slots {
    /// The log's state when it was read; `tip.next` may lie beyond the last slot here: read on.
    pub tip: Tip,
    /// The slots from the position that was asked for.
    pub slots: Vec<Slot>,
}

/// Every answer but a refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each variant is documented at the struct it holds")]
pub enum Answer {
    Tip(Tip),
    Placed(Placed),
    Slots(Slots),
    Done,
}

/// Why the relay will not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No such channel, or not yours: the relay does not say which.
    #[error("there is no such channel, or the token does not open it")]
    Closed,
    /// The channel must be created first, and the opening token is missing or wrong.
    #[error("the relay does not admit the opening of channels by this token")]
    NotAdmitted,
    /// Only the keeper may add to this log.
    #[error("the channel is sealed")]
    Sealed,
    /// The entry id was used for other bytes.
    #[error("the entry id was used for other bytes")]
    Conflict,
    /// The channel vanished and was created anew since.
    #[error("the channel is in another incarnation")]
    OtherIncarnation,
    /// The channel holds as much as its class allows.
    #[error("the channel is full")]
    Quota,
    /// The relay's disk is full; reading, trimming and dropping go on.
    #[error("the relay's disk is full")]
    Full,
    /// The verb is not for this class of channel, or what it carries is not allowed there.
    #[error("the channel's class does not allow this")]
    NotHere,
    /// Too many requests at once; try again later.
    #[error("the relay is busy")]
    Busy,
}

/// The answer was not of the kind the verb gets: the relay misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the relay answered another question")]
pub struct WrongAnswer;

macro_rules! answers {
    ($($variant:ident => $type:ty;)*) => {$(
        impl TryFrom<Answer> for $type {
            type Error = WrongAnswer;
            fn try_from(answer: Answer) -> Result<Self, WrongAnswer> {
                if let Answer::$variant(inner) = answer { Ok(inner) } else { Err(WrongAnswer) }
            }
        }
    )*};
}
answers! {
    Tip => Tip;
    Placed => Placed;
    Slots => Slots;
}
impl TryFrom<Answer> for () {
    type Error = WrongAnswer;
    fn try_from(answer: Answer) -> Result<Self, WrongAnswer> {
        matches!(answer, Answer::Done).then_some(()).ok_or(WrongAnswer)
    }
}

macro_rules! verbs {
    ($($verb:ident needs $right:ident, answers $answer:ty;)*) => {
        $(
            impl Verb for $verb {
                type Right = $right;
                type Answer = $answer;
            }
            impl From<$verb> for Action {
                fn from(verb: $verb) -> Self {
                    Self::$verb(verb)
                }
            }
        )*
        impl Action {
            /// The right the caller's token must prove.
            pub fn right(&self) -> Rights {
                match self {
                    $(Self::$verb(_) => <$right as Right>::RIGHT,)*
                }
            }
        }
    };
}

verbs! {
    Open   needs Writer, answers Tip;
    Append needs Writer, answers Placed;
    Seal   needs Keeper, answers Placed;
    Read   needs Reader, answers Slots;
    Follow needs Reader, answers Slots;
    Trim   needs Keeper, answers ();
    Drop   needs Keeper, answers ();
}
