//! Rolling updates and rollbacks, step by step from what is stored (S7).
//!
//! No worker sleeps through an update: each plan looks at every slot, counts those under way or in
//! their pause, and begins as many others as parallelism leaves room for. How far the update has
//! come is in the tasks: those made from the service's current spec since the update began are its
//! work. A first plan only opens the update, so that its start is stored before any of its tasks.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use types::secret::ContentId;
use types::task::RestartCondition;
use types::update::{FailureAction, UpdateConfig, UpdateState, UpdateStatus};
use types::{Service, ServiceSpec, Task, TaskId, TaskState, Timestamp};

use crate::draft::{Draft, Pattern, SlotKey, desire};
use crate::slot::{Slot, has_ended_by_itself};
use crate::view::ServiceView;

/// Separates the message of a status from the task the update waits for.
const WAITING: &str = "; waiting for ";

/// What an update does in this plan.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// Slots that get their new task now.
    pub(crate) begins: BTreeSet<SlotKey>,
}

/// Decides the next step of a service's update, and what its status becomes.
pub(crate) fn plan(
    view: &ServiceView<'_>,
    filled: &BTreeMap<SlotKey, Slot<'_>>,
    running_since: &HashMap<TaskId, Timestamp>,
    draft: &mut Draft<'_>,
) -> Step {
    let mut step = Step::default();
    let status = view.service.update_status.as_ref();
    let stands = status.map(|status| status.state);
    if matches!(
        stands,
        Some(UpdateState::Paused | UpdateState::RollbackPaused)
    ) {
        return step;
    }
    if !view.revision.has_others() && !is_open(stands) {
        return step;
    }
    let survey = Survey::new(view, filled, running_since);
    let status = match (status, stands) {
        (Some(status), stands) if is_open(stands) => status,
        (_, _) => {
            // Slots begun by an update that was replaced by one without effect still finish.
            if !survey.stale.is_empty() || (stands.is_none() && survey.overlaps) {
                open(view, draft);
            }
            return step;
        }
    };
    if let Some(failed) = survey.failed_beyond(view.update_config()) {
        fail(view, status, failed, draft);
        return step;
    }
    if let Some(at) = survey.finished_at(view) {
        if at <= view.now {
            complete(view, status, draft);
        } else {
            draft.wake(at);
        }
        return step;
    }
    let room = match usize::try_from(view.update_config().parallelism).unwrap_or(usize::MAX) {
        0 => usize::MAX,
        parallelism => parallelism.saturating_sub(survey.busy),
    };
    if room < survey.stale.len()
        && let Some(at) = survey.pause_ends
    {
        draft.wake(at);
    }
    tell_waiting(view, status, &survey, draft);
    step.begins = survey
        .stale
        .iter()
        .take(room)
        .map(|(_, key)| *key)
        .collect();
    step
}

/// True while slots are being changed or watched.
pub(crate) fn is_open(stands: Option<UpdateState>) -> bool {
    matches!(
        stands,
        Some(UpdateState::Updating | UpdateState::RollbackStarted)
    )
}

/// Gives a slot its new task, in the order the service asks for.
pub(crate) fn begin(view: &ServiceView<'_>, key: SlotKey, slot: &Slot<'_>, draft: &mut Draft<'_>) {
    let new_first = view.starts_new_first();
    let mut stopping = view.has_stopping(slot);
    let mut actions = Vec::new();
    for task in slot
        .live()
        .filter(|task| !(new_first && view.is_sound(task)))
    {
        actions.push(desire(task, TaskState::Shutdown));
        stopping |= view.is_stopping(task);
    }
    let desired = if stopping && !new_first {
        TaskState::Ready
    } else {
        TaskState::Running
    };
    let pattern = Pattern::of_service(view.service);
    actions.push(draft.create(view.service, key, pattern, desired, view.now));
    draft.add(actions);
}

/// How far the update has come over all slots.
#[derive(Debug, Default)]
struct Survey<'s> {
    /// Slots still to be begun, those that do not run first.
    stale: Vec<(bool, SlotKey)>,
    /// Slots in which this update has made a task.
    tried: usize,
    /// Slots that take up parallelism: under way, or in the pause after.
    busy: usize,
    /// When the first of those pauses ends.
    pause_ends: Option<Timestamp>,
    /// True while an old and a new task share a slot.
    overlaps: bool,
    /// True while a new task has not arrived.
    under_way: bool,
    /// When the last new task arrived.
    last_arrival: Option<Timestamp>,
    failures: usize,
    first_failed: Option<&'s Task>,
    /// A new task that cannot go on, for people to read.
    waiting: Option<&'s Task>,
}

