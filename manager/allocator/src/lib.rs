//! What tasks, services and networks hold: addresses, ports, subnets, VXLAN identifiers, keys.
//!
//! [`Allocator`] gives a network its subnets, a service its virtual addresses and ports, and a NEW
//! task its addresses, and moves the task to PENDING in the same action. [`GossipKeys`] renews the
//! keys of the gossip between nodes. Both work from the stored state: who holds what is an index of
//! the store, and so is the address given last, so a new leader goes on where the old one stopped.

mod allocator;
mod gossip_keys;
mod service;
mod task;

#[cfg(test)]
mod fixture;

pub use allocator::Allocator;
pub use gossip_keys::GossipKeys;

use store::Planner;

/// Every leader loop that gives out something of the network but the allocator itself, which the
/// orchestrator lists among its own.
#[must_use]
pub fn planners() -> Vec<Box<dyn Planner>> {
    vec![Box::new(GossipKeys)]
}
