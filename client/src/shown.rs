//! How what is kept of a case is shown: the same for a case that goes on and for one out of an archive. Pure.

use martlet_proto::{
    case::Role,
    clean,
    letter::{Body, LetterId, Manifest, NOTICE_KIND, WorkingCopy},
};

use crate::{
    error::{Error, Missing, Usage},
    file::name::safe_name,
    identity::fingerprint,
    record::{LetterRecord, MemberRecord, Notice, decode},
    view::{FileView, LetterKind, LetterView, MemberView},
};

/// The owner's note, or else the names of the others.
pub(crate) fn label(label: &str, members: &[MemberRecord], mine: &[u8; 32]) -> String {
    if !label.is_empty() {
        return label.into();
    }
    let mut others: Vec<_> = members
        .iter()
        .filter(|member| member.present && member.identity != *mine && !member.name.is_empty())
        .collect();
    others.sort_by_key(|member| (member.role, member.name.to_lowercase()));
    others
        .iter()
        .map(|member| member.name.as_str())
        .collect::<Vec<_>>()
        .join(", ")
}

/// Who is in a case, by role and name.
pub(crate) fn members(members: &[MemberRecord], mine: &[u8; 32]) -> Vec<MemberView> {
    let here = members.iter().filter(|known| known.present);
    let mut views: Vec<MemberView> = here.map(|known| member(known, mine)).collect();
    views.sort_by_key(|view| (view.role, view.name.to_lowercase()));
    views
}

/// A member, as the owner sees them.
pub(crate) fn member(member: &MemberRecord, mine: &[u8; 32]) -> MemberView {
    MemberView {
        member: name_of_member(&member.identity),
        name: member.name.clone(),
        role: member.role,
        fingerprint: fingerprint(&member.identity),
        verified: member.verified || member.identity == *mine,
        me: member.identity == *mine,
    }
}

/// A letter.
pub(crate) fn letter(record: &LetterRecord, members: &[MemberRecord], mine: &[u8; 32]) -> LetterView {
    let member = members.iter().find(|member| member.identity == record.from);
    let (kind, text, file) = match record.letter.parse_body() {
        _ if record.letter.kind == NOTICE_KIND => (LetterKind::Notice, notice_text(record, members), None),
        Ok(Body::Text(text)) => (LetterKind::Text, Some(clean(&text)), None),
        Ok(Body::Document(manifest)) => {
            let file = file_view(record.letter.id, &manifest, None);
            (LetterKind::Document, None, Some(file))
        }
        Ok(Body::Copy(copy)) => {
            let file = file_view(record.letter.id, &copy.manifest, Some(copy.of));
            (LetterKind::Document, None, Some(file))
        }
        Ok(Body::Leave) => (LetterKind::Leave, None, None),
        Ok(Body::Unknown(kind)) => (LetterKind::Unknown(kind), None, None),
        Ok(
            Body::Receipt(_)
            | Body::Refresh(_)
            | Body::Beat
            | Body::Retention(_)
            | Body::Device(_)
            | Body::WithoutDevice(_)
            | Body::Recovery(_),
        )
        | Err(_) => (LetterKind::Unknown(record.letter.kind), None, None),
    };
    LetterView {
        id: record.letter.id,
        from: name_of_member(&record.from),
        name: member.map(|member| member.name.clone()).unwrap_or_default(),
        role: member.map_or(Role::Observer, |member| member.role),
        sent: record.letter.sent,
        received: record.received,
        kind,
        text,
        file,
        queued: record.queued,
        not_sent: false,
        delivered_to: record.delivered_to.iter().map(name_of_member).collect(),
        mine: record.from == *mine,
    }
}

