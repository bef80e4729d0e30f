//! The objects and their indexes at one version; copying it costs nothing.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use types::{
    Cluster, Config, ConfigId, Network, NetworkId, Node, NodeId, Secret, SecretId, Service,
    ServiceId, Task, TaskId, Version,
};

use crate::{Holdings, Object, ObjectId};

/// Everything that is true at one version.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub(crate) version: Version,
    pub(crate) cluster: Option<Arc<Cluster>>,
    nodes: OrdMap<NodeId, Arc<Node>>,
    services: OrdMap<ServiceId, Arc<Service>>,
    tasks: OrdMap<TaskId, Arc<Task>>,
    secrets: OrdMap<SecretId, Arc<Secret>>,
    configs: OrdMap<ConfigId, Arc<Config>>,
    networks: OrdMap<NetworkId, Arc<Network>>,
    service_names: OrdMap<String, ServiceId>,
    secret_names: OrdMap<String, SecretId>,
    config_names: OrdMap<String, ConfigId>,
    network_names: OrdMap<String, NetworkId>,
    tasks_by_slot: OrdSet<(ServiceId, u64, TaskId)>,
    tasks_by_node: OrdSet<(NodeId, TaskId)>,
    pub(crate) holdings: Holdings,
}

impl State {
    /// Index of the last applied transaction.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The cluster's settings; none before the cluster was made.
    #[must_use]
    pub fn cluster(&self) -> Option<&Arc<Cluster>> {
        self.cluster.as_ref()
    }

