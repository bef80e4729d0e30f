//! Networks as users see them: how full they are and who is on them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use store::{AddressRange, State};
use types::network::{NetworkDriver, PublishedPort};
use types::{
    Meta, Network, NetworkId, NetworkSpec, NodeId, Service, ServiceId, Task, TaskId, TaskState,
};

/// A network and how full it is.
#[derive(Clone, Debug)]
pub struct NetworkView {
    /// The stored network, or what stands for a predefined one.
    pub network: Arc<Network>,
    /// How full its subnets are, in their order.
    pub subnets: Vec<SubnetUse>,
    /// Some service or task is on it.
    pub in_use: bool,
    /// Why it has no subnets or no address for another task; empty when nothing is amiss.
    pub problem: String,
    /// Every node has it.
    pub predefined: bool,
}

/// How full a subnet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubnetUse {
    /// Addresses that can be given out.
    pub addresses: u128,
    /// Those of them nobody holds.
    pub free: u128,
}

/// A network with who is on it.
#[derive(Clone, Debug)]
pub struct NetworkDetails {
    /// The network itself.
    pub view: NetworkView,
    /// Services on it, by name.
    pub services: Vec<NetworkService>,
    /// Nodes with a task on it, by name.
    pub peers: Vec<NetworkPeer>,
}

/// A service on a network.
#[derive(Clone, Debug)]
pub struct NetworkService {
    /// Its id.
    pub id: ServiceId,
    /// Its name.
    pub name: String,
    /// Its addresses there.
    pub virtual_ips: Vec<IpNet>,
    /// What it publishes, if the network carries that.
    pub ports: Vec<PublishedPort>,
    /// Its tasks there.
    pub tasks: Vec<NetworkTask>,
}

/// A task on a network.
#[derive(Clone, Debug)]
pub struct NetworkTask {
    /// Its id.
    pub id: TaskId,
    /// Its name.
    pub name: String,
    /// Its addresses there.
    pub addresses: Vec<IpNet>,
    /// Where it runs, once that is known.
    pub node: Option<NodeId>,
    /// That node's name.
    pub node_name: String,
    /// How far it has come.
    pub state: TaskState,
}

/// A node with a task on a network.
#[derive(Clone, Debug)]
pub struct NetworkPeer {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Where its packets go.
    pub data_path: Vec<IpAddr>,
}

/// The stored network as users see it.
pub(super) fn of(state: &State, network: &Arc<Network>) -> NetworkView {
    let subnets = network.subnets.iter().map(|subnet| SubnetUse {
        addresses: AddressRange::of(network, subnet).count(),
        free: state.holdings().free(network, subnet),
    });
    let waits = network.subnets.is_empty() && network.spec.driver.is_global();
    let problem = match store::subnets::choose(state, network) {
        Err(error) if waits => error.to_string(),
        Ok(_) | Err(_) => state.holdings().exhaustion(network).unwrap_or_default(),
    };
    NetworkView {
        subnets: subnets.collect(),
        in_use: state.check_network_removal(network.id).is_err(),
        problem,
        predefined: false,
        network: network.clone(),
    }
}

/// What stands for a network that every node has.
pub(super) fn predefined(driver: NetworkDriver) -> NetworkView {
    let number = NetworkDriver::ALL.iter().position(|known| *known == driver);
    let network = Network {
        id: NetworkId::from_number(number.unwrap_or(0) as u128),
        meta: Meta::default(),
        spec: NetworkSpec {
            name: driver.to_string(),
            driver,
            ..NetworkSpec::default()
        },
        subnets: vec![],
    };
    NetworkView {
        network: Arc::new(network),
        subnets: vec![],
        in_use: true,
        problem: String::new(),
        predefined: true,
    }
}

impl NetworkDetails {
    pub(super) fn of_predefined(driver: NetworkDriver) -> Self {
        Self {
            view: predefined(driver),
            services: vec![],
            peers: vec![],
        }
    }

    pub(super) fn of(state: &State, network: &Arc<Network>) -> Self {
        let mut tasks: BTreeMap<ServiceId, Vec<NetworkTask>> = BTreeMap::new();
        let mut peers = BTreeMap::new();
        for task in state.tasks_on_network(network.id) {
            if let Some(node) = task.node_id.and_then(|id| state.node(id)) {
                let description = node.description.as_ref();
                peers.entry(node.id).or_insert_with(|| NetworkPeer {
                    node: node.id,
                    name: node.hostname(),
                    data_path: description
                        .map(|told| told.network.data_path.clone())
                        .unwrap_or_default(),
                });
            }
            let of_service = tasks.entry(task.service_id).or_default();
            of_service.push(view_of_task(state, network.id, task));
        }
        let mut services: Vec<_> = state
            .services_on_network(network.id)
            .map(|service| {
                let tasks = tasks.remove(&service.id).unwrap_or_default();
                view_of_service(network, service, tasks)
            })
            .collect();
        // Tasks that outlive their service for a moment.
        for (id, tasks) in tasks {
            let name = tasks
                .first()
                .map_or(String::new(), |task| task.name.clone());
            services.push(NetworkService {
                id,
                name: name
                    .rsplit_once('.')
                    .map_or(name.clone(), |(n, _)| n.to_owned()),
                virtual_ips: vec![],
                ports: vec![],
                tasks,
            });
        }
        services.sort_by(|a, b| a.name.cmp(&b.name));
        let mut peers: Vec<_> = peers.into_values().collect();
        peers.sort_by(|a, b| a.name.cmp(&b.name).then(a.node.cmp(&b.node)));
        Self {
            view: of(state, network),
            services,
            peers,
        }
    }
}

fn view_of_service(
    network: &Network,
    service: &Service,
    tasks: Vec<NetworkTask>,
) -> NetworkService {
    let endpoint = &service.endpoint;
    let virtual_ips = endpoint.virtual_ips.iter();
    NetworkService {
        id: service.id,
        name: service.spec.name.clone(),
        virtual_ips: virtual_ips
            .filter(|vip| vip.network == network.id)
            .map(|vip| vip.address)
            .collect(),
        ports: if network.spec.ingress {
            endpoint.ports.clone()
        } else {
            vec![]
        },
        tasks,
    }
}

fn view_of_task(state: &State, network: NetworkId, task: &Task) -> NetworkTask {
    let on = task.attachments.iter().filter(|on| on.network == network);
    NetworkTask {
        id: task.id,
        name: task.name(),
        addresses: on.flat_map(|on| on.addresses.iter().copied()).collect(),
        node: task.node_id,
        node_name: task
            .node_id
            .and_then(|id| state.node(id))
            .map(|node| node.hostname())
            .unwrap_or_default(),
        state: task.status.state,
    }
}
