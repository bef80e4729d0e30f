//! Finds the changes that make the kernel's state what it should be.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use types::network::Mac;

use crate::state::{Link, LinkKind, LinkName, State};

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    DeleteLink(LinkName),
    AddLink(LinkName, Link),
    /// Sets all of a link that can be changed.
    SetLink(LinkName, Link),
    DeleteAddress(LinkName, IpNet),
    AddAddress(LinkName, IpNet),
    DeletePortMac(LinkName, Mac),
    AddPortMac(LinkName, Mac),
    DeleteTunnelMac(LinkName, Mac, IpAddr),
    AddTunnelMac(LinkName, Mac, IpAddr),
    DeleteNeighbour(LinkName, IpAddr),
    AddNeighbour(LinkName, IpAddr, Mac),
}

/// Of what kind a difference is, as metrics count them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Links, and how they are set up.
    Link,
    /// Addresses of the machine.
    Address,
    /// Where MAC addresses are.
    Forwarding,
    /// Who has an IP address.
    Neighbour,
    /// Rules of the packet filter.
    Filter,
    /// Interfaces, addresses and routes inside of containers.
    Inside,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Link,
        Self::Address,
        Self::Forwarding,
        Self::Neighbour,
        Self::Filter,
        Self::Inside,
    ];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Link => "link",
            Self::Address => "address",
            Self::Forwarding => "forwarding",
            Self::Neighbour => "neighbour",
            Self::Filter => "filter",
            Self::Inside => "inside",
        })
    }
}

impl Change {
    /// The link it concerns.
    pub(crate) fn link(&self) -> &LinkName {
        match self {
            Self::DeleteLink(link)
            | Self::AddLink(link, _)
            | Self::SetLink(link, _)
            | Self::DeleteAddress(link, _)
            | Self::AddAddress(link, _)
            | Self::DeletePortMac(link, _)
            | Self::AddPortMac(link, _)
            | Self::DeleteTunnelMac(link, ..)
            | Self::AddTunnelMac(link, ..)
            | Self::DeleteNeighbour(link, _)
            | Self::AddNeighbour(link, ..) => link,
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::DeleteLink(_) | Self::AddLink(..) | Self::SetLink(..) => Kind::Link,
            Self::DeleteAddress(..) | Self::AddAddress(..) => Kind::Address,
            Self::DeletePortMac(..)
            | Self::AddPortMac(..)
            | Self::DeleteTunnelMac(..)
            | Self::AddTunnelMac(..) => Kind::Forwarding,
            Self::DeleteNeighbour(..) | Self::AddNeighbour(..) => Kind::Neighbour,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeleteLink(link) => write!(f, "remove link {link}"),
            Self::AddLink(link, _) => write!(f, "add link {link}"),
            Self::SetLink(link, _) => write!(f, "set up link {link}"),
            Self::DeleteAddress(link, address) => write!(f, "remove {address} from {link}"),
            Self::AddAddress(link, address) => write!(f, "add {address} to {link}"),
            Self::DeletePortMac(link, mac) => write!(f, "forget {} behind {link}", show(mac)),
            Self::AddPortMac(link, mac) => write!(f, "place {} behind {link}", show(mac)),
            Self::DeleteTunnelMac(link, mac, node) => {
                write!(f, "stop sending {} to {node} through {link}", show(mac))
            }
            Self::AddTunnelMac(link, mac, node) => {
                write!(f, "send {} to {node} through {link}", show(mac))
            }
            Self::DeleteNeighbour(link, address) => write!(f, "forget {address} on {link}"),
            Self::AddNeighbour(link, address, mac) => {
                write!(f, "tell that {} has {address} on {link}", show(mac))
            }
        }
    }
}

