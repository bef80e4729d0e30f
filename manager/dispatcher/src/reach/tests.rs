//! Nodes that were told of every change know what one told from scratch knows, and no more.

use std::sync::Arc;

use proto::dispatcher as wire;
use store::{Action, Object, ObjectId, Transaction};
use types::cluster::{ClusterLock, RootCaState};
use types::network::{
    Endpoint, EndpointSpec, NetworkAttachment, NetworkAttachmentSpec, PublishMode, PublishedPort,
    Subnet, VirtualIp,
};
use types::node::{NodeCertificate, NodeDescription, NodeNetwork, NodeState, NodeStatus};
use types::{
    Cluster, ClusterId, ClusterSpec, Meta, Network, NetworkSpec, Node, NodeRole, NodeSpec, Payload,
    Service, ServiceSpec, Task, TaskSpec, TaskState, TaskStatus, Timestamp, Version,
};

use super::*;

/// What a node's agent has made of what it was told.
#[derive(Debug, Default, PartialEq)]
struct Known {
    settings: Option<wire::NetworkSettings>,
    networks: BTreeMap<String, proto::objects::Network>,
    services: BTreeMap<String, wire::ServiceEndpoint>,
    tasks: BTreeMap<String, wire::TaskEndpoint>,
    peers: BTreeMap<String, wire::Peer>,
}

impl Known {
    fn hear(&mut self, changes: Vec<AssignmentChange>) {
        for change in changes {
            match change.change.unwrap() {
                Change::NetworkSettings(settings) => self.settings = Some(settings),
                Change::UpdateNetwork(record) => {
                    self.networks.insert(record.id.clone(), record);
                }
                Change::UpdateService(record) => {
                    self.services.insert(record.service_id.clone(), record);
                }
                Change::UpdateEndpoint(record) => {
                    self.tasks.insert(record.task_id.clone(), record);
                }
                Change::UpdatePeer(record) => {
                    self.peers.insert(record.node_id.clone(), record);
                }
                Change::RemoveNetwork(id) => assert!(self.networks.remove(&id).is_some()),
                Change::RemoveService(id) => assert!(self.services.remove(&id).is_some()),
                Change::RemoveEndpoint(id) => assert!(self.tasks.remove(&id).is_some()),
                Change::RemovePeer(id) => assert!(self.peers.remove(&id).is_some()),
                other => panic!("not about networks: {other:?}"),
            }
        }
    }
}

/// A node's session and its agent.
#[derive(Default)]
struct Session {
    sent: SentReach,
    /// As the mailbox holds it.
    on: BTreeSet<NetworkId>,
    dirty: DirtyReach,
    known: Known,
}

/// The store, and the sessions of all nodes.
struct World {
    state: State,
    sessions: BTreeMap<NodeId, Session>,
    random: u64,
}

const NODES: u128 = 5;
const NETWORKS: u128 = 4;
const INGRESS: u128 = 9;

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            state: State::default(),
            sessions: BTreeMap::new(),
            random: seed * 2 + 1,
        };
        let cluster = Cluster {
            id: ClusterId::from_number(1),
            meta: Meta::default(),
            spec: ClusterSpec::default(),
            root_ca: RootCaState::default(),
            lock: ClusterLock::default(),
            revoked: [].into(),
            content_key: Payload::default(),
            gossip_keys: vec![Payload::new(vec![1; 32])],
            gossip_keys_at: Timestamp::default(),
            access: types::access::Access::default(),
        };
        world.commit(vec![Action::Create(cluster.into())]);
        for number in 1..=NODES {
            world.commit(vec![Action::Create(node(number).into())]);
            world
                .sessions
                .insert(NodeId::from_number(number), Session::default());
        }
        for number in (1..=NETWORKS).chain([INGRESS]) {
            world.commit(vec![Action::Create(network(number).into())]);
        }
        for session in world.sessions.values_mut() {
            session.dirty = DirtyReach {
                interest: true,
                settings: true,
                ..DirtyReach::default()
            };
        }
        world
    }

    /// Applies, and marks what sessions have to look at again, as the dispatcher's term does.
    fn commit(&mut self, actions: Vec<Action>) {
        let version = Version {
            index: self.state.version().index + 1,
        };
        let now = Timestamp::from_secs(1);
        let changes = self.state.apply(version, &Transaction { now, actions });
        for marked in changes
            .unwrap()
            .iter()
            .flat_map(|c| concerns(c, &self.state))
        {
            for (id, session) in &mut self.sessions {
                let is_meant = match marked.node {
                    Some(node) => node == *id,
                    None => marked.everybody || !session.on.is_disjoint(&marked.networks),
                };
                if is_meant {
                    marked.set(&mut session.dirty);
                }
            }
        }
    }

    fn tell(&mut self, node: NodeId) {
        let session = self.sessions.get_mut(&node).unwrap();
        let dirty = std::mem::take(&mut session.dirty);
        if dirty.interest {
            session.on = interest(&self.state, node);
        }
        let on = session.on.clone();
        let changes = session.sent.incremental(&self.state, node, on, dirty);
        session.known.hear(changes);
    }

    /// A number below `end`.
    fn below(&mut self, end: u64) -> u128 {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u128::from((z ^ (z >> 31)) % end)
    }
}

