//! The dirty test, row by row (S4.02).

use std::time::Duration;

use types::network::NetworkAttachmentSpec;
use types::task::RestartCondition;
use types::{NodeId, Task};

use super::*;
use crate::fixture::{Fixture, SERVICE, slot};

type Edit = fn(&mut Service, &mut TaskSpec);

#[test]
fn only_changes_that_concern_a_running_task_make_it_dirty() {
    let table: [(&str, Edit, bool); 12] = [
        ("nothing", |_, _| {}, false),
        (
            "labels of the service",
            |s, _| drop(s.spec.labels.insert("a".into(), "b".into())),
            false,
        ),
        (
            "pace of updates",
            |s, _| s.spec.update_config.parallelism = 9,
            false,
        ),
        ("image", |_, t| t.container.image = "new".into(), true),
        (
            "environment",
            |_, t| t.container.env.push("A=B".into()),
            true,
        ),
        (
            "reservations",
            |_, t| t.resources.reservations.nano_cpus = 1,
            true,
        ),
        (
            "restart policy",
            |_, t| t.restart_policy.delay = Duration::ZERO,
            true,
        ),
        (
            "condition",
            |_, t| t.restart_policy.condition = RestartCondition::None,
            true,
        ),
        (
            "networks",
            |_, t| {
                t.networks.push(NetworkAttachmentSpec {
                    target: "bridge".into(),
                    ..NetworkAttachmentSpec::default()
                });
            },
            true,
        ),
        ("force", |_, t| t.force_update += 1, true),
        (
            "constraint that holds",
            |_, t| t.placement.constraints.push("node.hostname==n1".into()),
            false,
        ),
        (
            "constraint that does not",
            |_, t| t.placement.constraints.push("node.hostname==n2".into()),
            true,
        ),
    ];
    for (what, edit, expected) in table {
        let fixture = Fixture::replicated(1, 1).task(slot(1)).service(|service| {
            let mut task = TaskSpec::clone(&service.spec.task);
            edit(service, &mut task);
            service.spec.task = task.into();
        });
        let (service, task, node) = parts(&fixture);
        let revision = Revision::new(service, std::iter::once(task));
        assert_eq!(revision.is_dirty(task, || Some(node)), expected, "{what}");
    }
}

#[test]
fn a_task_without_a_node_follows_every_change_of_placement() {
    let fixture = Fixture::replicated(1, 1)
        .task(slot(1).unassigned())
        .service(|service| {
            let mut task = TaskSpec::clone(&service.spec.task);
            task.placement.constraints.push("node.hostname==n1".into());
            service.spec.task = task.into();
        });
    let (service, task, _) = parts(&fixture);
    let revision = Revision::new(service, std::iter::once(task));
    assert!(revision.is_dirty(task, || None));
    assert!(!revision.is_current(task));
}

fn parts(fixture: &Fixture) -> (&Service, &Task, &Node) {
    let state = &fixture.state;
    let service = state.service(SERVICE).unwrap();
    let task = state.task(Fixture::task_id(1)).unwrap();
    (service, task, state.node(NodeId::from_number(1)).unwrap())
}

#[test]
fn ports_of_the_node_and_the_way_to_ingress_need_another_task() {
    use types::network::{NetworkAttachment, PublishMode, PublishedPort};
    /// What is asked, what the task has, where it is, and whether it has to be replaced.
    type Row<'a> = (
        &'a str,
        &'a [PublishedPort],
        &'a [PublishedPort],
        &'a [NetworkAttachment],
        bool,
    );
    let port = |published, mode| PublishedPort {
        published_port: published,
        target_port: 80,
        mode,
        ..PublishedPort::default()
    };
    let (host, mesh) = (port(80, PublishMode::Host), port(80, PublishMode::Ingress));
    let other = port(81, PublishMode::Ingress);
    let place = NetworkAttachment {
        network: types::NetworkId::from_number(9),
        addresses: vec!["10.0.0.9/24".parse().unwrap()],
        aliases: vec![],
    };
    let alone: &[NetworkAttachment] = &[];
    let meshed = std::slice::from_ref(&place);
    let none: &[PublishedPort] = &[];
    let table: [Row<'_>; 7] = [
        ("nothing", none, none, alone, false),
        (
            "a port of the node comes",
            std::slice::from_ref(&host),
            none,
            alone,
            true,
        ),
        (
            "it stays",
            std::slice::from_ref(&host),
            std::slice::from_ref(&host),
            alone,
            false,
        ),
        ("it goes", none, std::slice::from_ref(&host), alone, true),
        (
            "the first port of the mesh",
            std::slice::from_ref(&mesh),
            none,
            alone,
            true,
        ),
        ("another one", &[mesh.clone(), other], none, meshed, false),
        ("none any more", none, none, meshed, false),
    ];
    for (what, asked, has, on, dirty) in table {
        let fixture = Fixture::replicated(1, 1).task(slot(1));
        let mut service = Service::clone(fixture.state.service(SERVICE).unwrap());
        let mut task = Task::clone(fixture.state.tasks().next().unwrap());
        task.status.state = types::TaskState::Running;
        service.spec.endpoint.ports = asked.to_vec();
        service.spec_version = Version { index: 1_000_000 };
        task.host_ports = has.to_vec();
        task.attachments = on.to_vec();
        let revision = Revision::new(&service, [&task].into_iter());
        assert_eq!(revision.is_dirty(&task, || None), dirty, "{what}");
        assert_eq!(revision.has_others(), dirty, "{what}");
    }
}
