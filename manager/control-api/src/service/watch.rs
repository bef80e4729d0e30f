//! Following a service while it moves: a view now and after each change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use store::{Change, Event, Object, State, Watch};
use tokio::time::Instant;
use types::{NodeId, Service, ServiceId, Task, TaskId, TaskState};

use super::{ServiceView, view};
use crate::{ControlApi, Error, key};

/// Shortest time between two views: a service of hundreds of tasks changes thousands of times
/// while it starts, and people read a few views a second.
const VIEW_INTERVAL_MIN: Duration = Duration::from_millis(50);

/// A service while it moves.
#[derive(Clone, Debug)]
pub struct ServiceProgress {
    /// The service; none once it is gone.
    pub service: Option<ServiceView>,
    /// Its live tasks, and the newest task of each slot without one, by slot.
    pub tasks: Vec<TaskProgress>,
}

/// What somebody who waits for a service has to know of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskProgress {
    /// The task.
    pub id: TaskId,
    /// Its slot; 0 in a global service.
    pub slot: u64,
    /// Its node, once it has one.
    pub node_id: Option<NodeId>,
    /// How far it has come.
    pub state: TaskState,
    /// What is wanted of it.
    pub desired_state: TaskState,
    /// The step.
    pub message: String,
    /// The reason when something went wrong.
    pub err: String,
    /// It runs what the service asks for now.
    pub current: bool,
}

/// Follows one service.
#[derive(Debug)]
pub struct ServiceWatch {
    id: ServiceId,
    store: store::Store,
    watch: Watch,
    next_at: Instant,
    changed: bool,
    gone: bool,
}

impl ControlApi {
    /// Follows the service called `key`.
    ///
    /// # Errors
    /// When nothing or several are called so.
    pub fn watch_service(&self, key: &str) -> Result<ServiceWatch, Error> {
        let watch = self.store.watch();
        let id = key::service(&self.state(), key)?.id;
        Ok(ServiceWatch {
            id,
            store: self.store.clone(),
            watch,
            next_at: Instant::now(),
            changed: true,
            gone: false,
        })
    }
}

impl ServiceWatch {
    /// The next view: the first at once, others after a change. None after the service is gone.
    ///
    /// Cancel-safe: a view that was not taken is made anew.
    pub async fn next(&mut self) -> Option<ServiceProgress> {
        if self.gone {
            return None;
        }
        while !self.changed {
            let event = self.watch.next().await;
            self.changed = self.concerns(&event);
        }
        tokio::time::sleep_until(self.next_at).await;
        while self.watch.try_next().is_some() {}
        self.next_at = Instant::now() + VIEW_INTERVAL_MIN;
        self.changed = false;
        let progress = progress(&self.store.state(), self.id);
        self.gone = progress.service.is_none();
        Some(progress)
    }

    fn concerns(&self, event: &Event) -> bool {
        match event {
            Event::Resync => true,
            Event::Commit(commit) => commit.changes.iter().any(|change| self.is_ours(change)),
        }
    }

    fn is_ours(&self, change: &Change) -> bool {
        match change.object() {
            Object::Service(service) => service.id == self.id,
            Object::Task(task) => task.service_id == self.id,
            // A node that comes or goes changes the count of what runs.
            Object::Node(node) => match &change.old {
                Some(Object::Node(old)) => old.status.state != node.status.state,
                Some(
                    Object::Service(_)
                    | Object::Task(_)
                    | Object::Cluster(_)
                    | Object::Secret(_)
                    | Object::Config(_)
                    | Object::Network(_),
                )
                | None => false,
            },
            Object::Cluster(_) | Object::Secret(_) | Object::Config(_) | Object::Network(_) => {
                false
            }
        }
    }
}

fn progress(state: &State, id: ServiceId) -> ServiceProgress {
    let Some(service) = state.service(id) else {
        return ServiceProgress {
            service: None,
            tasks: vec![],
        };
    };
    let tasks = shown_tasks(state, service);
    ServiceProgress {
        service: Some(view(state, service)),
        tasks: tasks
            .into_iter()
            .map(|task| task_progress(service, task))
            .collect(),
    }
}

/// Live tasks, and of a slot without any the newest, unless it is to be deleted.
fn shown_tasks<'a>(state: &'a State, service: &Service) -> Vec<&'a Arc<Task>> {
    // The slots of a global service are nodes.
    let place = |task: &Task| (task.slot, task.node_id.filter(|_| task.slot == 0));
    let mut live = vec![];
    let mut ended: BTreeMap<_, &Arc<Task>> = BTreeMap::new();
    for task in state.tasks_of_service(service.id) {
        if task.is_runnable() {
            live.push(task);
        } else if task.desired_state < TaskState::Remove {
            let newest = ended.entry(place(task)).or_insert(task);
            if task.meta.created_at >= newest.meta.created_at {
                *newest = task;
            }
        }
    }
    let filled: BTreeSet<_> = live.iter().map(|task| place(task)).collect();
    live.extend(
        ended
            .into_iter()
            .filter(|(at, _)| !filled.contains(at))
            .map(|(_, task)| task),
    );
    live.sort_by_key(|task| (place(task), task.meta.created_at));
    live
}

fn task_progress(service: &Service, task: &Task) -> TaskProgress {
    // Versions differ without a difference in what runs after a change of labels.
    let current = task.spec_version == service.spec_version
        || Arc::ptr_eq(&task.spec, &service.spec.task)
        || task.spec == service.spec.task;
    TaskProgress {
        id: task.id,
        slot: task.slot,
        node_id: task.node_id,
        state: task.status.state,
        desired_state: task.desired_state,
        message: task.status.message.clone(),
        err: task.status.err.clone(),
        current,
    }
}
