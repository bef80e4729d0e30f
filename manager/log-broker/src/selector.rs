//! Whose output is asked for, and which part of it.

use std::collections::BTreeSet;

use proto::logs as wire;
use store::State;
use types::{NodeId, ServiceId, Task, TaskId, TaskState, Timestamp};

/// Whose output. A task that any of the lists names is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Every task of these services.
    pub services: BTreeSet<ServiceId>,
    /// These tasks.
    pub tasks: BTreeSet<TaskId>,
    /// Every task on these nodes.
    pub nodes: BTreeSet<NodeId>,
}

/// Which part of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Go on with what is written from now on, also by tasks and on nodes that are yet to come.
    pub follow: bool,
    /// Lines from the end, per task; none means all.
    pub tail: Option<u64>,
    /// Only lines from this time on; zero means all.
    pub since: Timestamp,
    /// Leave out standard output.
    pub no_stdout: bool,
    /// Leave out standard error.
    pub no_stderr: bool,
}

impl Selector {
    /// Whether this task's output is asked for.
    #[must_use]
    pub fn selects(&self, task: &Task) -> bool {
        self.tasks.contains(&task.id)
            || self.services.contains(&task.service_id)
            || task.node_id.is_some_and(|node| self.nodes.contains(&node))
    }

    /// The nodes that hold what is asked for, and the tasks that no node holds yet.
    pub(crate) fn places(&self, state: &State) -> (BTreeSet<NodeId>, Vec<TaskId>) {
        let mut nodes = BTreeSet::new();
        let mut nowhere = vec![];
        let of_services = self
            .services
            .iter()
            .flat_map(|id| state.tasks_of_service(*id));
        let single = self.tasks.iter().filter_map(|id| state.task(*id));
        let on_nodes = self.nodes.iter().flat_map(|id| state.tasks_on_node(*id));
        for task in of_services.chain(single).chain(on_nodes) {
            match task.node_id {
                Some(node) if task.status.state >= TaskState::Assigned => {
                    nodes.insert(node);
                }
                // What ended without ever being placed has no output.
                Some(_) | None if task.status.state.is_terminal() => {}
                Some(_) | None => nowhere.push(task.id),
            }
        }
        (nodes, nowhere)
    }

    pub(crate) fn to_wire(&self) -> wire::LogSelector {
        wire::LogSelector {
            service_ids: self.services.iter().map(ToString::to_string).collect(),
            task_ids: self.tasks.iter().map(ToString::to_string).collect(),
            node_ids: self.nodes.iter().map(ToString::to_string).collect(),
        }
    }
}

impl LogOptions {
    pub(crate) fn to_wire(self) -> wire::LogOptions {
        wire::LogOptions {
            follow: self.follow,
            tail: self.tail,
            since: self.since.0,
            no_stdout: self.no_stdout,
            no_stderr: self.no_stderr,
        }
    }
}
