//! Encrypted overlays: WireGuard between nodes in user space, one TAP device per network.
//!
//! A network's bridge has a TAP device of ours for a port instead of the kernel's VXLAN device.
//! Frames for other nodes are read there, wrapped as VXLAN (so that a node with kernel WireGuard
//! and kernel VXLAN understands them), sealed by WireGuard for the node that holds the
//! destination's MAC address, and sent. Nothing of such a network has another way out of the
//! node: without a tunnel its packets go nowhere, never in the clear.
//!
//! Managers say which MAC address is on which node ([`Desired`]); nothing is learnt and nothing is
//! flooded, and address resolution is answered here. A frame counts only when it comes from a
//! MAC address that its node holds.
//!
//! Threads: `tunnel-out` reads the devices, `tunnel-in` the sockets, `tunnel-timers` drives
//! handshakes. They end with the [`Tunnel`].

mod coalesce;
mod device;
mod engine;
mod frame;
mod neighbour;
mod peers;
mod segment;
mod socket;
mod table;
mod vxlan;

use std::net::{IpAddr, Ipv4Addr};

pub use engine::{Counters, Tunnel};
pub use peers::{PrivateKey, PublicKey};
use types::network::Mac;

/// UDP port of WireGuard between nodes: WireGuard's customary one.
pub const PORT: u16 = types::network::ENCRYPTED_PORT;

/// What WireGuard adds to a packet, in bytes: its header of 16 and the tag of 16.
pub const WIREGUARD_OVERHEAD_BYTES: usize = 32;

/// What is added to a frame before it is sealed, in bytes: IPv4, UDP and VXLAN headers.
pub const VXLAN_OVERHEAD_BYTES: usize = vxlan::HEADER_LEN;

/// All that the data plane of encrypted networks must be. Given whole; the difference is found here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// This node's index; 0 while it has none, and then nothing passes.
    pub index: u32,
    /// This node's keys, the one to send with first. Others are still answered to.
    pub keys: Vec<PrivateKey>,
    /// The other nodes.
    pub peers: Vec<PeerNode>,
    /// The encrypted networks this node takes part in.
    pub networks: Vec<EncryptedNetwork>,
}

/// A node at the other end of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerNode {
    /// Its index, from 1.
    pub index: u32,
    /// Where its packets go.
    pub address: IpAddr,
    /// UDP port of its WireGuard.
    pub port: u16,
    /// Its public keys, the one to send to first.
    pub keys: Vec<PublicKey>,
}

/// One VXLAN segment of an encrypted network on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncryptedNetwork {
    /// Its VXLAN network identifier.
    pub vni: u32,
    /// Name of its TAP device, at most 15 bytes; made when missing.
    pub device: String,
    /// Largest packet of the segment in bytes, Ethernet header not counted.
    pub mtu: u32,
    /// Everything with an address on it.
    pub stations: Vec<Station>,
}

/// A holder of addresses on a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Station {
    /// Its MAC address.
    pub mac: Mac,
    /// Addresses that resolve to it.
    pub addresses: Vec<IpAddr>,
    /// Index of its node; none when it is on this one.
    pub peer: Option<u32>,
}

/// What went wrong with the data plane of encrypted networks.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A device could not be made.
    #[error("making the device {name} of an encrypted network")]
    Device {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The port could not be bound.
    #[error("binding UDP port {port} for encrypted networks")]
    Bind {
        /// The port.
        port: u16,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A thread, timer or wake-up could not be made.
    #[error("starting the threads of encrypted networks")]
    Start(#[source] std::io::Error),
}

/// Address of a node inside the tunnels. Class E is routed by nobody, so it clashes with nothing.
#[must_use]
pub fn tunnel_address(index: u32) -> Ipv4Addr {
    Ipv4Addr::from(0xf000_0000_u32.wrapping_add(index & 0x0fff_ffff))
}
