//! Which names there are.

use types::network::{Affinity, NetworkAttachment, NetworkSpec, VirtualIp};
use types::{Meta, NodeId, ServiceId};

use super::*;

fn network(number: u128, name: &str, ingress: bool) -> Network {
    Network {
        id: NetworkId::from_number(number),
        meta: Meta::default(),
        spec: NetworkSpec {
            name: name.to_owned(),
            ingress,
            ..NetworkSpec::default()
        },
        subnets: vec![],
    }
}

fn till(network: NetworkId, service: ServiceId) -> TaskEndpoint {
    TaskEndpoint {
        task: TaskId::from_number(9),
        service,
        slot: 1,
        node: NodeId::from_number(4),
        name: "shop.1".to_owned(),
        hostname: "till".to_owned(),
        attachments: vec![NetworkAttachment {
            network,
            addresses: vec!["10.0.1.5/24".parse().unwrap()],
            aliases: vec![],
        }],
        serving: true,
        weight: 1,
    }
}

#[test]
fn names_are_those_of_each_network() {
    let (web, other, ingress) = (
        network(1, "web", false),
        network(2, "other", false),
        network(3, "ingress", true),
    );
    let service = ServiceEndpoint {
        service: ServiceId::from_number(7),
        name: "shop".to_owned(),
        mode: EndpointMode::Vip,
        affinity: Affinity::None,
        ports: vec![],
        virtual_ips: vec![VirtualIp {
            network: web.id,
            address: "10.0.1.2/24".parse().unwrap(),
        }],
        aliases: vec![
            (web.id, "store".to_owned()),
            (other.id, "elsewhere".to_owned()),
        ],
    };
    let task = till(web.id, service.service);
    let networks = [web.clone(), other.clone(), ingress];
    let reach = Reach {
        networks: networks
            .into_iter()
            .map(|one| (one.id, Arc::new(one)))
            .collect(),
        tasks: [(task.task, Arc::new(task))].into(),
        services: [(service.service, Arc::new(service))].into(),
        ..Reach::default()
    };
    let found = records(&reach);
    assert_eq!(
        found.keys().copied().collect::<Vec<_>>(),
        [web.id, other.id]
    );
    let [shop] = &found[&web.id].sets[..] else {
        panic!("{found:?}")
    };
    assert_eq!(shop.names, ["shop", "store"]);
    assert_eq!(
        shop.virtual_ips,
        ["10.0.1.2".parse::<std::net::IpAddr>().unwrap()]
    );
    assert_eq!(
        shop.tasks[0].names[1..],
        ["shop.1", "0000000000000", "till"].map(|one| one[..one.len().min(12)].to_owned())
    );
    let [elsewhere] = &found[&other.id].sets[..] else {
        panic!("{found:?}")
    };
    assert!(elsewhere.virtual_ips.is_empty() && elsewhere.tasks.is_empty());
}

#[test]
fn a_name_is_in_no_network_its_service_is_not_on() {
    let (web, side) = (network(1, "web", false), network(2, "side", false));
    let service = ServiceEndpoint {
        service: ServiceId::from_number(7),
        name: "shop".to_owned(),
        mode: EndpointMode::Vip,
        affinity: Affinity::None,
        ports: vec![],
        virtual_ips: vec![VirtualIp {
            network: web.id,
            address: "10.0.1.2/24".parse().unwrap(),
        }],
        aliases: vec![],
    };
    let mut task = till(web.id, service.service);
    let id = task.task;
    let told = |task: TaskEndpoint, service: Option<ServiceEndpoint>| {
        let networks = [web.clone(), side.clone()].into_iter();
        let reach = Reach {
            networks: networks.map(|one| (one.id, Arc::new(one))).collect(),
            tasks: [(task.task, Arc::new(task))].into(),
            services: service
                .map(|one| (one.service, Arc::new(one)))
                .into_iter()
                .collect(),
            ..Reach::default()
        };
        records(&reach)
    };
    let found = told(task.clone(), Some(service.clone()));
    assert_eq!(
        found[&side.id].sets,
        [],
        "nothing stands before the name in web"
    );
    // Connected to it by itself, one task has its names and aliases there, on every node.
    task.attachments.push(NetworkAttachment {
        network: side.id,
        addresses: vec!["10.0.2.5/24".parse().unwrap()],
        aliases: vec!["probe".to_owned()],
    });
    for service in [Some(service.clone()), None] {
        let found = told(task.clone(), service);
        let [set] = &found[&side.id].sets[..] else {
            panic!("{found:?}")
        };
        assert!(set.names.is_empty() && set.virtual_ips.is_empty());
        let names = [format!("shop.1.{id}"), "shop.1".to_owned()];
        assert_eq!(set.tasks[0].names[..2], names);
        assert_eq!(set.tasks[0].names[3..], ["till", "probe"]);
    }
    let rr = ServiceEndpoint {
        mode: EndpointMode::Dnsrr,
        virtual_ips: vec![],
        ..service
    };
    let found = told(task, Some(rr));
    assert_eq!(
        found[&web.id].sets[0].names,
        ["shop"],
        "its tasks show where it is"
    );
}
