//! The leader loop that decides which tasks exist: marks services, then plans each from the state.

use std::collections::{BTreeSet, HashMap};

use store::{Action, Change, Object, Plan, PlanContext, Planner, State};
use types::service::ServiceMode;
use types::update::UpdateState;
use types::{Node, NodeId, Service, ServiceId, Task, TaskId, TaskState, Timestamp};

use crate::agenda::{Agenda, Scope};
use crate::batch;
use crate::draft::{Draft, SlotKey, desire};
use crate::supervise::supervise;
use crate::view::{ServiceView, Standing, is_valid};
use crate::{global, replicated, slot, update};

/// Creates tasks and decides what is wanted of them.
#[derive(Debug, Default)]
pub struct Orchestrator {
    agenda: Agenda,
    /// Slots in which a task came further: of concern while an update is under way.
    advanced: BTreeSet<(ServiceId, SlotKey)>,
    /// Nodes whose tasks may have to move.
    nodes: BTreeSet<NodeId>,
    /// Global services, which every change of a node concerns.
    globals: BTreeSet<ServiceId>,
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
                self.agenda.mark_service(service.id);
                if change.new.is_some() && is_global(service) {
                    self.globals.insert(service.id);
                } else {
                    self.globals.remove(&service.id);
                }
            }
            Object::Task(task) => match (&change.old, &change.new) {
                (Some(Object::Task(old)), Some(_)) => self.observe_task(old, task),
                // It may have a delay to wait for.
                (_, Some(_)) => self.agenda.mark_slot(task.service_id, SlotKey::of(task)),
                (_, None) => self.observe_removal(task),
            },
            Object::Node(node) => match (&change.old, &change.new) {
                (Some(Object::Node(old)), Some(_)) => self.observe_node(old, node),
                (_, _) => self.mark_node(node.id),
            },
            Object::Secret(_) | Object::Config(_) | Object::Network(_) => {}
            Object::Cluster(_) => {}
        }
    }

    fn resync(&mut self, state: &State) {
        let known = std::mem::take(&mut self.running_since);
        *self = Self::default();
        for service in state.services() {
            self.agenda.mark_service(service.id);
            if is_global(service) {
                self.globals.insert(service.id);
            }
        }
        for task in state.tasks() {
            // Also of services that are gone.
            self.agenda.mark_service(task.service_id);
            if let Some(since) = known.get(&task.id) {
                self.running_since.insert(task.id, *since);
            } else if task.status.state == TaskState::Running {
                self.running_since.insert(task.id, task.status.applied_at);
            }
        }
    }

    fn plan(&mut self, context: &mut PlanContext<'_>) -> Plan {
        let (state, now) = (context.state, context.now);
        self.mark_concerned(state);
        let mut plan = Plan::default();
        let mut groups = Vec::new();
        for (id, scope) in self.agenda.take(now) {
            let mut draft = Draft::new(context.ids);
            let scope = match (state.service(id), scope) {
                (Some(service), Scope::Slots(keys))
                    if supervise_slots(state, service, &keys, now, &mut draft) =>
                {
                    Scope::Slots(keys)
                }
                (Some(service), _) => {
                    self.reconcile(state, service, now, &mut draft);
                    Scope::Service
                }
                (None, _) => {
                    forget_service(state, id, &mut draft);
                    Scope::Service
                }
            };
            groups.append(&mut draft.groups);
            if let Some(service) = draft.service {
                // By itself: it is checked against the version read, and a user who changed the
                // service meanwhile must not undo what was decided about tasks.
                plan.transactions.push(vec![Action::Update(service.into())]);
            }
            self.agenda.set_alarms(id, &scope, &draft.wakes);
        }
        plan.transactions.extend(batch::pack(groups));
        plan.wake_at = self.agenda.next_alarm();
        plan
    }
}

