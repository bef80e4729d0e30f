//! Answers to address resolution: ARP (RFC 826) and neighbour discovery (RFC 4861).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use types::network::Mac;

use crate::frame::{ETHERNET_LEN, fold, sum};

const ARP_LEN: usize = ETHERNET_LEN + 28;
const ND_LEN: usize = ETHERNET_LEN + 40 + 32;
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Solicited and override.
const ADVERTISEMENT_FLAGS: u8 = 0x60;

/// The address a frame asks for; none when it asks for none.
pub(crate) fn asked(frame: &[u8]) -> Option<IpAddr> {
    match frame.get(12..14)? {
        [0x08, 0x06] => {
            let arp = frame.get(ETHERNET_LEN..ARP_LEN)?;
            // Ethernet, IPv4, lengths 6 and 4, request.
            if arp[..8] != [0, 1, 8, 0, 6, 4, 0, 1] {
                return None;
            }
            let target: [u8; 4] = arp[24..28].try_into().ok()?;
            let sender: [u8; 4] = arp[14..18].try_into().ok()?;
            // One that asks for its own address only announces or probes it.
            (target != sender && sender != [0; 4]).then_some(Ipv4Addr::from(target).into())
        }
        [0x86, 0xdd] => {
            let ip = frame.get(ETHERNET_LEN..ETHERNET_LEN + 40 + 24)?;
            // Hop limit 255 proves that no router passed it on.
            if ip[6] != ICMPV6 || ip[7] != 255 || ip[40] != SOLICITATION || ip[41] != 0 {
                return None;
            }
            let target: [u8; 16] = ip[48..64].try_into().ok()?;
            // An unspecified source probes for duplicates; managers give none.
            (ip[8..24] != [0; 16]).then_some(Ipv6Addr::from(target).into())
        }
        _ => None,
    }
}

/// The answer to a frame for which [`asked`] gave `address`, that `mac` holds it.
pub(crate) fn answer(frame: &[u8], address: IpAddr, mac: Mac) -> Vec<u8> {
    let mut reply = Vec::with_capacity(ND_LEN);
    reply.extend_from_slice(&frame[6..12]);
    reply.extend_from_slice(&mac);
    match address {
        IpAddr::V4(address) => {
            reply.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 2]);
            reply.extend(mac);
            reply.extend(address.octets());
            reply.extend_from_slice(&frame[ETHERNET_LEN + 8..ETHERNET_LEN + 18]);
        }
        IpAddr::V6(address) => {
            reply.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, ICMPV6, 255]);
            reply.extend(address.octets());
            reply.extend_from_slice(&frame[ETHERNET_LEN + 8..ETHERNET_LEN + 24]);
            reply.extend([ADVERTISEMENT, 0, 0, 0, ADVERTISEMENT_FLAGS, 0, 0, 0]);
            reply.extend(address.octets());
            reply.extend([2, 1]);
            reply.extend(mac);
            let message = ETHERNET_LEN + 40;
            let pseudo = sum(32 + u32::from(ICMPV6), &reply[ETHERNET_LEN + 8..message]);
            let checksum = fold(sum(pseudo, &reply[message..]));
            reply[message + 2..message + 4].copy_from_slice(&checksum.to_be_bytes());
        }
    }
    reply
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_gets_its_answer() {
        let mut request = vec![0xff; 6];
        request.extend([2, 0x42, 10, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        request.extend([
            2, 0x42, 10, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2,
        ]);
        let address = asked(&request).unwrap();
        assert_eq!(address, IpAddr::from([10, 0, 0, 2]));
        let reply = answer(&request, address, [2, 0x42, 10, 0, 0, 2]);
        assert_eq!(reply[..6], [2, 0x42, 10, 0, 0, 1], "to whoever asked");
        assert_eq!(reply[20..22], [0, 2], "an answer");
        assert_eq!(reply[22..32], [2, 0x42, 10, 0, 0, 2, 10, 0, 0, 2]);
        assert_eq!(reply[32..42], [2, 0x42, 10, 0, 0, 1, 10, 0, 0, 1]);
        // Probing for one's own address asks nothing.
        request[28..32].copy_from_slice(&[10, 0, 0, 2]);
        assert_eq!(asked(&request), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            if let Some(address) = asked(&bytes) {
                let _ = answer(&bytes, address, [2; 6]);
            }
        }
    }
}
