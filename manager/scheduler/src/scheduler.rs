//! The leader loop that gives PENDING tasks their nodes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use store::{Action, Change, Object, Plan, PlanContext, Planner, State};
use types::{Node, NodeId, ServiceId, Task, TaskId, TaskState, TaskStatus, Timestamp, Version};

use crate::failures::{Failures, has_failed};
use crate::filter::{Demand, Tally};
use crate::load::{Loads, NodeView};
use crate::spread::{Preference, Spread};

/// Gives PENDING tasks their nodes.
#[derive(Debug, Default)]
pub struct Scheduler {
    /// Tasks to look at in the next plan.
    due: BTreeSet<TaskId>,
    /// Tasks no node could take; looked at again once something changed that may help.
    waiting: BTreeSet<TaskId>,
    /// Tasks given up before they had a node.
    abandoned: BTreeSet<TaskId>,
    /// True once a node or the room on one has changed.
    retry: bool,
    loads: Loads,
    failures: Failures,
}

impl Planner for Scheduler {
    fn name(&self) -> &'static str {
        "scheduler"
    }

    fn observe(&mut self, change: &Change) {
        match change.object() {
            Object::Task(_) => self.observe_task(task(&change.old), task(&change.new)),
            Object::Node(_) => self.retry |= concerns_placement(change),
            // A task carries its own copy of all that matters here (S1.10).
            Object::Service(_)
            | Object::Cluster(_)
            | Object::Secret(_)
            | Object::Config(_)
            | Object::Network(_) => {}
        }
    }

    fn resync(&mut self, state: &State) {
        *self = Self::default();
        for task in state.tasks() {
            self.observe_task(None, Some(task));
        }
    }

    fn plan(&mut self, context: &mut PlanContext<'_>) -> Plan {
        if std::mem::take(&mut self.retry) {
            self.due.append(&mut self.waiting);
        }
        let mut plan = Plan::default();
        if self.due.is_empty() && self.abandoned.is_empty() {
            return plan;
        }
        let (state, now) = (context.state, context.now);
        let mut actions = self.end_abandoned(state, now);
        self.failures.forget_before(now);

        let due = std::mem::take(&mut self.due);
        let tasks = due
            .iter()
            .filter_map(|id| state.task(*id))
            .filter(|t| is_candidate(t));
        let decisions = self.decide(state, tasks);
        for decision in decisions {
            match decision {
                Decision::Assign {
                    task,
                    node,
                    message,
                } => {
                    // Due until the store confirms it, which it does not when the node changed.
                    self.due.insert(task);
                    actions.push(assignment(task, node, message, now));
                }
                Decision::Wait { task, err } => {
                    self.waiting.insert(task.id);
                    if task.status.err != err {
                        actions.push(explanation(task, err, now));
                    }
                }
            }
        }
        plan.add_independent(actions);
        plan
    }
}

/// What becomes of one task.
#[derive(Debug)]
enum Decision<'a> {
    Assign {
        task: TaskId,
        node: NodeId,
        message: &'static str,
    },
    Wait {
        task: &'a Task,
        err: String,
    },
}

impl Scheduler {
    fn observe_task(&mut self, old: Option<&Task>, new: Option<&Task>) {
        if let Some(old) = old {
            self.loads.remove(old);
            let held = |task: &Task| task.holds_resources();
            let wanted = |task: &Task| task.desired_state <= TaskState::Complete;
            self.retry |= held(old) && !new.is_some_and(held);
            self.retry |= wanted(old) && !new.is_some_and(wanted);
        }
        let Some(new) = new else {
            let id = old.expect("a change has at least one side").id;
            self.due.remove(&id);
            self.waiting.remove(&id);
            self.abandoned.remove(&id);
            return;
        };
        self.loads.add(new);
        if has_failed(new) && !old.is_some_and(has_failed) {
            self.failures.note(new);
        }
        if is_candidate(new) {
            if !self.waiting.contains(&new.id) {
                self.due.insert(new.id);
            }
        } else {
            self.due.remove(&new.id);
            self.waiting.remove(&new.id);
        }
        if is_abandoned(new) {
            self.abandoned.insert(new.id);
        } else {
            self.abandoned.remove(&new.id);
        }
    }

    /// SHUTDOWN for tasks nobody wants any more that never had a node (S6.02).
    fn end_abandoned(&self, state: &State, now: Timestamp) -> Vec<Action> {
        let tasks = self.abandoned.iter().filter_map(|id| state.task(*id));
        tasks
            .filter(|task| is_abandoned(task))
            .map(|task| Action::TaskStatus {
                task: task.id,
                status: TaskStatus {
                    state: TaskState::Shutdown,
                    timestamp: now,
                    message: "shut down before it was assigned".to_owned(),
                    ..TaskStatus::default()
                },
            })
            .collect()
    }

