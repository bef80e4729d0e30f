//! The records themselves, each a function of the state and of the networks a node takes part in.

use std::collections::BTreeSet;

use proto::objects;
use store::State;
use types::network::{NetworkAttachment, PublishMode};
use types::node::NodeState;
use types::reach::{NetworkSettings, Peer, ServiceEndpoint, TaskEndpoint};
use types::{Meta, Network, NetworkId, Node, NodeId, Service, ServiceId, Task, TaskId, TaskState};

/// Networks of the store a node takes part in: those of its tasks, with the configurations they
/// come from, and ingress while anything is published there or ends there.
pub(crate) fn interest(state: &State, node: NodeId) -> BTreeSet<NetworkId> {
    let tasks = state.tasks_on_node(node).filter(|task| is_there(task));
    let attached = tasks.flat_map(|task| &task.attachments);
    let mut on: BTreeSet<NetworkId> = attached.map(|attachment| attachment.network).collect();
    let sources: Vec<NetworkId> = on
        .iter()
        .filter_map(|id| state.network(*id)?.spec.config_from.as_deref())
        .filter_map(|name| Some(state.network_by_name(name)?.id))
        .collect();
    on.extend(sources);
    on.extend(
        state
            .ingress()
            .map(|network| network.id)
            .filter(|id| is_published(state, *id)),
    );
    on
}

/// Whether any service publishes a port on this network, which is ingress then, or a task of one
/// that did is still ending: what clients began through a node goes on through that node.
pub(super) fn is_published(state: &State, ingress: NetworkId) -> bool {
    state.holdings().addresses(ingress).next().is_some()
}

/// Whether a network is the one that carries published ports.
pub(super) fn is_ingress(state: &State, network: NetworkId) -> bool {
    let network = state.network(network);
    network.is_some_and(|network| network.spec.ingress)
}

/// Whether a task is on its node's networks: from the moment it is given to the node, so that the
/// way to it is ready when it runs, until it has ended.
pub(super) fn is_there(task: &Task) -> bool {
    task.node_id.is_some()
        && task.status.state >= TaskState::Assigned
        && !task.status.state.is_terminal()
}

/// Whether new connections may go to a task: it runs, is to go on running, and its node is not
/// lost. A node nothing is known of yet after a change of leaders has not moved its containers.
pub(super) fn is_serving(task: &Task, node: Option<&Node>) -> bool {
    task.status.state == TaskState::Running
        && task.is_runnable()
        && node.is_some_and(|node| node.status.state != NodeState::Down)
}

pub(super) fn settings(state: &State, node: NodeId) -> NetworkSettings {
    let cluster = state.cluster();
    NetworkSettings {
        index: state.node(node).map_or(0, |node| node.network_index),
        data_path_port: cluster.map_or(types::network::DATA_PATH_PORT_DEFAULT, |cluster| {
            cluster.spec.network.data_path_port
        }),
        gossip_keys: cluster.map_or_else(Vec::new, |cluster| cluster.gossip_keys.clone()),
    }
}

pub(super) fn network(
    state: &State,
    id: NetworkId,
    on: &BTreeSet<NetworkId>,
) -> Option<objects::Network> {
    let network = state.network(id).filter(|_| on.contains(&id))?;
    // Nodes compare what they are told: a version that moves for nothing is left out.
    let network = Network {
        meta: Meta::default(),
        ..Network::clone(network)
    };
    Some((&network).into())
}

pub(super) fn endpoint(
    state: &State,
    id: TaskId,
    on: &BTreeSet<NetworkId>,
) -> Option<TaskEndpoint> {
    let task = state.task(id).filter(|task| is_there(task))?;
    let node = task.node_id?;
    let attachments: Vec<NetworkAttachment> = task
        .attachments
        .iter()
        .filter(|attachment| on.contains(&attachment.network) && !attachment.addresses.is_empty())
        .cloned()
        .collect();
    if attachments.is_empty() {
        return None;
    }
    Some(TaskEndpoint {
        task: id,
        service: task.service_id,
        slot: task.slot,
        node,
        name: task.name(),
        hostname: task.spec.container.hostname.clone(),
        attachments,
        serving: is_serving(task, state.node(node).map(|node| &**node)),
        weight: 1,
    })
}

pub(super) fn service(
    state: &State,
    id: ServiceId,
    on: &BTreeSet<NetworkId>,
) -> Option<ServiceEndpoint> {
    let service = state.service(id)?;
    let endpoint = &service.endpoint;
    let virtual_ips = endpoint.virtual_ips.iter();
    let virtual_ips: Vec<_> = virtual_ips
        .filter(|vip| on.contains(&vip.network))
        .copied()
        .collect();
    let asked: Vec<_> = asked(service).filter(|(id, _)| on.contains(id)).collect();
    if virtual_ips.is_empty() && asked.is_empty() {
        return None;
    }
    let is_on_ingress = virtual_ips.iter().any(|vip| is_ingress(state, vip.network));
    let ports = endpoint.ports.iter();
    Some(ServiceEndpoint {
        service: id,
        name: service.spec.name.clone(),
        mode: service.spec.endpoint.mode,
        affinity: service.spec.endpoint.affinity,
        ports: ports
            .filter(|port| is_on_ingress && port.mode == PublishMode::Ingress)
            .cloned()
            .collect(),
        virtual_ips,
        aliases: asked
            .into_iter()
            .flat_map(|(id, aliases)| aliases.iter().map(move |alias| (id, alias.clone())))
            .collect(),
    })
}

/// Networks of the store a service asks for, and its other names there.
pub(super) fn asked(service: &Service) -> impl Iterator<Item = (NetworkId, &Vec<String>)> {
    let networks = service.spec.task.networks.iter();
    networks.filter_map(|asked| Some((asked.target.parse().ok()?, &asked.aliases)))
}

/// Whether a node is told of another one: it has tasks on a network of both, or both carry ingress.
pub(crate) fn is_peer(state: &State, id: NodeId, own: NodeId, on: &BTreeSet<NetworkId>) -> bool {
    let shares = || {
        let tasks = state.tasks_on_node(id).filter(|task| is_there(task));
        let mut attached = tasks.flat_map(|task| &task.attachments);
        attached.any(|place| on.contains(&place.network) && !place.addresses.is_empty())
    };
    id != own && (on.iter().any(|id| is_ingress(state, *id)) || shares())
}

/// Another node as this one sees it: it has tasks on a network of both, or both carry ingress.
pub(super) fn peer(
    state: &State,
    id: NodeId,
    own: NodeId,
    on: &BTreeSet<NetworkId>,
) -> Option<Peer> {
    let node = state.node(id).filter(|_| is_peer(state, id, own, on))?;
    let told = node.description.as_ref().map(|told| told.network.clone());
    let told = told.unwrap_or_default();
    Some(Peer {
        node: id,
        index: node.network_index,
        data_path: told.data_path,
        wireguard_keys: told.wireguard_keys,
        alive: node.status.state != NodeState::Down,
    })
}
