//! The daemon's side of the datapath process: what it is told, how it is started and found again.
//!
//! The process answers DNS in the sandboxes, gossips about which nodes live and carries encrypted
//! networks; it outlives the daemon. The daemon only ever says what is to be ([`Datapath`]): a [`Service`] keeps the process
//! told, starts it when there is something to do, and tells it everything again after either of the
//! two was replaced.

pub mod channel;
mod client;
mod desired;
mod error;
mod gossip;
pub mod message;
mod program;
mod record;
pub mod resolv_conf;
mod sandbox;
mod service;
mod socket;
mod status;

pub use client::{Datapath, Options};
pub use error::Error;
pub use gossip::{GossipKey, GossipView, Liveness, Peer, PeerStates};
pub use program::ProgramSource;
pub use record::{NetworkRecords, RecordSet, TaskRecord};
pub use sandbox::{BoundPorts, Forwarding, Origin, SERVERS_MAX, SandboxId, SandboxView};
pub use service::Service;
pub use socket::{bind, connect};
pub use status::{NetworkStatus, Status, TunnelStatus};

/// Address DNS answers at in every sandbox, Docker's.
pub const DNS_ADDRESS: std::net::Ipv4Addr = std::net::Ipv4Addr::new(127, 0, 0, 11);

/// Version of what daemon and process say to each other. Fields may be added without a new one.
pub const PROTOCOL: u32 = 1;
