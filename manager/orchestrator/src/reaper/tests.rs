//! What is deleted, what is kept, and when.

use std::sync::Arc;

use types::TaskState::{
    Assigned, Complete, Failed, New, Orphaned, Pending, Preparing, Ready, Remove, Running, Shutdown,
};
use types::task::RestartCondition;
use types::update::UpdateStatus;

use super::*;
use crate::fixture::{Fixture, SERVICE, TaskOf, at, slot};

/// A live task after this many that failed.
fn history(fixture: Fixture, failed: u64) -> Fixture {
    let old = |made| slot(1).is(Failed).wanted(Shutdown).made(made).reached(made);
    (0..failed)
        .map(old)
        .fold(fixture, Fixture::task)
        .task(slot(1).made(failed))
}

fn limited(fixture: Fixture, limit: i64) -> Fixture {
    let mut fixture = fixture;
    let cluster = types::Cluster {
        id: types::ClusterId::from_number(1),
        meta: types::Meta::default(),
        spec: ClusterSpec {
            task_history_limit: limit,
            ..ClusterSpec::default()
        },
        root_ca: types::cluster::RootCaState {
            cert_pem: String::new(),
            key_pem: String::new(),
            worker_token: String::new(),
            manager_token: String::new(),
            ..types::cluster::RootCaState::default()
        },
        lock: types::cluster::ClusterLock::default(),
        revoked: std::collections::BTreeMap::new(),
        gossip_keys: vec![],
        content_key: types::Payload::default(),
        gossip_keys_at: types::Timestamp::default(),
        access: types::access::Access::default(),
    };
    fixture.apply(
        at(0),
        vec![Action::Create(Object::Cluster(Arc::new(cluster)))],
    );
    fixture
}

fn deleted(fixture: &Fixture) -> Vec<String> {
    fixture.plan(Reaper::default()).0
}

#[test]
fn the_limit_counts_the_live_task() {
    let table: [(i64, u64, usize); 8] = [
        (5, 4, 0),
        (5, 5, 1),
        (5, 9, 5),
        (2, 9, 8),
        (1, 9, 9),
        (0, 9, 9),
        (-1, 9, 0),
        (0, 0, 0),
    ];
    for (limit, failed, expected) in table {
        let fixture = limited(history(Fixture::replicated(1, 1), failed), limit);
        let deleted = deleted(&fixture);
        assert_eq!(deleted.len(), expected, "limit {limit}, {failed} failed");
        let oldest: Vec<_> = (1..=expected).map(|n| format!("delete {n}")).collect();
        assert_eq!(deleted, oldest, "oldest first, the live one never");
    }
    assert_eq!(
        deleted(&history(Fixture::replicated(1, 1), 6)).len(),
        2,
        "5 without a cluster"
    );
}

#[test]
fn enough_is_kept_to_count_attempts() {
    let fixture = Fixture::replicated(1, 1).policy(RestartCondition::Any, 5, 7, 0);
    assert_eq!(deleted(&history(fixture, 9)).len(), 2, "8 of 10 kept");
    let forever = Fixture::replicated(1, 1).policy(RestartCondition::Any, 5, u64::MAX, 0);
    assert_eq!(deleted(&history(forever, 9)).len(), 0);
}

#[test]
fn the_task_before_one_that_has_not_arrived_is_kept() {
    let fixture = |next: TaskOf| {
        let tasks = [
            slot(1).is(Failed).wanted(Shutdown),
            slot(1).is(Failed).wanted(Shutdown).made(1),
            next.made(2),
        ];
        limited(
            tasks
                .into_iter()
                .fold(Fixture::replicated(1, 1), Fixture::task),
            0,
        )
    };
    assert_eq!(
        deleted(&fixture(slot(1).is(Ready).wanted(Ready))),
        ["delete 1"]
    );
    assert_eq!(deleted(&fixture(slot(1).is(Preparing))), ["delete 1"]);
    assert_eq!(deleted(&fixture(slot(1))), ["delete 1", "delete 2"]);
    let updating =
        fixture(slot(1)).service(|service| service.update_status = Some(UpdateStatus::default()));
    assert_eq!(deleted(&updating), ["delete 1"]);
}