    /// The node with this id.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&Arc<Node>> {
        self.nodes.get(&id)
    }

    /// Every node, by id.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.values()
    }

    /// The service with this id.
    #[must_use]
    pub fn service(&self, id: ServiceId) -> Option<&Arc<Service>> {
        self.services.get(&id)
    }

    /// Every service, by id.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    /// The service of this name, whatever its case (S1.04).
    #[must_use]
    pub fn service_by_name(&self, name: &str) -> Option<&Arc<Service>> {
        self.services
            .get(self.service_names.get(&name.to_lowercase())?)
    }

    /// Services whose id starts with `prefix`, by id.
    pub fn services_with_prefix<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Service>> {
        self.services
            .values()
            .filter(move |service| service.id.as_str().starts_with(prefix))
    }

    /// The task with this id.
    #[must_use]
    pub fn task(&self, id: TaskId) -> Option<&Arc<Task>> {
        self.tasks.get(&id)
    }

    /// Every task, by id.
    pub fn tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.tasks.values()
    }

    /// Number of tasks.
    #[must_use]
    pub fn tasks_count(&self) -> usize {
        self.tasks.len()
    }

    /// Tasks of a service, slot by slot.
    pub fn tasks_of_service(&self, service: ServiceId) -> impl Iterator<Item = &Arc<Task>> {
        self.tasks_by_slot
            .range((service, 0, TaskId::MIN)..=(service, u64::MAX, TaskId::MAX))
            .map(|(_, _, id)| self.indexed(*id))
    }

    /// Tasks that fill, or filled, one slot of a service.
    pub fn tasks_in_slot(&self, service: ServiceId, slot: u64) -> impl Iterator<Item = &Arc<Task>> {
        self.tasks_by_slot
            .range((service, slot, TaskId::MIN)..=(service, slot, TaskId::MAX))
            .map(|(_, _, id)| self.indexed(*id))
    }

    /// Tasks given to a node.
    pub fn tasks_on_node(&self, node: NodeId) -> impl Iterator<Item = &Arc<Task>> {
        self.tasks_by_node
            .range((node, TaskId::MIN)..=(node, TaskId::MAX))
            .map(|(_, id)| self.indexed(*id))
    }

    /// The secret with this id.
    #[must_use]
    pub fn secret(&self, id: SecretId) -> Option<&Arc<Secret>> {
        self.secrets.get(&id)
    }

    /// Every secret, by id.
    pub fn secrets(&self) -> impl Iterator<Item = &Arc<Secret>> {
        self.secrets.values()
    }

    /// The secret of this name, whatever its case (S1.04).
    #[must_use]
    pub fn secret_by_name(&self, name: &str) -> Option<&Arc<Secret>> {
        self.secrets
            .get(self.secret_names.get(&name.to_lowercase())?)
    }

    /// The config with this id.
    #[must_use]
    pub fn config(&self, id: ConfigId) -> Option<&Arc<Config>> {
        self.configs.get(&id)
    }

    /// Every config, by id.
    pub fn configs(&self) -> impl Iterator<Item = &Arc<Config>> {
        self.configs.values()
    }

    /// The config of this name, whatever its case (S1.04).
    #[must_use]
    pub fn config_by_name(&self, name: &str) -> Option<&Arc<Config>> {
        self.configs
            .get(self.config_names.get(&name.to_lowercase())?)
    }

    /// The network with this id.
    #[must_use]
    pub fn network(&self, id: NetworkId) -> Option<&Arc<Network>> {
        self.networks.get(&id)
    }

    /// Every network, by id.
    pub fn networks(&self) -> impl Iterator<Item = &Arc<Network>> {
        self.networks.values()
    }

    /// The network of this name, whatever its case (S1.04).
    #[must_use]
    pub fn network_by_name(&self, name: &str) -> Option<&Arc<Network>> {
        self.networks
            .get(self.network_names.get(&name.to_lowercase())?)
    }

    /// Who holds which address and port, and who is on which network.
    #[must_use]
    pub fn holdings(&self) -> &Holdings {
        &self.holdings
    }

    /// Tasks that have not ended and are, or will be, on a network.
    pub fn tasks_on_network(&self, network: NetworkId) -> impl Iterator<Item = &Arc<Task>> {
        let tasks = self.holdings.tasks_on(network);
        tasks.map(|id| self.indexed(id))
    }

    /// Services that ask for a network or still have an address there.
    pub fn services_on_network(&self, network: NetworkId) -> impl Iterator<Item = &Arc<Service>> {
        let services = self.holdings.services_on(network);
        services.filter_map(|id| self.service(id))
    }

    /// The object with this id, of whatever kind.
    #[must_use]
    pub fn object(&self, id: ObjectId) -> Option<Object> {
        match id {
            ObjectId::Node(id) => self.node(id).cloned().map(Object::Node),
            ObjectId::Service(id) => self.service(id).cloned().map(Object::Service),
            ObjectId::Task(id) => self.task(id).cloned().map(Object::Task),
            ObjectId::Cluster(id) => self
                .cluster
                .as_ref()
                .filter(|c| c.id == id)
                .cloned()
                .map(Object::Cluster),
            ObjectId::Secret(id) => self.secret(id).cloned().map(Object::Secret),
            ObjectId::Config(id) => self.config(id).cloned().map(Object::Config),
            ObjectId::Network(id) => self.network(id).cloned().map(Object::Network),
        }
    }

    /// Every object: the cluster first, then nodes, networks, secrets, configs, services, tasks.
    pub fn objects(&self) -> impl Iterator<Item = Object> {
        let cluster = self.cluster.iter().cloned().map(Object::Cluster);
        let nodes = self.nodes.values().cloned().map(Object::Node);
        let services = self.services.values().cloned().map(Object::Service);
        let tasks = self.tasks.values().cloned().map(Object::Task);
        let networks = self.networks.values().cloned().map(Object::Network);
        let secrets = self.secrets.values().cloned().map(Object::Secret);
        let configs = self.configs.values().cloned().map(Object::Config);
        let named = networks.chain(secrets).chain(configs);
        cluster
            .chain(nodes)
            .chain(named)
            .chain(services)
            .chain(tasks)
    }

    fn indexed(&self, id: TaskId) -> &Arc<Task> {
        self.tasks
            .get(&id)
            .expect("indexes hold only ids of stored tasks")
    }

    /// Puts an object in, in place of its former self, and keeps the indexes true.
    pub(crate) fn put(&mut self, object: Object) -> Option<Object> {
        let old = self.take_out(object.id());
        self.holdings.follow(old.as_ref(), Some(&object));
        match object {
            Object::Node(node) => {
                self.nodes.insert(node.id, node);
            }
            Object::Service(service) => {
                self.service_names
                    .insert(service.spec.name.to_lowercase(), service.id);
                self.services.insert(service.id, service);
            }
            Object::Task(task) => {
                self.tasks_by_slot
                    .insert((task.service_id, task.slot, task.id));
                if let Some(node) = task.node_id {
                    self.tasks_by_node.insert((node, task.id));
                }
                self.tasks.insert(task.id, task);
            }
            Object::Cluster(cluster) => self.cluster = Some(cluster),
            Object::Secret(secret) => {
                self.secret_names
                    .insert(secret.spec.name.to_lowercase(), secret.id);
                self.secrets.insert(secret.id, secret);
            }
            Object::Config(config) => {
                self.config_names
                    .insert(config.spec.name.to_lowercase(), config.id);
                self.configs.insert(config.id, config);
            }
            Object::Network(network) => {
                self.network_names
                    .insert(network.spec.name.to_lowercase(), network.id);
                self.networks.insert(network.id, network);
            }
        }
        old
    }

    /// Takes an object out of the maps and indexes.
    pub(crate) fn take(&mut self, id: ObjectId) -> Option<Object> {
        let old = self.take_out(id);
        self.holdings.follow(old.as_ref(), None);
        old
    }

    fn take_out(&mut self, id: ObjectId) -> Option<Object> {
        match id {
            ObjectId::Node(id) => self.nodes.remove(&id).map(Object::Node),
            ObjectId::Service(id) => {
                let service = self.services.remove(&id)?;
                self.service_names.remove(&service.spec.name.to_lowercase());
                Some(Object::Service(service))
            }
            ObjectId::Task(id) => {
                let task = self.tasks.remove(&id)?;
                self.tasks_by_slot
                    .remove(&(task.service_id, task.slot, task.id));
                if let Some(node) = task.node_id {
                    self.tasks_by_node.remove(&(node, task.id));
                }
                Some(Object::Task(task))
            }
            ObjectId::Secret(id) => {
                let secret = self.secrets.remove(&id)?;
                self.secret_names.remove(&secret.spec.name.to_lowercase());
                Some(Object::Secret(secret))
            }
            ObjectId::Config(id) => {
                let config = self.configs.remove(&id)?;
                self.config_names.remove(&config.spec.name.to_lowercase());
                Some(Object::Config(config))
            }
            ObjectId::Network(id) => {
                let network = self.networks.remove(&id)?;
                self.network_names.remove(&network.spec.name.to_lowercase());
                Some(Object::Network(network))
            }
            ObjectId::Cluster(id) => {
                if self.cluster.as_ref()?.id == id {
                    self.cluster.take().map(Object::Cluster)
                } else {
                    None
                }
            }
        }
    }
}
