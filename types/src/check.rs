//! What comes of comparing a node's networks with what they should be.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{NetworkId, NodeId};

/// What a node found when it compared its networks with what managers told it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkCheck {
    /// Networks the node takes part in.
    pub networks: Vec<NetworkId>,
    /// Differences that were found. They are repaired, but for what is `left`.
    pub found: Vec<Difference>,
    /// What is still not as it should be, and why.
    pub left: Vec<String>,
    /// Comparisons of everything since the daemon was started.
    pub passes: u64,
    /// How long the last one took, in microseconds.
    pub pass_last_us: u64,
    /// Differences found since the daemon was started, by kind.
    pub repairs: BTreeMap<String, u64>,
    /// Changes the kernel refused since the daemon was started.
    pub refusals: u64,
}

impl NodeCheck {
    /// Whether the node answered and everything was as the store has it.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.problem.is_empty()
            && self.stale.is_empty()
            && self.check.found.is_empty()
            && self.check.left.is_empty()
    }
}

/// A difference between what is and what should be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Difference {
    /// Of what: link, address, forwarding, neighbour, filter, inside, name.
    pub kind: String,
    /// On which network, where it is on one alone.
    pub network: Option<NetworkId>,
    /// What had to be done about it, for people.
    pub what: String,
}

/// A node's check together with what managers say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeCheck {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub hostname: String,
    /// Why there is no answer; empty when there is one.
    pub problem: String,
    /// Records the node had not been told as the store has them. It is told now.
    pub stale: Vec<String>,
    /// Records it holds by now, compared with the store's: networks, tasks, services, nodes.
    pub records: u64,
    /// Fingerprint of these records, the same on both sides.
    pub fingerprint: u64,
    /// What the node found.
    pub check: NetworkCheck,
}
