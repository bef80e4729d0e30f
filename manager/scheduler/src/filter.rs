//! Which nodes can take a task at all, and the words for why the others cannot.

use types::constraint::{Constraint, all_match, same_architecture};
use types::network::PublishedPort;
use types::node::{Availability, NodeState};
use types::task::{Platform, Resources};
use types::{Node, ServiceId, TaskSpec};

use crate::load::{NodeView, host_ports};

/// The filters, in the order in which they are asked (S6.B).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    Ready,
    Resource,
    Constraint,
    Platform,
    HostPort,
    MaxReplicas,
}

impl Filter {
    const ALL: [Self; 6] = [
        Self::Ready,
        Self::Resource,
        Self::Constraint,
        Self::Platform,
        Self::HostPort,
        Self::MaxReplicas,
    ];

    /// What users read when this filter ruled out `count` nodes; the words are Swarm's.
    fn explain(self, count: usize) -> String {
        let nodes = if count == 1 {
            "1 node".to_owned()
        } else {
            format!("{count} nodes")
        };
        match self {
            Self::Ready => format!("{nodes} not available for new tasks"),
            Self::Resource => format!("insufficient resources on {nodes}"),
            Self::Constraint => format!("scheduling constraints not satisfied on {nodes}"),
            Self::Platform => format!("unsupported platform on {nodes}"),
            Self::HostPort => format!("host-mode port already in use on {nodes}"),
            Self::MaxReplicas => "max replicas per node limit exceed".to_owned(),
        }
    }
}

/// What the tasks of one group ask of a node.
#[derive(Debug)]
pub(crate) struct Demand<'a> {
    pub(crate) service: ServiceId,
    pub(crate) reservations: Resources,
    constraints: Vec<Constraint>,
    platforms: &'a [Platform],
    replicas_max: u64,
    /// Ports of the node each task wants to itself (S6.15).
    pub(crate) host_ports: &'a [PublishedPort],
}

impl<'a> Demand<'a> {
    pub(crate) fn new(
        service: ServiceId,
        spec: &'a TaskSpec,
        host_ports: &'a [PublishedPort],
    ) -> Self {
        Self {
            service,
            host_ports,
            reservations: spec.resources.reservations,
            // Constraints are validated when the service is created; should one be unreadable
            // all the same, none is asked rather than the service being stuck (S6.13).
            constraints: Constraint::parse_all(&spec.placement.constraints).unwrap_or_default(),
            platforms: &spec.placement.platforms,
            replicas_max: spec.placement.max_replicas,
        }
    }

    /// Whether the node can take one more task of this kind; if not, the first filter against it.
    pub(crate) fn check(&self, view: &NodeView<'_>) -> Result<(), Filter> {
        let node = view.node;
        if node.status.state != NodeState::Ready || node.spec.availability != Availability::Active {
            return Err(Filter::Ready);
        }
        let asked = self.reservations;
        if asked.nano_cpus > view.free.nano_cpus || asked.memory_bytes > view.free.memory_bytes {
            return Err(Filter::Resource);
        }
        if !all_match(&self.constraints, node) {
            return Err(Filter::Constraint);
        }
        if !self.platforms.is_empty() && !self.platforms.iter().any(|p| runs_on(p, node)) {
            return Err(Filter::Platform);
        }
        if !host_ports(self.host_ports).all(|port| view.is_free(&port)) {
            return Err(Filter::HostPort);
        }
        if self.replicas_max > 0 && view.tasks_of(self.service) >= self.replicas_max {
            return Err(Filter::MaxReplicas);
        }
        Ok(())
    }
}

fn runs_on(platform: &Platform, node: &Node) -> bool {
    let Some(description) = &node.description else {
        return false;
    };
    let has = &description.platform;
    (platform.os.is_empty() || platform.os.eq_ignore_ascii_case(&has.os))
        && (platform.architecture.is_empty()
            || same_architecture(&platform.architecture, &has.architecture))
}

/// How many nodes each filter ruled out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    counts: [usize; Filter::ALL.len()],
}

impl Tally {
    /// Asks every node, and counts the refusals.
    pub(crate) fn of<'v>(
        demand: &Demand<'_>,
        views: impl IntoIterator<Item = &'v NodeView<'v>>,
    ) -> Self {
        let mut tally = Self::default();
        for view in views {
            if let Err(filter) = demand.check(view) {
                tally.counts[filter as usize] += 1;
            }
        }
        tally
    }

    /// "no suitable node (…)": the reason against most nodes first (S6.03).
    pub(crate) fn explain(&self) -> String {
        let mut reasons: Vec<_> = Filter::ALL
            .into_iter()
            .map(|filter| (self.counts[filter as usize], filter))
            .filter(|(count, _)| *count > 0)
            .collect();
        // Stable: filters against equally many nodes keep the order in which they are asked.
        reasons.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
        let reasons: Vec<_> = reasons
            .into_iter()
            .map(|(count, filter)| filter.explain(count))
            .collect();
        if reasons.is_empty() {
            "no suitable node".to_owned()
        } else {
            format!("no suitable node ({})", reasons.join("; "))
        }
    }
}

#[cfg(test)]
mod tests;
