//! Steps of an update, one plan at a time.

use types::Service;
use types::TaskState::{Complete, Failed, Pending, Ready, Rejected, Running, Shutdown, Starting};
use types::update::UpdateOrder::{StartFirst, StopFirst};

use super::*;
use crate::Orchestrator;
use crate::fixture::{Fixture, TaskOf, at, slot};

/// A service whose update began ten seconds after the start.
fn updating(replicas: u64, edit: impl FnOnce(&mut UpdateConfig)) -> Fixture {
    Fixture::replicated(replicas, 4).service(|service| {
        edit(&mut service.spec.update_config);
        service.update_status = Some(begun(UpdateState::Updating));
    })
}

fn begun(state: UpdateState) -> UpdateStatus {
    let message = "update in progress".to_owned();
    UpdateStatus {
        state,
        started_at: at(10),
        completed_at: Timestamp::default(),
        message,
    }
}

fn old(number: u64) -> TaskOf {
    slot(number).outdated()
}

/// The old task of a slot, given up for a new one.
fn replaced(number: u64) -> TaskOf {
    old(number).is(Shutdown).wanted(Shutdown).reached(11)
}

/// A task made by the update.
fn new(number: u64) -> TaskOf {
    slot(number).made(11)
}

fn with(fixture: Fixture, tasks: impl IntoIterator<Item = TaskOf>) -> Fixture {
    tasks.into_iter().fold(fixture, Fixture::task)
}

#[test]
fn an_update_is_opened_before_anything_is_changed() {
    let fixture = with(Fixture::replicated(2, 2), [old(1), old(2)]);
    assert_eq!(fixture.lines(), ["Updating: update in progress"]);
    let clean = with(Fixture::replicated(2, 2), [slot(1), slot(2)]);
    assert_eq!(clean.lines(), [""; 0], "nothing to update, no status");
}

#[test]
fn as_many_slots_are_begun_as_parallelism_allows() {
    let stop = |n: u64| [format!("{n} shutdown"), format!("create {n} ready")];
    for (parallelism, slots) in [(1, 1), (2, 2), (3, 3), (0, 4)] {
        let fixture = updating(4, |config| config.parallelism = parallelism);
        let fixture = with(fixture, (1..=4).map(old)).now(10);
        let expected: Vec<_> = (1..=slots).flat_map(stop).collect();
        assert_eq!(fixture.lines(), expected, "parallelism {parallelism}");
    }
}

#[test]
fn slots_that_do_not_run_are_updated_first() {
    let fixture = with(updating(3, |_| {}), [old(1), old(2), old(3).unassigned()]);
    assert_eq!(fixture.now(10).lines(), ["3 shutdown", "create 3 running"]);
}

#[test]
fn the_order_says_which_task_yields() {
    let fixture = |order| {
        updating(1, |config| config.order = order)
            .task(old(1))
            .now(10)
    };
    assert_eq!(fixture(StopFirst).lines(), ["1 shutdown", "create 1 ready"]);
    assert_eq!(fixture(StartFirst).lines(), ["create 1 running"]);
    // A slot at rest holds nothing that could yield.
    let mut spec = types::TaskSpec::default();
    spec.restart_policy.condition = RestartCondition::None;
    let dead = slot(1).version(1).spec(spec).is(Failed).wanted(Shutdown);
    for order in [StopFirst, StartFirst] {
        let fixture = updating(1, |config| config.order = order)
            .task(dead.clone())
            .now(10);
        assert_eq!(fixture.lines(), ["create 1 running"], "{order:?}");
    }
}

#[test]
fn a_slot_under_way_takes_up_parallelism_until_its_task_runs() {
    let pair = |state| [replaced(1), new(1).is(state), old(2)];
    for state in [Pending, Ready, Starting] {
        let fixture = with(updating(2, |_| {}), pair(state)).now(12);
        assert_eq!(fixture.lines(), [""; 0], "{state}");
    }
    let next = ["3 shutdown", "create 2 ready"];
    assert_eq!(
        with(updating(2, |_| {}), pair(Running)).now(12).lines(),
        next
    );
}

#[test]
fn the_next_slot_waits_for_the_pause() {
    let fixture = || {
        let service = updating(2, |config| config.delay = Duration::from_secs(5));
        with(service, [replaced(1), new(1).reached(12), old(2)])
    };
    assert_eq!(
        fixture().now(16).plan(Orchestrator::default()),
        (vec![], Some(17))
    );
    assert_eq!(fixture().now(17).lines(), ["3 shutdown", "create 2 ready"]);
}

