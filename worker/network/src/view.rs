//! What managers told this node of networks.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use types::network::{Network, NetworkDriver};
use types::reach::{NetworkSettings, Peer, ServiceEndpoint, TaskEndpoint};
use types::{NetworkId, NodeId, ServiceId, TaskId};

/// Everything a node is told of networks. Its data plane is a function of this and of its own
/// containers.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Settings of the cluster and this node's index; `None` until told.
    pub settings: Option<NetworkSettings>,
    /// This node's own addresses for packets between nodes, at most one of each family.
    pub data_path: Vec<IpAddr>,
    /// Networks this node takes part in.
    pub networks: BTreeMap<NetworkId, Arc<Network>>,
    /// Tasks on them, wherever they run.
    pub tasks: BTreeMap<TaskId, Arc<TaskEndpoint>>,
    /// Services on them.
    pub services: BTreeMap<ServiceId, Arc<ServiceEndpoint>>,
    /// Nodes this one exchanges traffic with.
    pub peers: BTreeMap<NodeId, Arc<Peer>>,
}

impl View {
    /// The network that carries published ports, when this node takes part in it.
    #[must_use]
    pub fn ingress(&self) -> Option<&Arc<Network>> {
        self.networks
            .values()
            .find(|network| network.spec.ingress && network.spec.driver == NetworkDriver::Overlay)
    }
}
