//! Which secrets and configs a node has to hold, and what to send when that changes (S8.09).

use std::collections::BTreeSet;

use proto::dispatcher::{self as wire, assignment_change::Change};
use seal::{SealKey, StoreKey};
use store::State;
use types::secret::{ContentId, ContentKey};
use types::{NodeId, Secret, Task, TaskId, TaskState};

use crate::driver::Request;
use crate::fetch::{Fetch, Fetches};

/// What one session's agent was sent.
#[derive(Debug)]
pub(crate) struct Contents {
    node: NodeId,
    /// What secrets are sealed with; an agent that gave none gets none.
    seal_key: Option<SealKey>,
    sent: BTreeSet<ContentKey>,
    /// Tasks of the node that use any.
    users: BTreeSet<TaskId>,
    fetches: Fetches,
}

/// What to send before tasks, and what after.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    pub(crate) updates: Vec<wire::AssignmentChange>,
    pub(crate) removals: Vec<wire::AssignmentChange>,
}

impl Contents {
    pub(crate) fn new(node: NodeId, seal_key: Option<SealKey>, fetches: Fetches) -> Self {
        Self {
            node,
            seal_key,
            sent: BTreeSet::new(),
            users: BTreeSet::new(),
            fetches,
        }
    }

    /// Everything the node has to hold.
    pub(crate) fn complete(&mut self, state: &State) -> Difference {
        self.sent.clear();
        self.fetches.retain(&BTreeSet::new());
        self.difference(state)
    }

    /// What changes with these tasks.
    pub(crate) fn incremental(&mut self, state: &State, dirty: &BTreeSet<TaskId>) -> Difference {
        let concerns = |id: &TaskId| {
            let now = state.task(*id);
            self.users.contains(id) || now.is_some_and(|task| uses_any(task))
        };
        if !dirty.iter().any(concerns) {
            return Difference::default();
        }
        self.difference(state)
    }

    fn difference(&mut self, state: &State) -> Difference {
        let mut wanted = BTreeSet::new();
        self.users.clear();
        let tasks = state.tasks_on_node(self.node);
        for task in tasks.filter(|task| holds(task)) {
            for used in task.spec.container.contents() {
                self.users.insert(task.id);
                let key = key_for(state, task, used.key());
                // What a driver gives is for the start of one task only.
                if key.task.is_none() || task.status.state < TaskState::Running {
                    wanted.insert(key);
                }
            }
        }
        self.fetches.retain(&wanted);
        let mut difference = Difference::default();
        for key in self.sent.difference(&wanted) {
            difference.removals.push(removal(key));
        }
        self.sent.retain(|key| wanted.contains(key));
        let store_key = state.cluster().and_then(|cluster| {
            let bytes = cluster.content_key.bytes();
            StoreKey::try_from(bytes).ok()
        });
        for key in wanted {
            let update = match key.task {
                Some(task) => self.fetched(state, key, task),
                None if self.sent.contains(&key) => None,
                None => self.update(state, store_key.as_ref(), key),
            };
            if let Some(update) = update {
                self.sent.insert(key);
                difference.updates.push(update);
            }
        }
        difference
    }

    /// What came from a secret's driver for one task since it was last looked; the driver is asked
    /// when it was not yet.
    fn fetched(
        &mut self,
        state: &State,
        key: ContentKey,
        task: TaskId,
    ) -> Option<wire::AssignmentChange> {
        let ContentId::Secret(id) = key.id else {
            return None;
        };
        let (secret, task) = (state.secret(id)?, state.task(task)?);
        let seal_key = self.seal_key?;
        let service = state.service(task.service_id).map(|service| &**service);
        self.fetches.begin(key, || Fetch {
            key,
            task: task.id,
            driver: secret
                .spec
                .driver
                .as_ref()
                .map(|it| it.name.clone())
                .unwrap_or_default(),
            request: Request::new(secret, service, task),
            seal_key,
        });
        let mut content = wire::SecretContent {
            key: Some(to_wire(&key)),
            spec: Some((&secret.spec).into()),
            ..wire::SecretContent::default()
        };
        match self.fetches.take(&key)? {
            Ok(sealed) => content.data = sealed,
            Err(problem) => content.problem = problem,
        }
        Some(wire::AssignmentChange {
            change: Some(Change::UpdateSecret(content)),
        })
    }

