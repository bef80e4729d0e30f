//! The kernel's messages for the changes we make.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage,
};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridge, InfoBridgePort, InfoData, InfoKind,
    InfoPortData, InfoPortKind, InfoVeth, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use types::network::Mac;

use crate::socket::Request;
use crate::state::{LinkKind, LinkName, Port};

const CREATE: u16 = NLM_F_CREATE | NLM_F_EXCL;
const PUT: u16 = NLM_F_CREATE | NLM_F_REPLACE;

/// Makes a link that needs no other one. Nothing for a kind we do not make.
pub(crate) fn add_link(name: &LinkName, kind: &LinkKind) -> Option<Request> {
    let (kind, data) = match kind {
        LinkKind::Bridge => (
            InfoKind::Bridge,
            InfoData::Bridge(vec![
                // A frame that a bridge passes on is not a routed packet, and must not meet the
                // rules for those: DNAT back to the sender would be dropped.
                InfoBridge::NfCallIpTables(false),
                InfoBridge::NfCallIp6Tables(false),
                InfoBridge::NfCallArpTables(false),
                // With snooping, neighbour solicitations of IPv6 get lost.
                InfoBridge::MulticastSnooping(false),
            ]),
        ),
        LinkKind::Vxlan { vni, port, local } => (
            InfoKind::Vxlan,
            InfoData::Vxlan(vec![
                InfoVxlan::Id(*vni),
                InfoVxlan::Port(*port),
                match local {
                    IpAddr::V4(local) => InfoVxlan::Local(*local),
                    IpAddr::V6(local) => InfoVxlan::Local6(*local),
                },
                InfoVxlan::Learning(false),
            ]),
        ),
        LinkKind::Tap | LinkKind::Veth | LinkKind::Other(_) => return None,
    };
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.as_str().to_owned()),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind), LinkInfo::Data(data)]),
    ];
    Some(Request {
        message: RouteNetlinkMessage::NewLink(message),
        flags: CREATE,
    })
}

/// An interface of a container, in its namespace, whose other end is `outer` here.
pub(crate) struct Inner<'a> {
    pub(crate) name: &'a str,
    pub(crate) mac: Mac,
    pub(crate) mtu: u32,
    pub(crate) namespace: BorrowedFd<'a>,
}

impl Inner<'_> {
    fn attributes(&self) -> Vec<LinkAttribute> {
        vec![
            LinkAttribute::IfName(self.name.to_owned()),
            LinkAttribute::Address(self.mac.to_vec()),
            LinkAttribute::Mtu(self.mtu),
            LinkAttribute::NetNsFd(self.namespace.as_raw_fd()),
        ]
    }
}

/// Makes a pair of interfaces. The inner one must be brought up later, from inside: the kernel
/// refuses to make a peer that is up.
pub(crate) fn add_veth(outer: &LinkName, bridge: u32, inner: &Inner<'_>) -> Request {
    let mut peer = LinkMessage::default();
    peer.attributes = inner.attributes();
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(outer.as_str().to_owned()),
        LinkAttribute::Mtu(inner.mtu),
        LinkAttribute::Controller(bridge),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ];
    Request {
        message: RouteNetlinkMessage::NewLink(message),
        flags: CREATE,
    }
}

/// Makes an interface of a container on top of a device of the machine.
pub(crate) fn add_on_device(
    parent: u32,
    kind: InfoKind,
    data: InfoData,
    inner: &Inner<'_>,
) -> Request {
    let mut message = LinkMessage::default();
    message.attributes = inner.attributes();
    if kind == InfoKind::IpVlan {
        // It has the device's address.
        message
            .attributes
            .retain(|attribute| !matches!(attribute, LinkAttribute::Address(_)));
    }
    message.attributes.push(LinkAttribute::Link(parent));
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(kind),
        LinkInfo::Data(data),
    ]));
    Request {
        message: RouteNetlinkMessage::NewLink(message),
        flags: CREATE,
    }
}

