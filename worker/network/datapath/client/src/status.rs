//! What the process serves, for comparison with what it should.

use crate::{PeerStates, SandboxId};
use std::collections::BTreeMap;
use types::NetworkId;

/// What the process serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Sandboxes in which DNS answers, in order.
    pub sandboxes: Vec<SandboxId>,
    /// Networks it knows names of, in order.
    pub networks: Vec<NetworkStatus>,
    /// What gossip knows.
    pub peers: PeerStates,
    /// Questions answered from its own records since it started.
    pub answered: u64,
    /// Questions passed on to other servers since it started.
    pub forwarded: u64,
    /// Questions that could not be answered, and packets that were none.
    pub failed: u64,
    /// What it carries of encrypted networks, if there are any.
    pub tunnel: Option<TunnelStatus>,
}

/// What is carried of encrypted networks. Counts are since it began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TunnelStatus {
    /// Identifiers of the segments.
    pub vnis: Vec<u32>,
    /// Indices of the nodes that packets can be sealed for at once.
    pub ready: Vec<u32>,
    /// Indices of the others: they have not answered, or had nothing to say for minutes.
    pub unready: Vec<u32>,
    /// Packets sealed and sent.
    pub sealed: u64,
    /// Frames opened and given to a network.
    pub opened: u64,
    /// Frames for nobody known, broadcasts among them.
    pub unknown: u64,
    /// Frames from a node that does not hold their source address.
    pub spoofed: u64,
    /// Packets that could not be read, opened or sent.
    pub failed: u64,
}

/// What the process knows of one network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkStatus {
    /// The network.
    pub network: NetworkId,
    /// Each owner of a record set with the set's version, in order.
    pub sets: Vec<(String, u64)>,
    /// [`crate::RecordSet::fingerprint`] of each, by its owner.
    pub fingerprints: BTreeMap<String, u64>,
}