fn node(number: u128) -> Node {
    Node {
        id: NodeId::from_number(number),
        meta: Meta::default(),
        spec: NodeSpec::default(),
        role: NodeRole::Worker,
        description: Some(NodeDescription {
            network: NodeNetwork {
                data_path: vec![format!("192.0.2.{number}").parse().unwrap()],
                wireguard_keys: vec![],
            },
            ..NodeDescription::default()
        }),
        status: NodeStatus {
            state: NodeState::Ready,
            ..NodeStatus::default()
        },
        manager_status: None,
        network_index: 0,
        certificate: NodeCertificate::default(),
    }
}

fn network(number: u128) -> Network {
    Network {
        id: NetworkId::from_number(number),
        meta: Meta::default(),
        spec: NetworkSpec {
            name: format!("n{number}"),
            ingress: number == INGRESS,
            ..NetworkSpec::default()
        },
        subnets: vec![Subnet {
            subnet: format!("10.{number}.0.0/16").parse().unwrap(),
            gateway: format!("10.{number}.0.1").parse().unwrap(),
            vni: 4096,
        }],
    }
}

fn service(number: u128, networks: &[u128], publishes: bool) -> Service {
    let asked = networks.iter().map(|network| NetworkAttachmentSpec {
        target: NetworkId::from_number(*network).to_string(),
        aliases: vec![format!("alias{number}")],
        ..NetworkAttachmentSpec::default()
    });
    let task = TaskSpec {
        networks: asked.collect(),
        ..TaskSpec::default()
    };
    let port = PublishedPort {
        published_port: u16::try_from(8000 + number).unwrap(),
        target_port: 80,
        mode: PublishMode::Ingress,
        ..PublishedPort::default()
    };
    let spec = EndpointSpec {
        ports: if publishes { vec![port] } else { vec![] },
        ..EndpointSpec::default()
    };
    Service {
        id: ServiceId::from_number(number),
        meta: Meta::default(),
        spec: ServiceSpec {
            name: format!("s{number}"),
            task: Arc::new(task),
            endpoint: spec,
            ..ServiceSpec::default()
        },
        spec_version: Version::default(),
        previous_spec: None,
        update_status: None,
        endpoint: Endpoint::default(),
    }
}

/// What the allocator would give.
fn given(service: &Service) -> Endpoint {
    let networks = networks(service);
    let number = service.id.as_str().trim_start_matches('0').to_owned();
    let number = u128::from_str_radix(&number, 36).unwrap_or(0);
    let vip = |network: &u128| VirtualIp {
        network: NetworkId::from_number(*network),
        address: format!("10.{network}.1.{}/16", number + 2).parse().unwrap(),
    };
    Endpoint {
        spec: service.spec.endpoint.clone(),
        ports: service.spec.endpoint.ports.clone(),
        virtual_ips: networks.iter().map(vip).collect(),
    }
}

fn networks(service: &Service) -> Vec<u128> {
    let of = |text: &str| u128::from_str_radix(text.trim_start_matches('0'), 36).unwrap();
    let asked = service.spec.task.networks.iter();
    let asked = asked.map(|asked| of(&asked.target));
    let ports = service.spec.endpoint.ports.first();
    asked.chain(ports.map(|_| INGRESS)).collect()
}

fn task(number: u128, service: &Service, node: NodeId) -> Task {
    let place = |network: &u128| NetworkAttachment {
        network: NetworkId::from_number(*network),
        addresses: vec![
            format!("10.{network}.{}.{}/16", 2 + number / 250, number % 250 + 2)
                .parse()
                .unwrap(),
        ],
        aliases: vec![],
    };
    Task {
        id: TaskId::from_number(number),
        meta: Meta::default(),
        service_id: service.id,
        service_name: service.spec.name.clone(),
        slot: 1,
        node_id: Some(node),
        spec: service.spec.task.clone(),
        spec_version: service.spec_version,
        status: TaskStatus {
            state: TaskState::Assigned,
            ..TaskStatus::default()
        },
        desired_state: TaskState::Running,
        attachments: networks(service).iter().map(place).collect(),
        host_ports: vec![],
    }
}