    fn update(
        &mut self,
        state: &State,
        store_key: Option<&StoreKey>,
        key: ContentKey,
    ) -> Option<wire::AssignmentChange> {
        let change = match key.id {
            ContentId::Secret(id) => {
                Change::UpdateSecret(self.secret(state.secret(id)?, store_key, key)?)
            }
            ContentId::Config(id) => {
                let config = state.config(id)?;
                Change::UpdateConfig(wire::ConfigContent {
                    key: Some(to_wire(&key)),
                    spec: Some((&config.spec).into()),
                    data: config.version(key.version)?.data.bytes().to_vec(),
                })
            }
        };
        Some(wire::AssignmentChange {
            change: Some(change),
        })
    }

    /// The secret in an envelope for the agent. In between, its plaintext is in one buffer only.
    fn secret(
        &self,
        secret: &Secret,
        store_key: Option<&StoreKey>,
        key: ContentKey,
    ) -> Option<wire::SecretContent> {
        let seal_key = self.seal_key?;
        let mut content = wire::SecretContent {
            key: Some(to_wire(&key)),
            spec: Some((&secret.spec).into()),
            ..wire::SecretContent::default()
        };
        let kept = secret.version(key.version);
        let sealed = match (kept, store_key) {
            (Some(version), Some(store_key)) => store_key
                .open(&key.context(), version.data.bytes())
                .and_then(|plain| seal_key.seal(&key.context(), plain))
                .map_err(|error| error.to_string()),
            (None, _) => Err("the managers do not keep this version".to_owned()),
            (Some(_), None) => Err("the managers have lost the key of secrets".to_owned()),
        };
        match sealed {
            Ok(sealed) => content.data = sealed,
            Err(problem) => content.problem = problem,
        }
        Some(content)
    }
}

/// What a driver gives may be for one task only, so it is always asked for each.
fn key_for(state: &State, task: &Task, key: ContentKey) -> ContentKey {
    let ContentId::Secret(id) = key.id else {
        return key;
    };
    let has_driver = state.secret(id).is_some_and(|it| it.spec.driver.is_some());
    ContentKey {
        task: has_driver.then_some(task.id),
        ..key
    }
}

/// Whether a commit that made `new` of `old` may change what their node holds: content goes with
/// the end of the last task that uses it.
pub(crate) fn is_of_interest(old: &Task, new: &Task) -> bool {
    uses_any(new) && holds(old) != holds(new)
}

/// Whether a task keeps content on its node.
fn holds(task: &Task) -> bool {
    task.status.state >= TaskState::Assigned && !task.status.state.is_terminal()
}

fn uses_any(task: &Task) -> bool {
    let container = &task.spec.container;
    !container.secrets.is_empty() || !container.configs.is_empty()
}

fn removal(key: &ContentKey) -> wire::AssignmentChange {
    let change = match key.id {
        ContentId::Secret(_) => Change::RemoveSecret(to_wire(key)),
        ContentId::Config(_) => Change::RemoveConfig(to_wire(key)),
    };
    wire::AssignmentChange {
        change: Some(change),
    }
}

fn to_wire(key: &ContentKey) -> wire::ContentKey {
    wire::ContentKey {
        id: match key.id {
            ContentId::Secret(id) => id.to_string(),
            ContentId::Config(id) => id.to_string(),
        },
        version: key.version,
        task_id: key.task.map(|task| task.to_string()).unwrap_or_default(),
    }
}
