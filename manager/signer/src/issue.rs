//! Decides what a request for a certificate gets. Pure: the store is only read, nothing is signed.

use std::time::Duration;

use ca::{PeerIdentity, Subject};
use store::State;
use types::node::{Availability, KeyDigest, NodeCertificate, NodeStatus};
use types::{Cluster, Meta, Node, NodeId, NodeRole, NodeSpec, Timestamp};

/// How much later than its node's demotion a manager certificate is dated: rounding down to whole
/// seconds must not make it older.
const AFTER_DEMOTION: Duration = Duration::from_secs(1);

/// What a certificate is to say, and the node object that has to be stored before it is handed out.
#[derive(Debug)]
pub(crate) struct Draft {
    /// Whose it is, in which role.
    pub(crate) subject: Subject,
    /// The node as it must be stored.
    pub(crate) node: Node,
    /// When it counts as issued.
    pub(crate) issued_at: Timestamp,
}

/// A certificate, and the node object that has to be stored before it is handed out.
#[derive(Debug)]
pub struct Issued {
    /// Whose it is, in which role.
    pub subject: Subject,
    /// The node as it must be stored.
    pub node: Node,
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
    /// The node is known, but by another key.
    #[error(
        "node {0} was last certified for another key than this one: if its state directory was \
         replaced by an older copy, leave the swarm and join again"
    )]
    UnknownKey(NodeId),
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

/// A certificate for a machine that joins in `role`, as node `id`. `key` is the one it asks for.
pub(crate) fn join(
    cluster: &Cluster,
    id: NodeId,
    role: NodeRole,
    availability: Availability,
    key: KeyDigest,
    now: Timestamp,
) -> Draft {
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
        certificate: NodeCertificate {
            keys: vec![key],
            renew_now: false,
        },
    };
    draft(cluster, node, now)
}

/// A newer certificate for a node of the cluster, in the role it is wanted in.
///
/// `old` is the key of the certificate it asks with, `new` the one it asks for. Both stay known until
/// it asks again: the answer may be lost.
///
/// # Errors
/// When it was removed or has to leave the managers' group first.
pub(crate) fn renew(
    state: &State,
    peer: &PeerIdentity,
    old: Option<KeyDigest>,
    new: KeyDigest,
    now: Timestamp,
) -> Result<Draft, Refusal> {
    let mut keys = vec![new];
    keys.extend(old.filter(|old| *old != new));
    again(state, peer.node_id, keys, now)
}

/// Another certificate for a node whose former one is of no use any more, for the key it was last
/// certified for. That the request is signed by that key proves who asks.
///
/// # Errors
/// As for [`renew`], and when the key is another one.
pub(crate) fn reissue(
    state: &State,
    node_id: NodeId,
    key: KeyDigest,
    now: Timestamp,
) -> Result<Draft, Refusal> {
    let cluster = state.cluster().ok_or(Refusal::NoCluster)?;
    if cluster.revoked.contains_key(&node_id) {
        return Err(Refusal::Removed(node_id));
    }
    let node = state.node(node_id).ok_or(Refusal::Removed(node_id))?;
    if !node.certificate.keys.contains(&key) {
        return Err(Refusal::UnknownKey(node_id));
    }
    again(state, node_id, node.certificate.keys.clone(), now)
}

fn again(
    state: &State,
    node_id: NodeId,
    keys: Vec<KeyDigest>,
    now: Timestamp,
) -> Result<Draft, Refusal> {
    let cluster = state.cluster().ok_or(Refusal::NoCluster)?;
    let node = state.node(node_id).ok_or(Refusal::Removed(node_id))?;
    let demoted = node.role == NodeRole::Manager && node.spec.role == NodeRole::Worker;
    if demoted && node.manager_status.is_some() {
        return Err(Refusal::StillMember(node.id));
    }
    let certificate = NodeCertificate {
        keys,
        renew_now: false,
    };
    let node = Node {
        role: node.spec.role,
        certificate,
        ..Node::clone(node)
    };
    Ok(draft(cluster, node, now))
}

fn draft(cluster: &Cluster, node: Node, now: Timestamp) -> Draft {
    let subject = Subject {
        cluster_id: cluster.id,
        role: node.role,
        node_id: node.id,
    };
    Draft {
        subject,
        issued_at: issued_at(cluster, &subject, now),
        node,
    }
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
