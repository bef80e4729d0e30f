//! What the threads look things up in: made anew on each change, never changed.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use types::network::Mac;

use crate::device::Device;
use crate::peers::{Link, OwnKey, Peer, PrivateKey, PublicKey};
use crate::{Desired, EncryptedNetwork, Error, PeerNode};

/// Slots of links: WireGuard's indexes have 32 bits, the last 8 of which number sessions.
const SLOTS: u32 = 1 << 24;

/// Everything at one moment.
#[derive(Default)]
pub(crate) struct Table {
    pub(crate) index: u32,
    pub(crate) keys: Vec<Arc<OwnKey>>,
    pub(crate) peers: HashMap<u32, Peer>,
    pub(crate) links: HashMap<u32, Arc<Link>>,
    by_keys: HashMap<(PublicKey, PublicKey), Arc<Link>>,
    pub(crate) segments: HashMap<u32, Arc<Segment>>,
    next_slot: u32,
}

/// Devices of an earlier process that nobody uses, by name.
pub(crate) type Devices = HashMap<String, OwnedFd>;

/// One VXLAN segment.
pub(crate) struct Segment {
    pub(crate) vni: u32,
    pub(crate) name: String,
    pub(crate) device: Arc<Device>,
    /// Node of each MAC address; none for those of this node.
    stations: HashMap<Mac, Option<u32>>,
    /// Holders of addresses on other nodes.
    remote: HashMap<IpAddr, Mac>,
}

impl Segment {
    /// The peer that holds a MAC address.
    pub(crate) fn peer_of(&self, mac: Mac) -> Option<u32> {
        self.stations.get(&mac).copied().flatten()
    }

    /// The MAC address another node holds an address by.
    pub(crate) fn resolve(&self, address: IpAddr) -> Option<Mac> {
        self.remote.get(&address).copied()
    }
}

impl Table {
    /// The table that `desired` asks for, with all of this one that is still wanted. Devices that
    /// cannot be made are left out and told.
    pub(crate) fn next(&self, desired: &Desired, devices: &mut Devices) -> (Self, Vec<Error>) {
        let mut next = Self {
            index: desired.index,
            next_slot: self.next_slot,
            ..Self::default()
        };
        next.keys = desired.keys.iter().map(|key| self.own_key(key)).collect();
        for peer in &desired.peers {
            let links = next.links_with(peer, self);
            next.peers.insert(peer.index, Peer { links });
        }
        let mut errors = vec![];
        for network in &desired.networks {
            match self.segment(network, devices) {
                Ok(segment) => {
                    next.segments.insert(network.vni, Arc::new(segment));
                }
                Err(source) => errors.push(Error::Device {
                    name: network.device.clone(),
                    source,
                }),
            }
        }
        (next, errors)
    }

    /// The link of a handshake between these keys.
    pub(crate) fn link_between(&self, ours: PublicKey, theirs: PublicKey) -> Option<&Arc<Link>> {
        self.by_keys.get(&(ours, theirs))
    }

    fn own_key(&self, key: &PrivateKey) -> Arc<OwnKey> {
        let public = key.public();
        let known = self.keys.iter().find(|own| own.public == public);
        known
            .cloned()
            .unwrap_or_else(|| Arc::new(OwnKey::new(key.clone())))
    }

    /// Links with a peer by every pair of keys: first ours and theirs to send with.
    fn links_with(&mut self, peer: &PeerNode, former: &Self) -> Vec<Arc<Link>> {
        let endpoint = SocketAddr::new(peer.address, peer.port);
        let mut links = vec![];
        for theirs in &peer.keys {
            for ours in self.keys.clone() {
                let known = former.link_between(ours.public, *theirs);
                let link = match known.filter(|link| link.peer == peer.index) {
                    Some(link) => {
                        link.endpoint.store(Arc::new(endpoint));
                        link.clone()
                    }
                    None => {
                        let slot = self.free_slot(former);
                        Arc::new(Link::new(slot, &ours, *theirs, peer.index, endpoint))
                    }
                };
                self.links.insert(link.slot, link.clone());
                self.by_keys.insert((link.ours, link.theirs), link.clone());
                links.push(link);
            }
        }
        links
    }

    fn free_slot(&mut self, former: &Self) -> u32 {
        loop {
            let slot = self.next_slot % SLOTS;
            self.next_slot = (slot + 1) % SLOTS;
            if !self.links.contains_key(&slot) && !former.links.contains_key(&slot) {
                return slot;
            }
        }
    }

    fn segment(
        &self,
        network: &EncryptedNetwork,
        devices: &mut Devices,
    ) -> std::io::Result<Segment> {
        let former = self.segments.get(&network.vni);
        let device = match former.filter(|former| former.name == network.device) {
            Some(former) => former.device.clone(),
            None => Arc::new(match devices.remove(&network.device) {
                Some(fd) => Device::adopt(fd),
                None => Device::create(&network.device)?,
            }),
        };
        let stations = network.stations.iter();
        let remote = network.stations.iter().filter(|s| s.peer.is_some());
        Ok(Segment {
            vni: network.vni,
            name: network.device.clone(),
            device,
            stations: stations.map(|s| (s.mac, s.peer)).collect(),
            remote: remote
                .flat_map(|s| s.addresses.iter().map(|address| (*address, s.mac)))
                .collect(),
        })
    }
}
