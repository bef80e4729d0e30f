//! Reads what the kernel holds for our networks.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoVxlan, LinkAttribute,
    LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use types::network::Mac;

use crate::socket::Socket;
use crate::state::{Link, LinkKind, LinkName, Port, State};

/// What was found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    /// Of what we made.
    pub(crate) state: State,
    /// Numbers of all links, by name.
    pub(crate) indices: BTreeMap<LinkName, u32>,
    /// Every address of the machine, with the link it is on and that link's MTU.
    pub(crate) addresses: Vec<(IpNet, LinkName, u32)>,
}

/// Reads everything.
pub(crate) fn observe(socket: &mut Socket) -> io::Result<Observed> {
    let links = links(socket)?;
    let names: BTreeMap<u32, LinkName> = links
        .iter()
        .map(|(index, name, _)| (*index, name.clone()))
        .collect();
    let mut observed = Observed {
        indices: links
            .iter()
            .map(|(index, name, _)| (name.clone(), *index))
            .collect(),
        ..Observed::default()
    };
    let mut mtus = BTreeMap::new();
    for (index, name, message) in &links {
        let link = link(message, &names);
        mtus.insert(*index, link.mtu);
        if name.is_ours() {
            observed.state.links.insert(name.clone(), link);
        }
    }
    for (index, address) in addresses(socket)? {
        let Some(name) = names.get(&index) else {
            continue;
        };
        let mtu = mtus.get(&index).copied().unwrap_or_default();
        observed.addresses.push((address, name.clone(), mtu));
        if name.is_ours() && !is_link_local(address.addr()) {
            observed.state.addresses.insert((name.clone(), address));
        }
    }
    observe_forwarding(socket, &names, &mut observed.state)?;
    observe_neighbours(socket, &names, &mut observed.state)?;
    Ok(observed)
}

/// Number and name of every link, with the kernel's description.
pub(crate) fn links(socket: &mut Socket) -> io::Result<Vec<(u32, LinkName, LinkMessage)>> {
    let mut ask = LinkMessage::default();
    ask.attributes
        .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let mut links = Vec::new();
    for answer in socket.dump(RouteNetlinkMessage::GetLink(ask))? {
        let RouteNetlinkMessage::NewLink(message) = answer else {
            continue;
        };
        let name = message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(LinkName::existing(name)),
                _ => None,
            });
        if let Some(name) = name {
            links.push((message.header.index, name, message));
        }
    }
    Ok(links)
}

/// The number of one link.
pub(crate) fn index_of(socket: &mut Socket, name: &LinkName) -> io::Result<u32> {
    let mut ask = LinkMessage::default();
    ask.attributes
        .push(LinkAttribute::IfName(name.as_str().to_owned()));
    ask.attributes
        .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    match socket.get(RouteNetlinkMessage::GetLink(ask))? {
        RouteNetlinkMessage::NewLink(link) => Ok(link.header.index),
        other => Err(io::Error::other(format!("unexpected answer {other:?}"))),
    }
}

pub(crate) fn link(message: &LinkMessage, names: &BTreeMap<u32, LinkName>) -> Link {
    let mut link = Link {
        kind: LinkKind::Other(String::new()),
        mac: None,
        mtu: 0,
        is_up: message.header.flags.contains(LinkFlags::Up),
        port: None,
    };
    let mut bridge = None;
    let mut infos: &[LinkInfo] = &[];
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(mac) => link.mac = mac.as_slice().try_into().ok(),
            LinkAttribute::Controller(index) => bridge = names.get(index),
            LinkAttribute::LinkInfo(found) => infos = found,
            _ => {}
        }
    }
    let mut kind = None;
    let mut data = None;
    for info in infos {
        match info {
            LinkInfo::Kind(found) => kind = Some(found),
            LinkInfo::Data(found) => data = Some(found),
            LinkInfo::PortData(InfoPortData::BridgePort(flags)) => {
                link.port = bridge.map(|bridge| port(bridge, flags));
            }
            _ => {}
        }
    }
    link.kind = link_kind(kind, data);
    link
}

fn link_kind(kind: Option<&InfoKind>, data: Option<&InfoData>) -> LinkKind {
    let other = || LinkKind::Other(kind.map_or_else(String::new, |kind| format!("{kind:?}")));
    match (kind, data) {
        (Some(InfoKind::Veth), _) => LinkKind::Veth,
        (Some(InfoKind::Tun), _) => LinkKind::Tap,
        (Some(InfoKind::Bridge), Some(InfoData::Bridge(options))) => {
            let is_plain = options.iter().all(|option| {
                !matches!(
                    option,
                    InfoBridge::NfCallIpTables(true)
                        | InfoBridge::NfCallIp6Tables(true)
                        | InfoBridge::MulticastSnooping(true)
                )
            });
            if is_plain { LinkKind::Bridge } else { other() }
        }
        (Some(InfoKind::Vxlan), Some(InfoData::Vxlan(options))) => {
            let (mut vni, mut port, mut local, mut learns) = (None, None, None, false);
            for option in options {
                match option {
                    InfoVxlan::Id(id) => vni = Some(*id),
                    InfoVxlan::Port(number) => port = Some(*number),
                    InfoVxlan::Local(address) => local = Some(IpAddr::V4(*address)),
                    InfoVxlan::Local6(address) => local = Some(IpAddr::V6(*address)),
                    InfoVxlan::Learning(on) => learns = *on,
                    _ => {}
                }
            }
            match (vni, port, local) {
                (Some(vni), Some(port), Some(local)) if !learns => {
                    LinkKind::Vxlan { vni, port, local }
                }
                _ => other(),
            }
        }
        _ => other(),
    }
}

