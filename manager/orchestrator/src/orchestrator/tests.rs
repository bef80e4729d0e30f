//! What is looked at, and what is not.

use types::TaskState::{Assigned, Failed, Pending, Preparing, Remove, Running, Shutdown};

use super::*;
use crate::fixture::{Fixture, SERVICE, slot};

/// A planner that knows the fixture and is at rest.
fn settled(fixture: &Fixture) -> Orchestrator {
    let mut planner = Orchestrator::default();
    planner.resync(&fixture.state);
    let plan = fixture.plan_with(&mut planner);
    assert_eq!(plan.transactions, Vec::<Vec<Action>>::new());
    planner
}

fn report(task: &Task, state: TaskState) -> Change {
    let mut new = task.clone();
    new.status.state = state;
    Change {
        old: Some(task.clone().into()),
        new: Some(new.into()),
    }
}

#[test]
fn only_what_may_change_a_decision_marks_a_service() {
    let fixture = Fixture::replicated(1, 1).task(slot(1));
    let mut task = Task::clone(fixture.state.task(Fixture::task_id(1)).unwrap());
    let mut planner = settled(&fixture);
    task.status.state = Pending;
    for state in [Assigned, Preparing, Running] {
        planner.observe(&report(&task, state));
        assert!(planner.agenda.is_clear(), "{state}");
        task.status.state = state;
    }
    planner.observe(&report(&task, Failed));
    assert!(!planner.agenda.is_clear());
}

#[test]
fn the_tasks_of_a_removed_service_are_removed() {
    let mut fixture = Fixture::replicated(2, 1)
        .task(slot(1))
        .task(slot(2))
        .task(slot(3).wanted(Remove));
    let mut planner = Orchestrator::default();
    planner.resync(&fixture.state);
    let removal = Action::Remove {
        id: store::ObjectId::Service(SERVICE),
        version: None,
    };
    let now = fixture.now;
    for change in fixture.apply(now, vec![removal]) {
        planner.observe(&change);
    }
    let wanted: Vec<_> = fixture.plan_with(&mut planner).transactions.concat();
    assert_eq!(wanted.len(), 2);
    // A new leader finds them as well.
    assert_eq!(fixture.lines(), ["1 remove", "2 remove"]);
}

#[test]
fn a_node_concerns_the_services_that_have_tasks_there() {
    let fixture = Fixture::replicated(1, 2).task(slot(1).on(1));
    let mut planner = settled(&fixture);
    let goes_down = |number| {
        let old = fixture
            .state
            .node(NodeId::from_number(number))
            .unwrap()
            .clone();
        let mut new = Node::clone(&old);
        new.status.state = types::node::NodeState::Down;
        Change {
            old: Some(old.into()),
            new: Some(new.into()),
        }
    };
    planner.observe(&goes_down(2));
    fixture.plan_with(&mut planner);
    assert!(planner.agenda.is_clear() && planner.nodes.is_empty());
    let fixture = fixture.down(1);
    let old = Fixture::replicated(1, 2);
    let change = Change {
        old: Some(
            old.state
                .node(NodeId::from_number(1))
                .unwrap()
                .clone()
                .into(),
        ),
        new: Some(
            fixture
                .state
                .node(NodeId::from_number(1))
                .unwrap()
                .clone()
                .into(),
        ),
    };
    planner.observe(&change);
    assert_eq!(
        fixture.plan_with(&mut planner).transactions.concat().len(),
        2,
        "moved"
    );
}

#[test]
fn a_status_is_written_apart_from_tasks() {
    // A user who changes the service at this moment must not undo what is decided on tasks.
    let fixture = Fixture::replicated(2, 1).task(slot(1).outdated().wanted(Running));
    let mut planner = Orchestrator::default();
    planner.resync(&fixture.state);
    let plan = fixture.plan_with(&mut planner);
    assert_eq!(plan.transactions.len(), 2);
    assert!(matches!(
        plan.transactions[0].as_slice(),
        [Action::Update(_)]
    ));
    assert!(matches!(
        plan.transactions[1].as_slice(),
        [Action::Create(_)]
    ));
}

#[test]
fn planning_again_changes_nothing() {
    let fixture = Fixture::replicated(1, 1)
        .task(slot(1))
        .task(slot(2).wanted(Shutdown));
    let mut planner = Orchestrator::default();
    planner.resync(&fixture.state);
    assert_eq!(
        fixture.plan_with(&mut planner).transactions.concat().len(),
        1
    );
    assert_eq!(
        fixture.plan_with(&mut planner).transactions.len(),
        0,
        "until something happens"
    );
}
