//! What gossip between nodes needs and tells.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use types::NodeId;
use zeroize::Zeroizing;

/// What one node needs for gossip with the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GossipView {
    /// This node.
    pub node: NodeId,
    /// Where packets are awaited: UDP, port 7946 unless the cluster says otherwise.
    pub listen: SocketAddr,
    /// Where other nodes send theirs.
    pub advertise: SocketAddr,
    /// All other nodes of the cluster, as the managers know them.
    pub peers: Vec<Peer>,
    /// The managers' keys: the first one seals, all of them open. Without one nothing is sent.
    pub keys: Vec<GossipKey>,
}

/// Another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The node.
    pub node: NodeId,
    /// Where it awaits packets.
    pub address: SocketAddr,
}

/// A key of the gossip, at least 16 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct GossipKey(pub Zeroizing<Vec<u8>>);

impl fmt::Debug for GossipKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GossipKey(..)")
    }
}

/// What gossip knows about a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Liveness {
    /// Nothing was heard of it since this process started; not a reason to give it up.
    #[default]
    Unknown,
    /// It answers somebody.
    Up,
    /// Nobody could reach it.
    Down,
}

/// What gossip knows about each peer of the view.
pub type PeerStates = BTreeMap<NodeId, Liveness>;
