//! The cluster's settings as users see them, and its join tokens.

mod settings;

pub use settings::ClusterUpdate;

use std::sync::Arc;

use ca::{Issuer, JoinToken, RootBundle};
use store::{Action, Object};
use types::cluster::RootRotation;
use types::{Cluster, ClusterId, ClusterSpec, Meta, NodeRole, Timestamp};

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
    /// The root on its way in, if one is.
    pub root_rotation: Option<RootRotationView>,
    /// The present root, as nodes name whom they trust.
    pub trust_root_digest: String,
    /// The present root, as nodes name their issuer.
    pub issuer: Option<Issuer>,
}

/// A root on its way in, without its key.
#[derive(Clone, Debug)]
pub struct RootRotationView {
    /// PEM of the root.
    pub cert_pem: String,
    /// Whether nodes that are down are not waited for.
    pub skip_unreachable: bool,
    /// When it began.
    pub started_at: Timestamp,
    /// The root as nodes name it once it has issued their certificates.
    pub issuer: Issuer,
    /// As nodes name whom they trust once it is the only root.
    pub trust_root_digest: String,
}

impl RootRotationView {
    fn new(rotation: &RootRotation) -> Result<Self, Error> {
        let issuer = Issuer::of_root(&rotation.cert_pem)
            .map_err(|error| Error::Precondition(format!("the root that is to follow: {error}")))?;
        Ok(Self {
            cert_pem: rotation.cert_pem.clone(),
            skip_unreachable: rotation.skip_unreachable,
            started_at: rotation.started_at,
            issuer,
            trust_root_digest: digest_of(&rotation.cert_pem),
        })
    }
}

/// As nodes name whom they trust; empty for a text that is no root.
fn digest_of(pem: &str) -> String {
    RootBundle::from_pem(pem).map_or_else(|_| String::new(), |root| root.digest_text())
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
        let rotation = cluster.root_ca.rotation.as_ref();
        let root_rotation = rotation.map(RootRotationView::new).transpose()?;
        Ok(ClusterView {
            id: cluster.id,
            meta: cluster.meta,
            spec: cluster.spec.clone(),
            root_cert_pem: cluster.root_ca.cert_pem.clone(),
            worker_token: cluster.root_ca.worker_token.clone(),
            manager_token: cluster.root_ca.manager_token.clone(),
            managers: managers.into_iter().map(|manager| manager.addr).collect(),
            root_rotation,
            trust_root_digest: digest_of(&cluster.root_ca.cert_pem),
            issuer: Issuer::of_root(&cluster.root_ca.cert_pem).ok(),
        })
    }

    /// Replaces the secret of a role's join token; nodes already in stay (S12.03).
    ///
    /// # Errors
    /// When the change cannot be committed.
    pub async fn rotate_join_token(&self, role: NodeRole) -> Result<String, Error> {
        self.change_cluster(|cluster| {
            let token = fresh_token(&cluster.root_ca.cert_pem)?;
            match role {
                NodeRole::Worker => cluster.root_ca.worker_token.clone_from(&token),
                NodeRole::Manager => cluster.root_ca.manager_token.clone_from(&token),
            }
            Ok(token)
        })
        .await
    }

    /// Changes the stored cluster; `change` is asked again when another change came between.
    pub(crate) async fn change_cluster<T>(
        &self,
        change: impl Fn(&mut Cluster) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut tries = 0;
        loop {
            let mut cluster = Cluster::clone(&*self.stored_cluster()?);
            let answer = change(&mut cluster)?;
            match self
                .propose(vec![Action::Update(Object::from(cluster))])
                .await
            {
                Ok(_) => return Ok(answer),
                Err(Error::Stale { .. }) if tries < STALE_RETRIES_MAX => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    pub(crate) fn stored_cluster(&self) -> Result<Arc<Cluster>, Error> {
        self.state().cluster().cloned().ok_or(Error::NotReady)
    }
}

pub(crate) fn fresh_token(root_pem: &str) -> Result<String, Error> {
    let token = RootBundle::from_pem(root_pem).and_then(|bundle| JoinToken::generate(&bundle));
    token
        .map(|token| token.reveal().to_string())
        .map_err(|error| Error::Token(error.to_string()))
}
