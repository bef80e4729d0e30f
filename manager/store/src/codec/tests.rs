//! Everything the log carries reads back as it was written, and nothing else is accepted.

use std::sync::Arc;

use proptest::prelude::*;
use types::id::RandomIds;
use types::node::{Availability, NodeState, NodeStatus};
use types::{
    Meta, Node, NodeId, NodeRole, NodeSpec, Service, ServiceId, ServiceSpec, Task, TaskId,
    TaskSpec, TaskState, TaskStatus, Timestamp, Version,
};

use super::*;

fn service() -> Service {
    Service {
        id: ServiceId::from_number(1),
        meta: Meta::default(),
        spec: ServiceSpec {
            name: "web".into(),
            ..ServiceSpec::default()
        },
        spec_version: Version::default(),
        previous_spec: None,
        update_status: None,
        endpoint: types::network::Endpoint::default(),
    }
}

fn task(number: u128) -> Task {
    Task {
        id: TaskId::from_number(number),
        meta: Meta::default(),
        service_id: ServiceId::from_number(1),
        service_name: "web".into(),
        slot: 1,
        node_id: None,
        spec: Arc::new(TaskSpec::default()),
        spec_version: Version { index: 1 },
        status: TaskStatus::default(),
        desired_state: TaskState::Running,
        attachments: vec![],
        host_ports: vec![],
    }
}

fn node() -> Node {
    Node {
        id: NodeId::from_number(9),
        meta: Meta::default(),
        spec: NodeSpec {
            availability: Availability::Pause,
            ..NodeSpec::default()
        },
        role: NodeRole::Manager,
        description: None,
        status: NodeStatus {
            state: NodeState::Ready,
            ..NodeStatus::default()
        },
        manager_status: None,
        network_index: 0,
        certificate: types::node::NodeCertificate::default(),
    }
}

#[test]
fn every_action_round_trips() {
    let status = TaskStatus {
        state: TaskState::Running,
        ..TaskStatus::default()
    };
    let transaction = Transaction {
        now: Timestamp(77),
        actions: vec![
            Action::Create(service().into()),
            Action::Create(node().into()),
            Action::Update(task(3).into()),
            Action::Remove {
                id: ObjectId::Task(TaskId::from_number(3)),
                version: None,
            },
            Action::Remove {
                id: ObjectId::Service(ServiceId::from_number(1)),
                version: Some(Version { index: 4 }),
            },
            Action::TaskStatus {
                task: TaskId::from_number(3),
                status: status.clone(),
            },
            Action::TaskConnect {
                task: TaskId::from_number(3),
                place: types::network::NetworkAttachment {
                    network: types::NetworkId::from_number(5),
                    addresses: vec!["10.0.9.5/24".parse().unwrap()],
                    aliases: vec!["db".to_owned()],
                },
            },
            Action::TaskDisconnect {
                task: TaskId::from_number(3),
                network: types::NetworkId::from_number(5),
            },
            Action::TaskDesired {
                task: TaskId::from_number(3),
                desired: TaskState::Remove,
            },
            Action::TaskAssign {
                task: TaskId::from_number(3),
                node: NodeId::generate(&mut RandomIds),
                status,
            },
            Action::NodeStatus {
                node: NodeId::from_number(9),
                status: NodeStatus::default(),
                description: Some(types::node::NodeDescription::default()),
            },
        ],
    };
    let bytes = encode_transaction(&transaction);
    assert_eq!(decode_transaction(&bytes).unwrap(), transaction);
}

#[test]
fn outcomes_round_trip() {
    let version = Version { index: 12 };
    assert_eq!(
        decode_outcome(&encode_outcome(version, &Ok(()))).unwrap(),
        Ok(version)
    );
    for reason in [
        RefusalReason::Malformed,
        RefusalReason::Exists,
        RefusalReason::NameTaken,
        RefusalReason::NotFound,
        RefusalReason::Stale,
    ] {
        let refusal = Refusal {
            action: 3,
            reason,
            object: "service web".into(),
        };
        let bytes = encode_outcome(version, &Err(refusal.clone()));
        assert_eq!(decode_outcome(&bytes).unwrap(), Err(refusal));
    }
}

#[test]
fn a_snapshot_restores_objects_indexes_and_shared_specs() {
    let mut state = State::default();
    let create = |object: Object| Action::Create(object);
    let actions = vec![
        create(service().into()),
        create(node().into()),
        create(task(1).into()),
        create(task(2).into()),
    ];
    state
        .apply(
            Version { index: 5 },
            &Transaction {
                now: Timestamp(1),
                actions,
            },
        )
        .unwrap();

    let restored = decode_snapshot(&encode_snapshot(&state)).unwrap();

    assert_eq!(restored.version(), state.version());
    assert!(restored.objects().eq(state.objects()));
    assert!(restored.service_by_name("WEB").is_some());
    let tasks: Vec<_> = restored
        .tasks_in_slot(ServiceId::from_number(1), 1)
        .collect();
    assert_eq!(tasks.len(), 2);
    assert!(
        Arc::ptr_eq(&tasks[0].spec, &tasks[1].spec),
        "tasks of one spec share it"
    );
}

#[test]
fn a_truncated_snapshot_is_refused() {
    let mut state = State::default();
    let actions = vec![Action::Create(service().into())];
    state
        .apply(
            Version { index: 5 },
            &Transaction {
                now: Timestamp(1),
                actions,
            },
        )
        .unwrap();
    let bytes = encode_snapshot(&state);
    assert!(decode_snapshot(&bytes[..bytes.len() - 3]).is_err());
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(decode_transaction(&bytes));
        drop(decode_outcome(&bytes));
        drop(decode_snapshot(&bytes));
    }
}
