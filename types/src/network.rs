//! Networks, how services and tasks are on them, and published ports.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{Labels, Meta, NetworkId};

/// UDP port of VXLAN when the cluster names none (S16.09, IANA).
pub const DATA_PATH_PORT_DEFAULT: u16 = 4789;

/// UDP port at which nodes gossip with each other about who lives; Docker's number.
pub const GOSSIP_PORT: u16 = 7946;

/// UDP port of what is encrypted between nodes.
pub const ENCRYPTED_PORT: u16 = 51_820;

/// First VXLAN network identifier given out (S9.07).
pub const VNI_MIN: u32 = 4096;

/// Last VXLAN network identifier there is: they have 24 bits.
pub const VNI_MAX: u32 = (1 << 24) - 1;

/// Ports given out to services that name none (S9.12).
pub const PORTS_DYNAMIC: std::ops::RangeInclusive<u16> = 30_000..=32_767;

/// A network of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Network {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: NetworkId,
    /// Version and times.
    #[serde(flatten)]
    pub meta: Meta,
    /// What the user asked.
    pub spec: NetworkSpec,
    /// What the allocator gave it; empty until then, and for node-local drivers.
    pub subnets: Vec<Subnet>,
}

/// What the user asks of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkSpec {
    /// Unique name.
    pub name: String,
    /// Labels of the network.
    pub labels: Labels,
    /// How it is made.
    pub driver: NetworkDriver,
    /// Options of the driver (`parent`, `macvlan_mode`, `ipvlan_mode`, `mtu`…).
    pub options: Labels,
    /// Tasks get IPv4 addresses.
    #[serde(rename = "EnableIPv4")]
    pub ipv4: bool,
    /// Tasks get IPv6 addresses.
    #[serde(rename = "EnableIPv6")]
    pub ipv6: bool,
    /// No way out of it.
    pub internal: bool,
    /// Containers outside of services may join it.
    pub attachable: bool,
    /// It carries published ports; there is one such network at most (S9.08).
    pub ingress: bool,
    /// What passes between nodes is encrypted.
    pub encrypted: bool,
    /// Address pools the user chose; empty lets the allocator choose.
    pub pools: Vec<AddressPool>,
    /// Takes driver options and pools from this network, made on each node.
    pub config_from: Option<String>,
    /// Only a source for `config_from`, never made itself.
    pub config_only: bool,
}

impl Default for NetworkSpec {
    fn default() -> Self {
        Self {
            name: String::new(),
            labels: Labels::new(),
            driver: NetworkDriver::Overlay,
            options: Labels::new(),
            ipv4: true,
            ipv6: false,
            internal: false,
            attachable: false,
            ingress: false,
            encrypted: false,
            pools: vec![],
            config_from: None,
            config_only: false,
        }
    }
}

/// How a network is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkDriver {
    /// VXLAN between the nodes.
    #[default]
    Overlay,
    /// A bridge on each node, translated outwards.
    Bridge,
    /// An own MAC address on a device of the node.
    Macvlan,
    /// A device of the node's own MAC address.
    Ipvlan,
    /// The node's own network namespace.
    Host,
    /// Nothing but loopback.
    None,
}

impl NetworkDriver {
    /// Every driver, in the order messages list them.
    pub const ALL: [Self; 6] = [
        Self::Overlay,
        Self::Bridge,
        Self::Macvlan,
        Self::Ipvlan,
        Self::Host,
        Self::None,
    ];

    /// True when the network spans nodes and managers give out its addresses.
    #[must_use]
    pub fn is_global(self) -> bool {
        self == Self::Overlay
    }
}

impl std::fmt::Display for NetworkDriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Overlay => "overlay",
            Self::Bridge => "bridge",
            Self::Macvlan => "macvlan",
            Self::Ipvlan => "ipvlan",
            Self::Host => "host",
            Self::None => "none",
        })
    }
}

/// A range of addresses the user chose for a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AddressPool {
    /// The subnet.
    pub subnet: IpNet,
    /// Addresses are given only out of this part of it.
    pub range: Option<IpNet>,
    /// Address of the way out; none takes the first.
    pub gateway: Option<IpAddr>,
    /// Addresses never given, by name.
    pub aux: std::collections::BTreeMap<String, IpAddr>,
}

