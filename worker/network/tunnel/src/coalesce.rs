//! Joining packets of one TCP flow, so that the kernel takes many in one piece.

use crate::frame::{ETHERNET_LEN, Family, Tcp};
use crate::segment::{VNET_HEADER_LEN, VnetHeader};

/// Bytes of a joined frame at most: what IP's 16-bit length can say, less headers.
const JOINED_MAX: usize = 65_000;

const TCP_ACK: u8 = 0x10;
const TCP_PSH: u8 = 0x08;

/// A frame waiting for more of its flow.
#[derive(Debug)]
pub(crate) struct Joiner {
    /// Room for the TAP's header, then the frame; empty when nothing waits.
    pending: Vec<u8>,
    tcp: Option<Tcp>,
    /// Data bytes of the first packet: all but the last have as many.
    size: usize,
    packets: usize,
}

impl Joiner {
    pub(crate) fn new() -> Self {
        Self {
            pending: Vec::with_capacity(VNET_HEADER_LEN + JOINED_MAX + 2000),
            tcp: None,
            size: 0,
            packets: 0,
        }
    }

    /// Takes a frame. `write` gets what is complete: a TAP header and a frame in one.
    pub(crate) fn push(&mut self, frame: &[u8], mut write: impl FnMut(&[u8])) {
        if self.joins(frame) {
            let tcp = self.tcp.expect("only TCP joins");
            self.pending.extend_from_slice(&frame[tcp.data..]);
            self.pending[VNET_HEADER_LEN + tcp.header + 13] |= tcp.flags(frame) & TCP_PSH;
            self.packets += 1;
        } else {
            self.flush(&mut write);
            self.pending.resize(VNET_HEADER_LEN, 0);
            self.pending.extend_from_slice(frame);
            self.tcp = Tcp::find(frame);
            self.size = self.tcp.map_or(0, |tcp| packet_end(frame, tcp) - tcp.data);
            self.packets = 1;
        }
        if !self.may_grow() {
            self.flush(write);
        }
    }

    /// Lets go of what waits.
    pub(crate) fn flush(&mut self, mut write: impl FnMut(&[u8])) {
        if self.pending.is_empty() {
            return;
        }
        if let (Some(tcp), true) = (self.tcp, self.packets > 1) {
            let frame = &mut self.pending[VNET_HEADER_LEN..];
            tcp.set_lengths(frame);
            let pseudo = tcp.pseudo_sum(frame, frame.len() - tcp.header);
            // The kernel finishes the checksum from the pseudo header's sum.
            let partial = crate::frame::carry(pseudo);
            frame[tcp.header + 16..tcp.header + 18].copy_from_slice(&partial.to_be_bytes());
            let size = u16::try_from(self.size).expect("a packet's data is below 64 KiB");
            let header = VnetHeader::joined(tcp, size).write();
            self.pending[..VNET_HEADER_LEN].copy_from_slice(&header);
        }
        write(&self.pending);
        self.pending.clear();
        self.tcp = None;
    }

    /// Whether anything could still be added to what waits.
    fn may_grow(&self) -> bool {
        let frame = &self.pending[VNET_HEADER_LEN..];
        self.tcp.is_some_and(|tcp| {
            let data = frame.len() - tcp.data;
            // A short last packet, or one that asks to be delivered, ends the joining.
            self.size > 0
                && data.is_multiple_of(self.size)
                && tcp.flags(frame) == TCP_ACK
                // Padding behind the first packet would end up within the data.
                && (self.packets > 1 || packet_end(frame, tcp) == frame.len())
        })
    }

    /// Whether `frame` continues what waits, byte for byte of its headers.
    fn joins(&self, frame: &[u8]) -> bool {
        let (Some(tcp), false) = (self.tcp, self.pending.is_empty()) else {
            return false;
        };
        let have = &self.pending[VNET_HEADER_LEN..];
        if Tcp::find(frame) != Some(tcp) || packet_end(frame, tcp) != frame.len() {
            return false;
        }
        let data = frame.len() - tcp.data;
        let follows = tcp
            .sequence(have)
            .wrapping_add(u32::try_from(have.len() - tcp.data).unwrap_or(u32::MAX));
        data > 0
            && data <= self.size
            && have.len() + data < JOINED_MAX
            && tcp.sequence(frame) == follows
            && tcp.flags(frame) & !TCP_PSH == TCP_ACK
            && same_flow(have, frame, tcp)
    }
}

