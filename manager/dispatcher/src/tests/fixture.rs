//! A dispatcher on a store without Raft, and agents that say what a test tells them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ca::PeerIdentity;
use ca::authorize::{Origin, Peer};
use hyper_util::rt::TokioIo;
use proto::dispatcher::dispatcher_client::DispatcherClient;
use proto::dispatcher::{self as wire, agent_message, manager_message};
use store::testing::LocalProposer;
use store::{Action, Object, Propose, ProposeError, Store};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Status, Streaming};
use types::cluster::{ClusterSpec, RootCaState};
use types::node::{NodeState, NodeStatus};
use types::{
    Cluster, ClusterId, Meta, Node, NodeId, NodeRole, NodeSpec, ServiceId, Task, TaskId, TaskSpec,
    TaskState, TaskStatus, Timestamp, Version,
};

use crate::{Dispatcher, Options};

/// Longer than anything a test waits for.
pub(super) const LONG: Duration = Duration::from_secs(120);

pub(super) struct Fixture {
    pub(super) store: Store,
    pub(super) proposer: Arc<LocalProposer>,
    pub(super) dispatcher: Dispatcher,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
}

impl Fixture {
    /// A dispatcher that does not lead, over a cluster with these nodes.
    pub(super) async fn new(nodes: &[(u128, NodeState)]) -> Self {
        let store = Store::new();
        let proposer = Arc::new(LocalProposer::new(store.clone()));
        let mut actions = vec![Action::Create(Object::from(cluster()))];
        for (number, state) in nodes {
            actions.push(Action::Create(Object::from(node(*number, *state))));
        }
        proposer.propose(actions).await.unwrap();
        let dispatcher = Dispatcher::new(Options {
            store: store.clone(),
            proposer: proposer.clone(),
            leader_addr: Arc::new(|| Some("10.0.0.9:2377".to_owned())),
            secret_drivers: Arc::default(),
        });
        Self {
            store,
            proposer,
            dispatcher,
            shutdown: CancellationToken::new(),
            tasks: JoinSet::new(),
        }
    }

    /// The same, leading.
    pub(super) async fn leading(nodes: &[(u128, NodeState)]) -> Self {
        let mut fixture = Self::new(nodes).await;
        fixture.lead();
        fixture.until(|f| f.dispatcher.term().is_some()).await;
        fixture
    }

    pub(super) fn lead(&mut self) {
        let (dispatcher, shutdown) = (self.dispatcher.clone(), self.shutdown.clone());
        self.tasks
            .spawn(async move { dispatcher.run(shutdown).await });
    }

    pub(super) fn stop_leading(&self) {
        self.shutdown.cancel();
    }

    /// A connection as the node with this number.
    pub(super) fn connect(&mut self, number: u128) -> Channel {
        let (client, server) = tokio::io::duplex(64 << 10);
        let service = tonic::service::interceptor::InterceptedService::new(
            self.dispatcher.clone().into_service(),
            move |mut request: Request<()>| {
                request.extensions_mut().insert(origin(number));
                Ok(request)
            },
        );
        self.tasks.spawn(async move {
            let incoming = tokio_stream::iter([Ok::<_, std::io::Error>(server)]);
            let served = Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming);
            drop(served.await);
        });
        let mut client = Some(client);
        Endpoint::from_static("http://manager").connect_with_connector_lazy(tower::service_fn(
            move |_| {
                let client = client.take();
                async move {
                    client
                        .map(TokioIo::new)
                        .ok_or_else(|| std::io::Error::other("one connection only"))
                }
            },
        ))
    }

    /// Opens a session as the node with this number.
    pub(super) async fn register(&mut self, number: u128) -> Result<Agent, Status> {
        Agent::register(self.connect(number)).await
    }

    pub(super) async fn propose(&self, actions: Vec<Action>) {
        self.proposer.propose(actions).await.unwrap();
    }

    pub(super) fn node_status(&self, number: u128) -> NodeStatus {
        let state = self.store.state();
        state
            .node(NodeId::from_number(number))
            .unwrap()
            .status
            .clone()
    }

    pub(super) fn node_state(&self, number: u128) -> NodeState {
        self.node_status(number).state
    }

    /// Waits until the condition holds.
    pub(super) async fn until(&self, condition: impl Fn(&Self) -> bool) {
        let wait = async {
            while !condition(self) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(LONG, wait)
            .await
            .expect("what the test waits for happens");
    }
}

/// An agent that does what a test tells it.
pub(super) struct Agent {
    outgoing: Option<mpsc::Sender<wire::AgentMessage>>,
    incoming: Streaming<wire::ManagerMessage>,
    pub(super) key: seal::OpenKey,
}

impl Agent {
    pub(super) async fn register(channel: Channel) -> Result<Self, Status> {
        let (outgoing, queue) = mpsc::channel(16);
        let key = seal::OpenKey::generate().unwrap();
        let agent = async {
            let description = proto::objects::NodeDescription {
                hostname: "host".to_owned(),
                ..Default::default()
            };
            let register = wire::Register {
                description: Some(description),
                seal_key: key.seal_key().to_bytes(),
            };
            send(&outgoing, agent_message::Message::Register(register)).await;
            let stream = ReceiverStream::new(queue);
            DispatcherClient::new(channel).session(stream).await
        };
        let incoming = agent.await?.into_inner();
        Ok(Self {
            outgoing: Some(outgoing),
            incoming,
            key,
        })
    }

