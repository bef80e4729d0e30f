//! What the data plane of a node follows from, besides its own containers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use types::network::{Network, NetworkDriver, NetworkSpec};
use types::reach::Reach;
use types::{Meta, NetworkId, NodeId};

/// Which node this is, and what managers told it.
#[derive(Clone, Debug)]
pub struct View {
    /// This node.
    pub node: NodeId,
    /// Its own addresses for packets between nodes, at most one of each family.
    pub data_path: Vec<IpAddr>,
    /// What managers told.
    pub reach: Arc<Reach>,
    /// What every node has without being told.
    predefined: BTreeMap<NetworkId, Arc<Network>>,
}

impl View {
    /// The view of a node.
    #[must_use]
    pub fn new(node: NodeId, data_path: Vec<IpAddr>, reach: Arc<Reach>) -> Self {
        let bridge = default_bridge();
        let predefined = BTreeMap::from([(bridge.id, Arc::new(bridge))]);
        Self {
            node,
            data_path,
            reach,
            predefined,
        }
    }

    /// A network by its id.
    #[must_use]
    pub fn network(&self, id: NetworkId) -> Option<&Arc<Network>> {
        self.reach
            .networks
            .get(&id)
            .or_else(|| self.predefined.get(&id))
    }

    /// The network that carries published ports, when this node takes part in it.
    #[must_use]
    pub fn ingress(&self) -> Option<&Arc<Network>> {
        let is_ingress = |network: &&Arc<Network>| {
            network.spec.ingress && network.spec.driver == NetworkDriver::Overlay
        };
        self.reach.networks.values().find(is_ingress)
    }
}

/// The id of the bridge that every node has; no network of the store can have it.
pub const DEFAULT_BRIDGE: NetworkId = NetworkId::MIN;

/// The network `bridge` of each node, which tasks may name.
fn default_bridge() -> Network {
    Network {
        id: DEFAULT_BRIDGE,
        meta: Meta::default(),
        spec: NetworkSpec {
            name: "bridge".to_owned(),
            driver: NetworkDriver::Bridge,
            ..NetworkSpec::default()
        },
        subnets: Vec::new(),
    }
}
