//! A machine of simulated containers; it outlives the agents that run on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use executor::{Controller, Error, Executor, Exit, LogLine, LogOptions, LogStream, LogStreamName};
use futures::StreamExt;
use tokio::sync::watch;
use types::node::NodeDescription;
use types::task::ContainerStatus;
use types::{Node, Task, TaskId, Timestamp};

#[derive(Default)]
pub(super) struct Machine {
    containers: Mutex<BTreeMap<TaskId, Arc<Container>>>,
    /// Requests in the order they came, as `start 3`.
    asked: Mutex<Vec<String>>,
    /// What the next requests of a kind answer with instead of doing their work.
    troubles: Mutex<Vec<(&'static str, Error)>>,
    /// While set, `prepare` does not come to an end.
    hangs: Mutex<bool>,
    pub(super) description: Mutex<NodeDescription>,
}

struct Container {
    exit: watch::Sender<Option<i32>>,
}

impl Machine {
    /// Ends a container as if its program had exited.
    pub(super) fn exit(&self, task: u128, code: i32) {
        let containers = self.containers.lock().unwrap();
        containers[&TaskId::from_number(task)]
            .exit
            .send_replace(Some(code));
    }

    pub(super) fn fail_next(&self, request: &'static str, error: Error) {
        self.troubles.lock().unwrap().push((request, error));
    }

    pub(super) fn hang_in_prepare(&self, hangs: bool) {
        *self.hangs.lock().unwrap() = hangs;
    }

    /// What was asked since the last call.
    pub(super) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    pub(super) fn has_container(&self, task: u128) -> bool {
        self.containers
            .lock()
            .unwrap()
            .contains_key(&TaskId::from_number(task))
    }

    fn note(&self, request: &'static str, task: TaskId) -> Result<(), Error> {
        let number = (0..100)
            .find(|n| TaskId::from_number(*n) == task)
            .expect("a test's task");
        self.asked
            .lock()
            .unwrap()
            .push(format!("{request} {number}"));
        let mut troubles = self.troubles.lock().unwrap();
        match troubles.iter().position(|(name, _)| *name == request) {
            Some(index) => Err(troubles.remove(index).1),
            None => Ok(()),
        }
    }
}

/// An executor on the machine, as a new process would have it.
pub(super) struct Sim(pub(super) Arc<Machine>);

#[async_trait]
impl Executor for Sim {
    async fn describe(&self) -> Result<NodeDescription, Error> {
        Ok(self.0.description.lock().unwrap().clone())
    }
    fn set_node(&self, _: Arc<Node>) {}
    fn controller(&self, task: Arc<Task>) -> Arc<dyn Controller> {
        Arc::new(SimController {
            machine: self.0.clone(),
            id: task.id,
        })
    }
    async fn retain(&self, known: &BTreeSet<TaskId>) -> Result<(), Error> {
        self.0
            .containers
            .lock()
            .unwrap()
            .retain(|id, _| known.contains(id));
        Ok(())
    }
}

struct SimController {
    machine: Arc<Machine>,
    id: TaskId,
}

impl SimController {
    fn container(&self) -> Option<Arc<Container>> {
        self.machine
            .containers
            .lock()
            .unwrap()
            .get(&self.id)
            .cloned()
    }
}

#[async_trait]
impl Controller for SimController {
    async fn update(&self, _: Arc<Task>) -> Result<(), Error> {
        Ok(())
    }
    async fn prepare(&self) -> Result<(), Error> {
        self.machine.note("prepare", self.id)?;
        while *self.machine.hangs.lock().unwrap() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let container = Arc::new(Container {
            exit: watch::Sender::new(None),
        });
        self.machine
            .containers
            .lock()
            .unwrap()
            .entry(self.id)
            .or_insert(container);
        Ok(())
    }
    async fn start(&self) -> Result<(), Error> {
        self.machine.note("start", self.id)
    }
    async fn wait(&self) -> Result<Exit, Error> {
        self.machine.note("wait", self.id)?;
        let gone = || Error::Fatal("the container is gone".to_owned());
        let mut exit = self.container().ok_or_else(gone)?.exit.subscribe();
        let code = exit
            .wait_for(Option::is_some)
            .await
            .map_err(|_| gone())?
            .unwrap();
        Ok(Exit {
            code,
            reason: String::new(),
        })
    }
    async fn shutdown(&self) -> Result<(), Error> {
        self.machine.note("shutdown", self.id)?;
        if let Some(container) = self.container() {
            container.exit.send_replace(Some(143));
        }
        Ok(())
    }
    async fn terminate(&self) -> Result<(), Error> {
        self.machine.note("terminate", self.id)
    }
    async fn remove(&self) -> Result<(), Error> {
        self.machine.note("remove", self.id)?;
        self.machine.containers.lock().unwrap().remove(&self.id);
        Ok(())
    }
    fn status(&self) -> Option<ContainerStatus> {
        let container = self.container()?;
        let exit_code = *container.exit.borrow();
        Some(ContainerStatus {
            pid: 1,
            exit_code,
            ..ContainerStatus::default()
        })
    }
    /// Ten lines of 1000 bytes, then the end of the container when following.
    fn logs(&self, options: LogOptions) -> LogStream {
        let Some(container) = self.container() else {
            return Box::pin(futures::stream::empty());
        };
        let line = LogLine {
            timestamp: Timestamp(1),
            stream: LogStreamName::Stdout,
            line: "x".repeat(1000).into(),
        };
        let lines = vec![line; options.tail.map_or(10, |tail| tail.min(10) as usize)];
        let end = futures::stream::once(async move {
            if options.follow {
                drop(container.exit.subscribe().wait_for(Option::is_some).await);
            }
            Ok(vec![])
        });
        Box::pin(futures::stream::iter([Ok(lines)]).chain(end))
    }
}
