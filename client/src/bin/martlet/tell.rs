//! How cases, letters and invites are told to people.

use martlet::view::{
    CaseView, DeviceView, InviteView, LetterView, MemberView, RelayView, RequestView, Sent, Standing, Warning,
};
use martlet_proto::{case::Role, clean};

use crate::{
    json::{day, kind, line, role, time},
    words,
};

pub(crate) fn invite(view: &InviteView) -> String {
    let label = view
        .label
        .as_deref()
        .map(|label| format!("  {}", line(label)))
        .unwrap_or_default();
    let state = format!("{:?}", view.state).to_lowercase();
    let waits = if view.queued { ", waits to be sent" } else { "" };
    format!(
        "{}  {state}{waits}  until {}{label}\n{}",
        view.id,
        day(view.expires),
        view.invite
    )
}

pub(crate) fn case(view: &CaseView) -> String {
    let mut told = format!("{}  {}", view.case, line(&view.label));
    if view.unread > 0 {
        told.push_str(&format!("  {} unread", view.unread));
    }
    if view.unsent > 0 {
        told.push_str(&format!("  {} waiting to be sent", view.unsent));
    }
    for member in &view.members {
        let name = if member.name.is_empty() {
            "(no name)".into()
        } else {
            line(&member.name)
        };
        let known = match (member.me, member.verified) {
            (true, _) => " (you)",
            (false, true) => "",
            (false, false) => " (not verified)",
        };
        told.push_str(&format!("\n  {}: {name}{known}", role(member.role)));
    }
    if view.standing != Standing::Restored {
        told.push_str(&format!("\n  {}", kept(view)));
    }
    if view.standing == Standing::Restored {
        told.push_str(&format!("\n  {}", words::say("warn-restored", None)));
    }
    for warning in &view.warnings {
        told.push_str(&format!("\n  {}", warned(*warning)));
    }
    for request in &view.requests {
        told.push_str(&format!("\n  {}", asked(request, &view.members)));
    }
    told
}

/// Who asks to be taken in again, and how one can know that it is them.
fn asked(request: &RequestView, members: &[MemberView]) -> String {
    let name = members.iter().find(|member| member.member == request.member);
    let name = name.map_or_else(|| request.member.clone(), |member| line(&member.name));
    let device = if request.known_device {
        "request-known"
    } else {
        "request-new"
    };
    let proof = match request.digits_since {
        Some(since) => words::say("request-digits", Some(&time(since))),
        None => words::say("request-no-digits", None),
    };
    format!("{name}: {} {proof}", words::say(device, None))
}

/// How long letters are kept, on one line.
pub(crate) fn kept(view: &CaseView) -> String {
    let days = |days: Option<u32>| days.map_or_else(|| "∞".to_string(), |days| format!("{days} d"));
    let (client, counsel) = (view.retention.client_days, view.retention.counsel_days);
    let told = format!(
        "{}  {}: {}  {}: {}",
        words::say("keeping", None),
        role(Role::Client),
        days(client),
        role(Role::Counsel),
        days(counsel)
    );
    if view.hold {
        format!("{told}\n  {}", words::say("keeping-hold", None))
    } else {
        told
    }
}

pub(crate) fn device(view: &DeviceView) -> String {
    let me = if view.me { " (this one)" } else { "" };
    format!("{}  {}{me}  cases: {}", view.device, line(&view.name), view.cases)
}

pub(crate) fn relay(view: &RelayView) -> String {
    let home = if view.home { "for new invites, " } else { "" };
    format!("{}  {home}cases: {}", view.addresses.join(" "), view.cases)
}

fn warned(warning: Warning) -> String {
    let key = match warning {
        Warning::RelayDiffers => "warn-relay-differs",
        Warning::RelayForgot => "warn-relay-forgot",
        Warning::Lost => "warn-lost",
        Warning::Removed => "warn-removed",
        Warning::Silent => "warn-silent",
        Warning::Asks => "warn-asks",
        _ => "warn-unknown",
    };
    words::say(key, None)
}

pub(crate) fn sent(view: &Sent) -> String {
    let how = if view.queued { "waits" } else { "sent" };
    format!("{}  {}  {how}", view.id.to_text(), kind(view.kind))
}

pub(crate) fn letter(view: &LetterView) -> String {
    let name = if view.name.is_empty() {
        "(no name)".into()
    } else {
        line(&view.name)
    };
    let head = format!("{}  {name} ({})", time(view.sent), role(view.role));
    let body = match (&view.text, &view.file) {
        (Some(text), _) => clean(text),
        (None, Some(file)) => {
            let (name, size, id) = (line(&file.name), file.size_bytes, file.id.to_text());
            let copy = match file.copy_of {
                Some(_) => format!(", {}", words::say("scrub-copy", None)),
                None => String::new(),
            };
            format!("[{name}, {size} bytes{copy}; fetch it with: martlet get CASE {id} --to DIR]")
        }
        (None, None) => format!("[{}]", kind(view.kind)),
    };
    let tail = match (view.mine, view.queued, view.delivered_to.is_empty()) {
        _ if view.not_sent => "\n  (not sent)",
        (true, true, _) => "\n  (waits to be sent)",
        (true, false, false) => "\n  (arrived)",
        (true, false, true) => "\n  (at the relay)",
        (false, ..) => "",
    };
    format!("{head}\n  {}{tail}", body.replace('\n', "\n  "))
}