impl<'s> Survey<'s> {
    fn new(
        view: &ServiceView<'s>,
        filled: &BTreeMap<SlotKey, Slot<'s>>,
        running_since: &HashMap<TaskId, Timestamp>,
    ) -> Self {
        let mut survey = Self::default();
        for (key, slot) in filled {
            survey.add(view, *key, slot, running_since);
        }
        survey.stale.sort_unstable();
        survey
    }

    fn add(
        &mut self,
        view: &ServiceView<'s>,
        key: SlotKey,
        slot: &Slot<'s>,
        running_since: &HashMap<TaskId, Timestamp>,
    ) {
        let config = view.update_config();
        let began = view
            .service
            .update_status
            .as_ref()
            .map(|status| status.started_at);
        let current = || {
            slot.tasks
                .iter()
                .copied()
                .filter(|task| view.revision.is_current(task))
        };
        let made = current().find(|task| began.is_some_and(|at| task.meta.created_at >= at));
        let clean_live = slot.live().find(|task| !view.is_dirty(task));
        let dirty_live = slot.live().find(|task| view.is_dirty(task));
        let is_outdated = match (dirty_live, clean_live) {
            (Some(_), None) => true,
            (None, None) => slot.newest().is_some_and(|task| view.is_dirty(task)),
            (_, Some(_)) => false,
        };
        if is_outdated && made.is_none() {
            let runs = slot
                .live()
                .any(|task| task.status.state == TaskState::Running);
            self.stale.push((runs, key));
        }
        self.overlaps |= clean_live.is_some() && dirty_live.is_some();
        if let Some(made) = made {
            self.tried += 1;
            if has_failed(made, config, running_since) {
                self.failures += 1;
                self.first_failed.get_or_insert(made);
            }
        }
        let arrival = current().find_map(|task| arrived_at(task, running_since));
        if made.is_some() {
            self.last_arrival = self.last_arrival.max(arrival);
        }
        // A slot without an outdated task was not updated but added.
        if !slot.tasks.iter().any(|task| view.is_dirty(task)) {
            return;
        }
        match (arrival, clean_live) {
            (Some(at), _) if made.is_some() && at.plus(config.delay) > view.now => {
                let ends = at.plus(config.delay);
                self.busy += 1;
                self.pause_ends = Some(self.pause_ends.map_or(ends, |known| known.min(ends)));
            }
            (None, Some(task)) if view.revision.is_current(task) => {
                self.busy += 1;
                self.under_way = true;
                if !task.status.err.is_empty() {
                    self.waiting.get_or_insert(task);
                }
            }
            (Some(_) | None, _) => {}
        }
    }

    /// A failed task, when more failed than the service tolerates (S7.12).
    fn failed_beyond(&self, config: &UpdateConfig) -> Option<&'s Task> {
        if config.failure_action == FailureAction::Continue {
            return None;
        }
        let slots = self.tried + self.stale.len();
        #[expect(
            clippy::cast_precision_loss,
            reason = "a ratio for people, not a count"
        )]
        let ratio = self.failures as f32 / slots.max(1) as f32;
        self.first_failed
            .filter(|_| ratio > config.max_failure_ratio)
    }

    /// When everything is done and watched long enough (S7.16); nothing while slots are left.
    fn finished_at(&self, view: &ServiceView<'_>) -> Option<Timestamp> {
        if self.overlaps || self.under_way || !self.stale.is_empty() {
            return None;
        }
        let config = view.update_config();
        let watch = match config.failure_action {
            FailureAction::Continue => Duration::ZERO,
            FailureAction::Pause | FailureAction::Rollback => monitor(config),
        };
        Some(
            self.last_arrival
                .map_or(view.now, |at| at.plus(config.delay).plus(watch)),
        )
    }
}

/// How long a new task is watched: never shorter than the pause between slots (S7.16).
fn monitor(config: &UpdateConfig) -> Duration {
    if config.monitor <= config.delay {
        config.delay + Duration::from_secs(1)
    } else {
        config.monitor
    }
}

/// When a new task first ran, or ended without having run.
fn arrived_at(task: &Task, running_since: &HashMap<TaskId, Timestamp>) -> Option<Timestamp> {
    running_since.get(&task.id).copied().or_else(|| {
        let arrived = task.status.state == TaskState::Running || has_ended_by_itself(task);
        arrived.then_some(task.status.applied_at)
    })
}

/// Whether a task made by the update ended before it ran or while it was watched (S7.11).
///
/// The store does not say how long an ended task had run. The leader that saw it start knows; one
/// that took over since takes it for failed, which at worst stops an update too early.
fn has_failed(
    task: &Task,
    config: &UpdateConfig,
    running_since: &HashMap<TaskId, Timestamp>,
) -> bool {
    let ended_badly = match task.status.state {
        TaskState::Failed | TaskState::Rejected => true,
        TaskState::Complete => task.spec.restart_policy.condition == RestartCondition::Any,
        TaskState::New
        | TaskState::Pending
        | TaskState::Assigned
        | TaskState::Accepted
        | TaskState::Preparing
        | TaskState::Ready
        | TaskState::Starting
        | TaskState::Running
        | TaskState::Shutdown
        | TaskState::Remove
        | TaskState::Orphaned => false,
    };
    ended_badly
        && running_since
            .get(&task.id)
            .is_none_or(|since| task.status.applied_at.since(*since) <= monitor(config))
}

