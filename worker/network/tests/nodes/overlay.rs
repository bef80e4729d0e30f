//! Containers on different nodes reach each other, and only those of their networks.

use crate::lab::{Lab, shows, skip};

fn ip(text: &str) -> std::net::IpAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn two_nodes_over_ipv4() {
    if skip("two_nodes_over_ipv4") {
        return;
    }
    let mut lab = Lab::new(2, "4");
    let web = lab.add_overlay(&["10.0.1.0/24 fd00:1::/64"], |_| {});
    let (one, sandbox) = lab.run(0, &[(web, "10.0.1.5/24 fd00:1::5/64")]).await;
    let (two, _) = lab.run(1, &[(web, "10.0.1.6/24 fd00:1::6/64")]).await;
    let (near, _) = lab.run(0, &[(web, "10.0.1.7/24 fd00:1::7/64")]).await;
    assert_eq!(sandbox.own_addresses(), [ip("10.0.1.5"), ip("fd00:1::5")]);
    for node in 0..2 {
        lab.settle(node).await;
    }
    for (from, to, address) in [
        (one, two, "10.0.1.6"),
        (two, one, "10.0.1.5"),
        (one, two, "fd00:1::6"),
        (two, one, "fd00:1::5"),
        (one, near, "10.0.1.7"),
        (near, one, "fd00:1::5"),
        (near, two, "10.0.1.6"),
    ] {
        let seen = lab.container(from).reaches(lab.container(to), ip(address));
        let own = if ip(address).is_ipv4() {
            "10.0.1."
        } else {
            "fd00:1::"
        };
        let seen = seen.unwrap_or_else(|error| panic!("{from} to {to} at {address}: {error}"));
        assert!(seen.to_string().starts_with(own), "{seen}");
    }
    let inside = lab.container(one);
    assert!(
        shows(inside, "-o link show eth0", "mtu 1450"),
        "{}",
        inside.ip("link")
    );
    assert!(shows(inside, "-o link show eth0", "02:42:0a:00:01:05"));
    assert!(shows(inside, "route show default", "dev eth1"));
    // Nobody there: the address is not asked for on other nodes.
    let fdb = lab.nodes[0].namespace.run("bridge", "fdb show");
    assert!(!fdb.contains("00:00:00:00:00:00"), "{fdb}");
}

#[tokio::test]
async fn two_nodes_over_ipv6() {
    if skip("two_nodes_over_ipv6") {
        return;
    }
    let mut lab = Lab::new(2, "6");
    let web = lab.add_overlay(&["10.0.1.0/24 fd00:1::/64"], |_| {});
    let (one, _) = lab.run(0, &[(web, "10.0.1.5/24 fd00:1::5/64")]).await;
    let (two, _) = lab.run(1, &[(web, "10.0.1.6/24 fd00:1::6/64")]).await;
    for node in 0..2 {
        lab.settle(node).await;
    }
    for (from, to, address) in [(one, two, "10.0.1.6"), (two, one, "fd00:1::5")] {
        lab.container(from)
            .reaches(lab.container(to), ip(address))
            .unwrap();
    }
    assert!(shows(lab.container(one), "-o link show eth0", "mtu 1430"));
}

#[tokio::test]
async fn several_subnets_are_one_network_and_two_networks_are_not() {
    if skip("several_subnets_are_one_network_and_two_networks_are_not") {
        return;
    }
    let mut lab = Lab::new(2, "46");
    let web = lab.add_overlay(&["10.0.1.0/24", "10.0.2.0/24"], |_| {});
    let other = lab.add_overlay(&["10.0.3.0/24"], |spec| spec.internal = true);
    let (one, _) = lab.run(0, &[(web, "10.0.1.5/24")]).await;
    let (two, _) = lab.run(1, &[(web, "10.0.2.6/24")]).await;
    let (near, _) = lab.run(0, &[(web, "10.0.2.7/24")]).await;
    let (apart, _) = lab.run(1, &[(other, "10.0.3.5/24")]).await;
    let (both, _) = lab
        .run(0, &[(web, "10.0.1.9/24"), (other, "10.0.3.9/24")])
        .await;
    for node in 0..2 {
        lab.settle(node).await;
    }
    for (from, to, address) in [
        (one, two, "10.0.2.6"),
        (two, one, "10.0.1.5"),
        (one, near, "10.0.2.7"),
        (two, near, "10.0.2.7"),
        (both, apart, "10.0.3.5"),
        (apart, both, "10.0.3.9"),
        (both, two, "10.0.2.6"),
    ] {
        let seen = lab.container(from).reaches(lab.container(to), ip(address));
        seen.unwrap_or_else(|error| panic!("{from} to {to} at {address}: {error}"));
    }
    for (from, to, address) in [(one, apart, "10.0.3.5"), (apart, one, "10.0.1.5")] {
        let seen = lab.container(from).reaches(lab.container(to), ip(address));
        assert!(seen.is_err(), "{from} reaches {to} at {address}");
    }
    // An internal network has no way out.
    assert_eq!(lab.container(apart).ip("route show default"), "");
}

/// Virtual addresses inside, published ports and their answers, and the way out: what the packet
/// filter is told.
#[tokio::test]
async fn services_answer_at_one_address_and_at_every_node() {
    if skip("services_answer_at_one_address_and_at_every_node") {
        return;
    }
    let mut lab = Lab::new(3, "4");
    let ingress = lab.add_overlay(&["10.0.0.0/24"], |spec| spec.ingress = true);
    let web = lab.add_overlay(&["10.0.1.0/24"], |_| {});
    let places = [(ingress, "10.0.0.5/24"), (web, "10.0.1.5/24")];
    let (server, _) = lab.run(1, &places).await;
    let (client, _) = lab.run(0, &[(web, "10.0.1.6/24")]).await;
    lab.tasks[1].service = types::ServiceId::from_number(2);
    lab.publish(&[(ingress, "10.0.0.2/24"), (web, "10.0.1.2/24")], 8080, 80);
    lab.tell();
    for node in 0..3 {
        lab.settle(node).await;
    }
    let port = 80;
    // By its address on the network of both, from another container.
    let seen = lab
        .container(client)
        .calls(lab.container(server), port, ip("10.0.1.2"), port);
    assert_eq!(seen.unwrap(), ip("10.0.1.6"));
    // From outside, at each node; the third has no task.
    let outside = crate::lab::Namespace::new();
    let own = lab.connect(&outside, 100);
    for node in 0..3 {
        let at = lab.nodes[node].data_path[0];
        let seen = outside.calls(lab.container(server), port, at, 8080);
        assert_eq!(
            seen.unwrap_or_else(|error| panic!("node {node}: {error}")),
            own
        );
    }
    // Out into the world, by the node's address.
    let seen = lab.container(client).reaches(&outside, own).unwrap();
    assert_eq!(seen, lab.nodes[0].data_path[0]);
    // Taken out of rotation, it is not called any more; nobody else is there.
    lab.tasks[0].serving = false;
    lab.tell();
    lab.settle(0).await;
    let seen = lab
        .container(client)
        .calls(lab.container(server), port, ip("10.0.1.2"), port);
    assert!(seen.is_err(), "{seen:?}");
}
