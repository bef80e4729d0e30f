//! Which interfaces a task gets.

use types::Meta;
use types::network::{NetworkSpec, Subnet};

use super::*;

fn network(number: u128, driver: NetworkDriver, subnets: &[&str]) -> Network {
    let subnet = |range: &&str| {
        let subnet: IpNet = range.parse().unwrap();
        Subnet {
            subnet,
            gateway: subnet.hosts().next().unwrap(),
            vni: 4096,
        }
    };
    Network {
        id: NetworkId::from_number(number),
        meta: Meta::default(),
        spec: NetworkSpec {
            driver,
            ..NetworkSpec::default()
        },
        subnets: subnets.iter().map(subnet).collect(),
    }
}

fn attachment(network: &Network, addresses: &[&str]) -> NetworkAttachment {
    NetworkAttachment {
        network: network.id,
        addresses: addresses
            .iter()
            .map(|address| address.parse().unwrap())
            .collect(),
        aliases: vec![],
    }
}

fn local(subnet: &str, gateway: &str, address: &str) -> (LocalSubnet, IpNet) {
    let subnet: IpNet = subnet.parse().unwrap();
    let subnet = LocalSubnet {
        subnet,
        range: subnet,
        gateway: gateway.parse().unwrap(),
    };
    (subnet, address.parse().unwrap())
}

fn show(interface: &Interface) -> String {
    fn join<T: ToString>(all: &[T]) -> String {
        let texts: Vec<String> = all.iter().map(ToString::to_string).collect();
        texts.join(",")
    }
    format!(
        "{} {} links={} via={}",
        interface.name,
        join(&interface.addresses),
        join(&interface.on_link),
        join(&interface.gateways)
    )
}

#[test]
fn user_networks_come_first_then_ingress_then_the_way_out() {
    let mut ingress = network(1, NetworkDriver::Overlay, &["10.0.0.0/24"]);
    ingress.spec.ingress = true;
    let subnets = ["10.0.1.0/24", "10.0.2.0/24", "fd00:1::/64"];
    let web = network(2, NetworkDriver::Overlay, &subnets);
    let lan = network(3, NetworkDriver::Bridge, &[]);
    let given = [local("10.5.0.0/24", "10.5.0.1", "10.5.0.9/24")];
    let places = [
        Place {
            network: &ingress,
            attachment: &attachment(&ingress, &["10.0.0.7/24"]),
            local: &[],
        },
        Place {
            network: &web,
            attachment: &attachment(&web, &["10.0.1.5/24"]),
            local: &[],
        },
        Place {
            network: &lan,
            attachment: &attachment(&lan, &[]),
            local: &given,
        },
    ];
    let outbound = [
        local("172.17.0.0/16", "172.17.0.1", "172.17.0.2/16"),
        local("fd00::/64", "fd00::1", "fd00::2/64"),
    ];
    let task = TaskId::from_number(9);
    let sandbox = plan(task, &places, &outbound).unwrap();
    let shown: Vec<_> = sandbox.interfaces.iter().map(show).collect();
    assert_eq!(
        shown,
        [
            // IPv6 subnets are of no use to one without such an address.
            "eth0 10.0.1.5/24 links=10.0.2.0/24 via=",
            "eth1 10.5.0.9/24 links= via=10.5.0.1",
            "eth2 10.0.0.7/24 links= via=",
            // The bridge leads out for IPv4 already.
            "eth3 172.17.0.2/16,fd00::2/64 links= via=fd00::1",
        ]
    );
    assert_eq!(
        sandbox.own_addresses(),
        ["10.0.1.5".parse::<IpAddr>().unwrap()]
    );
    assert_eq!(sandbox.ingress().unwrap().name, "eth2");
    let ports: Vec<_> = sandbox
        .interfaces
        .iter()
        .filter_map(Interface::port)
        .collect();
    assert_eq!(ports.len(), 4);
    assert!(
        ports
            .iter()
            .all(|port| port.as_str().len() <= 15 && port.is_ours())
    );
}

#[test]
fn what_cannot_be_is_told() {
    let overlay = network(1, NetworkDriver::Overlay, &["10.0.1.0/24"]);
    let host = network(2, NetworkDriver::Host, &[]);
    let lan = network(3, NetworkDriver::Macvlan, &[]);
    for (network, text) in [
        (&overlay, "the task has no address on network \"\""),
        (&host, "network \"\" of driver host has no interfaces"),
        (
            &lan,
            "network \"\" names no device of the node: give it --opt parent=DEVICE",
        ),
    ] {
        let place = Place {
            network,
            attachment: &attachment(network, &[]),
            local: &[],
        };
        let error = plan(TaskId::from_number(1), &[place], &[]).unwrap_err();
        assert_eq!(error.to_string(), text);
    }
}