fn show(mac: &Mac) -> String {
    let [a, b, c, d, e, f] = mac;
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

/// What has to change so that `observed` becomes `desired`, in an order that works.
pub(crate) fn plan(desired: &State, observed: &State) -> Vec<Change> {
    let mut changes = Vec::new();
    // Links that go or come afresh, or that change their bridge: what was known of them goes too.
    let mut fresh: BTreeSet<&LinkName> = BTreeSet::new();
    // Links of which everything goes.
    let mut gone: BTreeSet<&LinkName> = BTreeSet::new();
    for (name, link) in &observed.links {
        let fits = desired
            .links
            .get(name)
            .is_some_and(|wanted| wanted.kind == link.kind);
        if !fits && link.kind == LinkKind::Tap {
            // It goes when its maker is told; without its bridge it leads nowhere.
            gone.insert(name);
        } else if !fits {
            changes.push(Change::DeleteLink(name.clone()));
            gone.insert(name);
            fresh.insert(name);
        }
    }
    // Bridges first, then what is put into them.
    for has_port in [false, true] {
        let wanted = desired
            .links
            .iter()
            .filter(|(_, link)| link.port.is_some() == has_port);
        for (name, link) in wanted {
            match observed.links.get(name).filter(|_| !gone.contains(name)) {
                None => {
                    changes.push(match link.kind {
                        LinkKind::Tap => Change::SetLink(name.clone(), link.clone()),
                        LinkKind::Bridge
                        | LinkKind::Vxlan { .. }
                        | LinkKind::Veth
                        | LinkKind::Other(_) => Change::AddLink(name.clone(), link.clone()),
                    });
                    fresh.insert(name);
                    gone.insert(name);
                }
                Some(found) => {
                    let bridge = |link: &Link| link.port.as_ref().map(|port| port.bridge.clone());
                    let moves = bridge(found) != bridge(link)
                        || bridge(link).is_some_and(|bridge| gone.contains(&bridge));
                    if moves {
                        fresh.insert(name);
                    }
                    if moves || !is_set_up(found, link) {
                        changes.push(Change::SetLink(name.clone(), link.clone()));
                    }
                    if !found.is_up && link.is_up {
                        // A link that was down has lost its neighbours, whatever was seen before.
                        fresh.insert(name);
                    }
                }
            }
        }
    }
    plan_entries(desired, observed, &gone, &fresh, &mut changes);
    changes
}

fn is_set_up(found: &Link, wanted: &Link) -> bool {
    wanted.mac.is_none_or(|mac| found.mac == Some(mac))
        && found.mtu == wanted.mtu
        && found.is_up == wanted.is_up
        && found.port == wanted.port
}

/// Deletions come first: an address or MAC that moves must not be taken from its new place.
fn plan_entries(
    desired: &State,
    observed: &State,
    gone: &BTreeSet<&LinkName>,
    fresh: &BTreeSet<&LinkName>,
    changes: &mut Vec<Change>,
) {
    for at in observed
        .addresses
        .difference(&desired.addresses)
        .filter(|at| !gone.contains(&at.0))
    {
        changes.push(Change::DeleteAddress(at.0.clone(), at.1));
    }
    for at in observed
        .port_macs
        .difference(&desired.port_macs)
        .filter(|at| !gone.contains(&at.0))
    {
        changes.push(Change::DeletePortMac(at.0.clone(), at.1));
    }
    for (at, node) in observed
        .tunnel_macs
        .iter()
        .filter(|(at, _)| !gone.contains(&at.0))
    {
        if !desired.tunnel_macs.contains_key(at) {
            changes.push(Change::DeleteTunnelMac(at.0.clone(), at.1, *node));
        }
    }
    for at in observed
        .neighbours
        .keys()
        .filter(|at| !gone.contains(&at.0))
    {
        if !desired.neighbours.contains_key(at) {
            changes.push(Change::DeleteNeighbour(at.0.clone(), at.1));
        }
    }
    for at in &desired.addresses {
        if gone.contains(&at.0) || !observed.addresses.contains(at) {
            changes.push(Change::AddAddress(at.0.clone(), at.1));
        }
    }
    for at in &desired.port_macs {
        if fresh.contains(&at.0) || !observed.port_macs.contains(at) {
            changes.push(Change::AddPortMac(at.0.clone(), at.1));
        }
    }
    for (at, node) in &desired.tunnel_macs {
        if gone.contains(&at.0) || observed.tunnel_macs.get(at) != Some(node) {
            changes.push(Change::AddTunnelMac(at.0.clone(), at.1, *node));
        }
    }
    for (at, mac) in &desired.neighbours {
        if fresh.contains(&at.0) || observed.neighbours.get(at) != Some(mac) {
            changes.push(Change::AddNeighbour(at.0.clone(), at.1, *mac));
        }
    }
}

#[cfg(test)]
mod tests;
