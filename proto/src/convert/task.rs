//! A task's messages, and those of what it runs.

use std::sync::Arc;
use std::time::Duration;

use types::container_spec::{DnsConfig, Healthcheck, HostAlias, Mount, MountKind, Ulimit};
use types::task::{
    ContainerStatus, Limits, Placement, ResourceRequirements, RestartCondition, RestartPolicy,
};
use types::{ContainerSpec, Task, TaskSpec, TaskState, TaskStatus, Timestamp, Version};

use super::network::all;
use super::{ConvertError, enums, known, nanos, parse, required};
use crate::objects;

enums!(
    RestartCondition,
    objects::RestartCondition,
    Any = Any,
    OnFailure = OnFailure,
    None = None,
);
enums!(MountKind, objects::MountKind, Bind = Bind, Tmpfs = Tmpfs);

/// Reads a task state's number.
///
/// # Errors
/// When no state has it.
pub fn task_state(field: &'static str, number: u32) -> Result<TaskState, ConvertError> {
    u16::try_from(number)
        .ok()
        .and_then(TaskState::from_number)
        .ok_or_else(|| ConvertError::new(field, format!("{number} is not a task state")))
}

impl From<&Task> for objects::Task {
    fn from(task: &Task) -> Self {
        Self {
            id: task.id.to_string(),
            meta: Some((&task.meta).into()),
            service_id: task.service_id.to_string(),
            service_name: task.service_name.clone(),
            slot: task.slot,
            node_id: task.node_id.map(|id| id.to_string()).unwrap_or_default(),
            spec: Some((&*task.spec).into()),
            spec_version: task.spec_version.index,
            status: Some((&task.status).into()),
            desired_state: task.desired_state.number().into(),
            attachments: task.attachments.iter().map(Into::into).collect(),
            host_ports: task.host_ports.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<objects::Task> for Task {
    type Error = ConvertError;
    fn try_from(message: objects::Task) -> Result<Self, ConvertError> {
        let node_id = match message.node_id.as_str() {
            "" => None,
            id => Some(parse("node_id", id)?),
        };
        Ok(Self {
            id: parse("id", &message.id)?,
            meta: message.meta.unwrap_or_default().into(),
            service_id: parse("service_id", &message.service_id)?,
            service_name: message.service_name,
            slot: message.slot,
            node_id,
            spec: Arc::new(required("spec", message.spec)?.try_into()?),
            spec_version: Version {
                index: message.spec_version,
            },
            status: message.status.unwrap_or_default().try_into()?,
            desired_state: task_state("desired_state", message.desired_state)?,
            attachments: all(message.attachments)?,
            host_ports: all(message.host_ports)?,
        })
    }
}

impl From<&TaskStatus> for objects::TaskStatus {
    fn from(status: &TaskStatus) -> Self {
        Self {
            state: status.state.number().into(),
            timestamp: status.timestamp.0,
            message: status.message.clone(),
            err: status.err.clone(),
            container_status: status.container_status.as_ref().map(Into::into),
            applied_at: status.applied_at.0,
        }
    }
}

impl TryFrom<objects::TaskStatus> for TaskStatus {
    type Error = ConvertError;
    fn try_from(message: objects::TaskStatus) -> Result<Self, ConvertError> {
        Ok(Self {
            state: task_state("state", message.state)?,
            timestamp: Timestamp(message.timestamp),
            message: message.message,
            err: message.err,
            container_status: message
                .container_status
                .map(TryInto::try_into)
                .transpose()?,
            applied_at: Timestamp(message.applied_at),
        })
    }
}

impl From<&ContainerStatus> for objects::ContainerStatus {
    fn from(status: &ContainerStatus) -> Self {
        Self {
            container_id: status.container_id.clone(),
            pid: status.pid,
            exit_code: status.exit_code,
            oom_killed: status.oom_killed,
            ports: status.ports.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<objects::ContainerStatus> for ContainerStatus {
    type Error = ConvertError;
    fn try_from(message: objects::ContainerStatus) -> Result<Self, ConvertError> {
        Ok(Self {
            container_id: message.container_id,
            pid: message.pid,
            exit_code: message.exit_code,
            oom_killed: message.oom_killed,
            ports: all(message.ports)?,
        })
    }
}

impl From<&TaskSpec> for objects::TaskSpec {
    fn from(spec: &TaskSpec) -> Self {
        let networks = spec.networks.iter();
        Self {
            container: Some((&spec.container).into()),
            limits: Some((&spec.resources.limits).into()),
            reservations: Some((&spec.resources.reservations).into()),
            restart_policy: Some((&spec.restart_policy).into()),
            placement: Some((&spec.placement).into()),
            networks: networks.map(Into::into).collect(),
            force_update: spec.force_update,
        }
    }
}

impl TryFrom<objects::TaskSpec> for TaskSpec {
    type Error = ConvertError;
    fn try_from(message: objects::TaskSpec) -> Result<Self, ConvertError> {
        let restart = message.restart_policy.map(TryInto::try_into).transpose()?;
        let networks = message.networks.into_iter();
        Ok(Self {
            container: required("container", message.container)?.try_into()?,
            resources: ResourceRequirements {
                limits: message.limits.unwrap_or_default().into(),
                reservations: message.reservations.unwrap_or_default().into(),
            },
            restart_policy: restart.unwrap_or_default(),
            placement: message.placement.unwrap_or_default().into(),
            networks: networks.map(Into::into).collect(),
            force_update: message.force_update,
        })
    }
}

impl From<&Limits> for objects::Limits {
    fn from(limits: &Limits) -> Self {
        Self {
            nano_cpus: limits.nano_cpus,
            memory_bytes: limits.memory_bytes,
            pids: limits.pids,
        }
    }
}

impl From<objects::Limits> for Limits {
    fn from(message: objects::Limits) -> Self {
        Self {
            nano_cpus: message.nano_cpus,
            memory_bytes: message.memory_bytes,
            pids: message.pids,
        }
    }
}

impl From<&RestartPolicy> for objects::RestartPolicy {
    fn from(policy: &RestartPolicy) -> Self {
        Self {
            condition: objects::RestartCondition::from(policy.condition).into(),
            delay: nanos(policy.delay),
            max_attempts: policy.max_attempts,
            window: nanos(policy.window),
        }
    }
}

impl TryFrom<objects::RestartPolicy> for RestartPolicy {
    type Error = ConvertError;
    fn try_from(message: objects::RestartPolicy) -> Result<Self, ConvertError> {
        Ok(Self {
            condition: known::<objects::RestartCondition>("condition", message.condition)?.into(),
            delay: Duration::from_nanos(message.delay),
            max_attempts: message.max_attempts,
            window: Duration::from_nanos(message.window),
        })
    }
}

impl From<&Placement> for objects::Placement {
    fn from(placement: &Placement) -> Self {
        Self {
            constraints: placement.constraints.clone(),
            preferences: placement.preferences.clone(),
            max_replicas: placement.max_replicas,
            platforms: placement.platforms.iter().map(Into::into).collect(),
        }
    }
}

impl From<objects::Placement> for Placement {
    fn from(message: objects::Placement) -> Self {
        Self {
            constraints: message.constraints,
            preferences: message.preferences,
            max_replicas: message.max_replicas,
            platforms: message.platforms.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<&ContainerSpec> for objects::ContainerSpec {
    fn from(spec: &ContainerSpec) -> Self {
        Self {
            image: spec.image.clone(),
            labels: spec.labels.clone().into_iter().collect(),
            command: spec.command.clone(),
            args: spec.args.clone(),
            hostname: spec.hostname.clone(),
            env: spec.env.clone(),
            dir: spec.dir.clone(),
            user: spec.user.clone(),
            groups: spec.groups.clone(),
            stop_signal: spec.stop_signal.clone(),
            stop_grace_period: spec.stop_grace_period.map(nanos),
            mounts: spec.mounts.iter().map(Into::into).collect(),
            read_only: spec.read_only,
            capability_add: spec.capability_add.clone(),
            capability_drop: spec.capability_drop.clone(),
            ulimits: spec.ulimits.iter().map(Into::into).collect(),
            healthcheck: spec.healthcheck.as_ref().map(Into::into),
            secrets: spec.secrets.iter().map(Into::into).collect(),
            configs: spec.configs.iter().map(Into::into).collect(),
            dns: (spec.dns != DnsConfig::default()).then(|| (&spec.dns).into()),
            hosts: spec.hosts.iter().map(ToString::to_string).collect(),
        }
    }
}

impl TryFrom<objects::ContainerSpec> for ContainerSpec {
    type Error = ConvertError;
    fn try_from(message: objects::ContainerSpec) -> Result<Self, ConvertError> {
        let mounts = message.mounts.into_iter().map(TryInto::try_into);
        Ok(Self {
            image: message.image,
            labels: message.labels.into_iter().collect(),
            command: message.command,
            args: message.args,
            hostname: message.hostname,
            env: message.env,
            dir: message.dir,
            user: message.user,
            groups: message.groups,
            stop_signal: message.stop_signal,
            stop_grace_period: message.stop_grace_period.map(Duration::from_nanos),
            mounts: mounts.collect::<Result<_, ConvertError>>()?,
            read_only: message.read_only,
            capability_add: message.capability_add,
            capability_drop: message.capability_drop,
            ulimits: message.ulimits.into_iter().map(Into::into).collect(),
            healthcheck: message.healthcheck.map(Into::into),
            secrets: all(message.secrets)?,
            configs: all(message.configs)?,
            dns: message.dns.unwrap_or_default().try_into()?,
            hosts: message
                .hosts
                .into_iter()
                .map(HostAlias::try_from)
                .collect::<Result<_, _>>()
                .map_err(|problem| ConvertError::new("hosts", problem))?,
        })
    }
}

impl From<&DnsConfig> for objects::DnsConfig {
    fn from(dns: &DnsConfig) -> Self {
        Self {
            nameservers: dns.nameservers.iter().map(ToString::to_string).collect(),
            search: dns.search.clone(),
            options: dns.options.clone(),
        }
    }
}

impl TryFrom<objects::DnsConfig> for DnsConfig {
    type Error = ConvertError;
    fn try_from(message: objects::DnsConfig) -> Result<Self, ConvertError> {
        let servers = message.nameservers.iter();
        Ok(Self {
            nameservers: servers
                .map(|server| parse("dns.nameservers", server))
                .collect::<Result<_, _>>()?,
            search: message.search,
            options: message.options,
        })
    }
}

impl From<&Healthcheck> for objects::Healthcheck {
    fn from(check: &Healthcheck) -> Self {
        Self {
            test: check.test.clone(),
            interval: nanos(check.interval),
            timeout: nanos(check.timeout),
            start_period: nanos(check.start_period),
            start_interval: nanos(check.start_interval),
            retries: check.retries,
        }
    }
}

impl From<objects::Healthcheck> for Healthcheck {
    fn from(message: objects::Healthcheck) -> Self {
        Self {
            test: message.test,
            interval: Duration::from_nanos(message.interval),
            timeout: Duration::from_nanos(message.timeout),
            start_period: Duration::from_nanos(message.start_period),
            start_interval: Duration::from_nanos(message.start_interval),
            retries: message.retries,
        }
    }
}

impl From<&Mount> for objects::Mount {
    fn from(mount: &Mount) -> Self {
        Self {
            kind: objects::MountKind::from(mount.kind).into(),
            source: mount.source.clone(),
            target: mount.target.clone(),
            read_only: mount.read_only,
            tmpfs_size_bytes: mount.tmpfs_size_bytes,
            tmpfs_mode: mount.tmpfs_mode,
        }
    }
}

impl TryFrom<objects::Mount> for Mount {
    type Error = ConvertError;
    fn try_from(message: objects::Mount) -> Result<Self, ConvertError> {
        Ok(Self {
            kind: known::<objects::MountKind>("kind", message.kind)?.into(),
            source: message.source,
            target: message.target,
            read_only: message.read_only,
            tmpfs_size_bytes: message.tmpfs_size_bytes,
            tmpfs_mode: message.tmpfs_mode,
        })
    }
}

impl From<&Ulimit> for objects::Ulimit {
    fn from(limit: &Ulimit) -> Self {
        Self {
            name: limit.name.clone(),
            soft: limit.soft,
            hard: limit.hard,
        }
    }
}

impl From<objects::Ulimit> for Ulimit {
    fn from(message: objects::Ulimit) -> Self {
        Self {
            name: message.name,
            soft: message.soft,
            hard: message.hard,
        }
    }
}
