//! What a node has to know of others to reach them: derived from the store, sent as it changes.
//!
//! A node takes part in the networks of its tasks, and in ingress as soon as a service publishes a
//! port there. It is told of those networks, of all tasks and services on them, of the nodes those
//! tasks are on, and nothing else. Every record is a function of the state alone; marks only say
//! which to look at again.

mod audit;
mod derive;
mod marks;

use std::collections::{BTreeMap, BTreeSet};

use proto::dispatcher::AssignmentChange;
use proto::dispatcher::assignment_change::Change;
use proto::fingerprint;
use store::State;
use types::{NetworkId, NodeId, ServiceId, TaskId};

pub(crate) use audit::Stale;
pub(crate) use derive::{interest, is_peer};
pub(crate) use marks::{Marked, concerns};

/// Records to look at again.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct DirtyReach {
    /// The node may take part in other networks than before.
    pub(crate) interest: bool,
    /// Settings, or the node's own index.
    pub(crate) settings: bool,
    pub(crate) networks: BTreeSet<NetworkId>,
    pub(crate) services: BTreeSet<ServiceId>,
    pub(crate) tasks: BTreeSet<TaskId>,
    pub(crate) nodes: BTreeSet<NodeId>,
}

/// What one session's agent was sent: of each record no more than a fingerprint. Keeping the
/// records themselves would cost every session a copy of all there is on ingress.
#[derive(Debug, Default)]
pub(crate) struct SentReach {
    settings: Option<u64>,
    networks: BTreeMap<NetworkId, u64>,
    services: BTreeMap<ServiceId, u64>,
    tasks: BTreeMap<TaskId, u64>,
    nodes: BTreeMap<NodeId, u64>,
    /// The networks the node took part in then.
    on: BTreeSet<NetworkId>,
}

impl SentReach {
    /// The networks the node took part in when it was told last.
    pub(crate) fn on(&self) -> &BTreeSet<NetworkId> {
        &self.on
    }

    /// Everything the node has to know, as for one that knows nothing.
    pub(crate) fn complete(
        &mut self,
        state: &State,
        node: NodeId,
        on: BTreeSet<NetworkId>,
    ) -> Vec<AssignmentChange> {
        *self = Self::default();
        let dirty = DirtyReach {
            settings: true,
            ..DirtyReach::default()
        };
        self.incremental(state, node, on, dirty)
    }

    /// What the node has to be told now that it takes part in the networks `on`.
    pub(crate) fn incremental(
        &mut self,
        state: &State,
        node: NodeId,
        on: BTreeSet<NetworkId>,
        mut dirty: DirtyReach,
    ) -> Vec<AssignmentChange> {
        self.follow_interest(state, &on, &mut dirty);
        let on = &on;
        let mut changes = vec![];
        if dirty.settings {
            let settings = Change::NetworkSettings((&derive::settings(state, node)).into());
            let print = fingerprint(&settings);
            if self.settings.replace(print) != Some(print) {
                changes.push(settings);
            }
        }
        let out = &mut changes;
        let update = |id| derive::network(state, id, on).map(Change::UpdateNetwork);
        let remove = |id: NetworkId| Change::RemoveNetwork(id.to_string());
        tell(&mut self.networks, dirty.networks, out, update, remove);
        let update = |id| {
            Some(Change::UpdatePeer(
                (&derive::peer(state, id, node, on)?).into(),
            ))
        };
        let remove = |id: NodeId| Change::RemovePeer(id.to_string());
        tell(&mut self.nodes, dirty.nodes, out, update, remove);
        let update = |id| {
            Some(Change::UpdateEndpoint(
                (&derive::endpoint(state, id, on)?).into(),
            ))
        };
        let remove = |id: TaskId| Change::RemoveEndpoint(id.to_string());
        tell(&mut self.tasks, dirty.tasks, out, update, remove);
        let update = |id| {
            Some(Change::UpdateService(
                (&derive::service(state, id, on)?).into(),
            ))
        };
        let remove = |id: ServiceId| Change::RemoveService(id.to_string());
        tell(&mut self.services, dirty.services, out, update, remove);
        changes
            .into_iter()
            .map(|change| AssignmentChange {
                change: Some(change),
            })
            .collect()
    }

    /// Marks what joining and leaving networks makes known or unknown.
    fn follow_interest(&mut self, state: &State, on: &BTreeSet<NetworkId>, dirty: &mut DirtyReach) {
        for joined in on.difference(&self.on) {
            dirty.networks.insert(*joined);
            let tasks = state.tasks_on_network(*joined);
            for task in tasks {
                dirty.tasks.insert(task.id);
                dirty.nodes.extend(task.node_id);
            }
            let services = state.services_on_network(*joined);
            dirty.services.extend(services.map(|service| service.id));
            if derive::is_ingress(state, *joined) {
                dirty.nodes.extend(state.nodes().map(|node| node.id));
            }
        }
        if self.on.difference(on).next().is_some() {
            // Whatever was sent may have been sent for a network that was left.
            dirty.networks.extend(self.networks.keys());
            dirty.tasks.extend(self.tasks.keys());
            dirty.services.extend(self.services.keys());
            dirty.nodes.extend(self.nodes.keys());
        }
        self.on.clone_from(on);
    }
}

/// Adds what has to be said of the dirty records to `changes`: `update` gives the record as it is
/// now, if there is one, `remove` says that there is none any more.
fn tell<I: Ord + Copy>(
    sent: &mut BTreeMap<I, u64>,
    dirty: BTreeSet<I>,
    changes: &mut Vec<Change>,
    update: impl Fn(I) -> Option<Change>,
    remove: impl Fn(I) -> Change,
) {
    for id in dirty {
        if let Some(record) = update(id) {
            let print = fingerprint(&record);
            if sent.insert(id, print) != Some(print) {
                changes.push(record);
            }
        } else if sent.remove(&id).is_some() {
            changes.push(remove(id));
        }
    }
}

#[cfg(test)]
mod tests;
