//! Frames: `u32 length | u8 type | u32 request | body`, big-endian, bodies in postcard. SPEC.md, section 4.
//!
//! Every bidirectional stream carries the same frames; a connection has one for control and one for each
//! document on its way. A frame that breaks a rule here ends its connection.

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Answer, Bearer, Call, ChannelId, Day, Refusal, Slot,
    call::Action,
    limits::{FRAME_BYTES_MAX, ITEMS_MAX},
};

/// The protocol's version.
pub const VERSION: u16 = 1;

/// The protocol's name in the TLS handshake (ALPN).
pub const ALPN: &[u8] = b"martlet/1";

/// Bytes of a frame before its type: the length.
pub const LENGTH_BYTES: usize = 4;
/// Bytes of a frame between its length and its body: type and request.
const PREFIX_BYTES: usize = 5;

/// The number by which an answer finds its question. Chosen by the client, fresh on each stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request(pub u32);

/// What a client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToRelay {
    /// The first frame of every stream.
    Hello {
        /// The protocol version the client speaks.
        version: u16,
    },
    /// A verb.
    Call(Call),
    /// Ends the follow that the request with this frame's number began. Not answered.
    Unfollow,
}

/// What a relay sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToClient {
    /// Answers [`ToRelay::Hello`].
    Hello {
        /// The protocol version the relay speaks.
        version: u16,
        /// The relay's day, so that a client can tell that a clock is wrong.
        day: Day,
    },
    /// Answers a call.
    Answer(Answer),
    /// Refuses a call.
    Refused(Refusal),
    /// Slots added since, for the follow that the request began.
    Pushed(Vec<Slot>),
    /// Pushes were left out for the follow that the request began: read on from where you are.
    Gap,
}

/// Why a frame cannot be taken. The connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The length is more than [`FRAME_BYTES_MAX`], or less than type and request need.
    #[error("the frame's length is out of bounds")]
    Length,
    /// There is no such type of frame.
    #[error("the frame's type is unknown")]
    Type,
    /// The body is not what its type says.
    #[error("the frame's body is malformed")]
    Body,
}

impl FrameError {
    /// The application error code with which the connection is closed. SPEC.md 4.5.
    pub const fn code(self) -> u32 {
        match self {
            Self::Length => 0x10,
            Self::Type => 0x11,
            Self::Body => 0x12,
        }
    }
}

mod kind {
    pub(super) const HELLO: u8 = 0x01;
    pub(super) const OPEN: u8 = 0x02;
    pub(super) const APPEND: u8 = 0x03;
    pub(super) const SEAL: u8 = 0x04;
    pub(super) const READ: u8 = 0x05;
    pub(super) const FOLLOW: u8 = 0x06;
    pub(super) const TRIM: u8 = 0x07;
    pub(super) const DROP: u8 = 0x08;
    pub(super) const UNFOLLOW: u8 = 0x09;
    pub(super) const HELLO_ANSWER: u8 = 0x81;
    pub(super) const TIP: u8 = 0x82;
    pub(super) const PLACED: u8 = 0x83;
    pub(super) const SLOTS: u8 = 0x84;
    pub(super) const DONE: u8 = 0x85;
    pub(super) const REFUSED: u8 = 0x86;
    pub(super) const PUSHED: u8 = 0x87;
    pub(super) const GAP: u8 = 0x88;
}

/// How many bytes follow a length field.
///
/// # Errors
///
/// [`FrameError::Length`] if that is out of bounds; nothing is allocated for such a frame.
pub fn length(field: [u8; LENGTH_BYTES]) -> Result<usize, FrameError> {
    let length = usize::try_from(u32::from_be_bytes(field)).map_err(|_| FrameError::Length)?;
    if (PREFIX_BYTES..=FRAME_BYTES_MAX).contains(&length) {
        Ok(length)
    } else {
        Err(FrameError::Length)
    }
}

