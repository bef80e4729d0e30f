//! The wire formats: generated messages and services, and their conversions to the nouns.
//!
//! A message is only a format: past the edge of a component everything is a type of the `types`
//! crate. Conversions towards the wire cannot fail; those from it report which field was wrong.

/// The objects of the cluster.
pub mod objects {
    #![allow(missing_docs, clippy::all, reason = "generated")]
    tonic::include_proto!("swarm.objects.v1");
}
/// Transactions and snapshots of the store.
pub mod store {
    #![allow(missing_docs, clippy::all, reason = "generated")]
    tonic::include_proto!("swarm.store.v1");
}
/// Issuing identity.
pub mod ca {
    #![allow(missing_docs, clippy::all, reason = "generated")]
    tonic::include_proto!("swarm.ca.v1");
}
/// Between managers.
pub mod raft {
    #![allow(missing_docs, clippy::all, reason = "generated")]
    tonic::include_proto!("swarm.raft.v1");
}
/// Between agents and the leader.
pub mod dispatcher {
    #![allow(missing_docs, clippy::all, reason = "generated")]
    tonic::include_proto!("swarm.dispatcher.v1");
}
/// Container output.
pub mod logs {
    #![allow(missing_docs, clippy::all, reason = "generated")]
    tonic::include_proto!("swarm.logs.v1");
}
/// What users ask of the cluster.
pub mod control {
    #![allow(missing_docs, clippy::all, reason = "generated")]
    tonic::include_proto!("swarm.control.v1");
}
/// What a local user asks of the daemon.
pub mod daemon {
    #![allow(missing_docs, clippy::all, reason = "generated")]
    tonic::include_proto!("swarm.daemon.v1");
}
