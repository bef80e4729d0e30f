//! What follows from a view.

use std::collections::BTreeMap;
use std::sync::Arc;

use types::network::endpoint_mac;
use types::network::{NetworkAttachment, NetworkSpec, Subnet};
use types::reach::{NetworkSettings, Peer, Reach, TaskEndpoint};
use types::{Meta, NodeId, ServiceId, TaskId};

use super::*;

fn view(spec: NetworkSpec) -> View {
    let id = NetworkId::from_number(1);
    let subnet = |range: &str, vni| {
        let subnet: ipnet::IpNet = range.parse().unwrap();
        Subnet {
            subnet,
            gateway: subnet.hosts().next().unwrap(),
            vni,
        }
    };
    let subnets = vec![subnet("10.0.1.0/24", 4096), subnet("10.0.2.0/24", 4097)];
    let network = Network {
        id,
        meta: Meta::default(),
        spec,
        subnets,
    };
    let peer = |number: u32, data_path: &str| {
        let node = NodeId::from_number(u128::from(number));
        let peer = Peer {
            node,
            index: number,
            data_path: data_path
                .split(' ')
                .map(|one| one.parse().unwrap())
                .collect(),
            wireguard_keys: vec![],
            alive: true,
        };
        (node, Arc::new(peer))
    };
    let reach = Reach {
        settings: Some(NetworkSettings {
            index: 1,
            data_path_port: 4789,
            gossip_keys: vec![],
        }),
        networks: BTreeMap::from([(id, Arc::new(network))]),
        peers: BTreeMap::from([
            peer(1, "192.0.2.1 2001:db8::1"),
            peer(2, "192.0.2.2 2001:db8::2"),
            peer(3, "2001:db8::3"),
        ]),
        ..Reach::default()
    };
    let data_path = vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
    View::new(NodeId::from_number(1), data_path, Arc::new(reach))
}

fn task(number: u128, node: u128, address: &str, serving: bool) -> TaskEndpoint {
    TaskEndpoint {
        task: TaskId::from_number(number),
        service: ServiceId::from_number(1),
        slot: 1,
        node: NodeId::from_number(node),
        name: "web.1".to_owned(),
        hostname: String::new(),
        attachments: vec![NetworkAttachment {
            network: NetworkId::from_number(1),
            addresses: vec![address.parse().unwrap()],
            aliases: vec![],
        }],
        serving,
        weight: 1,
    }
}

fn state(view: &View) -> State {
    state_with(view, &Sealed::default())
}

fn state_with(view: &View, sealed: &Sealed) -> State {
    desired(inputs(view, sealed))
}

fn inputs<'a>(view: &'a View, sealed: &'a Sealed) -> Inputs<'a> {
    static LOCAL: std::sync::LazyLock<LocalSubnets> =
        std::sync::LazyLock::new(LocalSubnets::default);
    Inputs {
        view,
        sandboxes: &[],
        local: &LOCAL,
        underlay: Underlay::default(),
        sealed,
    }
}

fn ingress() -> NetworkSpec {
    NetworkSpec {
        ingress: true,
        ..NetworkSpec::default()
    }
}

#[test]
fn a_network_without_containers_here_is_not_here() {
    let mut view = view(NetworkSpec::default());
    let far = task(1, 2, "10.0.1.5/24", true);
    Arc::make_mut(&mut view.reach)
        .tasks
        .insert(far.task, Arc::new(far));
    assert_eq!(state(&view), State::default());
}

#[test]
fn tunnels_lead_to_each_family_of_nodes_and_for_each_subnet() {
    let mut view = view(ingress());
    for one in [
        task(1, 2, "10.0.1.5/24", true),
        task(2, 3, "10.0.2.6/24", true),
    ] {
        Arc::make_mut(&mut view.reach)
            .tasks
            .insert(one.task, Arc::new(one));
    }
    let state = state(&view);
    let names: Vec<_> = state.links.keys().map(ToString::to_string).collect();
    assert_eq!(
        names,
        ["sw-in", "sw-x4096", "sw-x4097", "sw-y4096", "sw-y4097"]
    );
    assert_eq!(state.links[&LinkName::ingress()].mac, Some(node_mac(1)));
    let tunnels: Vec<_> = state
        .tunnel_macs
        .iter()
        .map(|((link, mac), node)| format!("{link} {:02x}{:02x} {node}", mac[1], mac[5]))
        .collect();
    assert_eq!(
        tunnels,
        [
            "sw-x4096 4205 192.0.2.2",
            "sw-x4096 4e02 192.0.2.2",
            "sw-y4096 4e03 2001:db8::3",
            "sw-y4097 4206 2001:db8::3",
        ]
    );
    assert_eq!(state.neighbours.len(), 2);
    assert_eq!(state.addresses.len(), 2, "the gateways");
}

