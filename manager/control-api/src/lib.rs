//! What users ask of the cluster: validation, defaults, views and changes, behind every transport.
//!
//! [`ControlApi`] speaks the nouns of `types` only. The gRPC service in [`grpc`] is one front on
//! it; another front needs no other rules. Reads answer from this manager's own store. Writes are
//! checked here against that store, proposed to the group with the versions they read, and checked
//! again when applied, so any manager can take them.

mod api;
mod client;
mod cluster;
mod config;
mod content;
mod error;
pub mod grpc;
mod join_token;
mod key;
pub mod logs;
mod names;
mod network;
mod node;
mod normalize;
mod root;
mod secret;
mod service;
mod status;
mod task;
pub mod validate;

pub use api::ControlApi;
pub use client::{ClientView, IssuedClient, NewClient};
pub use cluster::{ClusterUpdate, ClusterView, RootRotationView};
pub use config::UpdateConfig;
pub use content::ContentChanged;
pub use error::Error;
pub use join_token::{JoinTokenView, NewJoinToken};
pub use logs::{LogBatch, LogLine, LogOptions, LogSelector, LogSource, LogStream, LogStreamName};
pub use network::{
    Connection, CreatedNetwork, NetworkChecks, NetworkDetails, NetworkPeer, NetworkService,
    NetworkTask, NetworkView, SubnetUse,
};
pub use node::{NodeList, NodeView};
pub use root::RotateRoot;
pub use secret::UpdateSecret;
pub use service::{
    ServiceChanged, ServiceProgress, ServiceView, ServiceWatch, TaskProgress, UpdateService,
};
pub use status::{ClusterStatus, Manager};
pub use validate::Invalid;

#[cfg(test)]
mod testing;
