//! The nouns of the cluster: ids, specs, objects and task states; no IO, no tokio, no prost.
//!
//! A type lives here when more than one crate speaks of it. Field names in JSON are those of
//! Docker's API, so that `--format` templates and scripts carry over.

pub mod access;
pub mod check;
pub mod cluster;
pub mod constraint;
pub mod container_spec;
pub mod duration;
pub mod id;
pub mod network;
pub mod node;
pub mod payload;
pub mod reach;
pub mod secret;
pub mod service;
pub mod task;
pub mod task_state;
pub mod timestamp;
pub mod update;

pub use cluster::{Cluster, ClusterSpec};
pub use container_spec::ContainerSpec;
pub use id::{ClientId, ClusterId, ConfigId, NetworkId, NodeId, SecretId, ServiceId, TaskId};
pub use network::{Network, NetworkSpec};
pub use node::{Node, NodeRole, NodeSpec};
pub use payload::Payload;
pub use secret::{Config, ConfigSpec, Secret, SecretSpec};
pub use service::{Service, ServiceSpec};
pub use task::{Task, TaskSpec, TaskStatus};
pub use task_state::TaskState;
pub use timestamp::Timestamp;

use serde::{Deserialize, Serialize};

/// The store index at which an object last changed. Zero means: not stored yet.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "PascalCase")]
pub struct Version {
    /// Raft log index of the transaction that last wrote the object.
    pub index: u64,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.index.fmt(f)
    }
}

/// What every stored object carries besides its id; the store alone writes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Meta {
    /// When the object last changed, as a store index.
    pub version: Version,
    /// When the object was created, by the clock of the manager that proposed it.
    pub created_at: Timestamp,
    /// When the object last changed, by the clock of the manager that proposed it.
    pub updated_at: Timestamp,
}

/// User-given labels, ordered so that every listing is stable.
pub type Labels = std::collections::BTreeMap<String, String>;
