//! What the data plane of a node follows from, besides its own containers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use types::network::{Network, NetworkDriver, NetworkSpec};
use types::reach::Reach;
use types::{Meta, NetworkId, NodeId};

/// Which node this is, and what managers told it.
#[derive(Clone, Debug)]
pub struct View {
    /// This node.
    pub node: NodeId,
    /// Its own addresses for packets between nodes, at most one of each family.
    pub data_path: Vec<IpAddr>,
    /// What managers told.
    pub reach: Arc<Reach>,
    /// Nodes that gossip holds for dead: connections go to others while there are any.
    pub lost: Arc<BTreeSet<NodeId>>,
    /// What every node has without being told, and what takes its configuration from another
    /// network; that is `None` while nothing is known of the other one.
    derived: BTreeMap<NetworkId, Option<Arc<Network>>>,
}

impl View {
    /// The view of a node.
    #[must_use]
    pub fn new(node: NodeId, data_path: Vec<IpAddr>, reach: Arc<Reach>) -> Self {
        let bridge = default_bridge();
        let configured = reach.networks.values().filter_map(|network| {
            let source = network.spec.config_from.as_deref()?;
            Some((network.id, configured(network, source, &reach)))
        });
        let mut derived: BTreeMap<_, _> = configured.collect();
        derived.insert(bridge.id, Some(Arc::new(bridge)));
        Self {
            node,
            data_path,
            reach,
            lost: Arc::default(),
            derived,
        }
    }

    /// The same, with these nodes held for dead.
    #[must_use]
    pub fn with_lost(self, lost: Arc<BTreeSet<NodeId>>) -> Self {
        Self { lost, ..self }
    }

    /// Whether a node is held for dead; this one never is.
    #[must_use]
    pub fn is_lost(&self, node: NodeId) -> bool {
        node != self.node && self.lost.contains(&node)
    }

    /// A network by its id, with its configuration if that comes from another one.
    #[must_use]
    pub fn network(&self, id: NetworkId) -> Option<&Arc<Network>> {
        match self.derived.get(&id) {
            Some(network) => network.as_ref(),
            None => self.reach.networks.get(&id),
        }
    }

    /// The network that carries published ports, when this node takes part in it.
    #[must_use]
    pub fn ingress(&self) -> Option<&Arc<Network>> {
        let is_ingress = |network: &&Arc<Network>| {
            network.spec.ingress && network.spec.driver == NetworkDriver::Overlay
        };
        self.reach.networks.values().find(is_ingress)
    }
}

/// The network with the driver options and the pools of the one called `source` (S9.15).
fn configured(network: &Network, source: &str, reach: &Reach) -> Option<Arc<Network>> {
    let mut networks = reach.networks.values();
    let source =
        networks.find(|one| one.spec.config_only && one.spec.name.eq_ignore_ascii_case(source))?;
    let spec = NetworkSpec {
        options: source.spec.options.clone(),
        pools: source.spec.pools.clone(),
        ipv6: source.spec.ipv6,
        ..network.spec.clone()
    };
    Some(Arc::new(Network {
        spec,
        ..network.clone()
    }))
}

/// The id of the bridge that every node has; no network of the store can have it.
pub const DEFAULT_BRIDGE: NetworkId = NetworkId::MIN;

/// The network `bridge` of each node, which tasks may name.
fn default_bridge() -> Network {
    Network {
        id: DEFAULT_BRIDGE,
        meta: Meta::default(),
        spec: NetworkSpec {
            name: "bridge".to_owned(),
            driver: NetworkDriver::Bridge,
            ..NetworkSpec::default()
        },
        subnets: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(number: u128, spec: NetworkSpec) -> (NetworkId, Arc<Network>) {
        let id = NetworkId::from_number(number);
        let network = Network {
            id,
            meta: Meta::default(),
            spec,
            subnets: Vec::new(),
        };
        (id, Arc::new(network))
    }

    #[test]
    fn a_network_has_the_configuration_of_the_one_it_names() {
        let lan = NetworkSpec {
            name: "lan".to_owned(),
            driver: NetworkDriver::Macvlan,
            config_from: Some("Lan-Config".to_owned()),
            internal: true,
            ..NetworkSpec::default()
        };
        let config = NetworkSpec {
            name: "lan-config".to_owned(),
            driver: NetworkDriver::Macvlan,
            config_only: true,
            ipv6: true,
            options: [("parent".to_owned(), "eth1".to_owned())].into(),
            ..NetworkSpec::default()
        };
        let (id, lan) = network(1, lan);
        let told = |networks: Vec<(NetworkId, Arc<Network>)>| {
            let reach = Reach {
                networks: networks.into_iter().collect(),
                ..Reach::default()
            };
            View::new(NodeId::from_number(9), Vec::new(), Arc::new(reach))
        };
        let alone = told(vec![(id, Arc::clone(&lan))]);
        assert_eq!(alone.network(id), None, "its options are not known yet");
        let both = told(vec![(id, lan), network(2, config.clone())]);
        let found = both.network(id).unwrap();
        assert_eq!(found.spec.options, config.options);
        assert!(found.spec.ipv6 && found.spec.internal);
        assert!(both.network(DEFAULT_BRIDGE).is_some());
    }
}
