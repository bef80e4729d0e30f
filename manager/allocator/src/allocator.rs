//! The planner: which networks, services and tasks wait for something, and what they get.

use std::collections::{BTreeMap, BTreeSet};

use store::subnets::Chooser;
use store::{Action, Change, Holdings, Object, Plan, PlanContext, Planner, State};
use types::network::{PublishMode, Subnet};
use types::{Network, NetworkId, Service, ServiceId, Task, TaskId, TaskState, Timestamp};

use crate::{service, task};

/// Gives out subnets, virtual addresses, ports and addresses, and moves NEW tasks to PENDING.
#[derive(Debug, Default)]
pub struct Allocator {
    /// Networks without subnets.
    networks: BTreeSet<NetworkId>,
    /// Services that may ask for something else than they have.
    services: BTreeSet<ServiceId>,
    /// NEW tasks.
    tasks: BTreeSet<TaskId>,
}

impl Planner for Allocator {
    fn name(&self) -> &'static str {
        "allocator"
    }

    fn observe(&mut self, change: &Change) {
        match &change.new {
            Some(Object::Task(task)) if is_new(task) => {
                self.tasks.insert(task.id);
            }
            Some(Object::Service(service)) => {
                self.services.insert(service.id);
            }
            Some(Object::Network(network)) if network.subnets.is_empty() => {
                self.networks.insert(network.id);
            }
            Some(
                Object::Task(_)
                | Object::Network(_)
                | Object::Node(_)
                | Object::Cluster(_)
                | Object::Secret(_)
                | Object::Config(_),
            )
            | None => {}
        }
    }

    fn resync(&mut self, state: &State) {
        let tasks = state.tasks().filter(|task| is_new(task));
        self.tasks = tasks.map(|task| task.id).collect();
        self.services = state.services().map(|service| service.id).collect();
        self.networks = state.networks().map(|network| network.id).collect();
    }

    /// What is planned here leaves the marks on it: they go once the state shows it done. So what
    /// cannot be given now is tried again after each commit, for one of them frees something.
    fn plan(&mut self, context: &mut PlanContext<'_>) -> Plan {
        let mut round = Round::new(context.state, context.now);
        let mut plan = Plan::default();
        round.networks(&mut self.networks, &mut plan);
        let services = round.services(&mut self.services);
        let tasks = round.tasks(&mut self.tasks);
        plan.add_independent(services);
        plan.add_independent(tasks);
        plan
    }
}

fn is_new(task: &Task) -> bool {
    task.status.state == TaskState::New
}

/// One round of planning: the state as committed, and what has been given out since.
pub(crate) struct Round<'a> {
    pub(crate) state: &'a State,
    now: Timestamp,
    pub(crate) holdings: Holdings,
    ingress: Option<&'a Network>,
    /// Networks that got their subnets in this round.
    fresh: BTreeSet<NetworkId>,
    /// Networks and services that cannot be helped now, and why.
    starved: BTreeMap<NetworkId, String>,
    poor: BTreeMap<ServiceId, Lack>,
}

/// Why somebody does not get what it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// Something it needs is under way: the next round will tell.
    NotYet,
    /// There is nothing left; the sentence says of what.
    Nothing(String),
}

impl<'a> Round<'a> {
    fn new(state: &'a State, now: Timestamp) -> Self {
        Self {
            state,
            now,
            holdings: state.holdings().clone(),
            ingress: state.ingress().map(|network| &**network),
            fresh: BTreeSet::new(),
            starved: BTreeMap::new(),
            poor: BTreeMap::new(),
        }
    }

    /// Subnets for networks that have none. Each is a transaction of its own: another network made
    /// meanwhile may stand in the way of one, and none of the others.
    fn networks(&mut self, dirty: &mut BTreeSet<NetworkId>, plan: &mut Plan) {
        let state = self.state;
        dirty.retain(|id| {
            state
                .network(*id)
                .is_some_and(|network| lacks_subnets(network))
        });
        if dirty.is_empty() {
            return;
        }
        let mut chooser = Chooser::of(state);
        for network in dirty.iter().filter_map(|id| state.network(*id)) {
            match chooser.choose(network) {
                Ok(subnets) => {
                    let network = Network {
                        subnets,
                        ..Network::clone(network)
                    };
                    self.fresh.insert(network.id);
                    plan.transactions
                        .push(vec![Action::Update(Object::from(network))]);
                }
                Err(error) => {
                    let name = &network.spec.name;
                    self.starved
                        .insert(network.id, format!("network {name} has no subnet: {error}"));
                }
            }
        }
    }

