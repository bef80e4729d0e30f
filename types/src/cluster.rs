//! The cluster: its one settings object, with its root of trust.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::access::Access;
use crate::network::DATA_PATH_PORT_DEFAULT;
use crate::{ClusterId, Labels, Meta, NodeId, Payload, Timestamp};

/// Name of the one cluster object (S1.08).
pub const CLUSTER_NAME: &str = "default";

/// The whole swarm's settings and secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Its id, the O of every certificate.
    pub id: ClusterId,
    /// Version and times.
    pub meta: Meta,
    /// What the user asked.
    pub spec: ClusterSpec,
    /// The certificate authority.
    pub root_ca: RootCaState,
    /// Nodes removed while their certificates were still valid, and when to forget them (S11.02).
    pub revoked: BTreeMap<NodeId, Timestamp>,
    /// Keys of the gossip between nodes, the one to send with first.
    pub gossip_keys: Vec<Payload>,
    /// Who may come in besides the nodes.
    pub access: Access,
}

/// Settings a user may change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ClusterSpec {
    /// Labels of the cluster.
    pub labels: Labels,
    /// Tasks kept per slot, the live one included; negative keeps all (S3.01).
    pub task_history_limit: i64,
    /// How often an agent tells that it lives.
    #[serde(with = "crate::duration")]
    pub heartbeat_period: Duration,
    /// How long a broken session may be resumed before its node counts as down.
    #[serde(with = "crate::duration")]
    pub disconnect_grace: Duration,
    /// Log entries between snapshots.
    pub snapshot_interval: u64,
    /// Life of a node certificate.
    #[serde(with = "crate::duration")]
    pub node_cert_expiry: Duration,
    /// Settings of networks, fixed when the cluster is made.
    pub network: ClusterNetworkSpec,
}

/// Settings of networks, fixed when the cluster is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ClusterNetworkSpec {
    /// Pools that subnets are cut from, each with the prefix length of the pieces.
    pub pools: Vec<SubnetPool>,
    /// UDP port of VXLAN on every node.
    pub data_path_port: u16,
    /// Every overlay is encrypted, asked for or not.
    pub encrypt_all: bool,
}

impl Default for ClusterNetworkSpec {
    fn default() -> Self {
        Self {
            pools: vec![],
            data_path_port: DATA_PATH_PORT_DEFAULT,
            encrypt_all: false,
        }
    }
}

/// A pool that subnets are cut from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SubnetPool {
    /// All of it.
    pub base: IpNet,
    /// Prefix length of the pieces.
    pub size: u8,
}

impl Default for ClusterSpec {
    /// Swarm's defaults but for the heartbeat: 1 s instead of 5 s, three of which make a node down.
    fn default() -> Self {
        Self {
            labels: Labels::new(),
            task_history_limit: 5,
            heartbeat_period: Duration::from_secs(1),
            disconnect_grace: Duration::from_millis(1500),
            snapshot_interval: 10_000,
            node_cert_expiry: Duration::from_secs(90 * 24 * 3600),
            network: ClusterNetworkSpec::default(),
        }
    }
}

/// Root certificate, its key and the two join secrets. Never serialized for users as a whole.
#[derive(Clone, PartialEq, Eq)]
pub struct RootCaState {
    /// PEM bundle of the trusted roots, the exact bytes whose digest join tokens carry.
    pub cert_pem: String,
    /// PEM of the signing key.
    pub key_pem: String,
    /// Token that joins as worker.
    pub worker_token: String,
    /// Token that joins as manager.
    pub manager_token: String,
}

impl fmt::Debug for RootCaState {
    /// Shows the certificate only: logs must never carry the key or a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RootCaState")
            .field("cert_pem", &self.cert_pem)
            .finish_non_exhaustive()
    }
}
