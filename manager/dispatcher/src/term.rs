//! One time of leading: who is in session, and the way to write.

use std::sync::Arc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use store::{Action, Commit, Object, State, Store};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;
use types::cluster::ClusterSpec;
use types::node::{NodeState, NodeStatus};
use types::{Node, NodeId, Task};

use crate::liveness::{Liveness, PERIODS_UNKNOWN_MAX};
use crate::mailbox::Mailbox;
use crate::reach::{self, Marked};
use crate::suspicion::{Acquaintance, Suspicion};
use crate::writer::Writer;
use crate::{SecretDrivers, assignments};

/// Everything that ends when this manager stops leading.
pub(crate) struct Term {
    pub(crate) store: Store,
    pub(crate) writer: Writer,
    pub(crate) secret_drivers: Arc<SecretDrivers>,
    pub(crate) sessions: TaskTracker,
    /// Ticks when the next expiry may have come nearer.
    pub(crate) sooner: Notify,
    /// Cancelled when this manager does not lead any more; every session ends with it.
    pub(crate) token: CancellationToken,
    liveness: Mutex<Liveness<Arc<Mailbox>>>,
    /// Never asked for while `liveness` is held.
    suspicion: Mutex<Suspicion>,
}

impl Term {
    pub(crate) fn new(store: Store, writer: Writer, secret_drivers: Arc<SecretDrivers>) -> Self {
        Self {
            store,
            writer,
            secret_drivers,
            sessions: TaskTracker::new(),
            sooner: Notify::new(),
            token: CancellationToken::new(),
            liveness: Mutex::new(Liveness::new()),
            suspicion: Mutex::default(),
        }
    }

    pub(crate) fn liveness(&self) -> MutexGuard<'_, Liveness<Arc<Mailbox>>> {
        self.liveness.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn suspicion(&self) -> MutexGuard<'_, Suspicion> {
        self.suspicion
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// How often agents tell that they live.
    pub(crate) fn heartbeat_period(&self) -> Duration {
        let state = self.store.state();
        let period = state.cluster().map(|cluster| cluster.spec.heartbeat_period);
        period.unwrap_or_else(|| ClusterSpec::default().heartbeat_period)
    }

    /// How long a broken session may be resumed.
    pub(crate) fn disconnect_grace(&self) -> Duration {
        let state = self.store.state();
        let grace = state.cluster().map(|cluster| cluster.spec.disconnect_grace);
        grace.unwrap_or_else(|| ClusterSpec::default().disconnect_grace)
    }

    /// Waits for the nodes the former leader knew, and says in which state they are now (S8.01).
    pub(crate) fn inherit(&self, state: &State, now: Instant) -> Vec<Action> {
        let until = now + self.heartbeat_period() * PERIODS_UNKNOWN_MAX;
        let mut actions = vec![];
        for node in state.nodes() {
            match node.status.state {
                NodeState::Down | NodeState::Disconnected => continue,
                NodeState::Unknown => {}
                NodeState::Ready => {
                    let message = "node moved to \"unknown\" state due to leadership change";
                    actions.push(status(node, NodeState::Unknown, message));
                }
            }
            self.liveness().expect(node.id, until);
        }
        actions
    }

    /// Tells sessions what a commit may mean to them.
    pub(crate) fn route(&self, commit: &Commit, now: Instant) {
        for change in &commit.changes {
            for marked in reach::concerns(change, &commit.state) {
                self.mark_reach(&marked);
            }
            match (&change.old, &change.new) {
                (Some(Object::Task(old)), Some(Object::Task(new))) => {
                    if assignments::is_of_interest(old, new) {
                        self.mark_task(old);
                        self.mark_task(new);
                    }
                }
                (Some(Object::Task(task)), None) | (None, Some(Object::Task(task))) => {
                    self.mark_task(task);
                }
                (Some(Object::Node(old)), Some(Object::Node(new))) => self.mark_node(old, new),
                (Some(Object::Node(node)), None) => self.remove(node),
                (None, Some(Object::Node(node))) => self.welcome(node, now),
                (Some(Object::Cluster(old)), Some(Object::Cluster(new))) => {
                    if old.root_ca.bundle_pem() != new.root_ca.bundle_pem() {
                        self.mark_all_nodes();
                    }
                }
                // A cluster's beginning, services, and nothing at all.
                (_, _) => {}
            }
        }
    }

    /// Has every session read everything again, and ends those of nodes that are gone.
    pub(crate) fn resync(&self, state: &State) {
        let gone: Vec<NodeId> = {
            let liveness = self.liveness();
            for mailbox in liveness.sessions() {
                mailbox.mark(|dirty| dirty.all = true);
            }
            liveness
                .nodes()
                .filter(|id| state.node(*id).is_none())
                .collect()
        };
        for node in gone {
            self.end_session_of(node);
        }
    }

