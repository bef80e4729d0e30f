//! What a member knows about itself and its group at one moment.

/// Whether the member takes part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Taking part, or waiting to be added.
    #[default]
    Running,
    /// Removed from the group: the node has to stop being a manager.
    Removed,
    /// Stopped for good by an error, usually of the disk: the process should end.
    Failed {
        /// What happened.
        reason: String,
    },
    /// Shut down.
    Stopped,
}

/// One member of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Random 64-bit id.
    pub id: u64,
    /// Where it answers.
    pub addr: String,
    /// Whether it votes; a learner only receives the log.
    pub voter: bool,
    /// Whether it answered lately. Measured by the leader for everyone, by a follower only for the
    /// leader: a follower takes the others for reachable.
    pub reachable: bool,
}

/// What a member knows about itself and its group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// This member.
    pub member_id: u64,
    /// Who leads, as long as it has been heard of lately (twice the upper election timeout).
    pub leader: Option<u64>,
    /// Whether this member leads and a quorum answers it.
    pub is_leader: bool,
    /// The current term.
    pub term: u64,
    /// Index of the last entry the local state includes; zero before the first.
    ///
    /// Follows the log within a heartbeat, not entry by entry.
    pub last_applied: u64,
    /// Voters and learners, by id.
    pub members: Vec<Member>,
    /// Whether the member takes part.
    pub condition: Condition,
}

impl Status {
    /// The leader's address, if there is a leader.
    #[must_use]
    pub fn leader_addr(&self) -> Option<&str> {
        let leader = self.leader?;
        self.members
            .iter()
            .find(|m| m.id == leader)
            .map(|m| m.addr.as_str())
    }
}
