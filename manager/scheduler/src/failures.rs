//! Recent failures per node and service version, which push a node to the end of the line.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use types::{NodeId, ServiceId, Task, TaskState, Timestamp, Version};

/// Failures of one service version from which on a node is avoided (S6.30).
const FAILURES_MIN: usize = 5;

/// How long a failure counts (S6.31).
const FAILURE_WINDOW: Duration = Duration::from_secs(5 * 60);

/// Failures remembered per node and service version; more would not change any choice.
const FAILURES_KEPT_MAX: usize = 64;

/// When tasks failed, by node and service version.
///
/// SwarmKit forgets this when the leader changes; here it is read back from the stored tasks.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    times: HashMap<(NodeId, ServiceId, Version), VecDeque<Timestamp>>,
}

impl Failures {
    /// Takes note of a task that has failed on a node; other tasks are of no concern.
    pub(crate) fn note(&mut self, task: &Task) {
        let Some(node) = task.node_id.filter(|_| has_failed(task)) else {
            return;
        };
        let times = self
            .times
            .entry((node, task.service_id, task.spec_version))
            .or_default();
        // Tasks read back from the store come in no order of time.
        let place = times.partition_point(|time| *time <= task.status.applied_at);
        times.insert(place, task.status.applied_at);
        if times.len() > FAILURES_KEPT_MAX {
            times.pop_front();
        }
    }

    /// Forgets what is too long ago.
    pub(crate) fn forget_before(&mut self, now: Timestamp) {
        self.times.retain(|_, times| {
            while times
                .front()
                .is_some_and(|time| now.since(*time) >= FAILURE_WINDOW)
            {
                times.pop_front();
            }
            !times.is_empty()
        });
    }

    /// Recent failures where there are enough to matter, else 0.
    pub(crate) fn weight(&self, node: NodeId, service: ServiceId, version: Version) -> usize {
        let count = self
            .times
            .get(&(node, service, version))
            .map_or(0, VecDeque::len);
        if count >= FAILURES_MIN { count } else { 0 }
    }
}

/// True for a task that ended in a way that speaks against its node.
pub(crate) fn has_failed(task: &Task) -> bool {
    matches!(task.status.state, TaskState::Failed | TaskState::Rejected)
}
