//! What is given out, conflicts over it, and that a successor goes on where the leader stopped.

use std::sync::Arc;

use types::network::{
    AddressPool, Endpoint, EndpointSpec, NetworkAttachment, NetworkAttachmentSpec, VirtualIp,
};
use types::node::NodeStatus;
use types::{
    Meta, NetworkSpec, Node, NodeId, NodeRole, NodeSpec, ServiceSpec, TaskSpec, TaskState,
    TaskStatus, Timestamp, Version,
};

use super::*;
use crate::{Action, ObjectId, Refusal, State, Transaction, codec};

struct World(State);

impl World {
    fn new() -> Self {
        Self(State::default())
    }

    fn apply(&mut self, actions: Vec<Action>) -> Result<(), Refusal> {
        let version = Version {
            index: self.0.version().index + 1,
        };
        let now = Timestamp::from_secs(1);
        self.0
            .apply(version, &Transaction { now, actions })
            .map(|_| ())
    }

    fn make(&mut self, objects: Vec<Object>) {
        self.apply(objects.into_iter().map(Action::Create).collect())
            .unwrap();
    }

    /// The sentence a transaction is refused with.
    fn refusal(&mut self, action: Action) -> String {
        self.apply(vec![action]).unwrap_err().object
    }
}

fn network(id: u128, name: &str, subnet: &str) -> Network {
    let subnet: IpNet = subnet.parse().unwrap();
    let gateway = AddressRange::within(subnet, None).first().unwrap();
    Network {
        id: NetworkId::from_number(id),
        meta: Meta::default(),
        spec: NetworkSpec {
            name: name.into(),
            ..NetworkSpec::default()
        },
        subnets: vec![Subnet {
            subnet,
            gateway,
            vni: 4096,
        }],
    }
}

fn published(port: u16, target: u16, mode: PublishMode) -> PublishedPort {
    PublishedPort {
        published_port: port,
        target_port: target,
        mode,
        ..PublishedPort::default()
    }
}

fn service(id: u128, networks: &[u128], ports: Vec<PublishedPort>) -> Service {
    let networks = networks.iter().map(|id| NetworkAttachmentSpec {
        target: NetworkId::from_number(*id).to_string(),
        ..NetworkAttachmentSpec::default()
    });
    let task = TaskSpec {
        networks: networks.collect(),
        ..TaskSpec::default()
    };
    Service {
        id: ServiceId::from_number(id),
        meta: Meta::default(),
        spec: ServiceSpec {
            name: format!("s{id}"),
            task: Arc::new(task),
            endpoint: EndpointSpec {
                ports,
                ..EndpointSpec::default()
            },
            ..ServiceSpec::default()
        },
        spec_version: Version::default(),
        previous_spec: None,
        update_status: None,
        endpoint: Endpoint::default(),
    }
}

fn task(id: u128) -> Task {
    Task {
        id: TaskId::from_number(id),
        meta: Meta::default(),
        service_id: ServiceId::from_number(1),
        service_name: "s1".into(),
        slot: 1,
        node_id: None,
        spec: Arc::default(),
        spec_version: Version::default(),
        status: TaskStatus::default(),
        desired_state: TaskState::Running,
        attachments: vec![],
        host_ports: vec![],
    }
}

fn allocate(id: u128, network: u128, address: &str) -> Action {
    Action::TaskAllocate {
        task: TaskId::from_number(id),
        attachments: vec![NetworkAttachment {
            network: NetworkId::from_number(network),
            addresses: vec![address.parse().unwrap()],
            aliases: vec![],
        }],
        host_ports: vec![],
        status: status(TaskState::Pending),
    }
}

fn status(state: TaskState) -> TaskStatus {
    TaskStatus {
        state,
        ..TaskStatus::default()
    }
}

