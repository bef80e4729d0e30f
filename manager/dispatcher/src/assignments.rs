//! Which tasks a node has to know of, and what to send when they change (S8.07, S8.08).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proto::dispatcher::{self as wire, assignment_change::Change, assignments::Kind};
use store::State;
use types::{NodeId, Task, TaskId, TaskState};

use crate::content::{self, Difference};

/// What one session's agent was sent.
#[derive(Debug)]
pub(crate) struct Assignments {
    node: NodeId,
    sent: BTreeMap<TaskId, Arc<Task>>,
    number: u64,
}

impl Assignments {
    pub(crate) fn new(node: NodeId) -> Self {
        Self {
            node,
            sent: BTreeMap::new(),
            number: 0,
        }
    }

    /// Everything the node has to know of; what tasks find when they come goes first.
    pub(crate) fn complete(&mut self, state: &State, contents: Difference) -> wire::Assignments {
        let tasks = state
            .tasks_on_node(self.node)
            .filter(|task| is_assigned(task, self.node));
        self.sent = tasks.map(|task| (task.id, task.clone())).collect();
        let mut changes = contents.updates;
        changes.extend(self.sent.values().map(|task| update(task)));
        self.set(Kind::Complete, changes)
    }

    /// What the node has to be told of these tasks; none when that is nothing.
    pub(crate) fn incremental(
        &mut self,
        state: &State,
        dirty: &BTreeSet<TaskId>,
        contents: Difference,
    ) -> Option<wire::Assignments> {
        // What a task uses comes before it, and goes after it.
        let mut changes = contents.updates;
        for id in dirty {
            let now = state.task(*id).filter(|task| is_assigned(task, self.node));
            match (now, self.sent.get(id)) {
                (Some(now), Some(sent)) if is_same_assignment(sent, now) => {
                    // Shares the store's copy instead of keeping an old one alive.
                    self.sent.insert(*id, now.clone());
                }
                (Some(now), _) => {
                    changes.push(update(now));
                    self.sent.insert(*id, now.clone());
                }
                (None, Some(_)) => {
                    changes.push(remove(*id));
                    self.sent.remove(id);
                }
                (None, None) => {}
            }
        }
        changes.extend(contents.removals);
        (!changes.is_empty()).then(|| self.set(Kind::Incremental, changes))
    }

    fn set(&mut self, kind: Kind, changes: Vec<wire::AssignmentChange>) -> wire::Assignments {
        let applies_to = self.number;
        self.number += 1;
        wire::Assignments {
            kind: kind.into(),
            applies_to,
            results_in: self.number,
            changes,
        }
    }
}

/// Whether a commit that made `new` of `old` may matter to their node.
pub(crate) fn is_of_interest(old: &Task, new: &Task) -> bool {
    (old.status.state >= TaskState::Assigned) != (new.status.state >= TaskState::Assigned)
        || !is_same_assignment(old, new)
        || content::is_of_interest(old, new)
}

fn is_assigned(task: &Task, node: NodeId) -> bool {
    task.node_id == Some(node) && task.status.state >= TaskState::Assigned
}

/// Equal beyond status and meta: what the agent itself reports is not sent back to it.
fn is_same_assignment(a: &Task, b: &Task) -> bool {
    a.desired_state == b.desired_state
        && a.node_id == b.node_id
        && a.spec_version == b.spec_version
        && a.slot == b.slot
        && a.service_id == b.service_id
        && a.service_name == b.service_name
        && a.attachments == b.attachments
        && (Arc::ptr_eq(&a.spec, &b.spec) || a.spec == b.spec)
        // Given up by the managers, not ended by the agent.
        && (a.status.state == TaskState::Orphaned) == (b.status.state == TaskState::Orphaned)
}

fn update(task: &Task) -> wire::AssignmentChange {
    wire::AssignmentChange {
        change: Some(Change::UpdateTask(task.into())),
    }
}

fn remove(task: TaskId) -> wire::AssignmentChange {
    wire::AssignmentChange {
        change: Some(Change::RemoveTask(task.to_string())),
    }
}
