//! What the packet filter is told: virtual addresses in each container, published ports and the
//! way out on the node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use nft::mesh::{Outbound, Subnet, Surroundings};
use nft::{Backend, Frontend, Port, Service, Services};
use types::network::{Affinity, NetworkDriver, Protocol, PublishMode, PublishedPort};
use types::{NetworkId, ServiceId};

use crate::desired::bridge_of;
use crate::local::LocalSubnets;
use crate::sandbox::{Base, Sandbox};
use crate::state::LinkName;
use crate::view::View;

/// Where containers ask for names (S16.01), at port 53.
const NAMES_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));

/// Port names are really answered at, so that a program inside may have 53 of all its addresses, as
/// servers of names do. Above the range that Linux gives to connections (32768 to 60999).
pub const NAMES_PORT: u16 = 61_053;

/// What follows from one view; it is looked at for each container.
#[derive(Debug, Default)]
pub(crate) struct Balance {
    /// Services by the networks they have an address on.
    by_network: BTreeMap<NetworkId, Services>,
    /// Ports that are published on every node.
    published: Services,
}

/// A service's tasks on a network.
type Backends = BTreeMap<(ServiceId, NetworkId), Vec<Backend>>;

impl Balance {
    pub(crate) fn of(view: &View) -> Self {
        let backends = backends(view);
        let none = Vec::new();
        let on = |service, network| backends.get(&(service, network)).unwrap_or(&none);
        let mut balance = Self::default();
        for service in view.reach.services.values() {
            for address in &service.virtual_ips {
                let frontend = Frontend::address(address.address.addr());
                let to = Service {
                    backends: of_family(on(service.service, address.network), frontend.address),
                    affinity: affinity(service.affinity),
                    ..Service::default()
                };
                let services = balance.by_network.entry(address.network).or_default();
                services.insert(frontend, to);
            }
            let Some(ingress) = view.ingress() else {
                continue;
            };
            let is_ingress = |port: &&PublishedPort| port.mode == PublishMode::Ingress;
            for port in service.ports.iter().filter(is_ingress) {
                for frontend in frontends(port) {
                    let family = of_family(on(service.service, ingress.id), frontend.address);
                    let to_port = |one: Backend| one.with_port(port.target_port);
                    let to = Service {
                        backends: family.into_iter().map(to_port).collect(),
                        affinity: affinity(service.affinity),
                        prefers_local: port.prefer_local,
                        interfaces: interfaces(port),
                    };
                    balance.published.insert(frontend, to);
                }
            }
        }
        balance
    }

    /// Virtual addresses that a container may call: of services of its networks, and the one where
    /// it asks for names.
    pub(crate) fn inside(&self, sandbox: &Sandbox) -> Services {
        let networks = sandbox.interfaces.iter().filter_map(|one| one.network);
        let services = networks.filter_map(|network| self.by_network.get(&network));
        let services = services.flatten();
        let mut services: Services = services
            .map(|(frontend, to)| (*frontend, to.clone()))
            .collect();
        if !sandbox.named_networks().is_empty() {
            let answers = Backend::new(NAMES_ADDRESS).with_port(NAMES_PORT);
            for protocol in [nft::Protocol::Udp, nft::Protocol::Tcp] {
                let asked = Frontend::port(NAMES_ADDRESS, protocol, 53);
                services.insert(asked, Service::new([answers]));
            }
        }
        services
    }

    /// Ports of the node: those published on every node, and those of its containers.
    pub(crate) fn node(&self, sandboxes: &[&Sandbox]) -> Services {
        let mut ports = self.published.clone();
        for sandbox in sandboxes {
            let outer = sandbox.outer_addresses();
            for port in &sandbox.host_ports {
                for frontend in frontends(port) {
                    let of_family = |one: &&IpAddr| one.is_ipv4() == frontend.address.is_ipv4();
                    let Some(address) = outer.iter().find(of_family) else {
                        continue;
                    };
                    let backend = Backend::new(*address).with_port(port.target_port).local();
                    let to = Service {
                        backends: vec![backend],
                        interfaces: interfaces(port),
                        ..Service::default()
                    };
                    ports.insert(frontend, to);
                }
            }
        }
        ports
    }
}

