//! What the managers tell a node about itself.

use std::sync::Arc;

use proto::ConvertError;
use proto::dispatcher as wire;
use types::Node;

/// The node's own object, the managers there are, and the roots to trust.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeNotice {
    /// The node as the managers see it: its role may differ from the certificate's.
    pub node: Arc<Node>,
    /// `host:port` of each manager.
    pub managers: Vec<String>,
    /// PEM bundle of the trusted roots; empty when nothing was said.
    pub root_bundle_pem: String,
    /// Managers are locked: nothing readable of the swarm is to be on this node's disk.
    pub is_locked: bool,
}

impl TryFrom<wire::NodeNotice> for NodeNotice {
    type Error = ConvertError;

    fn try_from(notice: wire::NodeNotice) -> Result<Self, ConvertError> {
        let node = notice.node.unwrap_or_default();
        Ok(Self {
            node: Arc::new(Node::try_from(node)?),
            managers: notice.managers,
            root_bundle_pem: notice.root_bundle_pem,
            is_locked: notice.locked,
        })
    }
}
