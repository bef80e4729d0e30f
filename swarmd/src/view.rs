//! What users are told of this node's part in a swarm (S19.10).

use types::{ClusterId, NodeId, NodeRole};

/// Where this node stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// In no swarm.
    #[default]
    Inactive,
    /// On its way in.
    Pending,
    /// In one.
    Active,
    /// In one, but something is wrong.
    Error,
    /// In one as a manager whose keys nobody has unlocked yet.
    Locked,
}

/// This node's part in a swarm.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Where it stands.
    pub standing: Standing,
    /// Whom its certificate speaks of.
    pub member: Option<Membership>,
    /// What is wrong; empty when nothing is.
    pub error: String,
    /// Addresses of the managers.
    pub managers: Vec<String>,
}

/// Whom a node's certificate speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The node.
    pub node_id: NodeId,
    /// Its swarm.
    pub cluster_id: ClusterId,
    /// The role of its certificate.
    pub role: NodeRole,
    /// `ip:port` others reach it at.
    pub advertise_addr: String,
}