/// Services with somebody to go to on a network, none of whose nodes is held for dead. Of others
/// nobody is passed over: then it is rather this node that is cut off, and trying costs nothing.
fn reachable(view: &View) -> BTreeSet<(ServiceId, NetworkId)> {
    let tasks = view.reach.tasks.values();
    tasks
        .filter(|task| task.serving && !view.is_lost(task.node))
        .flat_map(|task| {
            let places = task.attachments.iter();
            places.map(|place| (task.service, place.network))
        })
        .collect()
}

fn backends(view: &View) -> Backends {
    let reachable = if view.lost.is_empty() {
        BTreeSet::new()
    } else {
        reachable(view)
    };
    let mut backends = Backends::new();
    for task in view.reach.tasks.values() {
        for attachment in &task.attachments {
            let key = (task.service, attachment.network);
            // Not only out of rotation: flows of UDP, which nothing else would end, look for another.
            if view.is_lost(task.node) && reachable.contains(&key) {
                continue;
            }
            let all = backends.entry(key).or_default();
            for address in &attachment.addresses {
                let mut backend = Backend::new(address.addr());
                // Out of rotation, but its connections go on.
                backend.weight = if task.serving { task.weight.into() } else { 0 };
                backend.is_local = task.node == view.node;
                // An address stands once: with the task that serves.
                match all.iter_mut().find(|one| one.address == backend.address) {
                    Some(known) if known.weight == 0 => *known = backend,
                    Some(_) => {}
                    None => all.push(backend),
                }
            }
        }
    }
    backends
}

fn of_family(backends: &[Backend], like: IpAddr) -> Vec<Backend> {
    let is_like = |one: &&Backend| one.address.is_ipv4() == like.is_ipv4();
    backends.iter().filter(is_like).copied().collect()
}

fn affinity(affinity: Affinity) -> nft::Affinity {
    match affinity {
        Affinity::None => nft::Affinity::None,
        Affinity::SourceIp => nft::Affinity::SourceAddress,
    }
}

fn frontends(port: &PublishedPort) -> Vec<Frontend> {
    let protocol = match port.protocol {
        Protocol::Tcp => nft::Protocol::Tcp,
        Protocol::Udp => nft::Protocol::Udp,
        Protocol::Sctp => nft::Protocol::Sctp,
    };
    let number = port.published_port;
    match port.host_ip {
        // All of one family is asked for by its unspecified address.
        Some(address) => {
            let port = Some(Port { protocol, number });
            vec![Frontend { address, port }]
        }
        None => Frontend::published(protocol, number).to_vec(),
    }
}

fn interfaces(port: &PublishedPort) -> Vec<String> {
    if port.interface.is_empty() {
        Vec::new()
    } else {
        vec![port.interface.clone()]
    }
}

/// The node's bridges as the packet filter has to know them.
pub(crate) fn surroundings(
    view: &View,
    sandboxes: &[&Sandbox],
    local: &LocalSubnets,
    hides_clients: bool,
) -> Surroundings {
    let mut surroundings = Surroundings {
        ingress: view.ingress().map(|network| bridge_of(network).to_string()),
        hides_clients,
        ..Surroundings::default()
    };
    let mut internal = BTreeSet::new();
    let mut outbound: BTreeMap<LinkName, Outbound> = BTreeMap::new();
    for interface in sandboxes.iter().flat_map(|sandbox| &sandbox.interfaces) {
        let Base::Bridge {
            bridge,
            is_isolated,
            ..
        } = &interface.base
        else {
            continue;
        };
        let network = interface.network.and_then(|id| view.network(id));
        let is_local = network.is_none_or(|one| one.spec.driver == NetworkDriver::Bridge);
        let is_internal = network.is_some_and(|one| one.spec.internal);
        if interface.is_ingress {
            continue;
        }
        if !is_local || is_internal {
            internal.insert(bridge.to_string());
            continue;
        }
        let subnets = match interface.network {
            None => local.outbound(),
            Some(network) => local.of(network),
        };
        outbound.entry(bridge.clone()).or_insert_with(|| Outbound {
            bridge: bridge.to_string(),
            subnets: subnets
                .iter()
                .map(|one| Subnet {
                    address: one.subnet.addr(),
                    prefix_bits: one.subnet.prefix_len(),
                })
                .collect(),
            isolated: *is_isolated,
        });
    }
    surroundings.internal = internal.into_iter().collect();
    surroundings.outbound = outbound.into_values().collect();
    surroundings
}

#[cfg(test)]
mod tests;
