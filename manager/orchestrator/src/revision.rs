//! Whether a task still is what its service asks for (S4.02).

use std::collections::HashMap;

use types::constraint::{Constraint, all_match};
use types::{Node, Service, Task, TaskSpec, Version};

/// How the spec a task was made from compares with the service's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Likeness {
    Same,
    /// Only where it may run differs.
    OtherPlacement,
    Other,
}

/// The service's task spec, compared once with each version tasks were made from.
#[derive(Debug)]
pub(crate) struct Revision {
    current: Version,
    constraints: Vec<Constraint>,
    versions: HashMap<Version, Likeness>,
}

impl Revision {
    pub(crate) fn new<'t>(service: &Service, tasks: impl Iterator<Item = &'t Task>) -> Self {
        let asked = &*service.spec.task;
        let mut versions = HashMap::from([(service.spec_version, Likeness::Same)]);
        for task in tasks {
            versions
                .entry(task.spec_version)
                .or_insert_with(|| compare(&task.spec, asked));
        }
        Self {
            current: service.spec_version,
            // Validated when the service was created; see the scheduler's filter.
            constraints: Constraint::parse_all(&asked.placement.constraints).unwrap_or_default(),
            versions,
        }
    }

    /// True when some task was made from another spec than the service has now.
    pub(crate) fn has_others(&self) -> bool {
        self.versions
            .values()
            .any(|likeness| *likeness != Likeness::Same)
    }

    /// True when the task has to be replaced by one of the service's spec. `node` finds where it
    /// is, which is asked only where it matters.
    pub(crate) fn is_dirty<'n>(
        &self,
        task: &Task,
        node: impl FnOnce() -> Option<&'n Node>,
    ) -> bool {
        match self.versions.get(&task.spec_version) {
            Some(Likeness::Same) => false,
            // A task that fits the new placement as well can stay where it is.
            Some(Likeness::OtherPlacement) => !node().is_some_and(|node| self.fits(node)),
            Some(Likeness::Other) | None => true,
        }
    }

    /// True when the task was made from the very spec the service has now.
    pub(crate) fn is_current(&self, task: &Task) -> bool {
        task.spec_version == self.current
    }

    /// Whether the service's constraints hold on `node`.
    pub(crate) fn fits(&self, node: &Node) -> bool {
        all_match(&self.constraints, node)
    }
}

fn compare(made_from: &TaskSpec, asked: &TaskSpec) -> Likeness {
    if made_from == asked {
        Likeness::Same
    } else if is_same_work(made_from, asked) {
        Likeness::OtherPlacement
    } else {
        Likeness::Other
    }
}

/// True when two specs run the same in the same way, wherever that may be.
pub(crate) fn is_same_work(a: &TaskSpec, b: &TaskSpec) -> bool {
    // Taken apart so that a new field cannot be forgotten here.
    let TaskSpec {
        container,
        resources,
        restart_policy,
        placement: _,
        networks,
        force_update,
    } = a;
    *container == b.container
        && *resources == b.resources
        && *restart_policy == b.restart_policy
        && *networks == b.networks
        && *force_update == b.force_update
}

#[cfg(test)]
mod tests;
