//! What the kernel should hold, from what managers tell and from the node's own containers.

use std::collections::BTreeSet;
use std::net::IpAddr;

use types::NetworkId;
use types::network::{Mac, Network, NetworkDriver, node_mac};

use crate::local::LocalSubnets;
use crate::mtu::Underlay;
use crate::places::{RemotePlace, remote_places};
use crate::sandbox::{Base, Sandbox, mtu_asked};
use crate::state::{Link, LinkKind, LinkName, Port, State};
use crate::view::View;

/// What the kernel's state follows from.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a> {
    pub(crate) view: &'a View,
    /// Of containers that live.
    pub(crate) sandboxes: &'a [&'a Sandbox],
    pub(crate) local: &'a LocalSubnets,
    pub(crate) underlay: Underlay,
    pub(crate) sealed: &'a Sealed,
}

/// How far encrypted networks can be carried.
#[derive(Debug, Default)]
pub(crate) struct Sealed {
    /// Identifiers that the packet filter lets pass by no open way.
    pub(crate) vnis: BTreeSet<u32>,
    /// Those of them that have their device.
    pub(crate) devices: BTreeSet<u32>,
}

impl<'a> Inputs<'a> {
    /// Index of this node, from which its MAC address follows.
    pub(crate) fn index(&self) -> u32 {
        self.view
            .reach
            .settings
            .as_ref()
            .map_or(0, |settings| settings.index)
    }

    /// Overlays that this node is on: those of its containers, and the one of published ports.
    pub(crate) fn overlays(&self) -> Vec<&'a Network> {
        let interfaces = self
            .sandboxes
            .iter()
            .flat_map(|sandbox| &sandbox.interfaces);
        let mut present: BTreeSet<NetworkId> = interfaces.filter_map(|one| one.network).collect();
        present.extend(self.view.ingress().map(|network| network.id));
        let networks = present.iter().filter_map(|id| self.view.network(*id));
        let networks = networks.map(AsRef::as_ref);
        networks
            .filter(|network| network.spec.driver == NetworkDriver::Overlay)
            .collect()
    }

    /// MTU of an interface on a network; `None` is the way out.
    pub(crate) fn mtu(&self, network: Option<NetworkId>, asked: Option<u32>) -> u32 {
        let known = network.and_then(|id| self.view.network(id));
        match known {
            Some(network) if network.spec.driver == NetworkDriver::Overlay => {
                self.underlay.overlay_mtu(network.spec.encrypted, asked)
            }
            Some(_) | None => asked.map_or(self.underlay.mtu, |asked| asked.min(self.underlay.mtu)),
        }
    }
}

/// The bridge of an overlay.
pub(crate) fn bridge_of(network: &Network) -> LinkName {
    if network.spec.ingress {
        LinkName::ingress()
    } else {
        LinkName::overlay(network.id)
    }
}

/// What the kernel should hold.
pub(crate) fn desired(inputs: Inputs<'_>) -> State {
    let mut state = State::default();
    let mac = node_mac(inputs.index());
    for network in inputs.overlays() {
        overlay(inputs, network, mac, &mut state);
    }
    for sandbox in inputs.sandboxes {
        ports(inputs, sandbox, mac, &mut state);
    }
    state
}

fn bridge(mac: Mac, mtu: u32) -> Link {
    Link {
        kind: LinkKind::Bridge,
        mac: Some(mac),
        mtu,
        is_up: true,
        port: None,
    }
}

/// The bridge of an overlay, its ways to other nodes, and who is behind them.
fn overlay(inputs: Inputs<'_>, network: &Network, mac: Mac, state: &mut State) {
    let name = bridge_of(network);
    let mtu = inputs.mtu(Some(network.id), mtu_asked(network));
    state.links.insert(name.clone(), bridge(mac, mtu));
    if network.spec.ingress {
        // The same one on every node: nobody asks beyond its own.
        for subnet in &network.subnets {
            if let Ok(address) = ipnet::IpNet::new(subnet.gateway, subnet.subnet.prefix_len()) {
                state.addresses.insert((name.clone(), address));
            }
        }
    }
    let Some(port) = inputs
        .view
        .reach
        .settings
        .as_ref()
        .map(|settings| settings.data_path_port)
    else {
        return;
    };
    let places = remote_places(inputs, network);
    if network.spec.encrypted {
        // What is encrypted never takes the open way, not even before there is another.
        encrypted_tunnels(inputs, network, mtu, state);
    } else {
        open_tunnels(network, &places, (port, mtu), state);
    }
    for place in places {
        let tunnel = if network.spec.encrypted {
            LinkName::encrypted(place.vni)
        } else {
            LinkName::tunnel(place.vni, place.node.is_ipv6())
        };
        if !state.links.contains_key(&tunnel) {
            continue;
        }
        // A MAC address is in one place: the last one told wins, as with neighbours.
        let is_other = |at: &(LinkName, Mac)| {
            at.1 == place.mac && at.0 != tunnel && is_tunnel_of(network, &at.0)
        };
        state.port_macs.retain(|at| !is_other(at));
        state.tunnel_macs.retain(|at, _| !is_other(at));
        state.port_macs.insert((tunnel.clone(), place.mac));
        if !network.spec.encrypted {
            state.tunnel_macs.insert((tunnel, place.mac), place.node);
        }
        for address in place.addresses {
            state.neighbours.insert((name.clone(), address), place.mac);
        }
    }
}

