//! Plans the container of a task: what the spec asks for, on top of what the image brings.

use std::collections::BTreeSet;
use std::path::PathBuf;

use container::spec::{CapabilityChanges, CpuQuota, HostEntry, Network, Resources, Rlimit};
use container::{ContainerSpec, capability, signal};
use image::ImageConfig;
use types::container_spec::{HostAlias, Ulimit};
use types::task::Limits;
use types::{Labels, Task};

use crate::networks;
use crate::template::{self, Place, expand};

mod mounts;

pub(crate) use mounts::check_sources;

/// Signal that asks a container to stop when nobody says otherwise.
const STOP_SIGNAL_DEFAULT: i32 = 15;

/// Longest host name; the kernel's limit is 64.
const HOSTNAME_LEN_MAX: usize = 63;

/// The container of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// What the runtime is to make.
    pub(crate) spec: ContainerSpec,
    /// Number of the signal that asks it to stop.
    pub(crate) stop_signal: i32,
    /// Its labels.
    pub(crate) labels: Labels,
}

/// Why a task cannot have a container. The texts are Docker's where it has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("expanding {field} failed: {source}")]
    Template {
        field: &'static str,
        source: template::Error,
    },
    #[error("no command specified")]
    NoCommand,
    #[error("the working directory '{0}' is invalid, it needs to be an absolute path")]
    WorkingDirectory(String),
    #[error("invalid environment variable: {0:?}")]
    Environment(String),
    #[error("invalid mount config for type \"{kind}\": {reason}")]
    Mount { kind: &'static str, reason: String },
    #[error("duplicate mount point: {0}")]
    DuplicateMount(String),
    #[error("invalid capability: {0:?}")]
    Capability(String),
    #[error("invalid ulimit {name}: {reason}")]
    Ulimit { name: String, reason: &'static str },
    #[error("invalid signal: {0}")]
    StopSignal(String),
    #[error(
        "invalid hostname {0:?}: it must be labels of letters, digits and '-' joined by dots, {max} \
         characters or fewer in all", max = HOSTNAME_LEN_MAX
    )]
    Hostname(String),
    #[error("network {0} not found")]
    Network(String),
    #[error("conflicting networks: \"host\" goes with no other")]
    Networks,
}

/// Plans the container of `task` from the image it names.
pub(crate) fn plan(
    task: &Task,
    place: Place<'_>,
    image: &ImageConfig,
    layers: Vec<PathBuf>,
) -> Result<Plan, Error> {
    let asked = &task.spec.container;
    let hostname = expand(&asked.hostname, task, place).map_err(|source| Error::Template {
        field: "hostname",
        source,
    })?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if hostname.len() > HOSTNAME_LEN_MAX || !hostname.chars().all(is_plain) {
        return Err(Error::Hostname(hostname));
    }
    let spec = ContainerSpec {
        layers,
        args: args(&asked.command, &asked.args, image)?,
        env: env(&asked.env, &image.env, task, place)?,
        cwd: cwd(either(&asked.dir, &image.working_dir))?,
        user: either(&asked.user, &image.user).to_owned(),
        additional_groups: asked.groups.clone(),
        // The runtime gives it the beginning of the task's id, or the machine's with its network.
        hostname,
        readonly_rootfs: asked.read_only,
        mounts: mounts::plan(&asked.mounts, task, place)?,
        capabilities: CapabilityChanges {
            add: capabilities(&asked.capability_add)?,
            drop: capabilities(&asked.capability_drop)?,
        },
        rlimits: asked.ulimits.iter().map(rlimit).collect::<Result<_, _>>()?,
        resources: resources(task.spec.resources.limits),
        network: network(task)?,
        extra_hosts: asked.hosts.iter().map(host_entry).collect(),
        ..ContainerSpec::default()
    };
    Ok(Plan {
        spec,
        stop_signal: stop_signal(&asked.stop_signal, &image.stop_signal)?,
        labels: labels(task),
    })
}

fn host_entry(alias: &HostAlias) -> HostEntry {
    HostEntry {
        address: alias.address,
        names: vec![alias.name.clone()],
    }
}

/// The program and its arguments. A command replaces entrypoint and command of the image, arguments
/// alone replace its command.
fn args(command: &[String], args: &[String], image: &ImageConfig) -> Result<Vec<String>, Error> {
    // An entrypoint of one empty text is how an image resets its parent's.
    let entrypoint = match image.entrypoint.as_slice() {
        [only] if only.is_empty() => &[],
        entrypoint => entrypoint,
    };
    let (program, arguments) = match (command, args) {
        ([], []) => (entrypoint, image.cmd.as_slice()),
        ([], args) => (entrypoint, args),
        (command, args) => (command, args),
    };
    let whole = [program, arguments].concat();
    match whole.first() {
        Some(program) if !program.is_empty() => Ok(whole),
        Some(_) | None => Err(Error::NoCommand),
    }
}

