//! The threads that move frames, and the handle that tells them what to be.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use boringtun::noise::{Packet, Tunn, TunnResult};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use types::network::{Mac, node_mac};

use crate::coalesce::Joiner;
use crate::frame::{flow, macs};
use crate::peers::{Link, Peer};
use crate::segment::{VNET_HEADER_LEN, VnetHeader, cut};
use crate::socket::Socket;
use crate::table::{Devices, Segment, Table};
use crate::{Desired, Error, WIREGUARD_OVERHEAD_BYTES, neighbour, tunnel_address, vxlan};

/// Bytes of one read from a device or socket at most, with room to spare.
const READ_BYTES: usize = 70_000;

/// Sealed bytes gathered before they are sent.
const BATCH_BYTES: usize = 128 * 1024;

/// What WireGuard may need for a handshake message, in bytes.
const HANDSHAKE_BYTES: usize = 148;

/// How often handshakes and keepalives are looked after (boringtun asks for 100 to 250 ms).
const TIMER_PERIOD: Duration = Duration::from_millis(250);

/// Timer periods between resets of the handshake limit: one second.
const LIMIT_PERIODS: u32 = 4;

/// Frames read from one device before others get their turn.
const TURN_FRAMES: usize = 64;

/// What a thread does until the end.
type Body = fn(&Shared);

/// What happened to packets, since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Packets sealed and sent.
    pub sealed: AtomicU64,
    /// Frames opened and given to a network.
    pub opened: AtomicU64,
    /// Address resolutions answered.
    pub answered: AtomicU64,
    /// Frames for nobody known, broadcasts among them.
    pub unknown: AtomicU64,
    /// Frames from a node that does not hold their source address.
    pub spoofed: AtomicU64,
    /// Packets that could not be read, opened or sent.
    pub failed: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

struct Shared {
    table: ArcSwap<Table>,
    /// One change at a time; with devices that were adopted and are in no table yet.
    changing: Mutex<Devices>,
    v4: Socket,
    /// None where the machine has no IPv6.
    v6: Option<Socket>,
    counters: Counters,
    ends: AtomicBool,
    /// Wakes each thread: the out, in and timer thread's.
    wakes: [OwnedFd; 3],
}

