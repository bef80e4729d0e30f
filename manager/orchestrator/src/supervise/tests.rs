//! What one slot gets, by what is in it.

use types::task::RestartCondition::{Any, None as Never};
use types::update::{UpdateOrder, UpdateState, UpdateStatus};

use super::*;
use crate::fixture::{Fixture, TaskOf, slot};

use TaskState::{Failed, Orphaned, Preparing, Ready, Rejected, Shutdown, Starting};

fn one(tasks: impl IntoIterator<Item = TaskOf>) -> Fixture {
    tasks.into_iter().fold(
        Fixture::replicated(1, 3).policy(Any, 5, 0, 0),
        Fixture::task,
    )
}

#[test]
fn ended_and_lost_tasks_are_replaced() {
    let table: [(&str, Fixture, &[&str]); 10] = [
        ("runs", one([slot(1)]), &[]),
        ("is being made ready", one([slot(1).is(Preparing)]), &[]),
        (
            "failed",
            one([slot(1).is(Failed)]),
            &["1 shutdown", "create 1 ready"],
        ),
        (
            "failed, no delay",
            Fixture::replicated(1, 1)
                .policy(Any, 0, 0, 0)
                .task(slot(1).is(Failed)),
            &["1 shutdown", "create 1 running"],
        ),
        (
            "failed, policy none",
            Fixture::replicated(1, 1)
                .policy(Never, 5, 0, 0)
                .task(slot(1).is(Failed)),
            &["1 shutdown"],
        ),
        (
            "drained, policy none",
            Fixture::replicated(1, 1)
                .policy(Never, 5, 0, 0)
                .task(slot(1))
                .drained(1),
            &["1 shutdown", "create 1 ready"],
        ),
        (
            "node is down",
            one([slot(1)]).down(1),
            &["1 shutdown", "create 1 running"],
        ),
        (
            "node is gone",
            one([slot(1).on(9)]),
            &["1 shutdown", "create 1 running"],
        ),
        (
            "orphaned",
            one([slot(1).on(9).is(Orphaned)]),
            &["1 shutdown", "create 1 running"],
        ),
        (
            "failed on a node that is down since",
            one([slot(1).is(Failed)]).down(1),
            &["1 shutdown", "create 1 ready"],
        ),
    ];
    for (what, fixture, expected) in table {
        assert_eq!(fixture.lines(), expected, "{what}");
    }
}

#[test]
fn a_delayed_task_starts_when_its_time_has_come() {
    let restarted = || {
        one([
            slot(1).is(Failed).wanted(Shutdown).reached(10),
            slot(1).is(Ready).wanted(Ready).made(10),
        ])
    };
    let plan = |fixture: Fixture| fixture.plan(crate::Orchestrator::default());
    assert_eq!(plan(restarted().now(10)), (vec![], Some(15)));
    assert_eq!(plan(restarted().now(14)), (vec![], Some(15)));
    assert_eq!(
        plan(restarted().now(15)),
        (vec!["2 running".to_owned()], None)
    );
}

#[test]
fn a_moved_task_starts_when_its_predecessor_is_out_of_the_way() {
    let moved = |old: TaskOf| {
        one([
            old.wanted(Shutdown),
            slot(1).on(2).is(Ready).wanted(Ready).made(10),
        ])
    };
    let plan = |fixture: Fixture| fixture.plan(crate::Orchestrator::default());
    let started = (vec!["2 running".to_owned()], None);
    assert_eq!(
        plan(moved(slot(1)).now(10)),
        (vec![], Some(70)),
        "waits for at most a minute"
    );
    assert_eq!(plan(moved(slot(1)).now(69)), (vec![], Some(70)));
    assert_eq!(plan(moved(slot(1)).now(70)), started);
    assert_eq!(
        plan(moved(slot(1).is(Shutdown).reached(11)).now(11)),
        started
    );
    assert_eq!(plan(moved(slot(1)).now(11).down(1)), started);
    assert_eq!(
        plan(moved(slot(1).on(9)).now(11)),
        started,
        "its node is gone"
    );
    assert_eq!(
        plan(moved(slot(1).unassigned()).now(11)),
        started,
        "it never had a node"
    );
}