impl World {
    /// Anything that can happen to a cluster.
    fn churn(&mut self, number: u128) {
        let node_id = NodeId::from_number(1 + self.below(NODES as u64));
        let service_id = ServiceId::from_number(1 + self.below(6));
        let stored = self.state.service(service_id).cloned();
        let tasks: Vec<_> = self.state.tasks().map(|task| task.id).collect();
        let some = self.below(tasks.len().max(1) as u64);
        let some = tasks.get(usize::try_from(some).unwrap()).copied();
        let status = |task, state| Action::TaskStatus {
            task,
            status: TaskStatus {
                state,
                ..TaskStatus::default()
            },
        };
        let actions = match (self.below(12), stored, some) {
            (0 | 1, None, _) => {
                let first = 1 + self.below(NETWORKS as u64);
                let second = 1 + self.below(NETWORKS as u64);
                let on: BTreeSet<u128> = [first, second].into();
                let publishes = self.below(3) == 0;
                let on: Vec<u128> = on.into_iter().collect();
                let number = 1 + (first + second * 7) % 6;
                if self.state.service(ServiceId::from_number(number)).is_some() {
                    return;
                }
                vec![Action::Create(service(number, &on, publishes).into())]
            }
            (2 | 3, Some(stored), _) => vec![Action::ServiceEndpoint {
                service: stored.id,
                endpoint: given(&stored),
            }],
            (4 | 5, Some(stored), _) if self.state.node(node_id).is_some() => {
                vec![Action::Create(task(number, &stored, node_id).into())]
            }
            (6 | 7, _, Some(task)) => vec![status(task, TaskState::Running)],
            (8, _, Some(task)) => vec![Action::TaskDesired {
                task,
                desired: TaskState::Shutdown,
            }],
            (9, _, Some(task)) => vec![status(task, TaskState::Failed)],
            (10, _, Some(task)) => vec![Action::Remove {
                id: ObjectId::Task(task),
                version: None,
            }],
            (11, Some(stored), _) => match self.below(3) {
                0 => vec![Action::Remove {
                    id: ObjectId::Service(stored.id),
                    version: None,
                }],
                1 => vec![self.other_status(node_id)],
                _ => self.other_keys(),
            },
            (_, _, _) => return,
        };
        self.commit(actions);
    }

    fn other_status(&mut self, node: NodeId) -> Action {
        let states = [NodeState::Down, NodeState::Ready, NodeState::Unknown];
        let state = states[usize::try_from(self.below(3)).unwrap()];
        Action::NodeStatus {
            node,
            status: NodeStatus {
                state,
                ..NodeStatus::default()
            },
            description: None,
        }
    }

    fn other_keys(&mut self) -> Vec<Action> {
        let mut cluster = Cluster::clone(self.state.cluster().unwrap());
        let byte = u8::try_from(self.below(256)).unwrap();
        cluster.gossip_keys = vec![Payload::new(vec![byte; 32])];
        vec![Action::Update(Object::from(cluster))]
    }
}

#[test]
fn churn_leaves_every_node_with_exactly_the_records_of_its_networks() {
    let mut records = 0;
    for seed in 0..40 {
        let mut world = World::new(seed);
        for step in 0..400 {
            world.churn(1000 + step);
            // Sessions read late and in any order; several commits may lie between.
            for _ in 0..world.below(3) {
                let node = NodeId::from_number(1 + world.below(NODES as u64));
                world.tell(node);
            }
        }
        for node in 1..=NODES {
            let node = NodeId::from_number(node);
            world.tell(node);
            let mut fresh = Known::default();
            let on = interest(&world.state, node);
            fresh.hear(SentReach::default().complete(&world.state, node, on.clone()));
            let known = &world.sessions[&node].known;
            assert_eq!(*known, fresh, "seed {seed}, node {node}");
            let stale = Stale::find(&world.sessions[&node].sent, &world.state, node);
            assert_eq!(stale.texts(), [] as [String; 0], "seed {seed}, node {node}");
            assert_only(&world.state, node, &on, &fresh);
            records += fresh.tasks.len();
        }
    }
    assert!(records > 100, "the churn made next to nothing: {records}");
}

