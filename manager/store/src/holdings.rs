//! What is given out: addresses of networks, published ports, and who is on which network.
//!
//! All of it but the last address given follows from the objects, so it is an index and never out
//! of step with them. A planner takes a copy, which costs nothing, and takes addresses from that.

use std::collections::BTreeSet;
use std::net::IpAddr;

use imbl::{OrdMap, OrdSet};
use ipnet::IpNet;
use types::network::{NetworkDriver, Protocol, PublishMode, PublishedPort, Subnet};
use types::{Network, NetworkId, Service, ServiceId, Task, TaskId};

use crate::{AddressRange, Object};

/// Who holds an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// A task, for one of its interfaces.
    Task(TaskId),
    /// A service, as its virtual address.
    Service(ServiceId),
}

/// Who holds what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    addresses: OrdMap<(NetworkId, IpAddr), Holder>,
    /// The address given last in each subnet; the next one is looked for after it (S9.06).
    last_given: OrdMap<(NetworkId, IpNet), IpAddr>,
    ports: OrdSet<(Protocol, u16, ServiceId, PublishMode)>,
    services: OrdSet<(NetworkId, ServiceId)>,
    tasks: OrdSet<(NetworkId, TaskId)>,
}

impl Holdings {
    /// Who holds an address.
    #[must_use]
    pub fn holder(&self, network: NetworkId, address: IpAddr) -> Option<Holder> {
        self.addresses.get(&(network, address)).copied()
    }

    /// Every address held on a network, in order.
    pub fn addresses(&self, network: NetworkId) -> impl Iterator<Item = (IpAddr, Holder)> {
        let (first, last) = (IpAddr::from([0; 4]), IpAddr::from(u128::MAX.to_be_bytes()));
        self.addresses
            .range((network, first)..=(network, last))
            .map(|((_, address), holder)| (*address, *holder))
    }

    /// Tasks that have not ended and are, or will be, on a network.
    pub fn tasks_on(&self, network: NetworkId) -> impl Iterator<Item = TaskId> {
        self.tasks
            .range((network, TaskId::MIN)..=(network, TaskId::MAX))
            .map(|(_, task)| *task)
    }

    /// Services that ask for a network or still have an address there.
    pub fn services_on(&self, network: NetworkId) -> impl Iterator<Item = ServiceId> {
        self.services
            .range((network, ServiceId::MIN)..=(network, ServiceId::MAX))
            .map(|(_, service)| *service)
    }

    /// Services that publish a port, and how.
    pub fn port_holders(
        &self,
        protocol: Protocol,
        port: u16,
    ) -> impl Iterator<Item = (ServiceId, PublishMode)> {
        let (low, high) = (PublishMode::Ingress, PublishMode::Host);
        self.ports
            .range((protocol, port, ServiceId::MIN, low)..=(protocol, port, ServiceId::MAX, high))
            .map(|(_, _, service, mode)| (*service, *mode))
    }

    /// The address given last in a subnet, whether or not somebody still holds it.
    #[must_use]
    pub fn last_given(&self, network: NetworkId, subnet: IpNet) -> Option<IpAddr> {
        self.last_given.get(&(network, subnet)).copied()
    }

    /// The next free address of a subnet after the one given last, wrapping round; from now on it
    /// is `holder`'s. None when there is none left.
    pub fn take(&mut self, network: &Network, subnet: &Subnet, holder: Holder) -> Option<IpAddr> {
        let range = AddressRange::of(network, subnet);
        let last = self.last_given(network.id, subnet.subnet);
        let address = range
            .after(last)
            .find(|address| !self.addresses.contains_key(&(network.id, *address)))?;
        self.addresses.insert((network.id, address), holder);
        self.given(network.id, subnet.subnet, address);
        Some(address)
    }

    /// Addresses of a subnet nobody holds.
    #[must_use]
    pub fn free(&self, network: &Network, subnet: &Subnet) -> u128 {
        let range = AddressRange::of(network, subnet);
        let held = self.addresses(network.id);
        let held = held.filter(|(address, _)| range.contains(*address)).count();
        range.count().saturating_sub(held as u128)
    }

    /// Why a network has no address for another task, in words for users; `None` while one of its
    /// segments (subnets with the same VXLAN identifier) has one of each family it is of.
    #[must_use]
    pub fn exhaustion(&self, network: &Network) -> Option<String> {
        let subnets = &network.subnets;
        let is_full = |of: &Subnet| {
            let mut segment = subnets.iter().filter(|subnet| subnet.vni == of.vni);
            segment.any(|subnet| self.free(network, subnet) == 0)
        };
        if subnets.is_empty() || !subnets.iter().all(is_full) {
            return None;
        }
        let subnets: Vec<String> = subnets.iter().map(|it| it.subnet.to_string()).collect();
        Some(format!(
            "network {} has no free address left in {}: it goes on when one comes back",
            network.spec.name,
            subnets.join(", ")
        ))
    }

    /// Takes a port for a service; false when somebody else publishes it already.
    pub fn take_port(&mut self, protocol: Protocol, port: u16, service: ServiceId) -> bool {
        let mut holders = self.port_holders(protocol, port);
        if holders.any(|(holder, _)| holder != service) {
            return false;
        }
        drop(holders);
        self.ports
            .insert((protocol, port, service, PublishMode::Ingress));
        true
    }

    /// Gives an address back.
    pub fn release(&mut self, network: NetworkId, address: IpAddr) {
        self.addresses.remove(&(network, address));
    }

    pub(crate) fn given(&mut self, network: NetworkId, subnet: IpNet, address: IpAddr) {
        self.last_given.insert((network, subnet), address);
    }

