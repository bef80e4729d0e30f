//! Who a node is to the others.

use std::net::SocketAddr;
use types::NodeId;

/// By how much a generation grows when a node is given up by mistake, in the milliseconds in which
/// generations begin.
const GENERATION_STEP: u64 = 1000;

/// How often that is doubled; enough to pass any clock that was ever set.
const DOUBLINGS_MAX: u32 = 40;

/// A node in one of its lives.
///
/// A life that was declared over stays over: a node that comes back, or was given up by mistake,
/// goes on in a later generation.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// The node.
    pub node: NodeId,
    /// Which of its lives; the later one has the greater number. Begins as milliseconds since 1970,
    /// so that a process that is started again is ahead of the one before it.
    pub generation: u64,
    /// Where it awaits packets.
    pub address: SocketAddr,
    /// How often it was renewed. Only known to the node itself.
    renewals: u32,
}

impl Identity {
    /// A node's life.
    #[must_use]
    pub fn new(node: NodeId, generation: u64, address: SocketAddr) -> Self {
        Self {
            node,
            generation,
            address,
            renewals: 0,
        }
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        (self.node, self.generation, self.address) == (other.node, other.generation, other.address)
    }
}

impl Eq for Identity {}

impl foca::Identity for Identity {
    type Addr = NodeId;

    fn renew(&self) -> Option<Self> {
        // Doubled, as others may remember a generation far ahead when a clock was set back.
        let step = GENERATION_STEP << self.renewals.min(DOUBLINGS_MAX);
        Some(Self {
            generation: self.generation.checked_add(step)?,
            renewals: self.renewals + 1,
            ..*self
        })
    }

    fn addr(&self) -> NodeId {
        self.node
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.generation > adversary.generation
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foca::Identity as _;

    #[test]
    fn a_node_whose_clock_was_set_back_comes_back_after_some_refusals() {
        let address = "10.0.0.1:7946".parse().unwrap();
        let remembered = Identity::new(NodeId::from_number(1), 1_800_000_000_000, address);
        let mut back = Identity::new(NodeId::from_number(1), 1_000_000, address);
        let mut refusals = 0;
        while !back.win_addr_conflict(&remembered) {
            back = back.renew().unwrap();
            refusals += 1;
        }
        assert!(refusals < 40, "{refusals}");
    }
}
