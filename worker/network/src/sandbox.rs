//! A container's interfaces: what it has on each network, and how they are remembered.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use types::network::{Mac, Network, NetworkAttachment, NetworkDriver, PublishedPort, endpoint_mac};
use types::{NetworkId, TaskId};

use crate::Error;
use crate::local::LocalSubnet;
use crate::state::LinkName;
use crate::view::DEFAULT_BRIDGE;

/// A container's part in networks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// The task whose container it is.
    pub task: TaskId,
    /// Its interfaces, `eth0` first.
    pub interfaces: Vec<Interface>,
    /// Ports the node opens for it alone, all numbers filled in.
    #[serde(default)]
    pub host_ports: Vec<PublishedPort>,
}

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name inside.
    pub name: String,
    /// Its network; `None` is the way out of the node.
    pub network: Option<NetworkId>,
    /// Whether it carries published ports.
    pub is_ingress: bool,
    /// What it is made on.
    pub base: Base,
    /// Its MAC address.
    pub mac: Mac,
    /// Its addresses with the length of their subnet.
    pub addresses: Vec<IpNet>,
    /// Other subnets that are reached through it directly.
    pub on_link: Vec<IpNet>,
    /// Gateways to everywhere else, at most one of each family.
    pub gateways: Vec<IpAddr>,
    /// Addresses of nobody, one of each family, by which answers of the routing mesh are led; of
    /// an interface that carries published ports.
    #[serde(default)]
    pub mesh_gateways: Vec<IpAddr>,
    /// Largest packet the user asked for.
    pub mtu_asked: Option<u32>,
}

/// What an interface is made on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Base {
    /// A bridge of the node.
    Bridge {
        /// The bridge.
        bridge: LinkName,
        /// Our end of the interface.
        port: LinkName,
        /// Whether containers cannot reach each other there.
        is_isolated: bool,
    },
    /// A device of the node.
    Device {
        /// The device.
        parent: LinkName,
        /// In which way.
        kind: DeviceKind,
        /// The driver's mode, empty for its usual one.
        mode: String,
    },
}

/// How an interface shares a device of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// With a MAC address of its own.
    Macvlan,
    /// With the device's MAC address.
    Ipvlan,
}

impl Interface {
    /// Our end of it, if it has one.
    #[must_use]
    pub fn port(&self) -> Option<&LinkName> {
        match &self.base {
            Base::Bridge { port, .. } => Some(port),
            Base::Device { .. } => None,
        }
    }

    /// Its address of a family.
    #[must_use]
    pub fn address(&self, is_ipv4: bool) -> Option<IpAddr> {
        let mut addresses = self.addresses.iter().map(IpNet::addr);
        addresses.find(|address| address.is_ipv4() == is_ipv4)
    }
}

impl Sandbox {
    /// The addresses programs inside should take for the container's own: of its first network.
    #[must_use]
    pub fn own_addresses(&self) -> Vec<IpAddr> {
        let first = self
            .interfaces
            .iter()
            .find(|one| one.network.is_some() && !one.is_ingress);
        let first = first.or(self.interfaces.first());
        first.map_or_else(Vec::new, |one| {
            one.addresses.iter().map(IpNet::addr).collect()
        })
    }

    /// Its addresses on the interface by which it reaches the world.
    #[must_use]
    pub fn outer_addresses(&self) -> Vec<IpAddr> {
        let has_way_out = |one: &&Interface| !one.gateways.is_empty();
        let outer = self.interfaces.iter().find(has_way_out);
        outer.map_or_else(Vec::new, |one| {
            one.addresses.iter().map(IpNet::addr).collect()
        })
    }

    /// Networks whose names are answered in it: those of the user's.
    #[must_use]
    pub fn named_networks(&self) -> Vec<NetworkId> {
        let interfaces = self.interfaces.iter().filter(|one| !one.is_ingress);
        let networks = interfaces.filter_map(|one| one.network);
        networks
            .filter(|network| *network != DEFAULT_BRIDGE)
            .collect()
    }

