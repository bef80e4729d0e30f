//! What an agent has to be told, and why it may not start.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use executor::Executor;
use tokio::sync::watch;
use tonic::transport::Channel;
use types::NodeId;
use types::node::TlsInfo;

use crate::NodeNotice;

/// An agent's environment.
pub struct Options {
    /// The node it speaks for.
    pub node_id: NodeId,
    /// The daemon's state directory; the agent writes only below `worker/` in it.
    pub state_dir: PathBuf,
    /// Where tasks are recorded: not on a disk, since a record holds all a task is told.
    pub tasks_dir: PathBuf,
    /// How managers are reached.
    pub dialer: Arc<dyn ManagerDialer>,
    /// `host:port` of managers known from elsewhere; what was learnt in earlier runs is added.
    pub managers: Vec<String>,
    /// What runs the tasks.
    pub executor: Arc<dyn Executor>,
    /// Where the latest notice of the managers is put.
    pub notices: watch::Sender<Option<NodeNotice>>,
    /// Whom the node trusts and who issued its certificate; the managers are told of each change.
    pub tls: watch::Receiver<TlsInfo>,
}

/// Reaches managers, with the node's identity.
#[async_trait]
pub trait ManagerDialer: Send + Sync + 'static {
    /// A channel to the manager at `addr`. A broken channel is simply dialled again.
    ///
    /// # Errors
    /// When it cannot be reached or is not a manager of this cluster.
    async fn dial(&self, addr: &str) -> Result<Channel, DialError>;
}

/// Why a manager could not be reached.
pub type DialError = Box<dyn std::error::Error + Send + Sync>;

/// Why an agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its directory cannot be used.
    #[error("{doing} {}", path.display())]
    Io {
        /// Verb phrase.
        doing: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn io(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            doing,
            path,
            source,
        }
    }
}
