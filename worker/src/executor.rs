//! The executor of this machine: containers of the runtime, made from images of the store.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use container::{Runtime, RuntimeOptions, ShimSource};
use executor::{Controller, Executor};
use futures::StreamExt;
use image::ImageStore;
use tokio_util::task::TaskTracker;
use types::node::NodeDescription;
use types::{Labels, Node, Task, TaskId};

use crate::controller::ContainerController;
use crate::machine;

/// Containers removed at the same time when clearing up.
const REMOVALS_MAX: usize = 8;

/// What a container executor works on.
#[derive(Clone)]
pub struct Options {
    /// Where images come from.
    pub images: ImageStore,
    /// Directory of the containers; made when missing.
    pub containers_dir: PathBuf,
    /// The cgroup below which containers get theirs; nodes that share a machine need different ones.
    pub cgroup_parent: String,
    /// The shim program.
    pub shim: ShimSource,
    /// Labels given to the daemon on this machine.
    pub engine_labels: Labels,
}

/// Why this machine cannot run containers.
#[derive(Debug, thiserror::Error)]
#[error("preparing this machine to run containers")]
pub struct Error(#[source] container::Error);

/// Runs tasks in containers. Clones share everything.
#[derive(Clone)]
pub struct ContainerExecutor {
    shared: Arc<Shared>,
}

/// What all controllers share.
pub(crate) struct Shared {
    pub(crate) images: ImageStore,
    pub(crate) runtime: Runtime,
    /// Containers being made: finished even when the task is given up meanwhile.
    pub(crate) making: TaskTracker,
    engine_labels: Labels,
    node: Mutex<Option<Arc<Node>>>,
}

impl Shared {
    /// The node as the managers see it, once they told.
    pub(crate) fn node(&self) -> Option<Arc<Node>> {
        self.node
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl ContainerExecutor {
    /// Loads the shim and looks at the machine. Blocks for a few milliseconds.
    ///
    /// # Errors
    /// When the shim or the directory cannot be used, or the machine has no usable cgroups.
    pub fn new(options: Options) -> Result<Self, Error> {
        let runtime = Runtime::new(RuntimeOptions {
            shim: options.shim,
            state_dir: options.containers_dir,
            cgroup_parent: options.cgroup_parent,
        })
        .map_err(Error)?;
        let shared = Shared {
            images: options.images,
            runtime,
            making: TaskTracker::new(),
            engine_labels: options.engine_labels,
            node: Mutex::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }
}

#[async_trait]
impl Executor for ContainerExecutor {
    async fn describe(&self) -> Result<NodeDescription, executor::Error> {
        machine::describe(&self.shared.engine_labels)
    }

    fn set_node(&self, node: Arc<Node>) {
        *self
            .shared
            .node
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(node);
    }

    fn controller(&self, task: Arc<Task>) -> Arc<dyn Controller> {
        Arc::new(ContainerController::new(self.shared.clone(), task))
    }

    async fn retain(&self, known: &BTreeSet<TaskId>) -> Result<(), executor::Error> {
        let runtime = &self.shared.runtime;
        let mut ids = runtime.list().map_err(|e| executor::Error::fatal(&e))?;
        ids.retain(|id| id.parse().is_ok_and(|task: TaskId| !known.contains(&task)));
        if !ids.is_empty() {
            tracing::info!(
                containers = ids.len(),
                "removing containers of unknown tasks"
            );
        }
        let remove = |id: String| async move {
            match runtime.attach(&id).await? {
                Some(container) => container.remove().await,
                None => Ok(()),
            }
        };
        let results = futures::stream::iter(ids)
            .map(remove)
            .buffer_unordered(REMOVALS_MAX);
        let errors: Vec<_> = results
            .filter_map(async |result| result.err())
            .collect()
            .await;
        if known.is_empty() && errors.is_empty() {
            runtime
                .remove_cgroup_parent()
                .map_err(|e| executor::Error::fatal(&e))?;
        }
        match errors.first() {
            Some(error) => Err(executor::Error::fatal(error)),
            None => Ok(()),
        }
    }
}