#[test]
fn the_minute_begins_after_the_delay() {
    let table = [(0, 10 + 60), (5, 15 + 60), (120, 130 + 60)];
    for (delay, latest) in table {
        let fixture = Fixture::replicated(1, 2)
            .policy(Any, delay, 0, 0)
            .task(slot(1).wanted(Shutdown))
            .task(slot(1).is(Failed).wanted(Shutdown).made(5).reached(10))
            .task(slot(1).on(2).is(Ready).wanted(Ready).made(10));
        let early = fixture.now(latest - 1);
        assert_eq!(early.lines(), [""; 0], "delay {delay}");
        assert_eq!(early.now(latest).lines(), ["3 running"], "delay {delay}");
    }
}

#[test]
fn a_task_that_fails_before_its_delay_is_over_does_not_hasten_the_next() {
    let fixture = one([
        slot(1).is(Rejected).wanted(Shutdown).reached(10),
        slot(1).is(Rejected).wanted(Ready).made(10).reached(11),
    ]);
    let early = fixture.now(11);
    assert_eq!(
        early.plan(crate::Orchestrator::default()),
        (vec![], Some(15))
    );
    assert_eq!(early.now(15).lines(), ["2 shutdown", "create 1 ready"]);
}

#[test]
fn of_two_tasks_of_one_spec_the_better_one_stays() {
    let table: [(&str, Fixture, &[&str]); 4] = [
        (
            "the one that runs",
            one([slot(1).is(Preparing), slot(1).on(2)]),
            &["1 shutdown"],
        ),
        (
            "the newer one",
            one([slot(1), slot(1).on(2).made(1)]),
            &["1 shutdown"],
        ),
        (
            "the one on a good node",
            one([slot(1), slot(1).on(2).is(Preparing)]).drained(1),
            &["1 shutdown"],
        ),
        (
            "none is good: one replacement",
            one([slot(1).is(Failed), slot(1).is(Failed).made(1)]),
            &["1 shutdown", "2 shutdown", "create 1 ready"],
        ),
    ];
    for (what, fixture, expected) in table {
        assert_eq!(fixture.lines(), expected, "{what}");
    }
}

/// An update that has begun, so that slots are only supervised.
fn paused(fixture: Fixture, order: UpdateOrder) -> Fixture {
    fixture.service(|service| {
        service.update_status = Some(UpdateStatus {
            state: UpdateState::Paused,
            ..UpdateStatus::default()
        });
        service.spec.update_config.order = order;
    })
}

#[test]
fn an_old_and_a_new_task_share_a_slot_only_as_the_order_says() {
    use UpdateOrder::{StartFirst, StopFirst};
    let old = || slot(1).outdated();
    let new = || slot(1).on(2).made(10);
    let table: [(&str, UpdateOrder, [TaskOf; 2], &[&str]); 6] = [
        ("new runs", StartFirst, [old(), new()], &["1 shutdown"]),
        ("new starts", StartFirst, [old(), new().is(Starting)], &[]),
        (
            "stop first",
            StopFirst,
            [old(), new().is(Starting)],
            &["1 shutdown"],
        ),
        (
            "new failed",
            StartFirst,
            [old(), new().is(Failed)],
            &["2 shutdown", "create 1 ready"],
        ),
        (
            "old failed",
            StartFirst,
            [old().is(Failed), new().is(Starting)],
            &["1 shutdown"],
        ),
        (
            "both outdated",
            StartFirst,
            [old(), old().on(2).is(Starting).made(10)],
            &[],
        ),
    ];
    for (what, order, tasks, expected) in table {
        let fixture = Fixture::replicated(1, 2).policy(Any, 5, 0, 0);
        // The order is part of the spec, so it is set before tasks are made from it.
        let fixture = tasks
            .into_iter()
            .fold(paused(fixture, order), Fixture::task);
        assert_eq!(fixture.lines(), expected, "{what}");
    }
}

#[test]
fn a_task_that_waits_for_its_update_is_restarted_as_it_was() {
    let fixture = paused(
        Fixture::replicated(1, 1).policy(Any, 5, 0, 0),
        UpdateOrder::StopFirst,
    )
    .service(|service| {
        std::sync::Arc::make_mut(&mut service.spec.task)
            .container
            .image = "new".into()
    })
    .task(slot(1).outdated().is(Failed));
    assert_eq!(fixture.lines(), ["1 shutdown", "create 1 old ready"]);
}
