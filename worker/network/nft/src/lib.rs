//! Load balancing and the routing mesh in the kernel's packet filter, by netlink alone.
//!
//! - [`Balancer`]: virtual addresses of services, in the namespace of the task that calls them.
//! - [`mesh`]: published ports on a node, and the way back out of a task's namespace that keeps
//!   the client's address.
//! - [`sealed`]: nothing of an encrypted network passes in clear.
//!
//! Everything blocks and knows no async runtime; a call takes from a fraction of a millisecond to
//! some tenths of a second. Each namespace has its own socket, opened inside it.

mod attribute;
mod balancer;
mod change;
mod compile;
mod conntrack;
mod dump;
mod error;
mod expression;
mod forwarder;
pub mod mesh;
mod picker;
pub mod sealed;
mod service;
mod slots;
mod socket;
mod table;
mod transaction;

pub use balancer::Balancer;
pub use error::{Error, Result};
pub use forwarder::{Applied, Difference, Size};
pub use service::{Affinity, Backend, Frontend, Port, Protocol, SLOTS_MAX, Service, Services};
