//! The wire formats: generated messages and services, and their conversions to the nouns.
//!
//! A message is only a format: past the edge of a component everything is a type of the `types`
//! crate. Conversions towards the wire cannot fail; those from it report which field was wrong.

pub mod convert;
mod fingerprint;

pub use convert::ConvertError;
pub use fingerprint::fingerprint;

/// Path of every RPC there is, so that none is forgotten where each needs a decision.
pub const RPCS: &[&str] = include!(concat!(env!("OUT_DIR"), "/rpcs.rs"));

/// Decodes the bytes of an RPC's request and forgets them: what a server does before anything else.
/// None when there is no such RPC.
///
/// # Errors
/// When the bytes are no such message.
pub fn decode_request(path: &str, bytes: &[u8]) -> Option<Result<(), prost::DecodeError>> {
    use prost::Message as _;
    include!(concat!(env!("OUT_DIR"), "/decode_request.rs"))
}

mod packages {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::too_many_lines,
        clippy::disallowed_methods,
        clippy::unwrap_used,
        clippy::allow_attributes_without_reason,
        reason = "generated"
    )]
    include!(concat!(env!("OUT_DIR"), "/packages.rs"));
}

/// Issuing identity.
pub use packages::swarm::ca::v1 as ca;
/// What users ask of the cluster.
pub use packages::swarm::control::v1 as control;
/// What a local user asks of the daemon.
pub use packages::swarm::daemon::v1 as daemon;
/// Between agents and the leader.
pub use packages::swarm::dispatcher::v1 as dispatcher;
/// Container output.
pub use packages::swarm::logs::v1 as logs;
/// The objects of the cluster.
pub use packages::swarm::objects::v1 as objects;
/// Between managers.
pub use packages::swarm::raft::v1 as raft;
/// Transactions and snapshots of the store.
pub use packages::swarm::store::v1 as store;
