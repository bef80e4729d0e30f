//! What a node is told of itself and its managers (S8.06).

use std::sync::Arc;

use proto::dispatcher as wire;
use store::State;
use types::{Node, NodeId};

/// What all nodes are told alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Surroundings {
    /// `host:port` of each manager.
    managers: Vec<String>,
    /// The roots to trust.
    root_bundle_pem: String,
    /// Nothing readable of the swarm is to be on disk.
    is_locked: bool,
}

impl Surroundings {
    pub(crate) fn of(state: &State) -> Self {
        let statuses = state
            .nodes()
            .filter_map(|node| node.manager_status.as_ref());
        Self {
            managers: statuses
                .map(|s| s.addr.clone())
                .filter(|addr| !addr.is_empty())
                .collect(),
            root_bundle_pem: state
                .cluster()
                .map_or_else(String::new, |c| c.root_ca.bundle_pem()),
            is_locked: state.cluster().is_some_and(|c| c.spec.autolock_managers),
        }
    }
}

/// What one session's agent was told.
#[derive(Debug, Default)]
pub(crate) struct Told(Option<(Arc<Node>, Surroundings)>);

impl Told {
    /// What the agent has to be told now; none when it knows.
    pub(crate) fn update(&mut self, state: &State, node: NodeId) -> Option<wire::NodeNotice> {
        let node = state.node(node)?;
        let surroundings = Surroundings::of(state);
        if let Some((told, around)) = &self.0
            && *around == surroundings
            && is_same(told, node)
        {
            return None;
        }
        let notice = wire::NodeNotice {
            node: Some((&**node).into()),
            managers: surroundings.managers.clone(),
            root_bundle_pem: surroundings.root_bundle_pem.clone(),
            locked: surroundings.is_locked,
        };
        self.0 = Some((node.clone(), surroundings));
        Some(notice)
    }
}

/// Equal in what others decide about the node.
fn is_same(a: &Node, b: &Node) -> bool {
    a.spec == b.spec
        && a.role == b.role
        && a.manager_status == b.manager_status
        && a.certificate.renew_now == b.certificate.renew_now
        && wireguard_keys(a) == wireguard_keys(b)
}

/// Keys that others are told of: the node uses one only once it knows them to be.
fn wireguard_keys(node: &Node) -> &[[u8; 32]] {
    let told = node.description.as_ref();
    told.map_or(&[], |told| told.network.wireguard_keys.as_slice())
}
