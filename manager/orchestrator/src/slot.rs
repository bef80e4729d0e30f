//! One slot: the tasks that fill or filled one position of a service.

use std::collections::BTreeMap;

use types::{Task, TaskState};

use crate::draft::SlotKey;

/// Tasks of one position, oldest first. Those to be removed are not among them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slot<'s> {
    pub(crate) tasks: Vec<&'s Task>,
}

/// Sorts tasks of a service into their slots.
pub(crate) fn group<'s>(tasks: &[&'s Task]) -> BTreeMap<SlotKey, Slot<'s>> {
    let mut slots: BTreeMap<SlotKey, Slot<'s>> = BTreeMap::new();
    for task in tasks
        .iter()
        .filter(|task| task.desired_state < TaskState::Remove)
    {
        slots.entry(SlotKey::of(task)).or_default().tasks.push(task);
    }
    for slot in slots.values_mut() {
        slot.tasks
            .sort_by_key(|task| (task.meta.created_at, task.id));
    }
    slots
}

impl<'s> Slot<'s> {
    /// Tasks the service counts on.
    pub(crate) fn live(&self) -> impl Iterator<Item = &'s Task> + '_ {
        self.tasks.iter().copied().filter(|task| task.is_runnable())
    }

    /// The one made last.
    pub(crate) fn newest(&self) -> Option<&'s Task> {
        self.tasks.last().copied()
    }

    /// The one made right before `task`.
    pub(crate) fn predecessor(&self, task: &Task) -> Option<&'s Task> {
        let place = self.tasks.iter().position(|other| other.id == task.id)?;
        place.checked_sub(1).map(|before| self.tasks[before])
    }
}

/// True once a task is over, however it ended.
pub(crate) fn has_ended(task: &Task) -> bool {
    task.status.state.is_terminal()
}

/// True when a task came to its own end: neither stopped nor lost with its node.
pub(crate) fn has_ended_by_itself(task: &Task) -> bool {
    matches!(
        task.status.state,
        TaskState::Complete | TaskState::Failed | TaskState::Rejected
    )
}
