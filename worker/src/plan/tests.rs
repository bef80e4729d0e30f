//! What comes of specs and images.

use std::sync::Arc;

use types::{NodeId, ServiceId, TaskId, TaskSpec, TaskState, TaskStatus, Version};

use super::*;

/// Task 1 in slot 4 of the service `web` (2) on node 3.
pub(crate) fn task() -> Task {
    Task {
        id: TaskId::from_number(1),
        meta: types::Meta::default(),
        service_id: ServiceId::from_number(2),
        service_name: "web".to_owned(),
        slot: 4,
        node_id: Some(NodeId::from_number(3)),
        spec: Arc::new(TaskSpec::default()),
        spec_version: Version::default(),
        status: TaskStatus::default(),
        desired_state: TaskState::Running,
    }
}
