//! What is looked at again, and that counting as changes go by equals counting anew.

use store::Transaction;
use types::TaskSpec;
use types::id::RandomIds;
use types::node::{Availability, NodeState};

use super::*;
use crate::fixture::{node, placed, task};

struct Bench {
    state: State,
    scheduler: Scheduler,
    now: Timestamp,
}

impl Bench {
    fn new(nodes: u128) -> Self {
        let mut bench = Self {
            state: State::default(),
            scheduler: Scheduler::default(),
            now: Timestamp::from_secs(1000),
        };
        for number in 1..=nodes {
            bench.apply(vec![Action::Create(node(number).into())]);
        }
        bench
    }

    fn apply(&mut self, actions: Vec<Action>) {
        let version = Version {
            index: self.state.version().index + 1,
        };
        let transaction = Transaction {
            now: self.now,
            actions,
        };
        for change in self.state.apply(version, &transaction).unwrap() {
            self.scheduler.observe(&change);
        }
    }

    fn plan(&mut self) -> Vec<Action> {
        let mut context = PlanContext {
            state: &self.state,
            now: self.now,
            ids: &mut RandomIds,
        };
        self.scheduler.plan(&mut context).transactions.concat()
    }

    /// Plans and applies, and returns what was planned.
    fn step(&mut self) -> Vec<Action> {
        let actions = self.plan();
        self.apply(actions.clone());
        actions
    }

    fn node_is(&mut self, number: u128, edit: impl FnOnce(&mut Node)) {
        let mut node = Node::clone(self.state.node(NodeId::from_number(number)).unwrap());
        edit(&mut node);
        self.apply(vec![Action::Update(node.into())]);
    }

    fn stands(&self, number: u128) -> (TaskState, String) {
        let task = self.state.task(TaskId::from_number(number)).unwrap();
        (task.status.state, task.status.err.clone())
    }
}

fn spec(edit: impl FnOnce(&mut TaskSpec)) -> Arc<TaskSpec> {
    let mut spec = TaskSpec::default();
    edit(&mut spec);
    Arc::new(spec)
}

#[test]
fn a_task_is_placed_once() {
    let mut bench = Bench::new(2);
    bench.apply(vec![Action::Create(task(1, 1, &spec(|_| {})).into())]);
    assert_eq!(bench.step().len(), 1);
    assert_eq!(bench.stands(1), (TaskState::Assigned, String::new()));
    assert_eq!(bench.plan(), []);
}

#[test]
fn a_placement_the_store_did_not_take_is_decided_anew() {
    let mut bench = Bench::new(2);
    bench.apply(vec![Action::Create(task(1, 1, &spec(|_| {})).into())]);
    let decided = bench.plan();
    let [Action::TaskAssign { node, .. }] = decided.as_slice() else {
        panic!("{decided:?}")
    };
    let gone = *node;
    bench.apply(vec![Action::NodeStatus {
        node: gone,
        status: types::node::NodeStatus {
            state: NodeState::Down,
            ..Default::default()
        },
        description: None,
    }]);
    bench.apply(decided);
    assert_eq!(bench.stands(1).0, TaskState::Pending);
    bench.step();
    assert_eq!(bench.stands(1).0, TaskState::Assigned);
    assert_ne!(
        bench.state.task(TaskId::from_number(1)).unwrap().node_id,
        Some(gone)
    );
}

#[test]
fn a_task_without_a_place_says_why_once_and_waits_for_a_change() {
    let mut bench = Bench::new(1);
    let big = spec(|spec| spec.resources.reservations.nano_cpus = 8_000_000_000);
    bench.apply(vec![Action::Create(task(1, 1, &big).into())]);
    bench.step();
    let why = "no suitable node (insufficient resources on 1 node)".to_owned();
    assert_eq!(bench.stands(1), (TaskState::Pending, why));
    assert_eq!(bench.plan(), []);
    // A change without effect on the outcome does not write the same again.
    bench.node_is(1, |node| {
        drop(node.spec.labels.insert("a".into(), "b".into()))
    });
    assert_eq!(bench.plan(), []);
    bench.node_is(1, |node| {
        node.description.as_mut().unwrap().resources.nano_cpus = 8_000_000_000;
    });
    bench.step();
    assert_eq!(bench.stands(1), (TaskState::Assigned, String::new()));
}

