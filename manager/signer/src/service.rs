//! The Ca service of a manager.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ca::authorize::{self, Origin};
use ca::tls::ConnInfo;
use ca::{Tls, effective_validity};
use proto::ca::ca_server::Ca;
use proto::ca::{
    GetRootCertificateRequest, GetRootCertificateResponse, IssueNodeCertificateRequest,
    IssueNodeCertificateResponse, ReissueNodeCertificateRequest,
};
use store::{Action, Propose, ProposeError, RefusalReason, State, Store};
use tonic::{Request, Response, Status};
use types::id::RandomIds;
use types::node::{Availability, KeyDigest};
use types::{Cluster, NodeId, NodeRole, Timestamp};

use crate::authority::{Authority, Order};
use crate::bad_tokens::BadTokens;
use crate::entry;
use crate::issue::{self, Draft, Issued, Refusal};

/// Times a node object is read again when it changed meanwhile (E: 3 in SwarmKit).
const TRIES_MAX: usize = 3;
/// Times a join is decided anew: its id was taken, or other nodes used the same limited token.
const JOIN_TRIES_MAX: usize = 16;

/// What a signer works with.
pub struct Options {
    /// The store with the cluster's key.
    pub store: Store,
    /// Where new nodes and changed ones are written.
    pub proposer: Arc<dyn Propose>,
    /// This manager's identity, for authorities outside the swarm.
    pub tls: Tls,
    /// Shortest life of a certificate that is honoured: [`ca::NODE_VALIDITY_MIN`] but in tests.
    pub validity_min: Duration,
}

/// Signs for the cluster in this manager's store.
#[derive(Clone)]
pub struct Signer {
    store: Store,
    proposer: Arc<dyn Propose>,
    tls: Tls,
    validity_min: Duration,
    bad_tokens: Arc<Mutex<BadTokens>>,
}

impl Signer {
    /// A signer that is ready at once.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let Options {
            store,
            proposer,
            tls,
            validity_min,
        } = options;
        Self {
            store,
            proposer,
            tls,
            validity_min,
            bad_tokens: Arc::default(),
        }
    }

    fn bad_tokens(&self) -> MutexGuard<'_, BadTokens> {
        self.bad_tokens
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn join(
        &self,
        request: &IssueNodeCertificateRequest,
        from: IpAddr,
    ) -> Result<Issued, Status> {
        let now = Timestamp::now();
        if self.bad_tokens().must_wait(from, now) {
            return Err(Status::resource_exhausted(
                "too many wrong join tokens from this address: try again in a minute",
            ));
        }
        let availability = Availability::from(request.availability());
        let key = key_of(&request.csr_pem)?;
        for _ in 0..JOIN_TRIES_MAX {
            let state = self.store.state();
            let cluster = state.cluster().ok_or(Refusal::NoCluster).map_err(status)?;
            let entry = entry::entry(cluster, &request.token, now).map_err(|refusal| {
                if self.bad_tokens().note(from, now) {
                    tracing::warn!(%from, %refusal, "refused a wrong join token");
                }
                status(refusal)
            })?;
            let (id, role) = (NodeId::generate(&mut RandomIds), entry.role);
            let draft = issue::join(cluster, id, role, availability, key, now);
            let issued = self.sign(cluster, draft, &request.csr_pem).await?;
            let mut actions = vec![Action::Create(issued.node.clone().into())];
            if let Some(name) = &entry.counted {
                // Applied together or not at all: no token lets in more nodes than it may.
                actions.push(Action::Update(entry::count_use(cluster, name).into()));
            }
            match self.proposer.propose(actions).await {
                Ok(_) => {
                    tracing::info!(node = %id, %role, token = entry.counted, "a node joins");
                    return Ok(issued);
                }
                Err(ProposeError::Refused(refusal))
                    if matches!(refusal.reason, RefusalReason::Exists | RefusalReason::Stale) => {}
                Err(error) => return Err(Status::unavailable(error.to_string())),
            }
        }
        Err(Status::aborted(
            "the cluster kept changing while this node was let in: try again",
        ))
    }

    async fn renew(
        &self,
        peer: &ca::PeerIdentity,
        old: Option<KeyDigest>,
        csr_pem: &str,
    ) -> Result<Issued, Status> {
        let new = key_of(csr_pem)?;
        self.again(csr_pem, |state| {
            issue::renew(state, peer, old, new, Timestamp::now())
        })
        .await
    }

    /// Another certificate for a node whose former one is of no use any more, for the key it is
    /// known by.
    ///
    /// # Errors
    /// When the node was removed, or is known by another key.
    pub async fn reissue(&self, node_id: NodeId, csr_pem: &str) -> Result<Issued, Status> {
        let key = key_of(csr_pem)?;
        let issued = self
            .again(csr_pem, |state| {
                issue::reissue(state, node_id, key, Timestamp::now())
            })
            .await?;
        tracing::info!(node = %node_id, "a node came back by the key it is known by");
        Ok(issued)
    }

    /// Signs what is decided, and has the node stored if that changes it.
    async fn again(
        &self,
        csr_pem: &str,
        decide: impl Fn(&State) -> Result<Draft, Refusal>,
    ) -> Result<Issued, Status> {
        for _ in 0..TRIES_MAX {
            let state = self.store.state();
            let cluster = state.cluster().ok_or(Refusal::NoCluster).map_err(status)?;
            let draft = decide(&state).map_err(status)?;
            let issued = self.sign(cluster, draft, csr_pem).await?;
            let node_id = issued.subject.node_id;
            let role_changes = state
                .node(node_id)
                .is_none_or(|node| node.role != issued.node.role);
            let changed = state.node(node_id).is_none_or(|node| **node != issued.node);
            if !changed {
                return Ok(issued);
            }
            match self
                .proposer
                .propose(vec![Action::Update(issued.node.clone().into())])
                .await
            {
                Ok(_) => {
                    if role_changes {
                        tracing::info!(node = %node_id, role = %issued.node.role, "role changed");
                    }
                    return Ok(issued);
                }
                // The node changed meanwhile: read it again.
                Err(ProposeError::Refused(_)) => {}
                Err(error) => return Err(Status::unavailable(error.to_string())),
            }
        }
        Err(Status::aborted(
            "the node kept changing while its certificate was issued",
        ))
    }
}

