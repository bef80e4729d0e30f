//! The agent against scripted managers and a machine of simulated containers, in memory.

mod logs;
mod machine;
mod manager;
mod sessions;
mod tasks;

use std::sync::Arc;

use types::{ServiceId, Task, TaskId, TaskSpec, TaskState, TaskStatus, Version};

/// An assigned task that ought to run.
pub(crate) fn task(number: u128) -> Task {
    Task {
        id: TaskId::from_number(number),
        meta: types::Meta::default(),
        service_id: ServiceId::from_number(1),
        service_name: "web".to_owned(),
        slot: 1,
        node_id: None,
        spec: Arc::new(TaskSpec::default()),
        spec_version: Version::default(),
        status: TaskStatus {
            state: TaskState::Assigned,
            ..TaskStatus::default()
        },
        desired_state: TaskState::Running,
        attachments: vec![],
        host_ports: vec![],
    }
}

/// The same task with another desired state.
fn desired(number: u128, desired_state: TaskState) -> Task {
    Task {
        desired_state,
        ..task(number)
    }
}