/// The data plane of this node's encrypted networks. It ends when dropped, and its devices with it.
pub struct Tunnel {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Tunnel {
    /// Starts it in the network namespace of the calling thread, with nothing to do.
    ///
    /// # Errors
    /// When the port is taken or threads cannot be started.
    pub fn start(port: u16) -> Result<Self, Error> {
        let bind =
            |family| Socket::bind(family, port).map_err(|source| Error::Bind { port, source });
        let v4 = bind(IpAddr::V4(Ipv4Addr::UNSPECIFIED))?;
        let v6 = match bind(IpAddr::V6(Ipv6Addr::UNSPECIFIED)) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::info!(error = %chain(&error), "encrypted networks go without IPv6");
                None
            }
        };
        let wake = || {
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                .map_err(|error| Error::Start(error.into()))
        };
        let shared = Arc::new(Shared {
            table: ArcSwap::default(),
            changing: Mutex::default(),
            v4,
            v6,
            counters: Counters::default(),
            ends: AtomicBool::new(false),
            wakes: [wake()?, wake()?, wake()?],
        });
        let mut tunnel = Self {
            shared,
            threads: vec![],
        };
        let bodies: [(&str, Body); 3] = [
            ("tunnel-out", run_out),
            ("tunnel-in", run_in),
            ("tunnel-timers", run_timers),
        ];
        for (name, body) in bodies {
            let shared = tunnel.shared.clone();
            let thread = std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || body(&shared))
                .map_err(Error::Start)?;
            tunnel.threads.push(thread);
        }
        Ok(tunnel)
    }

    /// Makes it what is asked. New devices are made in the network namespace of the calling
    /// thread. All that can be done is done; what cannot is told.
    #[must_use]
    pub fn update(&self, desired: &Desired) -> Vec<Error> {
        let shared = &self.shared;
        let mut devices = shared.lock_devices();
        let former = shared.table.load_full();
        let (next, errors) = former.next(desired, &mut devices);
        devices.clear();
        let fresh = next
            .links
            .values()
            .filter(|l| !former.links.contains_key(&l.slot));
        let fresh: Vec<_> = fresh.cloned().collect();
        shared.table.store(Arc::new(next));
        for link in fresh {
            // Both sides call: which of them was told of the other first, or began anew while the
            // other believes in an old session, is unknown. Either call, or both, will do.
            shared.initiate(&link);
        }
        shared.wake();
        errors
    }

    /// Has the next update use this device of an earlier process, instead of making one of its name.
    pub fn adopt(&self, name: String, device: OwnedFd) {
        self.shared.lock_devices().insert(name, device);
    }

    /// Ends it, but leaves its devices and what waits in them to whoever gets these descriptors.
    ///
    /// # Errors
    /// When there are too many open files; then they are gone.
    pub fn into_devices(self) -> io::Result<Vec<(String, OwnedFd)>> {
        let table = self.shared.table.load_full();
        let share = |segment: &Arc<Segment>| Ok((segment.name.clone(), segment.device.share()?));
        let shared: io::Result<Vec<_>> = table.segments.values().map(share).collect();
        // Nobody reads them any more when this returns.
        drop(self);
        shared
    }

    /// What happened to packets so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Every peer, and whether packets for it can be sealed by some keys.
    #[must_use]
    pub fn peers(&self) -> Vec<(u32, bool)> {
        let table = self.shared.table.load();
        let is_ready = |peer: &Peer| peer.links.iter().any(|link| link.is_established());
        let mut peers: Vec<_> = table
            .peers
            .iter()
            .map(|(index, peer)| (*index, is_ready(peer)))
            .collect();
        peers.sort_unstable();
        peers
    }

    /// True once packets for a node can be sealed by the keys to send with.
    #[must_use]
    pub fn is_established(&self, peer: u32) -> bool {
        let table = self.shared.table.load();
        let first = table.peers.get(&peer).and_then(|peer| peer.links.first());
        first.is_some_and(|link| link.is_established())
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Release);
        self.shared.wake();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of encrypted networks had panicked");
            }
        }
    }
}

impl Shared {
    fn lock_devices(&self) -> MutexGuard<'_, Devices> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        for wake in &self.wakes {
            // It fails only when it is set already.
            let _ = rustix::io::write(wake, &1u64.to_ne_bytes());
        }
    }

    fn send(&self, packets: &[u8], size: usize, to: SocketAddr) {
        let socket = match (to, &self.v6) {
            (SocketAddr::V4(_), _) => &self.v4,
            (SocketAddr::V6(_), Some(socket)) => socket,
            (SocketAddr::V6(_), None) => return count(&self.counters.failed),
        };
        if let Err(error) = socket.send(packets, size, to) {
            tracing::debug!(%error, %to, "sealed packets were not sent");
            count(&self.counters.failed);
        }
    }

    fn initiate(&self, link: &Link) {
        let mut out = [0; HANDSHAKE_BYTES];
        let result = link.lock().format_handshake_initiation(&mut out, false);
        if let TunnResult::WriteToNetwork(packet) = result {
            self.send(packet, packet.len(), **link.endpoint.load());
        }
    }
}

/// Waits until `wake` or one of `fds` is readable, or the time is over. Tells which of `fds`.
fn wait(wake: &OwnedFd, fds: &[&dyn AsFd], timeout: Option<Duration>) -> Vec<bool> {
    let mut polled: Vec<_> = std::iter::once(PollFd::new(wake, PollFlags::IN))
        .chain(
            fds.iter()
                .map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)),
        )
        .collect();
    let timeout = timeout.map(|time| rustix::event::Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    });
    if let Err(error) = poll(&mut polled, timeout.as_ref())
        && error != rustix::io::Errno::INTR
    {
        tracing::error!(%error, "waiting for packets");
    }
    if !polled[0].revents().is_empty() {
        let _ = rustix::io::read(wake, &mut [0; 8]);
    }
    polled[1..]
        .iter()
        .map(|fd| !fd.revents().is_empty())
        .collect()
}

// --- out ---

