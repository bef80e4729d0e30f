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
        let hosts = own_names(&task, hostname, &sandbox);
        let hosts: Vec<_> = hosts
            .iter()
            .map(|host| format!("{} {}", host.address, host.names[0]))
            .collect();
        assert_eq!(
            hosts,
            [format!("10.0.1.5 {own}"), format!("fd00:1::5 {own}")]
        );
        let resolver = resolver(&task, Some(&sandbox), &ResolvConf::default());
        assert_eq!(resolver.is_some(), is_answered, "{network:?}");
    }
}

#[test]
fn containers_ask_whom_their_user_names() {
    let machine = ResolvConf::parse("nameserver 127.0.0.53\nnameserver 10.9.9.9\nsearch corp");
    let mut task = crate::plan::tests::task();
    let sandbox = Sandbox {
        task: task.id,
        interfaces: vec![interface(Some(NetworkId::from_number(7)), &["10.0.1.5/24"])],
        host_ports: vec![],
    };
    let says = |task: &Task, sandbox| {
        let dns = resolver(task, sandbox, &machine)?;
        let servers: Vec<_> = dns.nameservers.iter().map(ToString::to_string).collect();
        Some([
            servers.join(" "),
            dns.search.join(" "),
            dns.options.join(" "),
        ])
    };
    let text = |texts: [&str; 3]| Some(texts.map(str::to_owned));
    assert_eq!(
        says(&task, Some(&sandbox)),
        text(["127.0.0.11", "corp", "ndots:0"])
    );
    assert_eq!(says(&task, None), None, "the machine's own file");
    let dns = &mut Arc::make_mut(&mut task.spec).container.dns;
    dns.options = vec!["ndots:2".to_owned()];
    assert_eq!(says(&task, None), text(["10.9.9.9", "corp", "ndots:2"]));
    let dns = &mut Arc::make_mut(&mut task.spec).container.dns;
    dns.nameservers = vec!["10.1.1.1".parse().unwrap()];
    dns.search = vec![".".to_owned()];
    assert_eq!(
        says(&task, Some(&sandbox)),
        text(["127.0.0.11", "", "ndots:2"])
    );
    assert_eq!(says(&task, None), text(["10.1.1.1", "", "ndots:2"]));
}
