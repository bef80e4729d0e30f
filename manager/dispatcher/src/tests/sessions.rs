//! What a session tells its agent.

use proto::dispatcher::assignment_change::Change;
use proto::dispatcher::{self as wire, assignments::Kind};
use store::{Action, Object, ObjectId};
use tonic::Code;
use types::node::{ManagerStatus, NodeState};
use types::{NodeId, TaskId, TaskState};

use super::fixture::{Fixture, node, status, task};

/// The ids of updated tasks with their desired states, and of removed ones.
fn changes(set: &wire::Assignments) -> Vec<(u128, Option<u32>)> {
    let number = |id: &str| {
        (1..100)
            .find(|n| TaskId::from_number(*n).to_string() == id)
            .expect("a task of the test")
    };
    let change = |change: &wire::AssignmentChange| match change.change.as_ref().unwrap() {
        Change::UpdateTask(task) => Some((number(&task.id), Some(task.desired_state))),
        Change::RemoveTask(id) => Some((number(id), None)),
        Change::NetworkSettings(_) => None,
        other => panic!("an assignment of tasks alone, not {other:?}"),
    };
    set.changes.iter().filter_map(change).collect()
}

const RUNNING: Option<u32> = Some(512);
const SHUTDOWN: Option<u32> = Some(640);

#[tokio::test]
async fn assignments_are_complete_first_and_then_only_what_changed() {
    let mut fixture = Fixture::leading(&[(1, NodeState::Unknown), (2, NodeState::Unknown)]).await;
    let tasks = [
        task(1, 1, TaskState::Assigned),
        task(2, 1, TaskState::Failed),
        task(3, 1, TaskState::Pending),
        task(4, 2, TaskState::Assigned),
    ];
    fixture
        .propose(tasks.map(|t| Action::Create(t.into())).to_vec())
        .await;
    let mut agent = fixture.register(1).await.unwrap();
    let set = agent.assignments().await;
    assert_eq!(
        (set.kind(), set.applies_to, set.results_in),
        (Kind::Complete, 0, 1)
    );
    assert_eq!(
        changes(&set),
        [(1, RUNNING), (2, RUNNING)],
        "its own, from assigned on"
    );

    // What the agent reported itself is not sent back; what others want is.
    let running = Action::TaskStatus {
        task: TaskId::from_number(1),
        status: status(TaskState::Running),
    };
    fixture.propose(vec![running]).await;
    let stop = |n| Action::TaskDesired {
        task: TaskId::from_number(n),
        desired: TaskState::Shutdown,
    };
    fixture.propose(vec![stop(1), stop(4)]).await;
    let set = agent.assignments().await;
    assert_eq!(
        (set.kind(), set.applies_to, set.results_in),
        (Kind::Incremental, 1, 2)
    );
    assert_eq!(changes(&set), [(1, SHUTDOWN)]);

    // Assigned, deleted, and both before the agent heard of it.
    let assigned = Action::TaskStatus {
        task: TaskId::from_number(3),
        status: status(TaskState::Assigned),
    };
    let remove = |n| Action::Remove {
        id: ObjectId::Task(TaskId::from_number(n)),
        version: None,
    };
    fixture
        .propose(vec![
            assigned,
            remove(2),
            Action::Create(task(5, 1, TaskState::Assigned).into()),
            remove(5),
        ])
        .await;
    let set = agent.assignments().await;
    assert_eq!((set.applies_to, set.results_in), (2, 3));
    assert_eq!(changes(&set), [(2, None), (3, RUNNING)]);
}

#[tokio::test]
async fn a_session_hears_of_its_node_of_managers_and_of_roots() {
    let mut fixture = Fixture::leading(&[(1, NodeState::Unknown)]).await;
    let mut agent = fixture.register(1).await.unwrap();
    let notice = agent.notice().await;
    assert_eq!(
        (notice.managers.len(), notice.root_bundle_pem.as_str()),
        (0, "first root")
    );

    let mut manager = node(7, NodeState::Unknown);
    manager.manager_status = Some(ManagerStatus {
        raft_id: 7,
        addr: "10.0.0.7:2377".to_owned(),
    });
    fixture
        .propose(vec![Action::Create(Object::from(manager))])
        .await;
    assert_eq!(agent.notice().await.managers, ["10.0.0.7:2377"]);

    let mut own = types::Node::clone(fixture.store.state().node(NodeId::from_number(1)).unwrap());
    own.spec.role = types::NodeRole::Manager;
    fixture.propose(vec![Action::Update(own.into())]).await;
    let spec = agent.notice().await.node.unwrap().spec.unwrap();
    assert_eq!(spec.role(), proto::objects::NodeRole::Manager);

    let mut cluster = types::Cluster::clone(fixture.store.state().cluster().unwrap());
    cluster.root_ca.cert_pem = "second root".to_owned();
    fixture.propose(vec![Action::Update(cluster.into())]).await;
    assert_eq!(agent.notice().await.root_bundle_pem, "second root");
}

#[tokio::test]
async fn only_the_leader_takes_sessions() {
    let mut fixture = Fixture::new(&[(1, NodeState::Unknown)]).await;
    let refused = fixture.register(1).await.map(drop).unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(
        refused.metadata().get(crate::LEADER_KEY).unwrap(),
        "10.0.0.9:2377"
    );

    fixture.lead();
    fixture.until(|f| f.dispatcher.term().is_some()).await;
    let mut agent = fixture.register(1).await.unwrap();
    fixture.stop_leading();
    assert_eq!(agent.end().await.unwrap_err().code(), Code::Unavailable);
    fixture.until(|f| f.dispatcher.term().is_none()).await;
    let refused = fixture.register(1).await.map(drop).unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn nodes_that_are_not_in_the_store_are_sent_away() {
    let mut fixture = Fixture::leading(&[(1, NodeState::Unknown)]).await;
    let refused = fixture.register(2).await.map(drop).unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);

    let mut agent = fixture.register(1).await.unwrap();
    let id = ObjectId::Node(NodeId::from_number(1));
    fixture
        .propose(vec![Action::Remove { id, version: None }])
        .await;
    assert_eq!(agent.end().await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_session_that_is_let_in_while_leadership_goes_does_not_stay() {
    let mut fixture = Fixture::leading(&[(1, NodeState::Unknown)]).await;
    let term = fixture.dispatcher.term().unwrap();
    let mailbox = crate::mailbox::Mailbox::new(&term.token);
    fixture.stop_leading();
    fixture.until(|f| f.dispatcher.term().is_none()).await;
    assert_eq!(mailbox.ended().await.code(), Code::Unavailable);
    assert!(fixture.register(1).await.is_err());
}
