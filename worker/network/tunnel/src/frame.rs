//! Where things lie in an Ethernet frame, and the Internet checksum.

use types::network::Mac;

/// Destination, source, type.
pub(crate) const ETHERNET_LEN: usize = 14;

const TYPE_IPV4: [u8; 2] = [0x08, 0x00];
const TYPE_IPV6: [u8; 2] = [0x86, 0xdd];

/// IP protocol number of TCP.
pub(crate) const PROTOCOL_TCP: u8 = 6;

/// Adds `bytes` to a running sum in ones' complement.
pub(crate) fn sum(start: u32, bytes: &[u8]) -> u32 {
    // Sixty-four bits swallow any frame's worth of carries.
    let mut total = u64::from(start);
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        total += u64::from(u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
    }
    let mut pairs = words.remainder().chunks_exact(2);
    for pair in &mut pairs {
        total += u64::from(u16::from_be_bytes([pair[0], pair[1]]));
    }
    if let [last] = pairs.remainder() {
        total += u64::from(*last) << 8;
    }
    while total >> 32 != 0 {
        total = (total & 0xffff_ffff) + (total >> 32);
    }
    u32::try_from(total).expect("folded to 32 bits")
}

/// The checksum of a running sum.
pub(crate) fn fold(total: u32) -> u16 {
    !carry(total)
}

/// A running sum in sixteen bits, not complemented.
pub(crate) fn carry(mut total: u32) -> u16 {
    while total >> 16 != 0 {
        total = (total & 0xffff) + (total >> 16);
    }
    u16::try_from(total).expect("folded to 16 bits")
}

/// Destination and source of a frame.
pub(crate) fn macs(frame: &[u8]) -> Option<(Mac, Mac)> {
    let to = frame.get(..6)?.try_into().ok()?;
    let from = frame.get(6..12)?.try_into().ok()?;
    Some((to, from))
}

/// Families of IP that segments are cut and joined for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// The layout of a TCP segment in a frame: offsets from the start of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tcp {
    pub(crate) family: Family,
    /// Where the TCP header begins.
    pub(crate) header: usize,
    /// Where its data begins.
    pub(crate) data: usize,
}

impl Tcp {
    /// Finds TCP directly behind IPv4 or IPv6 without options, fragments or extension headers.
    pub(crate) fn find(frame: &[u8]) -> Option<Self> {
        let kind: [u8; 2] = frame.get(12..ETHERNET_LEN)?.try_into().ok()?;
        let ip = &frame[ETHERNET_LEN..];
        let (family, ip_len) = match kind {
            TYPE_IPV4 => {
                let plain = *ip.first()? == 0x45
                    && *ip.get(9)? == PROTOCOL_TCP
                    && ip[6] & 0x3f == 0
                    && ip[7] == 0;
                (plain.then_some(Family::V4)?, 20)
            }
            TYPE_IPV6 => {
                let plain = ip.first()? >> 4 == 6 && *ip.get(6)? == PROTOCOL_TCP;
                (plain.then_some(Family::V6)?, 40)
            }
            _ => return None,
        };
        let header = ETHERNET_LEN + ip_len;
        let header_len = usize::from(frame.get(header + 12)? >> 4) * 4;
        let data = header + header_len;
        (header_len >= 20 && data <= frame.len()).then_some(Self {
            family,
            header,
            data,
        })
    }

    /// The sum over addresses, protocol and length that TCP's checksum begins with.
    pub(crate) fn pseudo_sum(self, frame: &[u8], tcp_len: usize) -> u32 {
        let addresses = match self.family {
            Family::V4 => &frame[ETHERNET_LEN + 12..ETHERNET_LEN + 20],
            Family::V6 => &frame[ETHERNET_LEN + 8..ETHERNET_LEN + 40],
        };
        let len = u32::try_from(tcp_len).expect("a frame is shorter than 4 GiB");
        sum(
            u32::from(PROTOCOL_TCP) + (len >> 16) + (len & 0xffff),
            addresses,
        )
    }

    /// Writes the lengths of a frame of this layout, and IPv4's checksum.
    pub(crate) fn set_lengths(self, frame: &mut [u8]) {
        let total = frame.len() - ETHERNET_LEN;
        let bytes = |len: usize| {
            u16::try_from(len)
                .expect("a packet is below 64 KiB")
                .to_be_bytes()
        };
        let ip = &mut frame[ETHERNET_LEN..];
        match self.family {
            Family::V4 => {
                ip[2..4].copy_from_slice(&bytes(total));
                ip[10..12].copy_from_slice(&[0, 0]);
                let checksum = fold(sum(0, &ip[..20]));
                ip[10..12].copy_from_slice(&checksum.to_be_bytes());
            }
            Family::V6 => ip[4..6].copy_from_slice(&bytes(total - 40)),
        }
    }

    /// Writes TCP's checksum over the whole frame.
    pub(crate) fn set_checksum(self, frame: &mut [u8]) {
        frame[self.header + 16..self.header + 18].copy_from_slice(&[0, 0]);
        let pseudo = self.pseudo_sum(frame, frame.len() - self.header);
        let checksum = fold(sum(pseudo, &frame[self.header..]));
        frame[self.header + 16..self.header + 18].copy_from_slice(&checksum.to_be_bytes());
    }

    pub(crate) fn sequence(self, frame: &[u8]) -> u32 {
        let at = self.header + 4;
        u32::from_be_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]])
    }

    pub(crate) fn flags(self, frame: &[u8]) -> u8 {
        frame[self.header + 13]
    }
}

/// A number by which packets of one flow are alike: for the source port of the outer header.
pub(crate) fn flow(frame: &[u8]) -> u16 {
    let end = frame.len().min(ETHERNET_LEN + 40 + 4);
    let start = (ETHERNET_LEN + 12).min(end);
    carry(sum(0, &frame[start..end]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition of RFC 1071, word by word.
    fn reference(bytes: &[u8]) -> u16 {
        let mut total = 0u32;
        for pair in bytes.chunks(2) {
            total += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            total = (total & 0xffff) + (total >> 16);
        }
        !u16::try_from(total).unwrap()
    }

    proptest! {
        #[test]
        fn the_checksum_is_that_of_the_standard(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(fold(sum(0, &bytes)), reference(&bytes));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = (Tcp::find(&bytes), flow(&bytes), macs(&bytes));
        }
    }
}