fn encode<T: Serialize>(kind: u8, request: Request, body: &T, to: &mut Vec<u8>) {
    let start = to.len();
    to.extend_from_slice(&[0; LENGTH_BYTES]);
    to.push(kind);
    to.extend_from_slice(&request.0.to_be_bytes());
    let mut whole = std::mem::take(to);
    #[expect(
        clippy::expect_used,
        reason = "writing to a Vec cannot fail, and no body has maps or unsized sequences"
    )]
    {
        whole = postcard::to_extend(body, whole).expect("postcard writes to a Vec");
    }
    *to = whole;
    let length = to.len().saturating_sub(start).saturating_sub(LENGTH_BYTES);
    let field = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    if let Some(place) = to
        .get_mut(start..)
        .and_then(|frame| frame.first_chunk_mut::<LENGTH_BYTES>())
    {
        *place = field;
    }
}

/// Splits what follows a length field into type, request and body.
fn split(frame: &[u8]) -> Result<(u8, Request, &[u8]), FrameError> {
    let ([kind, a, b, c, d], body) = frame
        .split_first_chunk::<PREFIX_BYTES>()
        .ok_or(FrameError::Length)?;
    Ok((*kind, Request(u32::from_be_bytes([*a, *b, *c, *d])), body))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok(_) | Err(_) => Err(FrameError::Body),
    }
}

impl ToRelay {
    /// Appends the whole frame, length field included, to `to`.
    pub fn encode(&self, request: Request, to: &mut Vec<u8>) {
        match self {
            Self::Hello { version } => encode(kind::HELLO, request, version, to),
            Self::Unfollow => encode(kind::UNFOLLOW, request, &(), to),
            Self::Call(call) => {
                let about = (&call.channel, &call.bearer);
                match &call.action {
                    Action::Open(verb) => encode(kind::OPEN, request, &(about, verb), to),
                    Action::Append(verb) => encode(kind::APPEND, request, &(about, verb), to),
                    Action::Seal(verb) => encode(kind::SEAL, request, &(about, verb), to),
                    Action::Read(verb) => encode(kind::READ, request, &(about, verb), to),
                    Action::Follow(verb) => encode(kind::FOLLOW, request, &(about, verb), to),
                    Action::Trim(verb) => encode(kind::TRIM, request, &(about, verb), to),
                    Action::Drop(verb) => encode(kind::DROP, request, &(about, verb), to),
                }
            }
        }
    }

    /// Parses what follows a length field.
    ///
    /// # Errors
    ///
    /// [`FrameError`] for an unknown type, a malformed or overlong body, and 0 or more than 4 items.
    pub fn decode(frame: &[u8]) -> Result<(Request, Self), FrameError> {
        fn call<V: DeserializeOwned + Into<Action>>(body: &[u8]) -> Result<ToRelay, FrameError> {
            let ((channel, bearer), verb): ((ChannelId, Bearer), V) = parse(body)?;
            Ok(ToRelay::Call(Call {
                channel,
                bearer,
                action: verb.into(),
            }))
        }
        let (kind, request, body) = split(frame)?;
        let message = match kind {
            kind::HELLO => Self::Hello {
                version: parse(body)?,
            },
            kind::OPEN => call::<crate::Open>(body)?,
            kind::APPEND => call::<crate::Append>(body)?,
            kind::SEAL => call::<crate::Seal>(body)?,
            kind::READ => call::<crate::Read>(body)?,
            kind::FOLLOW => call::<crate::Follow>(body)?,
            kind::TRIM => call::<crate::Trim>(body)?,
            kind::DROP => call::<crate::Drop>(body)?,
            kind::UNFOLLOW => parse(body).map(|()| Self::Unfollow)?,
            _ => return Err(FrameError::Type),
        };
        if let Self::Call(Call {
            action: Action::Append(crate::Append { items, .. }) | Action::Seal(crate::Seal { items, .. }),
            ..
        }) = &message
            && !(1..=ITEMS_MAX).contains(&items.len())
        {
            return Err(FrameError::Body);
        }
        Ok((request, message))
    }
}

