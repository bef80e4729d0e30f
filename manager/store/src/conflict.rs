//! What objects may not do to each other: take a published port twice, overlap, or go while in use.
//!
//! Checked when a transaction applies, so that two requests at once cannot both win, and asked
//! before by whoever wants to tell a user without a round through the group. The texts are for
//! users: they say who stands in the way and what to do instead.

use std::net::SocketAddr;

use types::network::{
    ENCRYPTED_PORT, GOSSIP_PORT, NetworkDriver, Protocol, PublishMode, PublishedPort,
};
use types::node::ManagerStatus;
use types::{Cluster, Network, NetworkId, Service, ServiceSpec};

use crate::holdings::{networks_overlap, ports_of};
use crate::{RefusalReason, State};

/// Names listed in one sentence at most.
const NAMES_MAX: usize = 5;

/// Why not, and about what.
type Refused = Result<(), (RefusalReason, String)>;

/// Networks every node has, which are no objects of the store (S9.14).
pub const PREDEFINED: [NetworkDriver; 3] = [
    NetworkDriver::Bridge,
    NetworkDriver::Host,
    NetworkDriver::None,
];

impl State {
    /// Whether a service with this spec can be stored: its networks exist and nobody else
    /// publishes its ports.
    ///
    /// # Errors
    /// The first thing that stands in the way.
    pub fn check_service(&self, id: types::ServiceId, spec: &ServiceSpec) -> Refused {
        for attachment in &spec.task.networks {
            let target = attachment.target.as_str();
            let network = target.parse().ok().and_then(|id| self.network(id));
            if network.is_none() && !PREDEFINED.iter().any(|p| p.to_string() == target) {
                return Err((RefusalReason::NotFound, format!("network {target}")));
            }
        }
        let is_published = |port: &PublishedPort| port.mode == PublishMode::Ingress;
        if spec.endpoint.ports.iter().any(is_published) && self.ingress().is_none() {
            let text = "no ingress network is present: make one with `network create --ingress -d \
                        overlay NAME`, or publish with mode=host";
            return Err((RefusalReason::Conflict, text.to_owned()));
        }
        for port in &spec.endpoint.ports {
            self.check_port(id, port)?;
        }
        Ok(())
    }

    /// The network that carries published ports.
    #[must_use]
    pub fn ingress(&self) -> Option<&std::sync::Arc<Network>> {
        self.networks().find(|network| network.spec.ingress)
    }

    fn check_port(&self, id: types::ServiceId, port: &PublishedPort) -> Refused {
        if port.published_port == 0 {
            return Ok(());
        }
        if let Some(purpose) = self.own_purpose(port) {
            return Err((
                RefusalReason::Conflict,
                format!(
                    "port {}/{} is used by the swarm itself, for {purpose}: publish another port",
                    port.published_port, port.protocol
                ),
            ));
        }
        let mut holders = self
            .holdings()
            .port_holders(port.protocol, port.published_port);
        // Where host ports clash is a matter of each node (S6.15).
        let taken = holders.find(|(holder, mode)| {
            *holder != id && !(port.mode == PublishMode::Host && *mode == PublishMode::Host)
        });
        let Some((holder, _)) = taken else {
            return Ok(());
        };
        let owner = self
            .service(holder)
            .map_or_else(|| holder.to_string(), |service| service.spec.name.clone());
        Err((
            RefusalReason::Conflict,
            format!(
                "port {}/{} is already in use by service {owner}: publish another port, or remove \
                 it there first",
                port.published_port, port.protocol
            ),
        ))
    }

