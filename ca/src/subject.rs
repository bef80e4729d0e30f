//! Whom a certificate speaks of: cluster (O), role (OU) and node (CN).

use types::access::ClientRole;
use types::{ClientId, ClusterId, NodeId, NodeRole, Timestamp};

/// CN of every root, and a name that only managers carry (SwarmKit `ca.CARole`).
pub const CA_NAME: &str = "swarm-ca";

const MANAGER_OU: &str = "swarm-manager";
const WORKER_OU: &str = "swarm-worker";
const READER_OU: &str = "swarm-reader";
const OPERATOR_OU: &str = "swarm-operator";

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

/// The OU of a client's role. No node certificate has it, and no client certificate one of a node's.
pub(crate) fn client_unit(role: ClientRole) -> &'static str {
    match role {
        ClientRole::Reader => READER_OU,
        ClientRole::Operator => OPERATOR_OU,
    }
}

/// The client's role an OU names, if it names one.
pub(crate) fn client_role_of(organizational_unit: &str) -> Option<ClientRole> {
    match organizational_unit {
        READER_OU => Some(ClientRole::Reader),
        OPERATOR_OU => Some(ClientRole::Operator),
        _ => None,
    }
}

/// What a client certificate says: a user of another machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientSubject {
    /// O.
    pub cluster_id: ClusterId,
    /// OU.
    pub role: ClientRole,
    /// CN.
    pub client_id: ClientId,
}

/// What a client certificate on the other end of a connection says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// CN.
    pub client_id: ClientId,
    /// OU.
    pub role: ClientRole,
    /// O.
    pub cluster_id: ClusterId,
    /// End of the certificate's validity.
    pub cert_not_after: Timestamp,
}

/// Whose certificate the other end of a connection showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certified {
    /// A node's.
    Node(PeerIdentity),
    /// A client's.
    Client(ClientIdentity),
}

impl Certified {
    /// End of the certificate's validity.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        match self {
            Self::Node(node) => node.cert_not_after,
            Self::Client(client) => client.cert_not_after,
        }
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
    /// Begin of the certificate's validity.
    pub cert_not_before: Timestamp,
    /// End of the certificate's validity.
    pub cert_not_after: Timestamp,
}