#[test]
fn room_that_becomes_free_is_used() {
    let mut bench = Bench::new(1);
    let big = spec(|spec| spec.resources.reservations.nano_cpus = 3_000_000_000);
    let tasks = [1, 2].map(|number| Action::Create(task(number, 1, &big).into()));
    bench.apply(tasks.to_vec());
    bench.step();
    assert_eq!(bench.stands(2).0, TaskState::Pending);
    let ended = TaskStatus {
        state: TaskState::Failed,
        ..TaskStatus::default()
    };
    bench.apply(vec![Action::TaskStatus {
        task: TaskId::from_number(1),
        status: ended,
    }]);
    bench.step();
    assert_eq!(bench.stands(2).0, TaskState::Assigned);
}

#[test]
fn preassigned_tasks_are_confirmed_on_their_node_only() {
    let mut bench = Bench::new(2);
    let preassigned = |number, on, spec: &Arc<TaskSpec>| {
        Action::Create(placed(number, 1, spec, on, TaskState::Pending).into())
    };
    let big = spec(|spec| spec.resources.reservations.nano_cpus = 8_000_000_000);
    let small = spec(|_| {});
    bench.apply(vec![
        preassigned(1, 2, &small),
        preassigned(2, 1, &big),
        preassigned(3, 9, &small),
    ]);
    bench.step();
    let confirmed = bench.state.task(TaskId::from_number(1)).unwrap();
    assert_eq!(confirmed.node_id, Some(NodeId::from_number(2)));
    assert_eq!(
        confirmed.status.message,
        "scheduler confirmed task can run on preassigned node"
    );
    let why = "no suitable node (insufficient resources on 1 node)".to_owned();
    assert_eq!(bench.stands(2), (TaskState::Pending, why));
    assert_eq!(
        bench.stands(3),
        (TaskState::Pending, "no suitable node".to_owned())
    );
}

#[test]
fn tasks_given_up_before_they_had_a_node_are_ended() {
    let mut bench = Bench::new(0);
    let spec = spec(|_| {});
    let wanted = |number, desired| {
        Action::Create(
            Task {
                desired_state: desired,
                ..task(number, 1, &spec)
            }
            .into(),
        )
    };
    bench.apply(vec![
        wanted(1, TaskState::Shutdown),
        wanted(2, TaskState::Remove),
    ]);
    bench.step();
    assert_eq!(bench.stands(1).0, TaskState::Shutdown);
    assert_eq!(
        bench.stands(2).0,
        TaskState::Pending,
        "the reaper deletes it"
    );
    assert_eq!(bench.plan(), []);
}

#[test]
fn a_leader_that_takes_over_decides_the_same() {
    let mut bench = Bench::new(3);
    let spec = spec(|spec| spec.resources.reservations.nano_cpus = 1_000_000_000);
    for number in 1..=8 {
        bench.apply(vec![Action::Create(task(number, number % 3, &spec).into())]);
    }
    bench.step();
    for number in 9..=20 {
        bench.apply(vec![Action::Create(task(number, number % 3, &spec).into())]);
    }
    let mut other = Scheduler::default();
    other.resync(&bench.state);
    let mut context = PlanContext {
        state: &bench.state,
        now: bench.now,
        ids: &mut RandomIds,
    };
    let decided = other.plan(&mut context).transactions.concat();
    assert_eq!(decided, bench.plan());
    assert!(!decided.is_empty());
}

