//! The leader loop that deletes tasks that are over: removed ones, and history beyond the limit (S3).

use std::collections::BTreeSet;
use std::time::Duration;

use store::{Action, Change, Object, ObjectId, Plan, PlanContext, Planner, State};
use types::update::UpdateState;
use types::{ClusterSpec, NodeId, Service, ServiceId, Task, TaskId, TaskState, Timestamp};

use crate::draft::SlotKey;

/// How long deletions gather before they are written (S3.05).
const GATHER: Duration = Duration::from_millis(250);

/// Gathered entries that are worked off at once (S3.05).
const GATHERED_MAX: usize = 1000;

/// Deletes tasks that are over.
#[derive(Debug, Default)]
pub struct Reaper {
    /// Slots whose history may have outgrown the limit.
    slots: BTreeSet<(ServiceId, SlotKey)>,
    /// Tasks that may be deleted as such.
    tasks: BTreeSet<TaskId>,
    /// Nodes that were removed: nobody will tell how tasks to be removed ended there.
    lost_nodes: BTreeSet<NodeId>,
    /// Services whose slots are all to be looked at.
    services: BTreeSet<ServiceId>,
    /// True when every slot is to be looked at.
    all: bool,
    due_at: Option<Timestamp>,
}

impl Planner for Reaper {
    fn name(&self) -> &'static str {
        "reaper"
    }

    fn observe(&mut self, change: &Change) {
        match (&change.old, &change.new) {
            (old, Some(Object::Task(task))) => {
                let old = match old {
                    Some(Object::Task(old)) => Some(&**old),
                    Some(_) | None => None,
                };
                self.observe_task(old, task);
            }
            (Some(Object::Node(node)), None) => {
                self.lost_nodes.insert(node.id);
            }
            // A lower limit applies to what there is, and so does the end of an update, which
            // keeps a little more.
            (Some(Object::Cluster(old)), Some(Object::Cluster(new))) => {
                self.all |= old.spec.task_history_limit != new.spec.task_history_limit;
            }
            (Some(Object::Service(old)), Some(Object::Service(new))) => {
                if is_updating(old) && !is_updating(new) {
                    self.services.insert(new.id);
                }
            }
            (_, _) => {}
        }
    }

    fn resync(&mut self, state: &State) {
        // Due at once: what is over by now has waited for a leader.
        *self = Self {
            all: true,
            due_at: Some(Timestamp::default()),
            ..Self::default()
        };
        self.tasks = state
            .tasks()
            .filter(|task| is_over(state, task))
            .map(|t| t.id)
            .collect();
    }

    fn plan(&mut self, context: &mut PlanContext<'_>) -> Plan {
        let mut plan = Plan::default();
        let gathered = self.slots.len() + self.tasks.len();
        let nothing = gathered == 0 && self.lost_nodes.is_empty() && self.services.is_empty();
        if nothing && !self.all {
            return plan;
        }
        let due_at = *self.due_at.get_or_insert_with(|| context.now.plus(GATHER));
        if context.now < due_at && gathered < GATHERED_MAX {
            plan.wake_no_later_than(due_at);
            return plan;
        }
        self.due_at = None;
        let state = context.state;
        for node in std::mem::take(&mut self.lost_nodes) {
            self.tasks
                .extend(state.tasks_on_node(node).map(|task| task.id));
        }
        for service in std::mem::take(&mut self.services) {
            let tasks = state.tasks_of_service(service);
            self.slots
                .extend(tasks.map(|task| (service, SlotKey::of(task))));
        }
        if std::mem::take(&mut self.all) {
            self.slots.extend(
                state
                    .tasks()
                    .map(|task| (task.service_id, SlotKey::of(task))),
            );
        }
        let mut dead: BTreeSet<TaskId> = std::mem::take(&mut self.tasks)
            .into_iter()
            .filter(|id| state.task(*id).is_some_and(|task| is_over(state, task)))
            .collect();
        for (service, key) in std::mem::take(&mut self.slots) {
            if let Some(service) = state.service(service) {
                dead.extend(beyond_limit(state, service, key));
            }
        }
        let removals = dead.into_iter().map(|id| Action::Remove {
            id: ObjectId::Task(id),
            version: None,
        });
        plan.add_independent(removals.collect());
        plan
    }
}

