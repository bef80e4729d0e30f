//! Where on other nodes the members of a network are.

use std::collections::BTreeMap;
use std::net::IpAddr;

use types::NodeId;
use types::network::{Mac, Network, endpoint_mac, node_mac};

use crate::desired::Inputs;
use crate::mtu::path;

/// Something of a network that is on another node.
#[derive(Debug)]
pub(crate) struct RemotePlace {
    pub(crate) vni: u32,
    pub(crate) mac: Mac,
    pub(crate) addresses: Vec<IpAddr>,
    /// Our address that packets to it are sent from.
    pub(crate) local: IpAddr,
    /// The other node's.
    pub(crate) node: IpAddr,
    /// Index of that node.
    pub(crate) peer: u32,
}

/// Who is on other nodes. Tasks that serve come last, so that they win over those that end.
pub(crate) fn remote_places(inputs: Inputs<'_>, network: &Network) -> Vec<RemotePlace> {
    let view = inputs.view;
    let paths: BTreeMap<NodeId, (IpAddr, IpAddr, u32)> = view
        .reach
        .peers
        .iter()
        .filter(|(node, _)| **node != inputs.view.node)
        .filter_map(|(node, peer)| {
            let (local, remote) = path(&view.data_path, &peer.data_path)?;
            Some((*node, (local, remote, peer.index)))
        })
        .collect();
    let mut places = Vec::new();
    if network.spec.ingress
        && let Some(subnet) = network.subnets.first()
    {
        // Replies to a node that took a request for a published port.
        places.extend(paths.values().map(|(local, remote, index)| RemotePlace {
            vni: subnet.vni,
            mac: node_mac(*index),
            addresses: Vec::new(),
            local: *local,
            node: *remote,
            peer: *index,
        }));
    }
    for serves in [false, true] {
        let tasks = view
            .reach
            .tasks
            .values()
            .filter(|task| task.serving == serves);
        for task in tasks.filter(|task| task.node != inputs.view.node) {
            let Some((local, remote, index)) = paths.get(&task.node) else {
                continue;
            };
            let attachments = task.attachments.iter();
            for attachment in attachments.filter(|one| one.network == network.id) {
                let Some(first) = attachment.addresses.first() else {
                    continue;
                };
                let mut subnets = network.subnets.iter();
                let Some(subnet) = subnets.find(|one| one.subnet.contains(&first.addr())) else {
                    continue;
                };
                places.push(RemotePlace {
                    vni: subnet.vni,
                    mac: endpoint_mac(first.addr()),
                    addresses: attachment.addresses.iter().map(|one| one.addr()).collect(),
                    local: *local,
                    node: *remote,
                    peer: *index,
                });
            }
        }
    }
    places
}
