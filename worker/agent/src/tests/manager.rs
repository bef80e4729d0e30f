//! Managers that say what a test tells them, and an agent that can reach them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hyper_util::rt::TokioIo;
use proto::dispatcher::assignment_change::Change;
use proto::dispatcher::assignments::Kind;
use proto::dispatcher::dispatcher_server::{Dispatcher, DispatcherServer};
use proto::dispatcher::{self as wire, agent_message, manager_message};
use proto::logs::log_broker_server::{LogBroker, LogBrokerServer};
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};
use types::{NodeId, Task, TaskId, TaskState, TaskStatus};

use super::machine::{Machine, Sim};
use crate::{Agent, DialError, ManagerDialer, NodeNotice, Options};

/// Longer than anything a test waits for.
const LONG: Duration = Duration::from_secs(60);

/// The managers there are, by address.
#[derive(Clone, Default)]
pub(super) struct Network {
    addrs: Arc<Mutex<BTreeMap<String, mpsc::Sender<DuplexStream>>>>,
}

#[async_trait]
impl ManagerDialer for Network {
    async fn dial(&self, addr: &str) -> Result<Channel, DialError> {
        let manager = self.addrs.lock().unwrap().get(addr).cloned();
        let manager = manager.ok_or("nobody is there")?;
        let (client, server) = tokio::io::duplex(256 << 10);
        manager.send(server).await?;
        let mut client = Some(client);
        let connect = tower::service_fn(move |_| {
            let client = client.take();
            async move {
                client
                    .map(TokioIo::new)
                    .ok_or_else(|| std::io::Error::other("once only"))
            }
        });
        Ok(Endpoint::from_static("http://manager")
            .connect_with_connector(connect)
            .await?)
    }
}

/// One manager.
pub(super) struct Manager {
    sessions: mpsc::Receiver<Session>,
    publishers: mpsc::Receiver<Publisher>,
    /// Where it sends agents, if it does not lead.
    pub(super) leader: watch::Sender<Option<String>>,
    _server: JoinSet<()>,
}

#[derive(Clone)]
struct Service {
    sessions: mpsc::Sender<Session>,
    publishers: mpsc::Sender<Publisher>,
    leader: watch::Receiver<Option<String>>,
}

/// An agent's session, on the manager's side.
pub(super) struct Session {
    incoming: Streaming<wire::AgentMessage>,
    outgoing: mpsc::Sender<Result<wire::ManagerMessage, Status>>,
    number: u64,
    answers_heartbeats: bool,
}

/// An agent's stream of logs, on the manager's side.
pub(super) struct Publisher {
    pub(super) incoming: Streaming<proto::logs::PublishMessage>,
    pub(super) outgoing: mpsc::Sender<Result<proto::logs::BrokerMessage, Status>>,
}

impl Manager {
    pub(super) fn start(network: &Network, addr: &str) -> Self {
        let (dial, dialled) = mpsc::channel(16);
        network.addrs.lock().unwrap().insert(addr.to_owned(), dial);
        let (sessions_tx, sessions) = mpsc::channel(16);
        let (publishers_tx, publishers) = mpsc::channel(16);
        let (leader, leader_rx) = watch::channel(None);
        let service = Service {
            sessions: sessions_tx,
            publishers: publishers_tx,
            leader: leader_rx,
        };
        let mut server = JoinSet::new();
        server.spawn(async move {
            let incoming = futures::StreamExt::map(ReceiverStream::new(dialled), |stream| {
                Ok::<_, std::io::Error>(stream)
            });
            let served = Server::builder()
                .add_service(DispatcherServer::new(service.clone()))
                .add_service(LogBrokerServer::new(service))
                .serve_with_incoming(incoming);
            drop(served.await);
        });
        Self {
            sessions,
            publishers,
            leader,
            _server: server,
        }
    }

    /// The next session, with its beginning.
    pub(super) async fn session(&mut self) -> Session {
        self.sessions_within(LONG)
            .await
            .expect("a session is opened")
    }

