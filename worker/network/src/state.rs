//! What the kernel of a node holds for its networks: as it should be, or as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use types::network::Mac;
use types::{NetworkId, TaskId};

/// What every link we make begins with; what begins so and is not wanted is removed.
pub(crate) const PREFIX: &str = "sw-";

/// The name of a link, at most 15 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LinkName(String);

impl LinkName {
    /// The bridge that leads out of the node, Docker's `docker_gwbridge`.
    #[must_use]
    pub fn outbound() -> Self {
        Self(format!("{PREFIX}out"))
    }

    /// The bridge of the ingress network.
    #[must_use]
    pub fn ingress() -> Self {
        Self(format!("{PREFIX}in"))
    }

    /// The bridge of another overlay. The machine itself takes no part in what passes there.
    #[must_use]
    pub fn overlay(network: NetworkId) -> Self {
        Self(format!("{PREFIX}o{}", tail(network.as_str())))
    }

    /// The bridge of a node-local network.
    #[must_use]
    pub fn bridge(network: NetworkId) -> Self {
        Self(format!("{PREFIX}b{}", tail(network.as_str())))
    }

    /// The way of a subnet to other nodes, over IPv4 or IPv6.
    #[must_use]
    pub fn tunnel(vni: u32, is_ipv6: bool) -> Self {
        Self(format!("{PREFIX}{}{vni}", if is_ipv6 { 'y' } else { 'x' }))
    }

    /// The way of a subnet of an encrypted network to other nodes.
    #[must_use]
    pub fn encrypted(vni: u32) -> Self {
        Self(format!("{PREFIX}t{vni}"))
    }

    /// Our end of a task's interface with this number.
    #[must_use]
    pub fn port(task: TaskId, number: usize) -> Self {
        // One character: a task with more than 36 networks would share names.
        let digit = char::from_digit(number as u32 % 36, 36).unwrap_or('z');
        Self(format!("{PREFIX}{digit}{}", tail(task.as_str())))
    }

    /// The name of a link that is there already.
    #[must_use]
    pub fn existing(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The identifier in the name of a way of an encrypted network.
    pub(crate) fn encrypted_vni(&self) -> Option<u32> {
        let number = self.0.strip_prefix(PREFIX)?.strip_prefix('t')?;
        number.parse().ok()
    }

    pub(crate) fn is_ours(&self) -> bool {
        self.0.starts_with(PREFIX)
    }
}

/// The last characters of an id: the first ones vary less.
fn tail(id: &str) -> &str {
    &id[id.len() - 10..]
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Everything the kernel holds for the networks of a node, outside of containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) links: BTreeMap<LinkName, Link>,
    /// Addresses of the machine on its bridges.
    pub(crate) addresses: BTreeSet<(LinkName, IpNet)>,
    /// Which MAC addresses are behind a port of a bridge.
    pub(crate) port_macs: BTreeSet<(LinkName, Mac)>,
    /// To which node a tunnel sends frames for a MAC address.
    pub(crate) tunnel_macs: BTreeMap<(LinkName, Mac), IpAddr>,
    /// Who has an address, told by a bridge to those who ask.
    pub(crate) neighbours: BTreeMap<(LinkName, IpAddr), Mac>,
}

impl State {
    /// Leaves it to the packet filter to keep containers apart, where it sees what bridges pass on:
    /// it tells those that call each other's published ports.
    pub(crate) fn without_isolation(&mut self) {
        for link in self.links.values_mut() {
            if let Some(port) = &mut link.port {
                port.is_isolated = false;
            }
        }
    }

    /// Leaves out what a machine without IPv6 refuses.
    pub(crate) fn without_ipv6(&mut self) {
        self.addresses
            .retain(|(_, address)| address.addr().is_ipv4());
        self.neighbours.retain(|(_, address), _| address.is_ipv4());
    }
}

/// A link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) kind: LinkKind,
    /// Wanted: `None` leaves it to the kernel.
    pub(crate) mac: Option<Mac>,
    pub(crate) mtu: u32,
    pub(crate) is_up: bool,
    pub(crate) port: Option<Port>,
}

/// What kind of link it is, with all that cannot be changed later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LinkKind {
    /// A bridge that neither learns of multicast groups nor has packets filtered as if routed.
    Bridge,
    /// A tunnel to other nodes that learns nothing by itself.
    Vxlan { vni: u32, port: u16, local: IpAddr },
    /// Where an encrypted network is carried on by the process that sealed it. Made by that process,
    /// and gone with it: never made or removed here.
    Tap,
    /// Our end of a container's interface.
    Veth,
    /// Anything else, or one of the above set up in another way.
    Other(String),
}

/// A link as part of a bridge. None of ours learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) bridge: LinkName,
    /// Whether frames for everybody or for nobody known go out here.
    pub(crate) floods: bool,
    /// Whether the bridge answers for who is behind it.
    pub(crate) is_answered_for: bool,
    /// Whether it reaches only ports that are not isolated, which is the machine itself.
    pub(crate) is_isolated: bool,
    /// Whether what came in here may go out here again: a container calls its own port of the node
    /// where the kernel passes translated packets on without routing them (`br_netfilter`).
    pub(crate) reflects: bool,
    pub(crate) learns: bool,
}

impl Port {
    /// Where a container is.
    pub(crate) fn container(bridge: LinkName, is_isolated: bool) -> Self {
        Self {
            bridge,
            floods: true,
            is_answered_for: false,
            is_isolated,
            reflects: false,
            learns: false,
        }
    }

    /// Where other nodes are.
    pub(crate) fn tunnel(bridge: LinkName) -> Self {
        Self {
            bridge,
            floods: false,
            is_answered_for: true,
            is_isolated: false,
            reflects: false,
            learns: false,
        }
    }
}
