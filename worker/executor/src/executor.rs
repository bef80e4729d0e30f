//! What an agent needs of the machine it runs on.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use types::node::NodeDescription;
use types::{Node, Task, TaskId};

use crate::{Controller, Error};

/// The machine: makes controllers, describes itself, clears up.
#[async_trait]
pub trait Executor: Send + Sync + 'static {
    /// What the cluster should know of the machine.
    ///
    /// # Errors
    /// When the machine cannot be asked; the agent then tells what it knew before.
    async fn describe(&self) -> Result<NodeDescription, Error>;

    /// Takes note of the node's own object (labels, role), which tasks may refer to.
    fn set_node(&self, node: Arc<Node>);

    /// A controller for this task. Does no IO: what is there already is found by the first request.
    fn controller(&self, task: Arc<Task>) -> Arc<dyn Controller>;

    /// Removes everything that was made for tasks other than these. Called once, before any
    /// controller is made, and with an empty set when the node leaves its cluster.
    ///
    /// # Errors
    /// When something could not be removed; the rest is.
    async fn retain(&self, known: &BTreeSet<TaskId>) -> Result<(), Error>;
}