#[test]
fn an_address_has_one_holder_until_its_task_has_ended() {
    let mut world = World::new();
    let net = NetworkId::from_number(1);
    let holder = |world: &World| world.0.holdings().holder(net, "10.0.0.2".parse().unwrap());
    world.make(vec![
        network(1, "web", "10.0.0.0/29").into(),
        task(1).into(),
        task(2).into(),
    ]);
    world.apply(vec![allocate(1, 1, "10.0.0.2/29")]).unwrap();
    assert_eq!(holder(&world), Some(Holder::Task(TaskId::from_number(1))));
    // Planned before the first was known: dropped, and the task waits for the next plan.
    world.apply(vec![allocate(2, 1, "10.0.0.2/29")]).unwrap();
    let second = world.0.task(TaskId::from_number(2)).unwrap();
    assert_eq!(second.status.state, TaskState::New);
    assert_eq!(world.0.tasks_on_network(net).count(), 1);

    let ended = |id| Action::TaskStatus {
        task: TaskId::from_number(id),
        status: status(TaskState::Failed),
    };
    world.apply(vec![ended(1)]).unwrap();
    assert_eq!(holder(&world), None, "released when the task has ended");
    world.apply(vec![allocate(2, 1, "10.0.0.2/29")]).unwrap();
    let remove = |id| Action::Remove {
        id: ObjectId::Task(TaskId::from_number(id)),
        version: None,
    };
    world.apply(vec![remove(1)]).unwrap();
    let second = Some(Holder::Task(TaskId::from_number(2)));
    assert_eq!(holder(&world), second, "the dead one took nothing along");
    world.apply(vec![remove(2)]).unwrap();
    assert_eq!(world.0.holdings().addresses(net).count(), 0);
}

#[test]
fn a_successor_goes_on_after_the_address_given_last() {
    let mut world = World::new();
    let net = Arc::new(network(1, "web", "10.0.0.0/29"));
    world.make(vec![net.clone().into(), task(1).into()]);
    world.apply(vec![allocate(1, 1, "10.0.0.4/29")]).unwrap();
    let remove = Action::Remove {
        id: ObjectId::Task(TaskId::from_number(1)),
        version: None,
    };
    world.apply(vec![remove]).unwrap();
    let restored = codec::decode_snapshot(&codec::encode_snapshot(&world.0)).unwrap();
    assert_eq!(restored.holdings(), world.0.holdings());
    let mut holdings = restored.holdings().clone();
    let mut given = vec![];
    while let Some(address) = holdings.take(
        &net,
        &net.subnets[0],
        Holder::Task(TaskId::from_number(given.len() as u128)),
    ) {
        given.push(address.to_string());
    }
    assert_eq!(
        given,
        ["10.0.0.5", "10.0.0.6", "10.0.0.2", "10.0.0.3", "10.0.0.4"]
    );
    assert_eq!(holdings.free(&net, &net.subnets[0]), 0);
    holdings.release(net.id, "10.0.0.3".parse().unwrap());
    assert_eq!(holdings.free(&net, &net.subnets[0]), 1);

    let remove = Action::Remove {
        id: ObjectId::Network(net.id),
        version: None,
    };
    world.apply(vec![remove]).unwrap();
    assert_eq!(world.0.holdings(), &Holdings::default());
}

fn node(id: u128) -> Node {
    Node {
        id: NodeId::from_number(id),
        meta: Meta::default(),
        spec: NodeSpec::default(),
        role: NodeRole::Worker,
        description: None,
        status: NodeStatus::default(),
        manager_status: None,
        network_index: 0,
        certificate: types::node::NodeCertificate::default(),
    }
}

#[test]
fn ports_of_the_swarm_itself_are_not_published() {
    let mut world = World::new();
    let mut ingress = network(9, "ingress", "10.0.0.0/24");
    ingress.spec.ingress = true;
    let mut manager = node(1);
    manager.manager_status = Some(types::node::ManagerStatus {
        raft_id: 1,
        addr: "192.0.2.1:2377".to_owned(),
    });
    world.make(vec![ingress.into(), manager.into()]);
    for (number, protocol, purpose) in [
        (2377, Protocol::Tcp, Some("managers")),
        (2377, Protocol::Udp, None),
        (7946, Protocol::Udp, Some("gossip between nodes")),
        (7946, Protocol::Tcp, None),
        (51820, Protocol::Udp, Some("encryption between nodes")),
    ] {
        let mut port = published(number, 80, PublishMode::Ingress);
        port.protocol = protocol;
        let asked = service(
            u128::from(number) * 2 + u128::from(protocol == Protocol::Udp),
            &[],
            vec![port],
        );
        let created = world.apply(vec![Action::Create(asked.into())]);
        let refusal = purpose.map(|purpose| {
            format!(
                "port {number}/{protocol} is used by the swarm itself, for {purpose}: publish \
                 another port"
            )
        });
        assert_eq!(created.err().map(|refusal| refusal.object), refusal);
    }
}