#[test]
fn it_completes_once_the_last_task_was_watched() {
    let done =
        |edit: fn(&mut UpdateConfig)| with(updating(1, edit), [replaced(1), new(1).reached(12)]);
    let completed = ["Completed: update completed"];
    let default = done(|_| {});
    assert_eq!(default.plan(Orchestrator::default()), (vec![], Some(17)));
    assert_eq!(default.now(17).lines(), completed);
    let slow = || done(|config| config.delay = Duration::from_secs(7));
    assert_eq!(slow().now(26).lines(), [""; 0], "7 s pause and 8 s watch");
    assert_eq!(slow().now(27).lines(), completed);
    let careless = || done(|config| config.failure_action = FailureAction::Continue);
    assert_eq!(careless().now(12).lines(), completed, "nobody watches");
    let empty = updating(1, |_| {}).task(slot(1));
    assert_eq!(empty.now(10).lines(), completed, "nothing was to be done");
}

#[test]
fn it_does_not_complete_while_an_old_task_is_left() {
    let service = updating(1, |config| {
        config.order = StartFirst;
        config.failure_action = FailureAction::Continue;
    });
    let fixture = with(
        service,
        [
            old(1),
            new(1).is(Failed).wanted(Shutdown),
            new(1).made(20).is(Starting),
        ],
    );
    assert_eq!(fixture.now(30).lines(), [""; 0]);
}

fn failing(state: TaskState, reached: u64, edit: impl FnOnce(&mut UpdateConfig)) -> Fixture {
    let tasks = [
        replaced(1),
        new(1).is(state).reached(reached).wanted(Shutdown),
        new(1).made(reached),
        old(2),
    ];
    with(updating(2, edit), tasks).now(reached)
}

const PAUSED: &str =
    "Paused: update paused due to failure or early termination of task 0000000000000000000000002";

#[test]
fn a_failed_task_stops_the_update() {
    for state in [Failed, Rejected, Complete] {
        assert_eq!(failing(state, 12, |_| {}).lines(), [PAUSED], "{state}");
    }
    // One that was stopped, as on a drained node, has not failed.
    assert_eq!(failing(Shutdown, 12, |_| {}).lines()[0], "4 shutdown");
}

#[test]
fn completing_is_no_failure_unless_the_task_is_to_run_for_ever() {
    let fixture = |condition| {
        let service = updating(2, |_| {}).policy(condition, 0, 0, 0);
        let tasks = [
            replaced(1),
            new(1).is(Complete).reached(12).wanted(Shutdown),
            old(2),
        ];
        with(service, tasks).now(12)
    };
    for condition in [RestartCondition::None, RestartCondition::OnFailure] {
        assert_eq!(
            fixture(condition).lines()[0],
            "3 shutdown",
            "{condition:?}: it goes on"
        );
    }
}

#[test]
fn more_than_the_tolerated_share_has_to_fail() {
    let ratio = |ratio| failing(Failed, 12, |config| config.max_failure_ratio = ratio).lines();
    assert_eq!(ratio(0.4), [PAUSED], "one of two is half");
    assert_ne!(ratio(0.5), [PAUSED]);
    let go_on = failing(Failed, 12, |config| {
        config.failure_action = FailureAction::Continue
    });
    assert_ne!(go_on.lines(), [PAUSED]);
}

/// Plans for a failure at `ended` of a task seen to run from `ran` on.
fn seen(ran: u64, ended: u64) -> Vec<String> {
    let fixture = failing(Failed, ended, |_| {});
    let mut planner = Orchestrator::default();
    store::Planner::resync(&mut planner, &fixture.state);
    let id = Fixture::task_id(2);
    let after = fixture.state.task(id).unwrap().clone();
    let mut before = Task::clone(&after);
    before.status.state = Starting;
    let mut runs = before.clone();
    runs.status = types::TaskStatus {
        state: Running,
        applied_at: at(ran),
        ..runs.status
    };
    let change = store::Change {
        old: Some(before.into()),
        new: Some(runs.into()),
    };
    store::Planner::observe(&mut planner, &change);
    let plan = fixture.plan_with(&mut planner);
    let statuses = plan
        .transactions
        .into_iter()
        .flatten()
        .filter_map(|action| match action {
            store::Action::Update(store::Object::Service(service)) => service.update_status.clone(),
            _ => None,
        });
    statuses
        .map(|status| format!("{:?}: {}", status.state, status.message))
        .collect()
}

