//! Changing who is in a case, and coming back into one.

use martlet_proto::{case::Role, invite::Invite};

use super::{Client, entropy, find::Found, now, opening::read_card};
use crate::{
    case::Case,
    error::{Error, Missing, Usage},
    me::Me,
    record::Standing,
    recovery::{checked, digits_of, signer_of},
    vault::Batch,
    view::{Asked, CaseView, LetterKind, Recovery, Sent, name_of},
};

impl Client {
    /// Verifies the card behind an invite and adds its owner to a case, with all their devices. Gives the case, and
    /// whether the change still waits for the relay.
    ///
    /// # Errors
    ///
    /// [`Usage::NotCounsel`], [`Usage::NotCommitter`], [`Usage::AlreadyMember`], [`Usage::OtherRelay`],
    /// [`Usage::TooManyMembers`]; those of [`open_case`](Self::open_case) for the card.
    ///
    /// # Cancel safety
    ///
    /// Until the card is verified nothing is kept. From then on the change goes on with the next call.
    pub async fn add(&self, case: &str, invite: &Invite, role: Role) -> Result<(CaseView, bool), Error> {
        let id = self.named(case)?;
        if invite.expires <= now().day() {
            return Err(Error::NotFound(Missing::InviteExpired));
        }
        // What needs no card is said before the network is asked.
        self.change(&id, |case, me| case.check_entitled(me).map(|()| Batch::default()))?;
        let link = self.link_for(&id, &invite.relay()).await?;
        let card = read_card(invite, link.as_ref()).await?;
        let identity = card.get().identity;
        self.change(&id, |case, me| case.add(me, invite, &card, role))?;
        self.settled(&id, |case| case.has(&identity)).await
    }

    /// Removes somebody from a case, with all their devices.
    ///
    /// # Errors
    ///
    /// [`Usage::NotCounsel`], [`Usage::NotCommitter`], [`Usage::Yourself`], [`Missing::Member`].
    ///
    /// # Cancel safety
    ///
    /// Once it is polled the change goes on with the next call.
    pub async fn remove(&self, case: &str, member: &str) -> Result<(CaseView, bool), Error> {
        let id = self.named(case)?;
        let mut identity = None;
        self.change(&id, |case, me| {
            identity = Some(case.person_named(member)?);
            case.remove(me, member)
        })?;
        self.settled(&id, |case| identity.is_some_and(|gone| !case.has(&gone)))
            .await
    }

    /// Takes somebody in again who asked for it, as the device that asked.
    ///
    /// # Errors
    ///
    /// [`Usage::NotCounsel`], [`Usage::NotCommitter`], [`Missing::Member`], [`Missing::Ask`].
    ///
    /// # Cancel safety
    ///
    /// As [`remove`](Self::remove).
    pub async fn readmit(&self, case: &str, member: &str) -> Result<(CaseView, bool), Error> {
        let id = self.named(case)?;
        let mut leaves = Vec::new();
        self.change(&id, |case, me| {
            leaves = case.leaves_to_readmit(&case.person_named(member)?);
            case.readmit(me, member)
        })?;
        self.settled(&id, |case| !case.asks(&leaves)).await
    }

    /// Leads a case from this device in place of another of counsel's.
    ///
    /// # Errors
    ///
    /// [`Usage::NotCounsel`].
    ///
    /// # Cancel safety
    ///
    /// As [`remove`](Self::remove).
    pub async fn take_over(&self, case: &str) -> Result<(CaseView, bool), Error> {
        let id = self.named(case)?;
        self.catch_up(&id).await?;
        self.change(&id, Case::take_over)?;
        let me = *self.core()?.me.leaf_public();
        self.settled(&id, |case| case.is_led_by(&me)).await
    }

