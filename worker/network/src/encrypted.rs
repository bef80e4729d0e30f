//! What the process that seals encrypted networks has to carry.

use std::collections::{BTreeMap, BTreeSet};

use tunnel::{Desired, EncryptedNetwork, PeerNode, PublicKey, Station};
use types::network::{Network, NetworkDriver, node_mac};

use crate::desired::Inputs;
use crate::mtu::path;
use crate::places::remote_places;
use crate::sandbox::mtu_asked;
use crate::state::LinkName;
use crate::view::View;

/// Identifiers of all encrypted networks the node was told of: none of their packets may leave in
/// clear, whether something here is on them or not.
pub(crate) fn encrypted_vnis(view: &View) -> BTreeSet<u32> {
    let networks = view.reach.networks.values();
    networks
        .filter(|network| network.spec.encrypted && network.spec.driver == NetworkDriver::Overlay)
        .flat_map(|network| &network.subnets)
        .map(|subnet| subnet.vni)
        .collect()
}

/// What is to be carried; the node's own keys are left to whoever keeps them. What is not sealed in
/// the packet filter yet is not carried yet.
pub(crate) fn tunnel_desired(inputs: Inputs<'_>) -> Desired {
    let (mut networks, mut peers) = (Vec::new(), BTreeSet::new());
    let encrypted = inputs
        .overlays()
        .into_iter()
        .filter(|network| network.spec.encrypted);
    for network in encrypted {
        let mtu = inputs.mtu(Some(network.id), mtu_asked(network));
        let stations = stations(inputs, network);
        peers.extend(stations.iter().filter_map(|station| station.peer));
        // An address is in one of several subnets, but its holder sends to all of them.
        let vnis: BTreeSet<u32> = network.subnets.iter().map(|subnet| subnet.vni).collect();
        networks.extend(
            vnis.intersection(&inputs.sealed.vnis)
                .map(|vni| EncryptedNetwork {
                    vni: *vni,
                    device: LinkName::encrypted(*vni).to_string(),
                    mtu,
                    stations: stations.clone(),
                }),
        );
    }
    networks.sort_by_key(|network| network.vni);
    Desired {
        index: inputs.index(),
        keys: Vec::new(),
        peers: peer_nodes(inputs.view, &peers),
        networks,
    }
}

/// Everything with a MAC address on a network, each once: where it was told last, and what is here is
/// nowhere else.
fn stations(inputs: Inputs<'_>, network: &Network) -> Vec<Station> {
    let mut stations = BTreeMap::new();
    for place in remote_places(inputs, network) {
        stations.insert(
            place.mac,
            Station {
                mac: place.mac,
                addresses: place.addresses,
                peer: Some(place.peer),
            },
        );
    }
    let interfaces = inputs
        .sandboxes
        .iter()
        .flat_map(|sandbox| &sandbox.interfaces);
    for interface in interfaces.filter(|one| one.network == Some(network.id)) {
        stations.insert(
            interface.mac,
            Station {
                mac: interface.mac,
                addresses: interface
                    .addresses
                    .iter()
                    .map(|address| address.addr())
                    .collect(),
                peer: None,
            },
        );
    }
    if network.spec.ingress {
        let mac = node_mac(inputs.index());
        stations.insert(
            mac,
            Station {
                mac,
                addresses: Vec::new(),
                peer: None,
            },
        );
    }
    stations.into_values().collect()
}

fn peer_nodes(view: &View, indices: &BTreeSet<u32>) -> Vec<PeerNode> {
    let peers = view.reach.peers.values();
    let peers = peers.filter(|peer| peer.node != view.node && indices.contains(&peer.index));
    peers
        .filter_map(|peer| {
            let (_, address) = path(&view.data_path, &peer.data_path)?;
            Some(PeerNode {
                index: peer.index,
                address,
                port: tunnel::PORT,
                keys: peer
                    .wireguard_keys
                    .iter()
                    .map(|key| PublicKey(*key))
                    .collect(),
            })
        })
        .collect()
}
