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