fn port(bridge: &LinkName, flags: &[InfoBridgePort]) -> Port {
    let mut port = Port::container(bridge.clone(), false);
    let (mut unicast, mut multicast, mut broadcast) = (true, true, true);
    for flag in flags {
        match flag {
            InfoBridgePort::Learning(on) => port.learns = *on,
            InfoBridgePort::UnicastFlood(on) => unicast = *on,
            InfoBridgePort::MulticastFlood(on) => multicast = *on,
            InfoBridgePort::BroadcastFlood(on) => broadcast = *on,
            InfoBridgePort::NeighSupress(on) => port.is_answered_for = *on,
            InfoBridgePort::Isolated(on) => port.is_isolated = *on,
            InfoBridgePort::HairpinMode(on) => port.reflects = *on,
            _ => {}
        }
    }
    // Ours flood all or nothing; whatever is between the two is neither, so one has to be wrong.
    port.floods = if port.is_answered_for {
        unicast || multicast || broadcast
    } else {
        unicast && multicast && broadcast
    };
    port
}

pub(crate) fn addresses(socket: &mut Socket) -> io::Result<Vec<(u32, IpNet)>> {
    let mut addresses = Vec::new();
    for answer in socket.dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()))? {
        let RouteNetlinkMessage::NewAddress(message) = answer else {
            continue;
        };
        let (mut local, mut address) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Local(found) => local = Some(*found),
                AddressAttribute::Address(found) => address = Some(*found),
                _ => {}
            }
        }
        if let Some(address) = local.or(address)
            && let Ok(address) = IpNet::new(address, message.header.prefix_len)
        {
            addresses.push((message.header.index, address));
        }
    }
    Ok(addresses)
}

fn observe_forwarding(
    socket: &mut Socket,
    names: &BTreeMap<u32, LinkName>,
    state: &mut State,
) -> io::Result<()> {
    let mut ask = NeighbourMessage::default();
    ask.header.family = AddressFamily::Bridge;
    for answer in socket.dump(RouteNetlinkMessage::GetNeighbour(ask))? {
        let RouteNetlinkMessage::NewNeighbour(message) = answer else {
            continue;
        };
        let Some(name) = names
            .get(&message.header.ifindex)
            .filter(|name| name.is_ours())
        else {
            continue;
        };
        let Entry {
            mac: Some(mac),
            destination,
            has_bridge,
        } = Entry::of(&message)
        else {
            continue;
        };
        if has_bridge {
            // The bridge's table. Permanent are the ports' own addresses; others were learned.
            if message.header.state == NeighbourState::Noarp {
                state.port_macs.insert((name.clone(), mac));
            }
        } else if let Some(node) = destination {
            state.tunnel_macs.insert((name.clone(), mac), node);
        }
    }
    Ok(())
}

fn observe_neighbours(
    socket: &mut Socket,
    names: &BTreeMap<u32, LinkName>,
    state: &mut State,
) -> io::Result<()> {
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut ask = NeighbourMessage::default();
        ask.header.family = family;
        for answer in socket.dump(RouteNetlinkMessage::GetNeighbour(ask))? {
            let RouteNetlinkMessage::NewNeighbour(message) = answer else {
                continue;
            };
            let name = names
                .get(&message.header.ifindex)
                .filter(|name| name.is_ours());
            let entry = Entry::of(&message);
            if let (Some(name), Some(mac), Some(address)) = (name, entry.mac, entry.destination)
                && message.header.state == NeighbourState::Permanent
            {
                state.neighbours.insert((name.clone(), address), mac);
            }
        }
    }
    Ok(())
}

/// What an entry of a neighbour or forwarding table says.
struct Entry {
    mac: Option<Mac>,
    destination: Option<IpAddr>,
    has_bridge: bool,
}

impl Entry {
    fn of(message: &NeighbourMessage) -> Self {
        let mut entry = Self {
            mac: None,
            destination: None,
            has_bridge: false,
        };
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::LinkLayerAddress(mac) => {
                    entry.mac = mac.as_slice().try_into().ok();
                }
                NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => {
                    entry.destination = Some(IpAddr::V4(*address));
                }
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => {
                    entry.destination = Some(IpAddr::V6(*address));
                }
                // Where the family is that of bridges, it does not tell the address's.
                NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => {
                    entry.destination = address_of(bytes);
                }
                NeighbourAttribute::Controller(_) => entry.has_bridge = true,
                _ => {}
            }
        }
        entry
    }
}

fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    let ipv4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    ipv4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

/// Given by the kernel itself.
fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}
