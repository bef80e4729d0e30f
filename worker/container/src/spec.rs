//! The specification of one container, as the daemon hands it to a shim.
//!
//! The meaning of every field is that of the OCI runtime specification; the shape is ours. The
//! `oci-spec` crate was weighed and left: its types say by strings and optional lists what this
//! runtime needs as choices (a layer stack instead of a root path, a user name resolved inside the
//! image, capabilities as Docker's additions and removals), they hold much that a task can never
//! ask for, and they would put 30 crates into a shim that is started once per container.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Everything a shim needs to make one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSpec {
    /// Directories stacked as the root file system, the topmost layer first. Never written to.
    pub layers: Vec<PathBuf>,
    /// The program and its arguments. A name without `/` is looked up in the environment's `PATH`.
    pub args: Vec<String>,
    /// `NAME=value` pairs. `PATH`, `HOME` and `HOSTNAME` are added when missing.
    pub env: Vec<String>,
    /// Working directory inside the container; made when missing. Empty means `/`.
    pub cwd: String,
    /// `user`, `uid`, `user:group` or `uid:gid`, resolved in the image. Empty means root.
    pub user: String,
    /// Groups besides the user's own, by name or number.
    pub additional_groups: Vec<String>,
    /// The host name; with [`Network::Host`] an empty one means the machine's.
    pub hostname: String,
    /// Whether the root file system refuses writes (mounts in it do not).
    pub readonly_rootfs: bool,
    /// Mounts besides the usual `/proc`, `/sys` and `/dev`. One on the target of a usual mount
    /// replaces it.
    pub mounts: Vec<Mount>,
    /// Changes to the default set of capabilities.
    pub capabilities: CapabilityChanges,
    /// Whether set-user-id programs gain nothing.
    pub no_new_privileges: bool,
    /// The filter of system calls.
    pub seccomp: Seccomp,
    /// Per-process limits.
    pub rlimits: Vec<Rlimit>,
    /// Limits of the container as a whole.
    pub resources: Resources,
    /// From -1000 (never killed for memory) to 1000 (first).
    pub oom_score_adj: i32,
    /// Kernel parameters of the container's own namespaces, as `net.core.somaxconn`.
    pub sysctls: BTreeMap<String, String>,
    /// The network the container sees.
    pub network: Network,
    /// Lines added to `/etc/hosts`.
    pub extra_hosts: Vec<HostEntry>,
    /// What `/etc/resolv.conf` says; `None` copies the machine's.
    pub dns: Option<Dns>,
    /// Size of `/dev/shm` in bytes.
    pub shm_size_bytes: u64,
    /// Paths that look empty inside.
    pub masked_paths: Vec<String>,
    /// Paths that refuse writes inside.
    pub readonly_paths: Vec<String>,
    /// Whether a minimal init runs the program as its child: it reaps orphans and passes signals on.
    pub init: bool,
    /// How much output is kept.
    pub log: LogOptions,
}

impl Default for ContainerSpec {
    fn default() -> Self {
        Self {
            layers: Vec::new(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: String::new(),
            user: String::new(),
            additional_groups: Vec::new(),
            hostname: String::new(),
            readonly_rootfs: false,
            mounts: Vec::new(),
            capabilities: CapabilityChanges::default(),
            no_new_privileges: false,
            seccomp: Seccomp::Default,
            rlimits: Vec::new(),
            resources: Resources::default(),
            oom_score_adj: 0,
            sysctls: BTreeMap::new(),
            network: Network::Own,
            extra_hosts: Vec::new(),
            dns: None,
            shm_size_bytes: SHM_SIZE_BYTES,
            masked_paths: MASKED_PATHS.map(String::from).to_vec(),
            readonly_paths: READONLY_PATHS.map(String::from).to_vec(),
            init: false,
            log: LogOptions::default(),
        }
    }
}

/// Docker's default size of `/dev/shm`: 64 MiB.
pub const SHM_SIZE_BYTES: u64 = 64 << 20;

/// Kernel paths that tell or allow more about the machine than a container should have: Docker's
/// list, and the power readings of GHSA-7ww5-4wqc-m92c.
pub const MASKED_PATHS: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/kernel/debug",
];

/// Kernel paths that a container may read but not change: Docker's list.
pub const READONLY_PATHS: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// One mount in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path inside the container; made when missing.
    pub target: String,
    /// What is mounted.
    pub source: MountSource,
    /// Whether it refuses writes. For a bind, everything mounted below it does too.
    #[serde(default)]
    pub readonly: bool,
}

