//! What an agent needs of the machine it runs on.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;
use types::check::NetworkCheck;
use types::node::NodeDescription;
use types::reach::Reach;
use types::{Node, NodeId, Task, TaskId};

use crate::{Contents, Controller, Error};

/// The machine: makes controllers, describes itself, clears up.
#[async_trait]
pub trait Executor: Send + Sync + 'static {
    /// What the cluster should know of the machine.
    ///
    /// # Errors
    /// When the machine cannot be asked; the agent then tells what it knew before.
    async fn describe(&self) -> Result<NodeDescription, Error>;

    /// Waits until [`Self::describe`] has something to say that others should hear at once. A machine
    /// that is looked at from time to time need not care.
    async fn described_anew(&self) {
        std::future::pending().await
    }

    /// Takes note of the node's own object (labels, role), which tasks may refer to.
    fn set_node(&self, node: Arc<Node>);

    /// Takes note of which node this is, and of where others send the traffic of containers to: at
    /// most one address of each family. Told before anything else, and on change.
    fn set_place(&self, _node: NodeId, _data_path: Vec<IpAddr>) {}

    /// Takes note of what managers tell of networks, before the tasks that need it, and on change.
    fn set_reach(&self, _reach: Arc<Reach>) {}

    /// Peers of the reach that nobody of the node's acquaintance can reach, as it changes; `None`
    /// while the node does not look.
    fn lost_peers(&self) -> watch::Receiver<Option<Arc<BTreeSet<NodeId>>>> {
        watch::channel(None).1
    }

    /// Compares the machine's networks with what managers told and repairs what differs. A machine
    /// without networks finds nothing.
    ///
    /// # Errors
    /// When the comparison cannot be made.
    async fn check_networks(&self) -> Result<NetworkCheck, Error> {
        Ok(NetworkCheck::default())
    }

    /// Where the content of secrets and configs is found from now on. A machine whose tasks see no
    /// files need not care.
    fn set_contents(&self, _contents: Contents) {}

    /// A controller for this task. Does no IO: what is there already is found by the first request.
    fn controller(&self, task: Arc<Task>) -> Arc<dyn Controller>;

    /// Removes everything that was made for tasks other than these. Called once, before any
    /// controller is made, and with an empty set when the node leaves its cluster.
    ///
    /// # Errors
    /// When something could not be removed; the rest is.
    async fn retain(&self, known: &BTreeSet<TaskId>) -> Result<(), Error>;
}
