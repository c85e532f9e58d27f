//! From an invite to a case.

use martlet_proto::{Kind, Read, Refusal, Seq, Slot, derive::CardKeys, invite::Invite, letter::Body};

use super::{Client, NewCase, entropy, keep, lanes::Lane, now};
use crate::{
    case::Case,
    error::{Error, Mismatch, Missing, Usage},
    link::{Link, LinkError, ask},
    record::Isolation,
    verified::{self, Verified},
    view::{CaseView, LetterKind, MemberView, Sent},
};

/// Pages of a card's channel read at most.
const PAGES_MAX: usize = 8;

impl Client {
    /// Verifies the card behind an invite, opens a case with its owner, and writes a first letter if there is one.
    ///
    /// Gives the case, its other member, and the first letter.
    ///
    /// # Errors
    ///
    /// [`Error::Verification`] saying what does not hold, with nothing sent; [`Missing::InviteExpired`];
    /// [`Error::Unreachable`] if the card could not be read.
    ///
    /// # Cancel safety
    ///
    /// Until the card is verified nothing is kept. From then on the case exists and goes on with the next call.
    pub async fn open_case(
        &self,
        invite: &Invite,
        new: NewCase,
    ) -> Result<(CaseView, MemberView, Vec<Sent>), Error> {
        let label = new.label.unwrap_or_default();
        keep::check_name(&label)?;
        if new.text.as_deref().is_some_and(|text| text.trim().is_empty()) {
            return Err(Error::Usage(Usage::TextEmpty));
        }
        if invite.expires <= now().day() {
            return Err(Error::NotFound(Missing::InviteExpired));
        }
        let relay = invite.relay();
        let own_link = new.apart || self.isolation()? == Isolation::Case;
        let link = if own_link {
            self.connect()?.connect_apart(&relay).await?
        } else {
            self.link(&relay, Lane::Shared).await?
        };
        let card = read_card(invite, link.as_ref()).await?;
        let letter = entropy()?.letter();
        let id = self.found(
            invite,
            &card,
            label,
            new.apart,
            new.text.as_deref().map(|text| (letter, text)),
        )?;
        if own_link {
            self.keep_link(&relay, Lane::Case(id), &link);
        }
        let sent = match new.text {
            Some(_) => {
                let queued = self.deliver(&id, &letter).await?;
                vec![Sent {
                    id: letter,
                    kind: LetterKind::Text,
                    queued,
                    sha256: None,
                }]
            }
            None => {
                match self.drive(&id, link.as_ref()).await {
                    Ok(()) | Err(Error::Unreachable) => {}
                    Err(error) => return Err(error),
                }
                Vec::new()
            }
        };
        let view = self.case(&crate::view::name_of(&id))?;
        let with = view.members.iter().find(|member| !member.me).cloned();
        Ok((view, with.ok_or(Error::Internal("a case of one"))?, sent))
    }

    fn found(
        &self,
        invite: &Invite,
        card: &Verified<martlet_proto::card::Card>,
        label: String,
        apart: bool,
        first: Option<(martlet_proto::letter::LetterId, &str)>,
    ) -> Result<[u8; 16], Error> {
        let mut core = self.core()?;
        let core = &mut *core;
        let index = core.me.profile().next_case;
        let (mut case, mut batch) =
            Case::found(&core.me, invite, card, label, index, now(), &mut entropy()?)?;
        if apart {
            batch.merge(case.keep_apart()?);
        }
        if let Some((id, text)) = first {
            batch.merge(case.write(&core.me, id, &Body::Text(text.to_string()), now())?);
        }
        core.me.profile_mut().next_case = index.saturating_add(1);
        core.save_profile(&mut batch)?;
        core.commit(batch)?;
        let id = *case.id();
        core.cases.push(case);
        Ok(id)
    }
}

/// The newest card in an invite's channel, verified.
pub(super) async fn read_card(
    invite: &Invite,
    link: &dyn Link,
) -> Result<Verified<martlet_proto::card::Card>, Error> {
    let keys = CardKeys::derive(&invite.seed);
    let channel = keys.channel(&invite.mark);
    let grant = martlet_proto::Grant {
        channel,
        token: keys.read.clone(),
    };
    let mut from = Seq::FIRST;
    let mut newest = None;
    for _ in 0..PAGES_MAX {
        let page = match ask(link, &grant, Read { from }).await {
            Ok(page) => page,
            Err(LinkError::Refused(Refusal::Closed)) => return Err(Error::NotFound(Missing::InviteExpired)),
            Err(error) => return Err(error.into()),
        };
        for slot in page.slots {
            from = slot
                .seq()
                .next()
                .ok_or(Error::Protocol("the relay's log has no end"))?;
            if let Slot::Here(entry) = slot
                && entry.kind == Kind::Card
            {
                newest = Some(entry.envelope);
            }
        }
        if from >= page.tip.next {
            break;
        }
    }
    let envelope = newest.ok_or(Error::NotFound(Missing::InviteExpired))?;
    let content = envelope
        .open(&keys.envelope, &channel, Kind::Card)
        .map_err(|_| Error::Verification(Mismatch::CardHash))?;
    verified::card(invite, &content, now())
}
