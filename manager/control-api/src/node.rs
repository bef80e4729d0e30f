//! Reading, changing and removing nodes, with the guards that keep a quorum (S19.03, S19.04).

use std::sync::Arc;
use std::time::Duration;

use store::{Action, Object, ObjectId, State, TRANSACTION_ACTIONS_MAX};
use types::node::NodeState;
use types::{
    Cluster, Node, NodeId, NodeRole, NodeSpec, Task, TaskState, TaskStatus, Timestamp, Version,
};

use crate::api::STALE_RETRIES_MAX;
use crate::{ControlApi, Error, key, validate};

/// Tasks orphaned in the same transaction as their node's removal: the removal itself and the
/// revocation of its certificate take two of the allowed actions.
const ORPHANS_MAX: usize = TRANSACTION_ACTIONS_MAX - 2;

/// A node with what only a running manager knows of it.
#[derive(Clone, Debug)]
pub struct NodeView {
    /// The stored node.
    pub node: Arc<Node>,
    /// It leads the Raft group.
    pub leader: bool,
    /// It is a manager that answered lately.
    pub reachable: bool,
}

/// All nodes, and which of them answers.
#[derive(Clone, Debug)]
pub struct NodeList {
    /// By id.
    pub nodes: Vec<NodeView>,
    /// The node that answers.
    pub self_id: NodeId,
}

impl ControlApi {
    /// Every node, by id.
    #[must_use]
    pub fn list_nodes(&self) -> NodeList {
        let state = self.state();
        NodeList {
            nodes: state.nodes().map(|node| self.node_view(node)).collect(),
            self_id: self.status.self_id(),
        }
    }

    /// The node called `key`.
    ///
    /// # Errors
    /// When nothing or several are called so.
    pub fn get_node(&self, key: &str) -> Result<NodeView, Error> {
        let state = self.state();
        key::node(&state, key, self.status.self_id()).map(|node| self.node_view(node))
    }