/// Has the kernel give a link no IPv6 address of its own accord. Fails where there is no IPv6.
pub(crate) fn no_own_addresses(index: u32) -> Request {
    let none = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    let spec = LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![none])]);
    set_link(index, vec![spec], None)
}

/// Changes what a link has.
pub(crate) fn set_link(index: u32, attributes: Vec<LinkAttribute>, is_up: Option<bool>) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = index;
    if let Some(is_up) = is_up {
        message.header.change_mask = LinkFlags::Up;
        message.header.flags = if is_up {
            LinkFlags::Up
        } else {
            LinkFlags::empty()
        };
    }
    message.attributes = attributes;
    Request {
        message: RouteNetlinkMessage::SetLink(message),
        flags: 0,
    }
}

/// Sets up a link as a port of the bridge it is in already.
pub(crate) fn set_port(index: u32, port: &Port) -> Request {
    let flags = vec![
        InfoBridgePort::Learning(port.learns),
        InfoBridgePort::UnicastFlood(port.floods),
        InfoBridgePort::MulticastFlood(port.floods),
        InfoBridgePort::BroadcastFlood(port.floods),
        InfoBridgePort::NeighSupress(port.is_answered_for),
        InfoBridgePort::Isolated(port.is_isolated),
        InfoBridgePort::HairpinMode(port.reflects),
    ];
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = vec![LinkAttribute::LinkInfo(vec![
        LinkInfo::PortKind(InfoPortKind::Bridge),
        LinkInfo::PortData(InfoPortData::BridgePort(flags)),
    ])];
    Request {
        message: RouteNetlinkMessage::NewLink(message),
        flags: 0,
    }
}

pub(crate) fn delete_link(name: &LinkName) -> Request {
    let mut message = LinkMessage::default();
    message.attributes = vec![LinkAttribute::IfName(name.as_str().to_owned())];
    Request {
        message: RouteNetlinkMessage::DelLink(message),
        flags: 0,
    }
}

pub(crate) fn add_address(index: u32, address: IpNet) -> Request {
    Request {
        message: RouteNetlinkMessage::NewAddress(address_message(index, address)),
        flags: PUT,
    }
}

pub(crate) fn delete_address(index: u32, address: IpNet) -> Request {
    Request {
        message: RouteNetlinkMessage::DelAddress(address_message(index, address)),
        flags: 0,
    }
}