fn run_out(shared: &Shared) {
    let mut outlet = Outlet::new(shared);
    let mut buffer = vec![0; READ_BYTES];
    while !shared.ends.load(Ordering::Acquire) {
        let table = shared.table.load_full();
        let segments: Vec<_> = table.segments.values().cloned().collect();
        let fds: Vec<&dyn AsFd> = segments.iter().map(|s| &*s.device as &dyn AsFd).collect();
        let ready = wait(&shared.wakes[0], &fds, None);
        for (segment, _) in segments.iter().zip(ready).filter(|(_, ready)| *ready) {
            for _ in 0..TURN_FRAMES {
                match segment.device.read(&mut buffer) {
                    Ok(len) => outlet.frame(&table, segment, &mut buffer[..len]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => {
                        tracing::debug!(%error, vni = segment.vni, "reading a network's device");
                        break;
                    }
                }
            }
        }
    }
}

/// Seals frames and sends them in batches.
struct Outlet<'a> {
    shared: &'a Shared,
    scratch: Vec<u8>,
    plain: Vec<u8>,
    batch: Batch,
}

/// Sealed packets of one size, the last of which may be shorter.
struct Batch {
    bytes: Vec<u8>,
    len: usize,
    size: usize,
}

impl<'a> Outlet<'a> {
    fn new(shared: &'a Shared) -> Self {
        Self {
            shared,
            scratch: Vec::with_capacity(READ_BYTES),
            plain: Vec::with_capacity(READ_BYTES),
            batch: Batch {
                bytes: vec![0; BATCH_BYTES + READ_BYTES],
                len: 0,
                size: 0,
            },
        }
    }

    fn frame(&mut self, table: &Table, segment: &Segment, bytes: &mut [u8]) {
        let counters = &self.shared.counters;
        let Some((header, frame)) = bytes.split_first_chunk_mut::<VNET_HEADER_LEN>() else {
            return count(&counters.failed);
        };
        let header = VnetHeader::read(*header);
        let Some((to, _)) = macs(frame) else {
            return count(&counters.failed);
        };
        if to[0] & 1 != 0 {
            return self.answer(segment, frame);
        }
        let peer = segment.peer_of(to).or_else(|| node_of(table, to));
        let link = peer
            .and_then(|peer| table.peers.get(&peer))
            .and_then(|peer| peer.pick());
        match link {
            Some(link) => self.seal(table.index, segment.vni, link, header, frame),
            None => count(&counters.unknown),
        }
    }

    /// Answers an address resolution; every other broadcast ends here.
    fn answer(&self, segment: &Segment, frame: &[u8]) {
        let counters = &self.shared.counters;
        let found =
            neighbour::asked(frame).and_then(|address| Some((address, segment.resolve(address)?)));
        let Some((address, mac)) = found else {
            return count(&counters.unknown);
        };
        let mut bytes = vec![0; VNET_HEADER_LEN];
        bytes.extend(neighbour::answer(frame, address, mac));
        match segment.device.write(&bytes) {
            Ok(()) => count(&counters.answered),
            Err(_) => count(&counters.failed),
        }
    }

    fn seal(&mut self, index: u32, vni: u32, link: &Link, header: VnetHeader, frame: &mut [u8]) {
        let Self {
            shared,
            scratch,
            plain,
            batch,
        } = self;
        let to = **link.endpoint.load();
        let source_port = flow(frame);
        let (from, peer) = (tunnel_address(index), tunnel_address(link.peer));
        let mut tunn = link.lock();
        let done = cut(header, frame, scratch, |packet| {
            plain.clear();
            plain.resize(vxlan::HEADER_LEN, 0);
            plain.extend_from_slice(packet);
            if plain.len() > usize::from(u16::MAX) {
                return count(&shared.counters.failed);
            }
            vxlan::write(plain, from, peer, vni, source_port);
            batch.make_room(plain.len() + WIREGUARD_OVERHEAD_BYTES, |b, size| {
                shared.send(b, size, to)
            });
            match tunn.encapsulate(plain, batch.room()) {
                TunnResult::WriteToNetwork(sealed) => {
                    let len = sealed.len();
                    batch.add(len, |bytes, size| shared.send(bytes, size, to));
                    count(&shared.counters.sealed);
                }
                // Kept by the session until its handshake is done.
                TunnResult::Done => {}
                TunnResult::Err(_)
                | TunnResult::WriteToTunnelV4(..)
                | TunnResult::WriteToTunnelV6(..) => count(&shared.counters.failed),
            }
        });
        drop(tunn);
        if done.is_err() {
            count(&shared.counters.failed);
        }
        batch.flush(|bytes, size| shared.send(bytes, size, to));
    }
}

