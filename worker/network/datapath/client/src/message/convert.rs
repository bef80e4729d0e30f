//! Conversions between messages and what they mean.

use super::{Gossip, Network, Peer, Peers, Sandbox, Set, Status, Task};
use crate::{
    Forwarding, GossipKey, GossipView, Liveness, NetworkRecords, NetworkStatus, Origin, PeerStates,
    RecordSet, SandboxId, SandboxView, TaskRecord,
};
use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;
use types::NodeId;
use zeroize::Zeroizing;

/// A field of a message that does not mean anything.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {value:?}: {reason}")]
pub struct Malformed {
    field: &'static str,
    value: String,
    reason: String,
}

impl Malformed {
    /// About bytes that nobody should see.
    pub(super) fn secret(field: &'static str, length: usize, right: usize) -> Self {
        Self {
            field,
            value: "(secret)".to_owned(),
            reason: format!("it has {right} bytes, not {length}"),
        }
    }
}

/// Bytes of which there have to be so many.
pub(super) fn bytes<const N: usize>(
    field: &'static str,
    found: &[u8],
) -> Result<[u8; N], Malformed> {
    found.try_into().map_err(|_| Malformed {
        field,
        value: format!("{found:?}"),
        reason: format!("it has {N} bytes"),
    })
}

fn parse<T: FromStr<Err: Display>>(field: &'static str, text: &str) -> Result<T, Malformed> {
    text.parse().map_err(|error: T::Err| Malformed {
        field,
        value: text.to_owned(),
        reason: error.to_string(),
    })
}

fn parse_all<T: FromStr<Err: Display>>(
    field: &'static str,
    texts: &[String],
) -> Result<Vec<T>, Malformed> {
    texts.iter().map(|text| parse(field, text)).collect()
}

pub(super) fn port(field: &'static str, port: u32) -> Result<u16, Malformed> {
    u16::try_from(port).map_err(|error| Malformed {
        field,
        value: port.to_string(),
        reason: error.to_string(),
    })
}

pub(super) fn address_bytes(address: &IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

pub(super) fn address(field: &'static str, bytes: &[u8]) -> Result<IpAddr, Malformed> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Ok(bytes.into());
    }
    match <[u8; 16]>::try_from(bytes) {
        Ok(bytes) => Ok(bytes.into()),
        Err(_) => Err(Malformed {
            field,
            value: format!("{bytes:?}"),
            reason: String::from("an address has 4 or 16 bytes"),
        }),
    }
}

pub(super) fn addresses(field: &'static str, all: &[Vec<u8>]) -> Result<Vec<IpAddr>, Malformed> {
    all.iter().map(|bytes| address(field, bytes)).collect()
}

impl Sandbox {
    /// The message about a sandbox.
    #[must_use]
    pub fn new(id: &SandboxId, view: &SandboxView) -> Self {
        let SandboxView {
            networks,
            forwarding,
            dns_port,
        } = view;
        Self {
            id: id.to_string(),
            networks: networks.iter().map(ToString::to_string).collect(),
            servers: forwarding.servers.iter().map(ToString::to_string).collect(),
            asks_from_sandbox: forwarding.origin == Origin::Sandbox,
            keeps_single_labels: forwarding.keeps_single_labels,
            dns_port: u32::from(*dns_port),
        }
    }

    /// What the message means.
    ///
    /// # Errors
    /// Naming the field that means nothing.
    pub fn parse(&self) -> Result<(SandboxId, SandboxView), Malformed> {
        let view = SandboxView {
            networks: parse_all("network", &self.networks)?,
            forwarding: Forwarding {
                servers: parse_all("server", &self.servers)?,
                origin: if self.asks_from_sandbox {
                    Origin::Sandbox
                } else {
                    Origin::Node
                },
                keeps_single_labels: self.keeps_single_labels,
            },
            dns_port: port("DNS port", self.dns_port)?,
        };
        Ok((parse("sandbox", &self.id)?, view))
    }
}

impl From<&RecordSet> for Set {
    fn from(set: &RecordSet) -> Self {
        Self {
            owner: set.owner.clone(),
            version: set.version,
            names: set.names.clone(),
            virtual_ips: set.virtual_ips.iter().map(address_bytes).collect(),
            tasks: set.tasks.iter().map(Task::from).collect(),
            fingerprint: 0,
        }
    }
}

impl From<&TaskRecord> for Task {
    fn from(task: &TaskRecord) -> Self {
        Self {
            names: task.names.clone(),
            addresses: task.addresses.iter().map(address_bytes).collect(),
            node: task.node.map(|node| node.to_string()).unwrap_or_default(),
            is_serving: task.is_serving,
        }
    }
}

