//! Whom a certificate speaks of: cluster (O), role (OU) and node (CN).

use types::{ClusterId, NodeId, NodeRole, Timestamp};

/// CN of every root, and a name that only managers carry (SwarmKit `ca.CARole`).
pub const CA_NAME: &str = "swarm-ca";

const MANAGER_OU: &str = "swarm-manager";
const WORKER_OU: &str = "swarm-worker";

/// The OU of a role; also a DNS name in the certificate, which is how a dialling node checks it.
#[must_use]
pub fn organizational_unit(role: NodeRole) -> &'static str {
    match role {
        NodeRole::Manager => MANAGER_OU,
        NodeRole::Worker => WORKER_OU,
    }
}

/// The role an OU names, if it names one.
pub(crate) fn role_of(organizational_unit: &str) -> Option<NodeRole> {
    match organizational_unit {
        MANAGER_OU => Some(NodeRole::Manager),
        WORKER_OU => Some(NodeRole::Worker),
        _ => None,
    }
}

/// What a node certificate says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// O.
    pub cluster_id: ClusterId,
    /// OU.
    pub role: NodeRole,
    /// CN.
    pub node_id: NodeId,
}

/// What the certificate on the other end of a connection says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// CN.
    pub node_id: NodeId,
    /// OU.
    pub role: NodeRole,
    /// O.
    pub cluster_id: ClusterId,
    /// End of the certificate's validity.
    pub cert_not_after: Timestamp,
}
