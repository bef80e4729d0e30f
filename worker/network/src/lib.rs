//! The networks of a node's containers: links, addresses, forwarding, and their repair.
//!
//! What the kernel holds is a pure function of what managers told the node ([`View`]) and of its
//! own containers ([`Sandbox`]): `desired` computes it, `plan` compares it with what `observe`
//! read, and `machine` makes the changes. Everything is made in the machine's own network
//! namespace, under names that begin with `sw-`, or inside the namespace of a container, which goes
//! with it. So nothing is lost when the daemon dies, and nothing can be left behind: what begins
//! with `sw-` and is not wanted is removed.
//!
//! An overlay is a bridge without addresses, with one VXLAN port per subnet and address family of
//! the nodes. It learns nothing and floods nothing to other nodes: forwarding entries and the
//! neighbours the bridge answers for are those of the view. An encrypted one has a TAP device for a
//! port instead: another process makes it and carries what it takes ([`Network::encryption`] says
//! what), and the packet filter is told first that nothing of it passes in clear.
//!
//! Virtual addresses, published ports and the way out are the packet filter's ([`nft`]); `filter`
//! says what it is told.
//!
//! One thread owns everything ([`Network`] is its handle): the kernel has one lock for all of this
//! anyway.

mod counters;
mod desired;
mod encrypted;
mod error;
mod filter;
mod held;
mod inside;
mod keeper;
mod listeners;
mod local;
mod machine;
mod message;
mod mtu;
mod namespace;
mod network;
mod observe;
mod options;
mod places;
mod plan;
mod records;
mod sandbox;
mod socket;
mod state;
mod verified;
mod view;

pub use counters::Counts;
pub use error::Error;
pub use filter::NAMES_PORT;
pub use network::{Adjusted, Network};
pub use options::Options;
pub use plan::Kind;
pub use sandbox::{Base, DeviceKind, Interface, Sandbox};
pub use state::LinkName;
pub use verified::{Found, Verified};
pub use view::{DEFAULT_BRIDGE, View};
