//! Which records a commit may have changed, and on which networks somebody has to be told.

use std::collections::BTreeSet;

use store::{Change, Object, State};
use types::node::NodeState;
use types::{NetworkId, Node, NodeId, Service, Task};

use super::DirtyReach;
use super::derive::{asked, is_published, is_there};

/// Records to look at again, for whoever takes part in one of some networks.
#[derive(Debug, Default)]
pub(crate) struct Marked {
    /// For nodes on one of these networks.
    pub(crate) networks: BTreeSet<NetworkId>,
    /// For everybody, whatever networks they are on.
    pub(crate) everybody: bool,
    /// For this node, whatever networks it is on.
    pub(crate) node: Option<NodeId>,
    mark: Mark,
}

#[derive(Debug, Default)]
enum Mark {
    #[default]
    Settings,
    Network(NetworkId),
    Service(types::ServiceId),
    Task(types::TaskId, Option<NodeId>),
    Node(NodeId),
    Interest,
}

impl Marked {
    /// Sets the mark.
    pub(crate) fn set(&self, dirty: &mut DirtyReach) {
        match self.mark {
            Mark::Settings => dirty.settings = true,
            Mark::Interest => dirty.interest = true,
            Mark::Network(id) => drop(dirty.networks.insert(id)),
            Mark::Service(id) => drop(dirty.services.insert(id)),
            Mark::Node(id) => drop(dirty.nodes.insert(id)),
            Mark::Task(id, node) => {
                dirty.tasks.insert(id);
                dirty.nodes.extend(node);
            }
        }
    }
}

/// What a commit that made this change may mean to nodes.
pub(crate) fn concerns(change: &Change, state: &State) -> Vec<Marked> {
    let (old, new) = (change.old.as_ref(), change.new.as_ref());
    match change.object() {
        Object::Task(_) => {
            let (old, new) = (task_of(old), task_of(new));
            let mut marked = task(old, new);
            marked.extend(everybody(
                is_last_on_ingress(old, new, state),
                Mark::Interest,
            ));
            marked
        }
        Object::Service(_) => service(service_of(old), service_of(new), state),
        Object::Network(network) => {
            let mark = |mark| Marked {
                networks: [network.id].into(),
                mark,
                ..Marked::default()
            };
            let mut marked = vec![mark(Mark::Network(network.id))];
            if new.is_none() {
                marked.push(mark(Mark::Interest));
            }
            marked
        }
        Object::Node(_) => node(node_of(old), node_of(new), state),
        Object::Cluster(_) => everybody(settings_of(old) != settings_of(new), Mark::Settings),
        Object::Secret(_) | Object::Config(_) => vec![],
    }
}

fn everybody(is_changed: bool, mark: Mark) -> Vec<Marked> {
    let marked = Marked {
        everybody: true,
        mark,
        ..Marked::default()
    };
    if is_changed { vec![marked] } else { vec![] }
}

fn settings_of(object: Option<&Object>) -> Option<(u16, &[types::Payload])> {
    if let Some(Object::Cluster(cluster)) = object {
        Some((cluster.spec.network.data_path_port, &cluster.gossip_keys))
    } else {
        None
    }
}

fn task_of(object: Option<&Object>) -> Option<&Task> {
    if let Some(Object::Task(task)) = object {
        Some(task)
    } else {
        None
    }
}

fn service_of(object: Option<&Object>) -> Option<&Service> {
    if let Some(Object::Service(service)) = object {
        Some(service)
    } else {
        None
    }
}

fn node_of(object: Option<&Object>) -> Option<&Node> {
    if let Some(Object::Node(node)) = object {
        Some(node)
    } else {
        None
    }
}