#[test]
fn a_port_has_one_service() {
    use PublishMode::{Host, Ingress};
    let mut ingress = network(9, "ingress", "10.0.0.0/24");
    ingress.spec.ingress = true;
    let cases = [
        (Ingress, Ingress, true),
        (Ingress, Host, true),
        (Host, Ingress, true),
        (Host, Host, false),
    ];
    for (first, second, clashes) in cases {
        let mut world = World::new();
        world.make(vec![
            ingress.clone().into(),
            service(1, &[], vec![published(80, 8080, first)]).into(),
        ]);
        let other = service(2, &[], vec![published(80, 8081, second)]);
        let result = world.apply(vec![Action::Create(other.into())]);
        assert_eq!(result.is_err(), clashes, "{first:?} {second:?}");
        if let Err(refusal) = result {
            assert!(
                refusal
                    .object
                    .starts_with("port 80/tcp is already in use by service s1"),
                "{refusal}"
            );
        }
        let mut udp = published(80, 8081, second);
        udp.protocol = Protocol::Udp;
        world.make(vec![service(3, &[], vec![udp]).into()]);
    }
}

#[test]
fn a_port_goes_with_the_spec_that_asked_for_it() {
    let mut world = World::new();
    let mut ingress = network(9, "ingress", "10.0.0.0/24");
    ingress.spec.ingress = true;
    let asked = published(0, 8080, PublishMode::Ingress);
    let first = service(1, &[], vec![asked.clone()]);
    world.make(vec![ingress.into(), first.clone().into()]);
    let endpoint = Endpoint {
        spec: first.spec.endpoint.clone(),
        ports: vec![published(30_000, 8080, PublishMode::Ingress)],
        virtual_ips: vec![],
    };
    let give = |id: u128, endpoint: &Endpoint| Action::ServiceEndpoint {
        service: ServiceId::from_number(id),
        endpoint: endpoint.clone(),
    };
    let before = world.0.service(first.id).unwrap().meta.version;
    world.apply(vec![give(1, &endpoint)]).unwrap();
    let stored = world.0.service(first.id).unwrap().clone();
    assert_eq!(stored.endpoint, endpoint);
    assert_eq!(stored.meta.version, before, "no user is out of sequence");
    assert_eq!(given_port(&stored, &asked), Some(30_000));

    // Another service planned with the same port gets nothing.
    world.make(vec![service(2, &[], vec![asked]).into()]);
    world.apply(vec![give(2, &endpoint)]).unwrap();
    let second = world.0.service(ServiceId::from_number(2)).unwrap();
    assert_eq!(second.endpoint, Endpoint::default());

    // As soon as the first asks for it no longer, the port is free, allocator or not.
    let mut changed = Service::clone(&stored);
    changed.spec.endpoint.ports.clear();
    changed.endpoint = Endpoint::default();
    world.apply(vec![Action::Update(changed.into())]).unwrap();
    let kept = &world.0.service(first.id).unwrap().endpoint;
    assert_eq!(kept, &endpoint, "only the allocator gives and takes");
    let holders = world.0.holdings().port_holders(Protocol::Tcp, 30_000);
    assert_eq!(holders.count(), 0);
    world.apply(vec![give(1, &endpoint)]).unwrap();
    assert_eq!(
        world
            .0
            .holdings()
            .port_holders(Protocol::Tcp, 30_000)
            .count(),
        0,
        "planned for a spec that is gone"
    );
}

#[test]
fn a_virtual_address_has_one_service() {
    let mut world = World::new();
    let (first, second) = (service(1, &[1], vec![]), service(2, &[1], vec![]));
    world.make(vec![
        network(1, "web", "10.0.0.0/24").into(),
        first.clone().into(),
        second.clone().into(),
    ]);
    let endpoint = Endpoint {
        virtual_ips: vec![VirtualIp {
            network: NetworkId::from_number(1),
            address: "10.0.0.2/24".parse().unwrap(),
        }],
        ..Endpoint::default()
    };
    for service in [&first, &second] {
        let (service, endpoint) = (service.id, endpoint.clone());
        world
            .apply(vec![Action::ServiceEndpoint { service, endpoint }])
            .unwrap();
    }
    assert_eq!(world.0.service(first.id).unwrap().endpoint, endpoint);
    let left = &world.0.service(second.id).unwrap().endpoint;
    assert_eq!(left, &Endpoint::default());
}