fn address_message(index: u32, address: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.family = family(address.addr());
    message.header.prefix_len = address.prefix_len();
    message.attributes = vec![
        AddressAttribute::Local(address.addr()),
        AddressAttribute::Address(address.addr()),
    ];
    match address {
        IpNet::V4(address) if address.prefix_len() < 31 => {
            message
                .attributes
                .push(AddressAttribute::Broadcast(address.broadcast()));
        }
        IpNet::V4(_) => {}
        // The allocator knows that nobody else has it.
        IpNet::V6(_) => {
            message.header.flags = AddressHeaderFlags::Nodad;
            message
                .attributes
                .push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
    }
    message
}

/// Tells a bridge that a MAC address is behind one of its ports.
pub(crate) fn add_port_mac(port: u32, mac: Mac) -> Request {
    let state = NeighbourState::Noarp;
    forwarding(port, mac, None, NeighbourFlags::Controller, state, true)
}

pub(crate) fn delete_port_mac(port: u32, mac: Mac) -> Request {
    let state = NeighbourState::Noarp;
    forwarding(port, mac, None, NeighbourFlags::Controller, state, false)
}

/// Tells a tunnel to which node it sends frames for a MAC address.
pub(crate) fn add_tunnel_mac(tunnel: u32, mac: Mac, node: IpAddr) -> Request {
    let state = NeighbourState::Permanent;
    forwarding(tunnel, mac, Some(node), NeighbourFlags::Own, state, true)
}

pub(crate) fn delete_tunnel_mac(tunnel: u32, mac: Mac, node: IpAddr) -> Request {
    let state = NeighbourState::Permanent;
    forwarding(tunnel, mac, Some(node), NeighbourFlags::Own, state, false)
}

fn forwarding(
    index: u32,
    mac: Mac,
    node: Option<IpAddr>,
    flags: NeighbourFlags,
    state: NeighbourState,
    is_added: bool,
) -> Request {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    message.header.state = state;
    message.header.flags = flags;
    message.attributes = vec![NeighbourAttribute::LinkLayerAddress(mac.to_vec())];
    message
        .attributes
        .extend(node.map(|node| NeighbourAttribute::Destination(node.into())));
    neighbour_request(message, is_added)
}

/// Tells a link who has an address.
pub(crate) fn add_neighbour(index: u32, address: IpAddr, mac: Mac) -> Request {
    let mut message = neighbour(index, address);
    message.header.state = NeighbourState::Permanent;
    message
        .attributes
        .push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
    neighbour_request(message, true)
}

pub(crate) fn delete_neighbour(index: u32, address: IpAddr) -> Request {
    neighbour_request(neighbour(index, address), false)
}

fn neighbour(index: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = index;
    message.attributes = vec![NeighbourAttribute::Destination(address.into())];
    message
}

fn neighbour_request(message: NeighbourMessage, is_added: bool) -> Request {
    if is_added {
        Request {
            message: RouteNetlinkMessage::NewNeighbour(message),
            flags: PUT,
        }
    } else {
        Request {
            message: RouteNetlinkMessage::DelNeighbour(message),
            flags: 0,
        }
    }
}

/// A route through a link: by way of a gateway, or to who is on the link itself.
pub(crate) fn add_route(index: u32, destination: IpNet, gateway: Option<IpAddr>) -> Request {
    let mut message = RouteMessage::default();
    message.header.address_family = family(destination.addr());
    message.header.destination_prefix_length = destination.prefix_len();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.kind = RouteType::Unicast;
    message.header.scope = match (gateway, destination) {
        (None, IpNet::V4(_)) => RouteScope::Link,
        (Some(_), _) | (None, IpNet::V6(_)) => RouteScope::Universe,
    };
    message.attributes.push(RouteAttribute::Oif(index));
    if destination.prefix_len() > 0 {
        message
            .attributes
            .push(RouteAttribute::Destination(destination.network().into()));
    }
    message
        .attributes
        .extend(gateway.map(|gateway| RouteAttribute::Gateway(gateway.into())));
    Request {
        message: RouteNetlinkMessage::NewRoute(message),
        flags: PUT,
    }
}

/// The routing table of a container that leads answers of the mesh back.
const MESH_TABLE: u8 = 100;

/// Leads packets that bear the mesh's mark to a gateway of their own. The first request makes a
/// rule that may be there already.
pub(crate) fn lead_back(index: u32, gateway: IpAddr) -> [Request; 3] {
    let mut rule = RuleMessage::default();
    rule.header.family = family(gateway);
    rule.header.table = MESH_TABLE;
    rule.header.action = RuleAction::ToTable;
    rule.attributes = vec![
        RuleAttribute::FwMark(nft::mesh::MARK),
        RuleAttribute::FwMask(nft::mesh::MARK),
    ];
    let rule = Request {
        message: RouteNetlinkMessage::NewRule(rule),
        flags: CREATE,
    };
    let mut route = RouteMessage::default();
    route.header.address_family = family(gateway);
    route.header.table = MESH_TABLE;
    route.header.protocol = RouteProtocol::Static;
    route.header.kind = RouteType::Unicast;
    route.attributes = vec![
        RouteAttribute::Oif(index),
        RouteAttribute::Gateway(gateway.into()),
    ];
    let route = Request {
        message: RouteNetlinkMessage::NewRoute(route),
        flags: PUT,
    };
    // Any address will do: the packet filter puts that of the node in its place.
    let nobody = types::network::node_mac(0);
    [rule, route, add_neighbour(index, gateway, nobody)]
}

/// Asks which way packets for an address go.
pub(crate) fn route_to(address: IpAddr) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(address);
    message.header.destination_prefix_length = if address.is_ipv4() { 32 } else { 128 };
    message.attributes = vec![RouteAttribute::Destination(address.into())];
    RouteNetlinkMessage::GetRoute(message)
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
