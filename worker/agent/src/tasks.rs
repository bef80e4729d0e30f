//! The node's tasks: which there are, what is wanted of each, and the drivers that see to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use executor::{Contents, Controller, Executor};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use types::{NodeId, ServiceId, Task, TaskId, TaskState, TaskStatus, Timestamp};

use crate::assignments::Changes;
use crate::driver::{Driver, Wanted};
use crate::files::{Files, Record};
use crate::outbox::Outbox;

/// Tasks being prepared, started or removed at the same time, per processor: enough to keep the
/// processors busy while some wait for the kernel. More of them only slow each other down (measured
/// with 100 containers on 2 processors: 2 took 0.7 s, 4 took 1.1 s, 8 took 1.5 s).
const BUSY_PER_CPU: usize = 2;

/// The tasks of a node. Clones share them.
#[derive(Clone)]
pub(crate) struct Tasks {
    pub(crate) shared: Arc<Shared>,
    tracker: TaskTracker,
    token: CancellationToken,
}

/// What drivers need besides their task.
pub(crate) struct Shared {
    pub(crate) executor: Arc<dyn Executor>,
    pub(crate) outbox: Outbox,
    pub(crate) files: Files,
    /// What tasks use of secrets and configs; in memory only.
    pub(crate) contents: Contents,
    pub(crate) busy: Arc<Semaphore>,
    entries: Mutex<BTreeMap<TaskId, Entry>>,
    /// Ticks when tasks were added.
    added: watch::Sender<()>,
}

struct Entry {
    wanted: watch::Sender<Wanted>,
    observed: watch::Receiver<TaskStatus>,
    controller: Arc<dyn Controller>,
}

/// A task as a reader of its output sees it.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) task: Arc<Task>,
    pub(crate) observed: watch::Receiver<TaskStatus>,
    pub(crate) controller: Arc<dyn Controller>,
}

/// Whose output is wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selector {
    pub(crate) services: BTreeSet<ServiceId>,
    pub(crate) tasks: BTreeSet<TaskId>,
    pub(crate) nodes: BTreeSet<NodeId>,
}

impl Shared {
    fn entries(&self) -> std::sync::MutexGuard<'_, BTreeMap<TaskId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A driver is done with its task for good.
    pub(crate) fn forget(&self, task: TaskId) {
        self.entries().remove(&task);
        self.outbox.forget(task);
    }
}

impl Tasks {
    /// Drives the recorded tasks on from where they were.
    pub(crate) fn resume(
        executor: Arc<dyn Executor>,
        files: Files,
        records: BTreeMap<TaskId, Record>,
    ) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let contents = Contents::new();
        executor.set_contents(contents.clone());
        let shared = Shared {
            executor,
            contents,
            outbox: Outbox::default(),
            files,
            busy: Arc::new(Semaphore::new(BUSY_PER_CPU * cpus)),
            entries: Mutex::default(),
            added: watch::Sender::new(()),
        };
        let tasks = Self {
            shared: Arc::new(shared),
            tracker: TaskTracker::new(),
            token: CancellationToken::new(),
        };
        for record in records.into_values() {
            tasks.drive(record);
        }
        tasks
    }

    /// Takes over what the managers want now.
    pub(crate) async fn apply(&self, changes: Changes) {
        // Before the tasks that use it.
        changes
            .contents
            .apply(changes.is_complete, &self.shared.contents);
        for (task, error) in changes.unreadable {
            tracing::error!(%task, %error, "rejected a task that this release does not understand");
            self.shared.outbox.put(task, unreadable(&error));
        }
        if changes.is_complete {
            let told: BTreeSet<TaskId> = changes.updates.iter().map(|task| task.id).collect();
            for (task, entry) in &*self.shared.entries() {
                if !told.contains(task) {
                    withdraw(entry);
                }
            }
        }
        for task in &changes.removals {
            match self.shared.entries().get(task) {
                Some(entry) => withdraw(entry),
                None => self.shared.outbox.forget(*task),
            }
        }
        let mut new = vec![];
        for task in changes.updates {
            if let Some(task) = self.update(task, changes.is_complete) {
                new.push(Record {
                    task,
                    is_withdrawn: false,
                });
            }
        }
        if new.is_empty() {
            return;
        }
        // Recorded before anything is made for them: what a restart finds unrecorded is removed.
        self.shared.files.save_all(new.clone()).await;
        for record in new {
            self.drive(record);
        }
        self.shared.added.send_replace(());
    }

    /// Tells a known task's driver, or gives the task back when there is none.
    fn update(&self, task: Task, is_complete: bool) -> Option<Task> {
        let entries = self.shared.entries();
        let Some(entry) = entries.get(&task.id) else {
            return Some(task);
        };
        // A complete set shows what the managers have stored; anything else was lost on the way.
        if is_complete {
            let observed = entry.observed.borrow();
            if !is_same_report(&observed, &task.status) {
                self.shared.outbox.put(task.id, observed.clone());
            }
        }
        entry.wanted.send_if_modified(|wanted| wanted.merge(task));
        None
    }

    fn drive(&self, record: Record) {
        let id = record.task.id;
        let task = Arc::new(record.task);
        let controller = self.shared.executor.controller(task.clone());
        let (observed, observe) = watch::channel(task.status.clone());
        let (wanted, want) = watch::channel(Wanted {
            task: task.clone(),
            is_withdrawn: record.is_withdrawn,
        });
        let entry = Entry {
            wanted,
            observed: observe,
            controller: controller.clone(),
        };
        self.shared.entries().insert(id, entry);
        let driver = Driver::new(self.shared.clone(), controller, want, observed);
        let token = self.token.clone();
        self.tracker.spawn(async move {
            token.run_until_cancelled(driver.run()).await;
        });
    }

    /// Tasks whose output is asked for, by id.
    pub(crate) fn sources(&self, selector: &Selector, own: NodeId) -> Vec<Source> {
        let mut sources = vec![];
        for (id, entry) in &*self.shared.entries() {
            let task = entry.wanted.borrow().task.clone();
            if selector.tasks.contains(id)
                || selector.services.contains(&task.service_id)
                || selector.nodes.contains(&own)
            {
                let (observed, controller) = (entry.observed.clone(), entry.controller.clone());
                sources.push(Source {
                    task,
                    observed,
                    controller,
                });
            }
        }
        sources
    }

    /// Ticks when tasks were added from now on.
    pub(crate) fn added(&self) -> watch::Receiver<()> {
        self.shared.added.subscribe()
    }

    /// Stops driving; containers run on.
    pub(crate) async fn stop(&self) {
        self.token.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

fn withdraw(entry: &Entry) {
    entry
        .wanted
        .send_if_modified(|wanted| !std::mem::replace(&mut wanted.is_withdrawn, true));
}

fn unreadable(error: &proto::ConvertError) -> TaskStatus {
    TaskStatus {
        state: TaskState::Rejected,
        timestamp: Timestamp::now(),
        message: "accepted".to_owned(),
        err: format!("the node does not understand the task: {error}"),
        ..TaskStatus::default()
    }
}

/// Whether a stored status is the observed one. The manager's own time stamp does not count.
fn is_same_report(observed: &TaskStatus, stored: &TaskStatus) -> bool {
    // What no agent has touched yet is the managers' to tell.
    observed.state <= TaskState::Assigned
        || TaskStatus {
            applied_at: stored.applied_at,
            ..observed.clone()
        } == *stored
}
