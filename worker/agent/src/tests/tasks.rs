//! What becomes of assigned tasks.

use std::time::Duration;

use executor::Error;
use proto::dispatcher::assignment_change::Change;
use types::{TaskId, TaskState, TaskStatus};

use super::manager::{Manager, Network, Node, Session};
use super::{desired, task};

async fn in_session() -> (Manager, Node, Session) {
    let network = Network::default();
    let mut manager = Manager::start(&network, "m1");
    let mut node = Node::new(&network);
    node.start(&["m1"]);
    let session = manager.session().await;
    (manager, node, session)
}

fn update(task: types::Task) -> Change {
    Change::UpdateTask((&task).into())
}

fn remove(task: u128) -> Change {
    Change::RemoveTask(TaskId::from_number(task).to_string())
}

#[tokio::test]
async fn a_task_runs_ends_and_is_removed() {
    let (_manager, node, mut session) = in_session().await;
    session.complete(&[task(1)]).await;
    let status = session.until(1, TaskState::Running).await;
    assert_eq!(
        (status.message.as_str(), status.err.as_str()),
        ("started", "")
    );
    assert_eq!(status.container_status.unwrap().pid, 1);
    assert!(status.timestamp.is_set() && node.has_record(1));

    node.machine.exit(1, 3);
    let status = session.until(1, TaskState::Failed).await;
    assert_eq!(status.err, "task: non-zero exit (3)");
    assert_eq!(status.container_status.unwrap().exit_code, Some(3));
    assert_eq!(node.machine.asked(), ["prepare 1", "start 1", "wait 1"]);
    assert!(
        node.machine.has_container(1),
        "its output can still be read"
    );

    session.change(vec![remove(1)]).await;
    node.until(|node| !node.machine.has_container(1) && !node.has_record(1))
        .await;
    assert_eq!(
        node.machine.asked(),
        ["remove 1"],
        "what ended is not stopped again"
    );
}

#[tokio::test]
async fn an_end_is_reported_without_any_timer() {
    let (_manager, node, mut session) = in_session().await;
    session.complete(&[task(1)]).await;
    session.until(1, TaskState::Running).await;
    node.until(|node| node.machine.asked().contains(&"wait 1".to_owned()))
        .await;
    tokio::time::pause();
    let before = tokio::time::Instant::now();
    node.machine.exit(1, 137);
    session.until(1, TaskState::Failed).await;
    assert_eq!(
        before.elapsed(),
        Duration::ZERO,
        "tokio's clock stands still while there is work"
    );
}

#[tokio::test]
async fn desired_states_only_grow() {
    let (_manager, node, mut session) = in_session().await;
    session.complete(&[desired(1, TaskState::Ready)]).await;
    session.until(1, TaskState::Ready).await;
    session
        .change(vec![update(desired(1, TaskState::Running))])
        .await;
    session.until(1, TaskState::Running).await;
    session
        .change(vec![update(desired(1, TaskState::Ready))])
        .await;
    session
        .change(vec![update(desired(1, TaskState::Shutdown))])
        .await;
    session.until(1, TaskState::Shutdown).await;
    session
        .change(vec![
            update(desired(1, TaskState::Running)),
            update(task(2)),
        ])
        .await;
    session.until(2, TaskState::Running).await;
    let asked = node.machine.asked();
    assert_eq!(
        asked.iter().filter(|a| a.starts_with("start 1")).count(),
        1,
        "{asked:?}"
    );
    assert_eq!(
        asked.iter().filter(|a| a.starts_with("shutdown")).count(),
        1,
        "{asked:?}"
    );
}

#[tokio::test]
async fn what_a_complete_set_does_not_name_has_to_go() {
    let (_manager, node, mut session) = in_session().await;
    session.complete(&[task(1), task(2)]).await;
    session.until(2, TaskState::Running).await;
    session.complete(&[task(2)]).await;
    node.until(|node| !node.machine.has_container(1)).await;
    assert!(
        node.machine
            .asked()
            .ends_with(&["shutdown 1".to_owned(), "remove 1".to_owned()])
    );
    assert!(node.machine.has_container(2));
}

#[tokio::test]
async fn a_withdrawn_task_is_given_up_in_the_middle() {
    let (_manager, node, mut session) = in_session().await;
    node.machine.hang_in_prepare(true);
    session.complete(&[task(1)]).await;
    node.until(|node| node.machine.asked().contains(&"prepare 1".to_owned()))
        .await;
    session.change(vec![remove(1)]).await;
    node.until(|node| !node.has_record(1)).await;
    assert_eq!(node.machine.asked(), ["shutdown 1", "remove 1"]);
}

#[tokio::test]
async fn what_the_managers_gave_up_is_stopped() {
    let (_manager, node, mut session) = in_session().await;
    session.complete(&[task(1)]).await;
    session.until(1, TaskState::Running).await;
    let mut orphan = task(1);
    orphan.status = TaskStatus {
        state: TaskState::Orphaned,
        ..TaskStatus::default()
    };
    session.complete(&[orphan]).await;
    session.until(1, TaskState::Shutdown).await;
    assert!(node.machine.asked().contains(&"shutdown 1".to_owned()));
}

#[tokio::test]
async fn errors_reject_or_are_tried_again() {
    let (_manager, node, mut session) = in_session().await;
    node.machine
        .fail_next("prepare", Error::Fatal("No such image: x".to_owned()));
    session.complete(&[task(1)]).await;
    let status = session.until(1, TaskState::Rejected).await;
    assert_eq!(
        (status.message.as_str(), status.err.as_str()),
        ("preparing", "No such image: x")
    );

    node.machine
        .fail_next("start", Error::Temporary("busy".to_owned()));
    session.change(vec![update(task(2))]).await;
    let before = tokio::time::Instant::now();
    let status = session.until(2, TaskState::Starting).await;
    let troubled = if status.err.is_empty() {
        session.until(2, TaskState::Starting).await
    } else {
        status
    };
    assert_eq!(troubled.err, "busy");
    let status = session.until(2, TaskState::Running).await;
    assert_eq!(status.err, "", "a passed trouble is forgotten");
    assert!(
        before.elapsed() >= Duration::from_secs(1),
        "not before a second"
    );
}

#[tokio::test]
async fn a_task_from_the_future_is_rejected() {
    let (_manager, _node, mut session) = in_session().await;
    let mut strange = proto::objects::Task::from(&task(1));
    strange.desired_state = 999;
    session.change_complete(strange).await;
    let status = session.until(1, TaskState::Rejected).await;
    assert!(status.err.contains("does not understand"), "{}", status.err);
}

impl Session {
    async fn change_complete(&mut self, task: proto::objects::Task) {
        let kind = proto::dispatcher::assignments::Kind::Complete;
        self.assign(kind, 0, vec![Change::UpdateTask(task)]).await;
    }
}
