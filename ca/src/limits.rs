//! How much of a manager strangers and single peers may take up: rates, queues, connections.

mod bucket;
mod rates;

pub(crate) use bucket::Bucket;
pub(crate) use rates::Rates;

use std::net::{IpAddr, Ipv6Addr};

/// Bits of an IPv6 address that one subscriber commonly has to himself.
const IPV6_PREFIX: u32 = 64;

/// What one machine or one customer of a provider has: an IPv4 address, or an IPv6 network.
pub(crate) fn subscriber(addr: IpAddr) -> IpAddr {
    match addr.to_canonical() {
        IpAddr::V4(addr) => addr.into(),
        IpAddr::V6(addr) => {
            let mask = u128::MAX << (Ipv6Addr::BITS - IPV6_PREFIX);
            Ipv6Addr::from_bits(addr.to_bits() & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_is_one_subscriber() {
        for (addr, expected) in [
            ("10.0.0.1", "10.0.0.1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ] {
            let expected: IpAddr = expected.parse().unwrap();
            assert_eq!(subscriber(addr.parse().unwrap()), expected);
        }
    }
}
