//! Who is called what in each network.

use datapath_client::{NetworkRecords, NetworkStatus, RecordSet, TaskRecord};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::rc::Rc;
use types::{NetworkId, NodeId};

/// Asks for a service's tasks rather than for the service.
const TASKS_PREFIX: &str = "tasks.";

/// The names of all networks.
#[derive(Debug, Default)]
pub struct Zone {
    networks: HashMap<NetworkId, Network>,
    /// Nodes that gossip holds for dead.
    down: HashSet<NodeId>,
}

/// One network's names. The index is kept in step with the sets, one set at a time.
#[derive(Debug, Default)]
struct Network {
    /// In lower case.
    name: String,
    sets: HashMap<Rc<str>, Rc<RecordSet>>,
    by_name: HashMap<Box<str>, Vec<Place>>,
    by_address: HashMap<IpAddr, Vec<Place>>,
}

/// Where in the sets a name or an address occurs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    owner: Rc<str>,
    /// Index of the task; `None` means the service.
    task: Option<usize>,
}

/// What a name leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Its addresses, of both families. May be none: the name exists all the same.
    pub addresses: Vec<IpAddr>,
    /// Whether they are virtual addresses, which change seldom.
    pub is_virtual: bool,
}

impl Zone {
    /// Takes record sets of a network; sets of other owners stay. One that is older than what is
    /// known of its owner is passed over.
    pub fn set(&mut self, records: NetworkRecords) {
        let network = self.networks.entry(records.network).or_default();
        network.name = records.name.to_lowercase();
        for set in records.sets {
            network.set(set);
        }
    }

    /// Forgets some owners' sets.
    pub fn remove_owners(&mut self, network: NetworkId, owners: &[String]) {
        if let Some(network) = self.networks.get_mut(&network) {
            for owner in owners {
                network.remove(owner);
            }
        }
    }

    /// Forgets all but some owners' sets.
    pub fn retain_owners(&mut self, network: NetworkId, owners: &HashSet<String>) {
        if let Some(network) = self.networks.get_mut(&network) {
            let is_gone = |owner: &&Rc<str>| !owners.contains(&***owner);
            let gone: Vec<_> = network.sets.keys().filter(is_gone).cloned().collect();
            for owner in gone {
                network.remove(&owner);
            }
        }
    }

    /// Forgets a network.
    pub fn remove_network(&mut self, network: NetworkId) {
        self.networks.remove(&network);
    }

    /// Forgets all but some networks.
    pub fn retain_networks(&mut self, keep: impl Fn(NetworkId) -> bool) {
        self.networks.retain(|network, _| keep(*network));
    }

    /// Takes which nodes are dead.
    pub fn set_down(&mut self, down: HashSet<NodeId>) {
        self.down = down;
    }

    /// What a name, in lower case, leads to for someone on `networks`: the first network that knows
    /// it answers. `None` when none does.
    #[must_use]
    pub fn find(&self, networks: &[NetworkId], name: &str) -> Option<Found> {
        let mut known = networks.iter().filter_map(|id| self.networks.get(id));
        known.find_map(|network| {
            let found = network.find(name, &self.down);
            found.or_else(|| {
                let short = name.strip_suffix(&*network.name)?.strip_suffix('.')?;
                network.find(short, &self.down)
            })
        })
    }

    /// What has an address for someone on `networks`. `None` when nothing has.
    #[must_use]
    pub fn find_address(&self, networks: &[NetworkId], address: IpAddr) -> Option<Vec<String>> {
        let known = networks.iter().filter_map(|id| self.networks.get(id));
        let mut names = known.filter_map(|network| network.find_address(address));
        names.next()
    }

    /// Everything that is known, with its versions.
    #[must_use]
    pub fn status(&self) -> Vec<NetworkStatus> {
        let networks: BTreeMap<_, _> = self.networks.iter().collect();
        let status = |(id, network): (&NetworkId, &Network)| {
            let set = |(owner, set): (&Rc<str>, &Rc<RecordSet>)| (owner.to_string(), set.version);
            let mut sets: Vec<_> = network.sets.iter().map(set).collect();
            sets.sort();
            let print =
                |(owner, set): (&Rc<str>, &Rc<RecordSet>)| (owner.to_string(), set.fingerprint());
            NetworkStatus {
                network: *id,
                sets,
                fingerprints: network.sets.iter().map(print).collect(),
            }
        };
        networks.into_iter().map(status).collect()
    }

    /// Everything that is known, for another process.
    #[must_use]
    pub fn records(&self) -> Vec<NetworkRecords> {
        let records = |(id, network): (&NetworkId, &Network)| NetworkRecords {
            network: *id,
            name: network.name.clone(),
            sets: network.sets.values().map(|set| (**set).clone()).collect(),
        };
        self.networks.iter().map(records).collect()
    }
}