#[test]
fn networks_keep_apart() {
    let mut world = World::new();
    let with_pool = |id, name: &str, subnet: &str| {
        let mut network = network(id, name, subnet);
        network.spec.pools = vec![AddressPool {
            subnet: network.subnets[0].subnet,
            range: None,
            gateway: None,
            aux: [].into(),
        }];
        network.subnets.clear();
        network
    };
    world.make(vec![network(1, "web", "10.0.0.0/24").into()]);
    for subnet in ["10.0.0.0/24", "10.0.0.128/25", "10.0.0.0/16"] {
        let sentence = world.refusal(Action::Create(with_pool(2, "db", subnet).into()));
        assert!(sentence.contains("of network web"), "{sentence}");
    }
    let mut macvlan = with_pool(3, "lan", "10.0.0.0/24");
    macvlan.spec.driver = NetworkDriver::Macvlan;
    world.make(vec![
        macvlan.into(),
        with_pool(4, "db", "10.0.1.0/24").into(),
    ]);
    let mut ingress = network(5, "ingress", "10.0.2.0/24");
    ingress.spec.ingress = true;
    world.make(vec![ingress.clone().into()]);
    (ingress.id, ingress.spec.name) = (NetworkId::from_number(6), "other".into());
    ingress.subnets.clear();
    let sentence = world.refusal(Action::Create(ingress.into()));
    assert!(
        sentence.contains("ingress network ingress is already present"),
        "{sentence}"
    );
}

#[test]
fn a_network_in_use_stays() {
    let mut world = World::new();
    let mut ingress = network(9, "ingress", "10.0.9.0/24");
    ingress.spec.ingress = true;
    world.make(vec![
        network(1, "web", "10.0.0.0/24").into(),
        network(2, "db", "10.0.1.0/24").into(),
        ingress.into(),
        service(1, &[1], vec![]).into(),
        service(2, &[], vec![published(80, 80, PublishMode::Ingress)]).into(),
        task(1).into(),
    ]);
    world.apply(vec![allocate(1, 2, "10.0.1.2/24")]).unwrap();
    let remove = |id| Action::Remove {
        id: ObjectId::Network(NetworkId::from_number(id)),
        version: None,
    };
    for (id, who) in [
        (1, "in use by service s1"),
        (2, "in use by task s1.1"),
        (9, "in use by service s2"),
    ] {
        let sentence = world.refusal(remove(id));
        assert!(sentence.contains(who), "{sentence}");
    }
    let unknown = world.refusal(Action::Create(service(3, &[7], vec![]).into()));
    assert!(unknown.starts_with("network "), "{unknown}");
    let gone = [ServiceId::from_number(1), ServiceId::from_number(2)];
    let gone = gone.map(|id| Action::Remove {
        id: ObjectId::Service(id),
        version: None,
    });
    world.apply(gone.to_vec()).unwrap();
    world.apply(vec![remove(1), remove(9)]).unwrap();
    let late = service(4, &[], vec![published(81, 80, PublishMode::Ingress)]);
    let sentence = world.refusal(Action::Create(late.into()));
    assert!(sentence.contains("no ingress network"), "{sentence}");
}

#[test]
fn every_node_has_an_index_of_its_own() {
    let mut world = World::new();
    world.make(vec![node(5).into(), node(3).into(), node(7).into()]);
    let index = |world: &World, id| {
        let node = world.0.node(NodeId::from_number(id));
        node.map(|node| node.network_index)
    };
    let indexes = [5, 3, 7].map(|id| index(&world, id).unwrap());
    assert_eq!(indexes, [1, 2, 3]);
    let mut changed = Node::clone(world.0.node(NodeId::from_number(3)).unwrap());
    changed.network_index = 1;
    world.apply(vec![Action::Update(changed.into())]).unwrap();
    assert_eq!(index(&world, 3), Some(2), "kept for life");
    let remove = Action::Remove {
        id: ObjectId::Node(NodeId::from_number(5)),
        version: None,
    };
    world.apply(vec![remove]).unwrap();
    world.make(vec![node(9).into()]);
    assert_eq!(index(&world, 9), Some(1));
}
