//! Which addresses of a subnet may be given out, and in which order.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use types::Network;
use types::network::Subnet;

/// The addresses of one subnet that may be given to tasks and services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressRange {
    is_v4: bool,
    /// First and last one, as numbers; empty when the first is above the last.
    first: u128,
    last: u128,
    /// Addresses in between that belong to the gateway or to somebody the user named.
    reserved: BTreeSet<u128>,
}

impl AddressRange {
    /// The range of a subnet of a network: the part the user chose, without the subnet's first
    /// address, its broadcast address, its gateway and the user's auxiliary addresses.
    #[must_use]
    pub fn of(network: &Network, subnet: &Subnet) -> Self {
        let pool = network
            .spec
            .pools
            .iter()
            .find(|pool| pool.subnet == subnet.subnet);
        let mut range = Self::within(subnet.subnet, pool.and_then(|pool| pool.range));
        let aux = pool.into_iter().flat_map(|pool| pool.aux.values().copied());
        for address in aux.chain([subnet.gateway]) {
            if range.contains(address) {
                range.reserved.insert(number(address));
            }
        }
        range
    }

    /// The host addresses of `part`, or of the whole subnet.
    #[must_use]
    pub fn within(subnet: IpNet, part: Option<IpNet>) -> Self {
        let (low, high) = hosts(subnet);
        let part = part.unwrap_or(subnet);
        Self {
            is_v4: matches!(subnet, IpNet::V4(_)),
            first: low.max(number(part.network())),
            last: high.min(number(part.broadcast())),
            reserved: BTreeSet::new(),
        }
    }

    /// Whether an address may be given out.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.is_v4
            && (self.first..=self.last).contains(&number(address))
            && !self.reserved.contains(&number(address))
    }

    /// How many addresses there are.
    #[must_use]
    pub fn count(&self) -> u128 {
        if self.first > self.last {
            return 0;
        }
        (self.last - self.first).saturating_add(1) - self.reserved.len() as u128
    }

    /// The first one.
    #[must_use]
    pub fn first(&self) -> Option<IpAddr> {
        self.after(None).next()
    }

    /// Every address once, from the one after `last`, wrapping round; from the first without one.
    pub fn after(&self, last: Option<IpAddr>) -> impl Iterator<Item = IpAddr> {
        let start = last
            .map(|last| number(last).saturating_add(1))
            .filter(|start| (self.first..=self.last).contains(start))
            .unwrap_or(self.first);
        (start..=self.last)
            .chain(self.first..start.min(self.last.saturating_add(1)))
            .filter(|number| !self.reserved.contains(number))
            .map(|number| self.address(number))
    }

    fn address(&self, number: u128) -> IpAddr {
        if self.is_v4 {
            let bits = u32::try_from(number).expect("numbers of IPv4 ranges have 32 bits");
            Ipv4Addr::from(bits).into()
        } else {
            Ipv6Addr::from(number).into()
        }
    }
}

/// First and last address of a subnet a host may have. The first of all is the network itself
/// (IPv4) or any router (IPv6), the last one of IPv4 is everybody.
fn hosts(subnet: IpNet) -> (u128, u128) {
    let (low, high) = (number(subnet.network()), number(subnet.broadcast()));
    match subnet {
        // Point-to-point links (RFC 3021) and single addresses have neither.
        IpNet::V4(net) if net.prefix_len() >= 31 => (low, high),
        IpNet::V4(_) => (low + 1, high - 1),
        IpNet::V6(net) if net.prefix_len() >= 127 => (low, high),
        IpNet::V6(_) => (low + 1, high),
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(range: &AddressRange, last: Option<&str>) -> Vec<String> {
        let last = last.map(|last| last.parse().unwrap());
        range.after(last).map(|a| a.to_string()).collect()
    }

    fn network(subnet: &str, range: Option<&str>, gateway: &str, aux: &[&str]) -> AddressRange {
        let subnet: IpNet = subnet.parse().unwrap();
        let pool = types::network::AddressPool {
            subnet,
            range: range.map(|range| range.parse().unwrap()),
            gateway: None,
            aux: aux
                .iter()
                .map(|a| ((*a).to_owned(), a.parse().unwrap()))
                .collect(),
        };
        let network = Network {
            id: types::NetworkId::from_number(1),
            meta: types::Meta::default(),
            spec: types::NetworkSpec {
                pools: vec![pool],
                ..Default::default()
            },
            subnets: vec![],
        };
        let subnet = Subnet {
            subnet,
            gateway: gateway.parse().unwrap(),
            vni: 4096,
        };
        AddressRange::of(&network, &subnet)
    }

    #[test]
    fn addresses_follow_the_last_one_and_wrap_round() {
        let range = network("10.0.0.0/29", None, "10.0.0.1", &["10.0.0.4"]);
        assert_eq!(range.count(), 4);
        let all = ["10.0.0.2", "10.0.0.3", "10.0.0.5", "10.0.0.6"];
        assert_eq!(texts(&range, None), all);
        assert_eq!(
            texts(&range, Some("10.0.0.3")),
            ["10.0.0.5", "10.0.0.6", "10.0.0.2", "10.0.0.3"]
        );
        assert_eq!(texts(&range, Some("10.0.0.6")), all, "wraps at the end");
        assert_eq!(
            texts(&range, Some("192.168.0.1")),
            all,
            "not of this subnet"
        );
        assert!(!range.contains("10.0.0.7".parse().unwrap()), "broadcast");
        assert!(!range.contains("10.0.0.1".parse().unwrap()), "gateway");
    }

    #[test]
    fn a_part_of_a_subnet_keeps_to_itself() {
        let range = network("10.1.0.0/16", Some("10.1.2.0/30"), "10.1.0.1", &[]);
        assert_eq!(
            texts(&range, None),
            ["10.1.2.0", "10.1.2.1", "10.1.2.2", "10.1.2.3"]
        );
        let last = network("10.1.0.0/24", Some("10.1.0.252/30"), "10.1.0.1", &[]);
        assert_eq!(
            texts(&last, None),
            ["10.1.0.252", "10.1.0.253", "10.1.0.254"]
        );
    }

    #[test]
    fn ipv6_has_no_broadcast_address() {
        let range = network("fd00::/125", None, "fd00::1", &[]);
        assert_eq!(range.count(), 6);
        assert_eq!(texts(&range, None).first().unwrap(), "fd00::2");
        assert_eq!(texts(&range, None).last().unwrap(), "fd00::7");
        let large = network("fd00::/64", None, "fd00::1", &[]);
        assert_eq!(large.count(), (1 << 64) - 2);
        assert_eq!(large.after(None).next().unwrap().to_string(), "fd00::2");
    }

    #[test]
    fn the_smallest_subnets() {
        assert_eq!(network("10.0.0.0/32", None, "10.0.0.1", &[]).count(), 1);
        assert_eq!(network("10.0.0.0/31", None, "10.0.0.0", &[]).count(), 1);
        assert_eq!(network("10.0.0.0/30", None, "10.0.0.1", &[]).count(), 1);
        let none = network("10.0.0.0/30", None, "10.0.0.1", &["10.0.0.2"]);
        assert_eq!((none.count(), none.first()), (0, None));
    }
}
