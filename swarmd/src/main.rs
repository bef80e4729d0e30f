//! The program: reads its options, starts the daemon, and stops it on a signal.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use swarmd::{
    Daemon, ExecutorChoice, Options, RUN_DIR_DEFAULT, RaftTiming, SOCKET_DEFAULT,
    STATE_DIR_DEFAULT, harden, memory, socket_group,
};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Threads of the runtime. Managers wait for disk and network, not for processors.
const WORKER_THREADS: usize = 2;

/// Threads for what blocks: the disk, images, the making of containers.
const BLOCKING_THREADS_MAX: usize = 64;

/// What is logged unless told otherwise: the consensus library says at `info` what is `debug` here.
const LOG_DEFAULT: &str = "info,openraft=warn";

/// Runs a node of a swarm on this machine.
///
/// Until `swarmctl init` or `swarmctl join` the node is in no swarm. Stopping or replacing the
/// daemon leaves containers running; it takes them up again when it starts.
#[derive(Parser)]
#[command(
    version,
    about,
    after_help = "\
Examples:
  swarmd                                             State in /var/lib/swarmd
  swarmd --state-dir /data/swarm --engine-label disk=ssd
  swarmd --log info,swarm_raft=debug"
)]
struct Arguments {
    /// Directory for everything the daemon keeps, made with mode 0700
    #[arg(long, value_name = "DIR", default_value = STATE_DIR_DEFAULT)]
    state_dir: PathBuf,

    /// Directory for what must not be on disk: in memory, and kept over restarts of the daemon
    #[arg(long, value_name = "DIR", default_value = RUN_DIR_DEFAULT)]
    run_dir: PathBuf,

    /// Unix socket for users of this machine, made with mode 0600
    #[arg(long, value_name = "PATH", default_value = SOCKET_DEFAULT)]
    socket: PathBuf,

    /// Group whose members may use the socket as well: a name or a number
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,

    /// The shim program; `swarm-shim` beside this program unless given
    #[arg(long, value_name = "PATH")]
    shim: Option<PathBuf>,

    /// Cgroup below which containers get theirs
    #[arg(long, value_name = "NAME", default_value = "swarmd")]
    cgroup_parent: String,

    /// Label of this machine for constraints on engine.labels; may be given several times
    #[arg(long = "engine-label", value_name = "KEY=VALUE", value_parser = label)]
    engine_labels: Vec<(String, String)>,

    /// Program that gives the content of secrets made with --driver NAME, on managers; may be given
    /// several times
    #[arg(long = "secret-driver", value_name = "NAME=PROGRAM", value_parser = secret_driver)]
    secret_drivers: Vec<(String, PathBuf)>,

    /// What to log: error, warn, info, debug, trace, or PART=LEVEL,...
    #[arg(
        long,
        value_name = "FILTER",
        env = "SWARMD_LOG",
        default_value = LOG_DEFAULT
    )]
    log: String,

    /// Shortest life of node certificates in seconds, for tests that cannot wait for an hour
    #[arg(
        long,
        value_name = "SECONDS",
        env = "SWARMD_CERT_EXPIRY_MIN",
        default_value_t = ca::NODE_VALIDITY_MIN.as_secs(),
        value_parser = clap::value_parser!(u64).range(1..),
        hide = true
    )]
    cert_expiry_min: u64,

    /// Seconds after which a node sends on encrypted networks with another key of its own
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = swarmd::KEY_PERIOD_DEFAULT.as_secs(),
        value_parser = clap::value_parser!(u64).range(10..=31_536_000),
        hide = true
    )]
    wireguard_key_period: u64,

    #[command(flatten)]
    raft: RaftArguments,
}

/// How the managers' group keeps time; the same on all managers.
#[derive(clap::Args)]
struct RaftArguments {
    /// Milliseconds between two heartbeats of the leader
    #[arg(long, value_name = "MS", default_value_t = RaftTiming::default().heartbeat_ms)]
    raft_heartbeat: u64,

    /// Shortest wait for a leader before an election, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = RaftTiming::default().election_min_ms)]
    raft_election_min: u64,

    /// Longest one, and how long a leader counts as alive after its last sign
    #[arg(long, value_name = "MS", default_value_t = RaftTiming::default().election_max_ms)]
    raft_election_max: u64,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => Err("write KEY=VALUE".to_owned()),
    }
}

fn secret_driver(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, program)) if !name.is_empty() && program.starts_with('/') => {
            Ok((name.to_owned(), PathBuf::from(program)))
        }
        Some(_) | None => Err("write NAME=/path/to/program".to_owned()),
    }
}

fn main() -> ExitCode {
    memory::tune_allocator();
    // Before there is a second thread, and before there is anything to hide.
    let unhardened = harden::harden();
    match run(Arguments::parse(), &unhardened) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("swarmd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments, unhardened: &[String]) -> anyhow::Result<()> {
    let filter =
        EnvFilter::try_new(&arguments.log).with_context(|| format!("--log {:?}", arguments.log))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    if let Err(error) = memory::lock() {
        tracing::warn!(%error, "memory is not locked: keys could be swapped out");
    }
    for problem in unhardened {
        tracing::warn!(problem, "this process could not be hardened");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("swarmd")
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(serve(arguments.into_options()?))
}

impl Arguments {
    fn into_options(self) -> anyhow::Result<Options> {
        let groups = Path::new(socket_group::GROUPS);
        let group = self.group.as_deref();
        Ok(Options {
            state_dir: self.state_dir,
            run_dir: self.run_dir,
            socket: self.socket,
            socket_gid: group
                .map(|group| socket_group::number(group, groups))
                .transpose()?,
            engine_labels: self.engine_labels.into_iter().collect(),
            executor: ExecutorChoice::Containers {
                shim: self.shim,
                cgroup_parent: self.cgroup_parent,
                key_period: Duration::from_secs(self.wireguard_key_period),
            },
            cert_expiry_min: Duration::from_secs(self.cert_expiry_min),
            raft: RaftTiming {
                heartbeat_ms: self.raft.raft_heartbeat,
                election_min_ms: self.raft.raft_election_min,
                election_max_ms: self.raft.raft_election_max,
            },
            secret_drivers: self.secret_drivers.into_iter().collect(),
        })
    }
}

async fn serve(options: Options) -> anyhow::Result<()> {
    // Before anything is started, so that no signal finds half a daemon.
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let daemon = Daemon::start(options).await?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!("stopping: SIGTERM"),
        _ = interrupt.recv() => tracing::info!("stopping: SIGINT"),
    }
    daemon.shutdown().await;
    Ok(())
}
