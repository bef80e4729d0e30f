//! Cutting what the kernel hands over in one piece into packets of the network's size.

use crate::frame::{Tcp, fold, sum};

/// Length of the header that a TAP device with `IFF_VNET_HDR` puts before each frame
/// (`struct virtio_net_hdr`).
pub(crate) const VNET_HEADER_LEN: usize = 10;

const NEEDS_CHECKSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_ECN: u8 = 0x80;

const TCP_FIN: u8 = 0x01;
const TCP_PSH: u8 = 0x08;
const TCP_CWR: u8 = 0x80;

/// What the kernel left to do on a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct VnetHeader {
    pub(crate) flags: u8,
    pub(crate) gso: u8,
    pub(crate) header_len: u16,
    pub(crate) gso_size: u16,
    pub(crate) checksum_start: u16,
    pub(crate) checksum_offset: u16,
}

impl VnetHeader {
    pub(crate) fn read(bytes: [u8; VNET_HEADER_LEN]) -> Self {
        let word = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        Self {
            flags: bytes[0],
            gso: bytes[1],
            header_len: word(2),
            gso_size: word(4),
            checksum_start: word(6),
            checksum_offset: word(8),
        }
    }

    pub(crate) fn write(self) -> [u8; VNET_HEADER_LEN] {
        let mut bytes = [self.flags, self.gso, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes[2..4].copy_from_slice(&self.header_len.to_ne_bytes());
        bytes[4..6].copy_from_slice(&self.gso_size.to_ne_bytes());
        bytes[6..8].copy_from_slice(&self.checksum_start.to_ne_bytes());
        bytes[8..10].copy_from_slice(&self.checksum_offset.to_ne_bytes());
        bytes
    }

    /// The header of a frame joined from segments of `size` bytes of data.
    pub(crate) fn joined(tcp: Tcp, size: u16) -> Self {
        let at = |offset: usize| u16::try_from(offset).expect("headers end below 64 KiB");
        Self {
            flags: NEEDS_CHECKSUM,
            gso: match tcp.family {
                crate::frame::Family::V4 => GSO_TCPV4,
                crate::frame::Family::V6 => GSO_TCPV6,
            },
            header_len: at(tcp.data),
            gso_size: size,
            checksum_start: at(tcp.header),
            checksum_offset: 16,
        }
    }
}

/// A frame that does not hold what its header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Calls `each` with every packet of the frame, complete with checksums. `scratch` is room to
/// build them in.
pub(crate) fn cut(
    header: VnetHeader,
    frame: &mut [u8],
    scratch: &mut Vec<u8>,
    mut each: impl FnMut(&[u8]),
) -> Result<(), Malformed> {
    match header.gso & !GSO_ECN {
        GSO_NONE => {
            if header.flags & NEEDS_CHECKSUM != 0 {
                finish_checksum(header, frame)?;
            }
            each(frame);
            Ok(())
        }
        GSO_TCPV4 | GSO_TCPV6 => cut_tcp(header, frame, scratch, each),
        // Nothing else was allowed when the device was made.
        _ => Err(Malformed),
    }
}

fn finish_checksum(header: VnetHeader, frame: &mut [u8]) -> Result<(), Malformed> {
    let start = usize::from(header.checksum_start);
    let at = start + usize::from(header.checksum_offset);
    if at + 2 > frame.len() {
        return Err(Malformed);
    }
    // The field holds the pseudo header's sum already.
    let checksum = match fold(sum(0, &frame[start..])) {
        // Zero would say "none" in UDP.
        0 => 0xffff,
        checksum => checksum,
    };
    frame[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    Ok(())
}

fn cut_tcp(
    header: VnetHeader,
    frame: &[u8],
    scratch: &mut Vec<u8>,
    mut each: impl FnMut(&[u8]),
) -> Result<(), Malformed> {
    let tcp = Tcp::find(frame).ok_or(Malformed)?;
    let size = usize::from(header.gso_size);
    if size == 0 {
        return Err(Malformed);
    }
    let data = &frame[tcp.data..];
    let first_sequence = tcp.sequence(frame);
    let flags = tcp.flags(frame);
    let first_id = u16::from_be_bytes([frame[18], frame[19]]);
    let pieces = data.len().div_ceil(size).max(1);
    for piece in 0..pieces {
        let from = piece * size;
        let to = (from + size).min(data.len());
        scratch.clear();
        scratch.extend_from_slice(&frame[..tcp.data]);
        scratch.extend_from_slice(&data[from..to]);
        tcp.set_lengths(scratch);
        if tcp.family == crate::frame::Family::V4 {
            let id = first_id.wrapping_add(u16::try_from(piece).unwrap_or(u16::MAX));
            scratch[18..20].copy_from_slice(&id.to_be_bytes());
            // The identification is part of IPv4's checksum.
            tcp.set_lengths(scratch);
        }
        let sequence = first_sequence.wrapping_add(u32::try_from(from).map_err(|_| Malformed)?);
        scratch[tcp.header + 4..tcp.header + 8].copy_from_slice(&sequence.to_be_bytes());
        let mut kept = flags;
        if piece + 1 < pieces {
            kept &= !(TCP_FIN | TCP_PSH);
        }
        if piece > 0 {
            kept &= !TCP_CWR;
        }
        scratch[tcp.header + 13] = kept;
        tcp.set_checksum(scratch);
        each(scratch);
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A TCP frame over IPv4 or IPv6 with this data, checksums not filled in.
    pub(crate) fn tcp_frame(v6: bool, sequence: u32, flags: u8, data: &[u8]) -> Vec<u8> {
        let mut frame = vec![2, 0x42, 10, 0, 0, 2, 2, 0x42, 10, 0, 0, 1];
        let tcp_len = 20 + data.len();
        if v6 {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(u16::try_from(tcp_len).unwrap().to_be_bytes());
            frame.extend([6, 64]);
            frame.extend([0xfd; 16]);
            frame.extend([0xfe; 16]);
        } else {
            frame.extend([0x08, 0x00, 0x45, 0]);
            frame.extend(u16::try_from(20 + tcp_len).unwrap().to_be_bytes());
            frame.extend([0, 9, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        }
        frame.extend([0x30, 0x39, 0, 80]);
        frame.extend(sequence.to_be_bytes());
        frame.extend([0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        frame.extend(data);
        frame
    }

    pub(crate) fn checksum_holds(frame: &[u8]) -> bool {
        let tcp = Tcp::find(frame).unwrap();
        let pseudo = tcp.pseudo_sum(frame, frame.len() - tcp.header);
        fold(sum(pseudo, &frame[tcp.header..])) == 0
    }

    proptest! {
        #[test]
        fn the_pieces_are_whole_packets_that_make_up_the_data(
            v6: bool,
            data in proptest::collection::vec(any::<u8>(), 0..9000),
            size in 1u16..1500,
        ) {
            let mut frame = tcp_frame(v6, u32::MAX - 100, 0x19, &data);
            let tcp = Tcp::find(&frame).unwrap();
            let header = VnetHeader::joined(tcp, size);
            let (mut scratch, mut pieces) = (vec![], vec![]);
            cut(header, &mut frame, &mut scratch, |piece| pieces.push(piece.to_vec())).unwrap();
            let mut joined = vec![];
            for (n, piece) in pieces.iter().enumerate() {
                prop_assert!(checksum_holds(piece));
                let tcp = Tcp::find(piece).unwrap();
                let at = u32::try_from(joined.len()).unwrap();
                prop_assert_eq!(tcp.sequence(piece), (u32::MAX - 100).wrapping_add(at));
                let last = n + 1 == pieces.len();
                prop_assert_eq!(tcp.flags(piece) & 0x09 != 0, last, "FIN and PSH end the data");
                joined.extend_from_slice(&piece[tcp.data..]);
            }
            prop_assert_eq!(joined, data);
        }

        #[test]
        fn any_header_and_frame_is_read_without_panic(
            header: [u8; VNET_HEADER_LEN],
            mut frame in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = cut(VnetHeader::read(header), &mut frame, &mut vec![], |_| {});
        }
    }
}
