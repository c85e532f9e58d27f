//! What works from here: each road to each relay, and the clock.

use std::collections::BTreeMap;

use martlet_proto::link::RelayAddress;
use tokio::task::JoinSet;

use super::{Client, now};
use crate::{
    error::Error,
    link::{LinkError, Tried},
    view::{Health, RoadView},
};

impl Client {
    /// Tries every road to every relay that is used.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] after an earlier failure.
    ///
    /// # Cancel safety
    ///
    /// Nothing is left behind.
    pub async fn health(&self) -> Result<Health, Error> {
        let relays: Vec<RelayAddress> = self.relays()?;
        let mut trying = JoinSet::new();
        for relay in &relays {
            let (connect, relay) = (self.connect()?, relay.clone());
            trying.spawn(async move { connect.try_roads(&relay).await });
        }
        let mut found: Vec<Vec<Tried>> = Vec::new();
        while let Some(tried) = trying.join_next().await {
            found.push(tried.map_err(|_| Error::Internal("a task was lost"))?);
        }
        let reached = found.iter().all(|roads| roads.iter().any(|(_, how)| how.is_ok()));
        let mut roads: BTreeMap<&str, bool> = BTreeMap::new();
        let (mut wrong_pin, mut clock_off) = (false, false);
        for (road, how) in found.into_iter().flatten() {
            let good = roads.entry(road).or_insert(true);
            *good &= how.is_ok();
            match how {
                Ok(Some(day)) => clock_off |= day.0.abs_diff(now().day().0) > 1,
                Ok(None) => {}
                Err(error) => wrong_pin |= error == LinkError::WrongPin,
            }
        }
        Ok(Health {
            relays: u64::try_from(relays.len()).unwrap_or(u64::MAX),
            reached: reached && !relays.is_empty(),
            roads: roads
                .into_iter()
                .map(|(road, ok)| RoadView {
                    road: road.into(),
                    ok,
                })
                .collect(),
            wrong_pin,
            clock_off,
        })
    }
}