    /// What nodes use a port for among themselves. To publish it would cut them off from each
    /// other, those too that have no task of the service.
    fn own_purpose(&self, port: &PublishedPort) -> Option<&'static str> {
        let number = port.published_port;
        let serves = |status: &ManagerStatus| {
            let address = status.addr.parse::<SocketAddr>();
            address.is_ok_and(|address| address.port() == number)
        };
        let carries = |cluster: &Cluster| cluster.spec.network.data_path_port == number;
        match port.protocol {
            Protocol::Tcp => {
                let mut managers = self.nodes().filter_map(|node| node.manager_status.as_ref());
                managers.any(serves).then_some("managers")
            }
            Protocol::Udp if number == GOSSIP_PORT => Some("gossip between nodes"),
            Protocol::Udp if number == ENCRYPTED_PORT => Some("encryption between nodes"),
            Protocol::Udp => {
                let cluster = self.cluster().filter(|cluster| carries(cluster));
                cluster.map(|_| "traffic between nodes")
            }
            Protocol::Sctp => None,
        }
    }

    /// Whether a network can be stored: one ingress at most, no range of addresses twice.
    ///
    /// # Errors
    /// The first thing that stands in the way.
    pub fn check_network(&self, network: &Network) -> Refused {
        let conflict = |text| Err((RefusalReason::Conflict, text));
        if let Some(other) = self.ingress()
            && network.spec.ingress
            && other.id != network.id
        {
            return conflict(format!(
                "ingress network {} is already present: remove it first",
                other.spec.name
            ));
        }
        if let Some(source) = &network.spec.config_from {
            let found = self.network_by_name(source);
            let Some(found) = found.filter(|found| found.spec.config_only) else {
                return Err((
                    RefusalReason::NotFound,
                    format!("network {source} (made with --config-only)"),
                ));
            };
            let driver = found.spec.driver;
            if driver != network.spec.driver {
                return conflict(format!(
                    "network {source} is a configuration of the driver {driver}, not {}: use -d \
                     {driver}, or take another configuration",
                    network.spec.driver
                ));
            }
        }
        for other in self.networks().filter(|other| other.id != network.id) {
            if let Some((mine, theirs)) = networks_overlap(network, other) {
                return conflict(format!(
                    "subnet {mine} overlaps with {theirs} of network {}: choose another subnet, or \
                     leave --subnet out to be given a free one",
                    other.spec.name
                ));
            }
        }
        Ok(())
    }

    /// Whether a network can go: nobody may be on it (S9.17).
    ///
    /// # Errors
    /// Who is.
    pub fn check_network_removal(&self, id: NetworkId) -> Refused {
        let Some(network) = self.network(id) else {
            return Ok(());
        };
        let services = self.holdings().services_on(id);
        let services = services.filter_map(|id| Some(self.service(id)?.spec.name.clone()));
        let publishing = self.services().filter(|service| {
            network.spec.ingress && ports_of(service).any(|p| p.mode == PublishMode::Ingress)
        });
        let names: std::collections::BTreeSet<String> = services
            .chain(publishing.map(|service| service.spec.name.clone()))
            .collect();
        let users = if names.is_empty() {
            let tasks = self.holdings().tasks_on(id);
            let tasks = tasks.filter_map(|id| Some(self.task(id)?.name()));
            ("task", tasks.collect())
        } else {
            ("service", names)
        };
        let (kind, names) = users;
        if !names.is_empty() {
            let hint = match (kind, network.spec.ingress) {
                ("task", _) => "disconnect it, or wait until it has stopped",
                (_, true) => "update it to publish no port in ingress mode first",
                (_, false) => "remove it, or update it with --network-rm, first",
            };
            return Err((
                RefusalReason::Conflict,
                format!(
                    "network {} is in use by {kind} {}: {hint}",
                    network.spec.name,
                    listed(&names)
                ),
            ));
        }
        let source = |other: &&std::sync::Arc<Network>| {
            let from = other.spec.config_from.as_deref();
            from.is_some_and(|from| from.eq_ignore_ascii_case(&network.spec.name))
        };
        match self.networks().find(source) {
            Some(other) => Err((
                RefusalReason::Conflict,
                format!(
                    "network {} is in use by network {}, made with --config-from: remove that first",
                    network.spec.name, other.spec.name
                ),
            )),
            None => Ok(()),
        }
    }

    /// Whether what the allocator wants to give a service is still free.
    pub(crate) fn is_free_for(
        &self,
        service: &Service,
        endpoint: &types::network::Endpoint,
    ) -> bool {
        let ports = endpoint.ports.iter();
        let mut ports = ports.filter(|port| port.published_port != 0);
        ports.all(|port| self.check_port(service.id, port).is_ok())
            && endpoint.virtual_ips.iter().all(|vip| {
                let holder = self.holdings().holder(vip.network, vip.address.addr());
                self.network(vip.network).is_some()
                    && holder.is_none_or(|holder| holder == crate::Holder::Service(service.id))
            })
    }
}

fn listed(names: &std::collections::BTreeSet<String>) -> String {
    let mut text = names
        .iter()
        .take(NAMES_MAX)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > NAMES_MAX {
        text += &format!(" and {} more", names.len() - NAMES_MAX);
    }
    text
}