#[test]
fn counting_as_changes_go_by_equals_counting_anew() {
    let mut bench = Bench::new(3);
    let spec = spec(|spec| spec.resources.reservations.memory_bytes = 1 << 20);
    let states = [
        TaskState::Assigned,
        TaskState::Running,
        TaskState::Complete,
        TaskState::Failed,
        TaskState::Orphaned,
    ];
    let mut dice = 7_u64;
    let mut roll = |sides: u64| {
        dice = dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % sides
    };
    for number in 1..=300_u128 {
        let id = TaskId::from_number(u128::from(roll(u64::try_from(number).unwrap())) + 1);
        let action = match roll(5) {
            0 | 1 => Action::Create(task(number + 1000, u128::from(roll(4)), &spec).into()),
            2 => Action::TaskDesired {
                task: id,
                desired: TaskState::Shutdown,
            },
            3 if bench.state.task(id).is_some() => Action::Remove {
                id: store::ObjectId::Task(id),
                version: None,
            },
            _ => {
                let state = states[usize::try_from(roll(5)).unwrap()];
                let status = TaskStatus {
                    state,
                    ..TaskStatus::default()
                };
                Action::TaskStatus { task: id, status }
            }
        };
        // Low numbers are those actions aim at.
        let create = Action::Create(task(number, u128::from(roll(4)), &spec).into());
        bench.apply(vec![create, action]);
        if roll(3) == 0 {
            bench.step();
        }
        if roll(20) == 0 {
            bench.node_is(1, |node| node.spec.availability = Availability::Drain);
        }
        let mut anew = Scheduler::default();
        anew.resync(&bench.state);
        assert_eq!(bench.scheduler.loads, anew.loads, "after step {number}");
        assert_eq!(
            bench.scheduler.abandoned, anew.abandoned,
            "after step {number}"
        );
        let open: BTreeSet<_> = bench
            .scheduler
            .due
            .union(&bench.scheduler.waiting)
            .collect();
        assert_eq!(open, anew.due.iter().collect(), "after step {number}");
    }
    assert!(
        bench.scheduler.loads != Loads::default(),
        "something was placed"
    );
}

#[test]
fn failures_count_for_five_minutes_and_from_five_on() {
    let spec = spec(|_| {});
    let failed = |secs| {
        let mut task = placed(1, 1, &spec, 1, TaskState::Failed);
        task.status.applied_at = Timestamp::from_secs(secs);
        task
    };
    let first = failed(0);
    let weight = |failures: &Failures| {
        failures.weight(NodeId::from_number(1), first.service_id, first.spec_version)
    };
    let mut failures = Failures::default();
    for secs in [40, 10, 30, 20] {
        failures.note(&failed(secs));
    }
    assert_eq!(weight(&failures), 0);
    failures.note(&failed(50));
    assert_eq!(weight(&failures), 5);
    failures.forget_before(Timestamp::from_secs(309));
    assert_eq!(weight(&failures), 5);
    failures.forget_before(Timestamp::from_secs(310));
    assert_eq!(weight(&failures), 0, "the first is five minutes ago");
    failures.note(&placed(2, 1, &spec, 1, TaskState::Complete));
    failures.note(&failed(311));
    assert_eq!(weight(&failures), 5, "completing is no failure");
}

#[test]
fn a_port_of_a_node_belongs_to_one_task() {
    let mut bench = Bench::new(2);
    let spec = spec(|_| {});
    let published = |number: u128, service: u128, port: u16| {
        let mut task = task(number, service, &spec);
        task.host_ports = vec![types::network::PublishedPort {
            published_port: port,
            target_port: 80,
            mode: types::network::PublishMode::Host,
            ..Default::default()
        }];
        task
    };
    // Two services ask for the same port, three tasks in all, and there are two nodes.
    let tasks = [
        published(1, 1, 8080),
        published(2, 1, 8080),
        published(3, 2, 8080),
    ];
    bench.apply(tasks.map(|task| Action::Create(task.into())).to_vec());
    bench.step();
    assert_eq!(bench.stands(1).0, TaskState::Assigned);
    assert_eq!(bench.stands(2).0, TaskState::Assigned);
    let nodes = [1, 2].map(|id| bench.state.task(TaskId::from_number(id)).unwrap().node_id);
    assert_ne!(nodes[0], nodes[1]);
    bench.step();
    let (state, err) = bench.stands(3);
    assert_eq!(state, TaskState::Pending);
    assert_eq!(
        err,
        "no suitable node (host-mode port already in use on 2 nodes)"
    );
    // Another port, and one that the node chooses, are no matter of these.
    let others = [
        published(4, 3, 8081),
        published(5, 4, 0),
        published(6, 4, 0),
    ];
    bench.apply(others.map(|task| Action::Create(task.into())).to_vec());
    bench.step();
    for id in 4..=6 {
        assert_eq!(bench.stands(id).0, TaskState::Assigned, "{id}");
    }
    bench.apply(vec![Action::TaskStatus {
        task: TaskId::from_number(1),
        status: TaskStatus {
            state: TaskState::Failed,
            ..TaskStatus::default()
        },
    }]);
    bench.step();
    assert_eq!(
        bench.stands(3).0,
        TaskState::Assigned,
        "the port is free again"
    );
}
