//! Which nodes get a task, keep it or give it up.

use std::sync::Arc;

use types::NodeId;
use types::TaskState::{Complete, Failed, Pending, Ready, Rejected, Running, Shutdown};
use types::node::{Availability, NodeState};
use types::task::RestartCondition::{Any, OnFailure};

use crate::fixture::{Fixture, TaskOf, slot};

/// A task of a global service on a node.
fn on(node: u128) -> TaskOf {
    slot(0).on(node)
}

fn paused(fixture: Fixture, node: u128) -> Fixture {
    fixture.node(node, |node| node.spec.availability = Availability::Pause)
}

#[test]
fn every_node_that_fits_has_one() {
    let fixture = || Fixture::global(2).policy(Any, 5, 0, 0);
    let table: [(&str, Fixture, &[&str]); 13] = [
        (
            "new",
            fixture(),
            &["create n1 running", "create n2 running"],
        ),
        ("complete", fixture().task(on(1)).task(on(2)), &[]),
        ("joined", fixture().task(on(1)), &["create n2 running"]),
        (
            "not heard of yet",
            fixture()
                .task(on(1))
                .node(2, |n| n.status.state = NodeState::Unknown),
            &["create n2 running"],
        ),
        (
            "drained",
            fixture().task(on(1)).task(on(2)).drained(2),
            &["2 shutdown"],
        ),
        (
            "down",
            fixture().task(on(1)).task(on(2)).down(2),
            &["2 shutdown"],
        ),
        (
            "down, waiting for it",
            fixture().task(on(1)).task(on(2).is(Pending)).down(2),
            &["2 shutdown"],
        ),
        (
            "gone",
            fixture().task(on(1)).task(on(2)).task(on(9)),
            &["3 remove"],
        ),
        (
            "paused keeps",
            paused(fixture().task(on(1)).task(on(2)), 2),
            &[],
        ),
        ("paused gets none", paused(fixture().task(on(1)), 2), &[]),
        (
            "failed",
            fixture().task(on(1)).task(on(2).is(Failed)),
            &["2 shutdown", "create n2 ready"],
        ),
        (
            "failed while paused",
            paused(fixture().task(on(1)).task(on(2).is(Failed)), 2),
            &["2 shutdown"],
        ),
        (
            "back, its old task still stopping",
            fixture().task(on(1)).task(on(2).wanted(Shutdown)),
            &["create n2 ready"],
        ),
    ];
    for (what, fixture, expected) in table {
        assert_eq!(fixture.lines(), expected, "{what}");
    }
}

#[test]
fn what_completed_is_done_on_its_node() {
    let done = |state| {
        Fixture::global(1)
            .policy(OnFailure, 5, 0, 0)
            .task(on(1).is(state).wanted(Shutdown))
    };
    assert_eq!(done(Complete).lines(), [""; 0]);
    assert_eq!(done(Rejected).lines(), ["create n1 running"]);
    assert_eq!(
        done(Shutdown).lines(),
        ["create n1 running"],
        "it was only stopped"
    );
}

#[test]
fn constraints_decide_and_may_change() {
    let constrained = || {
        Fixture::global(2).service(|service| {
            let task = Arc::make_mut(&mut service.spec.task);
            task.placement.constraints = vec!["node.labels.tier==a".into()];
        })
    };
    let label = |fixture: Fixture, node| {
        fixture.node(node, |node| {
            drop(node.spec.labels.insert("tier".into(), "a".into()))
        })
    };
    assert_eq!(constrained().lines(), [""; 0]);
    assert_eq!(label(constrained(), 2).lines(), ["create n2 running"]);
    assert_eq!(label(constrained(), 2).task(on(2)).lines(), [""; 0]);
    assert_eq!(constrained().task(on(2)).lines(), ["1 shutdown"]);
}

#[test]
fn a_delayed_task_starts_on_its_node() {
    let fixture = Fixture::global(1)
        .policy(Any, 5, 0, 0)
        .task(on(1).is(Failed).wanted(Shutdown).reached(10))
        .task(on(1).is(Ready).wanted(Ready).made(10));
    assert_eq!(fixture.now(15).lines(), ["2 running"]);
}

#[test]
fn a_change_of_any_node_is_noticed() {
    let mut fixture = Fixture::global(1).task(on(1).is(Running));
    let mut planner = crate::Orchestrator::default();
    store::Planner::resync(&mut planner, &fixture.state);
    assert_eq!(fixture.plan_with(&mut planner), store::Plan::default());
    let mut node = types::Node::clone(fixture.state.node(NodeId::from_number(1)).unwrap());
    node.spec.availability = Availability::Drain;
    let now = fixture.now;
    for change in fixture.apply(now, vec![store::Action::Update(node.into())]) {
        store::Planner::observe(&mut planner, &change);
    }
    assert_eq!(fixture.plan_with(&mut planner).transactions.len(), 1);
}