impl ToClient {
    /// Appends the whole frame, length field included, to `to`.
    pub fn encode(&self, request: Request, to: &mut Vec<u8>) {
        match self {
            Self::Hello { version, day } => encode(kind::HELLO_ANSWER, request, &(version, day), to),
            Self::Answer(Answer::Tip(tip)) => encode(kind::TIP, request, tip, to),
            Self::Answer(Answer::Placed(placed)) => encode(kind::PLACED, request, placed, to),
            Self::Answer(Answer::Slots(slots)) => encode(kind::SLOTS, request, slots, to),
            Self::Answer(Answer::Done) => encode(kind::DONE, request, &(), to),
            Self::Refused(refusal) => encode(kind::REFUSED, request, refusal, to),
            Self::Pushed(slots) => encode(kind::PUSHED, request, slots, to),
            Self::Gap => encode(kind::GAP, request, &(), to),
        }
    }

    /// Parses what follows a length field.
    ///
    /// # Errors
    ///
    /// [`FrameError`] for an unknown type and a malformed or overlong body.
    pub fn decode(frame: &[u8]) -> Result<(Request, Self), FrameError> {
        let (kind, request, body) = split(frame)?;
        let message = match kind {
            kind::HELLO_ANSWER => parse(body).map(|(version, day)| Self::Hello { version, day })?,
            kind::TIP => Self::Answer(Answer::Tip(parse(body)?)),
            kind::PLACED => Self::Answer(Answer::Placed(parse(body)?)),
            kind::SLOTS => Self::Answer(Answer::Slots(parse(body)?)),
            kind::DONE => parse(body).map(|()| Self::Answer(Answer::Done))?,
            kind::REFUSED => Self::Refused(parse(body)?),
            kind::PUSHED => Self::Pushed(parse(body)?),
            kind::GAP => parse(body).map(|()| Self::Gap)?,
            _ => return Err(FrameError::Type),
        };
        Ok((request, message))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Read, Reader, Secret, Seq, Token};

    fn read() -> ToRelay {
        let token = Token::<Reader>::new(Secret::new([3; 32]));
        let grant = crate::Grant {
            channel: ChannelId::new([2; 32]),
            token,
        };
        ToRelay::Call(Call::new(&grant, Read { from: Seq::new(300) }))
    }

    #[test]
    fn a_read_has_these_bytes() {
        let mut frame = Vec::new();
        read().encode(Request(7), &mut frame);
        let (channel, token) = ("02".repeat(32), "03".repeat(32));
        let expected = format!("00000048{}00000007{channel}20{token}ac02", "05");
        assert_eq!(hex::encode(&frame), expected);
        let (field, rest) = frame.split_first_chunk().unwrap();
        assert_eq!(length(*field), Ok(rest.len()));
        assert_eq!(ToRelay::decode(rest), Ok((Request(7), read())));
    }

    #[test]
    fn a_call_does_not_print_its_secret() {
        let printed = format!("{:?}", read());
        assert!(
            printed.contains("(..)") && !printed.contains("03, 03") && !printed.contains("02, 02"),
            "{printed}"
        );
    }

    #[test]
    fn lengths_out_of_bounds_are_refused() {
        for bad in [0, 4, FRAME_BYTES_MAX as u32 + 1, u32::MAX] {
            assert_eq!(length(bad.to_be_bytes()), Err(FrameError::Length));
        }
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut frame = Vec::new();
        read().encode(Request(7), &mut frame);
        frame.push(0);
        assert_eq!(ToRelay::decode(&frame[4..]), Err(FrameError::Body));
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_parser_fail_other_than_by_an_error(frame in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = ToRelay::decode(&frame);
            let _ = ToClient::decode(&frame);
        }
    }
}
