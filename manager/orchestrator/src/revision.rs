//! Whether a task still is what its service asks for (S4.02).

use std::collections::HashMap;

use types::constraint::{Constraint, all_match};
use types::network::{NetworkAttachment, PublishMode, PublishedPort};
use types::{Node, Service, Task, TaskSpec, TaskState, Version};

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
    /// Ports each task has of its node.
    host_ports: Vec<PublishedPort>,
    /// Tasks are on ingress.
    is_published: bool,
    /// Some task that has not ended has other ports than these.
    is_republished: bool,
}

impl Revision {
    pub(crate) fn new<'t>(service: &Service, tasks: impl Iterator<Item = &'t Task>) -> Self {
        let asked = &*service.spec.task;
        let ports = service.spec.endpoint.ports.iter();
        let (host_ports, meshed): (Vec<_>, Vec<_>) =
            ports.partition(|port| port.mode == PublishMode::Host);
        let mut revision = Self {
            host_ports: host_ports.into_iter().cloned().collect(),
            is_published: !meshed.is_empty(),
            is_republished: false,
            versions: HashMap::from([(service.spec_version, Likeness::Same)]),
            current: service.spec_version,
            // Validated when the service was created; see the scheduler's filter.
            constraints: Constraint::parse_all(&asked.placement.constraints).unwrap_or_default(),
        };
        for task in tasks {
            revision
                .versions
                .entry(task.spec_version)
                .or_insert_with(|| compare(&task.spec, asked));
            revision.is_republished |=
                !task.status.state.is_terminal() && revision.has_other_ports(task);
        }
        revision
    }

    /// True when the task has to be made anew for what its service publishes: its ports of the node
    /// are others, or it is not on ingress though it has to be. Ports on ingress come and go
    /// without the task.
    fn has_other_ports(&self, task: &Task) -> bool {
        let is_given = task.status.state > TaskState::New;
        let is_current = task.spec_version == self.current;
        is_given
            && !is_current
            && (task.host_ports != self.host_ports || self.is_published && !is_on_ingress(task))
    }

    /// True when some task was made from another spec than the service has now.
    pub(crate) fn has_others(&self) -> bool {
        self.versions
            .values()
            .any(|likeness| *likeness != Likeness::Same)
            || self.is_republished
    }

    /// True when the task has to be replaced by one of the service's spec. `node` finds where it
    /// is, which is asked only where it matters.
    pub(crate) fn is_dirty<'n>(
        &self,
        task: &Task,
        node: impl FnOnce() -> Option<&'n Node>,
    ) -> bool {
        match self.versions.get(&task.spec_version) {
            Some(Likeness::Same) => self.has_other_ports(task),
            // A task that fits the new placement as well can stay where it is.
            Some(Likeness::OtherPlacement) => {
                self.has_other_ports(task) || !node().is_some_and(|node| self.fits(node))
            }
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

/// Whether the task is on a network its spec does not name: the one that carries published ports.
fn is_on_ingress(task: &Task) -> bool {
    let named = |place: &NetworkAttachment| {
        let mut networks = task.spec.networks.iter();
        networks.any(|asked| asked.target == place.network.as_str())
    };
    !task.attachments.iter().all(named)
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