    /// Preassigned tasks first, then the others group by group (S6.01).
    fn decide<'s>(
        &self,
        state: &'s State,
        tasks: impl Iterator<Item = &'s Arc<Task>>,
    ) -> Vec<Decision<'s>> {
        let mut views: Vec<_> = state
            .nodes()
            .map(|node| NodeView::new(node, &self.loads))
            .collect();
        let mut decisions = Vec::new();
        let mut groups: BTreeMap<(ServiceId, Version), Vec<&'s Task>> = BTreeMap::new();
        let mut preassigned = Vec::new();
        for task in tasks {
            match task.node_id {
                Some(node) => preassigned.push((node, &**task)),
                None => groups
                    .entry((task.service_id, task.spec_version))
                    .or_default()
                    .push(task),
            }
        }
        if !preassigned.is_empty() {
            let index: HashMap<NodeId, usize> = views
                .iter()
                .enumerate()
                .map(|(i, view)| (view.node.id, i))
                .collect();
            for (node, task) in preassigned {
                let view = index.get(&node).map(|i| &mut views[*i]);
                decisions.push(confirm(task, node, view));
            }
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        for group in &mut groups {
            group.sort_by_key(|task| (task.meta.created_at, task.slot, task.id));
        }
        // Who waits longest is served first when room is scarce.
        groups.sort_by_key(|group| group.first().map(|task| task.meta.created_at));
        for group in &groups {
            self.decide_group(group, &mut views, &mut decisions);
        }
        decisions
    }

    fn decide_group<'s>(
        &self,
        group: &[&'s Task],
        views: &mut [NodeView<'_>],
        decisions: &mut Vec<Decision<'s>>,
    ) {
        let Some(first) = group.first() else {
            return;
        };
        let demand = Demand::new(first.service_id, &first.spec, &first.host_ports);
        let preferences: Vec<_> = first
            .spec
            .placement
            .preferences
            .iter()
            .filter_map(|preference| Preference::parse(preference))
            .collect();
        let mut spread = Spread::new(&demand, &preferences, views, |node| {
            self.failures
                .weight(node, first.service_id, first.spec_version)
        });
        let mut tasks = group.iter();
        for task in tasks.by_ref() {
            let Some(node) = spread.place(&demand, views) else {
                let err = Tally::of(&demand, &*views).explain();
                decisions.push(Decision::Wait {
                    task,
                    err: err.clone(),
                });
                // Tasks of a group ask the same: where one found no room none will.
                decisions.extend(tasks.map(|task| Decision::Wait {
                    task,
                    err: err.clone(),
                }));
                return;
            };
            let message = "scheduler assigned task to node";
            decisions.push(Decision::Assign {
                task: task.id,
                node,
                message,
            });
        }
    }
}

/// Asks the filters about the one node a task was made for (S6.05).
fn confirm<'s>(task: &'s Task, node: NodeId, view: Option<&mut NodeView<'_>>) -> Decision<'s> {
    let demand = Demand::new(task.service_id, &task.spec, &task.host_ports);
    let Some(view) = view else {
        return Decision::Wait {
            task,
            err: Tally::default().explain(),
        };
    };
    if demand.check(view).is_err() {
        let err = Tally::of(&demand, std::iter::once(&*view)).explain();
        return Decision::Wait { task, err };
    }
    view.place(&demand);
    let message = "scheduler confirmed task can run on preassigned node";
    Decision::Assign {
        task: task.id,
        node,
        message,
    }
}

fn assignment(task: TaskId, node: NodeId, message: &str, now: Timestamp) -> Action {
    let status = TaskStatus {
        state: TaskState::Assigned,
        timestamp: now,
        message: message.to_owned(),
        ..TaskStatus::default()
    };
    Action::TaskAssign { task, node, status }
}

fn explanation(task: &Task, err: String, now: Timestamp) -> Action {
    Action::TaskStatus {
        task: task.id,
        status: TaskStatus {
            timestamp: now,
            err,
            ..task.status.clone()
        },
    }
}

/// A task that wants a node (S6.02).
fn is_candidate(task: &Task) -> bool {
    task.status.state == TaskState::Pending && task.desired_state <= TaskState::Complete
}

/// A task that will never want a node again, but has not ended. Those to be removed are deleted
/// as they are.
fn is_abandoned(task: &Task) -> bool {
    task.status.state == TaskState::Pending
        && task.desired_state > TaskState::Complete
        && task.desired_state < TaskState::Remove
}

fn task(object: &Option<Object>) -> Option<&Task> {
    match object {
        Some(Object::Task(task)) => Some(task),
        Some(
            Object::Node(_)
            | Object::Service(_)
            | Object::Cluster(_)
            | Object::Secret(_)
            | Object::Config(_)
            | Object::Network(_),
        )
        | None => None,
    }
}

/// Whether a node changed in a way that may let it take tasks it did not take before.
fn concerns_placement(change: &Change) -> bool {
    let (Some(Object::Node(old)), Some(Object::Node(new))) = (&change.old, &change.new) else {
        return true;
    };
    let sees = |node: &Node| (node.status.state, node.status.addr, node.role);
    sees(old) != sees(new) || old.spec != new.spec || old.description != new.description
}

#[cfg(test)]
mod tests;
