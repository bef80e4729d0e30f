//! What a node must know of others to reach them: the records its data plane is made from.
//!
//! Managers derive them from the store and send each node only those of networks it takes part in.
//! Kernel state, balancing and DNS of a node are a function of these records and of its own tasks.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::network::{
    Affinity, EndpointMode, Network, NetworkAttachment, PublishedPort, VirtualIp,
};
use crate::{NetworkId, NodeId, ServiceId, TaskId};

/// All of these records that a node was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Settings; `None` until told.
    pub settings: Option<NetworkSettings>,
    /// Networks the node takes part in.
    pub networks: BTreeMap<NetworkId, Arc<Network>>,
    /// Tasks on them.
    pub tasks: BTreeMap<TaskId, Arc<TaskEndpoint>>,
    /// Services on them.
    pub services: BTreeMap<ServiceId, Arc<ServiceEndpoint>>,
    /// Nodes it exchanges traffic with.
    pub peers: BTreeMap<NodeId, Arc<Peer>>,
}

/// A task on networks this node takes part in, wherever it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskEndpoint {
    /// The task.
    pub task: TaskId,
    /// Its service.
    pub service: ServiceId,
    /// Its slot; 0 in a global service.
    pub slot: u64,
    /// Where it runs.
    pub node: NodeId,
    /// Its name, `service.slot` or `service.node`.
    pub name: String,
    /// Its host name inside; empty when it is the task's id, shortened.
    pub hostname: String,
    /// Its places on the networks this node takes part in.
    pub attachments: Vec<NetworkAttachment>,
    /// True while new connections may go to it: running, healthy, not about to stop.
    pub serving: bool,
    /// Share of new connections among the tasks of its service; 1 unless traffic is being shifted.
    pub weight: u16,
}

/// A service on networks this node takes part in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceEndpoint {
    /// The service.
    pub service: ServiceId,
    /// Its name.
    pub name: String,
    /// By one address or by all.
    pub mode: EndpointMode,
    /// Which tasks a client's connections go to.
    pub affinity: Affinity,
    /// Published ports in ingress mode, all numbers filled in.
    pub ports: Vec<PublishedPort>,
    /// Its addresses on the networks this node takes part in.
    pub virtual_ips: Vec<VirtualIp>,
    /// More names on those networks.
    pub aliases: Vec<(NetworkId, String)>,
}

/// Another node this one exchanges network traffic with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The node.
    pub node: NodeId,
    /// Its index, from which its MAC address on the ingress network follows; from 1.
    pub index: u32,
    /// Where VXLAN and WireGuard packets for it go: at most one address of each family.
    pub data_path: Vec<IpAddr>,
    /// Its WireGuard public keys, the one to use first; empty when it has none yet.
    pub wireguard_keys: Vec<[u8; 32]>,
    /// False once the managers hold it for down.
    pub alive: bool,
}

/// Settings of the data plane that hold for the whole cluster, and the node's own index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkSettings {
    /// This node's index, as in [`Peer::index`]; 0 until it has one.
    pub index: u32,
    /// UDP port of VXLAN on every node.
    pub data_path_port: u16,
    /// Keys of the gossip between nodes: the one to send with first, the others to read with.
    pub gossip_keys: Vec<crate::payload::Payload>,
}
