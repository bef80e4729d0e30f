//! The restart policy: whether a task that came to its end is replaced, and after what delay.
//!
//! How often a slot was restarted is read from the tasks stored for it, of which the reaper keeps
//! enough; nothing is remembered, so nothing is lost with a leader (S5.08).

use std::time::Duration;

use types::task::RestartCondition;
use types::{Task, TaskState, Timestamp};

use crate::revision::is_same_work;
use crate::slot::{Slot, has_ended_by_itself};

/// Least delay before a rejected task is tried again. What was rejected never ran, so trying at
/// once would only repeat the rejection, several writes to the log each time.
const REJECTED_DELAY_MIN: Duration = Duration::from_secs(1);

/// Whether policy replaces `task`, which came to its own end (S5.05, S5.06).
pub(crate) fn is_allowed(slot: &Slot<'_>, task: &Task) -> bool {
    let policy = &task.spec.restart_policy;
    let by_condition = match policy.condition {
        RestartCondition::None => false,
        RestartCondition::OnFailure => task.status.state != TaskState::Complete,
        RestartCondition::Any => true,
    };
    by_condition && (policy.max_attempts == 0 || attempts(slot, task) < policy.max_attempts)
}

/// Restarts of the slot that count when `task` ends: of its spec version, inside the window that
/// ends with it. Moves to another node are no restarts.
fn attempts(slot: &Slot<'_>, task: &Task) -> u64 {
    let window = task.spec.restart_policy.window;
    let ended_at = task.status.applied_at;
    let counts = |pair: &&[&Task]| {
        let [before, after] = pair else { return false };
        after.spec_version == task.spec_version
            && before.spec_version == task.spec_version
            && is_replacement_of_ended(before, after)
            && (window.is_zero() || ended_at.since(after.meta.created_at) < window)
    };
    slot.tasks.windows(2).filter(counts).count() as u64
}

/// True when `after` was made because `before` had come to its end.
fn is_replacement_of_ended(before: &Task, after: &Task) -> bool {
    has_ended_by_itself(before) && before.status.applied_at <= after.meta.created_at
}

/// Wait before the replacement of `task` starts.
pub(crate) fn delay(task: &Task) -> Duration {
    let asked = task.spec.restart_policy.delay;
    if task.status.state == TaskState::Rejected {
        asked.max(REJECTED_DELAY_MIN)
    } else {
        asked
    }
}

/// When the delay of `task`, desired READY, is over. Only restarts have one; tasks of an update and
/// tasks moved from another node have not.
pub(crate) fn delay_ends(slot: &Slot<'_>, task: &Task) -> Timestamp {
    let made = task.meta.created_at;
    match slot.predecessor(task) {
        Some(before)
            if is_replacement_of_ended(before, task) && is_same_work(&before.spec, &task.spec) =>
        {
            made.plus(delay(before))
        }
        Some(_) | None => made,
    }
}

#[cfg(test)]
mod tests;
