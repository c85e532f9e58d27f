//! What a case shows of itself, and what its owner notes in it.

use martlet_proto::{
    Time,
    case::Role,
    clean,
    letter::{Body, LetterId, Manifest, NOTICE_KIND},
};

use super::{Case, letters::name_of_member};
use crate::{
    error::{Error, Missing, Usage},
    file::name::safe_name,
    identity::{epoch_code, fingerprint, safety_number},
    me::Me,
    record::{LetterRecord, MemberRecord, Notice, OutRecord, decode},
    vault::Batch,
    view::{CaseView, FileView, LetterKind, LetterView, MemberView, Safety, name_of},
};

impl Case {
    /// The case as its owner sees it now; `uploads` documents wait besides what is in the outbox.
    pub fn view(&self, me: &Me, uploads: u64, now: Time) -> CaseView {
        let mine = me.identity().public();
        let waiting = self.outbox.values().filter(|item| match item {
            OutRecord::Packet { .. } => false,
            OutRecord::Letter { letter, .. } => self.by_id.contains_key(&letter.id),
        });
        let here = self.record.members.iter().filter(|member| member.present);
        let mut members: Vec<MemberView> = here.map(|member| member_view(member, &mine)).collect();
        members.sort_by_key(|member| (member.role, member.name.to_lowercase()));
        CaseView {
            case: name_of(&self.record.id),
            label: self.label(&mine),
            members,
            unread: self.record.unread,
            unsent: uploads.saturating_add(u64::try_from(waiting.count()).unwrap_or(u64::MAX)),
            last: self.record.last,
            warnings: self
                .record
                .warnings
                .iter()
                .copied()
                .chain(self.asks_warning())
                .chain(self.silence(me, now))
                .collect(),
            standing: self.record.standing,
            asks: self
                .record
                .asks
                .iter()
                .map(|ask| name_of_member(&ask.identity))
                .collect(),
            heard: self.record.heard,
        }
    }

