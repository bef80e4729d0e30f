//! Changes of nodes, and the guards that keep a quorum.

use store::{Action, Object};
use types::node::{Availability, NodeState};
use types::{NodeId, NodeRole, NodeSpec, Task, TaskState, Timestamp};

use crate::testing::Fixture;
use crate::{ClusterStatus as _, Error};

async fn set(fixture: &Fixture, number: u64, change: impl Fn(&mut NodeSpec)) -> Result<(), Error> {
    let id = NodeId::from_number(number.into());
    let node = fixture.api.get_node(id.as_str()).unwrap().node;
    let mut spec = node.spec.clone();
    change(&mut spec);
    fixture
        .api
        .update_node(id, node.meta.version, spec)
        .await
        .map(drop)
}

async fn demote(fixture: &Fixture, number: u64) -> Result<(), Error> {
    set(fixture, number, |spec| spec.role = NodeRole::Worker).await
}

#[tokio::test]
async fn availability_and_labels_change() {
    let fixture = Fixture::new(1, 1).await;
    let drain = |spec: &mut NodeSpec| {
        spec.availability = Availability::Drain;
        spec.labels.insert("zone".into(), "a".into());
    };
    set(&fixture, 2, drain).await.unwrap();
    let node = fixture.api.get_node("n2").unwrap().node;
    assert_eq!(node.spec.availability, Availability::Drain);
    assert_eq!(node.spec.labels["zone"], "a");
    let unnamed = |spec: &mut NodeSpec| drop(spec.labels.insert(String::new(), "a".into()));
    let error = set(&fixture, 2, unnamed).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "Labels: the label with value \"a\" has no name"
    );
}

#[tokio::test]
async fn a_version_that_is_not_stored_is_refused() {
    let fixture = Fixture::new(1, 1).await;
    let node = fixture.api.get_node("n2").unwrap().node;
    fixture.node_state(2, NodeState::Ready).await;
    let error = fixture
        .api
        .update_node(node.id, node.meta.version, node.spec.clone())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Stale { .. }), "{error}");
    assert!(
        error
            .to_string()
            .starts_with("update out of sequence: node ")
    );
}

#[tokio::test]
async fn demotions_keep_a_manager_and_a_quorum() {
    let fixture = Fixture::new(1, 1).await;
    let error = demote(&fixture, 1).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "attempting to demote the last manager of the swarm"
    );

    let fixture = Fixture::new(3, 0).await;
    demote(&fixture, 3).await.unwrap();
    assert_eq!(
        fixture.api.get_node("n3").unwrap().node.spec.role,
        NodeRole::Worker
    );

    let fixture = Fixture::new(3, 0).await;
    fixture.group.cut_off(2);
    let error = demote(&fixture, 3).await.unwrap_err().to_string();
    assert!(
        error.contains("loss of quorum (1 of the 2 other managers"),
        "{error}"
    );
    demote(&fixture, 2)
        .await
        .expect("the one that is cut off may go");

    let fixture = Fixture::new(3, 0).await;
    fixture.node_state(2, NodeState::Down).await;
    let error = demote(&fixture, 3).await.unwrap_err().to_string();
    assert!(
        error.contains("loss of quorum"),
        "a node that is down counts as cut off: {error}"
    );
}

#[tokio::test]
async fn demotions_exclude_each_other() {
    let fixture = Fixture::new(3, 0).await;
    let cluster = fixture.store.state().cluster().unwrap().meta.version;
    demote(&fixture, 3).await.unwrap();
    assert!(
        fixture.store.state().cluster().unwrap().meta.version > cluster,
        "a demotion decided on the older version must be refused"
    );
}

#[tokio::test]
async fn views_tell_who_leads() {
    let fixture = Fixture::new(2, 1).await;
    fixture.group.cut_off(2);
    let list = fixture.api.list_nodes();
    let seen: Vec<_> = list
        .nodes
        .iter()
        .map(|view| (view.leader, view.reachable))
        .collect();
    assert_eq!(seen, [(true, true), (false, false), (false, false)]);
    assert_eq!(list.self_id, fixture.group.self_id());
}

#[tokio::test]
async fn only_workers_that_are_down_go_without_force() {
    let fixture = Fixture::new(1, 1).await;
    let error = fixture
        .api
        .remove_node("n1", true)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.ends_with("is a manager and must be demoted to worker before removal"),
        "{error}"
    );
    let error = fixture
        .api
        .remove_node("n2", false)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("is not down and can't be removed"),
        "{error}"
    );
    fixture.node_state(2, NodeState::Down).await;
    let id = fixture.api.remove_node("n2", false).await.unwrap();
    assert_eq!(id, NodeId::from_number(2));
    assert!(fixture.api.get_node("n2").is_err());
    let revoked = fixture.store.state().cluster().unwrap().revoked.clone();
    assert!(
        revoked[&id] > Timestamp::now(),
        "its certificate is refused while it is valid"
    );
}

#[tokio::test]
async fn a_demoted_manager_stays_until_it_left_the_group() {
    let fixture = Fixture::new(3, 0).await;
    demote(&fixture, 3).await.unwrap();
    let mut node = types::Node::clone(&fixture.api.get_node("n3").unwrap().node);
    node.role = NodeRole::Worker;
    fixture.act(Action::Update(Object::from(node))).await;
    assert!(fixture.api.remove_node("n3", true).await.is_err());
    fixture.group.leave(3);
    fixture.api.remove_node("n3", true).await.unwrap();
}

#[tokio::test]
async fn every_live_task_of_a_removed_node_is_orphaned() {
    let fixture = Fixture::new(1, 2).await;
    let web = fixture.service("web").await;
    let elsewhere = fixture.task(1, &web, 1, 3, TaskState::Running).await;
    let ended = fixture.task(2, &web, 2, 2, TaskState::Failed).await;
    for number in 3..503 {
        let slot = u64::try_from(number).unwrap();
        fixture
            .task(number, &web, slot, 2, TaskState::Running)
            .await;
    }
    fixture.api.remove_node("n2", true).await.unwrap();
    let state = fixture.store.state();
    let states = |task: &&std::sync::Arc<Task>| task.status.state == TaskState::Orphaned;
    assert_eq!(state.tasks().filter(states).count(), 500);
    assert_eq!(
        state.task(elsewhere).unwrap().status.state,
        TaskState::Running
    );
    assert_eq!(state.task(ended).unwrap().status.state, TaskState::Failed);
}