/// The peer whose bridge on the ingress network has a MAC address.
fn node_of(table: &Table, mac: Mac) -> Option<u32> {
    let index = u32::from_be_bytes([mac[2], mac[3], mac[4], mac[5]]);
    (mac == node_mac(index) && table.peers.contains_key(&index)).then_some(index)
}

impl Batch {
    /// Where the next packet goes.
    fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[self.len..]
    }

    fn make_room(&mut self, len: usize, send: impl FnMut(&[u8], usize)) {
        if self.bytes.len() - self.len < len.max(HANDSHAKE_BYTES) {
            self.flush(send);
        }
    }

    /// Takes up the packet of `len` bytes that was written to [`Self::room`].
    fn add(&mut self, len: usize, mut send: impl FnMut(&[u8], usize)) {
        if self.len == 0 {
            self.size = len;
        } else if len > self.size {
            // A longer one cannot follow: what was gathered goes, and this one comes first.
            send(&self.bytes[..self.len], self.size);
            self.bytes.copy_within(self.len..self.len + len, 0);
            (self.len, self.size) = (0, len);
        }
        self.len += len;
        if len < self.size || self.len >= BATCH_BYTES {
            self.flush(send);
        }
    }

    fn flush(&mut self, mut send: impl FnMut(&[u8], usize)) {
        if self.len > 0 {
            send(&self.bytes[..self.len], self.size);
            self.len = 0;
        }
    }
}

// --- in ---

fn run_in(shared: &Shared) {
    let mut inlet = Inlet {
        shared,
        opened: vec![0; READ_BYTES],
        joiner: Joiner::new(),
        joining: None,
    };
    let mut buffer = vec![0; READ_BYTES];
    while !shared.ends.load(Ordering::Acquire) {
        let sockets: Vec<&Socket> = std::iter::once(&shared.v4).chain(&shared.v6).collect();
        let fds: Vec<&dyn AsFd> = sockets.iter().map(|s| *s as &dyn AsFd).collect();
        let ready = wait(&shared.wakes[1], &fds, None);
        let table = shared.table.load_full();
        for (socket, _) in sockets.iter().zip(ready).filter(|(_, ready)| *ready) {
            for _ in 0..TURN_FRAMES {
                match socket.receive(&mut buffer) {
                    Ok((len, size, from)) => {
                        for datagram in buffer[..len].chunks(size.max(1)) {
                            inlet.datagram(&table, datagram, from);
                        }
                    }
                    // Also what the network told of packets sent before.
                    Err(_) => break,
                }
            }
            inlet.flush();
        }
    }
}

/// Opens packets and gives their frames to the networks.
struct Inlet<'a> {
    shared: &'a Shared,
    opened: Vec<u8>,
    joiner: Joiner,
    joining: Option<Arc<Segment>>,
}