/// The image's variables with the spec's in their places or after them. A name alone takes a
/// variable away. Placeholders are in values only.
fn env(
    asked: &[String],
    of_image: &[String],
    task: &Task,
    place: Place<'_>,
) -> Result<Vec<String>, Error> {
    let mut env: Vec<String> = of_image.to_vec();
    for entry in asked {
        let (name, value) = match entry.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (entry.as_str(), None),
        };
        if name.is_empty() || entry.contains('\0') {
            return Err(Error::Environment(entry.clone()));
        }
        let entry = match value {
            Some(value) => {
                let value = expand(value, task, place).map_err(|source| Error::Template {
                    field: "env",
                    source,
                })?;
                format!("{name}={value}")
            }
            None => name.to_owned(),
        };
        let is_same = |other: &String| other.split('=').next() == Some(name);
        match env.iter().position(is_same) {
            Some(at) => env[at] = entry,
            // Kept also when it takes nothing away here: the runtime has defaults of its own.
            None => env.push(entry),
        }
    }
    Ok(env)
}

fn cwd(dir: &str) -> Result<String, Error> {
    if dir.is_empty() || dir.starts_with('/') {
        Ok(dir.to_owned())
    } else {
        Err(Error::WorkingDirectory(dir.to_owned()))
    }
}

fn capabilities(names: &[String]) -> Result<Vec<String>, Error> {
    match names.iter().find(|name| !capability::is_known(name)) {
        Some(unknown) => Err(Error::Capability(unknown.clone())),
        None => Ok(names.to_vec()),
    }
}

fn rlimit(ulimit: &Ulimit) -> Result<Rlimit, Error> {
    let invalid = |reason| Error::Ulimit {
        name: ulimit.name.clone(),
        reason,
    };
    // -1 is no limit.
    let value = |value: i64| match value {
        -1 => Ok(u64::MAX),
        value => u64::try_from(value).map_err(|_| invalid("a value is -1 or more")),
    };
    let (soft, hard) = (value(ulimit.soft)?, value(ulimit.hard)?);
    if soft > hard {
        return Err(invalid(
            "the soft limit must be less than or equal to the hard limit",
        ));
    }
    Ok(Rlimit {
        name: ulimit.name.clone(),
        soft,
        hard,
    })
}

fn resources(limits: Limits) -> Resources {
    let some = |amount: u64| (amount > 0).then_some(amount);
    Resources {
        cpu: some(limits.nano_cpus).map(CpuQuota::from_nano_cpus),
        memory_bytes: some(limits.memory_bytes),
        pids_max: some(limits.pids),
        ..Resources::default()
    }
}

/// Which network namespace the container has. A network that the task was given no place on is not
/// there.
fn network(task: &Task) -> Result<Network, Error> {
    let asked = task.spec.networks.iter();
    let targets: BTreeSet<&str> = asked.map(|at| at.target.as_str()).collect();
    let given = networks::attachments(task);
    let is_given =
        |target: &str| target == "bridge" || given.iter().any(|one| one.network.as_str() == target);
    let is_special = |target: &str| ["none", "host"].contains(&target);
    if let Some(unknown) = targets
        .iter()
        .find(|name| !is_special(name) && !is_given(name))
    {
        return Err(Error::Network((*unknown).to_owned()));
    }
    match (targets.contains("host"), targets.len()) {
        (true, 1) => Ok(Network::Host),
        (true, _) => Err(Error::Networks),
        (false, _) => Ok(Network::Own),
    }
}

fn stop_signal(asked: &str, of_image: &str) -> Result<i32, Error> {
    if asked.is_empty() {
        // An image's mistake does not keep it from running, as with Docker.
        return Ok(signal::parse(of_image).unwrap_or(STOP_SIGNAL_DEFAULT));
    }
    signal::parse(asked).ok_or_else(|| Error::StopSignal(asked.to_owned()))
}

/// The stop signal as far as the spec alone tells.
pub(crate) fn stop_signal_of_spec(task: &Task) -> i32 {
    stop_signal(&task.spec.container.stop_signal, "").unwrap_or(STOP_SIGNAL_DEFAULT)
}

/// The container's labels, with those that tell what it belongs to; they win over the user's.
fn labels(task: &Task) -> Labels {
    let node_id = task.node_id.map_or_else(String::new, |id| id.to_string());
    let own = [
        ("com.docker.swarm.task", String::new()),
        ("com.docker.swarm.task.id", task.id.to_string()),
        (
            "com.docker.swarm.task.name",
            format!("{}.{}", task.name(), task.id),
        ),
        ("com.docker.swarm.node.id", node_id),
        ("com.docker.swarm.service.id", task.service_id.to_string()),
        ("com.docker.swarm.service.name", task.service_name.clone()),
    ];
    let mut labels = task.spec.container.labels.clone();
    labels.extend(own.map(|(name, value)| (name.to_owned(), value)));
    labels
}

fn either<'a>(asked: &'a str, of_image: &'a str) -> &'a str {
    if asked.is_empty() { of_image } else { asked }
}

#[cfg(test)]
pub(crate) mod tests;
