//! Addresses the node itself gives: on its way out, and on networks that end at the node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use types::network::{AddressPool, Network};
use types::{NetworkId, NodeId};

use crate::Error;

/// A subnet of the node's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LocalSubnet {
    pub(crate) subnet: IpNet,
    /// Addresses are given only out of this part of it.
    pub(crate) range: IpNet,
    pub(crate) gateway: IpAddr,
}

/// The subnets a node uses for its own networks. Kept on disk: containers keep their addresses
/// while the daemon restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LocalSubnets {
    outbound: Vec<LocalSubnet>,
    networks: BTreeMap<NetworkId, Vec<LocalSubnet>>,
    /// The address given last in each subnet: the next one given is another.
    #[serde(skip)]
    last: BTreeMap<IpNet, IpAddr>,
}

/// What a subnet is chosen for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum For<'a> {
    Outbound,
    Network(&'a Network),
}

impl LocalSubnets {
    /// The subnets of the way out, as far as chosen.
    pub(crate) fn outbound(&self) -> &[LocalSubnet] {
        &self.outbound
    }

    /// The subnets of a network, as far as chosen.
    pub(crate) fn of(&self, network: NetworkId) -> &[LocalSubnet] {
        self.networks.get(&network).map_or(&[], Vec::as_slice)
    }

    /// Chooses subnets where there are none yet, clear of those in `taken`. Returns whether any was
    /// chosen.
    pub(crate) fn choose(
        &mut self,
        purpose: For<'_>,
        node: NodeId,
        taken: &[IpNet],
    ) -> Result<bool, Error> {
        let (has, asked): (_, &[AddressPool]) = match purpose {
            For::Outbound => (!self.outbound.is_empty(), &[]),
            For::Network(network) => (
                self.networks.contains_key(&network.id),
                network.spec.pools.as_slice(),
            ),
        };
        if has {
            return Ok(false);
        }
        let chosen = if asked.is_empty() {
            let mut all: Vec<IpNet> = taken.to_vec();
            let own = self.networks.values().flatten().chain(&self.outbound);
            all.extend(own.map(|subnet| subnet.subnet));
            let ipv4 = pools().find(|pool| !all.iter().any(|one| overlap(one, pool)));
            let mut chosen = vec![subnet_of(ipv4.ok_or(Error::NoSubnet)?)];
            let has_ipv6 = match purpose {
                For::Outbound => true,
                For::Network(network) => network.spec.ipv6,
            };
            if has_ipv6 {
                let ipv6 = ipv6_pools(node).find(|pool| !all.iter().any(|one| overlap(one, pool)));
                chosen.push(subnet_of(ipv6.ok_or(Error::NoSubnet)?));
            }
            chosen
        } else {
            asked.iter().map(asked_subnet).collect()
        };
        match purpose {
            For::Outbound => self.outbound = chosen,
            For::Network(network) => {
                self.networks.insert(network.id, chosen);
            }
        }
        Ok(true)
    }

    /// Forgets the subnets of networks that are not in `known`. Returns whether there were any.
    pub(crate) fn retain(&mut self, known: impl Fn(NetworkId) -> bool) -> bool {
        let before = self.networks.len();
        self.networks.retain(|network, _| known(*network));
        before != self.networks.len()
    }

