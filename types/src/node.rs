//! Nodes: the machines of the cluster.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::task::{Platform, Resources};
use crate::{Labels, Meta, NodeId};

/// A machine of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Node {
    /// Its id, the CN of its certificate.
    #[serde(rename = "ID")]
    pub id: NodeId,
    /// Version and times.
    #[serde(flatten)]
    pub meta: Meta,
    /// What the user asked of it.
    pub spec: NodeSpec,
    /// The role of the certificate it was last given.
    #[serde(rename = "ObservedRole")]
    pub role: NodeRole,
    /// What its agent told of it, once it has registered.
    pub description: Option<NodeDescription>,
    /// What the dispatcher knows of it.
    pub status: NodeStatus,
    /// Its part in the Raft group, if it is a member.
    pub manager_status: Option<ManagerStatus>,
    /// Small number of its own, from which addresses of the data plane follow; 0 until given.
    pub network_index: u32,
    /// What the managers certified for it.
    #[serde(skip)]
    pub certificate: NodeCertificate,
}

impl Node {
    /// Host name, or the id while none was told.
    #[must_use]
    pub fn hostname(&self) -> String {
        self.description.as_ref().map_or_else(
            || self.id.to_string(),
            |description| description.hostname.clone(),
        )
    }
}

/// What the managers certified for a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeCertificate {
    /// Keys by which it is known: of its latest certificate, and of the one that it asked for that
    /// one with, should the answer have been lost. With one of them it may come back when its
    /// certificate has run out.
    pub keys: Vec<KeyDigest>,
    /// It is told to renew at once: the root changes.
    pub renew_now: bool,
}

/// SHA-256 of a public key, as it stands in a certificate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyDigest(pub [u8; 32]);

impl std::fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyDigest({self})")
    }
}

impl std::fmt::Display for KeyDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What the user asks of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NodeSpec {
    /// Labels for constraints and preferences.
    pub labels: Labels,
    /// Manager or worker.
    pub role: NodeRole,
    /// Whether it takes tasks.
    pub availability: Availability,
}

/// Manager or worker.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum NodeRole {
    /// Runs tasks.
    #[default]
    Worker,
    /// Also takes part in Raft and serves users.
    Manager,
}

impl std::fmt::Display for NodeRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Worker => "worker",
            Self::Manager => "manager",
        })
    }
}

/// Whether a node takes tasks (S19.01).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Availability {
    /// Takes tasks.
    #[default]
    Active,
    /// Keeps its tasks, takes no new ones.
    Pause,
    /// Gives its tasks away.
    Drain,
}

impl std::fmt::Display for Availability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Active => "active",
            Self::Pause => "pause",
            Self::Drain => "drain",
        })
    }
}

/// What a node's agent tells of its machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NodeDescription {
    /// Host name; need not be unique.
    pub hostname: String,
    /// Operating system and architecture.
    pub platform: Platform,
    /// Processors and memory.
    pub resources: Resources,
    /// Release of the daemon.
    pub engine_version: String,
    /// Labels given to the daemon on its machine.
    pub engine_labels: Labels,
    /// How its data plane is reached.
    pub network: NodeNetwork,
    /// Whom it trusts, and who issued its certificate.
    #[serde(rename = "TLSInfo", skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsInfo>,
}

/// How a node's data plane is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NodeNetwork {
    /// Where others send VXLAN and WireGuard packets: at most one address of each family.
    pub data_path: Vec<IpAddr>,
    /// Its WireGuard public keys, the one to use first.
    pub wireguard_keys: Vec<[u8; 32]>,
}

/// Whom a node trusts and who issued its certificate, as the node tells it. Shows how far the
/// replacement of the root has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TlsInfo {
    /// `sha256:` and the digest of the PEM bundle of its roots, in hexadecimal.
    pub trust_root_digest: String,
    /// The issuer's name: base64 of its DER.
    pub cert_issuer_subject: String,
    /// The issuer's public key: base64 of its DER.
    pub cert_issuer_public_key: String,
}

/// What the dispatcher knows of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NodeStatus {
    /// Whether it can be reached.
    pub state: NodeState,
    /// Why.
    pub message: String,
    /// The address it was last seen at.
    pub addr: Option<IpAddr>,
}

/// Whether a node can be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// Not heard of since the leader changed.
    #[default]
    Unknown,
    /// Gone: its tasks are replaced.
    Down,
    /// In session.
    Ready,
    /// Left on purpose.
    Disconnected,
}

impl std::fmt::Display for NodeState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Unknown => "unknown",
            Self::Down => "down",
            Self::Ready => "ready",
            Self::Disconnected => "disconnected",
        })
    }
}

/// A manager's part in the Raft group. Leader and reachability are observed, not stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ManagerStatus {
    /// Its member id.
    #[serde(rename = "RaftID")]
    pub raft_id: u64,
    /// `ip:port` other nodes reach it at.
    pub addr: String,
}
