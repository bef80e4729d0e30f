//! A store with a leader's allocator, for tests.

use std::sync::Arc;

use store::{Action, Object, Plan, PlanContext, Planner as _, State, Transaction, codec};
use types::cluster::{ClusterLock, RootCaState, SubnetPool};
use types::id::RandomIds;
use types::network::{
    AddressPool, Endpoint, EndpointSpec, NetworkAttachmentSpec, PublishMode, PublishedPort,
};
use types::{
    Cluster, ClusterId, ClusterSpec, Meta, Network, NetworkId, NetworkSpec, Service, ServiceId,
    ServiceSpec, Task, TaskId, TaskSpec, TaskState, TaskStatus, Timestamp, Version,
};

use crate::Allocator;

pub(crate) fn cluster() -> Cluster {
    Cluster {
        id: ClusterId::from_number(1),
        meta: Meta::default(),
        spec: ClusterSpec::default(),
        root_ca: RootCaState::default(),
        lock: ClusterLock::default(),
        revoked: [].into(),
        gossip_keys: vec![],
        gossip_keys_at: Timestamp::default(),
        content_key: types::Payload::default(),
        access: types::access::Access::default(),
    }
}

pub(crate) fn network(id: u128, name: &str, subnets: &[&str]) -> Network {
    let pools = subnets.iter().map(|subnet| AddressPool {
        subnet: subnet.parse().unwrap(),
        range: None,
        gateway: None,
        aux: [].into(),
    });
    Network {
        id: NetworkId::from_number(id),
        meta: Meta::default(),
        spec: NetworkSpec {
            name: name.into(),
            pools: pools.collect(),
            ipv6: subnets.iter().any(|subnet| subnet.contains(':')),
            ..NetworkSpec::default()
        },
        subnets: vec![],
    }
}

pub(crate) fn ingress(id: u128) -> Network {
    let mut network = network(id, "ingress", &["10.255.0.0/24"]);
    network.spec.ingress = true;
    network
}

pub(crate) fn port(published: u16, target: u16, mode: PublishMode) -> PublishedPort {
    PublishedPort {
        published_port: published,
        target_port: target,
        mode,
        ..PublishedPort::default()
    }
}

pub(crate) fn service(id: u128, networks: &[u128], ports: &[PublishedPort]) -> Service {
    let networks = networks.iter().map(|id| NetworkAttachmentSpec {
        target: NetworkId::from_number(*id).to_string(),
        aliases: vec![format!("alias{id}")],
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
                ports: ports.to_vec(),
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

/// The store, and the allocator of whoever leads.
pub(crate) struct World {
    pub(crate) state: State,
    allocator: Allocator,
}

impl World {
    pub(crate) fn new() -> Self {
        let mut world = Self {
            state: State::default(),
            allocator: Allocator::default(),
        };
        world.create(cluster());
        world
    }

    /// A cluster with these pools.
    pub(crate) fn with_pools(pools: &[(&str, u8)]) -> Self {
        let mut world = Self::new();
        let mut cluster = Cluster::clone(world.state.cluster().unwrap());
        let pools = pools.iter().map(|(base, size)| SubnetPool {
            base: base.parse().unwrap(),
            size: *size,
        });
        cluster.spec.network.pools = pools.collect();
        world.apply(vec![Action::Update(cluster.into())]);
        world
    }

    pub(crate) fn apply(&mut self, actions: Vec<Action>) {
        let version = Version {
            index: self.state.version().index + 1,
        };
        let now = Timestamp::from_secs(1);
        let changes = self.state.apply(version, &Transaction { now, actions });
        for change in changes.unwrap() {
            self.allocator.observe(&change);
        }
    }

    pub(crate) fn create(&mut self, object: impl Into<Object>) {
        self.apply(vec![Action::Create(object.into())]);
    }

    /// A NEW task of a service as it is now.
    pub(crate) fn task(&mut self, id: u128, service: u128) {
        let service = self.state.service(ServiceId::from_number(service)).unwrap();
        let task = Task {
            id: TaskId::from_number(id),
            meta: Meta::default(),
            service_id: service.id,
            service_name: service.spec.name.clone(),
            slot: 1,
            node_id: None,
            spec: service.spec.task.clone(),
            spec_version: service.spec_version,
            status: TaskStatus::default(),
            desired_state: TaskState::Running,
            attachments: vec![],
            host_ports: vec![],
        };
        self.create(task);
    }

    /// Has a task end.
    pub(crate) fn end(&mut self, id: u128) {
        self.apply(vec![Action::TaskStatus {
            task: TaskId::from_number(id),
            status: TaskStatus {
                state: TaskState::Failed,
                ..TaskStatus::default()
            },
        }]);
    }

    pub(crate) fn plan(&mut self) -> Plan {
        self.allocator.plan(&mut PlanContext {
            state: &self.state,
            now: Timestamp::from_secs(1),
            ids: &mut RandomIds,
        })
    }

    /// Plans and applies until there is nothing left to do.
    pub(crate) fn settle(&mut self) {
        for _ in 0..10 {
            let plan = self.plan();
            if plan.transactions.is_empty() {
                return;
            }
            for transaction in plan.transactions {
                self.apply(transaction);
            }
        }
        panic!("the allocator does not come to rest: {:?}", self.plan());
    }

    /// Another manager takes over: from a snapshot, with an allocator that knows nothing.
    pub(crate) fn change_leader(&mut self) {
        self.state = codec::decode_snapshot(&codec::encode_snapshot(&self.state)).unwrap();
        self.allocator = Allocator::default();
        self.allocator.resync(&self.state);
    }

    /// Addresses of a task without their prefix, or why it waits.
    pub(crate) fn told(&self, id: u128) -> String {
        let task = self.state.task(TaskId::from_number(id)).unwrap();
        if task.status.state == TaskState::New {
            return format!("NEW {}", task.status.err);
        }
        let addresses = task.attachments.iter().flat_map(|on| &on.addresses);
        let addresses: Vec<_> = addresses.map(|net| net.addr().to_string()).collect();
        addresses.join(" ")
    }

    /// Virtual addresses and ports of a service.
    pub(crate) fn served(&self, id: u128) -> (Vec<String>, Vec<u16>) {
        let service = self.state.service(ServiceId::from_number(id)).unwrap();
        let endpoint = &service.endpoint;
        let vips = endpoint.virtual_ips.iter();
        let ports = endpoint.ports.iter();
        (
            vips.map(|vip| vip.address.to_string()).collect(),
            ports.map(|port| port.published_port).collect(),
        )
    }

    pub(crate) fn subnets(&self, id: u128) -> Vec<String> {
        let network = self.state.network(NetworkId::from_number(id)).unwrap();
        let subnets = network.subnets.iter();
        subnets
            .map(|s| format!("{} {} {}", s.subnet, s.gateway, s.vni))
            .collect()
    }
}
