//! Tasks: one attempt to run a service's work on one node.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::network::{NetworkAttachment, NetworkAttachmentSpec, PublishedPort};
use crate::{ContainerSpec, Meta, NodeId, ServiceId, TaskId, TaskState, Timestamp, Version};

/// Delay before a restart when the spec names none (S5.01).
pub const RESTART_DELAY_DEFAULT: Duration = Duration::from_secs(5);

/// One attempt to run, from creation to deletion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Task {
    /// Its id; the container is named by it too.
    #[serde(rename = "ID")]
    pub id: TaskId,
    /// Version and times.
    #[serde(flatten)]
    pub meta: Meta,
    /// The service it belongs to.
    #[serde(rename = "ServiceID")]
    pub service_id: ServiceId,
    /// Name of the service when the task was made.
    pub service_name: String,
    /// The stable position it fills, from 1 in a replicated service; 0 in a global one.
    pub slot: u64,
    /// The node it was given to.
    #[serde(rename = "NodeID")]
    pub node_id: Option<NodeId>,
    /// The service's task spec when the task was made, shared with the service.
    pub spec: Arc<TaskSpec>,
    /// Version of the service's spec it was made from: equal means clean (S4.02).
    pub spec_version: Version,
    /// What was observed.
    pub status: TaskStatus,
    /// What the orchestrator wants next.
    pub desired_state: TaskState,
    /// Its places on networks, once the allocator gave them.
    pub attachments: Vec<NetworkAttachment>,
    /// Ports its node opens for it alone (publish mode host).
    pub host_ports: Vec<PublishedPort>,
}

impl Task {
    /// `service.slot`, or `service.node` for a global one (S2.09).
    #[must_use]
    pub fn name(&self) -> String {
        match (self.slot, self.node_id) {
            (0, Some(node)) => format!("{}.{node}", self.service_name),
            (slot, _) => format!("{}.{slot}", self.service_name),
        }
    }

    /// True while the orchestrator counts on it: desired at most RUNNING (S2.04).
    #[must_use]
    pub fn is_runnable(&self) -> bool {
        self.desired_state <= TaskState::Running
    }

    /// True while its node must set resources aside for it: placed and not ended.
    #[must_use]
    pub fn holds_resources(&self) -> bool {
        self.node_id.is_some()
            && self.status.state >= TaskState::Assigned
            && !self.status.state.is_terminal()
    }
}

/// What was observed of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TaskStatus {
    /// How far it has come.
    pub state: TaskState,
    /// When that was, by the clock of whoever reported it.
    pub timestamp: Timestamp,
    /// The step ("started"), S2.07.
    pub message: String,
    /// The reason when something went wrong.
    pub err: String,
    /// The container, once there is one.
    pub container_status: Option<ContainerStatus>,
    /// When the manager took the report, by its clock; restart windows use this one.
    pub applied_at: Timestamp,
}

/// What a node tells of a task's container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerStatus {
    /// Name of the container on its node.
    #[serde(rename = "ContainerID")]
    pub container_id: String,
    /// Process id of its init in the node's pid namespace; 0 when not running.
    #[serde(rename = "PID")]
    pub pid: u32,
    /// Exit code, or 128 + signal number, once ended.
    pub exit_code: Option<i32>,
    /// The kernel ended it for lack of memory.
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    /// Ports its node opened for it alone, with the numbers the node chose (S2.08).
    pub ports: Vec<PublishedPort>,
}

/// What to run, with what, when again, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TaskSpec {
    /// The container.
    #[serde(rename = "ContainerSpec")]
    pub container: ContainerSpec,
    /// What it may use and what is set aside for it.
    pub resources: ResourceRequirements,
    /// What happens when it ends.
    pub restart_policy: RestartPolicy,
    /// Where it may run.
    pub placement: Placement,
    /// Networks it is on; none listed means none but loopback.
    pub networks: Vec<NetworkAttachmentSpec>,
    /// Counter: a change replaces every task though nothing else changed.
    pub force_update: u64,
}

/// Limits and reservations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ResourceRequirements {
    /// What the container may use at most.
    pub limits: Limits,
    /// What the scheduler sets aside for it.
    pub reservations: Resources,
}

/// Upper bounds enforced by cgroups. Zero means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Limits {
    /// Processor time, 10⁻⁹ of a processor.
    #[serde(rename = "NanoCPUs")]
    pub nano_cpus: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Number of processes and threads.
    pub pids: u64,
}

/// Amounts a node has or a task reserves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Resources {
    /// Processor time, 10⁻⁹ of a processor.
    #[serde(rename = "NanoCPUs")]
    pub nano_cpus: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
}

/// When an ended task is replaced (S5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RestartPolicy {
    /// After which endings.
    pub condition: RestartCondition,
    /// Wait before the replacement starts.
    #[serde(with = "crate::duration")]
    pub delay: Duration,
    /// Restarts allowed within the window; 0 means no limit.
    pub max_attempts: u64,
    /// Span over which attempts count; zero means all of history.
    #[serde(with = "crate::duration")]
    pub window: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            condition: RestartCondition::Any,
            delay: RESTART_DELAY_DEFAULT,
            max_attempts: 0,
            window: Duration::ZERO,
        }
    }
}

/// After which endings a task is replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartCondition {
    /// Never.
    None,
    /// Unless it completed with exit code 0.
    OnFailure,
    /// Always.
    #[default]
    Any,
}

/// Where a task may run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Placement {
    /// `key==value` and `key!=value`, all of which must hold (S6.C).
    pub constraints: Vec<String>,
    /// `node.labels.X` or `engine.labels.X` to spread over, outermost first (S6.34).
    pub preferences: Vec<String>,
    /// Tasks of the service a node may have at most; 0 means no limit.
    pub max_replicas: u64,
    /// Platforms the image runs on; none listed means any.
    pub platforms: Vec<Platform>,
}

/// Operating system and processor architecture; an empty field matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Platform {
    /// `x86_64`, `aarch64`…
    pub architecture: String,
    /// `linux`.
    #[serde(rename = "OS")]
    pub os: String,
}
