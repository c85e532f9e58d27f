//! Reaching all relays through a SOCKS5 proxy, if the owner wishes so. SPEC.md 4.6.

use std::sync::Arc;

use martlet_proto::link::Address;

use super::{Client, Core};
use crate::{
    error::Error,
    link::{Connect, roads::Roads},
    vault::Batch,
};

/// The roads that a vault's owner chose.
pub(super) fn roads(core: &Core) -> Arc<dyn Connect> {
    Arc::new(match core.me.profile().proxy.clone() {
        Some(proxy) => Roads::through(proxy),
        None => Roads::new(),
    })
}

impl Client {
    /// The proxy through which all relays are reached, if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] after an earlier failure.
    pub fn proxy(&self) -> Result<Option<Address>, Error> {
        Ok(self.core()?.me.profile().proxy.clone())
    }

    /// Reaches all relays through a proxy from now on, and in no other way; or through none. Connections in use are closed.
    ///
    /// # Errors
    ///
    /// Those of the vault.
    pub fn set_proxy(&self, proxy: Option<Address>) -> Result<(), Error> {
        {
            let mut core = self.core()?;
            let core = &mut *core;
            core.me.profile_mut().proxy = proxy;
            let mut batch = Batch::default();
            core.save_profile(&mut batch)?;
            core.commit(batch)?;
            let mut connect = self
                .inner
                .connect
                .lock()
                .map_err(|_| Error::Internal("an earlier failure"))?;
            *connect = roads(core);
        }
        self.close_links();
        Ok(())
    }

    /// How relays are reached at present.
    pub(super) fn connect(&self) -> Result<Arc<dyn Connect>, Error> {
        let connect = self
            .inner
            .connect
            .lock()
            .map_err(|_| Error::Internal("an earlier failure"))?;
        Ok(Arc::clone(&connect))
    }
}
