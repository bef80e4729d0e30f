//! What a task runs: the container part of a service's spec.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Labels;
use crate::secret::{ConfigReference, SecretReference};

/// Grace between stop signal and kill when the spec names none (S22.04).
pub const STOP_GRACE_DEFAULT: Duration = Duration::from_secs(10);

/// What to run and how it is confined.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerSpec {
    /// Image reference, as the user wrote it or with a digest added.
    pub image: String,
    /// Labels of the container.
    pub labels: Labels,
    /// Replaces the image's entrypoint when not empty.
    pub command: Vec<String>,
    /// Replaces the image's command when not empty.
    pub args: Vec<String>,
    /// Host name inside; empty means the task's id, shortened.
    pub hostname: String,
    /// `NAME=value`, later ones win over the image's.
    pub env: Vec<String>,
    /// Working directory; empty means the image's.
    pub dir: String,
    /// `user[:group]` by name or number; empty means the image's.
    pub user: String,
    /// Additional groups, by name or number.
    pub groups: Vec<String>,
    /// Signal that asks the container to stop (`SIGTERM`, `15`); empty means the image's.
    pub stop_signal: String,
    /// Time between stop signal and kill.
    #[serde(with = "optional_nanos")]
    pub stop_grace_period: Option<Duration>,
    /// File systems to mount.
    pub mounts: Vec<Mount>,
    /// Mount the root file system read-only.
    pub read_only: bool,
    /// Capabilities beyond the default set, `CAP_…` or `ALL`.
    pub capability_add: Vec<String>,
    /// Capabilities taken out of the default set, `CAP_…` or `ALL`.
    pub capability_drop: Vec<String>,
    /// Resource limits of the processes.
    pub ulimits: Vec<Ulimit>,
    /// How to tell whether the container works; none takes the image's.
    pub healthcheck: Option<Healthcheck>,
    /// Secrets its tasks see.
    pub secrets: Vec<SecretReference>,
    /// Configs its tasks see.
    pub configs: Vec<ConfigReference>,
    /// How names are found that its networks do not know.
    #[serde(rename = "DNSConfig")]
    pub dns: DnsConfig,
    /// Names the containers know by themselves.
    pub hosts: Vec<HostAlias>,
}

impl ContainerSpec {
    /// The grace period in force.
    #[must_use]
    pub fn stop_grace(&self) -> Duration {
        self.stop_grace_period.unwrap_or(STOP_GRACE_DEFAULT)
    }
}

/// How names are found; what is empty is as on the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DnsConfig {
    /// Servers, in the order they are asked.
    pub nameservers: Vec<IpAddr>,
    /// Domains tried after a name; a single `.` is none at all.
    pub search: Vec<String>,
    /// Options of the resolver, like `ndots:2`.
    pub options: Vec<String>,
}

/// A name that containers know by themselves; written `IP NAME`, as in `/etc/hosts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct HostAlias {
    /// What it stands for.
    pub address: IpAddr,
    /// The name.
    pub name: String,
}

impl std::fmt::Display for HostAlias {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.address, self.name)
    }
}

impl From<HostAlias> for String {
    fn from(alias: HostAlias) -> Self {
        alias.to_string()
    }
}

impl TryFrom<String> for HostAlias {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let malformed = || format!("{text:?} is not an address and a name with a blank between");
        let (address, name) = text.split_once(' ').ok_or_else(malformed)?;
        Ok(Self {
            address: address.parse().map_err(|_| malformed())?,
            name: name.to_owned(),
        })
    }
}

/// How to tell whether a container works; zero durations and counts mean the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", command]`; empty inherits the image's.
    #[serde(deserialize_with = "null_as_default")]
    pub test: Vec<String>,
    /// Time between checks; 30 s by default.
    #[serde(with = "crate::duration")]
    pub interval: Duration,
    /// Time one check may take; 30 s by default.
    #[serde(with = "crate::duration")]
    pub timeout: Duration,
    /// Time after the start in which failures do not count; none by default.
    #[serde(with = "crate::duration")]
    pub start_period: Duration,
    /// Time between checks until the first good one within the start period; 5 s by default.
    #[serde(with = "crate::duration")]
    pub start_interval: Duration,
    /// Failures in a row that make the container unhealthy; 3 by default.
    pub retries: u32,
}

/// Documents of images may say `null` for what is empty.
fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A file system mounted into the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Mount {
    /// What kind of file system.
    #[serde(rename = "Type")]
    pub kind: MountKind,
    /// Path on the node for a bind mount; empty for tmpfs.
    pub source: String,
    /// Absolute path in the container.
    pub target: String,
    /// Mounted read-only.
    pub read_only: bool,
    /// Size limit of a tmpfs in bytes; zero means the kernel's default.
    pub tmpfs_size_bytes: u64,
    /// Mode of a tmpfs's root; zero means 1777.
    pub tmpfs_mode: u32,
}

/// Kinds of mounts a service can have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// A directory or file of the node.
    #[default]
    Bind,
    /// Memory.
    Tmpfs,
}

/// One resource limit, by the names of `ulimit` (`nofile`, `nproc`…).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Ulimit {
    /// Name of the limit.
    pub name: String,
    /// Soft value; -1 means unlimited.
    pub soft: i64,
    /// Hard value; -1 means unlimited.
    pub hard: i64,
}

mod optional_nanos {
    //! `null` or whole nanoseconds.
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(v: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
        match v {
            Some(v) => s.serialize_some(&u64::try_from(v.as_nanos()).unwrap_or(u64::MAX)),
            None => s.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(d)?.map(Duration::from_nanos))
    }
}
