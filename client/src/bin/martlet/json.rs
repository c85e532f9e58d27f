//! The shapes that programs read: CLI.md's, field by field.

use data_encoding::HEXLOWER;
use martlet::view::{
    CaseView, DeviceView, Event, FileView, InviteView, LetterKind, LetterView, MemberView, RelayView,
    RequestView, Sent, Standing, Warning,
};
use martlet_proto::{Day, Time, case::Role, clean};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// RFC 3339 in UTC.
pub(crate) fn time(time: Time) -> String {
    i64::try_from(time.as_secs())
        .ok()
        .and_then(|secs| OffsetDateTime::from_unix_timestamp(secs).ok())
        .and_then(|at| at.format(&Rfc3339).ok())
        .unwrap_or_else(|| "9999-12-31T23:59:59Z".into())
}

/// The first second of a day.
pub(crate) fn day(day: Day) -> String {
    time(day.start())
}

/// A name on one line, without what steers a terminal.
pub(crate) fn line(text: &str) -> String {
    clean(text).replace(['\n', '\t'], " ")
}

pub(crate) const fn role(role: Role) -> &'static str {
    match role {
        Role::Client => "client",
        Role::Counsel => "counsel",
        Role::Interpreter => "interpreter",
        Role::Observer => "observer",
    }
}

pub(crate) const fn kind(kind: LetterKind) -> &'static str {
    match kind {
        LetterKind::Text => "text",
        LetterKind::Document => "document",
        LetterKind::Notice => "notice",
        LetterKind::Leave => "leave",
        LetterKind::Unknown(_) => "unknown",
    }
}

pub(crate) const fn warning(warning: Warning) -> &'static str {
    match warning {
        Warning::RelayDiffers => "relay-differs",
        Warning::RelayForgot => "relay-forgot",
        Warning::Lost => "lost",
        Warning::Removed => "removed",
        Warning::Silent => "silent",
        Warning::Asks => "asks",
        _ => "unknown",
    }
}

pub(crate) const fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Member => "member",
        Standing::Removed => "removed",
        Standing::Lost => "lost",
        Standing::Restored => "restored",
    }
}

/// What a change of the members answers.
pub(crate) fn members(view: &CaseView, queued: bool) -> Value {
    let members: Vec<_> = view.members.iter().map(member).collect();
    json!({"case": view.case, "members": members, "queued": queued})
}

/// What a change of how long letters are kept answers.
pub(crate) fn keeping(view: &CaseView, queued: bool) -> Value {
    json!({"case": view.case, "retention": retention(view), "hold": view.hold, "queued": queued})
}

fn retention(view: &CaseView) -> Value {
    json!({"client_days": view.retention.client_days, "counsel_days": view.retention.counsel_days})
}

pub(crate) fn hex(hash: &[u8; 32]) -> String {
    HEXLOWER.encode(hash)
}

/// An object without its empty fields.
fn tidy(mut value: Value) -> Value {
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|_, field| !field.is_null());
    }
    value
}

pub(crate) fn invite(view: &InviteView) -> Value {
    let state = format!("{:?}", view.state).to_lowercase();
    let uses = format!("{:?}", view.uses).to_lowercase();
    json!({"invite": view.invite, "id": view.id, "label": view.label.as_deref().map(line), "uses": uses,
        "expires": day(view.expires), "state": state, "queued": view.queued})
}

pub(crate) fn member(view: &MemberView) -> Value {
    json!({"member": view.member, "name": line(&view.name), "role": role(view.role),
        "fingerprint": view.fingerprint, "verified": view.verified, "me": view.me})
}

fn request(view: &RequestView) -> Value {
    json!({"member": view.member, "known_device": view.known_device, "digits_since": view.digits_since.map(time),
        "received": time(view.received)})
}

pub(crate) fn case(view: &CaseView) -> Value {
    let members: Vec<_> = view.members.iter().map(member).collect();
    let warnings: Vec<_> = view.warnings.iter().map(|w| warning(*w)).collect();
    let requests: Vec<_> = view.requests.iter().map(request).collect();
    json!({"case": view.case, "label": line(&view.label), "members": members, "unread": view.unread,
        "unsent": view.unsent, "last": view.last.map(time), "warnings": warnings, "standing": standing(view.standing),
        "asks": view.asks, "requests": requests, "heard": view.heard.map(time), "retention": retention(view), "hold": view.hold, "apart": view.apart})
}

fn file(view: &FileView) -> Value {
    tidy(
        json!({"id": view.id.to_text(), "name": line(&view.name), "size": view.size_bytes, "sha256": hex(&view.sha256),
        "copy_of": view.copy_of.as_ref().map(hex)}),
    )
}

pub(crate) fn letter(view: &LetterView) -> Value {
    tidy(
        json!({"id": view.id.to_text(), "from": view.from, "name": line(&view.name), "role": role(view.role),
        "sent": time(view.sent), "received": time(view.received), "kind": kind(view.kind),
        "text": view.text.as_deref().map(clean), "file": view.file.as_ref().map(file),
        "queued": view.queued, "not_sent": view.not_sent, "delivered_to": view.delivered_to, "mine": view.mine}),
    )
}

pub(crate) fn device(view: &DeviceView) -> Value {
    json!({"device": view.device, "name": line(&view.name), "me": view.me, "cases": view.cases})
}

pub(crate) fn relay(view: &RelayView) -> Value {
    json!({"addresses": view.addresses, "pin": hex(&view.pin), "home": view.home, "cases": view.cases})
}

pub(crate) fn sent(view: &Sent) -> Value {
    tidy(
        json!({"id": view.id.to_text(), "kind": kind(view.kind), "queued": view.queued,
        "sha256": view.sha256.as_ref().map(hex)}),
    )
}

pub(crate) fn event(event: &Event) -> Value {
    match event {
        Event::Letter { case, letter: l } => json!({"event": "letter", "case": case, "letter": letter(l)}),
        Event::Sent { case, id } => json!({"event": "sent", "case": case, "id": id.to_text()}),
        Event::Delivered { case, id, to } => {
            json!({"event": "delivered", "case": case, "id": id.to_text(), "to": to})
        }
        Event::Case { case: c } => json!({"event": "case", "case": c.case, "details": case(c)}),
        Event::Asks { case, member } => json!({"event": "asks", "case": case, "member": member}),
        Event::Returned { case } => json!({"event": "returned", "case": case}),
        Event::Online => json!({"event": "online"}),
        Event::Offline => json!({"event": "offline"}),
        Event::Warning { case, warning: w } => {
            json!({"event": "warning", "case": case, "warning": warning(*w)})
        }
        _ => json!({"event": "unknown"}),
    }
}
