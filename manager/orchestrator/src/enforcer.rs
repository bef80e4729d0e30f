//! The leader loop that rejects tasks whose node has stopped fitting them (S6.E).

use std::collections::BTreeSet;

use store::{Action, Change, Object, Plan, PlanContext, Planner, State};
use types::constraint::{Constraint, all_match};
use types::node::Availability;
use types::service::ServiceMode;
use types::task::Resources;
use types::{Node, NodeId, Task, TaskState, TaskStatus, Timestamp};

/// Rejects tasks their node no longer fits. The orchestrator then replaces them as policy says.
#[derive(Debug, Default)]
pub struct Enforcer {
    dirty: BTreeSet<NodeId>,
}

impl Planner for Enforcer {
    fn name(&self) -> &'static str {
        "enforcer"
    }

    fn observe(&mut self, change: &Change) {
        if let Some(Object::Node(new)) = &change.new {
            let same = match &change.old {
                Some(Object::Node(old)) => judged_by(old) == judged_by(new),
                Some(_) | None => false,
            };
            if !same {
                self.dirty.insert(new.id);
            }
        }
    }

    fn resync(&mut self, state: &State) {
        self.dirty = state.nodes().map(|node| node.id).collect();
    }

    fn plan(&mut self, context: &mut PlanContext<'_>) -> Plan {
        let mut actions = Vec::new();
        for id in std::mem::take(&mut self.dirty) {
            // Drained nodes lose their tasks anyway, paused ones keep them (S6.51).
            if let Some(node) = context.state.node(id)
                && node.spec.availability == Availability::Active
            {
                actions
                    .extend(misfits(context.state, node).map(|task| rejection(task, context.now)));
            }
        }
        let mut plan = Plan::default();
        plan.add_independent(actions);
        plan
    }
}

/// The parts of a node that decide whether a task fits it.
fn judged_by(node: &Node) -> impl PartialEq + use<'_> {
    (&node.spec, node.role, &node.description, node.status.addr)
}

/// Tasks the node no longer fits. When its resources do not suffice, the tasks placed first stay.
fn misfits<'s>(state: &'s State, node: &'s Node) -> impl Iterator<Item = &'s Task> {
    let mut tasks: Vec<&Task> = state
        .tasks_on_node(node.id)
        .map(|task| &**task)
        .filter(|task| task.holds_resources() && task.desired_state <= TaskState::Complete)
        .collect();
    tasks.sort_by_key(|task| (task.meta.created_at, task.id));
    let has = node
        .description
        .as_ref()
        .map(|description| description.resources);
    let mut used = Resources::default();
    tasks.into_iter().filter(move |task| {
        if !is_placed_well(state, task, node) {
            return true;
        }
        let asked = task.spec.resources.reservations;
        let sum = Resources {
            nano_cpus: used.nano_cpus.saturating_add(asked.nano_cpus),
            memory_bytes: used.memory_bytes.saturating_add(asked.memory_bytes),
        };
        // What a task does not reserve cannot be lacking.
        let lacks = has.is_some_and(|has| {
            (asked.nano_cpus > 0 && sum.nano_cpus > has.nano_cpus)
                || (asked.memory_bytes > 0 && sum.memory_bytes > has.memory_bytes)
        });
        if !lacks {
            used = sum;
        }
        lacks
    })
}

/// Whether the constraints in force hold: those of the service as it is now, else the task's own.
fn is_placed_well(state: &State, task: &Task, node: &Node) -> bool {
    let placement = match state.service(task.service_id) {
        // The orchestrator itself takes global tasks off nodes that do not fit, and brings them
        // back; a rejection would count as a failure of theirs.
        Some(service) if service.spec.mode == (ServiceMode::Global {}) => return true,
        Some(service) => &service.spec.task.placement,
        None => &task.spec.placement,
    };
    // Validated when the service was created; see the scheduler's filter.
    Constraint::parse_all(&placement.constraints)
        .map_or(true, |constraints| all_match(&constraints, node))
}

fn rejection(task: &Task, now: Timestamp) -> Action {
    Action::TaskStatus {
        task: task.id,
        status: TaskStatus {
            state: TaskState::Rejected,
            timestamp: now,
            message: "task rejected by constraint enforcer".to_owned(),
            err: "assigned node no longer meets constraints".to_owned(),
            ..task.status.clone()
        },
    }
}

#[cfg(test)]
mod tests;
