//! The broker over gRPC on a connection in memory, with nodes that follow a script.

use std::sync::Arc;
use std::time::Duration;

use ca::PeerIdentity;
use ca::authorize::{Origin, Peer};
use hyper_util::rt::TokioIo;
use proto::logs::broker_message::Message;
use proto::logs::log_broker_client::LogBrokerClient;
use proto::logs::{self as wire};
use store::testing::LocalProposer;
use store::{Action, Propose, Store};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Endpoint, Server};
use tonic::{Code, Request, Status, Streaming};
use types::{
    ClusterId, Meta, NodeId, NodeRole, ServiceId, Task, TaskId, TaskSpec, TaskState, TaskStatus,
    Timestamp, Version,
};

use crate::hub::CREDIT;
use crate::*;

const LONG: Duration = Duration::from_secs(60);

struct Fixture {
    proposer: LocalProposer,
    broker: LogBroker,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
}

impl Fixture {
    async fn new(tasks: &[Task]) -> Self {
        let store = Store::new();
        let proposer = LocalProposer::new(store.clone());
        let broker = LogBroker::new(Options { store });
        let mut fixture = Self {
            proposer,
            broker,
            shutdown: CancellationToken::new(),
            tasks: JoinSet::new(),
        };
        for task in tasks {
            fixture.create(task.clone()).await;
        }
        let (broker, shutdown) = (fixture.broker.clone(), fixture.shutdown.clone());
        fixture
            .tasks
            .spawn(async move { broker.run(shutdown).await });
        until(|| fixture.broker.hub.lock().is_open()).await;
        fixture
    }

    async fn create(&self, task: Task) {
        self.proposer
            .propose(vec![Action::Create(task.into())])
            .await
            .unwrap();
    }

    /// A node's stream.
    async fn node(&mut self, number: u128) -> Node {
        let (client, server) = tokio::io::duplex(1 << 20);
        let service = tonic::service::interceptor::InterceptedService::new(
            self.broker.clone().into_service(),
            move |mut request: Request<()>| {
                request.extensions_mut().insert(origin(number));
                Ok(request)
            },
        );
        self.tasks.spawn(async move {
            let incoming = tokio_stream::iter([Ok::<_, std::io::Error>(server)]);
            drop(
                Server::builder()
                    .add_service(service)
                    .serve_with_incoming(incoming)
                    .await,
            );
        });
        let mut client = Some(client);
        let connect = tower::service_fn(move |_| {
            let client = client.take();
            async move {
                client
                    .map(TokioIo::new)
                    .ok_or(std::io::Error::other("one connection only"))
            }
        });
        let channel = Endpoint::from_static("http://m")
            .connect_with_connector(connect)
            .await;
        let (outgoing, queue) = mpsc::channel(16);
        let before = self.broker.hub.lock().publishers_count();
        let incoming = LogBrokerClient::new(channel.unwrap())
            .publish(ReceiverStream::new(queue))
            .await
            .unwrap()
            .into_inner();
        until(|| self.broker.hub.lock().publishers_count() > before).await;
        Node { outgoing, incoming }
    }

    fn subscribe(&self, options: LogOptions) -> Subscription {
        let services = [ServiceId::from_number(1)].into();
        let selector = Selector {
            services,
            ..Selector::default()
        };
        self.broker.subscribe(selector, options).unwrap()
    }
}

struct Node {
    outgoing: mpsc::Sender<wire::PublishMessage>,
    incoming: Streaming<wire::BrokerMessage>,
}

impl Node {
    async fn order(&mut self) -> Result<Message, Status> {
        let message = tokio::time::timeout(LONG, self.incoming.message()).await;
        let message = message.expect("an order comes")?;
        Ok(message
            .ok_or(Status::cancelled("end"))?
            .message
            .expect("no empty orders"))
    }

    async fn opened(&mut self) -> wire::Subscription {
        match self.order().await.unwrap() {
            Message::Open(subscription) => subscription,
            other => panic!("no subscription but {other:?}"),
        }
    }

    async fn send(&self, id: &str, task: u128, lines: &[&str]) {
        let line = |(at, text): (usize, &&str)| wire::LogLine {
            service_id: ServiceId::from_number(1).to_string(),
            task_id: TaskId::from_number(task).to_string(),
            node_id: "whatever it says".to_owned(),
            timestamp: 100 + at as u64,
            stream: wire::LogStream::Stderr.into(),
            line: text.as_bytes().to_vec(),
        };
        let lines = lines.iter().enumerate().map(line).collect();
        let message = wire::PublishMessage {
            subscription_id: id.to_owned(),
            lines,
            ..Default::default()
        };
        self.outgoing.send(message).await.unwrap();
    }

