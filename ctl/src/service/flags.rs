//! Flags that `service create` and `service update` have in common, and what they set.

use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use types::network::{Affinity, EndpointMode};
use types::service::ServiceMode;
use types::task::RestartCondition;
use types::update::{FailureAction, UpdateConfig, UpdateOrder};
use types::{ServiceSpec, TaskSpec};

use super::health::HealthFlags;
use crate::error::Error;
use crate::parse::amount::{bytes, nano_cpus};
use crate::parse::duration::duration;
use crate::parse::{count, words};

/// Single values: a flag that is not given leaves what the spec has.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct SpecFlags {
    /// Number of tasks
    #[arg(long, value_name = "NUMBER", value_parser = count, allow_hyphen_values = true)]
    pub(super) replicas: Option<u64>,
    /// Tasks of the service a node may have at most (0 = no limit)
    #[arg(long, value_name = "NUMBER", value_parser = count)]
    replicas_max_per_node: Option<u64>,
    /// Replace the image's entrypoint
    #[arg(long, value_name = "COMMAND")]
    entrypoint: Option<String>,
    /// Host name inside the container
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// User, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "PATH")]
    workdir: Option<String>,
    /// Mount the container's root file system read-only
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    read_only: Option<bool>,
    /// Signal that asks the container to stop
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Time between that signal and the end (default 10s)
    #[arg(long, value_name = "DURATION", value_parser = duration, allow_hyphen_values = true)]
    stop_grace_period: Option<Duration>,
    #[command(flatten)]
    health: HealthFlags,
    /// How clients reach the service: by one address, or by those of its tasks
    #[arg(long, value_enum)]
    endpoint_mode: Option<ModeFlag>,
    /// Which tasks connections go to: any, or one for each source address
    #[arg(long, value_enum)]
    affinity: Option<AffinityFlag>,
    #[command(flatten)]
    resources: ResourceFlags,
    #[command(flatten)]
    restart: RestartFlags,
    #[command(flatten)]
    update: UpdateFlags,
    #[command(flatten)]
    rollback: RollbackFlags,
}

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Resources")]
struct ResourceFlags {
    /// Processors the container may use
    #[arg(long, value_name = "DECIMAL", value_parser = nano_cpus, allow_hyphen_values = true)]
    limit_cpu: Option<u64>,
    /// Memory the container may use
    #[arg(long, value_name = "BYTES", value_parser = bytes, allow_hyphen_values = true)]
    limit_memory: Option<u64>,
    /// Processes and threads the container may have (0 = no limit)
    #[arg(long, value_name = "NUMBER", value_parser = count, allow_hyphen_values = true)]
    limit_pids: Option<u64>,
    /// Processors set aside for each task
    #[arg(long, value_name = "DECIMAL", value_parser = nano_cpus, allow_hyphen_values = true)]
    reserve_cpu: Option<u64>,
    /// Memory set aside for each task
    #[arg(long, value_name = "BYTES", value_parser = bytes, allow_hyphen_values = true)]
    reserve_memory: Option<u64>,
}

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Restart")]
struct RestartFlags {
    /// After which endings a task is replaced (default any)
    #[arg(long, value_enum)]
    restart_condition: Option<ConditionFlag>,
    /// Wait before a task is replaced (default 5s)
    #[arg(long, value_name = "DURATION", value_parser = duration, allow_hyphen_values = true)]
    restart_delay: Option<Duration>,
    /// Restarts within the window (0 = no limit)
    #[arg(long, value_name = "NUMBER", value_parser = count, allow_hyphen_values = true)]
    restart_max_attempts: Option<u64>,
    /// Span in which attempts count (0 = for ever)
    #[arg(long, value_name = "DURATION", value_parser = duration, allow_hyphen_values = true)]
    restart_window: Option<Duration>,
}

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Update")]
struct UpdateFlags {
    /// Tasks updated at once (0 = all; default 1)
    #[arg(long, value_name = "NUMBER", value_parser = count, allow_hyphen_values = true)]
    update_parallelism: Option<u64>,
    /// Pause between updates (default 0s)
    #[arg(long, value_name = "DURATION", value_parser = duration, allow_hyphen_values = true)]
    update_delay: Option<Duration>,
    /// How long a new task is watched for failure (default 5s)
    #[arg(long, value_name = "DURATION", value_parser = duration, allow_hyphen_values = true)]
    update_monitor: Option<Duration>,
    /// What happens when an update fails (default pause)
    #[arg(long, value_enum)]
    update_failure_action: Option<ActionFlag>,
    /// Share of tasks that may fail, 0 to 1
    #[arg(long, value_name = "RATIO", allow_hyphen_values = true)]
    update_max_failure_ratio: Option<f32>,
    /// Which of the two tasks goes first (default stop-first)
    #[arg(long, value_enum)]
    update_order: Option<OrderFlag>,
}

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Rollback")]
struct RollbackFlags {
    /// Tasks rolled back at once (0 = all; default 1)
    #[arg(long, value_name = "NUMBER", value_parser = count, allow_hyphen_values = true)]
    rollback_parallelism: Option<u64>,
    /// Pause between rollbacks (default 0s)
    #[arg(long, value_name = "DURATION", value_parser = duration, allow_hyphen_values = true)]
    rollback_delay: Option<Duration>,
    /// How long a task is watched for failure (default 5s)
    #[arg(long, value_name = "DURATION", value_parser = duration, allow_hyphen_values = true)]
    rollback_monitor: Option<Duration>,
    /// What happens when a rollback fails (default pause)
    #[arg(long, value_enum)]
    rollback_failure_action: Option<RollbackActionFlag>,
    /// Share of tasks that may fail, 0 to 1
    #[arg(long, value_name = "RATIO", allow_hyphen_values = true)]
    rollback_max_failure_ratio: Option<f32>,
    /// Which of the two tasks goes first (default stop-first)
    #[arg(long, value_enum)]
    rollback_order: Option<OrderFlag>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeFlag {
    // One virtual address, balanced
    Vip,
    // The addresses of the tasks
    Dnsrr,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AffinityFlag {
    // Any task
    None,
    // The same one for the same source address
    SourceIp,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ConditionFlag {
    // Never
    None,
    // Unless it exited with code 0
    OnFailure,
    // Always
    Any,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ActionFlag {
    // Stop updating
    Pause,
    // Go on regardless
    Continue,
    // Go back to the previous spec
    Rollback,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RollbackActionFlag {
    // Stop rolling back
    Pause,
    // Go on regardless
    Continue,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OrderFlag {
    // Stop the old task, then start the new one
    StopFirst,
    // Start the new task, then stop the old one
    StartFirst,
}

impl SpecFlags {
    /// Writes what was given into the spec.
    pub(crate) fn apply(self, spec: &mut ServiceSpec) -> Result<(), Error> {
        if let Some(replicas) = self.replicas {
            match &mut spec.mode {
                ServiceMode::Replicated { replicas: stored } => *stored = replicas,
                ServiceMode::Global {} => {
                    return Err(Error::Usage(
                        "replicas can only be used with replicated mode".to_owned(),
                    ));
                }
            }
        }
        let mode = self.endpoint_mode.map(|mode| match mode {
            ModeFlag::Vip => EndpointMode::Vip,
            ModeFlag::Dnsrr => EndpointMode::Dnsrr,
        });
        set(&mut spec.endpoint.mode, mode);
        let affinity = self.affinity.map(|affinity| match affinity {
            AffinityFlag::None => Affinity::None,
            AffinityFlag::SourceIp => Affinity::SourceIp,
        });
        set(&mut spec.endpoint.affinity, affinity);
        self.update.apply(&mut spec.update_config);
        self.rollback.apply(&mut spec.rollback_config);
        let task = Arc::make_mut(&mut spec.task);
        self.resources.apply(task);
        self.restart.apply(task);
        set(&mut task.placement.max_replicas, self.replicas_max_per_node);
        let container = &mut task.container;
        if let Some(entrypoint) = self.entrypoint {
            container.command = command("entrypoint", &entrypoint)?;
        }
        self.health.apply(container)?;
        set(&mut container.hostname, self.hostname);
        set(&mut container.user, self.user);
        set(&mut container.dir, self.workdir);
        set(&mut container.read_only, self.read_only);
        set(&mut container.stop_signal, self.stop_signal);
        if self.stop_grace_period.is_some() {
            container.stop_grace_period = self.stop_grace_period;
        }
        Ok(())
    }
}

fn set<T>(field: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *field = given;
    }
}

/// A command given as one text.
pub(crate) fn command(flag: &str, text: &str) -> Result<Vec<String>, Error> {
    words::words(text)
        .map_err(|problem| Error::Usage(format!("invalid value {text:?} for --{flag}: {problem}")))
}

impl ResourceFlags {
    fn apply(self, task: &mut TaskSpec) {
        let resources = &mut task.resources;
        set(&mut resources.limits.nano_cpus, self.limit_cpu);
        set(&mut resources.limits.memory_bytes, self.limit_memory);
        set(&mut resources.limits.pids, self.limit_pids);
        set(&mut resources.reservations.nano_cpus, self.reserve_cpu);
        set(
            &mut resources.reservations.memory_bytes,
            self.reserve_memory,
        );
    }
}

impl RestartFlags {
    fn apply(self, task: &mut TaskSpec) {
        let policy = &mut task.restart_policy;
        let condition = self.restart_condition.map(|condition| match condition {
            ConditionFlag::None => RestartCondition::None,
            ConditionFlag::OnFailure => RestartCondition::OnFailure,
            ConditionFlag::Any => RestartCondition::Any,
        });
        set(&mut policy.condition, condition);
        set(&mut policy.delay, self.restart_delay);
        set(&mut policy.max_attempts, self.restart_max_attempts);
        set(&mut policy.window, self.restart_window);
    }
}

impl UpdateFlags {
    fn apply(self, config: &mut UpdateConfig) {
        set(&mut config.parallelism, self.update_parallelism);
        set(&mut config.delay, self.update_delay);
        set(&mut config.monitor, self.update_monitor);
        let action = self.update_failure_action.map(|action| match action {
            ActionFlag::Pause => FailureAction::Pause,
            ActionFlag::Continue => FailureAction::Continue,
            ActionFlag::Rollback => FailureAction::Rollback,
        });
        set(&mut config.failure_action, action);
        set(&mut config.max_failure_ratio, self.update_max_failure_ratio);
        set(&mut config.order, self.update_order.map(order));
    }
}

impl RollbackFlags {
    fn apply(self, config: &mut UpdateConfig) {
        set(&mut config.parallelism, self.rollback_parallelism);
        set(&mut config.delay, self.rollback_delay);
        set(&mut config.monitor, self.rollback_monitor);
        let action = self.rollback_failure_action.map(|action| match action {
            RollbackActionFlag::Pause => FailureAction::Pause,
            RollbackActionFlag::Continue => FailureAction::Continue,
        });
        set(&mut config.failure_action, action);
        set(
            &mut config.max_failure_ratio,
            self.rollback_max_failure_ratio,
        );
        set(&mut config.order, self.rollback_order.map(order));
    }
}

fn order(flag: OrderFlag) -> UpdateOrder {
    match flag {
        OrderFlag::StopFirst => UpdateOrder::StopFirst,
        OrderFlag::StartFirst => UpdateOrder::StartFirst,
    }
}