impl Inlet<'_> {
    fn datagram(&mut self, table: &Table, datagram: &[u8], from: SocketAddr) {
        let Some(link) = self.link_of(table, datagram, from) else {
            return count(&self.shared.counters.failed);
        };
        let mut opened = std::mem::take(&mut self.opened);
        let mut input = datagram;
        loop {
            let mut tunn = link.lock();
            let result = tunn.decapsulate(Some(from.ip()), input, &mut opened);
            drop(tunn);
            match result {
                TunnResult::WriteToNetwork(packet) => {
                    self.shared
                        .send(packet, packet.len(), **link.endpoint.load());
                    // There may be packets that waited for the handshake.
                    input = &[];
                    continue;
                }
                TunnResult::WriteToTunnelV4(packet, _) => self.deliver(table, &link, packet),
                TunnResult::Done => {}
                TunnResult::WriteToTunnelV6(..) | TunnResult::Err(_) => {
                    count(&self.shared.counters.failed);
                }
            }
            break;
        }
        self.opened = opened;
    }

    /// The link a datagram belongs to. Nothing costly is done for one without a valid first tag.
    fn link_of(&self, table: &Table, datagram: &[u8], from: SocketAddr) -> Option<Arc<Link>> {
        let slot = match Tunn::parse_incoming_packet(datagram).ok()? {
            Packet::HandshakeInit(_) => return self.link_of_handshake(table, datagram, from),
            Packet::HandshakeResponse(packet) => packet.receiver_idx,
            Packet::PacketCookieReply(packet) => packet.receiver_idx,
            Packet::PacketData(packet) => packet.receiver_idx,
        } >> 8;
        table.links.get(&slot).cloned()
    }

    fn link_of_handshake(
        &self,
        table: &Table,
        datagram: &[u8],
        from: SocketAddr,
    ) -> Option<Arc<Link>> {
        let mut cookie = [0; HANDSHAKE_BYTES];
        for key in &table.keys {
            match key
                .limiter
                .verify_packet(Some(from.ip()), datagram, &mut cookie)
            {
                Ok(Packet::HandshakeInit(packet)) => {
                    let theirs = key.initiator(&packet)?;
                    return table.link_between(key.public, theirs).cloned();
                }
                Err(TunnResult::WriteToNetwork(reply)) => {
                    self.shared.send(reply, reply.len(), from);
                    return None;
                }
                Ok(_) | Err(_) => {}
            }
        }
        None
    }

    fn deliver(&mut self, table: &Table, link: &Link, packet: &[u8]) {
        let counters = &self.shared.counters;
        let carried = vxlan::read(packet).filter(|carried| {
            carried.from == tunnel_address(link.peer) && carried.to == tunnel_address(table.index)
        });
        let Some(carried) = carried else {
            return count(&counters.spoofed);
        };
        let Some(segment) = table.segments.get(&carried.vni) else {
            return count(&counters.unknown);
        };
        let frame = &packet[carried.offset..];
        let Some((to, source)) = macs(frame) else {
            return count(&counters.failed);
        };
        if segment.peer_of(source) != Some(link.peer) && source != node_mac(link.peer) {
            return count(&counters.spoofed);
        }
        if to[0] & 1 != 0 {
            return count(&counters.unknown);
        }
        if self
            .joining
            .as_ref()
            .is_none_or(|joining| !Arc::ptr_eq(joining, segment))
        {
            self.flush();
            self.joining = Some(segment.clone());
        }
        self.joiner
            .push(frame, |bytes| put(segment, bytes, counters));
    }

    fn flush(&mut self) {
        if let Some(segment) = self.joining.take() {
            self.joiner
                .flush(|bytes| put(&segment, bytes, &self.shared.counters));
        }
    }
}

fn put(segment: &Segment, bytes: &[u8], counters: &Counters) {
    match segment.device.write(bytes) {
        Ok(()) => count(&counters.opened),
        Err(error) => {
            tracing::debug!(%error, vni = segment.vni, "giving a frame to a network");
            count(&counters.failed);
        }
    }
}

// --- timers ---

fn run_timers(shared: &Shared) {
    let mut round = 0u32;
    while !shared.ends.load(Ordering::Acquire) {
        let table = shared.table.load_full();
        // With nobody to talk to there is no clock to keep.
        let period = (!table.links.is_empty()).then_some(TIMER_PERIOD);
        wait(&shared.wakes[2], &[], period);
        round = round.wrapping_add(1);
        if round.is_multiple_of(LIMIT_PERIODS) {
            table.keys.iter().for_each(|key| key.limiter.reset_count());
        }
        for peer in table.peers.values() {
            for (place, link) in peer.links.iter().enumerate() {
                // The first link is kept ready by the side that calls; others may fall asleep.
                tick(shared, link, place == 0 && table.index < link.peer);
            }
        }
    }
}

fn tick(shared: &Shared, link: &Link, keep_ready: bool) {
    let mut out = [0; HANDSHAKE_BYTES];
    let mut tunn = link.lock();
    let result = match tunn.update_timers(&mut out) {
        TunnResult::Err(_) if keep_ready => {
            // It gave up, or was idle for so long that its keys were wiped.
            tunn.format_handshake_initiation(&mut out, true)
        }
        result => result,
    };
    drop(tunn);
    if let TunnResult::WriteToNetwork(packet) = result {
        shared.send(packet, packet.len(), **link.endpoint.load());
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