fn task(old: Option<&Task>, new: Option<&Task>) -> Vec<Marked> {
    let there = |task: Option<&Task>| task.filter(|task| is_there(task)).is_some();
    let (was, is) = (there(old), there(new));
    if !was && !is {
        return vec![];
    }
    // The state of the node is looked at where the record is made.
    let serves = |task: Option<&Task>| {
        task.is_some_and(|task| {
            task.status.state == types::TaskState::Running && task.is_runnable()
        })
    };
    let places = |task: Option<&Task>| task.map_or(&[][..], |task| &task.attachments).to_vec();
    let connected = was && is && places(old) != places(new);
    if was && is && serves(old) == serves(new) && !connected {
        return vec![];
    }
    let networks: BTreeSet<NetworkId> = places(old)
        .into_iter()
        .chain(places(new))
        .map(|place| place.network)
        .collect();
    let Some(task) = new.or(old).filter(|_| !networks.is_empty()) else {
        return vec![];
    };
    let moved = was != is || connected;
    let mut marked = vec![Marked {
        networks,
        mark: Mark::Task(task.id, task.node_id.filter(|_| moved)),
        ..Marked::default()
    }];
    if moved {
        marked.push(Marked {
            node: task.node_id,
            mark: Mark::Interest,
            ..Marked::default()
        });
    }
    marked
}

/// Whether this was the last task that ended on ingress, with no service there either.
fn is_last_on_ingress(old: Option<&Task>, new: Option<&Task>, state: &State) -> bool {
    let Some(ingress) = state.ingress().map(|network| network.id) else {
        return false;
    };
    let holds = |task: &Task| {
        let mut places = task.attachments.iter();
        !task.status.state.is_terminal() && places.any(|place| place.network == ingress)
    };
    old.is_some_and(holds) && !new.is_some_and(holds) && !is_published(state, ingress)
}

fn service(old: Option<&Service>, new: Option<&Service>, state: &State) -> Vec<Marked> {
    if let (Some(old), Some(new)) = (old, new)
        && old.endpoint == new.endpoint
        && old.spec.endpoint == new.spec.endpoint
        && old.spec.task.networks == new.spec.task.networks
        && old.spec.name == new.spec.name
    {
        return vec![];
    }
    let sides = || old.into_iter().chain(new);
    let held = sides().flat_map(|service| &service.endpoint.virtual_ips);
    let held = held.map(|vip| vip.network);
    let asked = sides().flat_map(asked).map(|(network, _)| network);
    let networks: BTreeSet<NetworkId> = held.chain(asked).collect();
    let Some(id) = sides().next().map(|service| service.id) else {
        return vec![];
    };
    let ingress = state.ingress().map(|network| network.id);
    let on_ingress = |service: Option<&Service>| {
        let vips = service.map(|service| &service.endpoint.virtual_ips);
        vips.is_some_and(|vips| vips.iter().any(|vip| Some(vip.network) == ingress))
    };
    // The first and the last one that publishes brings every node in, and out again: with the
    // last of its tasks, if some are still ending.
    let mut marked = everybody(on_ingress(old) != on_ingress(new), Mark::Interest);
    marked.push(Marked {
        networks,
        mark: Mark::Service(id),
        ..Marked::default()
    });
    marked
}

fn node(old: Option<&Node>, new: Option<&Node>, state: &State) -> Vec<Marked> {
    let reached = |node: Option<&Node>| {
        node.map(|node| {
            let told = node.description.as_ref();
            (node.network_index, told.map(|told| told.network.clone()))
        })
    };
    let is_alive =
        |node: Option<&Node>| node.is_some_and(|node| node.status.state != NodeState::Down);
    let Some(node) = new.or(old) else {
        return vec![];
    };
    let changed_life = is_alive(old) != is_alive(new);
    if reached(old) == reached(new) && !changed_life {
        return vec![];
    }
    let mut marked = everybody(true, Mark::Node(node.id));
    marked.push(Marked {
        node: Some(node.id),
        mark: Mark::Settings,
        ..Marked::default()
    });
    if changed_life {
        let tasks = state.tasks_on_node(node.id);
        let serving = tasks.filter(|task| is_there(task) && !task.attachments.is_empty());
        marked.extend(serving.map(|task| Marked {
            networks: task.attachments.iter().map(|place| place.network).collect(),
            mark: Mark::Task(task.id, None),
            ..Marked::default()
        }));
    }
    marked
}
