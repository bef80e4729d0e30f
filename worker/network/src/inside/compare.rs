//! Whether a container's own side still is as it was set up.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage};

use crate::namespace;
use crate::observe;
use crate::sandbox::{Interface, Sandbox};
use crate::socket::Socket;
use crate::state::LinkName;

/// A route of the main table: where to, by which gateway, through which interface.
type Route = (Option<IpNet>, Option<IpAddr>, u32);

/// What is missing of what [`super::set_up`] made. What a program added is its own business.
pub(crate) fn missing(
    namespace: &OwnedFd,
    sandbox: &Sandbox,
    mtus: &[u32],
) -> io::Result<Vec<String>> {
    namespace::inside(namespace, || {
        let mut socket = Socket::open()?;
        let links = observe::links(&mut socket)?;
        let addresses = observe::addresses(&mut socket)?;
        let routes = routes(&mut socket)?;
        let mut missing = Vec::new();
        for (interface, mtu) in sandbox.interfaces.iter().zip(mtus) {
            let name = LinkName::existing(&interface.name);
            let Some((index, _, message)) = links.iter().find(|(_, found, _)| *found == name)
            else {
                missing.push(format!("add interface {name}"));
                continue;
            };
            let link = observe::link(message, &std::collections::BTreeMap::new());
            if !link.is_up || link.mtu != *mtu {
                missing.push(format!("set up interface {name}"));
            }
            let has = |address: &&IpNet| !addresses.contains(&(*index, **address));
            let gone = interface.addresses.iter().filter(has);
            missing.extend(gone.map(|address| format!("add {address} to {name}")));
            let wanted = wanted_routes(interface, *index);
            let gone = wanted.into_iter().filter(|route| !routes.contains(route));
            missing.extend(gone.map(|(to, gateway, _)| {
                let to = to.map_or_else(|| "everywhere".to_owned(), |to| to.to_string());
                match gateway {
                    Some(gateway) => format!("route {to} by {gateway} through {name}"),
                    None => format!("route {to} through {name}"),
                }
            }));
        }
        Ok(missing)
    })
}

fn wanted_routes(interface: &Interface, index: u32) -> Vec<Route> {
    let on_link = interface.on_link.iter();
    let on_link = on_link.map(|subnet| (Some(subnet.trunc()), None, index));
    let gateways = interface.gateways.iter();
    let out = gateways.map(|gateway| (None, Some(*gateway), index));
    on_link.chain(out).collect()
}

fn routes(socket: &mut Socket) -> io::Result<BTreeSet<Route>> {
    let mut routes = BTreeSet::new();
    for answer in socket.dump(RouteNetlinkMessage::GetRoute(RouteMessage::default()))? {
        let RouteNetlinkMessage::NewRoute(route) = answer else {
            continue;
        };
        if route.header.table != RouteHeader::RT_TABLE_MAIN {
            continue;
        }
        let (mut to, mut gateway, mut index) = (None, None, 0);
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::Destination(address) => to = ip(address),
                RouteAttribute::Gateway(address) => gateway = ip(address),
                RouteAttribute::Oif(oif) => index = *oif,
                _ => {}
            }
        }
        let prefix = route.header.destination_prefix_length;
        let to = to.and_then(|to| IpNet::new(to, prefix).ok());
        routes.insert((to, gateway, index));
    }
    Ok(routes)
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}