/// What a [`Mount`] mounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountSource {
    /// An empty file system in memory, mounted `nosuid,nodev,noexec` as Docker does.
    Tmpfs {
        /// Upper bound in bytes; `None` is half of the machine's memory.
        size_bytes: Option<u64>,
        /// Permission bits of its root, `0o1777` when `None`.
        mode: Option<u32>,
    },
    /// A directory or file of the machine.
    Bind {
        /// Absolute path on the machine; must exist.
        path: PathBuf,
        /// Who sees later mounts below it.
        #[serde(default)]
        propagation: Propagation,
        /// Whether mounts below it come along.
        #[serde(default = "yes")]
        recursive: bool,
    },
    /// Any file system the kernel knows by name.
    Filesystem {
        /// The type, as `nfs4`.
        fs_type: String,
        /// The `source` the type asks for, possibly empty.
        source: String,
        /// `key=value` or `flag` options of the type.
        options: Vec<String>,
    },
}

fn yes() -> bool {
    true
}

/// Who sees mounts made below a bind later on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Propagation {
    /// Neither side sees the other's.
    #[default]
    Private,
    /// The container sees the machine's.
    Slave,
    /// Both sides see the other's.
    Shared,
}

/// Docker's way of asking for capabilities: the default set, less `drop`, plus `add`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CapabilityChanges {
    /// Names with or without `CAP_`, in any case, or `ALL`.
    pub add: Vec<String>,
    /// Names with or without `CAP_`, in any case, or `ALL`.
    pub drop: Vec<String>,
}

/// The filter of system calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seccomp {
    /// Docker's default allow-list.
    #[default]
    Default,
    /// No filter.
    Unconfined,
}

/// One per-process limit, as `ulimit` sets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// The name without `RLIMIT_`, in any case: `nofile`.
    pub name: String,
    /// The limit in force; `u64::MAX` is none.
    pub soft: u64,
    /// The highest value `soft` can be raised to.
    pub hard: u64,
}

/// Limits of the container as a whole. `None` means no limit of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Share of processor time within each period.
    pub cpu: Option<CpuQuota>,
    /// Weight against other containers when the processor is contended, 2-262144; 1024 is usual.
    pub cpu_shares: Option<u64>,
    /// Memory in bytes, at least 6 MiB.
    pub memory_bytes: Option<u64>,
    /// Memory in bytes that is taken from the container last.
    pub memory_reservation_bytes: Option<u64>,
    /// Memory and swap together in bytes. `None` is twice the memory, as Docker has it.
    pub memory_and_swap_bytes: Option<u64>,
    /// Processes and threads.
    pub pids_max: Option<u64>,
}

/// Processor time a container may use: `quota_us` in every `period_us`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuQuota {
    /// Microseconds of processor time in each period, at least 1000.
    pub quota_us: u64,
    /// Length of a period in microseconds, 1000-1000000.
    pub period_us: u64,
}

impl CpuQuota {
    /// From billionths of a processor, the unit of swarm resources. The kernel's smallest quota,
    /// 1 ms of every 100 ms, is the floor.
    #[must_use]
    pub fn from_nano_cpus(nano_cpus: u64) -> Self {
        Self {
            quota_us: (nano_cpus / 10_000).max(1000),
            period_us: 100_000,
        }
    }
}

/// The network a container sees.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// A namespace of its own, with only a loopback until someone adds to it.
    #[default]
    Own,
    /// The machine's.
    Host,
    /// The namespace this file refers to.
    Join(PathBuf),
}

/// A line of `/etc/hosts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEntry {
    /// The address.
    pub address: std::net::IpAddr,
    /// The names it has, the canonical one first.
    pub names: Vec<String>,
}

/// What `/etc/resolv.conf` says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// Servers, asked in order.
    pub nameservers: Vec<std::net::IpAddr>,
    /// Domains appended to short names.
    pub search: Vec<String>,
    /// Options as `ndots:0`.
    pub options: Vec<String>,
}

/// How much output of a container is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogOptions {
    /// A log file is closed once it has this many bytes.
    pub file_bytes_max: u64,
    /// The oldest file is removed when there would be more than this many; at least 1.
    pub files_max: u32,
}

impl Default for LogOptions {
    /// 10 MiB in all: a tenth of what Docker's `local` driver keeps, since a node holds the logs of
    /// every task in its history, not of one long-lived container.
    fn default() -> Self {
        Self {
            file_bytes_max: 2 << 20,
            files_max: 5,
        }
    }
}