    /// Endpoints of services that ask for another one than they have.
    fn services(&mut self, dirty: &mut BTreeSet<ServiceId>) -> Vec<Action> {
        let mut actions = vec![];
        dirty.retain(|id| {
            let Some(service) = self.state.service(*id) else {
                return false;
            };
            if service::is_served(service, self.ingress) {
                return false;
            }
            match service::endpoint(self, service) {
                // Node-local networks have no virtual addresses.
                Ok(endpoint) if endpoint == service.endpoint => return false,
                Ok(endpoint) => actions.push(Action::ServiceEndpoint {
                    service: *id,
                    endpoint,
                }),
                Err(lack) => {
                    self.poor.insert(*id, lack);
                }
            }
            true
        });
        actions
    }

    /// Addresses of NEW tasks, or the reason why they have to wait.
    fn tasks(&mut self, dirty: &mut BTreeSet<TaskId>) -> Vec<Action> {
        let state = self.state;
        dirty.retain(|id| state.task(*id).is_some_and(|task| is_new(task)));
        let tasks = dirty.iter().filter_map(|id| state.task(*id));
        tasks.filter_map(|task| self.task(task)).collect()
    }

    fn task(&mut self, task: &Task) -> Option<Action> {
        let service = self.state.service(task.service_id);
        // One that will never run needs nothing, and goes its way to the end.
        let service = service.filter(|_| task.is_runnable());
        let Some(service) = service else {
            return Some(task::allocated(task, vec![], vec![], self.now));
        };
        let lack = match self.poor.get(&service.id).cloned() {
            Some(lack) => lack,
            None => match task::attachments(self, task, service) {
                Ok(attachments) => {
                    let ports = host_ports(service);
                    return Some(task::allocated(task, attachments, ports, self.now));
                }
                Err(lack) => lack,
            },
        };
        match lack {
            Lack::NotYet => None,
            Lack::Nothing(reason) => task::waiting(task, reason, self.now),
        }
    }

    /// The network published ports need, if the service publishes any.
    pub(crate) fn ingress_of(&self, service: &Service) -> Result<Option<&'a Network>, Lack> {
        match self.ingress {
            _ if !service::publishes(service) => Ok(None),
            Some(network) => Ok(Some(network)),
            None => Err(Lack::Nothing("no ingress network is present".to_owned())),
        }
    }

    /// Addresses on a network, one of each family it has, all of one segment: its subnets with
    /// the same VXLAN identifier.
    pub(crate) fn take(
        &mut self,
        network: &Network,
        holder: store::Holder,
    ) -> Result<Vec<ipnet::IpNet>, Lack> {
        if let Some(reason) = self.starved.get(&network.id) {
            return Err(Lack::Nothing(reason.clone()));
        }
        if network.subnets.is_empty() {
            return Err(Lack::NotYet);
        }
        let mut vnis: Vec<u32> = network.subnets.iter().map(|subnet| subnet.vni).collect();
        vnis.sort_unstable();
        vnis.dedup();
        for vni in vnis {
            let segment = network.subnets.iter().filter(|subnet| subnet.vni == vni);
            if let Some(addresses) = self.take_in(network, segment, holder) {
                return Ok(addresses);
            }
        }
        let reason = self.holdings.exhaustion(network);
        let reason = reason.unwrap_or_else(|| format!("{} gives no address", network.spec.name));
        self.starved.insert(network.id, reason.clone());
        Err(Lack::Nothing(reason))
    }

    /// All or nothing.
    fn take_in<'s>(
        &mut self,
        network: &Network,
        segment: impl Iterator<Item = &'s Subnet>,
        holder: store::Holder,
    ) -> Option<Vec<ipnet::IpNet>> {
        let mut addresses: Vec<ipnet::IpNet> = vec![];
        for subnet in segment {
            let Some(address) = self.holdings.take(network, subnet, holder) else {
                for taken in addresses {
                    self.holdings.release(network.id, taken.addr());
                }
                return None;
            };
            let net = ipnet::IpNet::new(address, subnet.subnet.prefix_len());
            addresses.push(net.expect("the prefix is of an address of the same family"));
        }
        Some(addresses)
    }

    /// A network by the id, or the name, a service knows it by; none for those every node has.
    pub(crate) fn network(&self, target: &str) -> Result<Option<&'a Network>, Lack> {
        let Ok(id) = target.parse() else {
            return Ok(None);
        };
        match self.state.network(id) {
            Some(network) => Ok(Some(network)),
            None => Err(Lack::Nothing(format!("network {id} is gone"))),
        }
    }
}

fn lacks_subnets(network: &Network) -> bool {
    network.subnets.is_empty() && network.spec.driver.is_global() && !network.spec.config_only
}

fn host_ports(service: &Service) -> Vec<types::network::PublishedPort> {
    let ports = service.spec.endpoint.ports.iter();
    ports
        .filter(|port| port.mode == PublishMode::Host)
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests;
