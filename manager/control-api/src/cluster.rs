//! The cluster's settings as users see them, and its join tokens.

use std::sync::Arc;

use ca::{JoinToken, RootBundle};
use store::{Action, Object};
use types::{Cluster, ClusterId, ClusterSpec, Meta, NodeRole};

use crate::api::STALE_RETRIES_MAX;
use crate::{ControlApi, Error};

/// The cluster without its keys.
#[derive(Clone, Debug)]
pub struct ClusterView {
    /// Its id.
    pub id: ClusterId,
    /// Version and times.
    pub meta: Meta,
    /// Its settings.
    pub spec: ClusterSpec,
    /// PEM bundle of the trusted roots.
    pub root_cert_pem: String,
    /// Token that joins as worker.
    pub worker_token: String,
    /// Token that joins as manager.
    pub manager_token: String,
    /// Addresses of the managers, the leader's first.
    pub managers: Vec<String>,
}

impl ControlApi {
    /// The cluster as users see it.
    ///
    /// # Errors
    /// [`Error::NotReady`] while it has not been written.
    pub fn cluster(&self) -> Result<ClusterView, Error> {
        let cluster = self.stored_cluster()?;
        let leader = self.status.leader();
        let mut managers = self.status.managers();
        managers.sort_by_key(|manager| (Some(manager.raft_id) != leader, manager.addr.clone()));
        Ok(ClusterView {
            id: cluster.id,
            meta: cluster.meta,
            spec: cluster.spec.clone(),
            root_cert_pem: cluster.root_ca.cert_pem.clone(),
            worker_token: cluster.root_ca.worker_token.clone(),
            manager_token: cluster.root_ca.manager_token.clone(),
            managers: managers.into_iter().map(|manager| manager.addr).collect(),
        })
    }

    /// Replaces the secret of a role's join token; nodes already in stay (S12.03).
    ///
    /// # Errors
    /// When the change cannot be committed.
    pub async fn rotate_join_token(&self, role: NodeRole) -> Result<String, Error> {
        let mut tries = 0;
        loop {
            let mut cluster = Cluster::clone(&*self.stored_cluster()?);
            let token = fresh_token(&cluster.root_ca.cert_pem)?;
            match role {
                NodeRole::Worker => cluster.root_ca.worker_token.clone_from(&token),
                NodeRole::Manager => cluster.root_ca.manager_token.clone_from(&token),
            }
            match self
                .propose(vec![Action::Update(Object::from(cluster))])
                .await
            {
                Ok(_) => return Ok(token),
                Err(Error::Stale { .. }) if tries < STALE_RETRIES_MAX => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    pub(crate) fn stored_cluster(&self) -> Result<Arc<Cluster>, Error> {
        self.state().cluster().cloned().ok_or(Error::NotReady)
    }
}

fn fresh_token(root_pem: &str) -> Result<String, Error> {
    let token = RootBundle::from_pem(root_pem).and_then(|bundle| JoinToken::generate(&bundle));
    token
        .map(|token| token.reveal().to_string())
        .map_err(|error| Error::Token(error.to_string()))
}