/// Where the packet ends by its own length; behind it there may be padding.
fn packet_end(frame: &[u8], tcp: Tcp) -> usize {
    let word = |at: usize| usize::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
    let end = match tcp.family {
        Family::V4 => ETHERNET_LEN + word(ETHERNET_LEN + 2),
        Family::V6 => ETHERNET_LEN + 40 + word(ETHERNET_LEN + 4),
    };
    end.clamp(tcp.data, frame.len().max(tcp.data))
}

/// Equal but for length, identification, checksums, sequence number and PSH.
fn same_flow(have: &[u8], frame: &[u8], tcp: Tcp) -> bool {
    let same = |from: usize, to: usize| have[from..to] == frame[from..to];
    let ip = ETHERNET_LEN;
    let internet = match tcp.family {
        // Version and service, then flags to protocol, then addresses.
        Family::V4 => same(ip, ip + 2) && same(ip + 6, ip + 10) && same(ip + 12, ip + 20),
        Family::V6 => same(ip, ip + 4) && same(ip + 6, ip + 40),
    };
    let t = tcp.header;
    // Ports, acknowledgement and header length, window, urgent pointer and options.
    same(0, ETHERNET_LEN)
        && internet
        && same(t, t + 4)
        && same(t + 8, t + 13)
        && same(t + 14, t + 16)
        && same(t + 18, tcp.data)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::segment::tests::{checksum_holds, tcp_frame};
    use crate::segment::{VnetHeader, cut};

    fn join(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut joiner = Joiner::new();
        let mut written = vec![];
        for frame in frames {
            joiner.push(frame, |bytes| written.push(bytes.to_vec()));
        }
        joiner.flush(|bytes| written.push(bytes.to_vec()));
        written
    }

    fn pieces(v6: bool, data: &[u8], size: u16) -> Vec<Vec<u8>> {
        let mut frame = tcp_frame(v6, 7, 0x18, data);
        let header = VnetHeader::joined(Tcp::find(&frame).unwrap(), size);
        let mut pieces = vec![];
        cut(header, &mut frame, &mut vec![], |p| pieces.push(p.to_vec())).unwrap();
        pieces
    }

    proptest! {
        #[test]
        fn what_was_cut_is_joined_again(
            v6: bool,
            data in proptest::collection::vec(any::<u8>(), 1..9000),
            size in 100u16..1500,
        ) {
            let written = join(&pieces(v6, &data, size));
            prop_assert_eq!(written.len(), 1);
            let frame = &written[0][VNET_HEADER_LEN..];
            let tcp = Tcp::find(frame).unwrap();
            prop_assert_eq!(&frame[tcp.data..], &data[..]);
            // Cutting it once more gives the same packets with good checksums.
            let header = VnetHeader::read(written[0][..VNET_HEADER_LEN].try_into().unwrap());
            let mut again = vec![];
            cut(header, &mut frame.to_vec(), &mut vec![], |p| again.push(p.to_vec())).unwrap();
            prop_assert!(again.iter().all(|piece| checksum_holds(piece)));
        }

        #[test]
        fn any_frames_are_taken_without_panic_and_none_is_lost(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 14..120), 0..8),
        ) {
            let total: usize = frames.iter().map(Vec::len).sum();
            let written = join(&frames);
            let got: usize = written.iter().map(|w| w.len() - VNET_HEADER_LEN).sum();
            prop_assert_eq!(got, total);
        }
    }

    #[test]
    fn other_flows_and_gaps_are_not_joined() {
        let first = pieces(false, &[1; 1000], 500)[0].clone();
        let mut other = pieces(false, &[1; 1000], 500)[1].clone();
        other[34] ^= 1;
        assert_eq!(join(&[first.clone(), other]).len(), 2, "another port");
        let gap = pieces(false, &[1; 1500], 500)[2].clone();
        assert_eq!(join(&[first, gap]).len(), 2, "a missing packet");
    }
}
