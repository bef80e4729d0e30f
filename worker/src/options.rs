//! Settings of a container executor.

use std::path::PathBuf;

use container::ShimSource;
use datapath_client::ProgramSource;
use image::ImageStore;
use types::Labels;

use crate::KeyTiming;

/// Settings of a [`crate::ContainerExecutor`].
#[derive(Clone)]
pub struct Options {
    /// Directory for what is known of containers; made when missing, mode 0700. Its file system
    /// must be able to hold overlayfs's upper layers.
    pub state_dir: PathBuf,
    /// Directory for what is remembered of containers; made when missing, mode 0700 below. In memory:
    /// a record holds what a task was told, and is of use as long as the container runs.
    pub run_dir: PathBuf,
    /// The shim program.
    pub shim: ShimSource,
    /// The cgroup, relative to the root of each hierarchy, below which containers get theirs. Nodes
    /// that share a machine need different ones.
    pub cgroup_parent: String,
    /// The program that answers names in containers and carries encrypted networks, and then this is opened on an async runtime;
    /// without one there are no names, and encrypted networks end at the node.
    pub datapath: Option<ProgramSource>,
    /// How this node's keys for encrypted networks are renewed.
    pub key_timing: KeyTiming,
    /// The node's images.
    pub images: ImageStore,
    /// The machine's name as the cluster is told.
    pub hostname: String,
    /// Labels given to the daemon on this machine.
    pub engine_labels: Labels,
}