#[test]
fn the_last_task_of_a_slot_at_rest_is_kept() {
    let done = slot(1).is(Complete).wanted(Shutdown);
    let fixture = Fixture::replicated(1, 1)
        .task(done.clone())
        .task(done.made(1));
    assert_eq!(deleted(&limited(fixture, 0)), ["delete 1"]);
}

#[test]
fn what_still_runs_is_not_deleted() {
    let stopping = |made| slot(1).is(Running).wanted(Shutdown).made(made);
    let fixture = Fixture::replicated(1, 1)
        .task(stopping(0))
        .task(slot(1).unassigned().wanted(Shutdown).made(1))
        .task(slot(1).made(2));
    assert_eq!(
        deleted(&limited(fixture, 1)),
        ["delete 2"],
        "it never had a node"
    );
}

#[test]
fn removed_tasks_are_deleted_once_they_have_ended_or_if_they_never_began() {
    let table = [
        (slot(1).unassigned().is(New), true),
        (slot(1).unassigned().is(Pending), true),
        (slot(1).is(Assigned), false),
        (slot(1).is(Running), false),
        (slot(1).is(Shutdown), true),
        (slot(1).is(Failed), true),
        (slot(1).on(9).is(Running), true),
    ];
    for (task, expected) in table {
        let fixture = Fixture::replicated(0, 1).task(task.wanted(Remove));
        assert_eq!(
            !deleted(&fixture).is_empty(),
            expected,
            "{:?}",
            fixture.state.tasks().next()
        );
    }
}

#[test]
fn orphans_of_services_that_are_gone_are_deleted() {
    let mut fixture = Fixture::replicated(1, 1).task(slot(1).is(Orphaned).wanted(Shutdown));
    assert_eq!(deleted(&fixture), [""; 0]);
    let removal = Action::Remove {
        id: ObjectId::Service(SERVICE),
        version: None,
    };
    fixture.apply(at(0), vec![removal]);
    assert_eq!(deleted(&fixture), ["delete 1"]);
}

#[test]
fn deletions_gather_for_a_moment_unless_there_are_many() {
    let fixture = history(Fixture::replicated(1, 1), 9);
    let mut reaper = Reaper::default();
    let created = |task: &Arc<Task>| Change {
        old: None,
        new: Some(Object::Task(task.clone())),
    };
    for task in fixture.state.tasks() {
        reaper.observe(&created(task));
    }
    let plan = fixture.plan_with(&mut reaper);
    assert_eq!(
        (plan.transactions.len(), plan.wake_at),
        (0, Some(fixture.now.plus(GATHER)))
    );
    let later = fixture.later(GATHER);
    assert_eq!(later.plan_with(&mut reaper).transactions.concat().len(), 5);

    for number in 0..GATHERED_MAX {
        reaper.tasks.insert(TaskId::from_number(number as u128 + 1));
    }
    assert_eq!(
        later.plan_with(&mut reaper),
        Plan::default(),
        "worked off at once; none is over"
    );
    assert!(reaper.tasks.is_empty());
}

#[test]
fn a_lower_limit_applies_to_what_there_is() {
    let mut fixture = limited(history(Fixture::replicated(1, 1), 4), 5);
    let mut reaper = Reaper::default();
    let mut cluster = types::Cluster::clone(fixture.state.cluster().unwrap());
    cluster.spec.task_history_limit = 2;
    let update = Action::Update(Object::Cluster(Arc::new(cluster)));
    for change in fixture.apply(at(0), vec![update]) {
        reaper.observe(&change);
    }
    fixture.plan_with(&mut reaper);
    let later = fixture.later(GATHER);
    assert_eq!(later.plan_with(&mut reaper).transactions.concat().len(), 3);
}