/// What a node knows, said once more in other words.
fn assert_only(state: &State, node: NodeId, on: &BTreeSet<NetworkId>, known: &Known) {
    let live =
        |task: &&Arc<Task>| (TaskState::Assigned..TaskState::Complete).contains(&task.status.state);
    let here = state.tasks().filter(live);
    let here = here.filter(|task| task.node_id == Some(node));
    let mut networks: BTreeSet<NetworkId> = here
        .flat_map(|task| task.attachments.iter().map(|place| place.network))
        .collect();
    let vips = state.services().flat_map(|s| &s.endpoint.virtual_ips);
    let vips = vips.map(|vip| vip.network);
    let ending = state
        .tasks()
        .filter(|task| !task.status.state.is_terminal());
    let ending = ending.flat_map(|task| task.attachments.iter().map(|place| place.network));
    let ingress = NetworkId::from_number(INGRESS);
    if vips.chain(ending).any(|network| network == ingress) {
        networks.insert(ingress);
    }
    assert_eq!(*on, networks);
    let names = |ids: Vec<String>| ids.into_iter().collect::<BTreeSet<_>>();
    assert_eq!(
        names(known.networks.keys().cloned().collect()),
        names(networks.iter().map(ToString::to_string).collect())
    );
    let tasks = state.tasks().filter(live).filter(|task| {
        let mut places = task.attachments.iter();
        places.any(|place| networks.contains(&place.network))
    });
    let tasks: Vec<_> = tasks.collect();
    assert_eq!(
        names(known.tasks.keys().cloned().collect()),
        names(tasks.iter().map(|task| task.id.to_string()).collect())
    );
    for task in tasks {
        let told = &known.tasks[task.id.as_str()];
        let node = state.node(task.node_id.unwrap()).unwrap();
        let serves = task.status.state == TaskState::Running
            && task.desired_state == TaskState::Running
            && node.status.state != NodeState::Down;
        assert_eq!(told.serving, serves, "{task:?}");
        let places = told.attachments.iter();
        for place in places {
            assert!(networks.contains(&place.network_id.parse().unwrap()));
        }
    }
}

#[test]
fn a_node_alone_is_told_of_nobody() {
    let mut world = World::new(1);
    let alone = service(1, &[1], false);
    let other = service(2, &[2], false);
    world.commit(vec![
        Action::Create(alone.clone().into()),
        Action::Create(other.clone().into()),
        Action::Create(task(1, &alone, NodeId::from_number(1)).into()),
        Action::Create(task(2, &other, NodeId::from_number(2)).into()),
    ]);
    let node = NodeId::from_number(1);
    world.tell(node);
    let known = &world.sessions[&node].known;
    let task = TaskId::from_number(1).to_string();
    assert_eq!(known.tasks.keys().collect::<Vec<_>>(), [&task]);
    assert_eq!((known.services.len(), known.networks.len()), (1, 1));
    assert!(known.peers.is_empty());
    assert_eq!(known.settings.as_ref().unwrap().index, 1);
    assert!(!known.tasks[&task].serving);
}

#[test]
fn nothing_is_said_twice() {
    let mut world = World::new(1);
    let web = service(1, &[1], true);
    world.commit(vec![
        Action::Create(web.clone().into()),
        Action::Create(task(1, &web, NodeId::from_number(1)).into()),
    ]);
    let node = NodeId::from_number(1);
    world.tell(node);
    let session = world.sessions.get_mut(&node).unwrap();
    let everything = DirtyReach {
        interest: true,
        settings: true,
        networks: session.sent.networks.keys().copied().collect(),
        services: session.sent.services.keys().copied().collect(),
        tasks: session.sent.tasks.keys().copied().collect(),
        nodes: session.sent.nodes.keys().copied().collect(),
    };
    let on = session.on.clone();
    let again = session.sent.incremental(&world.state, node, on, everything);
    assert_eq!(again, []);
}

#[test]
fn what_was_not_told_is_found_and_told() {
    let mut world = World::new(1);
    let web = service(1, &[1], true);
    let node = NodeId::from_number(1);
    world.commit(vec![
        Action::Create(web.clone().into()),
        Action::Create(task(1, &web, node).into()),
    ]);
    world.tell(node);
    world.commit(vec![Action::Create(
        task(2, &web, NodeId::from_number(2)).into(),
    )]);
    let state = world.state.clone();
    let session = world.sessions.get_mut(&node).unwrap();
    // As if a mark had been forgotten.
    session.dirty = DirtyReach::default();
    let first = Stale::find(&session.sent, &state, node);
    let texts = first.texts();
    let expected = format!("task {}", TaskId::from_number(2));
    assert!(texts.contains(&expected), "{texts:?}");
    let missed = Stale::find(&session.sent, &state, node).persisting(&first);
    assert_eq!(missed, first);
    // Told meanwhile: nothing was missed.
    assert!(Stale::default().persisting(&first).is_empty());
    let (mut dirty, on) = (DirtyReach::default(), session.on.clone());
    missed.mark(&mut dirty);
    let before = session.sent.sum();
    let changes = session.sent.incremental(&state, node, on, dirty);
    assert_eq!(changes.len(), texts.len());
    assert!(Stale::find(&session.sent, &state, node).is_empty());
    assert_ne!(session.sent.sum(), before);
}
