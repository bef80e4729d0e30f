//! The machine as an agent sees it: describes itself, makes controllers, clears up.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use container::{Runtime, RuntimeOptions};
use executor::{Contents, Controller, Executor};
use futures::{StreamExt as _, stream};
use image::{ImageId, ImageStore};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use types::check::NetworkCheck;
use types::node::NodeDescription;
use types::reach::Reach;
use types::task::Platform;
use types::{Labels, Node, NodeId, Task, TaskId};

use crate::blocking::blocking;
use crate::controller::ContainerController;
use crate::networks::{self, Networks};
use crate::records::{Records, make_private_dir};
use crate::template::Place;
use crate::{Error, Options, machine};

/// Containers of unknown tasks that are removed at the same time; each waits mostly for the kernel.
const REMOVALS_MAX: usize = 16;

/// Runs tasks as containers. Clones share everything.
#[derive(Clone)]
pub struct ContainerExecutor {
    shared: Arc<Shared>,
}

/// What the controllers have in common.
pub(crate) struct Shared {
    pub(crate) runtime: Runtime,
    pub(crate) images: ImageStore,
    pub(crate) records: Records,
    pub(crate) networks: Networks,
    /// Owns what must not be broken off when its caller goes away: the making of a container.
    pub(crate) tracker: TaskTracker,
    hostname: String,
    platform: Platform,
    engine_labels: Labels,
    contents: Mutex<Contents>,
}

impl Shared {
    /// What the managers gave for tasks.
    pub(crate) fn contents(&self) -> Contents {
        self.lock_contents().clone()
    }

    fn lock_contents(&self) -> MutexGuard<'_, Contents> {
        // Nothing panics while it holds the lock; each change is a single one.
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn place(&self) -> Place<'_> {
        Place {
            hostname: &self.hostname,
            platform: &self.platform,
        }
    }
}

impl ContainerExecutor {
    /// Opens the state directory and loads the shim. Blocks for some milliseconds.
    ///
    /// # Errors
    /// When the directory or the machine's cgroups cannot be used, or there is no shim.
    pub fn open(options: Options) -> Result<Self, Error> {
        let Options {
            state_dir,
            run_dir,
            shim,
            cgroup_parent,
            datapath,
            key_timing,
            images,
            hostname,
            engine_labels,
        } = options;
        make_private_dir(&state_dir)?;
        let containers = state_dir.join("containers");
        remove_unborn(&containers)?;
        let runtime = Runtime::new(RuntimeOptions {
            shim,
            state_dir: containers,
            cgroup_parent,
        });
        let tracker = TaskTracker::new();
        let networks = networks::Options {
            state_dir: state_dir.join("network"),
            run_dir: run_dir.clone(),
            datapath,
            key_timing,
        };
        let shared = Shared {
            runtime: runtime.map_err(|error| Error::Runtime(Box::new(error)))?,
            images,
            records: Records::open(&run_dir.join("records"))?,
            networks: Networks::open(networks, &tracker)?,
            tracker,
            hostname,
            platform: machine::platform(),
            engine_labels,
            contents: Mutex::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// The node's images.
    #[must_use]
    pub fn images(&self) -> &ImageStore {
        &self.shared.images
    }

    /// Whether a container on this node is made from `image`, or is about to be. Takes no lock of
    /// the image store, so that the store may ask while it holds one.
    #[must_use]
    pub fn image_in_use(&self, image: &ImageId) -> bool {
        self.shared.records.uses(image)
    }
}

#[async_trait]
impl Executor for ContainerExecutor {
    async fn describe(&self) -> Result<NodeDescription, executor::Error> {
        // First, so that nobody who fails below is roused at once to try again.
        let network = self.shared.networks.describe();
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let mut description = machine::describe(
                shared.hostname.clone(),
                shared.platform.clone(),
                shared.engine_labels.clone(),
            )?;
            description.network = network;
            Ok(description)
        })
        .await
    }

    fn set_place(&self, node: NodeId, data_path: Vec<IpAddr>) {
        self.shared.networks.set_place(node, data_path);
    }

    async fn check_networks(&self) -> Result<NetworkCheck, executor::Error> {
        self.shared.networks.check().await
    }

    fn set_reach(&self, reach: Arc<Reach>) {
        self.shared.networks.set_reach(reach);
    }

    fn lost_peers(&self) -> watch::Receiver<Option<Arc<BTreeSet<NodeId>>>> {
        self.shared.networks.lost_peers()
    }

    async fn described_anew(&self) {
        self.shared.networks.described_anew().await;
    }

    /// Nothing a task may refer to is in the node's object: its placeholders are the node's id,
    /// which the task has, and what this machine knows of itself. But others use keys of this node
    /// only once managers know them.
    fn set_node(&self, node: Arc<Node>) {
        let told = node.description.as_ref();
        self.shared
            .networks
            .set_known(told.map_or_else(Vec::new, |told| told.network.wireguard_keys.clone()));
    }

    fn set_contents(&self, contents: Contents) {
        *self.shared.lock_contents() = contents;
    }

    fn controller(&self, task: Arc<Task>) -> Arc<dyn Controller> {
        Arc::new(ContainerController::new(Arc::clone(&self.shared), task))
    }

    async fn retain(&self, known: &BTreeSet<TaskId>) -> Result<(), executor::Error> {
        let failed = |error: container::Error| executor::Error::fatal(&error);
        let runtime = &self.shared.runtime;
        let is_known = |id: &String| id.parse().is_ok_and(|task: TaskId| known.contains(&task));
        let lister = runtime.clone();
        let ids = blocking(move || lister.list()).await.map_err(failed)?;
        let unknown: Vec<String> = ids.into_iter().filter(|id| !is_known(id)).collect();
        if !unknown.is_empty() {
            tracing::info!(
                containers = unknown.len(),
                "removing containers of unknown tasks"
            );
        }
        let mut removals = stream::iter(unknown)
            .map(|id| remove(runtime, id))
            .buffer_unordered(REMOVALS_MAX);
        let mut result = Ok(());
        while let Some(removed) = removals.next().await {
            result = result.and(removed.map_err(failed));
        }
        // The record of a container that is still there keeps its image.
        result?;
        let of_record = |task| self.shared.records.get(task).map(|record| record.dns);
        let dns = |task| of_record(task).unwrap_or_default();
        self.shared.networks.retain(known, dns).await?;
        let (shared, known) = (Arc::clone(&self.shared), known.clone());
        blocking(move || {
            let retained = shared.records.retain(|task| known.contains(&task));
            retained.map_err(|error| executor::Error::fatal(&error))?;
            if known.is_empty() {
                // The next container makes it again.
                shared.runtime.remove_cgroup_parent().map_err(failed)?;
            }
            Ok(())
        })
        .await
    }
}

async fn remove(runtime: &Runtime, id: String) -> Result<(), container::Error> {
    match runtime.attach(&id).await? {
        Some(container) => container.remove().await,
        None => Ok(()),
    }
}

/// Removes the directories of containers that a daemon was about to make when it died: the runtime
/// takes them neither for a container nor for none.
fn remove_unborn(containers: &Path) -> Result<(), Error> {
    let failed = || Error::io("look for containers in", containers);
    let entries = match std::fs::read_dir(containers) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed())?,
    };
    for entry in entries {
        let dir: PathBuf = entry.map_err(failed())?.path();
        if !dir.join(container::state::MADE_FILE).exists() {
            std::fs::remove_dir_all(&dir).map_err(Error::io("remove", &dir))?;
        }
    }
    Ok(())
}
