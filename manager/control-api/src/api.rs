//! The handle everything a user asks goes through.

use std::sync::Arc;
use std::time::Duration;

use ca::Tls;
use seal::OpenKey;
use store::{Action, Propose, State, Store};
use types::Version;

use crate::{ClusterStatus, Error, LogSource, NetworkChecks};

/// Times a change is decided anew when something it read was changed meanwhile.
pub(crate) const STALE_RETRIES_MAX: usize = 8;

/// Carries out what users ask. Clones share everything.
#[derive(Clone)]
pub struct ControlApi {
    pub(crate) store: Store,
    pub(crate) proposer: Arc<dyn Propose>,
    pub(crate) status: Arc<dyn ClusterStatus>,
    pub(crate) logs: Arc<dyn LogSource>,
    pub(crate) network_checks: Option<Arc<dyn NetworkChecks>>,
    pub(crate) cert_expiry_min: Duration,
    pub(crate) tls: Option<Tls>,
    /// Opens the content users send; it lasts as long as the daemon.
    pub(crate) open_key: Arc<OpenKey>,
}

impl ControlApi {
    /// An API over this manager's store.
    #[must_use]
    pub fn new(
        store: Store,
        proposer: Arc<dyn Propose>,
        status: Arc<dyn ClusterStatus>,
        logs: Arc<dyn LogSource>,
    ) -> Self {
        Self {
            store,
            proposer,
            status,
            logs,
            network_checks: None,
            cert_expiry_min: ca::NODE_VALIDITY_MIN,
            tls: None,
            open_key: Arc::new(OpenKey::generate().expect("the system has randomness")),
        }
    }

    /// The same with this manager's identity, for authorities outside the swarm, and another
    /// shortest life of node certificates, as tests need that cannot wait for an hour.
    #[must_use]
    pub fn with_identity(mut self, tls: Tls, cert_expiry_min: Duration) -> Self {
        self.tls = Some(tls);
        self.cert_expiry_min = cert_expiry_min;
        self
    }

    /// The same with somebody who has nodes check their networks.
    #[must_use]
    pub fn with_network_checks(mut self, checks: Arc<dyn NetworkChecks>) -> Self {
        self.network_checks = Some(checks);
        self
    }

    pub(crate) fn state(&self) -> Arc<State> {
        self.store.state()
    }

    pub(crate) async fn propose(&self, actions: Vec<Action>) -> Result<Version, Error> {
        self.proposer
            .propose(actions)
            .await
            .map_err(Error::from_propose)
    }
}

impl std::fmt::Debug for ControlApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlApi")
            .field("version", &self.store.state().version())
            .finish()
    }
}
