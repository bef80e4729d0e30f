//! Who gets what, that nobody gets it twice, and what happens when there is nothing left.

use std::collections::BTreeSet;
use std::sync::Arc;

use store::{Action, ObjectId};
use types::network::{EndpointMode, NetworkDriver, PublishMode};
use types::{NetworkId, Service, ServiceId, TaskId, TaskState, TaskStatus};

use crate::fixture::{World, ingress, network, port, service};

fn update(world: &mut World, id: u128, change: impl FnOnce(&mut Service)) {
    let stored = world.state.service(ServiceId::from_number(id)).unwrap();
    let mut changed = Service::clone(stored);
    change(&mut changed);
    world.apply(vec![Action::Update(changed.into())]);
}

fn remove_service(world: &mut World, id: u128) {
    world.apply(vec![Action::Remove {
        id: ObjectId::Service(ServiceId::from_number(id)),
        version: None,
    }]);
}

#[test]
fn tasks_without_networks_move_on_at_once() {
    let mut world = World::new();
    world.create(service(1, &[], &[]));
    for id in 1..=450 {
        world.task(id, 1);
    }
    let plan = world.plan();
    let sizes: Vec<_> = plan.transactions.iter().map(Vec::len).collect();
    assert_eq!(sizes, [200, 200, 50]);
    assert_eq!(world.plan(), plan, "until committed it stays due");
    world.settle();
    let pending = |task: &&Arc<types::Task>| task.status.state == TaskState::Pending;
    assert_eq!(world.state.tasks().filter(pending).count(), 450);
    assert_eq!(world.served(1), (vec![], vec![]));
}

#[test]
fn a_network_a_service_and_its_tasks() {
    let mut world = World::new();
    world.create(network(1, "web", &[]));
    world.create(service(1, &[1], &[]));
    world.task(1, 1);
    world.task(2, 1);
    world.settle();
    assert_eq!(world.subnets(1), ["10.0.0.0/24 10.0.0.1 4096"]);
    assert_eq!(world.served(1), (vec!["10.0.0.2/24".into()], vec![]));
    assert_eq!(world.told(1), "10.0.0.3");
    assert_eq!(world.told(2), "10.0.0.4");
    let task = world.state.task(TaskId::from_number(1)).unwrap();
    assert_eq!(task.attachments[0].aliases, ["alias1"]);
    assert_eq!(task.status.message, "pending task scheduling");
}

#[test]
fn subnets_are_cut_around_what_users_chose() {
    let mut world = World::with_pools(&[("10.0.0.0/22", 24), ("192.168.0.0/16", 28)]);
    world.create(network(1, "mine", &["10.0.1.128/25"]));
    for id in 2..=6 {
        world.create(network(id, &format!("n{id}"), &[]));
    }
    world.settle();
    let subnets: Vec<_> = (1..=6).flat_map(|id| world.subnets(id)).collect();
    let expected = [
        "10.0.1.128/25 10.0.1.129 4096",
        "10.0.0.0/24 10.0.0.1 4097",
        "10.0.2.0/24 10.0.2.1 4098",
        "10.0.3.0/24 10.0.3.1 4099",
        "192.168.0.0/28 192.168.0.1 4100",
        "192.168.0.16/28 192.168.0.17 4101",
    ];
    assert_eq!(subnets, expected);
}

#[test]
fn both_families_share_a_segment() {
    let mut world = World::new();
    let mut dual = network(1, "dual", &["10.1.0.0/24", "10.2.0.0/24", "fd00:1::/64"]);
    dual.spec.pools[1].gateway = Some("10.2.0.9".parse().unwrap());
    world.create(dual);
    let mut automatic = network(2, "automatic", &[]);
    automatic.spec.ipv6 = true;
    world.create(automatic);
    world.create(service(1, &[1, 2], &[]));
    world.task(1, 1);
    world.settle();
    let subnets = world.subnets(1);
    assert_eq!(subnets[0], "10.1.0.0/24 10.1.0.1 4096");
    assert_eq!(subnets[1], "10.2.0.0/24 10.2.0.9 4097");
    assert_eq!(subnets[2], "fd00:1::/64 fd00:1::1 4096");
    assert!(subnets[3].starts_with("fd") && subnets[3].ends_with(" 4097"));
    let own = &world.subnets(2)[1];
    assert!(own.starts_with("fd") && own.ends_with(" 4098"), "{own}");
    assert!(world.told(1).starts_with("10.1.0.3 fd00:1::3 10.0.0.3 fd"));
    world.change_leader();
    world.settle();
    assert_eq!(&world.subnets(2)[1], own, "the prefix is the cluster's own");
}

