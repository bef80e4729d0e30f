//! Encrypted networks between nodes: sealed first, carried by a process of their own, closed without it.

use std::os::fd::AsFd as _;

use swarm_network::Kind;
use tunnel::{Desired, Tunnel};
use types::NetworkId;

use crate::lab::{DEADLINE, Lab, eventually, shows, skip};

fn ip(text: &str) -> std::net::IpAddr {
    text.parse().unwrap()
}

/// The processes that carry what each node's network asks for.
struct Carriers(Vec<Option<Tunnel>>);

impl Carriers {
    fn start(lab: &Lab) -> Self {
        let mut carriers = Self(lab.nodes.iter().map(|_| None).collect());
        for node in 0..lab.nodes.len() {
            carriers.replace(lab, node);
        }
        carriers
    }

    /// Begins anew, as after a kill.
    fn replace(&mut self, lab: &Lab, node: usize) {
        self.0[node] = None;
        let tunnel = lab.nodes[node]
            .namespace
            .inside(|| Tunnel::start(tunnel::PORT).unwrap());
        self.0[node] = Some(tunnel);
    }

    /// Carries what is asked for now, on all nodes.
    async fn carry(&self, lab: &Lab) {
        for node in 0..lab.nodes.len() {
            // What managers told last is carried out before anything is compared.
            lab.network(node).verify().await.unwrap();
            let wanted = lab.network(node).encryption().borrow().clone();
            let desired = Desired {
                keys: vec![lab.nodes[node].key.clone()],
                ..Desired::clone(&wanted.unwrap())
            };
            let Some(tunnel) = &self.0[node] else {
                continue;
            };
            let path = format!("/proc/{}/ns/net", lab.nodes[node].namespace.pid());
            let namespace = std::fs::File::open(path).unwrap();
            std::thread::scope(|scope| {
                let update = || {
                    let kind = Some(rustix::thread::LinkNameSpaceType::Network);
                    rustix::thread::move_into_link_name_space(namespace.as_fd(), kind).unwrap();
                    assert!(tunnel.update(&desired).is_empty());
                };
                scope.spawn(update).join().unwrap();
            });
            lab.network(node).look_again().await.unwrap();
            lab.settle(node).await;
        }
    }
}

/// Both reach each other at once.
#[track_caller]
fn reach(lab: &Lab, one: usize, two: usize, addresses: [&str; 2]) {
    for (from, to, address) in [(one, two, addresses[1]), (two, one, addresses[0])] {
        let seen = lab.container(from).reaches(lab.container(to), ip(address));
        seen.unwrap_or_else(|error| panic!("{from} to {to} at {address}: {error}"));
    }
}

/// The same after they did not: who found nobody before may believe so for a moment longer.
fn reach_again(lab: &Lab, one: usize, two: usize, addresses: [&str; 2]) {
    for (from, to, address) in [(one, two, addresses[1]), (two, one, addresses[0])] {
        eventually("way between containers", || {
            lab.container(from)
                .reaches(lab.container(to), ip(address))
                .ok()
        });
    }
}

/// Whether a packet of the network would be dropped if something sent it in clear.
fn is_sealed(lab: &Lab, vni: u32) -> bool {
    let to = std::net::SocketAddr::new(lab.nodes[1].data_path[0], 4789);
    let send = move || {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        let [_, a, b, c] = vni.to_be_bytes();
        socket.send_to(&[8, 0, 0, 0, a, b, c, 0], to)
    };
    let sent = lab.nodes[0].namespace.inside(send);
    sent.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}

fn add(lab: &mut Lab, subnets: &[&str]) -> NetworkId {
    lab.add_overlay(subnets, |spec| spec.encrypted = true)
}

#[tokio::test]
async fn nodes_over_either_family_and_several_subnets() {
    if skip("nodes_over_either_family_and_several_subnets") {
        return;
    }
    for (underlay, mtu) in [("4", "mtu 1390"), ("6", "mtu 1370")] {
        let mut lab = Lab::new(2, underlay);
        let web = add(&mut lab, &["10.0.1.0/24 fd00:1::/64", "10.0.2.0/24"]);
        let (one, _) = lab.run(0, &[(web, "10.0.1.5/24 fd00:1::5/64")]).await;
        let (two, _) = lab.run(1, &[(web, "10.0.1.6/24 fd00:1::6/64")]).await;
        let (three, _) = lab.run(1, &[(web, "10.0.2.7/24")]).await;
        let carriers = Carriers::start(&lab);
        carriers.carry(&lab).await;
        reach(&lab, one, two, ["10.0.1.5", "10.0.1.6"]);
        reach(&lab, one, two, ["fd00:1::5", "fd00:1::6"]);
        reach(&lab, one, three, ["10.0.1.5", "10.0.2.7"]);
        let inside = lab.container(one);
        assert!(
            shows(inside, "-o link show eth0", mtu),
            "{}",
            inside.ip("link")
        );
        let links = lab.nodes[0].namespace.ip("-o link show type vxlan");
        assert_eq!(links, "", "no way in clear");
    }
}

