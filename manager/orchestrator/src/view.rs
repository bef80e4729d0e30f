//! What one service looks like at one moment: its spec, its nodes and how its tasks stand to both.

use store::State;
use types::node::{Availability, NodeState};
use types::update::{UpdateConfig, UpdateOrder, UpdateState};
use types::{Node, Service, Task, TaskState, Timestamp};

use crate::restart;
use crate::revision::Revision;
use crate::slot::{Slot, has_ended, has_ended_by_itself};

/// A service and everything needed to judge its tasks.
pub(crate) struct ServiceView<'s> {
    pub(crate) state: &'s State,
    pub(crate) service: &'s Service,
    pub(crate) revision: Revision,
    pub(crate) now: Timestamp,
}

/// Whether a slot counts as filled (S4.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Some task in it is counted on.
    Live,
    /// Its last task came to its end and policy replaces it no more: filled, but at rest.
    Dead,
    /// Only history.
    Vacant,
}

impl<'s> ServiceView<'s> {
    /// A view on a service in which `tasks` are to be judged.
    pub(crate) fn new(
        state: &'s State,
        service: &'s Service,
        tasks: &[&'s Task],
        now: Timestamp,
    ) -> Self {
        Self {
            state,
            service,
            revision: Revision::new(service, tasks.iter().copied()),
            now,
        }
    }

    fn node_of(&self, task: &Task) -> Option<&'s Node> {
        self.state.node(task.node_id?).map(|node| &**node)
    }

    pub(crate) fn is_dirty(&self, task: &Task) -> bool {
        self.revision.is_dirty(task, || self.node_of(task))
    }

    /// True when its node is drained, DOWN or removed (S4.03).
    pub(crate) fn is_misplaced(&self, task: &Task) -> bool {
        task.node_id.is_some() && !self.node_of(task).is_some_and(is_valid)
    }

    /// True while nothing stands against the task running where it is.
    pub(crate) fn is_sound(&self, task: &Task) -> bool {
        !has_ended(task) && !self.is_misplaced(task)
    }

    /// True while a task given up may still run, so that its successor waits for it.
    pub(crate) fn is_stopping(&self, task: &Task) -> bool {
        !has_ended(task)
            && task.status.state >= TaskState::Assigned
            && self
                .node_of(task)
                .is_some_and(|node| node.status.state != NodeState::Down)
    }

    /// True while any task given up in this slot may still run.
    pub(crate) fn has_stopping(&self, slot: &Slot<'_>) -> bool {
        slot.tasks
            .iter()
            .any(|task| !task.is_runnable() && self.is_stopping(task))
    }

    pub(crate) fn standing(&self, slot: &Slot<'_>) -> Standing {
        if slot.live().next().is_some() {
            return Standing::Live;
        }
        match slot.newest() {
            Some(task) if has_ended_by_itself(task) && !restart::is_allowed(slot, task) => {
                Standing::Dead
            }
            Some(_) | None => Standing::Vacant,
        }
    }

    /// Pace of the update or rollback under way.
    pub(crate) fn update_config(&self) -> &'s UpdateConfig {
        if self.is_rolling_back() {
            &self.service.spec.rollback_config
        } else {
            &self.service.spec.update_config
        }
    }

    pub(crate) fn is_rolling_back(&self) -> bool {
        self.service.update_status.as_ref().is_some_and(|status| {
            matches!(
                status.state,
                UpdateState::RollbackStarted | UpdateState::RollbackPaused
            )
        })
    }

    pub(crate) fn starts_new_first(&self) -> bool {
        self.update_config().order == UpdateOrder::StartFirst
    }
}

/// True for a node whose tasks may stay: neither DOWN nor drained (S4.03).
pub(crate) fn is_valid(node: &Node) -> bool {
    node.status.state != NodeState::Down && node.spec.availability != Availability::Drain
}