#[test]
fn addresses_go_on_after_the_last_one_though_the_leader_changes() {
    let mut world = World::new();
    world.create(network(1, "web", &["10.0.0.0/28"]));
    world.create(service(1, &[1], &[]));
    let mut given = vec![];
    for id in 1..=20 {
        world.task(id, 1);
        world.settle();
        given.push(world.told(id));
        world.end(id);
        if id % 3 == 0 {
            world.change_leader();
        }
        let remove = ObjectId::Task(TaskId::from_number(id));
        world.apply(vec![Action::Remove {
            id: remove,
            version: None,
        }]);
    }
    let expected: Vec<_> = (3..=14)
        .chain(3..=10)
        .map(|n| format!("10.0.0.{n}"))
        .collect();
    assert_eq!(
        given, expected,
        "all of them in turn, though all are free again"
    );
}

#[test]
fn nobody_ever_gets_what_another_has() {
    let mut world = World::new();
    world.create(network(1, "web", &["10.0.0.0/25", "10.0.1.0/26"]));
    world.create(ingress(9));
    for id in 1..=10 {
        let port = port(0, 80, PublishMode::Ingress);
        world.create(service(id, &[1], &[port]));
    }
    for round in 0..5_u128 {
        for id in 0..120 {
            world.task(round * 1000 + id + 1, id % 10 + 1);
        }
        world.settle();
        world.change_leader();
        let mut seen = BTreeSet::new();
        let live = world.state.tasks();
        let live = live.filter(|task| !task.status.state.is_terminal());
        let tasks = live.flat_map(|task| &task.attachments);
        let tasks = tasks.flat_map(|on| on.addresses.iter().map(|net| (on.network, net.addr())));
        let vips = world.state.services().flat_map(|s| &s.endpoint.virtual_ips);
        let vips = vips.map(|vip| (vip.network, vip.address.addr()));
        for (network, address) in tasks.chain(vips) {
            assert!(seen.insert((network, address)), "{address} twice");
        }
        assert_eq!(seen.len(), 10 * 2 + 120 * 2);
        let ports: BTreeSet<_> = (1..=10).flat_map(|id| world.served(id).1).collect();
        assert_eq!(ports, (30_000..30_010).collect());
        for id in 0..120 {
            world.end(round * 1000 + id + 1);
        }
    }
}

#[test]
fn exhaustion_is_told_and_heals() {
    let mut world = World::new();
    world.create(network(1, "small", &["10.0.0.0/29"]));
    world.create(network(2, "large", &["10.0.1.0/24"]));
    world.create(service(1, &[2, 1], &[]));
    for id in 1..=6 {
        world.task(id, 1);
    }
    world.settle();
    let told: Vec<_> = (1..=6).map(|id| world.told(id)).collect();
    let waiting = |told: &&String| told.starts_with("NEW");
    assert_eq!(told.iter().filter(waiting).count(), 2, "{told:?}");
    assert_eq!(
        told[5],
        "NEW network small has no free address left in 10.0.0.0/29: it goes on when one comes back"
    );
    let task = world.state.task(TaskId::from_number(6)).unwrap();
    assert_eq!(task.status.message, "waiting for addresses");
    let large = world.state.network(NetworkId::from_number(2)).unwrap();
    let free = world.state.holdings().free(large, &large.subnets[0]);
    assert_eq!(free, 253 - 5, "the waiting ones hold nothing elsewhere");

    world.change_leader();
    world.settle();
    assert!(
        world.told(5).starts_with("NEW"),
        "still waiting, and told once"
    );
    world.end(1);
    world.settle();
    assert!(!world.told(5).starts_with("NEW"));
    assert!(world.told(6).starts_with("NEW"));
    let task = world.state.task(TaskId::from_number(5)).unwrap();
    assert_eq!(task.status.err, "", "the reason goes with its cause");
    world.apply(vec![Action::TaskDesired {
        task: TaskId::from_number(6),
        desired: TaskState::Shutdown,
    }]);
    world.settle();
    assert_eq!(world.told(6), "", "one that need not run needs no address");
}

#[test]
fn a_service_without_an_address_keeps_its_tasks_waiting() {
    let mut world = World::with_pools(&[("10.0.0.0/29", 29)]);
    world.create(network(1, "first", &[]));
    world.create(network(2, "second", &[]));
    world.create(service(1, &[2], &[]));
    world.task(1, 1);
    world.settle();
    assert!(
        world
            .told(1)
            .starts_with("NEW network second has no subnet: every IPv4 subnet"),
        "{}",
        world.told(1)
    );
    world.apply(vec![Action::Remove {
        id: ObjectId::Network(NetworkId::from_number(1)),
        version: None,
    }]);
    world.settle();
    assert_eq!(world.told(1), "10.0.0.3");
    assert_eq!(world.subnets(2), ["10.0.0.0/29 10.0.0.1 4096"]);
}