    /// Has letters kept for so many days on the owner's side of a case, 0 for good. Gives the case, and whether the wish
    /// still waits for the relay; on a device that does not lead the case, the one that does carries it out.
    ///
    /// # Errors
    ///
    /// [`Usage::CaseEnded`].
    ///
    /// # Cancel safety
    ///
    /// As [`remove`](Self::remove).
    pub async fn retain(&self, case: &str, days: u32) -> Result<(CaseView, bool), Error> {
        let id = self.named(case)?;
        self.catch_up(&id).await?;
        let letter = entropy()?.letter();
        self.change(&id, |case, me| case.retain(me, letter, days, now()))?;
        let mut waits = true;
        let done = self
            .settled_or(&id, |case| !case.is_retention_waiting(&letter), None)
            .await;
        {
            let core = self.core()?;
            if let Some(case) = core.cases.get(core.at_id(&id)?) {
                waits = case.is_retention_waiting(&letter);
            }
        }
        done.map(|(view, _)| (view, waits))
    }

    /// Stops deletion in a case on this device, or lets it go on.
    ///
    /// # Errors
    ///
    /// [`Missing::Case`].
    pub fn hold(&self, case: &str, hold: bool) -> Result<CaseView, Error> {
        let id = self.named(case)?;
        self.change(&id, |case, _| case.hold(hold))?;
        self.case(case)
    }

    /// Asks to be let go from a case; counsel's device does it when it reads that.
    ///
    /// # Errors
    ///
    /// [`Usage::Yourself`] on the device that leads the case; [`Usage::CaseEnded`].
    ///
    /// # Cancel safety
    ///
    /// Once it is polled the letter waits.
    pub async fn leave(&self, case: &str) -> Result<Sent, Error> {
        let id = self.named(case)?;
        let letter = entropy()?.letter();
        self.change(&id, |case, me| case.leave(me, letter, now()))?;
        let queued = self.deliver(&id, &letter).await?;
        Ok(Sent {
            id: letter,
            kind: LetterKind::Leave,
            queued,
            sha256: None,
        })
    }

    /// Makes recovery digits, in place of any before: for one case, or for all in which counsel could take this device in
    /// again. They are kept nowhere; counsel's devices are told what proves that somebody knows them.
    ///
    /// # Errors
    ///
    /// [`Usage::NoRescue`] where there is no such case; [`Usage::CaseEnded`].
    ///
    /// # Cancel safety
    ///
    /// Once it is polled, counsel's devices may be told of digits that nobody has seen: those before are of no use then.
    pub async fn recovery(&self, case: Option<&str>) -> Result<Recovery, Error> {
        let digits = digits_of(&entropy()?.secret());
        let ids = match case {
            Some(case) => vec![self.named(case)?],
            None => {
                let core = self.core()?;
                let cases = core.cases.iter().filter(|case| case.can_return());
                cases.map(|case| *case.id()).collect()
            }
        };
        if ids.is_empty() {
            return Err(Error::Usage(Usage::NoRescue));
        }
        let mut letters = Vec::new();
        for id in &ids {
            let (letter, signer) = (entropy()?.letter(), signer_of(&digits, id)?);
            self.change(id, |case, me| case.give_recovery(me, letter, &signer, now()))?;
            letters.push(letter);
        }
        let mut queued = false;
        for (id, letter) in ids.iter().zip(&letters) {
            queued |= self.deliver(id, letter).await?;
        }
        let cases = u64::try_from(ids.len()).unwrap_or(u64::MAX);
        Ok(Recovery {
            digits,
            cases,
            queued,
        })
    }

