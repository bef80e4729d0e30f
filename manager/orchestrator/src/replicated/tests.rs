//! How many slots, which numbers, and who goes first.

use types::TaskState::{Complete, Failed, Preparing, Remove, Shutdown};
use types::task::RestartCondition::{None as Never, OnFailure};

use crate::fixture::{Fixture, TaskOf, slot};

fn with(replicas: u64, tasks: impl IntoIterator<Item = TaskOf>) -> Fixture {
    tasks
        .into_iter()
        .fold(Fixture::replicated(replicas, 3), Fixture::task)
}

#[test]
fn free_numbers_are_filled_from_below() {
    let table: [(u64, &[u64], &[&str]); 6] = [
        (0, &[], &[]),
        (
            3,
            &[],
            &["create 1 running", "create 2 running", "create 3 running"],
        ),
        (3, &[1, 2, 3], &[]),
        (3, &[2], &["create 1 running", "create 3 running"]),
        (4, &[1, 5], &["create 2 running", "create 3 running"]),
        (2, &[7, 9], &[]),
    ];
    for (replicas, numbers, expected) in table {
        let fixture = with(replicas, numbers.iter().map(|number| slot(*number)));
        assert_eq!(fixture.lines(), expected, "{replicas} with {numbers:?}");
    }
}

/// Which tasks go when `tasks`, numbered from 1, are scaled down to `replicas`.
fn removed(replicas: u64, tasks: impl IntoIterator<Item = TaskOf>) -> Vec<String> {
    with(replicas, tasks).lines()
}

#[test]
fn crowded_nodes_lose_first_and_tasks_without_a_place_before_them() {
    let spread = || {
        [
            slot(1).on(1),
            slot(2).on(2),
            slot(3).on(1),
            slot(4).on(1),
            slot(5).on(2),
        ]
    };
    assert_eq!(removed(4, spread()), ["4 remove"], "n1 has three");
    assert_eq!(
        removed(3, spread()),
        ["4 remove", "5 remove"],
        "then the second ones: 5, 3"
    );
    assert_eq!(removed(2, spread()), ["4 remove", "5 remove", "3 remove"]);
    assert_eq!(
        removed(1, spread()).last().unwrap(),
        "2 remove",
        "higher number of two firsts"
    );
    assert_eq!(removed(0, spread()).len(), 5);

    let unassigned = [slot(1).unassigned(), slot(2).on(1), slot(3).on(1)];
    assert_eq!(
        removed(2, unassigned),
        ["1 remove"],
        "no place goes before a crowd"
    );
    let doubled = [
        slot(1).on(1),
        slot(1).on(2).outdated(),
        slot(2).on(3),
        slot(3).on(3),
    ];
    assert_eq!(
        removed(2, doubled),
        ["1 remove", "2 remove"],
        "a slot in an update goes early"
    );
}

#[test]
fn on_one_node_those_that_do_not_run_go_before_those_that_do() {
    let tasks = [slot(1).is(Preparing), slot(2), slot(3)];
    assert_eq!(removed(2, tasks.clone()), ["1 remove"]);
    assert_eq!(removed(1, tasks), ["1 remove", "3 remove"]);
    // Between first copies of different nodes as well.
    let tasks = [slot(1).on(1).is(Preparing), slot(2).on(2)];
    assert_eq!(removed(1, tasks), ["1 remove"]);
}

#[test]
fn a_slot_goes_with_its_history() {
    let tasks = [
        slot(1),
        slot(2).is(Failed).wanted(Shutdown),
        slot(2).made(1),
    ];
    assert_eq!(removed(1, tasks), ["2 remove", "3 remove"]);
}

#[test]
fn a_slot_at_rest_counts_as_filled() {
    let complete = || slot(1).is(Complete).wanted(Shutdown);
    let filled = Fixture::replicated(2, 1).policy(OnFailure, 5, 0, 0);
    assert_eq!(
        filled.task(complete()).task(slot(2)).lines(),
        [""; 0],
        "two replicas, one runs"
    );
    let failed = Fixture::replicated(1, 1).policy(Never, 5, 0, 0);
    assert_eq!(failed.task(complete().is(Failed)).lines(), [""; 0]);
    // One that was stopped is not at rest: its slot is empty.
    let stopped = Fixture::replicated(1, 1).policy(Never, 5, 0, 0);
    assert_eq!(
        stopped.task(complete().is(Shutdown)).lines(),
        ["create 1 running"]
    );
}

#[test]
fn slots_without_a_live_task_are_filled_again_or_forgotten() {
    let history = |number| slot(number).is(Shutdown).wanted(Shutdown);
    assert_eq!(with(1, [slot(1), history(4)]).lines(), ["2 remove"]);
    // Refilled, the slot keeps its history.
    assert_eq!(with(2, [slot(1), history(2)]).lines(), ["create 2 running"]);
    // What still stops there is waited for; what is to be removed is of no concern.
    let stopping = || slot(2).wanted(Shutdown);
    assert_eq!(with(2, [slot(1), stopping()]).lines(), ["create 2 ready"]);
    assert_eq!(
        with(2, [slot(1), stopping().wanted(Remove)]).lines(),
        ["create 2 running"]
    );
}

#[test]
fn great_numbers_are_made_in_several_plans() {
    let (lines, _) = Fixture::replicated(1_000_000_000, 1).plan(crate::Orchestrator::default());
    assert_eq!(lines.len(), super::SLOTS_MADE_MAX);
}