#[tonic::async_trait]
impl Ca for Signer {
    async fn get_root_certificate(
        &self,
        _: Request<GetRootCertificateRequest>,
    ) -> Result<Response<GetRootCertificateResponse>, Status> {
        let state = self.store.state();
        let cluster = state.cluster().ok_or(Refusal::NoCluster).map_err(status)?;
        let bundle_pem = cluster.root_ca.cert_pem.clone();
        let lineage = cluster.root_ca.lineage.clone();
        Ok(Response::new(GetRootCertificateResponse {
            bundle_pem,
            lineage,
        }))
    }

    async fn reissue_node_certificate(
        &self,
        request: Request<ReissueNodeCertificateRequest>,
    ) -> Result<Response<IssueNodeCertificateResponse>, Status> {
        let from = address(authorize::origin(&request)?);
        let ReissueNodeCertificateRequest { node_id, csr_pem } = request.into_inner();
        let now = Timestamp::now();
        if self.bad_tokens().must_wait(from, now) {
            return Err(Status::resource_exhausted(
                "too many wrong requests from this address: try again in a minute",
            ));
        }
        let node_id = node_id
            .parse()
            .map_err(|error| Status::invalid_argument(format!("node_id: {error}")))?;
        let reissued = self.reissue(node_id, &csr_pem).await;
        let issued = reissued.inspect_err(|status| {
            tracing::warn!(node = %node_id, %from, reason = status.message(), "not certified again");
            self.bad_tokens().note(from, now);
        })?;
        Ok(Response::new(self.answer(issued)))
    }

    async fn issue_node_certificate(
        &self,
        request: Request<IssueNodeCertificateRequest>,
    ) -> Result<Response<IssueNodeCertificateResponse>, Status> {
        let origin = *authorize::origin(&request)?;
        let peer = origin.node().copied();
        let from = address(&origin);
        let key = request.extensions().get::<ConnInfo>();
        // A request that another manager passed on is not over the node's own connection.
        let key = key.filter(|_| origin.forwarded_by.is_none());
        let key = key.and_then(|connection| connection.key);
        let request = request.into_inner();
        let issued = match (request.token.as_str(), &peer) {
            ("", None) => return Err(status(Refusal::NoCredential)),
            ("", Some(peer)) => self.renew(peer, key, &request.csr_pem).await?,
            (_, _) => self.join(&request, from).await?,
        };
        Ok(Response::new(self.answer(issued)))
    }
}

impl Signer {
    async fn sign(&self, cluster: &Cluster, draft: Draft, csr_pem: &str) -> Result<Issued, Status> {
        let authority = Authority::of(cluster).map_err(status)?;
        let validity = effective_validity(cluster.spec.node_cert_expiry, self.validity_min);
        let order = Order {
            csr_pem,
            subject: &draft.subject,
            validity,
            issued_at: draft.issued_at,
        };
        let chain_pem = authority.sign(&self.tls, &order).await.map_err(status)?;
        Ok(Issued {
            subject: draft.subject,
            node: draft.node,
            chain_pem,
            bundle_pem: cluster.root_ca.bundle_pem(),
        })
    }

    fn answer(&self, issued: Issued) -> IssueNodeCertificateResponse {
        IssueNodeCertificateResponse {
            node_id: issued.subject.node_id.to_string(),
            cluster_id: issued.subject.cluster_id.to_string(),
            role: proto::objects::NodeRole::from(issued.subject.role).into(),
            chain_pem: issued.chain_pem,
            bundle_pem: issued.bundle_pem,
            managers: managers(&self.store.state()),
        }
    }
}

/// Where a request comes from. Only the local socket has no address, and it does not serve these.
fn address(origin: &Origin) -> IpAddr {
    let addr = origin.remote_addr;
    addr.map_or(Ipv4Addr::LOCALHOST.into(), |addr| addr.ip())
}

/// The key that is asked for.
fn key_of(csr_pem: &str) -> Result<KeyDigest, Status> {
    let key = ca::csr_key_digest(csr_pem);
    key.map_err(|error| status(Refusal::Request(error.to_string())))
}

/// Where the managers answer.
fn managers(state: &State) -> Vec<String> {
    let managers = state.nodes().filter(|node| node.role == NodeRole::Manager);
    managers
        .filter_map(|node| Some(node.manager_status.as_ref()?.addr.clone()))
        .collect()
}

fn status(refusal: Refusal) -> Status {
    let text = refusal.to_string();
    match refusal {
        Refusal::NoCredential => Status::unauthenticated(text),
        Refusal::Token(_) | Refusal::Request(_) => Status::invalid_argument(text),
        Refusal::Removed(_) => Status::permission_denied(text),
        Refusal::StillMember(_) | Refusal::UnknownKey(_) => Status::failed_precondition(text),
        Refusal::Authority(_) => Status::internal(text),
        Refusal::NoCluster => Status::unavailable(text),
    }
}

#[cfg(test)]
mod tests;