    /// The interface that carries published ports.
    #[must_use]
    pub fn ingress(&self) -> Option<&Interface> {
        self.interfaces.iter().find(|one| one.is_ingress)
    }
}

/// A network a task is put on, and what the node gives it there.
pub(crate) struct Place<'a> {
    pub(crate) network: &'a Network,
    pub(crate) attachment: &'a NetworkAttachment,
    /// Subnets the node chose for a network of its own, and the task's addresses out of them.
    pub(crate) local: &'a [(LocalSubnet, IpNet)],
}

/// The way out of the node: its subnets, and the task's addresses out of them.
pub(crate) type Outbound<'a> = &'a [(LocalSubnet, IpNet)];

/// Plans a task's interfaces: user networks in the order asked, then ingress, then the way out.
pub(crate) fn plan(
    task: TaskId,
    places: &[Place<'_>],
    outbound: Outbound<'_>,
) -> Result<Sandbox, Error> {
    let mut interfaces = Vec::new();
    let in_order = [false, true].into_iter().flat_map(|is_ingress| {
        places
            .iter()
            .filter(move |place| place.network.spec.ingress == is_ingress)
    });
    for place in in_order {
        interfaces.push(interface(task, interfaces.len(), place)?);
    }
    interfaces.extend(way_out(task, interfaces.len(), outbound));
    keep_first_gateways(&mut interfaces);
    Ok(Sandbox {
        task,
        interfaces,
        host_ports: Vec::new(),
    })
}

/// Gives a container an interface on one more network, and a way out of the node with it.
pub(crate) fn extend(
    sandbox: &mut Sandbox,
    place: &Place<'_>,
    outbound: Outbound<'_>,
) -> Result<(), Error> {
    let added = interface(sandbox.task, free_number(sandbox), place)?;
    sandbox.interfaces.push(added);
    let way_out = way_out(sandbox.task, free_number(sandbox), outbound);
    sandbox.interfaces.extend(way_out);
    keep_first_gateways(&mut sandbox.interfaces);
    Ok(())
}

fn free_number(sandbox: &Sandbox) -> usize {
    let is_free = |number: &usize| {
        let name = format!("eth{number}");
        sandbox.interfaces.iter().all(|one| one.name != name)
    };
    (0..=sandbox.interfaces.len())
        .find(is_free)
        .expect("of one more number than there are interfaces one is free")
}

/// The interface by which a container reaches the world, if it does.
fn way_out(task: TaskId, number: usize, outbound: Outbound<'_>) -> Option<Interface> {
    let addresses: Vec<IpNet> = outbound.iter().map(|(_, address)| *address).collect();
    Some(Interface {
        name: format!("eth{number}"),
        network: None,
        is_ingress: false,
        base: Base::Bridge {
            bridge: LinkName::outbound(),
            port: LinkName::port(task, number),
            is_isolated: true,
        },
        mac: endpoint_mac(addresses.first()?.addr()),
        addresses,
        on_link: Vec::new(),
        gateways: outbound.iter().map(|(subnet, _)| subnet.gateway).collect(),
        mesh_gateways: Vec::new(),
        mtu_asked: None,
    })
}

/// A container has one way to everywhere of each family. A network of the user's choice that leads
/// out comes before the node's own.
fn keep_first_gateways(interfaces: &mut [Interface]) {
    let (mut has_ipv4, mut has_ipv6) = (false, false);
    for interface in interfaces {
        interface.gateways.retain(|gateway| {
            let has = if gateway.is_ipv4() {
                &mut has_ipv4
            } else {
                &mut has_ipv6
            };
            !std::mem::replace(has, true)
        });
    }
}

fn interface(task: TaskId, number: usize, place: &Place<'_>) -> Result<Interface, Error> {
    let Place {
        network,
        attachment,
        local,
    } = place;
    let spec = &network.spec;
    let base = base(network, LinkName::port(task, number))?;
    let is_global = spec.driver.is_global();
    let addresses: Vec<IpNet> = if is_global {
        attachment.addresses.clone()
    } else {
        local.iter().map(|(_, address)| *address).collect()
    };
    let Some(first) = addresses.first() else {
        return Err(Error::NoAddress(spec.name.clone()));
    };
    let gateways = local.iter().map(|(subnet, _)| subnet.gateway);
    Ok(Interface {
        name: format!("eth{number}"),
        network: Some(network.id),
        is_ingress: spec.ingress,
        base,
        mac: endpoint_mac(first.addr()),
        on_link: other_subnets(network, &addresses),
        addresses,
        // Out of an overlay leads the node's own bridge.
        gateways: gateways.filter(|_| !spec.internal && !is_global).collect(),
        mesh_gateways: mesh_gateways(network),
        mtu_asked: mtu_asked(network),
    })
}

/// The gateways of the ingress network: every node answers to them, so that no container has one.
fn mesh_gateways(network: &Network) -> Vec<IpAddr> {
    if !network.spec.ingress {
        return Vec::new();
    }
    let gateways = network.subnets.iter().map(|subnet| subnet.gateway);
    let of = |is_ipv4| gateways.clone().find(|one| one.is_ipv4() == is_ipv4);
    [of(true), of(false)].into_iter().flatten().collect()
}

/// What an interface on a network is made on; `port` is the name of our end of it.
fn base(network: &Network, port: LinkName) -> Result<Base, Error> {
    let spec = &network.spec;
    let bridge = |bridge| Base::Bridge {
        bridge,
        port,
        is_isolated: false,
    };
    let device = |kind, option: &str| match spec.options.get("parent") {
        Some(parent) if !parent.is_empty() => Ok(Base::Device {
            parent: LinkName::existing(parent),
            kind,
            mode: spec.options.get(option).cloned().unwrap_or_default(),
        }),
        Some(_) | None => Err(Error::NoParent(spec.name.clone())),
    };
    match spec.driver {
        NetworkDriver::Overlay if spec.ingress => Ok(bridge(LinkName::ingress())),
        NetworkDriver::Overlay => Ok(bridge(LinkName::overlay(network.id))),
        NetworkDriver::Bridge => Ok(bridge(LinkName::bridge(network.id))),
        NetworkDriver::Macvlan => device(DeviceKind::Macvlan, "macvlan_mode"),
        NetworkDriver::Ipvlan => device(DeviceKind::Ipvlan, "ipvlan_mode"),
        NetworkDriver::Host | NetworkDriver::None => {
            Err(Error::NotAttachable(spec.name.clone(), spec.driver))
        }
    }
}

/// Subnets of an overlay besides the interface's own, of families it has an address of: they are
/// on the same bridge.
fn other_subnets(network: &Network, addresses: &[IpNet]) -> Vec<IpNet> {
    let is_of = |subnet: &IpNet, one: &IpNet| {
        matches!(
            (subnet, one),
            (IpNet::V4(_), IpNet::V4(_)) | (IpNet::V6(_), IpNet::V6(_))
        )
    };
    let subnets = network.subnets.iter().map(|subnet| subnet.subnet.trunc());
    subnets
        .filter(|subnet| addresses.iter().any(|one| is_of(subnet, one)))
        .filter(|subnet| addresses.iter().all(|one| one.trunc() != *subnet))
        .collect()
}

/// The MTU a network's options ask for.
pub(crate) fn mtu_asked(network: &Network) -> Option<u32> {
    let options = &network.spec.options;
    let asked = options
        .get("com.docker.network.driver.mtu")
        .or_else(|| options.get("mtu"));
    asked.and_then(|text| text.parse().ok())
}

#[cfg(test)]
mod tests;
