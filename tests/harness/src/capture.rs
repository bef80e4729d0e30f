//! Every frame between the nodes of a lab: looked at here, or written for other programs to look at.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType};

use crate::Lab;

/// UDP port of VXLAN.
pub const VXLAN_PORT: u16 = 4789;

/// UDP port of WireGuard.
pub const WIREGUARD_PORT: u16 = 51_820;

/// Bytes the kernel keeps for us while we are busy: some seconds of what a test sends.
const BUFFER_BYTES: usize = 64 << 20;

/// Longest frame: what the kernel leaves uncut between virtual devices.
const FRAME_BYTES_MAX: usize = 256 << 10;

/// How often the thread looks whether it is to end.
const LOOK_EVERY_NS: i64 = 20_000_000;

/// A capture that goes on until it is dropped. Each frame is seen where it enters the hub and where
/// it leaves it, so once or twice.
pub struct Capture {
    frames: Arc<Mutex<Vec<Frame>>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// A frame on the wire.
#[derive(Clone, Debug)]
pub struct Frame {
    /// When, since 1970.
    at: Duration,
    /// From its Ethernet header on.
    pub bytes: Vec<u8>,
}

/// The outer headers of a UDP datagram over IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Who sends it.
    pub from: Ipv4Addr,
    /// The port it is sent to.
    pub port: u16,
    /// What it carries.
    pub content: &'a [u8],
}

impl Capture {
    /// Captures on all cables of a lab.
    ///
    /// # Errors
    /// When the kernel does not let us.
    pub fn start(lab: &Lab) -> Result<Self> {
        let socket = lab.outside(|| {
            // ETH_P_ALL, in the network's order.
            let all = std::num::NonZeroU32::new(u32::from(3_u16.to_be())).map(Protocol::from_raw);
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let (family, kind) = (AddressFamily::PACKET, SocketType::RAW);
            let socket = rustix::net::socket_with(family, kind, flags, all)?;
            rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER_BYTES)?;
            Ok(socket)
        });
        let socket = socket.context("opening a packet socket")?;
        let frames = Arc::new(Mutex::new(Vec::new()));
        let ends = Arc::new(AtomicBool::new(false));
        let thread = {
            let (frames, ends) = (Arc::clone(&frames), Arc::clone(&ends));
            std::thread::spawn(move || receive(&socket, &frames, &ends))
        };
        Ok(Self {
            frames,
            ends,
            thread: Some(thread),
        })
    }

    /// The frames seen so far.
    pub fn frames(&self) -> MutexGuard<'_, Vec<Frame>> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Frames that hold this text, in whatever layer.
    #[must_use]
    pub fn holding(&self, text: &str) -> usize {
        self.frames()
            .iter()
            .filter(|frame| frame.holds(text.as_bytes()))
            .count()
    }

    /// Senders of datagrams to a port for which `is_meant` holds, each once.
    #[must_use]
    pub fn senders(&self, port: u16, is_meant: impl Fn(Datagram<'_>) -> bool) -> Vec<Ipv4Addr> {
        let frames = self.frames();
        let datagrams = frames.iter().filter_map(Frame::datagram);
        let meant = datagrams.filter(|datagram| datagram.port == port && is_meant(*datagram));
        let mut senders: Vec<_> = meant.map(|datagram| datagram.from).collect();
        senders.sort_unstable();
        senders.dedup();
        senders
    }

    /// Writes all frames as a pcap file (<https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcap/>).
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let file = std::fs::File::create(path).with_context(|| path.display().to_string())?;
        let mut file = std::io::BufWriter::new(file);
        let snap = u32::try_from(FRAME_BYTES_MAX)?;
        // Magic, version 2.4, zone and accuracy, longest frame, Ethernet.
        for word in [0xa1b2_c3d4, 2 | 4 << 16, 0, 0, snap, 1] {
            file.write_all(&u32::to_le_bytes(word))?;
        }
        for Frame { at, bytes } in &*self.frames() {
            let length = u32::try_from(bytes.len())?;
            let seconds = u32::try_from(at.as_secs())?;
            for word in [seconds, at.subsec_micros(), length, length] {
                file.write_all(&word.to_le_bytes())?;
            }
            file.write_all(bytes)?;
        }
        Ok(file.flush()?)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to panic for.
            drop(thread.join());
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "frames bear the time of day, for people who look at them"
)]
fn receive(socket: &OwnedFd, frames: &Mutex<Vec<Frame>>, ends: &AtomicBool) {
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    while !ends.load(Ordering::Relaxed) {
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: LOOK_EVERY_NS,
        };
        // Whether it was readable shows below.
        let _ = poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&timeout));
        while let Ok((length, _)) = rustix::net::recv(socket, &mut buffer[..], RecvFlags::empty()) {
            let frame = Frame {
                at: SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default(),
                bytes: buffer[..length].to_vec(),
            };
            frames
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(frame);
        }
    }
}

impl Frame {
    /// Whether these bytes are anywhere in it.
    #[must_use]
    pub fn holds(&self, text: &[u8]) -> bool {
        self.bytes.windows(text.len()).any(|window| window == text)
    }

    /// The datagram in it, when it is one over IPv4.
    #[must_use]
    pub fn datagram(&self) -> Option<Datagram<'_>> {
        const UDP: u8 = 17;
        let packet = self
            .bytes
            .get(14..)
            .filter(|_| self.bytes[12..14] == [0x08, 0x00])?;
        let header = usize::from(packet.first()? & 0x0f) * 4;
        let (ip, rest) = packet
            .split_at_checked(header)
            .filter(|(ip, _)| ip.len() >= 20)?;
        let (udp, content) = rest.split_first_chunk::<8>().filter(|_| ip[9] == UDP)?;
        Some(Datagram {
            from: Ipv4Addr::new(ip[12], ip[13], ip[14], ip[15]),
            port: u16::from_be_bytes([udp[2], udp[3]]),
            content,
        })
    }
}

impl Datagram<'_> {
    /// The network identifier of a VXLAN packet.
    #[must_use]
    pub fn vni(&self) -> Option<u32> {
        let header = self.content.get(..8).filter(|_| self.port == VXLAN_PORT)?;
        Some(u32::from_be_bytes([0, header[4], header[5], header[6]]))
    }
}