/// The manifest of a document among letters, by the name of its letter, as much of its beginning as is unique, or its
/// own name.
///
/// # Errors
///
/// [`Missing::Document`] or [`Usage::Ambiguous`].
pub(crate) fn document<'a>(
    letters: impl Iterator<Item = &'a LetterRecord>,
    reference: &str,
) -> Result<(LetterId, Manifest), Error> {
    let documents: Vec<(LetterId, Manifest)> = letters
        .filter_map(|letter| match letter.letter.parse_body() {
            Ok(Body::Document(manifest) | Body::Copy(WorkingCopy { manifest, .. })) => {
                Some((letter.letter.id, manifest))
            }
            Ok(_) | Err(_) => None,
        })
        .collect();
    let (id, name) = (reference.trim().to_lowercase(), safe_name(reference));
    let by_id = |(letter, _): &&(LetterId, Manifest)| !id.is_empty() && letter.to_text().starts_with(&id);
    let by_name = |(_, manifest): &&(LetterId, Manifest)| safe_name(&manifest.name) == name;
    let mut found: Vec<_> = documents.iter().filter(by_id).collect();
    if found.is_empty() {
        found = documents.iter().filter(by_name).collect();
    }
    match found.as_slice() {
        [document] => Ok((*document).clone()),
        [] => Err(Error::NotFound(Missing::Document)),
        [..] => Err(Error::Usage(Usage::Ambiguous)),
    }
}

/// Where a member stands among the others: the one named, or the only one.
///
/// # Errors
///
/// [`Missing::Member`] or [`Usage::Ambiguous`].
pub(crate) fn member_at(
    members: &[MemberRecord],
    mine: &[u8; 32],
    reference: Option<&str>,
) -> Result<usize, Error> {
    let wanted = reference.map(|text| text.trim().to_lowercase());
    let fits = |member: &MemberRecord| match &wanted {
        Some(text) => {
            !text.is_empty()
                && (name_of_member(&member.identity).starts_with(text) || member.name.to_lowercase() == *text)
        }
        None => true,
    };
    let mut found = members
        .iter()
        .enumerate()
        .filter(|(_, member)| member.present && member.identity != *mine && fits(member))
        .map(|(at, _)| at);
    match (found.next(), found.next()) {
        (Some(at), None) => Ok(at),
        (Some(_), Some(_)) => Err(Error::Usage(Usage::Ambiguous)),
        (None, _) => Err(Error::NotFound(Missing::Member)),
    }
}

/// By which commands name a member: the first bytes of the identity key.
pub(crate) fn name_of_member(identity: &[u8; 32]) -> String {
    let (first, _) = identity.split_at(10);
    data_encoding::BASE32_NOPAD.encode(first).to_lowercase()
}

/// What a notice says, in words.
fn notice_text(record: &LetterRecord, members: &[MemberRecord]) -> Option<String> {
    let notice: Notice = decode(&record.letter.body).ok()?;
    let name = |identity: &[u8; 32]| {
        let known = members.iter().find(|known| known.identity == *identity);
        known
            .map(|known| known.name.clone())
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| name_of_member(identity))
    };
    let days = |days: Option<u32>| days.map_or("without end".to_string(), |days| format!("{days} days"));
    let by = name(&record.from);
    Some(match notice {
        Notice::Added { identity, role } => {
            format!("{by} added {} as {}", name(&identity), role_name(role))
        }
        Notice::Removed { identity } => format!("{by} removed {}", name(&identity)),
        Notice::Returned { identity } => {
            format!(
                "{by} took {} in again, on a new or restored device",
                name(&identity)
            )
        }
        Notice::Moved => format!("{by} moved the case to another relay"),
        Notice::Devices { identity, count } => {
            format!("{} reads and writes on {count} devices now", name(&identity))
        }
        Notice::Committer { identity } => {
            format!(
                "the case is now led from another device of counsel, of {}",
                name(&identity)
            )
        }
        Notice::Retention {
            client_days,
            counsel_days,
        } => format!(
            "letters are kept {} on the client's side, {} on counsel's",
            days(client_days),
            days(counsel_days)
        ),
    })
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Client => "client",
        Role::Counsel => "counsel",
        Role::Interpreter => "interpreter",
        Role::Observer => "observer",
    }
}

fn file_view(id: LetterId, manifest: &Manifest, copy_of: Option<[u8; 32]>) -> FileView {
    FileView {
        id,
        name: safe_name(&manifest.name),
        size_bytes: manifest.size_bytes,
        sha256: manifest.sha256,
        copy_of,
    }
}