    /// Gives every node the time back for which this manager stood still: their heartbeats wait to
    /// be read, and a leader that takes its own pause for theirs moves every task of the swarm.
    pub(crate) fn forgive_pause(&self, late: Duration) {
        if late >= self.heartbeat_period() {
            tracing::warn!(
                ?late,
                "this manager stood still, all nodes get that time back"
            );
            self.liveness().postpone(late);
        }
    }

    /// Notes that nodes whose time is up are down, and ends their sessions (S8.04).
    pub(crate) fn expire(&self, state: &State, now: Instant) -> Vec<Action> {
        let expired = self.liveness().expire(now);
        let mut actions = vec![];
        for expired in expired {
            if let Some(session) = expired.session {
                session.end(Status::unavailable(expired.reason.message()));
            }
            match state.node(expired.node) {
                Some(node) if node.status.state != NodeState::Down => {
                    tracing::warn!(node = %node.id, reason = expired.reason.message(), "node is down");
                    actions.push(status(node, NodeState::Down, expired.reason.message()));
                }
                Some(_) | None => self.liveness().settled(expired.node),
            }
        }
        actions
    }

    /// Looks into what nodes report of each other: calls upon those that are reported, and gives up
    /// those that are lost. Returns when to look again.
    pub(crate) fn investigate(&self, state: &State, now: Instant) -> Option<Instant> {
        let known = Known { term: self, state };
        let findings = self.suspicion().look(now, &known);
        let mut liveness = self.liveness();
        for node in &findings.to_call {
            if let Some(mailbox) = liveness.session(*node) {
                mailbox.mark(|dirty| dirty.call = true);
            }
        }
        for node in &findings.lost {
            liveness.lose(*node, now);
        }
        findings.again_at
    }

    fn mark_reach(&self, marked: &Marked) {
        let liveness = self.liveness();
        if let Some(node) = marked.node {
            if let Some(mailbox) = liveness.session(node) {
                mailbox.mark(|dirty| marked.set(&mut dirty.reach));
            }
            return;
        }
        for mailbox in liveness.sessions() {
            if marked.everybody || mailbox.is_on(&marked.networks) {
                mailbox.mark(|dirty| marked.set(&mut dirty.reach));
            }
        }
    }

    fn mark_task(&self, task: &Task) {
        let Some(node) = task.node_id else { return };
        if let Some(mailbox) = self.liveness().session(node) {
            mailbox.mark(|dirty| {
                dirty.tasks.insert(task.id);
            });
        }
    }

    fn mark_node(&self, old: &Node, new: &Node) {
        if old.manager_status != new.manager_status {
            self.mark_all_nodes();
        } else if let Some(mailbox) = self.liveness().session(new.id) {
            mailbox.mark(|dirty| dirty.node = true);
        }
    }

    fn mark_all_nodes(&self) {
        for mailbox in self.liveness().sessions() {
            mailbox.mark(|dirty| dirty.node = true);
        }
    }

    /// A node that joined has to register like any other.
    fn welcome(&self, node: &Node, now: Instant) {
        if node.status.state == NodeState::Unknown {
            self.liveness()
                .expect(node.id, now + self.heartbeat_period() * PERIODS_UNKNOWN_MAX);
            self.sooner.notify_one();
        }
        if node.manager_status.is_some() {
            self.mark_all_nodes();
        }
    }

    fn remove(&self, node: &Node) {
        self.end_session_of(node.id);
        if node.manager_status.is_some() {
            self.mark_all_nodes();
        }
    }

    fn end_session_of(&self, node: NodeId) {
        if let Some(session) = self.liveness().remove(node) {
            session.end(crate::service::not_registered(node));
        }
    }
}

/// What the store and the sessions say of nodes.
struct Known<'a> {
    term: &'a Term,
    state: &'a State,
}

impl Acquaintance for Known<'_> {
    fn is_in_use(&self, node: NodeId) -> bool {
        let node = self.state.node(node);
        node.is_some_and(|node| node.status.state != NodeState::Down)
    }

    fn has_session(&self, node: NodeId) -> bool {
        self.term.liveness().session(node).is_some()
    }

    fn is_peer(&self, node: NodeId, by: NodeId) -> bool {
        let mailbox = self.term.liveness().session(by).cloned();
        mailbox.is_some_and(|mailbox| reach::is_peer(self.state, node, by, &mailbox.on()))
    }
}

/// The node in another state, at the address it had.
fn status(node: &Node, state: NodeState, message: &str) -> Action {
    let status = NodeStatus {
        state,
        message: message.to_owned(),
        addr: node.status.addr,
    };
    Action::NodeStatus {
        node: node.id,
        status,
        description: None,
    }
}
