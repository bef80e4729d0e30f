//! Tasks without containers: they run as long as nobody stops them or makes them end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use executor::{Controller, Error, Executor, Exit, LogLine, LogOptions, LogStream, LogStreamName};
use futures::StreamExt as _;
use tokio::sync::watch;
use types::node::NodeDescription;
use types::task::{ContainerStatus, Platform, Resources};
use types::{Node, Task, TaskId, Timestamp};

/// A machine whose containers are entries of a map. Clones are the same machine.
///
/// It outlives the daemon that uses it, as real containers do.
#[derive(Clone)]
pub struct SimExecutor {
    hostname: String,
    containers: Arc<Mutex<BTreeMap<TaskId, Container>>>,
}

/// One pretended container.
struct Container {
    /// None before it was started.
    ended: Option<watch::Sender<Option<Exit>>>,
    number: u32,
}

impl SimExecutor {
    /// A machine without containers.
    #[must_use]
    pub fn new(hostname: &str) -> Self {
        Self {
            hostname: hostname.to_owned(),
            containers: Arc::default(),
        }
    }

    /// The running containers, each with a number no other container of this machine ever had.
    #[must_use]
    pub fn running(&self) -> BTreeMap<TaskId, u32> {
        let containers = self.lock();
        let running = containers.iter().filter(|(_, it)| it.is_running());
        running.map(|(task, it)| (*task, it.number)).collect()
    }

    /// Ends a running container with this exit code, as if its process had done so.
    pub fn end(&self, task: TaskId, code: i32) {
        if let Some(ended) = self.lock().get(&task).and_then(|it| it.ended.as_ref()) {
            ended.send_replace(Some(Exit {
                code,
                reason: String::new(),
            }));
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TaskId, Container>> {
        self.containers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Container {
    fn is_running(&self) -> bool {
        self.ended
            .as_ref()
            .is_some_and(|ended| ended.borrow().is_none())
    }
}

#[async_trait]
impl Executor for SimExecutor {
    async fn describe(&self) -> Result<NodeDescription, Error> {
        Ok(NodeDescription {
            hostname: self.hostname.clone(),
            platform: Platform {
                architecture: "x86_64".to_owned(),
                os: "linux".to_owned(),
            },
            resources: Resources {
                nano_cpus: 4_000_000_000,
                memory_bytes: 8 << 30,
            },
            engine_version: "simulated".to_owned(),
            engine_labels: [].into(),
            network: Default::default(),
            tls: None,
        })
    }

    fn set_node(&self, _: Arc<Node>) {}

    fn controller(&self, task: Arc<Task>) -> Arc<dyn Controller> {
        Arc::new(SimController {
            machine: self.clone(),
            task: task.id,
        })
    }

    async fn retain(&self, known: &BTreeSet<TaskId>) -> Result<(), Error> {
        self.lock().retain(|task, _| known.contains(task));
        Ok(())
    }
}

struct SimController {
    machine: SimExecutor,
    task: TaskId,
}

impl SimController {
    fn stop(&self, code: i32) {
        self.machine.end(self.task, code);
    }
}

#[async_trait]
impl Controller for SimController {
    async fn update(&self, _: Arc<Task>) -> Result<(), Error> {
        Ok(())
    }

    async fn prepare(&self) -> Result<(), Error> {
        let mut containers = self.machine.lock();
        let number = containers.values().map(|it| it.number).max().unwrap_or(0) + 1;
        containers.entry(self.task).or_insert(Container {
            ended: None,
            number,
        });
        Ok(())
    }

    async fn start(&self) -> Result<(), Error> {
        let mut containers = self.machine.lock();
        let container = containers
            .get_mut(&self.task)
            .ok_or_else(|| Error::Fatal("the container is gone".to_owned()))?;
        container
            .ended
            .get_or_insert_with(|| watch::Sender::new(None));
        Ok(())
    }

    async fn wait(&self) -> Result<Exit, Error> {
        let gone = || Error::Fatal("the container is gone".to_owned());
        let mut ended = {
            let containers = self.machine.lock();
            let container = containers.get(&self.task).and_then(|it| it.ended.as_ref());
            container.ok_or_else(gone)?.subscribe()
        };
        let exit = ended
            .wait_for(Option::is_some)
            .await
            .map_err(|_| gone())?
            .clone();
        exit.ok_or_else(gone)
    }

    async fn shutdown(&self) -> Result<(), Error> {
        self.stop(143);
        Ok(())
    }

    async fn terminate(&self) -> Result<(), Error> {
        self.stop(137);
        Ok(())
    }

    async fn remove(&self) -> Result<(), Error> {
        self.machine.lock().remove(&self.task);
        Ok(())
    }

    fn status(&self) -> Option<ContainerStatus> {
        let containers = self.machine.lock();
        let container = containers.get(&self.task)?;
        let ended = container.ended.as_ref()?.borrow().clone();
        Some(ContainerStatus {
            container_id: self.task.to_string(),
            pid: if ended.is_none() { container.number } else { 0 },
            exit_code: ended.map(|exit| exit.code),
            oom_killed: false,
            ports: vec![],
        })
    }

    fn logs(&self, options: LogOptions) -> LogStream {
        let line = LogLine {
            timestamp: Timestamp::now(),
            stream: LogStreamName::Stdout,
            line: format!("hello from {}", self.machine.hostname).into(),
        };
        let first = futures::stream::iter(options.stdout.then(|| Ok(vec![line])));
        if options.follow {
            first.chain(futures::stream::pending()).boxed()
        } else {
            first.boxed()
        }
    }
}
