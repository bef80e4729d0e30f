//! A cluster of stored nodes with a group of managers that a test sets as it likes.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use ca::RootCa;
use futures::StreamExt as _;
use store::testing::LocalProposer;
use store::{Action, Object, Propose as _, Store};
use types::node::{Availability, ManagerStatus, NodeDescription, NodeState, NodeStatus};
use types::{
    Cluster, ClusterId, ClusterSpec, Labels, Meta, Node, NodeId, NodeRole, NodeSpec, Service,
    ServiceSpec, Task, TaskId, TaskState, TaskStatus, Timestamp, cluster::RootCaState,
};

use crate::{
    ClusterStatus, ControlApi, Error, LogBatch, LogOptions, LogSelector, LogSource, LogStream,
    Manager,
};

/// Sets the group's condition.
#[derive(Debug, Default)]
pub(crate) struct Group {
    unreachable: Mutex<BTreeSet<u64>>,
    members: Mutex<Vec<u64>>,
}

impl Group {
    pub(crate) fn cut_off(&self, raft_id: u64) {
        self.unreachable.lock().unwrap().insert(raft_id);
    }

    pub(crate) fn leave(&self, raft_id: u64) {
        self.members.lock().unwrap().retain(|id| *id != raft_id);
    }
}

impl ClusterStatus for Group {
    fn self_id(&self) -> NodeId {
        NodeId::from_number(1)
    }
    fn leader(&self) -> Option<u64> {
        Some(1)
    }
    fn reachable(&self, raft_id: u64) -> bool {
        !self.unreachable.lock().unwrap().contains(&raft_id)
    }
    fn managers(&self) -> Vec<Manager> {
        let members = self.members.lock().unwrap();
        members
            .iter()
            .rev()
            .map(|raft_id| Manager {
                raft_id: *raft_id,
                addr: format!("10.0.0.{raft_id}:2377"),
            })
            .collect()
    }
}

/// Answers with one batch that says what it was asked.
struct Echo;

#[async_trait]
impl LogSource for Echo {
    async fn subscribe(
        &self,
        selector: LogSelector,
        options: LogOptions,
    ) -> Result<LogStream, Error> {
        let incomplete = vec![format!(
            "{} services, {} tasks, tail {:?}",
            selector.services.len(),
            selector.tasks.len(),
            options.tail
        )];
        let batch = LogBatch {
            lines: vec![],
            incomplete,
        };
        Ok(futures::stream::iter([Ok(batch)]).boxed())
    }
}

/// An API over a store that applies at once.
pub(crate) struct Fixture {
    pub(crate) api: ControlApi,
    pub(crate) group: Arc<Group>,
    pub(crate) store: Store,
    proposer: Arc<LocalProposer>,
}

impl Fixture {
    /// Nodes 1 to `managers` are managers with the Raft ids 1 to `managers`, further ones workers.
    pub(crate) async fn new(managers: u64, workers: u64) -> Self {
        let store = Store::new();
        let proposer = Arc::new(LocalProposer::new(store.clone()));
        let group = Arc::new(Group::default());
        group.members.lock().unwrap().extend(1..=managers);
        let api = ControlApi::new(
            store.clone(),
            proposer.clone(),
            group.clone(),
            Arc::new(Echo),
        );
        let fixture = Self {
            api,
            group,
            store,
            proposer,
        };
        fixture.put(cluster()).await;
        for number in 1..=managers + workers {
            fixture.put(node(number, managers)).await;
        }
        fixture
    }

    pub(crate) async fn put(&self, object: impl Into<Object>) {
        self.act(Action::Create(object.into())).await;
    }

    pub(crate) async fn act(&self, action: Action) {
        self.proposer.propose(vec![action]).await.unwrap();
    }

    pub(crate) async fn service(&self, name: &str) -> Arc<Service> {
        self.api.create_service(spec(name)).await.unwrap().service
    }

    /// A task of the service, as an orchestrator would make it and a node report it.
    pub(crate) async fn task(
        &self,
        number: u128,
        service: &Service,
        slot: u64,
        node: u64,
        state: TaskState,
    ) -> TaskId {
        let id = TaskId::from_number(number);
        self.put(Task {
            id,
            meta: Meta::default(),
            service_id: service.id,
            service_name: service.spec.name.clone(),
            slot,
            node_id: Some(NodeId::from_number(node.into())),
            spec: service.spec.task.clone(),
            spec_version: service.spec_version,
            status: TaskStatus {
                state,
                ..TaskStatus::default()
            },
            desired_state: TaskState::Running,
            attachments: vec![],
            host_ports: vec![],
        })
        .await;
        id
    }

    pub(crate) async fn node_state(&self, number: u64, state: NodeState) {
        let node = NodeId::from_number(number.into());
        let status = NodeStatus {
            state,
            ..NodeStatus::default()
        };
        self.act(Action::NodeStatus {
            node,
            status,
            description: None,
        })
        .await;
    }
}

pub(crate) fn spec(name: &str) -> ServiceSpec {
    let mut spec = ServiceSpec {
        name: name.to_owned(),
        ..ServiceSpec::default()
    };
    Arc::make_mut(&mut spec.task).container.image = "web:1".to_owned();
    spec
}

pub(crate) fn cluster() -> Cluster {
    let id = ClusterId::from_number(1);
    let root = RootCa::generate(Timestamp::now()).unwrap();
    let token = || {
        ca::JoinToken::generate(root.bundle())
            .unwrap()
            .reveal()
            .to_string()
    };
    Cluster {
        id,
        meta: Meta::default(),
        spec: ClusterSpec::default(),
        root_ca: RootCaState {
            cert_pem: String::from_utf8(root.bundle().pem().to_vec()).unwrap(),
            key_pem: root.key_pem().to_string(),
            worker_token: token(),
            manager_token: token(),
            ..RootCaState::default()
        },
        lock: types::cluster::ClusterLock::default(),
        revoked: std::collections::BTreeMap::new(),
        gossip_keys: vec![],
        content_key: types::Payload::default(),
        gossip_keys_at: types::Timestamp::default(),
        access: types::access::Access::default(),
    }
}

fn node(number: u64, managers: u64) -> Node {
    let manager = number <= managers;
    let role = if manager {
        NodeRole::Manager
    } else {
        NodeRole::Worker
    };
    Node {
        id: NodeId::from_number(number.into()),
        meta: Meta::default(),
        spec: NodeSpec {
            labels: Labels::new(),
            role,
            availability: Availability::Active,
        },
        role,
        description: Some(NodeDescription {
            hostname: format!("n{number}"),
            ..NodeDescription::default()
        }),
        status: NodeStatus {
            state: NodeState::Ready,
            ..NodeStatus::default()
        },
        network_index: 0,
        manager_status: manager.then(|| ManagerStatus {
            raft_id: number,
            addr: format!("10.0.0.{number}:2377"),
        }),
        certificate: types::node::NodeCertificate::default(),
    }
}
