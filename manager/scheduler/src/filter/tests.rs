//! Each filter alone, their order, and the words.

use std::sync::Arc;

use types::task::Resources;
use types::{Task, TaskState};

use super::*;
use crate::fixture::{labelled, node, placed};
use crate::load::Loads;

const SERVICE: u128 = 1;

fn check(spec: &TaskSpec, node: &Node, tasks: &[Task]) -> Result<(), Filter> {
    check_with(spec, &[], node, tasks)
}

fn check_with(
    spec: &TaskSpec,
    ports: &[PublishedPort],
    node: &Node,
    tasks: &[Task],
) -> Result<(), Filter> {
    let mut loads = Loads::default();
    for task in tasks {
        loads.add(task);
    }
    let demand = Demand::new(ServiceId::from_number(SERVICE), spec, ports);
    demand.check(&NodeView::new(node, &loads))
}

fn spec(edit: impl FnOnce(&mut TaskSpec)) -> TaskSpec {
    let mut spec = TaskSpec::default();
    edit(&mut spec);
    spec
}

#[test]
fn only_ready_and_active_nodes_take_tasks() {
    use Availability::{Active, Drain, Pause};
    use NodeState::{Disconnected, Down, Ready, Unknown};
    for (state, availability, expected) in [
        (Ready, Active, Ok(())),
        (Ready, Pause, Err(Filter::Ready)),
        (Ready, Drain, Err(Filter::Ready)),
        (Unknown, Active, Err(Filter::Ready)),
        (Down, Active, Err(Filter::Ready)),
        (Disconnected, Active, Err(Filter::Ready)),
    ] {
        let mut node = node(1);
        node.status.state = state;
        node.spec.availability = availability;
        assert_eq!(
            check(&TaskSpec::default(), &node, &[]),
            expected,
            "{state} {availability}"
        );
    }
}

#[test]
fn reservations_of_tasks_that_may_still_run_are_not_free() {
    const CPU: u64 = 1_000_000_000;
    let reserving = |cpus: u64, gib: u64| {
        spec(|spec| {
            let reservations = Resources {
                nano_cpus: cpus * CPU,
                memory_bytes: gib << 30,
            };
            spec.resources.reservations = reservations;
        })
    };
    let held = Arc::new(reserving(3, 1));
    let on_node = |state, desired| {
        let task = placed(1, SERVICE, &held, 1, state);
        vec![Task {
            desired_state: desired,
            ..task
        }]
    };
    use TaskState::{Assigned, Failed, Pending, Running, Shutdown};
    let table = [
        (reserving(4, 4), vec![], Ok(())),
        (reserving(5, 0), vec![], Err(Filter::Resource)),
        (reserving(0, 5), vec![], Err(Filter::Resource)),
        (reserving(1, 3), on_node(Running, Running), Ok(())),
        (
            reserving(2, 0),
            on_node(Running, Running),
            Err(Filter::Resource),
        ),
        (
            reserving(0, 4),
            on_node(Assigned, Running),
            Err(Filter::Resource),
        ),
        // Given up, but not stopped yet.
        (
            reserving(2, 0),
            on_node(Running, Shutdown),
            Err(Filter::Resource),
        ),
        (reserving(4, 4), on_node(Failed, Running), Ok(())),
        (reserving(4, 4), on_node(Pending, Running), Ok(())),
    ];
    for (spec, tasks, expected) in table {
        assert_eq!(check(&spec, &node(1), &tasks), expected, "{tasks:?}");
    }
    let silent = Node {
        description: None,
        ..node(1)
    };
    assert_eq!(check(&reserving(1, 0), &silent, &[]), Err(Filter::Resource));
    assert_eq!(
        check(&reserving(0, 0), &silent, &[]),
        Ok(()),
        "nothing asked, nothing lacking"
    );
}

#[test]
fn every_constraint_has_to_hold() {
    let node = labelled(1, &[("zone", "a"), ("disk", "ssd")]);
    for (constraints, expected) in [
        (vec![], Ok(())),
        (vec!["node.labels.zone==a"], Ok(())),
        (vec!["node.labels.zone==a", "node.labels.disk==ssd"], Ok(())),
        (
            vec!["node.labels.zone==a", "node.labels.disk==hdd"],
            Err(Filter::Constraint),
        ),
        // Unreadable ones are refused when the service is created, and ask nothing here.
        (vec!["node.labels.zone=b"], Ok(())),
    ] {
        let spec = spec(|spec| {
            spec.placement.constraints = constraints.iter().map(|&c| c.to_owned()).collect();
        });
        assert_eq!(check(&spec, &node, &[]), expected, "{constraints:?}");
    }
}

