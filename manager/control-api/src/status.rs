//! What the API has to know of the Raft group, asked of whoever runs it.

use types::NodeId;

/// The group as this manager sees it right now. Must answer at once, from memory.
pub trait ClusterStatus: Send + Sync + 'static {
    /// The node that answers.
    fn self_id(&self) -> NodeId;
    /// Raft id of the leader; none while nobody leads.
    fn leader(&self) -> Option<u64>;
    /// Whether the member with this Raft id answered lately.
    fn reachable(&self, raft_id: u64) -> bool;
    /// The voting members.
    fn managers(&self) -> Vec<Manager>;
}

/// A voting member of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manager {
    /// Its Raft id.
    pub raft_id: u64,
    /// `ip:port` it answers at.
    pub addr: String,
}