#[tokio::test]
async fn it_is_closed_without_who_carries_it_and_heals_with_the_next() {
    if skip("it_is_closed_without_who_carries_it_and_heals_with_the_next") {
        return;
    }
    let mut lab = Lab::new(2, "4");
    let web = add(&mut lab, &["10.0.1.0/24"]);
    let (one, _) = lab.run(0, &[(web, "10.0.1.5/24")]).await;
    let (two, _) = lab.run(1, &[(web, "10.0.1.6/24")]).await;
    let (near, _) = lab.run(0, &[(web, "10.0.1.7/24")]).await;
    let addresses = ["10.0.1.5", "10.0.1.6"];
    let mut carriers = Carriers(vec![None, None]);
    let closed = |lab: &Lab| {
        lab.container(one)
            .reaches(lab.container(two), ip("10.0.1.6"))
            .is_err()
    };
    assert!(closed(&lab), "nobody carries it");
    reach(&lab, one, near, ["10.0.1.5", "10.0.1.7"]);
    for node in 0..2 {
        carriers.replace(&lab, node);
    }
    carriers.carry(&lab).await;
    reach_again(&lab, one, two, addresses);

    // The network's daemon is replaced: what is carried goes on, without a repair.
    lab.stop(0);
    reach(&lab, one, two, addresses);
    lab.start(0);
    lab.tell();
    lab.settle(0).await;
    reach(&lab, one, two, addresses);
    let device = "sw-t4106";
    let node = &lab.nodes[0].namespace;
    assert!(shows(
        node,
        &format!("-o link show {device}"),
        "master sw-o"
    ));

    // Who carries it is replaced: its device comes again, and is put where it belongs.
    carriers.0[0] = None;
    let mut told = Vec::new();
    while told.is_empty() || told.iter().any(|what: &String| !what.contains(device)) {
        told = lab.network(0).verify().await.unwrap().left;
    }
    assert_eq!(
        told,
        [format!("nobody carries encrypted packets of link {device}")]
    );
    assert!(closed(&lab));
    carriers.replace(&lab, 0);
    carriers.carry(&lab).await;
    reach_again(&lab, one, two, addresses);

    // Somebody takes the device out of its bridge, and the seal away.
    let node = &lab.nodes[0].namespace;
    node.ip(&format!("link set {device} nomaster"));
    let unseal = || nft::sealed::Seal::open_here().unwrap().clear().unwrap();
    assert!(node.inside(unseal).changes > 0 && !is_sealed(&lab, 4106));
    lab.settle(0).await;
    assert!(is_sealed(&lab, 4106) && !is_sealed(&lab, 4107));
    reach_again(&lab, one, two, addresses);
    let counts = lab.network(0).counts();
    assert!(
        counts.repairs[&Kind::Filter] > 0 && counts.repairs[&Kind::Link] > 0,
        "{counts:?}"
    );
    assert_eq!(counts.refusals, 0);
}

/// Without anything of it on the node there is nothing to carry, but its packets stay sealed for as
/// long as the node knows of it.
#[tokio::test]
async fn nothing_is_left_of_it_on_a_node_without_containers() {
    if skip("nothing_is_left_of_it_on_a_node_without_containers") {
        return;
    }
    let mut lab = Lab::new(2, "4");
    let web = add(&mut lab, &["10.0.1.0/24"]);
    let (one, _) = lab.run(0, &[(web, "10.0.1.5/24")]).await;
    lab.run(1, &[(web, "10.0.1.6/24")]).await;
    let carriers = Carriers::start(&lab);
    carriers.carry(&lab).await;
    let node = &lab.nodes[0].namespace;
    assert!(node.ip("-o link").contains("sw-t") && is_sealed(&lab, 4106));
    lab.network(0).release(lab.containers[one].0).await.unwrap();
    carriers.carry(&lab).await;
    assert!(
        !node.ip("-o link").contains("sw-"),
        "{}",
        node.ip("-o link")
    );
    assert!(is_sealed(&lab, 4106));
    lab.networks.clear();
    lab.tell();
    let start = std::time::Instant::now();
    while is_sealed(&lab, 4106) {
        lab.settle(0).await;
        assert!(start.elapsed() < DEADLINE, "it is still sealed");
    }
}
