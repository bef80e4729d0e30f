//! The plan for one service while it is being made.

use std::sync::Arc;

use store::Action;
use types::id::IdSource;
use types::{
    Meta, NodeId, Service, Task, TaskId, TaskSpec, TaskState, TaskStatus, Timestamp, Version,
};

/// Actions so far, and when to look at the service again.
pub(crate) struct Draft<'a> {
    ids: &'a mut dyn IdSource,
    /// Each group applies whole or not at all.
    pub(crate) groups: Vec<Vec<Action>>,
    /// The service with a new update status or spec.
    pub(crate) service: Option<Service>,
    /// When to look again though nothing happens.
    pub(crate) wakes: Vec<Wake>,
}

/// A time at which a slot, or the whole service, has to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wake {
    pub(crate) slot: Option<SlotKey>,
    pub(crate) at: Timestamp,
}

/// What a new task is made from.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    spec: Arc<TaskSpec>,
    spec_version: Version,
}

impl Pattern {
    /// What the service asks now.
    pub(crate) fn of_service(service: &Service) -> Self {
        Self {
            spec: service.spec.task.clone(),
            spec_version: service.spec_version,
        }
    }

    /// The same again.
    pub(crate) fn of_task(task: &Task) -> Self {
        Self {
            spec: task.spec.clone(),
            spec_version: task.spec_version,
        }
    }
}

/// The position a task fills: a number in a replicated service, a node in a global one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SlotKey {
    Number(u64),
    Node(NodeId),
}

impl SlotKey {
    /// The greatest there is.
    pub(crate) const MAX: Self = Self::Node(NodeId::MAX);

    /// The slot a task is in.
    pub(crate) fn of(task: &Task) -> Self {
        match (task.slot, task.node_id) {
            (0, Some(node)) => Self::Node(node),
            (number, _) => Self::Number(number),
        }
    }
}

impl<'a> Draft<'a> {
    pub(crate) fn new(ids: &'a mut dyn IdSource) -> Self {
        Self {
            ids,
            groups: vec![],
            service: None,
            wakes: vec![],
        }
    }

    /// Adds actions that belong together.
    pub(crate) fn add(&mut self, group: Vec<Action>) {
        if !group.is_empty() {
            self.groups.push(group);
        }
    }

    /// Looks at the whole service again at `at`.
    pub(crate) fn wake(&mut self, at: Timestamp) {
        self.wakes.push(Wake { slot: None, at });
    }

    /// Looks at one slot again at `at`.
    pub(crate) fn wake_slot(&mut self, key: SlotKey, at: Timestamp) {
        self.wakes.push(Wake {
            slot: Some(key),
            at,
        });
    }

    /// The action that makes a task.
    pub(crate) fn create(
        &mut self,
        service: &Service,
        key: SlotKey,
        pattern: Pattern,
        desired_state: TaskState,
        now: Timestamp,
    ) -> Action {
        let (slot, node_id) = match key {
            SlotKey::Number(number) => (number, None),
            SlotKey::Node(node) => (0, Some(node)),
        };
        let task = Task {
            id: TaskId::generate(self.ids),
            meta: Meta::default(),
            service_id: service.id,
            service_name: service.spec.name.clone(),
            slot,
            node_id,
            spec: pattern.spec,
            spec_version: pattern.spec_version,
            status: TaskStatus {
                state: TaskState::New,
                timestamp: now,
                message: "created".to_owned(),
                applied_at: now,
                ..TaskStatus::default()
            },
            desired_state,
            attachments: vec![],
            host_ports: vec![],
        };
        Action::Create(task.into())
    }
}

/// The action that asks for a later desired state.
pub(crate) fn desire(task: &Task, desired: TaskState) -> Action {
    Action::TaskDesired {
        task: task.id,
        desired,
    }
}
