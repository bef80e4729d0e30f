//! What every node carries, kept up to date task by task.

use std::collections::{HashMap, HashSet};

use types::network::{Protocol, PublishedPort};
use types::task::Resources;
use types::{Node, NodeId, ServiceId, Task, TaskState};

use crate::filter::Demand;

/// What one node carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// Placed tasks that have not ended and are wanted (S6.33).
    live: u64,
    /// The same, per service.
    services: HashMap<ServiceId, u64>,
    /// Set aside for placed tasks that have not ended, wanted or not.
    reserved: Resources,
    /// Tasks the reservations belong to.
    holders: u64,
    /// Ports of the node that placed tasks have to themselves, and how many claim each.
    ports: HashMap<(Protocol, u16), u64>,
}

/// What all nodes carry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Loads {
    nodes: HashMap<NodeId, Load>,
}

impl Loads {
    /// Counts a task in.
    pub(crate) fn add(&mut self, task: &Task) {
        let Some(node) = task.node_id.filter(|_| task.holds_resources()) else {
            return;
        };
        let load = self.nodes.entry(node).or_default();
        load.holders += 1;
        let asked = task.spec.resources.reservations;
        load.reserved.nano_cpus = load.reserved.nano_cpus.saturating_add(asked.nano_cpus);
        load.reserved.memory_bytes = load
            .reserved
            .memory_bytes
            .saturating_add(asked.memory_bytes);
        for port in host_ports(&task.host_ports) {
            *load.ports.entry(port).or_default() += 1;
        }
        if is_wanted(task) {
            load.live += 1;
            *load.services.entry(task.service_id).or_default() += 1;
        }
    }

    /// Takes a task out that was counted in as it is given here.
    pub(crate) fn remove(&mut self, task: &Task) {
        let Some(node) = task.node_id.filter(|_| task.holds_resources()) else {
            return;
        };
        let Some(load) = self.nodes.get_mut(&node) else {
            return;
        };
        load.holders = load.holders.saturating_sub(1);
        let asked = task.spec.resources.reservations;
        load.reserved.nano_cpus = load.reserved.nano_cpus.saturating_sub(asked.nano_cpus);
        load.reserved.memory_bytes = load
            .reserved
            .memory_bytes
            .saturating_sub(asked.memory_bytes);
        for port in host_ports(&task.host_ports) {
            if let Some(count) = load.ports.get_mut(&port) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    load.ports.remove(&port);
                }
            }
        }
        if is_wanted(task) {
            load.live = load.live.saturating_sub(1);
            if let Some(count) = load.services.get_mut(&task.service_id) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    load.services.remove(&task.service_id);
                }
            }
        }
        if load.holders == 0 {
            self.nodes.remove(&node);
        }
    }

    fn of(&self, node: NodeId) -> Option<&Load> {
        self.nodes.get(&node)
    }
}

/// Ports that only one task of a node can have. One that the node chooses is always another.
pub(crate) fn host_ports(ports: &[PublishedPort]) -> impl Iterator<Item = (Protocol, u16)> {
    let chosen = ports.iter().filter(|port| port.published_port != 0);
    chosen.map(|port| (port.protocol, port.published_port))
}

fn is_wanted(task: &Task) -> bool {
    task.desired_state <= TaskState::Complete
}

/// One node during one plan: what it carries and what the plan has put on it so far.
#[derive(Debug)]
pub(crate) struct NodeView<'a> {
    /// The node.
    pub(crate) node: &'a Node,
    /// What is left of its resources; nothing before it has told of them.
    pub(crate) free: Resources,
    /// Wanted tasks.
    pub(crate) live: u64,
    load: Option<&'a Load>,
    placed: HashMap<ServiceId, u64>,
    placed_ports: HashSet<(Protocol, u16)>,
}

impl<'a> NodeView<'a> {
    pub(crate) fn new(node: &'a Node, loads: &'a Loads) -> Self {
        let load = loads.of(node.id);
        let has = node
            .description
            .as_ref()
            .map_or_else(Resources::default, |d| d.resources);
        let reserved = load.map_or_else(Resources::default, |load| load.reserved);
        Self {
            node,
            free: Resources {
                nano_cpus: has.nano_cpus.saturating_sub(reserved.nano_cpus),
                memory_bytes: has.memory_bytes.saturating_sub(reserved.memory_bytes),
            },
            live: load.map_or(0, |load| load.live),
            load,
            placed: HashMap::new(),
            placed_ports: HashSet::new(),
        }
    }

    /// Wanted tasks of one service.
    pub(crate) fn tasks_of(&self, service: ServiceId) -> u64 {
        let stored = self
            .load
            .and_then(|load| load.services.get(&service))
            .copied()
            .unwrap_or(0);
        stored + self.placed.get(&service).copied().unwrap_or(0)
    }

    /// Whether no task of it has this port to itself.
    pub(crate) fn is_free(&self, port: &(Protocol, u16)) -> bool {
        !self.placed_ports.contains(port)
            && !self.load.is_some_and(|load| load.ports.contains_key(port))
    }

    /// Puts one more task on it.
    pub(crate) fn place(&mut self, demand: &Demand<'_>) {
        let (service, asked) = (demand.service, demand.reservations);
        self.placed_ports.extend(host_ports(demand.host_ports));
        self.live += 1;
        *self.placed.entry(service).or_default() += 1;
        self.free.nano_cpus = self.free.nano_cpus.saturating_sub(asked.nano_cpus);
        self.free.memory_bytes = self.free.memory_bytes.saturating_sub(asked.memory_bytes);
    }
}
