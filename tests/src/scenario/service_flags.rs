//! The flags of `service create` and `service update` in scenario scripts.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use types::service::ServiceMode;
use types::task::RestartCondition;
use types::update::{FailureAction, UpdateConfig, UpdateOrder};
use types::{ServiceSpec, TaskSpec};

use super::values;

/// Applies flags to a spec, as the command line does.
///
/// # Errors
/// When a flag is unknown or its value is wrong.
pub(super) fn apply(spec: &mut ServiceSpec, words: &[&str]) -> anyhow::Result<()> {
    let mut words = words.iter();
    while let Some(flag) = words.next() {
        let mut value = || {
            words
                .next()
                .copied()
                .with_context(|| format!("{flag} needs a value"))
        };
        let task = Arc::make_mut(&mut spec.task);
        match *flag {
            "--replicas" => {
                spec.mode = ServiceMode::Replicated {
                    replicas: value()?.parse()?,
                };
            }
            "--global" => spec.mode = ServiceMode::Global {},
            "--label" => spec.labels.extend([values::pair(value()?)?]),
            "--force" => task.force_update += 1,
            _ if flag.starts_with("--update-") => {
                pace(
                    &mut spec.update_config,
                    &flag["--update-".len()..],
                    value()?,
                )?;
            }
            _ if flag.starts_with("--rollback-") => {
                pace(
                    &mut spec.rollback_config,
                    &flag["--rollback-".len()..],
                    value()?,
                )?;
            }
            flag => of_task(task, flag, value()?)?,
        }
    }
    Ok(())
}

fn of_task(task: &mut TaskSpec, flag: &str, value: &str) -> anyhow::Result<()> {
    let (restart, placement) = (&mut task.restart_policy, &mut task.placement);
    let reserved = &mut task.resources.reservations;
    match flag {
        "--image" => value.clone_into(&mut task.container.image),
        "--env" => task.container.env.push(value.to_owned()),
        "--reserve-cpu" => reserved.nano_cpus = values::nano_cpus(value)?,
        "--reserve-memory" => reserved.memory_bytes = values::bytes(value)?,
        "--constraint-rm" => placement
            .constraints
            .retain(|constraint| constraint != value),
        "--constraint" => placement.constraints.push(value.to_owned()),
        "--spread" => placement.preferences.push(value.to_owned()),
        "--max-per-node" => placement.max_replicas = value.parse()?,
        "--platform" => {
            let (os, architecture) = value.split_once('/').context("a platform is os/arch")?;
            placement.platforms.push(types::task::Platform {
                architecture: architecture.to_owned(),
                os: os.to_owned(),
            });
        }
        "--restart" => {
            restart.condition = match value {
                "none" => RestartCondition::None,
                "on-failure" => RestartCondition::OnFailure,
                "any" => RestartCondition::Any,
                _ => bail!("{value:?} is no restart condition"),
            };
        }
        "--restart-delay" => restart.delay = values::duration(value)?,
        "--restart-attempts" => restart.max_attempts = value.parse()?,
        "--restart-window" => restart.window = values::duration(value)?,
        _ => bail!("unknown flag {flag}"),
    }
    Ok(())
}

fn pace(config: &mut UpdateConfig, flag: &str, value: &str) -> anyhow::Result<()> {
    match flag {
        "parallelism" => config.parallelism = value.parse()?,
        "delay" => config.delay = values::duration(value)?,
        "monitor" => config.monitor = values::duration(value)?,
        "ratio" => config.max_failure_ratio = value.parse()?,
        "failure" => {
            config.failure_action = match value {
                "pause" => FailureAction::Pause,
                "continue" => FailureAction::Continue,
                "rollback" => FailureAction::Rollback,
                _ => bail!("{value:?} is no failure action"),
            };
        }
        "order" => {
            config.order = match value {
                "stop-first" => UpdateOrder::StopFirst,
                "start-first" => UpdateOrder::StartFirst,
                _ => bail!("{value:?} is no update order"),
            };
        }
        _ => bail!("unknown flag {flag} of an update"),
    }
    Ok(())
}
