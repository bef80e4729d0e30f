//! What can be asked of the store at once, and how it answers.

use types::network::{Endpoint, NetworkAttachment, PublishedPort};
use types::node::{NodeDescription, NodeStatus};
use types::{NetworkId, NodeId, ServiceId, TaskId, TaskState, TaskStatus, Timestamp, Version};

use crate::{Object, ObjectId};

/// Actions in one transaction at most (SwarmKit's `MaxChangesPerTransaction`).
pub const TRANSACTION_ACTIONS_MAX: usize = 200;

/// Encoded size of one transaction at most, in bytes (SwarmKit's `MaxTransactionBytes`).
pub const TRANSACTION_BYTES_MAX: usize = 3 * 1024 * 1024 / 2;

/// Actions that apply together or not at all.
#[derive(Clone, Debug, PartialEq)]
pub struct Transaction {
    /// Clock of the manager that proposed it.
    pub now: Timestamp,
    /// In order: later ones see what earlier ones did.
    pub actions: Vec<Action>,
}

/// One change to the store.
///
/// `Create`, `Update`, `Remove` and what users do to tasks are checked and refuse the whole transaction; the others merge
/// into what is stored and drop out silently where they no longer apply, since whoever sends them
/// re-reads the state and tries again.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// A new object. Its id and, for services, its name must be free.
    Create(Object),
    /// A changed object; `meta.version` is the version it was read at and must still be stored.
    /// A version of a secret or config without data keeps the data that is stored.
    Update(Object),
    /// Takes an object out.
    Remove {
        /// Which one.
        id: ObjectId,
        /// The version it must have; none removes any.
        version: Option<Version>,
    },
    /// What was observed of a task. Dropped when the stored state is further on.
    TaskStatus {
        /// Which one; dropped when unknown.
        task: TaskId,
        /// The observation; `applied_at` becomes the transaction's `now`.
        status: TaskStatus,
    },
    /// What the orchestrator wants of a task. Only grows.
    TaskDesired {
        /// Which one; dropped when unknown.
        task: TaskId,
        /// The state wanted.
        desired: TaskState,
    },
    /// Gives a PENDING task its node. Dropped when the task or node changed meanwhile.
    TaskAssign {
        /// Which one.
        task: TaskId,
        /// Its node, which must be READY and ACTIVE.
        node: NodeId,
        /// The ASSIGNED status with its message.
        status: TaskStatus,
    },
    /// Gives a NEW task what it holds and moves it on. Dropped when the task has moved on by
    /// itself, or when somebody else holds one of the addresses by now.
    TaskAllocate {
        /// Which one.
        task: TaskId,
        /// Its places on networks.
        attachments: Vec<NetworkAttachment>,
        /// Ports its node opens for it alone.
        host_ports: Vec<PublishedPort>,
        /// The PENDING status.
        status: TaskStatus,
    },
    /// Gives a running task a place on one more network, as a user asked. Checked: refused when the
    /// task or the network cannot, and as stale when somebody else holds an address by now.
    TaskConnect {
        /// Which one.
        task: TaskId,
        /// Its place, addresses included.
        place: NetworkAttachment,
    },
    /// Takes a task off a network it was connected to. Checked.
    TaskDisconnect {
        /// Which one.
        task: TaskId,
        /// The network.
        network: NetworkId,
    },
    /// Gives a service its addresses and ports. Dropped when the service asks for something else
    /// by now, or somebody else holds one of them. The service keeps its version: what a user
    /// read before can still be updated.
    ServiceEndpoint {
        /// Which one; dropped when unknown.
        service: ServiceId,
        /// What it gets; `spec` is the one it was planned for.
        endpoint: Endpoint,
    },
    /// What the dispatcher knows of a node.
    NodeStatus {
        /// Which one; dropped when unknown.
        node: NodeId,
        /// The observation.
        status: NodeStatus,
        /// What its agent told; none keeps the stored one.
        description: Option<NodeDescription>,
    },
}

/// What one action did to one object. No old one: created; no new one: removed.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The object before.
    pub old: Option<Object>,
    /// The object after.
    pub new: Option<Object>,
}

impl Change {
    /// The object this is about: the new one, or the removed one.
    #[must_use]
    pub fn object(&self) -> &Object {
        self.new
            .as_ref()
            .or(self.old.as_ref())
            .expect("a change has at least one side")
    }
}

/// Why a transaction was not applied. Nothing of it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{object}: {reason} (action {action})")]
pub struct Refusal {
    /// Which action, from 0.
    pub action: usize,
    /// What was wrong.
    pub reason: RefusalReason,
    /// Kind and id or name of the object.
    pub object: String,
}

/// What was wrong with an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum RefusalReason {
    /// It could not be decoded or contradicts itself.
    #[error("malformed")]
    Malformed,
    /// The id is in use.
    #[error("exists already")]
    Exists,
    /// The name is in use.
    #[error("name conflicts with an existing object")]
    NameTaken,
    /// There is no such object.
    #[error("not found")]
    NotFound,
    /// The object changed since it was read.
    #[error("update out of sequence")]
    Stale,
    /// Another object stands in the way; the refusal's object is a sentence that says which.
    #[error("conflict")]
    Conflict,
    /// Others refer to it.
    #[error("is in use")]
    InUse,
}