#[test]
fn ports_stay_the_same_for_as_long_as_they_are_asked_for() {
    let mut world = World::new();
    world.create(ingress(9));
    let chosen = port(30_000, 80, PublishMode::Ingress);
    let (auto, host) = (
        port(0, 81, PublishMode::Ingress),
        port(0, 82, PublishMode::Host),
    );
    world.create(service(
        1,
        &[],
        &[chosen.clone(), auto.clone(), host.clone()],
    ));
    world.create(service(2, &[], std::slice::from_ref(&auto)));
    world.settle();
    assert_eq!(world.served(1).1, [30_000, 30_001, 0]);
    assert_eq!(world.served(2).1, [30_002]);
    assert_eq!(world.served(1).0.len(), 1, "an address on ingress");

    update(&mut world, 1, |service| {
        service.spec.endpoint.ports = vec![port(8080, 83, PublishMode::Ingress), auto.clone()];
    });
    world.change_leader();
    world.settle();
    assert_eq!(world.served(1).1, [8080, 30_001]);
    world.create(service(3, &[], &[auto]));
    world.settle();
    assert_eq!(world.served(3).1, [30_000], "given back, given again");

    update(&mut world, 1, |service| service.spec.endpoint.ports.clear());
    world.settle();
    assert_eq!(world.served(1), (vec![], vec![]));
    world.task(1, 1);
    world.task(2, 3);
    world.settle();
    assert_eq!(world.told(1), "", "no port, no ingress");
    assert!(world.told(2).starts_with("10.255.0."));
}

#[test]
fn host_ports_go_to_the_task() {
    let mut world = World::new();
    let host = port(8080, 80, PublishMode::Host);
    world.create(service(1, &[], std::slice::from_ref(&host)));
    world.task(1, 1);
    world.settle();
    let task = world.state.task(TaskId::from_number(1)).unwrap();
    assert_eq!((&task.host_ports, task.attachments.len()), (&vec![host], 0));
    assert_eq!(world.served(1).0.len(), 0, "no virtual address for those");
}

#[test]
fn modes_and_networks_of_a_service_change() {
    let mut world = World::new();
    world.create(network(1, "a", &[]));
    world.create(network(2, "b", &[]));
    let mut local = network(3, "local", &["192.168.7.0/24"]);
    local.spec.driver = NetworkDriver::Bridge;
    world.create(local);
    world.create(service(1, &[1, 3], &[]));
    world.task(1, 1);
    world.settle();
    assert_eq!(world.served(1).0, ["10.0.0.2/24"]);
    let task = world.state.task(TaskId::from_number(1)).unwrap();
    let on: Vec<_> = task
        .attachments
        .iter()
        .map(|on| on.addresses.len())
        .collect();
    assert_eq!(on, [1, 0], "a bridge gives its addresses on the node");
    assert_eq!(world.subnets(3), Vec::<String>::new());

    update(&mut world, 1, |service| {
        service.spec.task = crate::fixture::service(1, &[1, 2], &[]).spec.task;
    });
    world.settle();
    assert_eq!(world.served(1).0, ["10.0.0.2/24", "10.0.1.2/24"]);
    update(&mut world, 1, |service| {
        service.spec.endpoint.mode = EndpointMode::Dnsrr;
    });
    world.settle();
    assert_eq!(world.served(1).0, Vec::<String>::new());
    update(&mut world, 1, |service| {
        service.spec.endpoint.mode = EndpointMode::Vip;
    });
    world.settle();
    assert_eq!(world.served(1).0, ["10.0.0.4/24", "10.0.1.3/24"]);
    world.end(1);
    remove_service(&mut world, 1);
    let held = [1, 2].map(|id| {
        let held = world.state.holdings().addresses(NetworkId::from_number(id));
        held.count()
    });
    assert_eq!(held, [0, 0], "everything is given back");
}

#[test]
fn tasks_whose_service_is_gone_or_that_need_not_run_pass_through() {
    let mut world = World::new();
    world.create(network(1, "a", &[]));
    world.create(service(1, &[1], &[]));
    world.settle();
    world.task(1, 1);
    remove_service(&mut world, 1);
    world.settle();
    let task = world.state.task(TaskId::from_number(1)).unwrap();
    assert_eq!(task.status.state, TaskState::Pending);
    world.apply(vec![Action::TaskStatus {
        task: TaskId::from_number(1),
        status: TaskStatus {
            state: TaskState::Shutdown,
            ..TaskStatus::default()
        },
    }]);
    world.settle();
}
