//! Which case is meant, and where it is.

use super::Core;
use crate::{
    archive::Archived,
    case::Case,
    error::{Error, Missing, Usage},
    view::{CaseView, name_of},
};

/// Where a case is.
#[derive(Clone, Copy)]
pub(super) enum Found {
    Case(usize),
    Archived(usize),
}

impl Core {
    pub(super) fn view(&self, case: &Case) -> CaseView {
        let uploads = self.uploads.iter().filter(|(id, ..)| id == case.id()).count();
        case.view(&self.me, u64::try_from(uploads).unwrap_or(u64::MAX), super::now())
    }

    /// A case by its id, as much of its beginning as is unique, or its label.
    pub(super) fn find(&self, reference: &str) -> Result<Found, Error> {
        let wanted = reference.trim().to_lowercase();
        if wanted.is_empty() {
            return Err(Error::NotFound(Missing::Case));
        }
        let cases = self.cases.iter().enumerate();
        let cases = cases.map(|(at, case)| (Found::Case(at), *case.id(), self.view(case).label));
        let archived = self.archived.iter().enumerate();
        let archived =
            archived.map(|(at, case)| (Found::Archived(at), *case.id(), case.view(&self.me).label));
        let known: Vec<_> = cases.chain(archived).collect();
        let named = |id: &[u8; 16], _: &str| name_of(id).starts_with(&wanted);
        let labelled = |_: &[u8; 16], label: &str| label.to_lowercase() == wanted;
        for fits in [&named as &dyn Fn(&[u8; 16], &str) -> bool, &labelled] {
            let mut found = known
                .iter()
                .filter(|(_, id, label)| fits(id, label))
                .map(|(at, ..)| *at);
            match (found.next(), found.next()) {
                (Some(at), None) => return Ok(at),
                (Some(_), Some(_)) => return Err(Error::Usage(Usage::Ambiguous)),
                (None, _) => {}
            }
        }
        Err(Error::NotFound(Missing::Case))
    }

    /// A case that this device can go on in.
    pub(super) fn find_at(&self, reference: &str) -> Result<usize, Error> {
        match self.find(reference)? {
            Found::Case(at) => Ok(at),
            Found::Archived(_) => Err(Error::Usage(Usage::CaseRestored)),
        }
    }

    pub(super) fn case_at(&self, at: usize) -> Result<&Case, Error> {
        self.cases.get(at).ok_or(Error::NotFound(Missing::Case))
    }

    pub(super) fn archived_at(&self, at: usize) -> Result<&Archived, Error> {
        self.archived.get(at).ok_or(Error::NotFound(Missing::Case))
    }

    pub(super) fn id_at(&self, at: usize) -> Result<[u8; 16], Error> {
        self.cases
            .get(at)
            .map(|case| *case.id())
            .ok_or(Error::NotFound(Missing::Case))
    }

    pub(super) fn at_id(&self, id: &[u8; 16]) -> Result<usize, Error> {
        self.cases
            .iter()
            .position(|case| case.id() == id)
            .ok_or(Error::NotFound(Missing::Case))
    }
}
