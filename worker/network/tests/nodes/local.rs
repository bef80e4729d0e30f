//! Networks that end at the node: bridges, devices, the way out.

use types::network::{AddressPool, NetworkDriver};

use crate::lab::{Lab, Namespace, eventually, skip};

fn ip(text: &str) -> std::net::IpAddr {
    text.parse().unwrap()
}

fn pool(subnet: &str, range: Option<&str>) -> AddressPool {
    AddressPool {
        subnet: subnet.parse().unwrap(),
        range: range.map(|range| range.parse().unwrap()),
        gateway: None,
        aux: [("router".to_owned(), ip("10.5.0.2"))].into(),
    }
}

#[tokio::test]
async fn containers_of_a_bridge_reach_each_other_and_the_node() {
    if skip("containers_of_a_bridge_reach_each_other_and_the_node") {
        return;
    }
    let mut lab = Lab::new(1, "4");
    let asked = lab.add_network(NetworkDriver::Bridge, vec![], |spec| {
        spec.pools = vec![pool("10.5.0.0/24", None)];
    });
    let chosen = lab.add_network(NetworkDriver::Bridge, vec![], |spec| spec.ipv6 = true);
    let (one, first) = lab.run(0, &[(asked, "")]).await;
    let (two, second) = lab.run(0, &[(asked, "")]).await;
    let (three, third) = lab.run(0, &[(chosen, "")]).await;
    // .1 is the gateway, .2 was kept free.
    assert_eq!(first.own_addresses(), [ip("10.5.0.3")]);
    assert_eq!(second.own_addresses(), [ip("10.5.0.4")]);
    let [ipv4, ipv6] = third.own_addresses()[..] else {
        panic!("{third:?}")
    };
    assert!(ipv4.to_string().starts_with("172.") && ipv6.to_string().starts_with("fd"));
    lab.container(one)
        .reaches(lab.container(two), ip("10.5.0.4"))
        .unwrap();
    let node = &lab.nodes[0].namespace;
    node.reaches(lab.container(three), ipv4).unwrap();
    node.reaches(lab.container(three), ipv6).unwrap();
    lab.container(one).reaches(node, ip("10.5.0.1")).unwrap();
    assert!(
        lab.container(one)
            .ip("route show default")
            .contains("via 10.5.0.1")
    );
}

#[tokio::test]
async fn the_way_out_keeps_containers_apart() {
    if skip("the_way_out_keeps_containers_apart") {
        return;
    }
    let mut lab = Lab::new(1, "4");
    let one_net = lab.add_overlay(&["10.0.1.0/24"], |_| {});
    let other_net = lab.add_overlay(&["10.0.2.0/24"], |_| {});
    let (one, sandbox) = lab.run(0, &[(one_net, "10.0.1.5/24")]).await;
    let (two, other) = lab.run(0, &[(other_net, "10.0.2.5/24")]).await;
    let out = |sandbox: &swarm_network::Sandbox| sandbox.interfaces[1].address(true).unwrap();
    let node = &lab.nodes[0].namespace;
    node.reaches(lab.container(one), out(&sandbox)).unwrap();
    let seen = lab.container(one).reaches(lab.container(two), out(&other));
    assert!(seen.is_err(), "{seen:?}");
}

#[tokio::test]
async fn macvlan_is_on_the_wire() {
    if skip("macvlan_is_on_the_wire") {
        return;
    }
    let mut lab = Lab::new(2, "4");
    let wire = lab.add_network(NetworkDriver::Macvlan, vec![], |spec| {
        spec.pools = vec![pool("10.5.0.0/24", Some("10.5.0.16/28"))];
        spec.options.insert("parent".to_owned(), "eth0".to_owned());
    });
    let (one, first) = lab.run(0, &[(wire, "")]).await;
    let (two, second) = lab.run(0, &[(wire, "")]).await;
    assert_eq!(first.own_addresses(), [ip("10.5.0.16")]);
    assert_eq!(second.own_addresses(), [ip("10.5.0.17")]);
    lab.container(one)
        .reaches(lab.container(two), ip("10.5.0.17"))
        .unwrap();
    // Another machine on the same wire.
    lab.nodes[1]
        .namespace
        .ip("address add 10.5.0.9/24 dev eth0");
    lab.nodes[1]
        .namespace
        .reaches(lab.container(one), ip("10.5.0.16"))
        .unwrap();
}