impl Network {
    fn set(&mut self, set: RecordSet) {
        let known = self.sets.get(&*set.owner);
        if known.is_some_and(|known| known.version > set.version || **known == set) {
            return;
        }
        self.remove(&set.owner.clone());
        let owner: Rc<str> = set.owner.as_str().into();
        for (name, place) in names(&owner, &set) {
            let places = self.by_name.entry(name.into()).or_default();
            if !places.contains(&place) {
                places.push(place);
            }
        }
        for (address, place) in addresses(&owner, &set) {
            self.by_address.entry(address).or_default().push(place);
        }
        self.sets.insert(owner, Rc::new(set));
    }

    fn remove(&mut self, owner: &str) {
        let Some((owner, set)) = self.sets.remove_entry(owner) else {
            return;
        };
        for (name, _) in names(&owner, &set) {
            if let Some(places) = self.by_name.get_mut(&*name) {
                places.retain(|place| place.owner != owner);
                if places.is_empty() {
                    self.by_name.remove(&*name);
                }
            }
        }
        for (address, _) in addresses(&owner, &set) {
            if let Some(places) = self.by_address.get_mut(&address) {
                places.retain(|place| place.owner != owner);
                if places.is_empty() {
                    self.by_address.remove(&address);
                }
            }
        }
    }

    fn find(&self, name: &str, down: &HashSet<NodeId>) -> Option<Found> {
        if let Some(places) = self.by_name.get(name) {
            return Some(self.gather(places, false, down));
        }
        let service = name.strip_prefix(TASKS_PREFIX)?;
        let is_service = |place: &&Place| place.task.is_none();
        let places = self.by_name.get(service)?;
        let places: Vec<_> = places.iter().filter(is_service).cloned().collect();
        (!places.is_empty()).then(|| self.gather(&places, true, down))
    }

    /// The addresses at several places: owners may share an alias.
    fn gather(&self, places: &[Place], wants_tasks: bool, down: &HashSet<NodeId>) -> Found {
        let mut found = Found {
            is_virtual: !places.is_empty(),
            ..Found::default()
        };
        for place in places {
            let Some(set) = self.sets.get(&place.owner) else {
                continue;
            };
            match place.task {
                Some(index) => {
                    found.is_virtual = false;
                    found.addresses.extend(&set.tasks[index].addresses);
                }
                None if wants_tasks || set.virtual_ips.is_empty() => {
                    found.is_virtual = false;
                    found.addresses.extend(serving(set, down));
                }
                None => found.addresses.extend(&set.virtual_ips),
            }
        }
        found
    }

    fn find_address(&self, address: IpAddr) -> Option<Vec<String>> {
        let places = self.by_address.get(&address)?;
        let name = |place: &Place| {
            let set = self.sets.get(&place.owner)?;
            let names = match place.task {
                Some(index) => &set.tasks[index].names,
                None => &set.names,
            };
            Some(format!("{}.{}", names.first()?, self.name))
        };
        Some(places.iter().filter_map(name).collect())
    }
}

/// Addresses of the tasks a service's names lead to. Tasks on dead nodes are left out, unless all
/// are: then this node is more likely to be the one that is cut off, and an answer costs nothing.
fn serving(set: &RecordSet, down: &HashSet<NodeId>) -> Vec<IpAddr> {
    let is_up = |task: &&TaskRecord| task.node.is_none_or(|node| !down.contains(&node));
    let serving = || set.tasks.iter().filter(|task| task.is_serving);
    let mut addresses: Vec<_> = serving()
        .filter(is_up)
        .flat_map(|task| &task.addresses)
        .copied()
        .collect();
    if addresses.is_empty() {
        addresses.extend(serving().flat_map(|task| &task.addresses));
    }
    addresses
}

fn names<'s>(
    owner: &'s Rc<str>,
    set: &'s RecordSet,
) -> impl Iterator<Item = (String, Place)> + use<'s> {
    let place = |task| Place {
        owner: Rc::clone(owner),
        task,
    };
    let service = set.names.iter().map(move |name| (name, place(None)));
    let tasks = set.tasks.iter().enumerate().flat_map(move |(index, task)| {
        let place = move |name| (name, place(Some(index)));
        task.names.iter().map(place)
    });
    service
        .chain(tasks)
        .map(|(name, place)| (name.to_lowercase(), place))
}

fn addresses<'s>(
    owner: &'s Rc<str>,
    set: &'s RecordSet,
) -> impl Iterator<Item = (IpAddr, Place)> + use<'s> {
    let place = |task| Place {
        owner: Rc::clone(owner),
        task,
    };
    let service = set.virtual_ips.iter();
    let service = service.map(move |address| (*address, place(None)));
    let tasks = set.tasks.iter().enumerate().flat_map(move |(index, task)| {
        let place = move |address: &IpAddr| (*address, place(Some(index)));
        task.addresses.iter().map(place)
    });
    service.chain(tasks)
}

#[cfg(test)]
mod tests;
