//! What a task is put on, and what its files say.

use network::{Base, Interface, LinkName};
use types::NetworkId;
use types::network::NetworkAttachmentSpec;

use super::*;

fn interface(network: Option<NetworkId>, addresses: &[&str]) -> Interface {
    Interface {
        name: "eth0".to_owned(),
        network,
        is_ingress: false,
        base: Base::Bridge {
            bridge: LinkName::outbound(),
            port: LinkName::port(TaskId::from_number(1), 0),
            is_isolated: false,
        },
        mac: [2, 0x42, 10, 0, 1, 5],
        addresses: addresses.iter().map(|one| one.parse().unwrap()).collect(),
        on_link: vec![],
        gateways: vec![],
        mesh_gateways: vec![],
        mtu_asked: None,
    }
}

#[test]
fn the_bridge_of_the_node_is_asked_for_by_name() {
    let mut task = crate::plan::tests::task();
    assert!(attachments(&task).is_empty());
    let spec = Arc::make_mut(&mut task.spec);
    spec.networks.push(NetworkAttachmentSpec {
        target: "bridge".to_owned(),
        aliases: vec!["me".to_owned()],
        ..NetworkAttachmentSpec::default()
    });
    let [bridge] = &attachments(&task)[..] else {
        panic!("one network")
    };
    assert_eq!(
        (bridge.network, &bridge.aliases[..]),
        (DEFAULT_BRIDGE, &["me".to_owned()][..])
    );
}

#[test]
fn names_are_answered_on_networks_of_the_users_only() {
    let task = crate::plan::tests::task();
    let web = NetworkId::from_number(7);
    let addresses = ["10.0.1.5/24", "fd00:1::5/64"];
    for (network, hostname, own, is_answered) in [
        (Some(web), "", &task.id.as_str()[..12], true),
        (Some(web), "me", "me", true),
        (Some(DEFAULT_BRIDGE), "me", "me", false),
        (None, "me", "me", false),
    ] {
        let interfaces = vec![interface(network, &addresses)];
        let sandbox = Sandbox {
            task: task.id,
            interfaces,
            host_ports: vec![],
        };
        let names = names(&task, hostname, &sandbox);
        let hosts: Vec<_> = names
            .hosts
            .iter()
            .map(|host| format!("{} {}", host.address, host.names[0]))
            .collect();
        assert_eq!(
            hosts,
            [format!("10.0.1.5 {own}"), format!("fd00:1::5 {own}")]
        );
        assert_eq!(names.dns.is_some(), is_answered, "{network:?}");
    }
}