    async fn done(&self, id: &str, err: &str) {
        let message = wire::PublishMessage {
            subscription_id: id.to_owned(),
            done: true,
            err: err.to_owned(),
            ..Default::default()
        };
        self.outgoing.send(message).await.unwrap();
    }
}

async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LONG, wait)
        .await
        .expect("what the test waits for happens");
}

/// Everything until the end: lines with their nodes, then what is missing.
async fn read_all(mut subscription: Subscription) -> (Vec<(u128, String)>, Vec<String>) {
    let (mut lines, mut incomplete) = (vec![], vec![]);
    while let Some(batch) = read(&mut subscription).await {
        assert!(incomplete.is_empty(), "what is missing is said last");
        lines.extend(batch.0);
        incomplete.extend(batch.1);
    }
    (lines, incomplete)
}

type Read = (Vec<(u128, String)>, Vec<String>);

async fn read(subscription: &mut Subscription) -> Option<Read> {
    let batch = tokio::time::timeout(LONG, subscription.next())
        .await
        .expect("something comes")?;
    let number = |node| (1..9).find(|n| NodeId::from_number(*n) == node).unwrap();
    let text = |line: LogLine| {
        (
            number(line.node_id),
            String::from_utf8_lossy(&line.line).into(),
        )
    };
    Some((
        batch.lines.into_iter().map(text).collect(),
        batch.incomplete,
    ))
}

fn lines(list: &[(u128, &str)]) -> Vec<(u128, String)> {
    list.iter()
        .map(|(node, text)| (*node, (*text).to_owned()))
        .collect()
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
        remote_addr: None,
        forwarded_by: None,
    }
}

fn task(number: u128, node: Option<u128>) -> Task {
    let state = if node.is_some() {
        TaskState::Running
    } else {
        TaskState::Pending
    };
    Task {
        id: TaskId::from_number(number),
        meta: Meta::default(),
        service_id: ServiceId::from_number(1),
        service_name: "web".to_owned(),
        slot: 1,
        node_id: node.map(NodeId::from_number),
        spec: Arc::new(TaskSpec::default()),
        spec_version: Version::default(),
        status: TaskStatus {
            state,
            ..TaskStatus::default()
        },
        desired_state: TaskState::Running,
        attachments: vec![],
        host_ports: vec![],
    }
}