/// A subnet as the allocator fixed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Subnet {
    /// Its range.
    pub subnet: IpNet,
    /// Its gateway, on every node.
    pub gateway: IpAddr,
    /// Its VXLAN network identifier. An IPv4 and an IPv6 subnet may share one.
    #[serde(rename = "VNI")]
    pub vni: u32,
}

/// One network a task wants to be on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkAttachmentSpec {
    /// Id of the network; by name only `host`, `none`, `bridge`. API calls may give any name.
    pub target: String,
    /// More names its tasks are found by on this network.
    pub aliases: Vec<String>,
    /// Options of the driver for each task.
    pub driver_options: Labels,
}

/// A task's place on one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkAttachment {
    /// The network.
    #[serde(rename = "NetworkID")]
    pub network: NetworkId,
    /// Addresses with the length of their subnet; at most one of each family.
    pub addresses: Vec<IpNet>,
    /// More names it is found by there.
    pub aliases: Vec<String>,
}

/// How clients reach a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EndpointSpec {
    /// By one address or by all.
    pub mode: EndpointMode,
    /// Which tasks a client's connections go to.
    pub affinity: Affinity,
    /// Published ports.
    pub ports: Vec<PublishedPort>,
}

/// By what its name resolves to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointMode {
    /// One virtual address per network, balanced.
    #[default]
    Vip,
    /// The addresses of the tasks.
    Dnsrr,
}

/// Which tasks a client's connections go to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Affinity {
    /// Any.
    #[default]
    None,
    /// The same one for the same source address, while it serves.
    SourceIp,
}

/// A port clients outside reach a service at.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PublishedPort {
    /// Name, for people.
    pub name: String,
    /// Protocol.
    pub protocol: Protocol,
    /// Port in the container.
    pub target_port: u16,
    /// Port outside; 0 lets the allocator (ingress) or the node (host) choose.
    pub published_port: u16,
    /// Where it is reached.
    #[serde(rename = "PublishMode")]
    pub mode: PublishMode,
    /// Only at this address of a node; none means all.
    #[serde(rename = "HostIP")]
    pub host_ip: Option<IpAddr>,
    /// Only through this interface of a node; empty means all.
    pub interface: String,
    /// Tasks of the node that was asked come first.
    pub prefer_local: bool,
}

/// Transport protocols that can be published.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// Where a published port is reached.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum PublishMode {
    /// On every node, through the routing mesh.
    #[default]
    Ingress,
    /// On the nodes that run a task.
    Host,
}

/// What the allocator gave a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Endpoint {
    /// The spec it was given for.
    pub spec: EndpointSpec,
    /// The spec's ports, with the published ones filled in.
    pub ports: Vec<PublishedPort>,
    /// Its virtual addresses, at most one of each family per network.
    #[serde(rename = "VirtualIPs")]
    pub virtual_ips: Vec<VirtualIp>,
}

/// A service's address on one network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct VirtualIp {
    /// The network.
    #[serde(rename = "NetworkID")]
    pub network: NetworkId,
    /// The address with the length of its subnet.
    #[serde(rename = "Addr")]
    pub address: IpNet,
}

/// A locally administered MAC address of six bytes.
pub type Mac = [u8; 6];

/// The MAC address of the interface that holds `address` first on a network: `02:42` and the
/// IPv4 address, as Docker's; for IPv6 alone `02:46` and the last four bytes.
#[must_use]
pub fn endpoint_mac(address: IpAddr) -> Mac {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [0x02, 0x42, a, b, c, d]
        }
        IpAddr::V6(address) => {
            let [.., a, b, c, d] = address.octets();
            [0x02, 0x46, a, b, c, d]
        }
    }
}

/// The MAC address of a node's bridge on the ingress network: `02:4e` and the node's index.
#[must_use]
pub fn node_mac(index: u32) -> Mac {
    let [a, b, c, d] = index.to_be_bytes();
    [0x02, 0x4e, a, b, c, d]
}

/// The wildcard address of the same family.
#[must_use]
pub fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::{endpoint_mac, node_mac};

    #[test]
    fn macs_never_clash_between_endpoints_and_nodes() {
        assert_eq!(
            endpoint_mac("10.0.0.5".parse().unwrap()),
            [2, 0x42, 10, 0, 0, 5]
        );
        assert_eq!(
            endpoint_mac("fd00::1:2".parse().unwrap()),
            [2, 0x46, 0, 1, 0, 2]
        );
        assert_eq!(node_mac(258), [2, 0x4e, 0, 0, 1, 2]);
    }
}