    pub(super) async fn sessions_within(&mut self, time: Duration) -> Option<Session> {
        let mut session = tokio::time::timeout(time, self.sessions.recv())
            .await
            .ok()??;
        let first = session
            .incoming
            .message()
            .await
            .unwrap()
            .unwrap()
            .message
            .unwrap();
        assert!(
            matches!(first, agent_message::Message::Register(_)),
            "{first:?}"
        );
        let started = wire::SessionStarted {
            session_id: "s".to_owned(),
            heartbeat_period: 1_000_000_000,
        };
        session
            .say(manager_message::Message::Started(started))
            .await;
        Some(session)
    }

    pub(super) async fn publisher(&mut self) -> Publisher {
        let publisher = tokio::time::timeout(LONG, self.publishers.recv()).await;
        publisher.expect("a stream of logs is opened").unwrap()
    }
}

#[tonic::async_trait]
impl Dispatcher for Service {
    type SessionStream = ReceiverStream<Result<wire::ManagerMessage, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<wire::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let leader = self.leader.borrow().clone();
        if let Some(leader) = leader {
            let mut status = Status::failed_precondition("not the leader");
            if !leader.is_empty() {
                status
                    .metadata_mut()
                    .insert(crate::search::LEADER_KEY, leader.parse().unwrap());
            }
            return Err(status);
        }
        let (outgoing, stream) = mpsc::channel(64);
        let session = Session {
            incoming: request.into_inner(),
            outgoing,
            number: 0,
            answers_heartbeats: true,
        };
        self.sessions
            .send(session)
            .await
            .map_err(|_| Status::unavailable("test is over"))?;
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

#[tonic::async_trait]
impl LogBroker for Service {
    type PublishStream = ReceiverStream<Result<proto::logs::BrokerMessage, Status>>;