impl TryFrom<Set> for RecordSet {
    type Error = Malformed;

    fn try_from(set: Set) -> Result<Self, Malformed> {
        Ok(Self {
            virtual_ips: addresses("virtual address", &set.virtual_ips)?,
            owner: set.owner,
            version: set.version,
            names: set.names,
            tasks: set
                .tasks
                .into_iter()
                .map(TaskRecord::try_from)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl TryFrom<Task> for TaskRecord {
    type Error = Malformed;

    fn try_from(task: Task) -> Result<Self, Malformed> {
        let node = match task.node.as_str() {
            "" => None,
            text => Some(parse("node", text)?),
        };
        Ok(Self {
            addresses: addresses("task address", &task.addresses)?,
            names: task.names,
            node,
            is_serving: task.is_serving,
        })
    }
}

impl Network {
    /// What the message means, as far as it adds.
    ///
    /// # Errors
    /// Naming the field that means nothing.
    pub fn parse(self) -> Result<NetworkRecords, Malformed> {
        Ok(NetworkRecords {
            network: parse("network", &self.id)?,
            name: self.name,
            sets: self
                .sets
                .into_iter()
                .map(RecordSet::try_from)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl From<&GossipView> for Gossip {
    fn from(view: &GossipView) -> Self {
        Self {
            node: view.node.to_string(),
            listen: view.listen.to_string(),
            advertise: view.advertise.to_string(),
            peers: view
                .peers
                .iter()
                .map(|peer| Peer {
                    node: peer.node.to_string(),
                    address: peer.address.to_string(),
                    liveness: 0,
                })
                .collect(),
            keys: view.keys.iter().map(|key| key.0.to_vec()).collect(),
        }
    }
}

impl TryFrom<&Gossip> for GossipView {
    type Error = Malformed;

    fn try_from(message: &Gossip) -> Result<Self, Malformed> {
        let peer = |peer: &Peer| -> Result<crate::Peer, Malformed> {
            Ok(crate::Peer {
                node: parse("peer", &peer.node)?,
                address: parse("peer's address", &peer.address)?,
            })
        };
        let key = |key: &Vec<u8>| GossipKey(Zeroizing::new(key.clone()));
        Ok(Self {
            node: parse("node", &message.node)?,
            listen: parse("address to listen at", &message.listen)?,
            advertise: parse("address to advertise", &message.advertise)?,
            peers: message.peers.iter().map(peer).collect::<Result<_, _>>()?,
            keys: message.keys.iter().map(key).collect(),
        })
    }
}

impl From<&PeerStates> for Peers {
    fn from(states: &PeerStates) -> Self {
        let peer = |(node, liveness): (&NodeId, &Liveness)| Peer {
            node: node.to_string(),
            address: String::new(),
            liveness: match liveness {
                Liveness::Unknown => 0,
                Liveness::Up => 1,
                Liveness::Down => 2,
            },
        };
        Self {
            peers: states.iter().map(peer).collect(),
        }
    }
}

impl Peers {
    /// What the message means.
    ///
    /// # Errors
    /// Naming the field that means nothing.
    pub fn parse(&self) -> Result<PeerStates, Malformed> {
        let peer = |peer: &Peer| {
            let liveness = match peer.liveness {
                1 => Liveness::Up,
                2 => Liveness::Down,
                // A later process may know more; nothing is concluded from it.
                0 | 3.. => Liveness::Unknown,
            };
            Ok((parse("peer", &peer.node)?, liveness))
        };
        self.peers.iter().map(peer).collect()
    }
}

impl Status {
    /// What the message means.
    ///
    /// # Errors
    /// Naming the field that means nothing.
    pub fn parse(&self) -> Result<crate::Status, Malformed> {
        let network = |network: &Network| {
            Ok(NetworkStatus {
                network: parse("network", &network.id)?,
                sets: network
                    .sets
                    .iter()
                    .map(|set| (set.owner.clone(), set.version))
                    .collect(),
                fingerprints: network
                    .sets
                    .iter()
                    .map(|set| (set.owner.clone(), set.fingerprint))
                    .collect(),
            })
        };
        Ok(crate::Status {
            sandboxes: parse_all("sandbox", &self.sandboxes)?,
            networks: self
                .networks
                .iter()
                .map(network)
                .collect::<Result<_, _>>()?,
            peers: self
                .peers
                .as_ref()
                .map(Peers::parse)
                .transpose()?
                .unwrap_or_default(),
            answered: self.answered,
            forwarded: self.forwarded,
            failed: self.failed,
            tunnel: self.tunnel.as_ref().map(crate::TunnelStatus::from),
        })
    }
}
