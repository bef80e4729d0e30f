//! The cluster: its one settings object, with its root of trust.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
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
    /// What managers seal their disks with.
    pub lock: ClusterLock,
    /// Nodes removed while their certificates were still valid, and when to forget them (S11.02).
    pub revoked: BTreeMap<NodeId, Timestamp>,
    /// Keys of the gossip between nodes, the one to send with first.
    pub gossip_keys: Vec<Payload>,
    /// When they were last renewed.
    pub gossip_keys_at: Timestamp,
    /// Who may come in besides the nodes.
    pub access: Access,
    /// Key that seals the content of secrets in the store; empty until the first secret is made.
    pub content_key: Payload,
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
    /// Whether a manager's keys are encrypted on its disk, so that it has to be unlocked after a
    /// restart (F1.02).
    #[serde(rename = "AutoLockManagers")]
    pub autolock_managers: bool,
    /// Settings of networks, fixed when the cluster is made.
    pub network: ClusterNetworkSpec,
    /// Services that sign node certificates in the managers' place (S11.10).
    #[serde(rename = "ExternalCAs")]
    pub external_cas: Vec<ExternalCa>,
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
            autolock_managers: false,
            network: ClusterNetworkSpec::default(),
            external_cas: vec![],
        }
    }
}

/// A service outside the swarm that signs node certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExternalCa {
    /// How it is spoken to.
    pub protocol: ExternalCaProtocol,
    /// `https://…`, where requests are sent.
    #[serde(rename = "URL")]
    pub url: String,
    /// What else the protocol wants to know, as `profile`.
    pub options: BTreeMap<String, String>,
    /// PEM of the root it signs for; empty means the root the swarm has.
    #[serde(rename = "CACert")]
    pub ca_cert_pem: String,
}

/// How a signing service is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExternalCaProtocol {
    /// JSON over HTTPS, as `CloudFlare`'s cfssl takes it.
    #[default]
    Cfssl,
}

impl fmt::Display for ExternalCaProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Cfssl => "cfssl",
        })
    }
}

/// Not a protocol that is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a protocol of an external CA: there is \"cfssl\"")]
pub struct UnknownProtocol(String);

impl FromStr for ExternalCaProtocol {
    type Err = UnknownProtocol;

    fn from_str(text: &str) -> Result<Self, UnknownProtocol> {
        match text {
            "cfssl" => Ok(Self::Cfssl),
            other => Err(UnknownProtocol(other.to_owned())),
        }
    }
}

/// The unlock key, and how often managers were told to change their keys (S10.13).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ClusterLock {
    /// `SWMKEY-1-...`; empty while managers are not locked.
    pub unlock_key: String,
    /// Counts changes of the unlock key, its introduction and its end included. A manager's key
    /// file says which one it has followed.
    pub key_version: u64,
    /// Counts orders to replace the keys that seal managers' logs.
    pub data_key_epoch: u64,
}

impl fmt::Debug for ClusterLock {
    /// Shows everything but the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterLock")
            .field("is_locked", &!self.unlock_key.is_empty())
            .field("key_version", &self.key_version)
            .field("data_key_epoch", &self.data_key_epoch)
            .finish_non_exhaustive()
    }
}

/// Root certificate, its key and the two join secrets. Never serialized for users as a whole.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RootCaState {
    /// PEM of the root, the exact bytes whose digest join tokens carry. While it is replaced, nodes
    /// trust its successor as well: see [`RootCaState::bundle_pem`].
    pub cert_pem: String,
    /// PEM of the signing key; empty when only an external CA has it.
    pub key_pem: String,
    /// Token that joins as worker.
    pub worker_token: String,
    /// Token that joins as manager.
    pub manager_token: String,
    /// The root that is to follow, while nodes change over to it.
    pub rotation: Option<RootRotation>,
    /// Each root that was replaced vouches for its successor: PEM certificates of the later root's
    /// key signed by the earlier one, oldest first. A node that was off meanwhile follows them.
    pub lineage: Vec<String>,
}

impl RootCaState {
    /// PEM of every root nodes trust: the present one, and the one that is to follow.
    #[must_use]
    pub fn bundle_pem(&self) -> String {
        let next = self.rotation.as_ref().map_or("", |next| &next.cert_pem);
        let mut bundle = self.cert_pem.clone();
        if !next.is_empty() && !bundle.ends_with('\n') {
            bundle.push('\n');
        }
        bundle + next
    }
}

/// A root on its way in.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RootRotation {
    /// PEM of the root that is to follow.
    pub cert_pem: String,
    /// PEM of its key; empty when only an external CA has it.
    pub key_pem: String,
    /// PEM of a certificate for its key, signed by the present root: who trusts only that one
    /// accepts certificates of the next through it.
    pub cross_signed_pem: String,
    /// Whether nodes that are down are not waited for.
    pub skip_unreachable: bool,
    /// When it began.
    pub started_at: Timestamp,
}

impl fmt::Debug for RootRotation {
    /// Shows no key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RootRotation")
            .field("cert_pem", &self.cert_pem)
            .field("skip_unreachable", &self.skip_unreachable)
            .field("started_at", &self.started_at)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for RootCaState {
    /// Shows the certificate only: logs must never carry the key or a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RootCaState")
            .field("cert_pem", &self.cert_pem)
            .finish_non_exhaustive()
    }
}