impl Orchestrator {
    /// Marks what changes of nodes and progress of tasks concern, now that the state is at hand.
    fn mark_concerned(&mut self, state: &State) {
        for node in std::mem::take(&mut self.nodes) {
            for task in state.tasks_on_node(node) {
                self.agenda.mark_slot(task.service_id, SlotKey::of(task));
            }
        }
        for (id, key) in std::mem::take(&mut self.advanced) {
            let status = state
                .service(id)
                .and_then(|service| service.update_status.as_ref());
            match status.map(|status| status.state) {
                Some(UpdateState::Updating | UpdateState::RollbackStarted) => {
                    self.agenda.mark_service(id);
                }
                // The slot may hold an old and a new task, of which the old one now yields.
                Some(UpdateState::Paused | UpdateState::RollbackPaused) => {
                    self.agenda.mark_slot(id, key);
                }
                Some(UpdateState::Completed | UpdateState::RollbackCompleted) | None => {}
            }
        }
    }

    /// Plans everything about a service.
    fn reconcile(&self, state: &State, service: &Service, now: Timestamp, draft: &mut Draft<'_>) {
        let tasks: Vec<_> = state
            .tasks_of_service(service.id)
            .map(|task| &**task)
            .collect();
        let view = ServiceView::new(state, service, &tasks, now);
        let slots = slot::group(&tasks);
        match service.spec.mode {
            ServiceMode::Replicated { replicas } => {
                replicated::plan(&view, replicas, slots, &self.running_since, draft);
            }
            ServiceMode::Global {} => global::plan(&view, slots, &self.running_since, draft),
        }
    }

    fn observe_task(&mut self, old: &Task, new: &Task) {
        let (before, after) = (old.status.state, new.status.state);
        let place = (new.service_id, SlotKey::of(new));
        if before < TaskState::Running && after == TaskState::Running {
            self.running_since.insert(new.id, new.status.applied_at);
            self.advanced.insert(place);
        }
        let ended = !before.is_terminal() && after.is_terminal();
        if ended || old.desired_state != new.desired_state {
            self.agenda.mark_slot(place.0, place.1);
        } else if old.status.err != new.status.err {
            self.advanced.insert(place);
        }
    }

    fn observe_removal(&mut self, task: &Task) {
        self.running_since.remove(&task.id);
        // The reaper takes away what is over; anything else leaves a gap.
        if task.is_runnable() {
            self.agenda.mark_service(task.service_id);
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
            self.mark_globals();
        }
    }

    fn mark_node(&mut self, node: NodeId) {
        self.nodes.insert(node);
        self.mark_globals();
    }

    fn mark_globals(&mut self) {
        for service in &self.globals {
            self.agenda.mark_service(*service);
        }
    }
}

/// Plans a few slots of a replicated service. False, and nothing is planned, when that is not
/// enough: other slots have a part in it.
fn supervise_slots(
    state: &State,
    service: &Service,
    keys: &BTreeSet<SlotKey>,
    now: Timestamp,
    draft: &mut Draft<'_>,
) -> bool {
    let stands = service.update_status.as_ref().map(|status| status.state);
    if is_global(service) || update::is_open(stands) {
        return false;
    }
    let numbers = keys.iter().filter_map(|key| match key {
        SlotKey::Number(number) => Some(*number),
        SlotKey::Node(_) => None,
    });
    let tasks: Vec<_> = numbers
        .flat_map(|number| state.tasks_in_slot(service.id, number))
        .map(|task| &**task)
        .collect();
    let view = ServiceView::new(state, service, &tasks, now);
    let slots = slot::group(&tasks);
    if slots
        .values()
        .any(|slot| view.standing(slot) == Standing::Vacant)
    {
        return false;
    }
    for (key, slot) in &slots {
        supervise(&view, *key, slot, true, draft);
    }
    true
}

fn is_global(service: &Service) -> bool {
    match service.spec.mode {
        ServiceMode::Replicated { .. } => false,
        ServiceMode::Global {} => true,
    }
}

/// Asks for the end of every task of a service that is gone (S4.18).
fn forget_service(state: &State, id: ServiceId, draft: &mut Draft<'_>) {
    for task in state.tasks_of_service(id) {
        if task.desired_state < TaskState::Remove {
            draft.add(vec![desire(task, TaskState::Remove)]);
        }
    }
}

#[cfg(test)]
mod tests;
