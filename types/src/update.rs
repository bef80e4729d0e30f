//! How a service moves to a new spec, and how far it has come.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// How long a new task is watched when the spec names no time (S7.01).
pub const MONITOR_DEFAULT: Duration = Duration::from_secs(5);

/// Pace and safety of an update or rollback (S7).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UpdateConfig {
    /// Slots changed at once; 0 means all.
    pub parallelism: u64,
    /// Pause after each slot.
    #[serde(with = "crate::duration")]
    pub delay: Duration,
    /// What a failure beyond the ratio does.
    pub failure_action: FailureAction,
    /// How long each new task is watched for failure.
    #[serde(with = "crate::duration")]
    pub monitor: Duration,
    /// Share of failed slots tolerated, 0 to 1.
    pub max_failure_ratio: f32,
    /// Whether the old task stops before the new one starts.
    pub order: UpdateOrder,
}

impl Default for UpdateConfig {
    fn default() -> Self {
        Self {
            parallelism: 1,
            delay: Duration::ZERO,
            failure_action: FailureAction::Pause,
            monitor: MONITOR_DEFAULT,
            max_failure_ratio: 0.0,
            order: UpdateOrder::StopFirst,
        }
    }
}

/// What happens when too many new tasks fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailureAction {
    /// Stop updating, keep what there is.
    #[default]
    Pause,
    /// Go on regardless.
    Continue,
    /// Go back to the previous spec.
    Rollback,
}

/// Which of the two tasks of a slot yields first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpdateOrder {
    /// Stop the old, then start the new.
    #[default]
    StopFirst,
    /// Start the new, then stop the old.
    StartFirst,
}

/// How far the last update has come (S7.17).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UpdateStatus {
    /// Where it stands.
    pub state: UpdateState,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended; zero while it has not.
    pub completed_at: Timestamp,
    /// One sentence for people.
    pub message: String,
}

/// Where an update stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateState {
    /// Slots are being changed or watched.
    #[default]
    Updating,
    /// Stopped by failures; the next update resumes.
    Paused,
    /// Every slot has the new spec.
    Completed,
    /// Going back to the previous spec.
    RollbackStarted,
    /// Going back was itself stopped by failures.
    RollbackPaused,
    /// Every slot has the previous spec again.
    RollbackCompleted,
}