impl Reaper {
    fn observe_task(&mut self, old: Option<&Task>, new: &Task) {
        let concerns_removal =
            new.desired_state == TaskState::Remove || new.status.state == TaskState::Orphaned;
        if concerns_removal {
            self.tasks.insert(new.id);
            return;
        }
        let ended = |task: &Task| task.status.state.is_terminal();
        let runs = |task: &Task| task.status.state == TaskState::Running;
        let has_come_to = |is: fn(&Task) -> bool| is(new) && !old.is_some_and(is);
        if old.is_none() || has_come_to(ended) || has_come_to(runs) {
            self.slots.insert((new.service_id, SlotKey::of(new)));
        }
    }
}

/// Whether a task can be deleted whatever the history limit (S2.10, S3.07).
fn is_over(state: &State, task: &Task) -> bool {
    if task.status.state == TaskState::Orphaned && state.service(task.service_id).is_none() {
        return true;
    }
    let lost = task.node_id.is_some_and(|node| state.node(node).is_none());
    let stands = task.status.state;
    task.desired_state == TaskState::Remove
        && (stands < TaskState::Assigned || stands.is_terminal() || lost)
}

/// The oldest tasks of a slot beyond what is kept of it.
fn beyond_limit(state: &State, service: &Service, key: SlotKey) -> Vec<TaskId> {
    let mut tasks: Vec<&Task> = match key {
        SlotKey::Number(number) => state
            .tasks_in_slot(service.id, number)
            .map(|task| &**task)
            .collect(),
        SlotKey::Node(node) => state
            .tasks_on_node(node)
            .map(|task| &**task)
            .filter(|task| task.service_id == service.id && SlotKey::of(task) == key)
            .collect(),
    };
    tasks.retain(|task| task.desired_state < TaskState::Remove);
    tasks.sort_by_key(|task| (task.meta.created_at, task.id));
    let Some(limit) = limit(state, service, &tasks) else {
        return vec![];
    };
    let surplus = tasks.len().saturating_sub(limit);
    // The last one of a slot at rest tells that it is at rest, whatever the limit.
    let newest = tasks.pop();
    let newest = newest.filter(|task| task.is_runnable());
    tasks
        .into_iter()
        .chain(newest)
        .filter(|task| is_deletable(task))
        .take(surplus)
        .map(|task| task.id)
        .collect()
}

/// How many tasks of a slot are kept; none when all are.
fn limit(state: &State, service: &Service, tasks: &[&Task]) -> Option<usize> {
    let default = ClusterSpec::default().task_history_limit;
    let asked = state
        .cluster()
        .map_or(default, |cluster| cluster.spec.task_history_limit);
    // A negative limit keeps everything.
    let asked = usize::try_from(asked).ok()?;
    let attempts = service.spec.task.restart_policy.max_attempts;
    let for_attempts = match usize::try_from(attempts).unwrap_or(usize::MAX) {
        0 => 0,
        attempts => attempts.saturating_add(1),
    };
    // While a task has not arrived, its delay and its predecessor are read from the one before;
    // while an update is under way, that one also tells that the slot was updated.
    let arrives = tasks
        .iter()
        .any(|task| task.is_runnable() && task.status.state != TaskState::Running);
    let for_successor = if arrives || is_updating(service) {
        2
    } else {
        0
    };
    Some(asked.max(for_attempts).max(for_successor))
}

/// True for a task that has ended, or was given up before it had a node (S3.04).
fn is_deletable(task: &Task) -> bool {
    let stands = task.status.state;
    !task.is_runnable() && (stands.is_terminal() || stands < TaskState::Assigned)
}

fn is_updating(service: &Service) -> bool {
    service.update_status.as_ref().is_some_and(|status| {
        matches!(
            status.state,
            UpdateState::Updating | UpdateState::RollbackStarted
        )
    })
}

#[cfg(test)]
mod tests;
