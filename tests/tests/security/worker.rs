//! A hostile worker: a machine that was taken over, with its valid certificate, tries everything.

use std::time::Duration;

use proto::ca::ca_client::CaClient;
use proto::ca::{IssueNodeCertificateRequest, ReissueNodeCertificateRequest};
use proto::control::ServiceLogsRequest;
use proto::dispatcher::dispatcher_client::DispatcherClient;
use proto::dispatcher::{self as wire, agent_message, assignment_change, manager_message};
use proto::logs::log_broker_client::LogBrokerClient;
use proto::logs::{self, broker_message};
use proto::objects;
use swarm_tests::cluster::{Cluster, PATIENCE};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Streaming};
use types::{NodeRole, Task, TaskState};

use crate::caller::{as_node, call, join};

/// What a worker's certificate opens. A new RPC fails this test until somebody has thought about
/// what a hostile worker could do with it, and written that attack below.
const ATTACKED_BELOW: [&str; 5] = [
    "/swarm.ca.v1.Ca/GetRootCertificate",
    "/swarm.ca.v1.Ca/IssueNodeCertificate",
    "/swarm.ca.v1.Ca/ReissueNodeCertificate",
    "/swarm.dispatcher.v1.Dispatcher/Session",
    "/swarm.logs.v1.LogBroker/Publish",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_other_rpc_is_refused() {
    let cluster = Cluster::new().managers(1).start().await.unwrap();
    let identity = join(&cluster, NodeRole::Worker).await;
    let channel = as_node(&identity, &cluster.machines[0]).await;
    let others = proto::RPCS
        .iter()
        .filter(|path| !ATTACKED_BELOW.contains(path));
    for path in others {
        let refused = call(&channel, path, &[]).await;
        let status = refused.expect_err(path);
        assert_eq!(status.code(), Code::PermissionDenied, "{path}: {status}");
        assert!(status.message().starts_with("a worker may not"), "{status}");
    }
    // The public root, which every certificate shows anyway, is all it is told.
    call(&channel, ATTACKED_BELOW[0], &[]).await.unwrap();
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_renews_for_its_own_node_in_its_own_role_only() {
    let cluster = Cluster::new().managers(1).workers(1).start().await.unwrap();
    let identity = join(&cluster, NodeRole::Worker).await;
    let mut client = CaClient::new(as_node(&identity, &cluster.machines[0]).await);
    // Nothing in a request names a node or a role: the certificate alone does.
    let key = ca::PrivateKey::generate().unwrap();
    let request = IssueNodeCertificateRequest {
        csr_pem: key.csr_pem().unwrap(),
        ..Default::default()
    };
    let issued = client.issue_node_certificate(request).await.unwrap();
    let issued = issued.into_inner();
    assert_eq!(issued.node_id, identity.node_id().to_string());
    assert_eq!(issued.role(), objects::NodeRole::Worker);
    // A token it was never given lets it become nothing else.
    let bad = IssueNodeCertificateRequest {
        csr_pem: key.csr_pem().unwrap(),
        token: format!("SWMTKN-1-{}-{}", "0".repeat(50), "0".repeat(25)),
        ..Default::default()
    };
    let refused = client.issue_node_certificate(bad).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_comes_back_as_a_node_whose_key_it_has_not() {
    let cluster = Cluster::new().managers(1).workers(1).start().await.unwrap();
    let identity = join(&cluster, NodeRole::Worker).await;
    let mut client = CaClient::new(as_node(&identity, &cluster.machines[0]).await);
    let nodes = cluster.machines[0].nodes().await.unwrap();
    let own = identity.node_id().to_string();
    // Its own key and a fresh one, for every node: only its own for itself counts.
    let fresh = ca::PrivateKey::generate().unwrap();
    let keys = [(identity.key(), true), (&fresh, false)];
    let mut asked = 0;
    for node in nodes.into_iter().filter_map(|view| view.node) {
        for (key, is_certified) in keys {
            let request = ReissueNodeCertificateRequest {
                node_id: node.id.clone(),
                csr_pem: key.csr_pem().unwrap(),
            };
            let answer = client.reissue_node_certificate(request).await;
            let is_due = is_certified && node.id == own;
            assert_eq!(answer.is_ok(), is_due, "{}: {answer:?}", node.id);
            asked += 1;
        }
    }
    assert_eq!(asked, 6, "three nodes, two keys");
    cluster.shutdown().await;
}

/// A session of the hostile worker.
struct Session {
    orders: mpsc::Sender<wire::AgentMessage>,
    heard: Streaming<wire::ManagerMessage>,
}

impl Session {
    async fn open(channel: &Channel) -> Self {
        let (orders, messages) = mpsc::channel(16);
        let description = objects::NodeDescription {
            hostname: "hostile".to_owned(),
            ..Default::default()
        };
        let register = wire::Register {
            description: Some(description),
            ..Default::default()
        };
        let message = agent_message::Message::Register(register);
        orders.send(wrap(message)).await.unwrap();
        let mut client = DispatcherClient::new(channel.clone());
        let heard = client.session(ReceiverStream::new(messages)).await;
        Self {
            orders,
            heard: heard.unwrap().into_inner(),
        }
    }

    async fn report(&self, sequence: u64, task: &Task, state: TaskState) {
        let status = types::TaskStatus {
            state,
            message: "owned".to_owned(),
            ..task.status.clone()
        };
        let report = wire::TaskReport {
            task_id: task.id.to_string(),
            status: Some((&status).into()),
        };
        let batch = wire::StatusBatch {
            sequence,
            reports: vec![report],
        };
        let message = agent_message::Message::Statuses(batch);
        self.orders.send(wrap(message)).await.unwrap();
    }

    async fn next(&mut self) -> manager_message::Message {
        let message = tokio::time::timeout(PATIENCE, self.heard.message()).await;
        message.unwrap().unwrap().unwrap().message.unwrap()
    }
}

fn wrap(message: agent_message::Message) -> wire::AgentMessage {
    wire::AgentMessage {
        message: Some(message),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_is_told_of_its_own_tasks_and_believed_about_them_only() {
    let cluster = Cluster::new().managers(1).workers(1).start().await.unwrap();
    let machine = &cluster.machines[0];
    machine.create_service("web", 4).await.unwrap();
    let tasks = cluster.running("web", 4).await.unwrap();
    let identity = join(&cluster, NodeRole::Worker).await;
    let channel = as_node(&identity, machine).await;
    let mut session = Session::open(&channel).await;
    // Reports on tasks of others are dropped: the batch is taken, and nothing comes of it.
    for (sequence, task) in (1..).zip(&tasks) {
        session.report(sequence, task, TaskState::Failed).await;
        loop {
            match session.next().await {
                manager_message::Message::Ack(ack) => {
                    assert_eq!(ack.sequence, sequence);
                    break;
                }
                manager_message::Message::Assignments(set) => check(&set),
                manager_message::Message::Node(notice) => {
                    let node = notice.node.unwrap();
                    assert_eq!(node.id, identity.node_id().to_string());
                }
                manager_message::Message::Started(_)
                | manager_message::Message::Heartbeat(_)
                | manager_message::Message::Call(_)
                | manager_message::Message::CheckNetworks(_) => {}
            }
        }
    }
    let after = cluster.running("web", 4).await.unwrap();
    let ids = |tasks: &[Task]| tasks.iter().map(|task| task.id).collect::<Vec<_>>();
    assert_eq!(ids(&after), ids(&tasks), "no task was replaced");
    assert!(after.iter().all(|task| task.status.message != "owned"));
    cluster.shutdown().await;
}

/// This node has no tasks: whatever is assigned to it, is somebody else's.
fn check(set: &wire::Assignments) {
    for change in &set.changes {
        use assignment_change::Change;
        match change.change.as_ref().unwrap() {
            // What every node must know to find others by: addresses and public keys.
            Change::UpdatePeer(_) | Change::RemovePeer(_) | Change::NetworkSettings(_) => {}
            Change::UpdateTask(_)
            | Change::RemoveTask(_)
            | Change::UpdateSecret(_)
            | Change::RemoveSecret(_)
            | Change::UpdateConfig(_)
            | Change::RemoveConfig(_)
            | Change::UpdateNetwork(_)
            | Change::RemoveNetwork(_)
            | Change::UpdateEndpoint(_)
            | Change::RemoveEndpoint(_)
            | Change::UpdateService(_)
            | Change::RemoveService(_) => panic!("a node without tasks was sent {change:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_in_the_name_of_others_are_shown_to_nobody() {
    let cluster = Cluster::new().managers(1).workers(1).start().await.unwrap();
    let machine = &cluster.machines[0];
    machine.create_service("web", 2).await.unwrap();
    let tasks = cluster.running("web", 2).await.unwrap();
    let identity = join(&cluster, NodeRole::Worker).await;
    let mut broker = LogBrokerClient::new(as_node(&identity, machine).await);
    let (lines, messages) = mpsc::channel(16);
    let orders = broker.publish(ReceiverStream::new(messages)).await.unwrap();
    let mut orders = orders.into_inner();
    // It guesses the numbers of subscriptions, as it is asked for none.
    for number in 0..32 {
        let forged = |task: &Task| logs::LogLine {
            service_id: task.service_id.to_string(),
            task_id: task.id.to_string(),
            node_id: task.node_id.unwrap().to_string(),
            timestamp: 1,
            line: b"forged".to_vec(),
            ..Default::default()
        };
        let message = logs::PublishMessage {
            subscription_id: number.to_string(),
            lines: tasks.iter().map(forged).collect(),
            ..Default::default()
        };
        if lines.send(message).await.is_err() {
            break;
        }
    }
    let request = ServiceLogsRequest {
        keys: vec!["web".to_owned()],
        options: Some(logs::LogOptions::default()),
    };
    let mut control = machine.control().await.unwrap();
    let mut shown = control.service_logs(request).await.unwrap().into_inner();
    while let Some(batch) = shown.message().await.unwrap() {
        assert!(batch.lines.iter().all(|line| line.line != b"forged"));
    }
    // Nor was it asked for the output of tasks that are not its own.
    let asked = tokio::time::timeout(Duration::from_millis(200), orders.message()).await;
    if let Ok(Ok(Some(order))) = asked {
        assert!(
            !matches!(order.message, Some(broker_message::Message::Open(_))),
            "{order:?}"
        );
    }
    cluster.shutdown().await;
}
