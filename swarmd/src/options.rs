//! What a daemon has to be told.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use container::ShimSource;
use executor::Executor;
use image::ImageStore;
use types::Labels;
use worker::ContainerExecutor;

use crate::Error;
use crate::state_dir::StateDir;

/// Where the state lies unless told otherwise.
pub const STATE_DIR_DEFAULT: &str = "/var/lib/swarmd";
/// Where what must not be on disk lies unless told otherwise.
pub const RUN_DIR_DEFAULT: &str = "/run/swarm";
/// Where the daemon listens for users of this machine unless told otherwise.
pub const SOCKET_DEFAULT: &str = "/run/swarm/swarmd.sock";

/// How long a node sends with one key on encrypted networks unless told otherwise.
pub const KEY_PERIOD_DEFAULT: Duration = worker::KeyTiming::PERIOD_DEFAULT;

/// Settings of one daemon.
#[derive(Clone)]
pub struct Options {
    /// Everything the daemon keeps. Made with mode 0700.
    pub state_dir: PathBuf,
    /// What is remembered of tasks and containers: in memory, kept over restarts of the daemon, gone
    /// with a reboot as the containers are. No two daemons may share one.
    pub run_dir: PathBuf,
    /// The unix socket for users of this machine. Made with mode 0600.
    pub socket: PathBuf,
    /// The group whose members may use the socket, besides root and the daemon's own user. With one
    /// the socket's mode is 0660.
    pub socket_gid: Option<u32>,
    /// Labels of this machine, for constraints on `engine.labels`.
    pub engine_labels: Labels,
    /// What runs the tasks.
    pub executor: ExecutorChoice,
    /// How the managers' group keeps time.
    pub raft: RaftTiming,
    /// Shortest life of node certificates that may be asked for: [`ca::NODE_VALIDITY_MIN`] but in
    /// tests that cannot wait so long.
    pub cert_expiry_min: Duration,
    /// Programs that give the content of secrets, by the names users know them by.
    pub secret_drivers: dispatcher::SecretDrivers,
}

/// How the managers' group keeps time; all managers of a swarm should have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaftTiming {
    /// Pause between two heartbeats of the leader.
    pub heartbeat_ms: u64,
    /// Lower end of the random wait before an election.
    pub election_min_ms: u64,
    /// Upper end, and how long a leader counts as alive after its last sign.
    pub election_max_ms: u64,
}

impl Default for RaftTiming {
    /// A new leader within a second (reference: control plane, section H).
    fn default() -> Self {
        Self {
            heartbeat_ms: 100,
            election_min_ms: 250,
            election_max_ms: 400,
        }
    }
}

/// What runs the tasks.
#[derive(Clone)]
pub enum ExecutorChoice {
    /// Containers of this machine.
    Containers {
        /// The shim program; none means `swarm-shim` beside this program.
        shim: Option<PathBuf>,
        /// The cgroup below which containers get theirs; nodes on one machine need different ones.
        cgroup_parent: String,
        /// How long a key for encrypted networks is sent with before the next one is made.
        key_period: Duration,
    },
    /// Something else: simulated tasks, in tests.
    Given(Arc<dyn Executor>),
}

impl ExecutorChoice {
    pub(crate) fn make(
        self,
        state_dir: &StateDir,
        images: &ImageStore,
        engine_labels: &Labels,
    ) -> Result<Arc<dyn Executor>, Error> {
        match self {
            Self::Given(executor) => Ok(executor),
            Self::Containers {
                shim,
                cgroup_parent,
                key_period,
            } => {
                let hostname = rustix::system::uname()
                    .nodename()
                    .to_string_lossy()
                    .into_owned();
                let executor = ContainerExecutor::open(worker::Options {
                    state_dir: state_dir.path().join("worker"),
                    run_dir: state_dir.run_dir().to_owned(),
                    shim: shim.map_or(ShimSource::BesideExecutable, ShimSource::Path),
                    cgroup_parent,
                    datapath: Some(worker::ProgramSource::BesideExecutable),
                    key_timing: worker::KeyTiming::every(key_period),
                    images: images.clone(),
                    hostname,
                    engine_labels: engine_labels.clone(),
                })?;
                Ok(Arc::new(executor))
            }
        }
    }
}