    pub(crate) fn all_last_given(&self) -> impl Iterator<Item = (NetworkId, IpNet, IpAddr)> {
        self.last_given.iter().map(|((n, s), a)| (*n, *s, *a))
    }

    /// Follows a change of an object.
    pub(crate) fn follow(&mut self, old: Option<&Object>, new: Option<&Object>) {
        if let (Some(Object::Task(old)), Some(Object::Task(new))) = (old, new)
            && old.attachments == new.attachments
            && old.status.state.is_terminal() == new.status.state.is_terminal()
        {
            return;
        }
        match old {
            Some(Object::Task(task)) => self.forget_task(task),
            Some(Object::Service(service)) => self.forget_service(service),
            Some(Object::Network(network)) if new.is_none() => {
                for subnet in &network.subnets {
                    self.last_given.remove(&(network.id, subnet.subnet));
                }
            }
            Some(
                Object::Network(_)
                | Object::Node(_)
                | Object::Cluster(_)
                | Object::Secret(_)
                | Object::Config(_),
            )
            | None => {}
        }
        match new {
            Some(Object::Task(task)) => self.note_task(task),
            Some(Object::Service(service)) => self.note_service(service),
            Some(
                Object::Network(_)
                | Object::Node(_)
                | Object::Cluster(_)
                | Object::Secret(_)
                | Object::Config(_),
            )
            | None => {}
        }
    }

    fn note_task(&mut self, task: &Task) {
        if task.status.state.is_terminal() {
            return;
        }
        for attachment in &task.attachments {
            self.tasks.insert((attachment.network, task.id));
            for address in &attachment.addresses {
                let key = (attachment.network, address.addr());
                self.addresses.insert(key, Holder::Task(task.id));
            }
        }
    }

    fn forget_task(&mut self, task: &Task) {
        for attachment in &task.attachments {
            self.tasks.remove(&(attachment.network, task.id));
            for address in &attachment.addresses {
                let key = (attachment.network, address.addr());
                // A task that ended may have lost the address to another long ago.
                if self.addresses.get(&key) == Some(&Holder::Task(task.id)) {
                    self.addresses.remove(&key);
                }
            }
        }
    }

    fn note_service(&mut self, service: &Service) {
        for vip in &service.endpoint.virtual_ips {
            let key = (vip.network, vip.address.addr());
            self.addresses.insert(key, Holder::Service(service.id));
        }
        for network in networks_of(service) {
            self.services.insert((network, service.id));
        }
        for port in ports_of(service) {
            self.ports
                .insert((port.protocol, port.published_port, service.id, port.mode));
        }
    }

    fn forget_service(&mut self, service: &Service) {
        for vip in &service.endpoint.virtual_ips {
            self.addresses.remove(&(vip.network, vip.address.addr()));
        }
        for network in networks_of(service) {
            self.services.remove(&(network, service.id));
        }
        for port in ports_of(service) {
            self.ports
                .remove(&(port.protocol, port.published_port, service.id, port.mode));
        }
    }
}

/// Networks of the store a service asks for or still has an address on.
fn networks_of(service: &Service) -> BTreeSet<NetworkId> {
    let asked = service.spec.task.networks.iter();
    let asked = asked.filter_map(|attachment| attachment.target.parse().ok());
    let held = service.endpoint.virtual_ips.iter().map(|vip| vip.network);
    asked.chain(held).collect()
}

/// Ports a service publishes now: those its spec names, and those it was given for the others.
pub(crate) fn ports_of(service: &Service) -> impl Iterator<Item = PublishedPort> {
    let ports = service.spec.endpoint.ports.iter();
    ports.filter_map(|port| {
        let number = match port.published_port {
            0 => given_port(service, port)?,
            number => number,
        };
        Some(PublishedPort {
            published_port: number,
            ..port.clone()
        })
    })
}

/// The port a service was given for one of its spec that names none; the same for as long as name,
/// protocol, target and mode stay (S9.12).
#[must_use]
pub fn given_port(service: &Service, asked: &PublishedPort) -> Option<u16> {
    let given = service.endpoint.ports.iter().find(|given| {
        given.name == asked.name
            && given.protocol == asked.protocol
            && given.target_port == asked.target_port
            && given.mode == asked.mode
    })?;
    (given.published_port != 0).then_some(given.published_port)
}

/// Two ranges that both networks claim, the first network's first. Networks that never meet on a
/// node's routes may have equal ones: `macvlan` and `ipvlan` are told apart by their devices.
pub(crate) fn networks_overlap(a: &Network, b: &Network) -> Option<(IpNet, IpNet)> {
    let (a, b) = (ranges(a), ranges(b));
    a.iter().find_map(|mine| {
        let theirs = b
            .iter()
            .find(|theirs| mine.contains(&theirs.network()) || theirs.contains(&mine.network()))?;
        Some((*mine, *theirs))
    })
}

/// Ranges a network claims for itself alone.
fn ranges(network: &Network) -> BTreeSet<IpNet> {
    let is_routed = match network.spec.driver {
        NetworkDriver::Overlay | NetworkDriver::Bridge => !network.spec.config_only,
        NetworkDriver::Macvlan
        | NetworkDriver::Ipvlan
        | NetworkDriver::Host
        | NetworkDriver::None => false,
    };
    let chosen = network.spec.pools.iter().map(|pool| pool.subnet);
    let given = network.subnets.iter().map(|subnet| subnet.subnet);
    chosen.chain(given).filter(|_| is_routed).collect()
}

#[cfg(test)]
mod tests;