    /// The owner's note, or else the names of the others.
    fn label(&self, mine: &[u8; 32]) -> String {
        if !self.record.label.is_empty() {
            return self.record.label.clone();
        }
        let others = self.record.members.iter();
        let mut others: Vec<_> = others
            .filter(|member| member.present && member.identity != *mine && !member.name.is_empty())
            .collect();
        others.sort_by_key(|member| (member.role, member.name.to_lowercase()));
        others
            .iter()
            .map(|member| member.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// Letters in the order in which they came, all or those not read yet.
    pub fn letters(&self, me: &Me, unread_only: bool) -> Vec<LetterView> {
        let mine = me.identity().public();
        let wanted = self
            .letters
            .values()
            .filter(|letter| !(unread_only && letter.read));
        wanted.map(|letter| self.letter_view(letter, &mine)).collect()
    }

    /// One of the letters.
    pub fn letter(&self, me: &Me, id: &LetterId) -> Option<LetterView> {
        let letter = self.letters.get(self.by_id.get(id)?)?;
        Some(self.letter_view(letter, &me.identity().public()))
    }

    pub(super) fn letter_view(&self, record: &LetterRecord, mine: &[u8; 32]) -> LetterView {
        let member = self
            .record
            .members
            .iter()
            .find(|member| member.identity == record.from);
        let (kind, text, file) = match record.letter.parse_body() {
            _ if record.letter.kind == NOTICE_KIND => (LetterKind::Notice, self.notice_text(record), None),
            Ok(Body::Text(text)) => (LetterKind::Text, Some(clean(&text)), None),
            Ok(Body::Document(manifest)) => (
                LetterKind::Document,
                None,
                Some(file_view(record.letter.id, &manifest)),
            ),
            Ok(Body::Leave) => (LetterKind::Leave, None, None),
            Ok(Body::Unknown(kind)) => (LetterKind::Unknown(kind), None, None),
            Ok(
                Body::Receipt(_) | Body::Refresh(_) | Body::Beat | Body::Device(_) | Body::WithoutDevice(_),
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
            delivered_to: record.delivered_to.iter().map(name_of_member).collect(),
            mine: record.from == *mine,
        }
    }

    /// What a notice says, in words.
    fn notice_text(&self, record: &LetterRecord) -> Option<String> {
        let notice: Notice = decode(&record.letter.body).ok()?;
        let name = |identity: &[u8; 32]| {
            let known = self
                .record
                .members
                .iter()
                .find(|known| known.identity == *identity);
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

    /// The manifest of a document, by the name of its letter or as much of the beginning as is unique.
    ///
    /// # Errors
    ///
    /// [`Missing::Document`] or [`Usage::Ambiguous`].
    pub fn document(&self, reference: &str) -> Result<(LetterId, Manifest), Error> {
        let documents: Vec<(LetterId, Manifest)> = self
            .letters
            .values()
            .filter_map(|letter| match letter.letter.parse_body() {
                Ok(Body::Document(manifest)) => Some((letter.letter.id, manifest)),
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

    /// Notes that letters were read.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] if a record cannot be written.
    pub fn mark_read(&mut self, letters: &[LetterId]) -> Result<Batch, Error> {
        let mut batch = Batch::default();
        for id in letters {
            let Some(at) = self.by_id.get(id).copied() else {
                continue;
            };
            let Some(kept) = self.letters.get_mut(&at).filter(|kept| !kept.read) else {
                continue;
            };
            kept.read = true;
            self.record.unread = self.record.unread.saturating_sub(1);
            self.save_letter(at, &mut batch)?;
        }
        if !batch.is_empty() {
            self.save_record(&mut batch)?;
        }
        Ok(batch)
    }

    /// The number to compare with a member: the one named, or the only other one.
    ///
    /// # Errors
    ///
    /// [`Missing::Member`] or [`Usage::Ambiguous`].
    pub fn safety(&self, me: &Me, reference: Option<&str>) -> Result<Safety, Error> {
        let mine = me.identity().public();
        let at = self.member_at(&mine, reference)?;
        let member = self
            .record
            .members
            .get(at)
            .ok_or(Error::NotFound(Missing::Member))?;
        Ok(Safety {
            number: safety_number(&mine, &member.identity),
            epoch_code: epoch_code(&self.group.epoch_authenticator()),
            verified: member.verified,
            member: member_view(member, &mine),
        })
    }

    /// Notes that the number was compared and matched.
    ///
    /// # Errors
    ///
    /// As [`safety`](Self::safety).
    pub fn confirm(&mut self, me: &Me, reference: Option<&str>) -> Result<Batch, Error> {
        let at = self.member_at(&me.identity().public(), reference)?;
        let member = self
            .record
            .members
            .get_mut(at)
            .ok_or(Error::NotFound(Missing::Member))?;
        member.verified = true;
        let mut batch = Batch::default();
        self.save_record(&mut batch)?;
        Ok(batch)
    }

    fn member_at(&self, mine: &[u8; 32], reference: Option<&str>) -> Result<usize, Error> {
        let wanted = reference.map(|text| text.trim().to_lowercase());
        let fits = |member: &MemberRecord| match &wanted {
            Some(text) => {
                !text.is_empty()
                    && (name_of_member(&member.identity).starts_with(text)
                        || member.name.to_lowercase() == *text)
            }
            None => true,
        };
        let mut found = self
            .record
            .members
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
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Client => "client",
        Role::Counsel => "counsel",
        Role::Interpreter => "interpreter",
        Role::Observer => "observer",
    }
}

fn member_view(member: &MemberRecord, mine: &[u8; 32]) -> MemberView {
    MemberView {
        member: name_of_member(&member.identity),
        name: member.name.clone(),
        role: member.role,
        fingerprint: fingerprint(&member.identity),
        verified: member.verified || member.identity == *mine,
        me: member.identity == *mine,
    }
}

fn file_view(id: LetterId, manifest: &Manifest) -> FileView {
    FileView {
        id,
        name: safe_name(&manifest.name),
        size_bytes: manifest.size_bytes,
        sha256: manifest.sha256,
    }
}
