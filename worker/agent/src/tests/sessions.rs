//! Finding, keeping and losing managers, and restarts.

use std::time::Duration;

use proto::dispatcher::{self as wire, agent_message, assignments::Kind, manager_message};
use types::{NodeId, TaskId, TaskState};

use super::manager::{Manager, Network, Node};
use super::task;

#[tokio::test]
async fn a_restart_resumes_without_touching_containers() {
    let network = Network::default();
    let mut manager = Manager::start(&network, "m1");
    let mut node = Node::new(&network);
    node.start(&["m1"]);
    let mut session = manager.session().await;
    session.complete(&[task(1)]).await;
    let running = session.until(1, TaskState::Running).await;
    node.machine.asked();

    let (said, ()) = tokio::join!(session.hear(), node.stop());
    assert!(
        matches!(said, Some(agent_message::Message::Goodbye(_))),
        "{said:?}"
    );
    drop(session);
    // No manager at all: the task is cared for all the same.
    node.start(&[]);
    node.until(|node| node.machine.asked() == ["wait 1"]).await;
    node.machine.exit(1, 5);
    node.stop_after_record(1, TaskState::Failed).await;

    node.start(&["m1"]);
    let mut session = manager.session().await;
    let mut known = task(1);
    known.status = running;
    session.complete(&[known]).await;
    let status = session.until(1, TaskState::Failed).await;
    assert_eq!(
        status.err, "task: non-zero exit (5)",
        "what happened without managers is told"
    );
    assert!(node.machine.asked().is_empty());
}

#[tokio::test]
async fn a_killed_agent_resumes_as_well() {
    let network = Network::default();
    let mut manager = Manager::start(&network, "m1");
    let mut node = Node::new(&network);
    node.start(&["m1"]);
    let mut session = manager.session().await;
    session.complete(&[task(1), task(2)]).await;
    session.until(2, TaskState::Running).await;
    node.kill().await;
    drop(session);
    node.machine.asked();
    node.start(&["m1"]);
    let mut session = manager.session().await;
    session.complete(&[task(1), task(2), task(3)]).await;
    session.until(3, TaskState::Running).await;
    let asked = node.machine.asked();
    assert!(
        !asked
            .iter()
            .any(|a| a.starts_with("shutdown") || a.starts_with("remove"))
    );
    assert!(node.machine.has_container(1) && node.machine.has_container(2));
}

#[tokio::test]
async fn what_was_not_acknowledged_is_told_again() {
    let network = Network::default();
    let mut manager = Manager::start(&network, "m1");
    let mut node = Node::new(&network);
    node.start(&["m1"]);
    let mut session = manager.session().await;
    session.complete(&[task(1)]).await;
    let (_, first) = session.batch().await;
    assert_eq!(first[0].0, TaskId::from_number(1));
    node.until(|node| node.machine.asked().contains(&"wait 1".to_owned()))
        .await;
    drop(session);

    let mut session = manager.session().await;
    let mut stored = task(1);
    let (sequence, again) = session.batch().await;
    assert_eq!(
        again[0].1.state,
        TaskState::Running,
        "the latest, not the lost one"
    );
    session.acknowledge(sequence).await;
    // The manager stored it, adding its own time: nothing is left to say.
    stored.status = again[0].1.clone();
    stored.status.applied_at = types::Timestamp(9);
    session.complete(&[stored, task(2)]).await;
    let (_, reports) = session.batch().await;
    assert!(
        reports.iter().all(|(id, _)| *id == TaskId::from_number(2)),
        "{reports:?}"
    );
}

#[tokio::test]
async fn agents_are_sent_to_the_leader() {
    let network = Network::default();
    let first = Manager::start(&network, "m1");
    let mut second = Manager::start(&network, "m2");
    first.leader.send_replace(Some("m2".to_owned()));
    let mut node = Node::new(&network);
    node.start(&["m1"]);
    second.session().await;
}