#[test]
fn one_of_the_platforms_has_to_match() {
    for (platforms, expected) in [
        (vec![], Ok(())),
        (vec![("linux", "amd64")], Ok(())),
        (vec![("linux", "x86_64")], Ok(())),
        (vec![("linux", "")], Ok(())),
        (vec![("", "amd64")], Ok(())),
        (vec![("", "")], Ok(())),
        (vec![("linux", "arm64")], Err(Filter::Platform)),
        (vec![("windows", "amd64")], Err(Filter::Platform)),
        (vec![("linux", "arm64"), ("linux", "amd64")], Ok(())),
    ] {
        let spec = spec(|spec| {
            spec.placement.platforms = platforms
                .iter()
                .map(|&(os, arch)| Platform {
                    os: os.into(),
                    architecture: arch.into(),
                })
                .collect();
        });
        assert_eq!(check(&spec, &node(1), &[]), expected, "{platforms:?}");
        let silent = Node {
            description: None,
            ..node(1)
        };
        let expected = if platforms.is_empty() {
            Ok(())
        } else {
            Err(Filter::Platform)
        };
        assert_eq!(check(&spec, &silent, &[]), expected, "{platforms:?}");
    }
}

#[test]
fn wanted_tasks_of_the_service_count_towards_its_limit() {
    use TaskState::{Complete, Failed, Running, Shutdown};
    let two = Arc::new(spec(|spec| spec.placement.max_replicas = 2));
    let running = |number, service| placed(number, service, &two, 1, Running);
    let given_up = Task {
        desired_state: Shutdown,
        ..running(2, SERVICE)
    };
    for (tasks, expected) in [
        (vec![running(1, SERVICE)], Ok(())),
        (
            vec![running(1, SERVICE), running(2, SERVICE)],
            Err(Filter::MaxReplicas),
        ),
        (vec![running(1, SERVICE), running(2, 9)], Ok(())),
        (vec![running(1, SERVICE), given_up], Ok(())),
        (
            vec![running(1, SERVICE), placed(2, SERVICE, &two, 1, Failed)],
            Ok(()),
        ),
        (
            vec![running(1, SERVICE), placed(2, SERVICE, &two, 1, Complete)],
            Ok(()),
        ),
    ] {
        assert_eq!(check(&two, &node(1), &tasks), expected, "{tasks:?}");
    }
}

#[test]
fn the_first_filter_in_order_is_named() {
    let strict = spec(|spec| {
        spec.resources.reservations.nano_cpus = 9_000_000_000;
        spec.placement.constraints = vec!["node.labels.zone==a".into()];
        spec.placement.platforms = vec![Platform {
            os: "linux".into(),
            architecture: "arm64".into(),
        }];
        spec.placement.max_replicas = 1;
    });
    let mut ports = vec![PublishedPort {
        published_port: 80,
        mode: types::network::PublishMode::Host,
        ..PublishedPort::default()
    }];
    let spec_of_placed = Arc::new(TaskSpec::default());
    let mut tasks = [placed(1, SERVICE, &spec_of_placed, 1, TaskState::Running)];
    tasks[0].host_ports.clone_from(&ports);
    let mut fixed = node(1);
    fixed.spec.availability = Availability::Pause;
    let mut named = vec![];
    let mut spec = strict;
    for _ in 0..6 {
        let filter = check_with(&spec, &ports, &fixed, &tasks).unwrap_err();
        named.push(filter);
        match filter {
            Filter::Ready => fixed.spec.availability = Availability::Active,
            Filter::Resource => spec.resources.reservations.nano_cpus = 0,
            Filter::Constraint => spec.placement.constraints.clear(),
            Filter::Platform => spec.placement.platforms.clear(),
            Filter::HostPort => ports.clear(),
            Filter::MaxReplicas => spec.placement.max_replicas = 0,
        }
    }
    assert_eq!(named, Filter::ALL);
    assert_eq!(check(&spec, &fixed, &tasks), Ok(()));
}

#[test]
fn the_explanation_starts_with_what_ruled_out_most() {
    let tally = |counts| Tally { counts }.explain();
    assert_eq!(tally([0; 6]), "no suitable node");
    assert_eq!(
        tally([1, 2, 0, 0, 0, 0]),
        "no suitable node (insufficient resources on 2 nodes; 1 node not available for new tasks)"
    );
    assert_eq!(
        tally([2, 0, 2, 1, 0, 3]),
        "no suitable node (max replicas per node limit exceed; 2 nodes not available for new \
         tasks; scheduling constraints not satisfied on 2 nodes; unsupported platform on 1 node)"
    );
}
