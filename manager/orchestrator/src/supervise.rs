//! Care for one filled slot: replacing what ended or lost its node, starting what was delayed.

use std::time::Duration;

use store::Action;
use types::{Task, TaskState};

use crate::draft::{Draft, Pattern, SlotKey, desire};
use crate::restart;
use crate::slot::{Slot, has_ended, has_ended_by_itself};
use crate::view::ServiceView;

/// How long a replacement waits for its predecessor to stop, once its own delay is over (S5.03).
const PREDECESSOR_WAIT_MAX: Duration = Duration::from_secs(60);

/// Plans for a slot that no update step concerns. `may_replace` is false where no new task may be
/// made: on a paused node of a global service.
pub(crate) fn supervise(
    view: &ServiceView<'_>,
    key: SlotKey,
    slot: &Slot<'_>,
    may_replace: bool,
    draft: &mut Draft<'_>,
) {
    let Some(kept) = best(view, slot) else {
        return;
    };
    let mut actions: Vec<_> = slot
        .live()
        .filter(|task| task.id != kept.id && is_superfluous(view, task, kept))
        .map(|task| desire(task, TaskState::Shutdown))
        .collect();
    if !view.is_sound(kept) {
        actions.extend(replace(view, key, slot, kept, may_replace, draft));
    } else if kept.desired_state == TaskState::Ready {
        actions.extend(release(view, key, slot, kept, draft));
    }
    draft.add(actions);
}

/// The live task the slot is to keep: one of the current spec, then one that can run on, then one
/// that runs, then the newest.
fn best<'s>(view: &ServiceView<'_>, slot: &Slot<'s>) -> Option<&'s Task> {
    // The last of equals is the newest.
    slot.live().max_by_key(|task| {
        let runs = task.status.state == TaskState::Running;
        (!view.is_dirty(task), view.is_sound(task), runs)
    })
}

/// Whether another live task of the slot has no part to play beside the one that is kept.
fn is_superfluous(view: &ServiceView<'_>, other: &Task, kept: &Task) -> bool {
    if !view.is_sound(other) || !view.is_dirty(other) {
        // Over, or a second one of the current spec, as two leaders might have made.
        return true;
    }
    if view.is_dirty(kept) {
        // Both wait for the update.
        return false;
    }
    let successor_runs = view.is_sound(kept) && kept.status.state == TaskState::Running;
    successor_runs || !view.starts_new_first()
}

/// Gives up a task that has ended or lost its node, and makes its replacement where there is to be
/// one.
fn replace(
    view: &ServiceView<'_>,
    key: SlotKey,
    slot: &Slot<'_>,
    task: &Task,
    may_replace: bool,
    draft: &mut Draft<'_>,
) -> Vec<Action> {
    let by_itself = has_ended_by_itself(task);
    if by_itself && task.desired_state == TaskState::Ready {
        // It failed before its delay was over. Its replacement is due when it would have been,
        // or a task that fails at once would be retried without any delay (S5.07).
        let due = restart::delay_ends(slot, task);
        if view.now < due {
            draft.wake_slot(key, due);
            return vec![];
        }
    }
    let mut actions = vec![desire(task, TaskState::Shutdown)];
    if !may_replace || (by_itself && !restart::is_allowed(slot, task)) {
        return actions;
    }
    let waits = if by_itself {
        !restart::delay(task).is_zero()
    } else {
        !has_ended(task) && view.is_stopping(task)
    };
    let desired = if waits || view.has_stopping(slot) {
        TaskState::Ready
    } else {
        TaskState::Running
    };
    // A task still to be updated is repeated as it was: only the update gives a slot the new spec.
    let pattern = if view.is_dirty(task) {
        Pattern::of_task(task)
    } else {
        Pattern::of_service(view.service)
    };
    actions.push(draft.create(view.service, key, pattern, desired, view.now));
    actions
}

/// Lets a prepared task start once its delay is over and its predecessor is out of the way.
fn release(
    view: &ServiceView<'_>,
    key: SlotKey,
    slot: &Slot<'_>,
    task: &Task,
    draft: &mut Draft<'_>,
) -> Option<Action> {
    let due = restart::delay_ends(slot, task);
    let latest = due.plus(PREDECESSOR_WAIT_MAX);
    if view.now < due {
        draft.wake_slot(key, due);
        None
    } else if view.has_stopping(slot) && view.now < latest {
        draft.wake_slot(key, latest);
        None
    } else {
        Some(desire(task, TaskState::Running))
    }
}

#[cfg(test)]
mod tests;
