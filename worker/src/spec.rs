//! Decides what a task's container is: its spec, its image and its node, put together.

use std::path::PathBuf;

use container::ContainerSpec;
use container::spec::{
    CapabilityChanges, CpuQuota, Mount, MountSource, Network, Propagation, Resources, Rlimit,
};
use image::ImageConfig;
use types::container_spec::{MountKind, Ulimit};
use types::task::Limits;

use crate::template::{self, Names};

/// Characters of the task's id that make the default host name, as Docker's short ids.
const HOSTNAME_LEN: usize = 12;
/// The signal when neither spec nor image name one.
const SIGTERM: i32 = 15;

/// Why no container can be made of a task. The text is the task's error.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("no command specified: neither the image nor the service names one")]
    NoCommand,
    #[error("network {0} not found")]
    UnknownNetwork(String),
    #[error("{0} and another network cannot be used together")]
    NetworkConflict(String),
    #[error("invalid mount config for type {kind:?}: {problem}")]
    Mount { kind: &'static str, problem: String },
    #[error("invalid stop signal {0:?}")]
    StopSignal(String),
    #[error("ulimit {name}: {problem}")]
    Ulimit { name: String, problem: &'static str },
    #[error("{field}: {source}")]
    Template {
        field: &'static str,
        source: template::Error,
    },
}

/// The container of a task. `layers` are the image's directories, topmost first.
pub(crate) fn build(
    names: &Names<'_>,
    image: &ImageConfig,
    layers: Vec<PathBuf>,
) -> Result<ContainerSpec, Error> {
    let task = &names.task.spec;
    let spec = &task.container;
    // Said now rather than when the container is to be stopped.
    stop_signal(&spec.stop_signal, &image.stop_signal)?;
    let network = network(task.networks.iter().map(|n| n.target.as_str()))?;
    let or_image = |own: &String, image: &String| {
        if own.is_empty() {
            image.clone()
        } else {
            own.clone()
        }
    };
    let mounts = spec.mounts.iter().map(mount).collect::<Result<_, _>>()?;
    let rlimits = spec.ulimits.iter().map(rlimit).collect::<Result<_, _>>()?;
    Ok(ContainerSpec {
        layers,
        args: args(&spec.command, &spec.args, image)?,
        env: env(names, image)?,
        cwd: or_image(&spec.dir, &image.working_dir),
        user: or_image(&spec.user, &image.user),
        additional_groups: spec.groups.clone(),
        hostname: hostname(names, &network)?,
        readonly_rootfs: spec.read_only,
        mounts,
        capabilities: CapabilityChanges {
            add: spec.capability_add.clone(),
            drop: spec.capability_drop.clone(),
        },
        no_new_privileges: true,
        rlimits,
        resources: resources(&task.resources.limits),
        network,
        ..ContainerSpec::default()
    })
}

/// The signal that asks a container to stop: the spec's, else the image's, else SIGTERM.
pub(crate) fn stop_signal(own: &str, image: &str) -> Result<i32, Error> {
    match [own, image].into_iter().find(|text| !text.is_empty()) {
        Some(text) => {
            container::signal::parse(text).ok_or_else(|| Error::StopSignal(text.to_owned()))
        }
        None => Ok(SIGTERM),
    }
}

/// Docker's rule: own entrypoint, then own arguments; an own entrypoint also puts the image's
/// command aside.
fn args(command: &[String], args: &[String], image: &ImageConfig) -> Result<Vec<String>, Error> {
    let entrypoint = if command.is_empty() {
        &image.entrypoint[..]
    } else {
        command
    };
    let rest = if args.is_empty() && command.is_empty() {
        &image.cmd[..]
    } else {
        args
    };
    let all = [entrypoint, rest].concat();
    if all.is_empty() {
        Err(Error::NoCommand)
    } else {
        Ok(all)
    }
}

/// The image's variables, replaced by own ones of the same name; a bare name takes one away.
fn env(names: &Names<'_>, image: &ImageConfig) -> Result<Vec<String>, Error> {
    fn name(entry: &str) -> &str {
        entry.split_once('=').map_or(entry, |(name, _)| name)
    }
    let mut env = image.env.clone();
    for own in &names.task.spec.container.env {
        let own = names.expand(own).map_err(|source| Error::Template {
            field: "env",
            source,
        })?;
        env.retain(|entry| name(entry) != name(&own));
        if own.contains('=') {
            env.push(own);
        }
    }
    Ok(env)
}

fn hostname(names: &Names<'_>, network: &Network) -> Result<String, Error> {
    let own = &names.task.spec.container.hostname;
    if !own.is_empty() {
        return names.expand(own).map_err(|source| Error::Template {
            field: "hostname",
            source,
        });
    }
    Ok(match network {
        // On the machine's network the machine's name is the one that resolves.
        Network::Host => String::new(),
        Network::Own | Network::Join(_) => names.task.id.as_str()[..HOSTNAME_LEN].to_owned(),
    })
}

fn network<'a>(targets: impl Iterator<Item = &'a str>) -> Result<Network, Error> {
    let mut chosen = None;
    for target in targets {
        let network = match target {
            "none" => Network::Own,
            "host" => Network::Host,
            unknown => return Err(Error::UnknownNetwork(unknown.to_owned())),
        };
        match &chosen {
            Some(other) if *other != network => {
                return Err(Error::NetworkConflict(target.to_owned()));
            }
            Some(_) | None => chosen = Some(network),
        }
    }
    Ok(chosen.unwrap_or(Network::Own))
}

