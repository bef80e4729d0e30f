//! How far a service has come, judged from one view of it.

use std::collections::BTreeMap;

use proto::control::{ServiceProgress, TaskProgress};
use types::service::ServiceMode;
use types::update::UpdateState;
use types::{Service, TaskState};

use crate::error::Error;

/// How far a service has come.
#[derive(Debug)]
pub(super) struct Picture {
    pub(super) service: Service,
    /// Tasks there should be.
    pub(super) desired: usize,
    /// Slots in order; those without a task yet are missing.
    pub(super) slots: Vec<Slot>,
}

/// What a slot is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) stage: Stage,
    /// State of the task that counts, in a word.
    pub(super) state: TaskState,
    /// Why it is no further.
    pub(super) reason: String,
}

/// Where a slot stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// A task of the newest spec runs, and none of an older one does.
    Running,
    /// Its task ended, and the managers have given it up without making another.
    Ended,
    /// Anything else.
    Moving,
}

/// What all of it comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Not there yet.
    Moving,
    /// As asked for; it should stay so for a while.
    Steady,
    /// As asked for, and nothing more is to be watched.
    Done,
    /// Nothing moves any more, but some tasks have ended.
    Ended,
    /// The update was paused, or the rollback.
    Paused,
    /// The service went back to its previous spec.
    RolledBack,
}

impl Picture {
    /// Reads a view; none once the service is gone.
    pub(super) fn read(view: ServiceProgress) -> Result<Option<Self>, Error> {
        let Some(service) = view.service else {
            return Ok(None);
        };
        let desired = usize::try_from(service.desired_tasks).unwrap_or(usize::MAX);
        let service = Service::try_from(service.service.unwrap_or_default())?;
        let mut tasks: BTreeMap<(u64, String), Vec<Task>> = BTreeMap::new();
        for task in view.tasks {
            // The slots of a global service are nodes.
            let node = if task.slot == 0 {
                task.node_id.clone()
            } else {
                String::new()
            };
            tasks
                .entry((task.slot, node))
                .or_default()
                .push(Task::read(task));
        }
        let slots = tasks.into_values().map(|tasks| slot(&tasks)).collect();
        Ok(Some(Self {
            service,
            desired,
            slots,
        }))
    }

    /// Slots that run what is asked for.
    pub(super) fn running(&self) -> usize {
        self.slots
            .iter()
            .filter(|slot| slot.stage == Stage::Running)
            .count()
    }

    /// Slots that have ended.
    pub(super) fn ended(&self) -> usize {
        self.slots
            .iter()
            .filter(|slot| slot.stage == Stage::Ended)
            .count()
    }

    /// What it comes to.
    pub(super) fn verdict(&self) -> Verdict {
        let state = self
            .service
            .update_status
            .as_ref()
            .map(|status| status.state);
        match state {
            Some(UpdateState::Paused | UpdateState::RollbackPaused) => return Verdict::Paused,
            Some(
                UpdateState::Updating
                | UpdateState::Completed
                | UpdateState::RollbackStarted
                | UpdateState::RollbackCompleted,
            )
            | None => {}
        }
        let (running, ended) = (self.running(), self.ended());
        if running + ended != self.desired || self.slots.len() != self.desired {
            return Verdict::Moving;
        }
        if ended > 0 {
            return Verdict::Ended;
        }
        match state {
            // The managers watch for as long as they were told; no need to do it again.
            Some(UpdateState::Completed) => Verdict::Done,
            Some(UpdateState::RollbackCompleted) => Verdict::RolledBack,
            Some(UpdateState::Updating | UpdateState::RollbackStarted) => Verdict::Moving,
            Some(UpdateState::Paused | UpdateState::RollbackPaused) => Verdict::Paused,
            None if self.wants_nothing() => Verdict::Done,
            None => Verdict::Steady,
        }
    }

    /// The managers are on their way back to the previous spec.
    pub(super) fn rolls_back(&self) -> bool {
        self.service
            .update_status
            .as_ref()
            .is_some_and(|status| status.state == UpdateState::RollbackStarted)
    }

    /// What the managers say of the update.
    pub(super) fn update_message(&self) -> &str {
        self.service
            .update_status
            .as_ref()
            .map_or("", |status| &status.message)
    }

    /// Why tasks are no further: each reason once, the most frequent first.
    pub(super) fn reasons(&self) -> Vec<(usize, &str)> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for slot in self.slots.iter().filter(|slot| !slot.reason.is_empty()) {
            *counts.entry(&slot.reason).or_default() += 1;
        }
        let mut reasons: Vec<_> = counts.into_iter().map(|(reason, n)| (n, reason)).collect();
        reasons.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
        reasons
    }

    /// True when every ended slot ended well.
    pub(super) fn ended_well(&self) -> bool {
        let mut ended = self.slots.iter().filter(|slot| slot.stage == Stage::Ended);
        ended.all(|slot| slot.state == TaskState::Complete)
    }

    fn wants_nothing(&self) -> bool {
        self.service.spec.mode == (ServiceMode::Replicated { replicas: 0 })
    }
}

/// What counts of a task.
struct Task {
    state: TaskState,
    runnable: bool,
    current: bool,
    reason: String,
}

impl Task {
    fn read(task: TaskProgress) -> Self {
        let state = |number: u32| {
            u16::try_from(number)
                .ok()
                .and_then(TaskState::from_number)
                .unwrap_or_default()
        };
        Self {
            state: state(task.state),
            runnable: state(task.desired_state) <= TaskState::Running,
            current: task.current,
            reason: task.err,
        }
    }
}

fn slot(tasks: &[Task]) -> Slot {
    let live = || tasks.iter().filter(|task| task.runnable);
    // The newest task of the newest spec says where the slot is going.
    let shown = live()
        .rfind(|task| task.current)
        .or_else(|| live().next_back());
    let stage = match shown {
        None => Stage::Ended,
        Some(task) if task.state == TaskState::Running && live().all(|task| task.current) => {
            Stage::Running
        }
        Some(_) => Stage::Moving,
    };
    let shown = shown.or(tasks.last());
    Slot {
        stage,
        state: shown.map_or(TaskState::New, |task| task.state),
        reason: match (stage, shown) {
            (Stage::Running, _) | (_, None) => String::new(),
            // A replacement waits; why it was needed says its predecessor.
            (Stage::Moving, Some(task)) if task.reason.is_empty() => {
                let failed = tasks.iter().rev().find(|task| !task.reason.is_empty());
                failed.map(|task| task.reason.clone()).unwrap_or_default()
            }
            (_, Some(task)) => task.reason.clone(),
        },
    }
}

#[cfg(test)]
mod tests;
