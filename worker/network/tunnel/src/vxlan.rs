//! The outer header of a frame inside a tunnel: IPv4, UDP and VXLAN (RFC 7348).

use std::net::Ipv4Addr;

use crate::frame::{fold, sum};

/// IPv4 without options, UDP, VXLAN.
pub(crate) const HEADER_LEN: usize = 20 + 8 + 8;

/// UDP destination port of VXLAN inside a tunnel: always IANA's, whatever the clear one is.
const PORT: u16 = 4789;

/// First byte of a VXLAN header with a network identifier.
const FLAG_VNI: u8 = 0x08;

const PROTOCOL_UDP: u8 = 17;

/// Writes the header in front of a frame: `packet` begins with room for it.
pub(crate) fn write(packet: &mut [u8], from: Ipv4Addr, to: Ipv4Addr, vni: u32, flow: u16) {
    let total = u16::try_from(packet.len()).expect("a segment is shorter than its MTU of 16 bits");
    let (ip, rest) = packet.split_at_mut(20);
    ip.copy_from_slice(&[
        0x45,
        0,
        0,
        0,
        0,
        0,
        0x40,
        0,
        64,
        PROTOCOL_UDP,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    ]);
    ip[2..4].copy_from_slice(&total.to_be_bytes());
    ip[12..16].copy_from_slice(&from.octets());
    ip[16..20].copy_from_slice(&to.octets());
    let checksum = fold(sum(0, ip));
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    // The source port spreads flows (RFC 7348 section 5); the tunnel's tag protects the content, so
    // the checksum may be zero.
    rest[0..2].copy_from_slice(&(flow | 0xc000).to_be_bytes());
    rest[2..4].copy_from_slice(&PORT.to_be_bytes());
    rest[4..6].copy_from_slice(&(total - 20).to_be_bytes());
    rest[6..8].copy_from_slice(&[0, 0]);
    rest[8..12].copy_from_slice(&[FLAG_VNI, 0, 0, 0]);
    rest[12..16].copy_from_slice(&(vni << 8).to_be_bytes());
}

/// What a packet out of a tunnel carries.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Carried {
    pub(crate) from: Ipv4Addr,
    pub(crate) to: Ipv4Addr,
    pub(crate) vni: u32,
    /// Where the frame begins.
    pub(crate) offset: usize,
}

/// Reads the header; none when the packet is not VXLAN over IPv4.
pub(crate) fn read(packet: &[u8]) -> Option<Carried> {
    let header_len = usize::from(packet.first()? & 15) * 4;
    let ip = packet.get(..header_len)?;
    if ip.len() < 20 || ip[0] >> 4 != 4 || ip[9] != PROTOCOL_UDP {
        return None;
    }
    // Fragments are not ours: the path is measured and nothing larger is sent.
    if ip[6] & 0x3f != 0 || ip[7] != 0 {
        return None;
    }
    let udp = packet.get(header_len..header_len + 16)?;
    if udp[2..4] != PORT.to_be_bytes() || udp[8] & FLAG_VNI == 0 {
        return None;
    }
    let address = |at: usize| Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]);
    Some(Carried {
        from: address(12),
        to: address(16),
        vni: u32::from_be_bytes([0, udp[12], udp[13], udp[14]]),
        offset: header_len + 16,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let (a, b) = (crate::tunnel_address(1), crate::tunnel_address(2));
        let mut packet = vec![0; HEADER_LEN + 60];
        write(&mut packet, a, b, 4097, 7);
        let carried = Carried {
            from: a,
            to: b,
            vni: 4097,
            offset: HEADER_LEN,
        };
        assert_eq!(read(&packet), Some(carried));
        assert_eq!(fold(sum(0, &packet[..20])), 0, "the checksum sums to zero");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }
    }
}
