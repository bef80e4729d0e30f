//! The leader loop that decides which tasks exist: marks services, then plans each from the state.

use std::collections::{BTreeSet, HashMap};

use store::{Action, Change, Object, Plan, PlanContext, Planner, State};
use types::service::ServiceMode;
use types::update::UpdateState;
use types::{Node, NodeId, Service, ServiceId, Task, TaskId, TaskState, Timestamp};

use crate::batch;
use crate::draft::{Draft, desire};
use crate::view::{ServiceView, is_valid};
use crate::{global, replicated, slot};

/// Creates tasks and decides what is wanted of them.
#[derive(Debug, Default)]
pub struct Orchestrator {
    /// Services to plan.
    dirty: BTreeSet<ServiceId>,
    /// Services a new task of which came further: of concern while an update is under way.
    advanced: BTreeSet<ServiceId>,
    /// Nodes whose tasks may have to move.
    nodes: BTreeSet<NodeId>,
    /// Global services, which every change of a node concerns.
    globals: BTreeSet<ServiceId>,
    alarms: Alarms,
    /// When the tasks that run, or ran, were first seen to run.
    running_since: HashMap<TaskId, Timestamp>,
}

impl Planner for Orchestrator {
    fn name(&self) -> &'static str {
        "orchestrator"
    }

    fn observe(&mut self, change: &Change) {
        match change.object() {
            Object::Service(service) => {
                self.dirty.insert(service.id);
                if change.new.is_some() && is_global(service) {
                    self.globals.insert(service.id);
                } else {
                    self.globals.remove(&service.id);
                }
            }
            Object::Task(task) => match (&change.old, &change.new) {
                (Some(Object::Task(old)), Some(_)) => self.observe_task(old, task),
                (_, Some(_)) => {
                    self.dirty.insert(task.service_id);
                }
                (_, None) => self.observe_removal(task),
            },
            Object::Node(node) => match (&change.old, &change.new) {
                (Some(Object::Node(old)), Some(_)) => self.observe_node(old, node),
                (_, _) => self.mark_node(node.id),
            },
            Object::Cluster(_) => {}
        }
    }

    fn resync(&mut self, state: &State) {
        let known = std::mem::take(&mut self.running_since);
        *self = Self::default();
        for service in state.services() {
            self.dirty.insert(service.id);
            if is_global(service) {
                self.globals.insert(service.id);
            }
        }
        for task in state.tasks() {
            self.dirty.insert(task.service_id);
            if let Some(since) = known.get(&task.id) {
                self.running_since.insert(task.id, *since);
            } else if task.status.state == TaskState::Running {
                self.running_since.insert(task.id, task.status.applied_at);
            }
        }
    }

    fn plan(&mut self, context: &mut PlanContext<'_>) -> Plan {
        let (state, now) = (context.state, context.now);
        for node in std::mem::take(&mut self.nodes) {
            self.dirty
                .extend(state.tasks_on_node(node).map(|task| task.service_id));
        }
        for id in std::mem::take(&mut self.advanced) {
            if state
                .service(id)
                .is_some_and(|service| is_mid_update(service))
            {
                self.dirty.insert(id);
            }
        }
        self.dirty.extend(self.alarms.due(now));

        let mut plan = Plan::default();
        let mut groups = Vec::new();
        for id in std::mem::take(&mut self.dirty) {
            let mut draft = Draft::new(context.ids);
            match state.service(id) {
                Some(service) => self.reconcile(state, service, now, &mut draft),
                None => forget_service(state, id, &mut draft),
            }
            groups.append(&mut draft.groups);
            if let Some(service) = draft.service {
                // By itself: it is checked against the version read, and a user who changed the
                // service meanwhile must not undo what was decided about tasks.
                plan.transactions.push(vec![Action::Update(service.into())]);
            }
            self.alarms.set(id, draft.wake_at);
        }
        plan.transactions.extend(batch::pack(groups));
        plan.wake_at = self.alarms.first();
        plan
    }
}

impl Orchestrator {
    fn reconcile(&self, state: &State, service: &Service, now: Timestamp, draft: &mut Draft<'_>) {
        let view = ServiceView::new(state, service, now);
        let slots = slot::group(state.tasks_of_service(service.id).map(|task| &**task));
        match service.spec.mode {
            ServiceMode::Replicated { replicas } => {
                replicated::plan(&view, replicas, slots, &self.running_since, draft);
            }
            ServiceMode::Global {} => global::plan(&view, slots, &self.running_since, draft),
        }
    }

    fn observe_task(&mut self, old: &Task, new: &Task) {
        let (before, after) = (old.status.state, new.status.state);
        if before < TaskState::Running && after == TaskState::Running {
            self.running_since.insert(new.id, new.status.applied_at);
            self.advanced.insert(new.service_id);
        }
        let ended = !before.is_terminal() && after.is_terminal();
        if ended || old.desired_state != new.desired_state {
            self.dirty.insert(new.service_id);
        } else if old.status.err != new.status.err {
            self.advanced.insert(new.service_id);
        }
    }

    fn observe_removal(&mut self, task: &Task) {
        self.running_since.remove(&task.id);
        // The reaper takes away what is over; anything else leaves a gap.
        if task.is_runnable() {
            self.dirty.insert(task.service_id);
        }
    }

    fn observe_node(&mut self, old: &Node, new: &Node) {
        if is_valid(old) != is_valid(new) || old.status.state != new.status.state {
            self.mark_node(new.id);
        } else if old.spec != new.spec
            || old.role != new.role
            || old.description != new.description
            || old.status.addr != new.status.addr
        {
            // Constraints may hold now that did not, or the other way round.
            self.dirty.extend(&self.globals);
        }
    }

    fn mark_node(&mut self, node: NodeId) {
        self.nodes.insert(node);
        self.dirty.extend(&self.globals);
    }
}

fn is_global(service: &Service) -> bool {
    match service.spec.mode {
        ServiceMode::Replicated { .. } => false,
        ServiceMode::Global {} => true,
    }
}

/// True while slots may hold an old and a new task: also in a paused update, where those begun
/// still come to their end.
fn is_mid_update(service: &Service) -> bool {
    service
        .update_status
        .as_ref()
        .is_some_and(|status| match status.state {
            UpdateState::Updating
            | UpdateState::Paused
            | UpdateState::RollbackStarted
            | UpdateState::RollbackPaused => true,
            UpdateState::Completed | UpdateState::RollbackCompleted => false,
        })
}

/// Asks for the end of every task of a service that is gone (S4.18).
fn forget_service(state: &State, id: ServiceId, draft: &mut Draft<'_>) {
    for task in state.tasks_of_service(id) {
        if task.desired_state < TaskState::Remove {
            draft.add(vec![desire(task, TaskState::Remove)]);
        }
    }
}

/// When to look at which service again.
#[derive(Debug, Default)]
struct Alarms {
    by_time: BTreeSet<(Timestamp, ServiceId)>,
    by_service: HashMap<ServiceId, Timestamp>,
}

impl Alarms {
    /// Replaces the alarm of a service.
    fn set(&mut self, service: ServiceId, at: Option<Timestamp>) {
        if let Some(old) = self.by_service.remove(&service) {
            self.by_time.remove(&(old, service));
        }
        if let Some(at) = at {
            self.by_service.insert(service, at);
            self.by_time.insert((at, service));
        }
    }

    /// Services whose time has come. Their alarms stay until set anew.
    fn due(&self, now: Timestamp) -> Vec<ServiceId> {
        self.by_time
            .iter()
            .take_while(|(at, _)| *at <= now)
            .map(|(_, id)| *id)
            .collect()
    }

    fn first(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests;