    /// One address out of each of the first subnets of either family.
    pub(crate) fn give(
        &mut self,
        subnets: &[LocalSubnet],
        with_ipv6: bool,
        aux: &BTreeSet<IpAddr>,
        taken: &BTreeSet<IpAddr>,
    ) -> Result<Vec<(LocalSubnet, IpNet)>, Error> {
        let mut given = Vec::new();
        for is_ipv4 in [true, false] {
            let of_family = |one: &&LocalSubnet| one.gateway.is_ipv4() == is_ipv4;
            let mut candidates = subnets.iter().filter(of_family).peekable();
            if candidates.peek().is_none() || (!is_ipv4 && !with_ipv6) {
                continue;
            }
            let found = candidates.find_map(|subnet| {
                let last = self.last.get(&subnet.subnet).copied();
                let is_free = |address: &IpAddr| {
                    !taken.contains(address) && !aux.contains(address) && *address != subnet.gateway
                };
                next(subnet.range, subnet.subnet, last, is_free).map(|address| (subnet, address))
            });
            let exhausted = || Error::Exhausted(subnets[0].subnet);
            let (subnet, address) = found.ok_or_else(exhausted)?;
            self.last.insert(subnet.subnet, address);
            let length = subnet.subnet.prefix_len();
            let address = IpNet::new(address, length).expect("the length is that of its subnet");
            given.push((*subnet, address));
        }
        Ok(given)
    }
}

/// Docker's own pools for networks of a node: 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/16
/// in pieces of /20.
fn pools() -> impl Iterator<Item = IpNet> {
    let large = (17..=31).map(|byte| net4(Ipv4Addr::new(172, byte, 0, 0), 16));
    let small = (0..=15).map(|piece| net4(Ipv4Addr::new(192, 168, piece * 16, 0), 20));
    large.chain(small)
}

/// Unique local subnets (RFC 4193) that follow from the node's id, so that no two nodes share them.
fn ipv6_pools(node: NodeId) -> impl Iterator<Item = IpNet> {
    let text = node.to_string();
    // FNV-1a: any spread over 40 bits will do.
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let global = u128::from(hash & 0xff_ffff_ffff) << 80;
    (0..=u16::MAX).map(move |subnet| {
        let bits = (0xfd_u128 << 120) | global | (u128::from(subnet) << 64);
        let net = Ipv6Net::new(Ipv6Addr::from_bits(bits), 64);
        IpNet::V6(net.expect("64 is a length"))
    })
}

fn net4(address: Ipv4Addr, length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new(address, length).expect("the lengths are constants below 33"))
}

fn subnet_of(subnet: IpNet) -> LocalSubnet {
    LocalSubnet {
        subnet,
        range: subnet,
        gateway: first_host(subnet),
    }
}

fn asked_subnet(pool: &AddressPool) -> LocalSubnet {
    let subnet = pool.subnet.trunc();
    LocalSubnet {
        subnet,
        range: pool.range.unwrap_or(subnet),
        gateway: pool.gateway.unwrap_or_else(|| first_host(subnet)),
    }
}

fn first_host(subnet: IpNet) -> IpAddr {
    match subnet {
        IpNet::V4(net) => Ipv4Addr::from_bits(net.network().to_bits().saturating_add(1)).into(),
        IpNet::V6(net) => Ipv6Addr::from_bits(net.network().to_bits().saturating_add(1)).into(),
    }
}

/// Whether two networks share an address.
pub(crate) fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

/// The first free address of `range` after `last`, round to the beginning. Never the first of the
/// subnet nor, for IPv4, its last, which stand for the network and for everyone on it.
fn next(
    range: IpNet,
    subnet: IpNet,
    last: Option<IpAddr>,
    is_free: impl Fn(&IpAddr) -> bool,
) -> Option<IpAddr> {
    /// Enough to pass over every container of a node.
    const TRIES_MAX: u128 = 1 << 17;
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    };
    let (low, high) = (bits(range.network()), bits(range.broadcast()));
    let start = last
        .map(bits)
        .filter(|last| (low..high).contains(last))
        .map_or(low, |at| at + 1);
    let (network, broadcast) = (subnet.network(), subnet.broadcast());
    let to_address = |bits: u128| match range {
        IpNet::V4(_) => Ipv4Addr::from_bits(bits as u32).into(),
        IpNet::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(bits)),
    };
    let after = (start..=high).chain(low..start).take(TRIES_MAX as usize);
    after.map(to_address).find(|address| {
        let is_special = *address == network || (address.is_ipv4() && *address == broadcast);
        !is_special && is_free(address)
    })
}

#[cfg(test)]
mod tests;