fn mount(mount: &types::container_spec::Mount) -> Result<Mount, Error> {
    let invalid = |kind, problem: &str| Error::Mount {
        kind,
        problem: problem.to_owned(),
    };
    let source = match mount.kind {
        MountKind::Bind if !mount.source.starts_with('/') => {
            return Err(invalid("bind", "the source must be an absolute path"));
        }
        MountKind::Bind => MountSource::Bind {
            path: PathBuf::from(&mount.source),
            propagation: Propagation::Private,
            recursive: true,
        },
        MountKind::Tmpfs if !mount.source.is_empty() => {
            return Err(invalid("tmpfs", "a source must not be given"));
        }
        MountKind::Tmpfs => MountSource::Tmpfs {
            size_bytes: (mount.tmpfs_size_bytes != 0).then_some(mount.tmpfs_size_bytes),
            mode: (mount.tmpfs_mode != 0).then_some(mount.tmpfs_mode),
        },
    };
    if !mount.target.starts_with('/') {
        let kind = match mount.kind {
            MountKind::Bind => "bind",
            MountKind::Tmpfs => "tmpfs",
        };
        return Err(invalid(kind, "the target must be an absolute path"));
    }
    Ok(Mount {
        target: mount.target.clone(),
        source,
        readonly: mount.read_only,
    })
}

fn rlimit(ulimit: &Ulimit) -> Result<Rlimit, Error> {
    let value = |value: i64| match value {
        -1 => Ok(u64::MAX),
        value => u64::try_from(value).map_err(|_| Error::Ulimit {
            name: ulimit.name.clone(),
            problem: "a limit is -1 or at least 0",
        }),
    };
    Ok(Rlimit {
        name: ulimit.name.clone(),
        soft: value(ulimit.soft)?,
        hard: value(ulimit.hard)?,
    })
}

fn resources(limits: &Limits) -> Resources {
    let limit = |value: u64| (value != 0).then_some(value);
    Resources {
        cpu: limit(limits.nano_cpus).map(CpuQuota::from_nano_cpus),
        memory_bytes: limit(limits.memory_bytes),
        pids_max: limit(limits.pids),
        ..Resources::default()
    }
}

#[cfg(test)]
mod tests;
