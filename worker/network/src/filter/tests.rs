//! Who is balanced to.

use std::collections::BTreeMap;
use std::sync::Arc;

use types::network::{EndpointMode, NetworkAttachment, VirtualIp};
use types::reach::{Reach, ServiceEndpoint, TaskEndpoint};
use types::{NodeId, TaskId};

use super::*;

const VIP: &str = "10.0.1.2/24";

/// A service with a task on each of these nodes, the task's number being its node's; seen by node 1.
fn view(nodes: &[(u128, bool)]) -> View {
    let (network, service) = (NetworkId::from_number(1), ServiceId::from_number(1));
    let task = |(number, serving): &(u128, bool)| {
        let task = TaskEndpoint {
            task: TaskId::from_number(*number),
            service,
            slot: 1,
            node: NodeId::from_number(*number),
            name: "web.1".to_owned(),
            hostname: String::new(),
            attachments: vec![NetworkAttachment {
                network,
                addresses: vec![format!("10.0.1.{}/24", number + 10).parse().unwrap()],
                aliases: vec![],
            }],
            serving: *serving,
            weight: 1,
        };
        (task.task, Arc::new(task))
    };
    let web = ServiceEndpoint {
        service,
        name: "web".to_owned(),
        mode: EndpointMode::Vip,
        affinity: Affinity::None,
        ports: vec![],
        virtual_ips: vec![VirtualIp {
            network,
            address: VIP.parse().unwrap(),
        }],
        aliases: vec![],
    };
    let reach = Reach {
        tasks: nodes.iter().map(task).collect(),
        services: BTreeMap::from([(service, Arc::new(web))]),
        ..Reach::default()
    };
    View::new(NodeId::from_number(1), vec![], Arc::new(reach))
}

/// Nodes that new connections go to.
fn goes_to(view: View, lost: &[u128]) -> Vec<u8> {
    let lost = lost.iter().map(|number| NodeId::from_number(*number));
    let view = view.with_lost(Arc::new(lost.collect()));
    let balance = Balance::of(&view);
    let services = &balance.by_network[&NetworkId::from_number(1)];
    let frontend = Frontend::address("10.0.1.2".parse().unwrap());
    let serving = services[&frontend].backends.iter();
    let serving = serving.filter(|one| one.weight > 0);
    let mut nodes: Vec<u8> = serving
        .filter_map(|one| match one.address {
            IpAddr::V4(address) => Some(address.octets()[3] - 10),
            IpAddr::V6(_) => None,
        })
        .collect();
    nodes.sort_unstable();
    nodes
}

#[test]
fn lost_nodes_are_passed_over_while_there_are_others() {
    let all = [(1, true), (2, true), (3, true)];
    for (lost, expected) in [
        (&[][..], &[1, 2, 3][..]),
        (&[3], &[1, 2]),
        (&[2, 3], &[1]),
        // This node lives, whatever is said.
        (&[1, 2], &[1, 3]),
        (&[1, 2, 3], &[1]),
        (&[9], &[1, 2, 3]),
    ] {
        assert_eq!(goes_to(view(&all), lost), expected, "{lost:?}");
    }
}

#[test]
fn who_does_not_serve_keeps_its_flows_and_who_is_lost_does_not() {
    let view = view(&[(1, true), (2, false), (3, true)]);
    let known = |view: &View| {
        let balance = Balance::of(view);
        let services = &balance.by_network[&NetworkId::from_number(1)];
        services.values().map(|to| to.backends.len()).sum::<usize>()
    };
    assert_eq!(known(&view), 3);
    let lost = Arc::new([NodeId::from_number(3)].into());
    assert_eq!(known(&view.with_lost(lost)), 2);
}

#[test]
fn when_all_would_be_passed_over_nobody_is() {
    let elsewhere = [(2, true), (3, true), (4, false)];
    for (lost, expected) in [
        (&[2][..], &[3][..]),
        (&[2, 3], &[2, 3]),
        (&[2, 3, 4], &[2, 3]),
        // Who lives but does not serve is no reason to give up those who do.
        (&[3, 4], &[2]),
    ] {
        assert_eq!(goes_to(view(&elsewhere), lost), expected, "{lost:?}");
    }
}

#[test]
fn names_are_asked_for_at_port_53_where_they_are_answered() {
    let sandbox = |network, is_ingress| {
        let interface = crate::sandbox::Interface {
            name: "eth0".to_owned(),
            network,
            is_ingress,
            base: Base::Device {
                parent: LinkName::existing("eth0"),
                kind: crate::sandbox::DeviceKind::Macvlan,
                mode: "bridge".to_owned(),
            },
            mac: [2; 6],
            addresses: vec![],
            on_link: vec![],
            gateways: vec![],
            mesh_gateways: vec![],
            mtu_asked: None,
        };
        Sandbox {
            task: TaskId::from_number(1),
            interfaces: vec![interface],
            host_ports: vec![],
        }
    };
    let balance = Balance::default();
    let user = Some(NetworkId::from_number(1));
    let services = balance.inside(&sandbox(user, false));
    assert_eq!(services.len(), 2, "by UDP and TCP");
    for (asked, to) in services {
        assert_eq!(asked.address, NAMES_ADDRESS);
        assert_eq!(asked.port.unwrap().number, 53);
        assert_eq!(to.backends[0].port, Some(NAMES_PORT));
    }
    for (network, is_ingress) in [
        (None, false),
        (user, true),
        (Some(crate::DEFAULT_BRIDGE), false),
    ] {
        assert_eq!(balance.inside(&sandbox(network, is_ingress)).len(), 0);
    }
}