#[tokio::test]
async fn a_new_leader_has_its_nodes_back_at_once() {
    let network = Network::default();
    let mut managers = ["m1", "m2", "m3"].map(|addr| Manager::start(&network, addr));
    for follower in &managers[1..] {
        follower.leader.send_replace(Some("m1".to_owned()));
    }
    let mut node = Node::new(&network);
    node.start(&["m1", "m2", "m3"]);
    let session = managers[0].session().await;
    // The leader is gone, and nobody leads for a while. The clock moves only while all wait for it,
    // so that the time measured is the agent's own.
    tokio::time::pause();
    for manager in &managers {
        manager.leader.send_replace(Some(String::new()));
    }
    drop(session);
    tokio::time::sleep(Duration::from_millis(700)).await;
    managers[2].leader.send_replace(None);
    let elected = tokio::time::Instant::now();
    managers[2].session().await;
    let took = elected.elapsed();
    assert!(took < Duration::from_millis(300), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_manager_is_left() {
    let network = Network::default();
    let mut first = Manager::start(&network, "m1");
    let mut second = Manager::start(&network, "m2");
    second.leader.send_replace(Some("m1".to_owned()));
    let mut node = Node::new(&network);
    node.start(&["m1", "m2"]);
    let mut session = first.session().await;
    tokio::select! {
        said = session.hear() => panic!("{said:?}"),
        () = tokio::time::sleep(Duration::from_secs(30)) => {}
    }
    session.fall_silent();
    first.leader.send_replace(Some("m2".to_owned()));
    second.leader.send_replace(None);
    let silent = tokio::time::Instant::now();
    tokio::select! {
        _ = second.session() => {}
        said = session.hear() => assert!(said.is_none(), "{said:?}"),
    }
    assert!(
        silent.elapsed() < Duration::from_secs(4),
        "{:?}",
        silent.elapsed()
    );
}

#[tokio::test]
async fn a_set_that_does_not_fit_opens_a_new_session() {
    let network = Network::default();
    let mut manager = Manager::start(&network, "m1");
    let mut node = Node::new(&network);
    node.start(&["m1"]);
    let mut session = manager.session().await;
    session.complete(&[]).await;
    session.assign(Kind::Incremental, 77, vec![]).await;
    let mut session = manager.session().await;
    session.complete(&[task(1)]).await;
    session.until(1, TaskState::Running).await;
}

#[tokio::test]
async fn notices_reach_the_daemon_and_the_disk() {
    let network = Network::default();
    let mut manager = Manager::start(&network, "m1");
    let mut node = Node::new(&network);
    node.start(&["m1"]);
    let session = manager.session().await;
    let notice = wire::NodeNotice {
        node: Some(proto::objects::Node {
            id: NodeId::from_number(7).to_string(),
            spec: Some(Default::default()),
            status: Some(Default::default()),
            ..Default::default()
        }),
        managers: vec!["m1".to_owned(), "m9".to_owned()],
        root_bundle_pem: "roots".to_owned(),
        locked: true,
    };
    session.say(manager_message::Message::Node(notice)).await;
    node.until(|node| node.notices.borrow().is_some()).await;
    let told = node.notices.borrow().clone().unwrap();
    assert_eq!(told.root_bundle_pem, "roots");
    assert_eq!(told.node.id, NodeId::from_number(7));
    let kept = std::fs::read_to_string(node.file("managers")).unwrap();
    assert_eq!(kept, "m1\nm9");

    // Later only the file knows where the managers are.
    node.kill().await;
    drop(session);
    node.start(&[]);
    manager.session().await;
}

#[tokio::test(start_paused = true)]
async fn a_changed_machine_is_described_again() {
    let network = Network::default();
    let mut manager = Manager::start(&network, "m1");
    let mut node = Node::new(&network);
    node.start(&["m1"]);
    let mut session = manager.session().await;
    node.machine.description.lock().unwrap().hostname = "renamed".to_owned();
    match session.hear().await {
        Some(agent_message::Message::Description(described)) => {
            assert_eq!(described.hostname, "renamed");
        }
        other => panic!("no description but {other:?}"),
    }
}

impl Node {
    /// Stops the agent once the record on disk says this.
    async fn stop_after_record(&mut self, number: u128, state: TaskState) {
        use prost::Message;
        self.until(|node| {
            let path = node
                .file("tasks")
                .join(TaskId::from_number(number).as_str());
            let bytes = std::fs::read(path).unwrap();
            let record = wire::TaskRecord::decode(bytes.as_slice()).unwrap();
            record.task.unwrap().status.unwrap().state == u32::from(state.number())
        })
        .await;
        self.stop().await;
    }
}
