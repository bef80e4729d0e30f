//! How large packets may be on each network.

use std::net::IpAddr;

/// MTU of a device nobody knows anything about.
pub(crate) const MTU_DEFAULT: u32 = 1500;

/// Smallest MTU that IPv6 allows (RFC 8200, 5).
const MTU_MIN: u32 = 1280;

/// Bytes VXLAN adds over IPv4: outer IP 20, UDP 8, VXLAN 8, inner Ethernet 14.
const VXLAN_IPV4_BYTES: u32 = 50;

/// The same over IPv6, whose header has 40 bytes.
const VXLAN_IPV6_BYTES: u32 = 70;

/// Bytes WireGuard adds over IPv4: outer IP 20, UDP 8, header 16, tag 16.
const WIREGUARD_IPV4_BYTES: u32 = 60;

/// The same over IPv6.
const WIREGUARD_IPV6_BYTES: u32 = 80;

/// What packets between nodes pass through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Underlay {
    /// Smallest MTU on the way to any peer.
    pub(crate) mtu: u32,
    /// Whether some peer is reached over IPv6.
    pub(crate) has_ipv6: bool,
}

impl Default for Underlay {
    fn default() -> Self {
        Self {
            mtu: MTU_DEFAULT,
            has_ipv6: false,
        }
    }
}

impl Underlay {
    /// MTU of an overlay, `asked` by its option if that is smaller. An encrypted network sends its
    /// VXLAN packets, over IPv4, through WireGuard.
    pub(crate) fn overlay_mtu(self, is_encrypted: bool, asked: Option<u32>) -> u32 {
        let added = match (is_encrypted, self.has_ipv6) {
            (false, false) => VXLAN_IPV4_BYTES,
            (false, true) => VXLAN_IPV6_BYTES,
            (true, false) => WIREGUARD_IPV4_BYTES + VXLAN_IPV4_BYTES,
            (true, true) => WIREGUARD_IPV6_BYTES + VXLAN_IPV4_BYTES,
        };
        let largest = self.mtu.saturating_sub(added).max(MTU_MIN.min(self.mtu));
        asked.map_or(largest, |asked| asked.min(largest))
    }
}

/// How this node reaches another one: from which of its addresses, to which of the other's. IPv4
/// first, as it adds less to each packet.
pub(crate) fn path(own: &[IpAddr], of_peer: &[IpAddr]) -> Option<(IpAddr, IpAddr)> {
    [true, false].into_iter().find_map(|is_ipv4| {
        let pick = |all: &[IpAddr]| all.iter().find(|one| one.is_ipv4() == is_ipv4).copied();
        Some((pick(own)?, pick(of_peer)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_taken_off() {
        for (mtu, has_ipv6, is_encrypted, asked, expected) in [
            (1500, false, false, None, 1450),
            (1500, true, false, None, 1430),
            (1500, false, true, None, 1390),
            (1500, true, true, None, 1370),
            (9000, false, false, None, 8950),
            (1500, false, false, Some(1400), 1400),
            (1500, false, false, Some(9000), 1450),
            // Never below what IPv6 needs, as far as the device goes.
            (1300, true, true, None, 1280),
            (1000, false, false, None, 1000),
        ] {
            let underlay = Underlay { mtu, has_ipv6 };
            let found = underlay.overlay_mtu(is_encrypted, asked);
            assert_eq!(found, expected, "{underlay:?} {is_encrypted} {asked:?}");
        }
    }

    #[test]
    fn paths_keep_to_one_family() {
        let list = |text: &str| -> Vec<IpAddr> {
            text.split_ascii_whitespace()
                .map(|one| one.parse().unwrap())
                .collect()
        };
        for (own, peer, expected) in [
            ("10.0.0.1", "10.0.0.2", Some("10.0.0.1 10.0.0.2")),
            (
                "fd00::1 10.0.0.1",
                "fd00::2 10.0.0.2",
                Some("10.0.0.1 10.0.0.2"),
            ),
            ("fd00::1 10.0.0.1", "fd00::2", Some("fd00::1 fd00::2")),
            ("10.0.0.1", "fd00::2", None),
            ("", "10.0.0.2", None),
        ] {
            let found = path(&list(own), &list(peer));
            let expected = expected.map(|text| (list(text)[0], list(text)[1]));
            assert_eq!(found, expected, "{own} to {peer}");
        }
    }
}