#[test]
fn an_address_is_where_the_serving_task_is() {
    let mut view = view(ingress());
    for one in [
        task(1, 2, "10.0.1.5/24", true),
        task(2, 3, "10.0.1.5/24", false),
    ] {
        Arc::make_mut(&mut view.reach)
            .tasks
            .insert(one.task, Arc::new(one));
    }
    let state = state(&view);
    let mac = endpoint_mac("10.0.1.5".parse().unwrap());
    let places: Vec<_> = state.port_macs.iter().filter(|at| at.1 == mac).collect();
    assert_eq!(places, [&(LinkName::tunnel(4096, false), mac)]);
}

#[test]
fn what_is_encrypted_has_no_open_tunnel() {
    let mut view = view(NetworkSpec {
        encrypted: true,
        ..ingress()
    });
    let far = task(1, 2, "10.0.1.5/24", true);
    Arc::make_mut(&mut view.reach)
        .tasks
        .insert(far.task, Arc::new(far));
    let state = state(&view);
    assert_eq!(
        state.links.keys().collect::<Vec<_>>(),
        [&LinkName::ingress()]
    );
    assert_eq!(state.links[&LinkName::ingress()].mtu, 1390);
    assert!(state.tunnel_macs.is_empty() && state.port_macs.is_empty());
}

/// Sealed first, then a device, then a port; and the process is told who is where.
#[test]
fn what_is_encrypted_has_a_way_once_it_is_sealed_and_carried() {
    let mut view = view(NetworkSpec {
        encrypted: true,
        ..ingress()
    });
    for one in [
        task(1, 2, "10.0.1.5/24", true),
        task(2, 3, "10.0.2.6/24", true),
    ] {
        Arc::make_mut(&mut view.reach)
            .tasks
            .insert(one.task, Arc::new(one));
    }
    let carried = |sealed: &Sealed| crate::encrypted::tunnel_desired(inputs(&view, sealed));
    assert_eq!(carried(&Sealed::default()).networks, []);
    let vnis = crate::encrypted::encrypted_vnis(&view);
    assert_eq!(vnis, BTreeSet::from([4096, 4097]));
    let mut sealed = Sealed {
        vnis,
        ..Sealed::default()
    };
    let told = carried(&sealed);
    let devices: Vec<_> = told
        .networks
        .iter()
        .map(|one| one.device.as_str())
        .collect();
    assert_eq!(devices, ["sw-t4096", "sw-t4097"]);
    for network in &told.networks {
        let holders: Vec<_> = network
            .stations
            .iter()
            .map(|station| (station.mac[1], station.mac[5], station.peer))
            .collect();
        // Each segment hears of all: who is on one subnet sends to the others.
        let (task, node) = (0x42, 0x4e);
        let expected = [
            (task, 5, Some(2)),
            (task, 6, Some(3)),
            (node, 1, None),
            (node, 2, Some(2)),
            (node, 3, Some(3)),
        ];
        assert_eq!(holders, expected);
        assert_eq!(network.mtu, 1390);
    }
    let peers: Vec<_> = told
        .peers
        .iter()
        .map(|peer| (peer.index, peer.address.to_string()))
        .collect();
    let expected = [(2, "192.0.2.2"), (3, "2001:db8::3")].map(|(at, to)| (at, to.to_owned()));
    assert_eq!(peers, expected);
    // Sealed, but no device yet: no port either, and nobody is told to go there.
    let none = state_with(&view, &sealed);
    assert_eq!(none.links.len(), 1);
    assert!(none.port_macs.is_empty());
    sealed.devices.insert(4097);
    let state = state_with(&view, &sealed);
    let names: Vec<_> = state.links.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["sw-in", "sw-t4097"]);
    assert_eq!(state.links[&LinkName::encrypted(4097)].kind, LinkKind::Tap);
    let mac = endpoint_mac("10.0.2.6".parse().unwrap());
    assert_eq!(
        state.port_macs,
        BTreeSet::from([(LinkName::encrypted(4097), mac)])
    );
    assert!(state.tunnel_macs.is_empty());
}