/// Ways in clear. Others send to the subnet of the one they send to, so that each subnet needs its
/// tunnel.
fn open_tunnels(
    network: &Network,
    places: &[RemotePlace],
    (port, mtu): (u16, u32),
    state: &mut State,
) {
    let locals: BTreeSet<IpAddr> = places.iter().map(|place| place.local).collect();
    for (subnet, local) in network
        .subnets
        .iter()
        .flat_map(|one| locals.iter().map(move |at| (one, at)))
    {
        let kind = LinkKind::Vxlan {
            vni: subnet.vni,
            port,
            local: *local,
        };
        state.links.insert(
            LinkName::tunnel(subnet.vni, local.is_ipv6()),
            tunnel(kind, mtu, bridge_of(network)),
        );
    }
}

/// Ways through the process that seals, as far as it has made them.
fn encrypted_tunnels(inputs: Inputs<'_>, network: &Network, mtu: u32, state: &mut State) {
    let Sealed { vnis, devices } = inputs.sealed;
    for subnet in &network.subnets {
        if vnis.contains(&subnet.vni) && devices.contains(&subnet.vni) {
            state.links.insert(
                LinkName::encrypted(subnet.vni),
                tunnel(LinkKind::Tap, mtu, bridge_of(network)),
            );
        }
    }
}

fn tunnel(kind: LinkKind, mtu: u32, bridge: LinkName) -> Link {
    Link {
        kind,
        mac: None,
        mtu,
        is_up: true,
        port: Some(Port::tunnel(bridge)),
    }
}

fn is_tunnel_of(network: &Network, name: &LinkName) -> bool {
    let mut vnis = network.subnets.iter().map(|subnet| subnet.vni);
    vnis.any(|vni| {
        let open = [false, true].map(|ipv6| LinkName::tunnel(vni, ipv6));
        open.contains(name) || *name == LinkName::encrypted(vni)
    })
}

/// Our ends of a container's interfaces.
fn ports(inputs: Inputs<'_>, sandbox: &Sandbox, mac: Mac, state: &mut State) {
    for interface in &sandbox.interfaces {
        let Base::Bridge {
            bridge: name,
            port,
            is_isolated,
        } = &interface.base
        else {
            continue;
        };
        let mtu = inputs.mtu(interface.network, interface.mtu_asked);
        // Also when managers have not told of the network (again): the container has it.
        state
            .links
            .entry(name.clone())
            .or_insert_with(|| bridge(mac, mtu));
        let subnets = match interface.network {
            None => inputs.local.outbound(),
            Some(network) => inputs.local.of(network),
        };
        for subnet in subnets {
            let length = subnet.subnet.prefix_len();
            if let Ok(address) = ipnet::IpNet::new(subnet.gateway, length) {
                state.addresses.insert((name.clone(), address));
            }
        }
        state.links.insert(
            port.clone(),
            Link {
                kind: LinkKind::Veth,
                mac: None,
                mtu,
                is_up: true,
                port: Some(Port {
                    reflects: !subnets.is_empty(),
                    ..Port::container(name.clone(), *is_isolated)
                }),
            },
        );
        // Who is here is nowhere else, whatever managers say.
        let network = interface.network.and_then(|id| inputs.view.network(id));
        if let Some(network) = network {
            let is_other =
                |at: &(LinkName, Mac)| at.1 == interface.mac && is_tunnel_of(network, &at.0);
            state.port_macs.retain(|at| !is_other(at));
            state.tunnel_macs.retain(|at, _| !is_other(at));
        }
        state.port_macs.insert((port.clone(), interface.mac));
        for address in &interface.addresses {
            state
                .neighbours
                .insert((name.clone(), address.addr()), interface.mac);
        }
    }
}

#[cfg(test)]
mod tests;
