//! VXLAN identifiers, and pools that run out.

use types::cluster::{ClusterLock, RootCaState};
use types::{Cluster, ClusterSpec, Meta, NetworkSpec, Timestamp, Version};

use super::*;
use crate::{Action, Object, Transaction};

fn network(id: u128, name: &str, vnis: &str) -> Network {
    let mut spec = NetworkSpec {
        name: name.into(),
        ..NetworkSpec::default()
    };
    if !vnis.is_empty() {
        spec.options.insert(VNIS_KEY.into(), vnis.into());
    }
    Network {
        id: NetworkId::from_number(id),
        meta: Meta::default(),
        spec,
        subnets: vec![],
    }
}

fn state(pools: &[(&str, u8)], networks: Vec<Network>) -> State {
    let mut spec = ClusterSpec::default();
    let pools = pools.iter().map(|(base, size)| SubnetPool {
        base: base.parse().unwrap(),
        size: *size,
    });
    spec.network.pools = pools.collect();
    let cluster = Cluster {
        id: ClusterId::from_number(1),
        meta: Meta::default(),
        spec,
        root_ca: RootCaState::default(),
        lock: ClusterLock::default(),
        revoked: [].into(),
        gossip_keys: vec![],
        gossip_keys_at: Timestamp::default(),
        content_key: types::Payload::default(),
        access: types::access::Access::default(),
    };
    let mut state = State::default();
    let objects = networks.into_iter().map(Object::from);
    let actions = [Object::from(cluster)].into_iter().chain(objects);
    let transaction = Transaction {
        now: Timestamp::from_secs(1),
        actions: actions.map(Action::Create).collect(),
    };
    state.apply(Version { index: 1 }, &transaction).unwrap();
    state
}

fn chosen(state: &State, network: &Network) -> Vec<(String, u32)> {
    let subnets = choose(state, network).unwrap().into_iter();
    subnets.map(|s| (s.subnet.to_string(), s.vni)).collect()
}

#[test]
fn identifiers_follow_the_highest_and_wrap_round() {
    let with = |vni| {
        let mut network = network(1, "a", "");
        network.subnets = vec![Subnet {
            subnet: "10.9.0.0/24".parse().unwrap(),
            gateway: "10.9.0.1".parse().unwrap(),
            vni,
        }];
        network
    };
    let new = network(2, "b", "");
    for (used, expected) in [(5000, 5001), (VNI_MAX, VNI_MIN), (7, VNI_MIN)] {
        let state = state(&[], vec![with(used)]);
        assert_eq!(chosen(&state, &new), [("10.0.0.0/24".into(), expected)]);
    }
    let state = state(&[], vec![with(5000)]);
    assert_eq!(chosen(&state, &network(2, "b", "77"))[0].1, 77);
    let error = choose(&state, &network(2, "b", "5000")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "VXLAN identifier 5000 is already in use by network a: choose another"
    );
}

#[test]
fn pools_run_out_and_say_so() {
    let state = state(&[("10.0.0.0/30", 30), ("10.1.0.0/30", 30)], vec![]);
    let mut chooser = Chooser::of(&state);
    let subnets: Vec<_> = (1..=2)
        .map(|id| chooser.choose(&network(id, "n", "")).unwrap()[0])
        .map(|s| (s.subnet.to_string(), s.vni))
        .collect();
    assert_eq!(
        subnets,
        [("10.0.0.0/30".into(), 4096), ("10.1.0.0/30".into(), 4097)]
    );
    let error = chooser.choose(&network(3, "n", "")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "every IPv4 subnet of the address pools (10.0.0.0/30 in /30, 10.1.0.0/30 in /30) is in \
         use: remove a network, or give a --subnet outside"
    );
}

#[test]
fn the_clusters_own_prefix_is_unique_local() {
    let net = unique_local(Some(ClusterId::from_number(5)));
    assert_eq!((net.addr().octets()[0], net.prefix_len()), (0xfd, 48));
    assert_ne!(net, unique_local(Some(ClusterId::from_number(6))));
}