    /// Gives a node other labels, role or availability.
    ///
    /// # Errors
    /// When the spec is not valid, the version is not the stored one, or a demotion would leave
    /// no manager or no quorum.
    pub async fn update_node(
        &self,
        id: NodeId,
        version: Version,
        spec: NodeSpec,
    ) -> Result<NodeView, Error> {
        validate::node_spec(&spec)?;
        let mut tries = 0;
        loop {
            let state = self.state();
            let node = key::node(&state, id.as_str(), self.status.self_id())?;
            if node.meta.version != version {
                return Err(stale(id));
            }
            let mut actions = vec![];
            if node.spec.role == NodeRole::Manager && spec.role == NodeRole::Worker {
                self.check_demotion(&state, node)?;
                // Writing the cluster along makes demotions exclude each other: two at once, each
                // harmless alone, could otherwise take the quorum together.
                let cluster = state.cluster().ok_or(Error::NotReady)?;
                actions.push(Action::Update(Object::from(cluster.clone())));
            }
            let mut changed = Node::clone(node);
            changed.spec = spec.clone();
            actions.push(Action::Update(Object::from(changed)));
            match self.propose(actions).await {
                Ok(_) => return self.get_node(id.as_str()),
                // The cluster changed under a demotion: decide again. A node that changed is found
                // above.
                Err(Error::Stale { .. }) if tries < STALE_RETRIES_MAX => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Forgets a node: revokes its certificate, orphans its tasks, removes it.
    ///
    /// # Errors
    /// When it is a manager, or is in session and `force` is not set.
    pub async fn remove_node(&self, key: &str, force: bool) -> Result<NodeId, Error> {
        let id = self.get_node(key)?.node.id;
        let mut tries = 0;
        loop {
            let state = self.state();
            let node = key::node(&state, id.as_str(), self.status.self_id())?;
            self.check_removal(node, force)?;
            let live = live_tasks(&state, id);
            if live.len() > ORPHANS_MAX {
                self.propose(orphan(&live[..ORPHANS_MAX])).await?;
                continue;
            }
            let cluster = state.cluster().ok_or(Error::NotReady)?;
            let mut actions = vec![revoke(cluster, id, Timestamp::now())];
            actions.extend(orphan(&live));
            let version = Some(node.meta.version);
            actions.push(Action::Remove {
                id: ObjectId::Node(id),
                version,
            });
            match self.propose(actions).await {
                Ok(_) => break,
                Err(Error::Stale { .. }) if tries < STALE_RETRIES_MAX => tries += 1,
                Err(error) => return Err(error),
            }
        }
        // The scheduler may have used the node until the very end; from now on it cannot.
        loop {
            let left = live_tasks(&self.state(), id);
            if left.is_empty() {
                return Ok(id);
            }
            self.propose(orphan(&left[..left.len().min(ORPHANS_MAX)]))
                .await?;
        }
    }

    fn node_view(&self, node: &Arc<Node>) -> NodeView {
        let raft_id = node.manager_status.as_ref().map(|manager| manager.raft_id);
        NodeView {
            node: node.clone(),
            leader: raft_id.is_some() && raft_id == self.status.leader(),
            reachable: raft_id.is_some_and(|raft_id| self.status.reachable(raft_id)),
        }
    }

    fn check_demotion(&self, state: &State, node: &Node) -> Result<(), Error> {
        let managers = state
            .nodes()
            .filter(|it| it.spec.role == NodeRole::Manager)
            .count();
        if managers <= 1 {
            return Err(Error::Precondition(
                "attempting to demote the last manager of the swarm".to_owned(),
            ));
        }
        let Some(own) = node.manager_status.as_ref() else {
            return Ok(());
        };
        let down = |raft_id: u64| {
            state.nodes().any(|it| {
                it.status.state == NodeState::Down
                    && it
                        .manager_status
                        .as_ref()
                        .is_some_and(|m| m.raft_id == raft_id)
            })
        };
        let others: Vec<u64> = self
            .status
            .managers()
            .into_iter()
            .map(|manager| manager.raft_id)
            .filter(|raft_id| *raft_id != own.raft_id)
            .collect();
        let reachable = others
            .iter()
            .filter(|id| self.status.reachable(**id) && !down(**id))
            .count();
        let quorum = others.len() / 2 + 1;
        if reachable < quorum {
            return Err(Error::Precondition(format!(
                "can't remove member from the raft: this would result in a loss of quorum \
                 ({reachable} of the {} other managers are reachable, {quorum} are needed)",
                others.len()
            )));
        }
        Ok(())
    }

    fn check_removal(&self, node: &Node, force: bool) -> Result<(), Error> {
        let member = node.manager_status.as_ref().is_some_and(|own| {
            self.status
                .managers()
                .iter()
                .any(|manager| manager.raft_id == own.raft_id)
        });
        if node.spec.role == NodeRole::Manager || node.role == NodeRole::Manager || member {
            return Err(Error::Precondition(format!(
                "node {} is a manager and must be demoted to worker before removal",
                node.id
            )));
        }
        if node.status.state == NodeState::Ready && !force {
            return Err(Error::Precondition(format!(
                "node {} is not down and can't be removed: stop it or let it leave first, or use \
                 force",
                node.id
            )));
        }
        Ok(())
    }
}

fn stale(id: NodeId) -> Error {
    Error::Stale {
        object: format!("node {id}"),
    }
}

fn live_tasks(state: &State, node: NodeId) -> Vec<Arc<Task>> {
    state
        .tasks_on_node(node)
        .filter(|task| !task.status.state.is_terminal())
        .cloned()
        .collect()
}

/// Nothing will be heard of these tasks again.
fn orphan(tasks: &[Arc<Task>]) -> Vec<Action> {
    let status = |task: &Task| TaskStatus {
        state: TaskState::Orphaned,
        timestamp: Timestamp::now(),
        message: "node removed".to_owned(),
        ..task.status.clone()
    };
    tasks
        .iter()
        .map(|task| Action::TaskStatus {
            task: task.id,
            status: status(task),
        })
        .collect()
}

/// How much longer than its certificate a removed node is remembered (S11.02).
const REVOKED_SLACK: Duration = Duration::from_secs(7 * 24 * 3600);

/// Refuses the node's certificate until it has run out (S19.04), and forgets entries that have.
fn revoke(cluster: &Cluster, node: NodeId, now: Timestamp) -> Action {
    let mut cluster = cluster.clone();
    // Its certificate may be from before the expiry was shortened.
    let expiry = cluster.spec.node_cert_expiry.max(ca::NODE_VALIDITY_DEFAULT);
    cluster.revoked.retain(|_, until| *until > now);
    cluster.access.demoted.remove(&node);
    cluster
        .revoked
        .insert(node, now.plus(expiry + REVOKED_SLACK));
    Action::Update(Object::from(cluster))
}

#[cfg(test)]
mod tests;