fn open(view: &ServiceView<'_>, draft: &mut Draft<'_>) {
    set_status(
        view,
        UpdateStatus {
            state: UpdateState::Updating,
            started_at: view.now,
            completed_at: Timestamp::default(),
            message: "update in progress".to_owned(),
        },
        draft,
    );
}

fn complete(view: &ServiceView<'_>, status: &UpdateStatus, draft: &mut Draft<'_>) {
    let (state, message) = if view.is_rolling_back() {
        (UpdateState::RollbackCompleted, "rollback completed")
    } else {
        (UpdateState::Completed, "update completed")
    };
    let message = message.to_owned();
    let status = UpdateStatus {
        state,
        completed_at: view.now,
        message,
        started_at: status.started_at,
    };
    set_status(view, status, draft);
}

/// Stops the update, or turns it round (S7.13, S7.14).
fn fail(view: &ServiceView<'_>, status: &UpdateStatus, failed: &Task, draft: &mut Draft<'_>) {
    let cause = format!("due to failure or early termination of task {}", failed.id);
    let wants_rollback = view.update_config().failure_action == FailureAction::Rollback;
    let (state, message) = match &view.service.previous_spec {
        _ if view.is_rolling_back() => (
            UpdateState::RollbackPaused,
            format!("rollback paused {cause}"),
        ),
        Some(previous) if wants_rollback && lost_content(view, previous).is_some() => (
            UpdateState::Paused,
            format!(
                "update paused {cause}; the previous spec needs {}, which is gone",
                lost_content(view, previous).unwrap_or_default()
            ),
        ),
        Some(previous) if wants_rollback => {
            let mut previous = previous.clone();
            // Ports given up may be another service's by now: what runs goes back, they do not.
            if view
                .state
                .check_service(view.service.id, &previous)
                .is_err()
            {
                previous.endpoint = view.service.spec.endpoint.clone();
            }
            if let Err((_, why)) = view.state.check_service(view.service.id, &previous) {
                let message = format!("update paused {cause}; it cannot be rolled back: {why}");
                let state = UpdateState::Paused;
                let status = UpdateStatus {
                    state,
                    message,
                    ..status.clone()
                };
                set_status(view, status, draft);
                return;
            }
            draft.service = Some(Service {
                spec: previous,
                previous_spec: None,
                update_status: Some(UpdateStatus {
                    state: UpdateState::RollbackStarted,
                    started_at: view.now,
                    completed_at: Timestamp::default(),
                    message: format!("update rolled back {cause}"),
                }),
                ..view.service.clone()
            });
            return;
        }
        None if wants_rollback => (
            UpdateState::Paused,
            format!("update paused {cause}; there is no previous spec to roll back to"),
        ),
        Some(_) | None => (UpdateState::Paused, format!("update paused {cause}")),
    };
    set_status(
        view,
        UpdateStatus {
            state,
            message,
            ..status.clone()
        },
        draft,
    );
}

/// A secret or config that a spec refers to and that was removed meanwhile.
fn lost_content(view: &ServiceView<'_>, spec: &ServiceSpec) -> Option<String> {
    let mut uses = spec.task.container.contents();
    let lost = uses.find(|used| match used.id {
        ContentId::Secret(id) => view.state.secret(id).is_none(),
        ContentId::Config(id) => view.state.config(id).is_none(),
    });
    lost.map(|used| format!("{} {}", used.id.kind(), used.name))
}

/// Keeps the message of an open update saying which task it waits for, and why (S23.01).
fn tell_waiting(
    view: &ServiceView<'_>,
    status: &UpdateStatus,
    survey: &Survey<'_>,
    draft: &mut Draft<'_>,
) {
    let base = status.message.split(WAITING).next().unwrap_or_default();
    let message = match survey.waiting {
        Some(task) => format!("{base}{WAITING}{}: {}", task.name(), task.status.err),
        None => base.to_owned(),
    };
    if message != status.message {
        set_status(
            view,
            UpdateStatus {
                message,
                ..status.clone()
            },
            draft,
        );
    }
}

fn set_status(view: &ServiceView<'_>, status: UpdateStatus, draft: &mut Draft<'_>) {
    draft.service = Some(Service {
        update_status: Some(status),
        ..view.service.clone()
    });
}

#[cfg(test)]
mod tests;
