//! What a service gets: a virtual address on each of its networks, and ports it did not choose.

use std::collections::BTreeSet;

use store::{Holder, given_port};
use types::network::{
    Endpoint, EndpointMode, PORTS_DYNAMIC, PublishMode, PublishedPort, VirtualIp,
};
use types::{Network, NetworkId, Service};

use crate::allocator::{Lack, Round};

/// Whether a service publishes ports through the routing mesh.
pub(crate) fn publishes(service: &Service) -> bool {
    let mut ports = service.spec.endpoint.ports.iter();
    ports.any(|port| port.mode == PublishMode::Ingress)
}

/// Whether a service has what it asks for.
pub(crate) fn is_served(service: &Service, ingress: Option<&Network>) -> bool {
    let endpoint = &service.endpoint;
    if endpoint.spec != service.spec.endpoint {
        return false;
    }
    let held: BTreeSet<NetworkId> = endpoint.virtual_ips.iter().map(|vip| vip.network).collect();
    // Node-local networks have no virtual addresses. Counting them here only has the round look
    // closer, and it sees which they are.
    let mut wanted: BTreeSet<NetworkId> = match service.spec.endpoint.mode {
        EndpointMode::Vip => networks(service).collect(),
        EndpointMode::Dnsrr => BTreeSet::new(),
    };
    if publishes(service) {
        wanted.extend(ingress.map(|network| network.id));
    }
    held == wanted
}

fn networks(service: &Service) -> impl Iterator<Item = NetworkId> {
    let networks = service.spec.task.networks.iter();
    networks.filter_map(|attachment| attachment.target.parse().ok())
}

/// What the service should have; what it has already stays.
pub(crate) fn endpoint(round: &mut Round<'_>, service: &Service) -> Result<Endpoint, Lack> {
    let mut wanted = vec![];
    if service.spec.endpoint.mode == EndpointMode::Vip {
        for attachment in &service.spec.task.networks {
            let network = round.network(&attachment.target)?;
            wanted.extend(network.filter(|network| network.spec.driver.is_global()));
        }
    }
    wanted.extend(round.ingress_of(service)?);
    let mut virtual_ips = vec![];
    for network in wanted {
        let held = service.endpoint.virtual_ips.iter();
        let held: Vec<_> = held.filter(|vip| vip.network == network.id).collect();
        if held.is_empty() {
            let addresses = round.take(network, Holder::Service(service.id))?;
            virtual_ips.extend(addresses.into_iter().map(|address| VirtualIp {
                network: network.id,
                address,
            }));
        } else {
            virtual_ips.extend(held.into_iter().copied());
        }
    }
    for vip in &service.endpoint.virtual_ips {
        if !virtual_ips.contains(vip) {
            round.holdings.release(vip.network, vip.address.addr());
        }
    }
    Ok(Endpoint {
        spec: service.spec.endpoint.clone(),
        ports: ports(round, service)?,
        virtual_ips,
    })
}

/// The ports as asked for, with the numbers the service did not choose filled in (S9.12).
fn ports(round: &mut Round<'_>, service: &Service) -> Result<Vec<PublishedPort>, Lack> {
    let mut ports = vec![];
    for asked in &service.spec.endpoint.ports {
        let chosen = asked.published_port != 0 || asked.mode == PublishMode::Host;
        let number = match given_port(service, asked) {
            _ if chosen => asked.published_port,
            Some(given) => given,
            None => free_port(round, service, asked)?,
        };
        ports.push(PublishedPort {
            published_port: number,
            ..asked.clone()
        });
    }
    Ok(ports)
}

fn free_port(round: &mut Round<'_>, service: &Service, asked: &PublishedPort) -> Result<u16, Lack> {
    let mut numbers = PORTS_DYNAMIC;
    let is_free = |number: &u16| {
        round
            .holdings
            .port_holders(asked.protocol, *number)
            .next()
            .is_none()
    };
    let number = numbers.find(is_free).ok_or_else(|| {
        Lack::Nothing(format!(
            "every port from {} to {} is published over {} already",
            PORTS_DYNAMIC.start(),
            PORTS_DYNAMIC.end(),
            asked.protocol
        ))
    })?;
    round.holdings.take_port(asked.protocol, number, service.id);
    Ok(number)
}
