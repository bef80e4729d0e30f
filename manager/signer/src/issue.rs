//! Decides what a request for a certificate gets. Pure: the store is only read.

use std::time::Duration;

use ca::{PeerIdentity, RootCa, Subject};
use store::State;
use types::node::{Availability, NodeStatus};
use types::{Cluster, Meta, Node, NodeId, NodeRole, NodeSpec, Timestamp};

/// How much later than its node's demotion a manager certificate is dated: rounding down to whole
/// seconds must not make it older.
const AFTER_DEMOTION: Duration = Duration::from_secs(1);

/// A certificate, and the node object that has to be stored before it is handed out.
#[derive(Debug)]
pub struct Issued {
    /// Whose it is, in which role.
    pub subject: Subject,
    /// The node as it must be stored.
    pub node: Node,
    /// Whether the node is new.
    pub is_new: bool,
    /// Certificate chain.
    pub chain_pem: String,
    /// Roots to trust.
    pub bundle_pem: String,
}

/// Why nothing is issued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Neither token nor certificate.
    #[error("a valid join token is necessary to join this cluster")]
    NoCredential,
    /// Not a token of this cluster.
    #[error("a valid join token is necessary to join this cluster: {0}")]
    Token(String),
    /// The certificate's node was removed.
    #[error("node {0} is not part of this cluster any more: leave it and join again")]
    Removed(NodeId),
    /// A demoted manager that is still in the group.
    #[error("node {0} is still a member of the managers' group: try again when it has left")]
    StillMember(NodeId),
    /// The request itself.
    #[error("certificate request: {0}")]
    Request(String),
    /// The cluster's own key or certificate does not work.
    #[error("signing a certificate: {0}")]
    Authority(String),
    /// This manager does not know the cluster yet.
    #[error("this manager has not caught up with the cluster yet")]
    NoCluster,
}

/// A certificate for a machine that joins in `role`, as node `id`.
///
/// # Errors
/// When the request is not one or the cluster cannot sign.
pub(crate) fn join(
    cluster: &Cluster,
    id: NodeId,
    role: NodeRole,
    availability: Availability,
    csr_pem: &str,
    now: Timestamp,
) -> Result<Issued, Refusal> {
    let node = Node {
        id,
        meta: Meta::default(),
        spec: NodeSpec {
            role,
            availability,
            ..NodeSpec::default()
        },
        role,
        description: None,
        status: NodeStatus::default(),
        manager_status: None,
        network_index: 0,
        certificate: types::node::NodeCertificate::default(),
    };
    sign(cluster, node, true, csr_pem, now)
}

/// A newer certificate for a node of the cluster, in the role it is wanted in.
///
/// # Errors
/// When it was removed, has to leave the managers' group first, or as for [`join`].
pub(crate) fn renew(
    state: &State,
    peer: &PeerIdentity,
    csr_pem: &str,
    now: Timestamp,
) -> Result<Issued, Refusal> {
    let cluster = state.cluster().ok_or(Refusal::NoCluster)?;
    let node = state
        .node(peer.node_id)
        .ok_or(Refusal::Removed(peer.node_id))?;
    let demoted = peer.role == NodeRole::Manager && node.spec.role == NodeRole::Worker;
    if demoted && node.manager_status.is_some() {
        return Err(Refusal::StillMember(node.id));
    }
    let node = Node {
        role: node.spec.role,
        ..Node::clone(node)
    };
    sign(cluster, node, false, csr_pem, now)
}

fn sign(
    cluster: &Cluster,
    node: Node,
    is_new: bool,
    csr_pem: &str,
    now: Timestamp,
) -> Result<Issued, Refusal> {
    let root = RootCa::from_pem(&cluster.root_ca.cert_pem, &cluster.root_ca.key_pem)
        .map_err(|error| Refusal::Authority(error.to_string()))?;
    let subject = Subject {
        cluster_id: cluster.id,
        role: node.role,
        node_id: node.id,
    };
    let now = issued_at(cluster, &subject, now);
    let chain_pem = root
        .issue(csr_pem, &subject, cluster.spec.node_cert_expiry, now)
        .map_err(|error| Refusal::Request(error.to_string()))?;
    let bundle_pem = cluster.root_ca.cert_pem.clone();
    Ok(Issued {
        subject,
        node,
        is_new,
        chain_pem,
        bundle_pem,
    })
}

/// When a certificate counts as issued. A manager's must be seen to be newer than the node's last
/// demotion, whatever the clocks of the two managers said: certificates name whole seconds.
fn issued_at(cluster: &Cluster, subject: &Subject, now: Timestamp) -> Timestamp {
    let demoted = cluster.access.demoted.get(&subject.node_id);
    match (subject.role, demoted) {
        (NodeRole::Manager, Some(at)) => now.max(at.plus(AFTER_DEMOTION)),
        (NodeRole::Manager, None) | (NodeRole::Worker, _) => now,
    }
}
