//! Decides on a task's interfaces and addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use types::network::{
    Network, NetworkAttachment, NetworkDriver, PORTS_DYNAMIC, Protocol, PublishedPort,
};
use types::{NetworkId, TaskId};

use super::Keeper;
use crate::Error;
use crate::listeners::{Listeners, program_of};
use crate::local::{For, LocalSubnet};
use crate::records::Record;
use crate::sandbox::{self, Place, Sandbox};
use crate::view::View;

/// Last port that a node chooses by itself: the kernel's own choice ends there, too.
const HOST_PORT_MAX: u16 = 60_999;

/// Whether containers on a network reach the world, by the node's own bridge.
pub(super) fn leads_out(network: &Network) -> bool {
    network.spec.driver == NetworkDriver::Overlay && !network.spec.internal
}

impl Keeper {
    /// What a task is to have. Given once, it stays.
    pub(super) fn reserve(
        &mut self,
        task: TaskId,
        attachments: &[NetworkAttachment],
        host_ports: Vec<PublishedPort>,
    ) -> Result<Sandbox, Error> {
        if let Some(record) = self.records.all().get(&task) {
            return Ok(record.sandbox.clone());
        }
        let Some(view) = self.view.clone() else {
            return Err(Error::NoView);
        };
        let networks = attachments.iter().map(|one| {
            let network = view.network(one.network);
            network
                .map(|network| (network, one))
                .ok_or(Error::UnknownNetwork(one.network))
        });
        let networks = networks.collect::<Result<Vec<_>, _>>()?;
        let mut given = Vec::new();
        for (network, _) in &networks {
            given.push(self.give_on(network, &view)?);
        }
        let host_ports = self.host_ports(host_ports)?;
        let needs_way_out = networks.iter().any(|(network, _)| leads_out(network));
        let outbound = if needs_way_out || (networks.is_empty() && !host_ports.is_empty()) {
            // Whoever calls a port of the node comes by either family.
            let has_ipv6 =
                !host_ports.is_empty() || networks.iter().any(|(network, _)| network.spec.ipv6);
            self.give_outbound(has_ipv6, &view)?
        } else {
            Vec::new()
        };
        let places: Vec<Place<'_>> = networks
            .iter()
            .zip(&given)
            .map(|((network, attachment), local)| Place {
                network,
                attachment,
                local,
            })
            .collect();
        let sandbox = Sandbox {
            host_ports,
            ..sandbox::plan(task, &places, &outbound)?
        };
        self.records.put(Record {
            sandbox: sandbox.clone(),
            process: None,
        })?;
        Ok(sandbox)
    }

    /// Fills in the numbers of ports that leave the choice to the node, and refuses those another
    /// task or a program of the node has.
    fn host_ports(&self, asked: Vec<PublishedPort>) -> Result<Vec<PublishedPort>, Error> {
        let mut held: BTreeMap<(Protocol, u16), TaskId> = BTreeMap::new();
        for record in self.records.all().values() {
            for port in &record.sandbox.host_ports {
                held.insert((port.protocol, port.published_port), record.sandbox.task);
            }
        }
        if asked.is_empty() {
            return Ok(asked);
        }
        let listeners = Listeners::read();
        let mut chosen = Vec::new();
        for mut port in asked {
            let at = |number| {
                // Sockets of our own stand in nobody's way.
                let is_held = self.held.has(port.protocol, number);
                let found = listeners.at(port.protocol, number, port.host_ip);
                found.filter(|_| !is_held)
            };
            if port.published_port == 0 {
                // The allocator's range is for ports of the whole cluster.
                let mut numbers = PORTS_DYNAMIC.end().saturating_add(1)..=HOST_PORT_MAX;
                let is_free =
                    |one: &u16| !held.contains_key(&(port.protocol, *one)) && at(*one).is_none();
                port.published_port = numbers.find(is_free).ok_or(Error::NoPort)?;
            } else if let Some(holder) = held.get(&(port.protocol, port.published_port)) {
                let (port, protocol) = (port.published_port, port.protocol);
                return Err(Error::PortTaken {
                    port,
                    protocol,
                    holder: *holder,
                });
            } else if let Some(socket) = at(port.published_port) {
                let unknown = || "a program that this daemon cannot see".to_owned();
                return Err(Error::PortInUse {
                    port: port.published_port,
                    protocol: port.protocol,
                    program: program_of(socket).unwrap_or_else(unknown),
                });
            }
            held.insert((port.protocol, port.published_port), TaskId::MIN);
            chosen.push(port);
        }
        Ok(chosen)
    }

    /// Addresses on a network that ends at this node; none on others.
    pub(super) fn give_on(
        &mut self,
        network: &Network,
        view: &View,
    ) -> Result<Vec<(LocalSubnet, IpNet)>, Error> {
        match network.spec.driver {
            NetworkDriver::Overlay | NetworkDriver::Host | NetworkDriver::None => {
                return Ok(Vec::new());
            }
            NetworkDriver::Bridge | NetworkDriver::Macvlan | NetworkDriver::Ipvlan => {}
        }
        self.choose(For::Network(network), view)?;
        let subnets = self.records.subnets.of(network.id).to_vec();
        let pools = network.spec.pools.iter();
        let aux: BTreeSet<IpAddr> = pools.flat_map(|pool| pool.aux.values().copied()).collect();
        let taken = self.taken(Some(network.id));
        self.records
            .subnets
            .give(&subnets, network.spec.ipv6, &aux, &taken)
    }

    pub(super) fn give_outbound(
        &mut self,
        has_ipv6: bool,
        view: &View,
    ) -> Result<Vec<(LocalSubnet, IpNet)>, Error> {
        self.choose(For::Outbound, view)?;
        let subnets = self.records.subnets.outbound().to_vec();
        let taken = self.taken(None);
        self.records
            .subnets
            .give(&subnets, has_ipv6, &BTreeSet::new(), &taken)
    }

    fn choose(&mut self, purpose: For<'_>, view: &View) -> Result<(), Error> {
        let mut taken = self.machine_subnets.clone();
        let overlays = view
            .reach
            .networks
            .values()
            .flat_map(|network| &network.subnets);
        taken.extend(overlays.map(|subnet| subnet.subnet));
        if self.records.subnets.choose(purpose, view.node, &taken)? {
            self.records.save_subnets()?;
        }
        Ok(())
    }

    /// Addresses of containers on a network of this node; `None` is the way out.
    fn taken(&self, network: Option<NetworkId>) -> BTreeSet<IpAddr> {
        let records = self.records.all().values();
        let interfaces = records.flat_map(|record| &record.sandbox.interfaces);
        let on_it = interfaces.filter(|interface| interface.network == network);
        on_it
            .flat_map(|interface| interface.addresses.iter().map(IpNet::addr))
            .collect()
    }

    /// Releases all tasks but these, and the subnets of networks that no task is on.
    pub(super) fn retain(&mut self, known: &BTreeSet<TaskId>) -> Result<(), Error> {
        let unknown = self
            .records
            .all()
            .keys()
            .filter(|task| !known.contains(task));
        for task in unknown.copied().collect::<Vec<_>>() {
            self.records.remove(task)?;
        }
        let records = self.records.all().values();
        let interfaces = records.flat_map(|record| &record.sandbox.interfaces);
        let used: BTreeSet<NetworkId> = interfaces.filter_map(|one| one.network).collect();
        if self
            .records
            .subnets
            .retain(|network| used.contains(&network))
        {
            self.records.save_subnets()?;
        }
        Ok(())
    }
}
