//! The Ca service of a manager.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ca::authorize;
use proto::ca::ca_server::Ca;
use proto::ca::{
    GetRootCertificateRequest, GetRootCertificateResponse, IssueNodeCertificateRequest,
    IssueNodeCertificateResponse,
};
use store::{Action, Propose, ProposeError, RefusalReason, State, Store};
use tonic::{Request, Response, Status};
use types::id::RandomIds;
use types::node::Availability;
use types::{NodeId, NodeRole, Timestamp};

use crate::bad_tokens::BadTokens;
use crate::entry;
use crate::issue::{self, Issued, Refusal};

/// Times a node object is read again when it changed meanwhile (E: 3 in SwarmKit).
const TRIES_MAX: usize = 3;
/// Times a join is decided anew: its id was taken, or other nodes used the same limited token.
const JOIN_TRIES_MAX: usize = 16;

/// Signs for the cluster in this manager's store.
#[derive(Clone)]
pub struct Signer {
    store: Store,
    proposer: Arc<dyn Propose>,
    bad_tokens: Arc<Mutex<BadTokens>>,
}

impl Signer {
    /// Signs with the key in `store`; new nodes are written through `proposer`.
    #[must_use]
    pub fn new(store: Store, proposer: Arc<dyn Propose>) -> Self {
        Self {
            store,
            proposer,
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
            let issued = issue::join(cluster, id, role, availability, &request.csr_pem, now);
            let issued = issued.map_err(status)?;
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
        request: &IssueNodeCertificateRequest,
    ) -> Result<Issued, Status> {
        for _ in 0..TRIES_MAX {
            let state = self.store.state();
            let now = Timestamp::now();
            let issued = issue::renew(&state, peer, &request.csr_pem, now).map_err(status)?;
            let changed = state
                .node(peer.node_id)
                .is_none_or(|node| node.role != issued.node.role);
            if !changed {
                return Ok(issued);
            }
            match self
                .proposer
                .propose(vec![Action::Update(issued.node.clone().into())])
                .await
            {
                Ok(_) => {
                    tracing::info!(node = %peer.node_id, role = %issued.node.role, "role changed");
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
        Ok(Response::new(GetRootCertificateResponse { bundle_pem }))
    }

    async fn issue_node_certificate(
        &self,
        request: Request<IssueNodeCertificateRequest>,
    ) -> Result<Response<IssueNodeCertificateResponse>, Status> {
        let origin = *authorize::origin(&request)?;
        let peer = origin.node().copied();
        // Only the local socket has no address, and it does not serve this.
        let from = origin
            .remote_addr
            .map_or(Ipv4Addr::LOCALHOST.into(), |addr| addr.ip());
        let request = request.into_inner();
        let issued = match (request.token.as_str(), &peer) {
            ("", None) => return Err(status(Refusal::NoCredential)),
            ("", Some(peer)) => self.renew(peer, &request).await?,
            (_, _) => self.join(&request, from).await?,
        };
        Ok(Response::new(IssueNodeCertificateResponse {
            node_id: issued.subject.node_id.to_string(),
            cluster_id: issued.subject.cluster_id.to_string(),
            role: proto::objects::NodeRole::from(issued.subject.role).into(),
            chain_pem: issued.chain_pem,
            bundle_pem: issued.bundle_pem,
            managers: managers(&self.store.state()),
        }))
    }
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
        Refusal::StillMember(_) => Status::failed_precondition(text),
        Refusal::Authority(_) => Status::internal(text),
        Refusal::NoCluster => Status::unavailable(text),
    }
}

#[cfg(test)]
mod tests;