#[tokio::test]
async fn a_configuration_gives_device_and_addresses() {
    if skip("a_configuration_gives_device_and_addresses") {
        return;
    }
    let mut lab = Lab::new(1, "4");
    lab.add_network(NetworkDriver::Macvlan, vec![], |spec| {
        spec.name = "wire-config".to_owned();
        spec.config_only = true;
        spec.pools = vec![pool("10.5.0.0/24", Some("10.5.0.32/28"))];
        spec.options.insert("parent".to_owned(), "eth0".to_owned());
    });
    let wire = lab.add_network(NetworkDriver::Macvlan, vec![], |spec| {
        spec.config_from = Some("wire-config".to_owned());
    });
    let (one, first) = lab.run(0, &[(wire, "")]).await;
    let (two, second) = lab.run(0, &[(wire, "")]).await;
    assert_eq!(first.own_addresses(), [ip("10.5.0.32")]);
    assert_eq!(second.own_addresses(), [ip("10.5.0.33")]);
    lab.container(one)
        .reaches(lab.container(two), ip("10.5.0.33"))
        .unwrap();
}

#[tokio::test]
async fn mistakes_are_told() {
    if skip("mistakes_are_told") {
        return;
    }
    let mut lab = Lab::new(1, "4");
    let options = |parent: &'static str, mode: &'static str| {
        move |spec: &mut types::network::NetworkSpec| {
            let subnet = if parent.is_empty() {
                "10.5.0.0/30"
            } else {
                "10.5.0.0/24"
            };
            spec.pools = vec![pool(subnet, None)];
            spec.options.insert("parent".to_owned(), parent.to_owned());
            spec.options
                .insert("macvlan_mode".to_owned(), mode.to_owned());
        }
    };
    let absent = lab.add_network(NetworkDriver::Macvlan, vec![], options("eth7", ""));
    let odd = lab.add_network(NetworkDriver::Macvlan, vec![], options("eth0", "wild"));
    let none = lab.add_network(NetworkDriver::Macvlan, vec![], |_| {});
    let full = lab.add_network(NetworkDriver::Bridge, vec![], options("", ""));
    lab.tell();
    let container = Namespace::new();
    let network = lab.network(0).clone();
    let attempt = async |number: u128, id| {
        let task = types::TaskId::from_number(number);
        let attachment = types::network::NetworkAttachment {
            network: id,
            addresses: vec![],
            aliases: vec![],
        };
        network.reserve(task, vec![attachment], vec![]).await?;
        network.attach(task, container.pid()).await
    };
    for (number, id, text) in [
        (
            1,
            absent,
            "network \"net1\" needs the device \"eth7\", which this node does not have",
        ),
        (
            2,
            odd,
            "macvlan_mode \"wild\" of network \"net2\" is none of bridge, private, vepa",
        ),
        (
            3,
            none,
            "network \"net3\" names no device of the node: give it --opt parent=DEVICE",
        ),
        (
            4,
            types::NetworkId::from_number(9),
            "is not known to this node yet",
        ),
    ] {
        let error = attempt(number, id).await.unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
    // Of four addresses two are special, one is the gateway's and one is kept free.
    let error = attempt(5, full).await.unwrap_err().to_string();
    assert_eq!(error, "no address is left in 10.5.0.0/30");
    eventually("no link left", || {
        let links = lab.nodes[0].namespace.ip("-o link show");
        (!links.contains("sw-")).then_some(())
    });
}
