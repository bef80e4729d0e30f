//! The managers' group as this manager sees it, for the control API.

use control_api::{ClusterStatus, Manager};
use raft::{Member, Raft};
use types::NodeId;

/// Answers from Raft's own status, without asking anybody.
#[derive(Clone)]
pub(crate) struct Group {
    self_id: NodeId,
    raft: Raft,
}

impl Group {
    pub(crate) fn new(self_id: NodeId, raft: Raft) -> Self {
        Self { self_id, raft }
    }

    /// Addresses of the managers, the leader's first.
    pub(crate) fn addrs(&self) -> Vec<String> {
        let status = self.raft.status();
        let status = status.borrow();
        let mut members: Vec<&Member> = status.members.iter().filter(|it| it.voter).collect();
        members.sort_by_key(|it| Some(it.id) != status.leader);
        members.into_iter().map(|it| it.addr.clone()).collect()
    }
}

impl ClusterStatus for Group {
    fn self_id(&self) -> NodeId {
        self.self_id
    }

    fn leader(&self) -> Option<u64> {
        self.raft.status().borrow().leader
    }

    fn reachable(&self, raft_id: u64) -> bool {
        let status = self.raft.status();
        let status = status.borrow();
        status
            .members
            .iter()
            .any(|it| it.id == raft_id && it.reachable)
    }

    fn managers(&self) -> Vec<Manager> {
        let status = self.raft.status();
        let status = status.borrow();
        let voters = status.members.iter().filter(|it| it.voter);
        voters
            .map(|it| Manager {
                raft_id: it.id,
                addr: it.addr.clone(),
            })
            .collect()
    }
}
