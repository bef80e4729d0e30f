//! Who is rejected, and who may stay.

use std::sync::Arc;

use types::NodeId;
use types::TaskState::{Complete, Pending, Shutdown};

use super::*;
use crate::fixture::{Fixture, slot};

fn lines(fixture: &Fixture) -> Vec<String> {
    fixture.plan(Enforcer::default()).0
}

fn reserving(fixture: Fixture, nano_cpus: u64) -> Fixture {
    fixture.service(|service| {
        let task = Arc::make_mut(&mut service.spec.task);
        task.resources.reservations.nano_cpus = nano_cpus;
    })
}

fn constrained(fixture: Fixture) -> Fixture {
    fixture.service(|service| {
        let task = Arc::make_mut(&mut service.spec.task);
        task.placement.constraints = vec!["node.labels.disk==ssd".into()];
    })
}

#[test]
fn constraints_in_force_are_those_of_the_service_now() {
    let tasks = || {
        Fixture::replicated(2, 2)
            .task(slot(1).on(1))
            .task(slot(2).on(2))
    };
    let labelled = |fixture: Fixture| {
        fixture.node(1, |node| {
            drop(node.spec.labels.insert("disk".into(), "ssd".into()))
        })
    };
    assert_eq!(lines(&tasks()), [""; 0]);
    assert_eq!(lines(&labelled(constrained(tasks()))), ["2 is rejected"]);
    assert_eq!(
        lines(&constrained(tasks())),
        ["1 is rejected", "2 is rejected"]
    );
}

#[test]
fn only_tasks_that_are_placed_and_wanted_are_judged() {
    let fixture = Fixture::replicated(3, 1)
        .task(slot(1).is(Complete))
        .task(slot(2).wanted(Shutdown))
        .task(slot(3).unassigned().is(Pending));
    assert_eq!(lines(&constrained(fixture)), [""; 0]);
}

#[test]
fn paused_and_drained_nodes_are_not_judged() {
    for availability in [Availability::Pause, Availability::Drain] {
        let fixture = constrained(Fixture::replicated(1, 1).task(slot(1)));
        let fixture = fixture.node(1, |node| node.spec.availability = availability);
        assert_eq!(lines(&fixture), [""; 0], "{availability}");
    }
}

#[test]
fn when_a_node_shrinks_the_tasks_placed_first_stay() {
    let three = || {
        reserving(Fixture::replicated(3, 1), 1_000_000_000)
            .task(slot(1).made(3))
            .task(slot(2).made(1))
            .task(slot(3).made(2))
    };
    let with_cpus = |cpus: u64| {
        let fixture = three().node(1, |node| {
            node.description.as_mut().unwrap().resources.nano_cpus = cpus * 1_000_000_000;
        });
        lines(&fixture)
    };
    assert_eq!(with_cpus(3), [""; 0]);
    assert_eq!(with_cpus(2), ["1 is rejected"]);
    assert_eq!(with_cpus(1), ["3 is rejected", "1 is rejected"]);
}

#[test]
fn a_task_that_reserves_nothing_lacks_nothing() {
    let fixture = reserving(Fixture::replicated(2, 1), 9_000_000_000)
        .task(slot(1))
        .service(|service| {
            Arc::make_mut(&mut service.spec.task)
                .resources
                .reservations
                .nano_cpus = 0;
        })
        .task(slot(2).made(1));
    assert_eq!(
        lines(&fixture),
        ["1 is rejected"],
        "the second reserves nothing"
    );
}

#[test]
fn global_tasks_are_left_to_the_orchestrator() {
    let fixture = constrained(Fixture::global(1).task(slot(0)));
    assert_eq!(lines(&fixture), [""; 0]);
}

#[test]
fn only_changes_that_matter_are_looked_at() {
    let fixture = Fixture::replicated(1, 1);
    let old = fixture.state.node(NodeId::from_number(1)).unwrap().clone();
    let mut enforcer = Enforcer::default();
    let mut observe = |edit: fn(&mut Node)| {
        let mut new = Node::clone(&old);
        edit(&mut new);
        let old = Some(old.clone().into());
        enforcer.observe(&Change {
            old,
            new: Some(new.into()),
        });
        std::mem::take(&mut enforcer.dirty).len()
    };
    assert_eq!(observe(|node| node.status.message = "heartbeat".into()), 0);
    assert_eq!(
        observe(|node| drop(node.spec.labels.insert("a".into(), "b".into()))),
        1
    );
    assert_eq!(observe(|node| node.role = types::NodeRole::Manager), 1);
    assert_eq!(
        observe(|node| node.description.as_mut().unwrap().resources.nano_cpus = 1),
        1
    );
}
