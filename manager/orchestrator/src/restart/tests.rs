//! Conditions, attempts and delays.

use types::task::RestartCondition::{self, Any, None as Never, OnFailure};

use super::*;
use crate::fixture::{Fixture, SERVICE, at, slot};
use crate::slot::group;

use TaskState::{Complete, Failed, Ready, Rejected, Running, Shutdown};

/// Whether the last task of slot 1 may be restarted.
fn allowed(fixture: &Fixture) -> bool {
    let tasks: Vec<_> = fixture
        .state
        .tasks_of_service(SERVICE)
        .map(|task| &**task)
        .collect();
    let slots = group(&tasks);
    let slot = slots.values().next().unwrap();
    is_allowed(slot, slot.newest().unwrap())
}

#[test]
fn conditions() {
    let table: [(RestartCondition, TaskState, bool); 9] = [
        (Never, Complete, false),
        (Never, Failed, false),
        (Never, Rejected, false),
        (OnFailure, Complete, false),
        (OnFailure, Failed, true),
        (OnFailure, Rejected, true),
        (Any, Complete, true),
        (Any, Failed, true),
        (Any, Rejected, true),
    ];
    for (condition, state, expected) in table {
        let fixture = Fixture::replicated(1, 1)
            .policy(condition, 5, 0, 0)
            .task(slot(1).is(state));
        assert_eq!(allowed(&fixture), expected, "{condition:?} {state}");
    }
}

/// Tasks that failed, each made when its predecessor ended.
fn chain(fixture: Fixture, times: &[(u64, u64)]) -> Fixture {
    times.iter().fold(fixture, |fixture, (made, ended)| {
        fixture.task(
            slot(1)
                .is(Failed)
                .wanted(Shutdown)
                .made(*made)
                .reached(*ended),
        )
    })
}

#[test]
fn attempts_are_counted_from_the_stored_tasks() {
    let two = || Fixture::replicated(1, 1).policy(Any, 0, 2, 0);
    assert!(
        allowed(&chain(two(), &[(0, 10)])),
        "the first run is no attempt"
    );
    assert!(allowed(&chain(two(), &[(0, 10), (10, 20)])));
    assert!(!allowed(&chain(two(), &[(0, 10), (10, 20), (20, 30)])));
}

#[test]
fn attempts_before_the_window_do_not_count() {
    let two = || Fixture::replicated(1, 1).policy(Any, 0, 2, 15);
    assert!(
        !allowed(&chain(two(), &[(0, 10), (10, 17), (17, 24)])),
        "made at 10 and 17, ended 24"
    );
    assert!(
        allowed(&chain(two(), &[(0, 10), (10, 20), (20, 30)])),
        "made at 10 is 20 s ago"
    );
}

#[test]
fn moves_and_updates_are_no_attempts() {
    let one = || Fixture::replicated(1, 1).policy(Any, 0, 1, 0);
    let moved = one()
        .task(slot(1).is(Shutdown).wanted(Shutdown).made(0).reached(12))
        .task(slot(1).is(Failed).made(10).reached(20));
    assert!(allowed(&moved), "its predecessor was stopped");
    let lost = one()
        .task(slot(1).is(Failed).wanted(Shutdown).made(0).reached(15))
        .task(slot(1).is(Failed).made(10).reached(20));
    assert!(
        allowed(&lost),
        "its predecessor was only later found to have failed"
    );
    let updated = one()
        .task(
            slot(1)
                .is(Failed)
                .wanted(Shutdown)
                .made(0)
                .reached(10)
                .version(7),
        )
        .task(slot(1).is(Failed).made(10).reached(20));
    assert!(allowed(&updated), "another version starts anew");
    assert!(!allowed(&chain(one(), &[(0, 10), (10, 20)])));
}

#[test]
fn only_restarts_are_delayed() {
    let five = || Fixture::replicated(1, 1).policy(Any, 5, 0, 0);
    let next = || slot(1).is(Ready).wanted(Ready).made(10);
    let table = [
        (
            "restart",
            five().task(slot(1).is(Failed).reached(10)).task(next()),
            15,
        ),
        (
            "completed",
            five().task(slot(1).is(Complete).reached(10)).task(next()),
            15,
        ),
        (
            "moved",
            five().task(slot(1).is(Shutdown).reached(11)).task(next()),
            10,
        ),
        (
            "still runs",
            five().task(slot(1).is(Running)).task(next()),
            10,
        ),
        (
            "updated",
            five()
                .task(slot(1).outdated().is(Failed).reached(10))
                .task(next()),
            10,
        ),
        ("first", five().task(next()), 10),
    ];
    for (what, fixture, expected) in table {
        let tasks: Vec<_> = fixture
            .state
            .tasks_of_service(SERVICE)
            .map(|task| &**task)
            .collect();
        let slots = group(&tasks);
        let slot = slots.values().next().unwrap();
        assert_eq!(
            delay_ends(slot, slot.newest().unwrap()),
            at(expected),
            "{what}"
        );
    }
}

#[test]
fn what_was_rejected_waits_at_least_a_second() {
    for (delay_secs, state, expected_ms) in [
        (0, Failed, 0),
        (0, Rejected, 1000),
        (5, Failed, 5000),
        (5, Rejected, 5000),
    ] {
        let fixture = Fixture::replicated(1, 1)
            .policy(Any, delay_secs, 0, 0)
            .task(slot(1).is(state));
        let task = fixture.state.task(Fixture::task_id(1)).unwrap();
        assert_eq!(
            delay(task),
            Duration::from_millis(expected_ms),
            "{delay_secs} {state}"
        );
    }
}