#[test]
fn only_an_end_within_the_monitor_period_is_a_failure() {
    assert_eq!(seen(12, 17), [PAUSED]);
    assert_eq!(seen(12, 18), [""; 0]);
}

#[test]
fn a_failure_may_turn_the_update_round() {
    let roll = |edit: fn(&mut Service)| {
        let fixture = failing(Failed, 12, |config| {
            config.failure_action = FailureAction::Rollback
        });
        let mut planner = Orchestrator::default();
        // The edit must not change the spec, or it would be another update.
        let fixture = fixture.service(edit);
        store::Planner::resync(&mut planner, &fixture.state);
        fixture.plan_with(&mut planner).transactions
    };
    let plan = roll(|service| {
        let mut previous = service.spec.clone();
        previous.labels.insert("was".into(), "before".into());
        service.previous_spec = Some(previous);
    });
    let [store::Action::Update(store::Object::Service(service))] = plan[0].as_slice() else {
        panic!("the service is changed: {plan:?}");
    };
    assert!(
        service.spec.labels.contains_key("was"),
        "its spec is the previous one"
    );
    assert_eq!(service.previous_spec, None);
    let status = service.update_status.as_ref().unwrap();
    assert_eq!(
        (status.state, status.started_at),
        (UpdateState::RollbackStarted, at(12))
    );
    assert!(
        status
            .message
            .starts_with("update rolled back due to failure"),
        "{status:?}"
    );

    let plan = roll(|_| {});
    let [store::Action::Update(store::Object::Service(service))] = plan[0].as_slice() else {
        panic!("the service is changed: {plan:?}");
    };
    let status = service.update_status.as_ref().unwrap();
    assert_eq!(status.state, UpdateState::Paused);
    assert!(
        status
            .message
            .ends_with("there is no previous spec to roll back to"),
        "{status:?}"
    );
}

#[test]
fn a_failing_rollback_is_paused_whatever_its_action() {
    for action in [FailureAction::Pause, FailureAction::Rollback] {
        let fixture = Fixture::replicated(2, 2).service(|service| {
            service.spec.rollback_config.failure_action = action;
            service.previous_spec = Some(service.spec.clone());
            service.update_status = Some(begun(UpdateState::RollbackStarted));
        });
        let tasks = [
            replaced(1),
            new(1).is(Failed).reached(12).wanted(Shutdown),
            new(1).made(12),
            old(2),
        ];
        let lines = with(fixture, tasks).now(12).lines();
        assert!(
            lines[0].starts_with("RollbackPaused: rollback paused due to"),
            "{lines:?}"
        );
        assert_eq!(lines.len(), 1);
    }
}

#[test]
fn a_paused_update_rests() {
    for state in [UpdateState::Paused, UpdateState::RollbackPaused] {
        let fixture =
            Fixture::replicated(2, 2).service(|service| service.update_status = Some(begun(state)));
        let fixture = with(fixture, [replaced(1), new(1), old(2)]).now(30);
        assert_eq!(
            fixture.plan(Orchestrator::default()),
            (vec![], None),
            "{state:?}"
        );
    }
}

#[test]
fn the_message_names_the_task_that_is_waited_for() {
    let mut fixture = with(updating(1, |_| {}), [replaced(1), new(1).unassigned()]).now(12);
    assert_eq!(fixture.lines(), [""; 0]);
    let task = fixture.state.task(Fixture::task_id(2)).unwrap().clone();
    let status = types::TaskStatus {
        err: "no suitable node".into(),
        ..task.status.clone()
    };
    fixture.apply(
        at(12),
        vec![store::Action::TaskStatus {
            task: task.id,
            status,
        }],
    );
    let message = "Updating: update in progress; waiting for web.1: no suitable node";
    assert_eq!(fixture.lines(), [message]);
}

#[test]
fn a_resumed_update_does_not_fail_for_what_failed_before() {
    let fixture = updating(2, |_| {});
    let tasks = [
        replaced(1),
        slot(1).made(5).is(Failed).reached(6).wanted(Shutdown),
        slot(1).made(6),
        old(2),
    ];
    assert_eq!(
        with(fixture, tasks).now(10).lines(),
        ["4 shutdown", "create 2 ready"]
    );
}