    async fn publish(
        &self,
        request: Request<Streaming<proto::logs::PublishMessage>>,
    ) -> Result<Response<Self::PublishStream>, Status> {
        let (outgoing, stream) = mpsc::channel(64);
        let publisher = Publisher {
            incoming: request.into_inner(),
            outgoing,
        };
        drop(self.publishers.try_send(publisher));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

impl Session {
    pub(super) async fn say(&self, message: manager_message::Message) {
        let message = wire::ManagerMessage {
            message: Some(message),
        };
        drop(self.outgoing.send(Ok(message)).await);
    }

    /// Says nothing any more to heartbeats.
    pub(super) fn fall_silent(&mut self) {
        self.answers_heartbeats = false;
    }

    /// Sends the node's complete set of tasks.
    pub(super) async fn complete(&mut self, tasks: &[Task]) {
        let changes = tasks
            .iter()
            .map(|task| Change::UpdateTask(task.into()))
            .collect();
        self.assign(Kind::Complete, 0, changes).await;
    }

    /// Sends changes that follow from what was sent before.
    pub(super) async fn change(&mut self, changes: Vec<Change>) {
        self.assign(Kind::Incremental, self.number, changes).await;
    }

    pub(super) async fn assign(&mut self, kind: Kind, applies_to: u64, changes: Vec<Change>) {
        self.number += 1;
        let changes = changes
            .into_iter()
            .map(|c| wire::AssignmentChange { change: Some(c) })
            .collect();
        let set = wire::Assignments {
            kind: kind.into(),
            applies_to,
            results_in: self.number,
            changes,
        };
        self.say(manager_message::Message::Assignments(set)).await;
    }

    /// The next message that is no heartbeat; none when the agent is gone.
    pub(super) async fn hear(&mut self) -> Option<agent_message::Message> {
        loop {
            let message = tokio::time::timeout(LONG, self.incoming.message()).await;
            let message = message.expect("the agent says something").ok()??;
            match message.message.unwrap() {
                agent_message::Message::Heartbeat(wire::Heartbeat {}) => {
                    if self.answers_heartbeats {
                        let ack = wire::HeartbeatAck {
                            heartbeat_period: 1_000_000_000,
                        };
                        self.say(manager_message::Message::Heartbeat(ack)).await;
                    }
                }
                other => return Some(other),
            }
        }
    }

    /// The next batch, not acknowledged.
    pub(super) async fn batch(&mut self) -> (u64, Vec<(TaskId, TaskStatus)>) {
        match self.hear().await {
            Some(agent_message::Message::Statuses(batch)) => {
                let reports = batch.reports.into_iter().map(|report| {
                    let status = TaskStatus::try_from(report.status.unwrap()).unwrap();
                    (report.task_id.parse().unwrap(), status)
                });
                (batch.sequence, reports.collect())
            }
            other => panic!("no statuses but {other:?}"),
        }
    }

    pub(super) async fn acknowledge(&self, sequence: u64) {
        self.say(manager_message::Message::Ack(wire::StatusAck { sequence }))
            .await;
    }

    /// Takes and acknowledges reports until this task is in this state; tells that status.
    pub(super) async fn until(&mut self, task: u128, state: TaskState) -> TaskStatus {
        loop {
            let (sequence, reports) = self.batch().await;
            self.acknowledge(sequence).await;
            for (id, status) in reports {
                if id == TaskId::from_number(task) && status.state == state {
                    return status;
                }
            }
        }
    }
}

/// A node: a machine, a directory, and at most one agent.
pub(super) struct Node {
    pub(super) machine: Arc<Machine>,
    pub(super) notices: watch::Receiver<Option<NodeNotice>>,
    /// What the node tells of its certificate.
    pub(super) tls: watch::Sender<types::node::TlsInfo>,
    dir: tempfile::TempDir,
    network: Network,
    running: Option<(CancellationToken, JoinSet<()>)>,
}

impl Node {
    pub(super) fn new(network: &Network) -> Self {
        Self {
            machine: Arc::default(),
            notices: watch::channel(None).1,
            tls: watch::Sender::default(),
            dir: tempfile::tempdir().unwrap(),
            network: network.clone(),
            running: None,
        }
    }

    /// Starts the agent.
    pub(super) fn start(&mut self, managers: &[&str]) {
        let (notices, receiver) = watch::channel(None);
        self.notices = receiver;
        let options = Options {
            node_id: NodeId::from_number(7),
            state_dir: self.dir.path().to_owned(),
            tasks_dir: self.dir.path().join("worker/tasks"),
            dialer: Arc::new(self.network.clone()),
            managers: managers.iter().map(|m| (*m).to_owned()).collect(),
            executor: Arc::new(Sim(self.machine.clone())),
            notices,
            tls: self.tls.subscribe(),
        };
        let token = CancellationToken::new();
        let mut running = JoinSet::new();
        let shutdown = token.clone();
        running.spawn(async move { Agent::new(options).run(shutdown).await.unwrap() });
        self.running = Some((token, running));
    }

    /// Stops the agent as a daemon that ends does.
    pub(super) async fn stop(&mut self) {
        let (token, mut running) = self.running.take().expect("it runs");
        token.cancel();
        let stopped = tokio::time::timeout(LONG, running.join_next()).await;
        stopped.expect("the agent stops").unwrap().unwrap();
    }

    /// Ends the agent without a word, as `kill -9` does.
    pub(super) async fn kill(&mut self) {
        let (_, mut running) = self.running.take().expect("it runs");
        running.shutdown().await;
    }

    pub(super) fn file(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join("worker").join(name)
    }

    pub(super) fn has_record(&self, task: u128) -> bool {
        Path::exists(&self.file("tasks").join(TaskId::from_number(task).as_str()))
    }

    pub(super) async fn until(&self, condition: impl Fn(&Self) -> bool) {
        let wait = async {
            while !condition(self) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(LONG, wait)
            .await
            .expect("what the test waits for happens");
    }
}
