//! The routing mesh: published ports on a node, and the way back that keeps the client's address.
//!
//! A node that is asked translates only the destination. The frame reaches the task with the MAC
//! address of that node's ingress bridge as its source; the task's namespace remembers it with the
//! connection and sends the answers there, where the translation is undone. So the task sees the
//! client itself, and what is needed does not grow with the number of nodes.
//!
//! What the caller does besides, with links and routes:
//! - On a node: forwarding on; `route_localnet` on the ingress bridge and on the outbound ones, if
//!   127.0.0.1 shall reach published ports; `nf_call_iptables` and `nf_call_ip6tables` off on the
//!   ingress bridge; hairpin mode on the ports of outbound bridges, for containers that call their
//!   own published port; the ingress bridge's MAC address [`NODE_MAC_PREFIX`] and four bytes of an index below
//!   [`NODE_INDEX_END`], the same that FDB entries of other nodes name.
//! - In a task's namespace: `rp_filter` off on the ingress interface; a rule `fwmark`
//!   [`MARK`]`/`[`MARK`] to a table whose default route goes out of the ingress interface by a
//!   gateway with a permanent neighbour entry (any MAC address: it is overwritten); a default route
//!   in the main table too, since a handshake is answered by that one before it is marked.
//! - A listener that holds a published port must not accept: bind it and do not listen.

mod node;
mod way_back;

pub use node::{Node, Outbound, Subnet, Surroundings};
pub use way_back::WayBack;

use crate::expression::{Expressions, Header, Register};

/// Beginning of the MAC address of every node's ingress bridge.
pub const NODE_MAC_PREFIX: [u8; 2] = [0x02, 0x4e];

/// Indices of nodes are below this, so that [`MARK`] stays free.
pub const NODE_INDEX_END: u32 = MARK;

/// The bit that marks packets and connections of the mesh; the rest is the index of the node.
pub const MARK: u32 = 0x8000_0000;

/// Lowers what the packet's handshake allows as size of a segment to what fits its route, and the
/// route back.
fn clamp_handshake(rule: Expressions) -> Expressions {
    const TCP: u8 = 6;
    const FLAGS: u32 = 13;
    const SYN_AND_RST: u8 = 6;
    const SYN: u8 = 2;
    rule.protocol_is(Register(0), TCP)
        .payload(Register(0), Header::Transport, FLAGS, 1)
        .bits(Register(0), &[SYN_AND_RST], &[0])
        .equals(Register(0), &[SYN])
        .clamp_segment_size(Register(0))
}