#[tokio::test]
async fn lines_of_all_nodes_come_together_and_end() {
    let mut fixture = Fixture::new(&[task(1, Some(1)), task(2, Some(2))]).await;
    let (mut first, mut second) = (fixture.node(1).await, fixture.node(2).await);
    let options = LogOptions {
        tail: Some(5),
        since: Timestamp(9),
        ..LogOptions::default()
    };
    let subscription = fixture.subscribe(options);
    let asked = first.opened().await;
    let wanted = asked.options.unwrap();
    assert_eq!(
        (wanted.tail, wanted.since, wanted.follow),
        (Some(5), 9, false)
    );
    assert_eq!(
        asked.selector.unwrap().service_ids,
        [ServiceId::from_number(1).to_string()]
    );
    first.send(&asked.id, 1, &["a", "b"]).await;
    // Another node's task, and one that does not exist.
    first.send(&asked.id, 2, &["forged"]).await;
    first.send(&asked.id, 7, &["forged"]).await;
    first.done(&asked.id, "").await;
    let asked = second.opened().await;
    second.done(&asked.id, "task x: no log").await;
    let node = NodeId::from_number(2);
    let (said, missing) = read_all(subscription).await;
    assert_eq!(said, lines(&[(1, "a"), (1, "b")]));
    assert_eq!(missing, [format!("node {node}: task x: no log")]);
    assert_eq!(fixture.broker.hub.lock().subscriptions_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_is_told_at_the_end() {
    let tasks = [task(1, Some(1)), task(2, Some(2)), task(3, None)];
    let mut fixture = Fixture::new(&tasks).await;
    let mut lost = fixture.node(1).await;
    let mut subscription = fixture.subscribe(LogOptions::default());
    let asked = lost.opened().await;
    lost.send(&asked.id, 1, &["a"]).await;
    assert_eq!(read(&mut subscription).await.unwrap().0, lines(&[(1, "a")]));
    let began = tokio::time::Instant::now();
    drop(lost);
    let (said, mut missing) = read_all(subscription).await;
    assert!(said.is_empty());
    let mut told = [
        format!("task {} has not been scheduled", TaskId::from_number(3)),
        format!("node {}: the connection was lost", NodeId::from_number(1)),
        format!("node {} is not available", NodeId::from_number(2)),
    ];
    missing.sort();
    told.sort();
    assert_eq!(missing, told);
    assert!(
        began.elapsed() >= Duration::from_millis(900),
        "an absent node gets its time"
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_that_comes_late_is_asked_then() {
    let mut fixture = Fixture::new(&[task(1, Some(1))]).await;
    let subscription = fixture.subscribe(LogOptions::default());
    let mut node = fixture.node(1).await;
    let asked = node.opened().await;
    node.done(&asked.id, "").await;
    assert_eq!(read_all(subscription).await, (vec![], vec![]));
}

#[tokio::test]
async fn following_reaches_new_nodes_and_goes_on_after_a_broken_stream() {
    let mut fixture = Fixture::new(&[task(1, Some(1))]).await;
    let (mut first, mut second) = (fixture.node(1).await, fixture.node(2).await);
    let options = LogOptions {
        follow: true,
        tail: Some(1),
        ..LogOptions::default()
    };
    let mut subscription = fixture.subscribe(options);
    let asked = first.opened().await;
    first.send(&asked.id, 1, &["a", "b"]).await;
    assert_eq!(
        read(&mut subscription).await.unwrap().0,
        lines(&[(1, "a"), (1, "b")])
    );

    fixture.create(task(2, Some(2))).await;
    let there = second.opened().await;
    second.send(&there.id, 2, &["c"]).await;
    assert_eq!(read(&mut subscription).await.unwrap().0, lines(&[(2, "c")]));

    drop(first);
    until(|| fixture.broker.hub.lock().publishers_count() == 1).await;
    let mut first = fixture.node(1).await;
    let resumed = first.opened().await.options.unwrap();
    assert_eq!(
        (resumed.since, resumed.tail),
        (102, None),
        "from the last line on"
    );

    drop(subscription);
    assert!(matches!(second.order().await.unwrap(), Message::Close(id) if id == there.id));
    assert!(matches!(first.order().await.unwrap(), Message::Close(_)));
}

#[tokio::test]
async fn credit_is_given_as_lines_are_read() {
    let mut fixture = Fixture::new(&[task(1, Some(1))]).await;
    let mut node = fixture.node(1).await;
    let follow = LogOptions {
        follow: true,
        ..LogOptions::default()
    };
    let mut slow = fixture.subscribe(follow);
    let asked = node.opened().await;
    assert_eq!(asked.credit, CREDIT);
    let line = "x".repeat(usize::try_from(CREDIT / 4).unwrap() - 64);
    for _ in 0..4 {
        node.send(&asked.id, 1, &[&line]).await;
    }
    // Another reader of the same node is served though the first has not read anything.
    let mut quick = fixture.subscribe(follow);
    let other = node.opened().await;
    node.send(&other.id, 1, &["b"]).await;
    assert_eq!(read(&mut quick).await.unwrap().0, lines(&[(1, "b")]));

    read(&mut slow).await;
    read(&mut slow).await;
    match node.order().await.unwrap() {
        Message::Credit(credit) => {
            assert_eq!(
                (credit.subscription_id, credit.bytes),
                (asked.id.clone(), CREDIT / 2)
            );
        }
        other => panic!("no credit but {other:?}"),
    }
    for _ in 0..3 {
        node.send(&asked.id, 1, &[&line]).await;
    }
    assert_eq!(
        node.order().await.unwrap_err().code(),
        Code::ResourceExhausted,
        "one too many"
    );
}

#[tokio::test]
async fn losing_leadership_ends_everything() {
    let mut fixture = Fixture::new(&[task(1, Some(1))]).await;
    let mut node = fixture.node(1).await;
    let subscription = fixture.subscribe(LogOptions {
        follow: true,
        ..LogOptions::default()
    });
    node.opened().await;
    fixture.shutdown.cancel();
    assert_eq!(
        read_all(subscription).await.1,
        ["the manager lost leadership"]
    );
    assert_eq!(node.order().await.unwrap_err().code(), Code::Unavailable);
    let refused = fixture
        .broker
        .subscribe(Selector::default(), LogOptions::default());
    assert_eq!(refused.map(drop).unwrap_err(), Error::NotLeading);
}