    pub(super) async fn say(&self, message: agent_message::Message) {
        send(self.outgoing.as_ref().expect("not hung up"), message).await;
    }

    pub(super) async fn beat(&self) {
        self.say(agent_message::Message::Heartbeat(wire::Heartbeat {}))
            .await;
    }

    pub(super) async fn report(&self, sequence: u64, reports: &[(u128, TaskState)]) {
        let report = |(number, state): &(u128, TaskState)| wire::TaskReport {
            task_id: TaskId::from_number(*number).to_string(),
            status: Some((&status(*state)).into()),
        };
        let reports = reports.iter().map(report).collect();
        self.say(agent_message::Message::Statuses(wire::StatusBatch {
            sequence,
            reports,
        }))
        .await;
    }

    /// Closes this side of the stream without a word.
    pub(super) fn hang_up(&mut self) {
        self.outgoing = None;
    }

    /// The next message, or how the session ended.
    pub(super) async fn hear(&mut self) -> Result<Option<manager_message::Message>, Status> {
        let message = tokio::time::timeout(LONG, self.incoming.message())
            .await
            .expect("the dispatcher says something");
        Ok(message?.map(|m| m.message.expect("no empty messages")))
    }

    /// The next set of assignments; other messages are passed over.
    pub(super) async fn assignments(&mut self) -> wire::Assignments {
        loop {
            match self.hear().await {
                Ok(Some(manager_message::Message::Assignments(set))) => return set,
                Ok(Some(_)) => {}
                other => panic!("no assignments but {other:?}"),
            }
        }
    }

    /// The next notice; other messages are passed over.
    pub(super) async fn notice(&mut self) -> wire::NodeNotice {
        loop {
            match self.hear().await {
                Ok(Some(manager_message::Message::Node(notice))) => return notice,
                Ok(Some(_)) => {}
                other => panic!("no notice but {other:?}"),
            }
        }
    }

    /// The next acknowledgement; other messages are passed over.
    pub(super) async fn ack(&mut self) -> u64 {
        loop {
            match self.hear().await {
                Ok(Some(manager_message::Message::Ack(ack))) => return ack.sequence,
                Ok(Some(_)) => {}
                other => panic!("no acknowledgement but {other:?}"),
            }
        }
    }

    /// How the session ends; other messages are passed over.
    pub(super) async fn end(&mut self) -> Result<(), Status> {
        while self.hear().await?.is_some() {}
        Ok(())
    }
}

async fn send(outgoing: &mpsc::Sender<wire::AgentMessage>, message: agent_message::Message) {
    let message = wire::AgentMessage {
        message: Some(message),
    };
    // A session that the dispatcher has ended takes nothing any more.
    drop(outgoing.send(message).await);
}

/// A proposer that takes its time and counts.
pub(super) struct Slow {
    pub(super) inner: Arc<LocalProposer>,
    pub(super) gate: tokio::sync::Semaphore,
    pub(super) sizes: std::sync::Mutex<Vec<usize>>,
}

#[async_trait]
impl Propose for Slow {
    async fn propose(&self, actions: Vec<Action>) -> Result<Version, ProposeError> {
        self.sizes.lock().unwrap().push(actions.len());
        self.gate.acquire().await.unwrap().forget();
        self.inner.propose(actions).await
    }
}

fn origin(number: u128) -> Origin {
    let identity = PeerIdentity {
        node_id: NodeId::from_number(number),
        role: NodeRole::Worker,
        cluster_id: ClusterId::from_number(1),
        cert_not_before: Timestamp::default(),
        cert_not_after: Timestamp::from_secs(u64::from(u32::MAX)),
    };
    Origin {
        peer: Peer::Node(identity),
        remote_addr: Some(SocketAddr::from(([10, 0, 0, number as u8], 40_000))),
        forwarded_by: None,
    }
}

fn cluster() -> Cluster {
    Cluster {
        id: ClusterId::from_number(1),
        meta: Meta::default(),
        spec: ClusterSpec::default(),
        root_ca: RootCaState {
            cert_pem: "first root".to_owned(),
            key_pem: String::new(),
            worker_token: String::new(),
            manager_token: String::new(),
            ..RootCaState::default()
        },
        lock: types::cluster::ClusterLock::default(),
        revoked: Default::default(),
        gossip_keys: vec![],
        content_key: types::Payload::default(),
        gossip_keys_at: types::Timestamp::default(),
        access: Default::default(),
    }
}

pub(crate) fn node(number: u128, state: NodeState) -> Node {
    Node {
        id: NodeId::from_number(number),
        meta: Meta::default(),
        spec: NodeSpec::default(),
        role: NodeRole::Worker,
        description: None,
        status: NodeStatus {
            state,
            ..NodeStatus::default()
        },
        manager_status: None,
        network_index: 0,
        certificate: types::node::NodeCertificate::default(),
    }
}

pub(super) fn status(state: TaskState) -> TaskStatus {
    TaskStatus {
        state,
        message: state.to_string(),
        ..TaskStatus::default()
    }
}

/// A task of a node.
pub(crate) fn task(number: u128, node: u128, state: TaskState) -> Task {
    Task {
        id: TaskId::from_number(number),
        meta: Meta::default(),
        service_id: ServiceId::from_number(1),
        service_name: "web".to_owned(),
        slot: 1,
        node_id: Some(NodeId::from_number(node)),
        spec: Arc::new(TaskSpec::default()),
        spec_version: Version::default(),
        status: status(state),
        desired_state: TaskState::Running,
        attachments: vec![],
        host_ports: vec![],
    }
}