    /// Asks counsel to be taken in again: in one case, or in all in which this device cannot go on. Recovery digits, as
    /// typed, prove to counsel who asks.
    ///
    /// # Errors
    ///
    /// [`Usage::RecoveryDigits`] for digits with a slip in them; [`Usage::NoRescue`], [`Usage::CaseEnded`], for the one
    /// case that is named.
    ///
    /// # Cancel safety
    ///
    /// Once it is polled the requests wait.
    pub async fn rejoin(&self, case: Option<&str>, digits: Option<&str>) -> Result<Asked, Error> {
        if let Some(digits) = digits {
            checked(digits)?;
        }
        let (ids, restored) = {
            let core = self.core()?;
            match case.map(|case| core.find(case)).transpose()? {
                Some(Found::Case(at)) => (vec![core.id_at(at)?], Vec::new()),
                Some(Found::Archived(at)) => (Vec::new(), vec![*core.archived_at(at)?.id()]),
                None => {
                    let lost = core.cases.iter();
                    let lost = lost.filter(|case| case.record().standing == Standing::Lost);
                    let lost = lost.map(|case| *case.id()).collect();
                    (lost, core.archived.iter().map(|case| *case.id()).collect())
                }
            }
        };
        let mut queued = false;
        for id in &ids {
            match digits.map(|digits| signer_of(digits, id)).transpose()? {
                Some(signer) => self.change(id, |case, me| {
                    case.ask_proved(me, &signer, now(), &mut entropy()?)
                })?,
                None => self.change(id, |case, me| case.ask(me, now(), &mut entropy()?))?,
            }

            let (_, waits) = self.settled_or(id, |case| !case.is_asking_unsent(), None).await?;
            queued |= waits;
        }
        let restored = match (case, restored.as_slice()) {
            (_, []) => Vec::new(),
            (Some(_), [only, ..]) => self.ask_archived(Some(only), digits)?,
            (None, _) => self.ask_archived(None, digits)?,
        };
        if !restored.is_empty() {
            match self.sync_all().await {
                Ok(_) | Err(Error::Unreachable) => {}
                Err(error) => return Err(error),
            }
        }
        for id in &restored {
            queued |= self.is_archived_waiting(id)?;
        }
        let ids = [ids, restored].concat();
        Ok(Asked {
            asked: u64::try_from(ids.len()).unwrap_or(u64::MAX),
            queued,
        })
    }

    pub(super) fn named(&self, case: &str) -> Result<[u8; 16], Error> {
        let core = self.core()?;
        core.id_at(core.find_at(case)?)
    }

    /// Changes a case and makes it durable.
    pub(super) fn change(
        &self,
        id: &[u8; 16],
        change: impl FnOnce(&mut Case, &Me) -> Result<Batch, Error>,
    ) -> Result<(), Error> {
        let mut core = self.core()?;
        let at = core.at_id(id)?;
        core.with(at, change)
    }

    /// Reads what is new in a case, if the relay answers: who leads it may have changed.
    async fn catch_up(&self, id: &[u8; 16]) -> Result<(), Error> {
        self.look_again(id)?;
        let done = match self.link_of(id).await {
            Ok(link) => self.drive(id, link.as_ref()).await,
            Err(error) => Err(error),
        };
        match done {
            Ok(()) | Err(Error::Unreachable) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Speaks for a case until a change of it is made, or waits for the relay. One that was overtaken by another of
    /// counsel's devices is [`Usage::NotCommitter`].
    async fn settled(&self, id: &[u8; 16], done: impl Fn(&Case) -> bool) -> Result<(CaseView, bool), Error> {
        self.settled_or(id, done, Some(Error::Usage(Usage::NotCommitter)))
            .await
    }

    async fn settled_or(
        &self,
        id: &[u8; 16],
        done: impl Fn(&Case) -> bool,
        overtaken: Option<Error>,
    ) -> Result<(CaseView, bool), Error> {
        self.inner.wake.notify_one();
        self.look_again(id)?;
        let tried = match self.link_of(id).await {
            Ok(link) => self.drive(id, link.as_ref()).await,
            Err(error) => Err(error),
        };
        let (is_done, waits) = {
            let core = self.core()?;
            let case = core
                .cases
                .get(core.at_id(id)?)
                .ok_or(Error::Internal("a case vanished"))?;
            (done(case), case.is_changing())
        };
        match (tried, is_done, overtaken) {
            (Ok(()) | Err(_), true, _) => {}
            (Err(Error::Unreachable), false, _) => {}
            (Err(error), false, _) => return Err(error),
            (Ok(()), false, Some(error)) if !waits => return Err(error),
            (Ok(()), false, _) => {}
        }
        Ok((self.case(&name_of(id))?, !is_done))
    }
}
