//! Nodes and tasks for tests.

use std::sync::Arc;

use types::node::{NodeDescription, NodeState, NodeStatus};
use types::task::{Platform, Resources};
use types::{
    Meta, Node, NodeId, NodeRole, NodeSpec, ServiceId, Task, TaskId, TaskSpec, TaskState,
    TaskStatus, Timestamp, Version,
};

/// A ready node with four processors and four gibibytes.
pub(crate) fn node(number: u128) -> Node {
    Node {
        id: NodeId::from_number(number),
        meta: Meta::default(),
        spec: NodeSpec::default(),
        role: NodeRole::Worker,
        description: Some(NodeDescription {
            hostname: format!("n{number}"),
            platform: Platform {
                architecture: "x86_64".into(),
                os: "linux".into(),
            },
            resources: Resources {
                nano_cpus: 4_000_000_000,
                memory_bytes: 4 << 30,
            },
            ..NodeDescription::default()
        }),
        status: NodeStatus {
            state: NodeState::Ready,
            ..NodeStatus::default()
        },
        manager_status: None,
        network_index: 0,
        certificate: types::node::NodeCertificate::default(),
    }
}

pub(crate) fn labelled(number: u128, labels: &[(&str, &str)]) -> Node {
    let mut node = node(number);
    let pairs = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    node.spec.labels = pairs.collect();
    node
}

/// A pending task without a node.
pub(crate) fn task(number: u128, service: u128, spec: &Arc<TaskSpec>) -> Task {
    Task {
        id: TaskId::from_number(number),
        meta: Meta::default(),
        service_id: ServiceId::from_number(service),
        service_name: format!("s{service}"),
        slot: u64::try_from(number).unwrap(),
        node_id: None,
        spec: spec.clone(),
        spec_version: Version { index: 1 },
        status: TaskStatus {
            state: TaskState::Pending,
            ..TaskStatus::default()
        },
        desired_state: TaskState::Running,
        attachments: vec![],
        host_ports: vec![],
    }
}

/// A task that came to `state` on a node.
pub(crate) fn placed(
    number: u128,
    service: u128,
    spec: &Arc<TaskSpec>,
    on: u128,
    state: TaskState,
) -> Task {
    Task {
        node_id: Some(NodeId::from_number(on)),
        status: TaskStatus {
            state,
            applied_at: Timestamp::from_secs(1000),
            ..TaskStatus::default()
        },
        ..task(number, service, spec)
    }
}
