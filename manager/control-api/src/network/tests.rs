//! Networks as users make, see and remove them, and every request that is refused.

use std::sync::Arc;

use store::Action;
use types::network::{
    AddressPool, Affinity, Endpoint, EndpointMode, NetworkAttachmentSpec, NetworkDriver,
    PublishMode, PublishedPort, Subnet, VirtualIp,
};
use types::{Network, NetworkSpec, ServiceSpec};

use crate::Error;
use crate::testing::{Fixture, spec};

fn pool(subnet: &str) -> AddressPool {
    AddressPool {
        subnet: subnet.parse().unwrap(),
        range: None,
        gateway: None,
        aux: [].into(),
    }
}

fn network(name: &str, change: impl FnOnce(&mut NetworkSpec)) -> NetworkSpec {
    let mut spec = NetworkSpec {
        name: name.into(),
        ..NetworkSpec::default()
    };
    change(&mut spec);
    spec
}

fn option(spec: &mut NetworkSpec, key: &str, value: &str) {
    spec.options.insert(key.into(), value.into());
}

fn on(networks: &[&str]) -> ServiceSpec {
    let mut spec = spec("web");
    let networks = networks.iter().map(|target| NetworkAttachmentSpec {
        target: (*target).to_owned(),
        ..NetworkAttachmentSpec::default()
    });
    Arc::make_mut(&mut spec.task).networks = networks.collect();
    spec
}

fn publishing(name: &str, published: u16, mode: PublishMode) -> ServiceSpec {
    let mut spec = spec(name);
    spec.endpoint.ports = vec![PublishedPort {
        published_port: published,
        target_port: 80,
        mode,
        ..PublishedPort::default()
    }];
    spec
}

async fn made(fixture: &Fixture, spec: NetworkSpec) -> String {
    match fixture.api.create_network(spec).await {
        Ok(created) => format!("ok {}", created.warnings.join(" "))
            .trim()
            .to_owned(),
        Err(error) => error.to_string(),
    }
}

async fn served(fixture: &Fixture, spec: ServiceSpec) -> String {
    let outcome = fixture.api.create_service(spec).await;
    outcome.map_or_else(|error| error.to_string(), |_| "ok".to_owned())
}

type Case = (fn(&mut NetworkSpec), &'static str);

/// Each spec alone, and what is said of it.
async fn refused(table: &[Case]) {
    for (change, expected) in table {
        let fixture = Fixture::new(1, 0).await;
        let outcome = made(&fixture, network("net", change)).await;
        assert!(
            outcome.contains(expected),
            "{outcome:?} should say {expected:?}"
        );
        let stored = fixture.api.list_networks().len();
        assert_eq!(stored, if *expected == "ok" { 4 } else { 3 }, "{expected}");
    }
}

#[tokio::test]
async fn kinds_and_options_that_do_not_fit_are_refused() {
    let table: &[Case] = &[
        (|_| {}, "ok"),
        (|s| s.name.clear(), "Name: name must be provided"),
        (|s| s.name = "a b".into(), "valid as a DNS name component"),
        (
            |s| s.ipv4 = false,
            "EnableIPv4: IPv4 cannot be switched off",
        ),
        (
            |s| s.driver = NetworkDriver::Host,
            "one network \"host\" on every node already",
        ),
        (
            |s| s.driver = NetworkDriver::Macvlan,
            "use --opt parent=NAME",
        ),
        (
            |s| option(s, "encryption", ""),
            "it knows encrypted, com.docker",
        ),
        (|s| option(s, "mtu", "9"), "it must be 576 to 65535"),
        (|s| option(s, "mtu", "1400"), "ok"),
        (
            |s| option(s, "com.docker.network.driver.overlay.vxlanid_list", "x"),
            "is not a list of",
        ),
        (
            |s| option(s, "com.docker.network.driver.overlay.vxlanid_list", "7,7"),
            "names one twice",
        ),
        (
            |s| {
                s.ingress = true;
                s.attachable = true;
            },
            "the ingress network cannot be attachable",
        ),
        (
            |s| {
                s.driver = NetworkDriver::Bridge;
                s.ingress = true;
            },
            "an ingress network must be an overlay",
        ),
        (
            |s| {
                s.driver = NetworkDriver::Bridge;
                s.encrypted = true;
            },
            "only overlay networks leave their node",
        ),
        (
            |s| s.config_only = true,
            "configurations are for the drivers bridge",
        ),
        (
            |s| s.config_from = Some("x".into()),
            "an overlay is configured by the cluster",
        ),
    ];
    refused(table).await;
}

#[tokio::test]
async fn what_belongs_to_the_daemon_is_refused() {
    let table: &[Case] = &[
        (|s| s.name = "host".into(), "already exists"),
        (
            |s| {
                drop(
                    s.labels
                        .insert("com.docker.swarm.predefined".into(), String::new()),
                )
            },
            "leave it out",
        ),
    ];
    refused(table).await;
}

#[tokio::test]
async fn addresses_that_cannot_be_are_refused() {
    let table: &[Case] = &[
        (
            |s| s.pools = vec![pool("10.1.0.5/24")],
            "did you mean 10.1.0.0/24?",
        ),
        (
            |s| s.pools = vec![pool("10.1.0.0/31")],
            "it must be /8 to /30",
        ),
        (
            |s| s.pools = vec![pool("0.0.0.0/0")],
            "it must be /8 to /30",
        ),
        (
            |s| s.pools = vec![pool("127.0.1.0/24")],
            "which is for loopback",
        ),
        (|s| s.pools = vec![pool("239.0.0.0/24")], "multicast"),
        (
            |s| s.pools = vec![pool("10.1.0.0/24"), pool("10.1.0.128/25")],
            "overlaps with 10.1.0.0/24",
        ),
        (
            |s| s.pools = vec![pool("fd00::/64")],
            "an IPv6 subnet needs --ipv6",
        ),
        (
            |s| {
                s.ipv6 = true;
                s.pools = vec![pool("10.1.0.0/24"), pool("fd00::/64"), pool("fd01::/64")];
            },
            "2 IPv6 subnets for 1 IPv4 subnets",
        ),
        (
            |s| {
                s.pools = vec![pool("10.1.0.0/24")];
                s.pools[0].gateway = "10.2.0.1".parse().ok();
            },
            "IPAMOptions.Configs[0].Gateway: ipam configuration: 10.2.0.1 is not an address of",
        ),
        (
            |s| {
                s.pools = vec![pool("10.1.0.0/24")];
                s.pools[0].gateway = "10.1.0.255".parse().ok();
            },
            "it must be a host address inside",
        ),
        (
            |s| {
                s.pools = vec![pool("10.1.0.0/24")];
                s.pools[0].range = "10.1.1.0/25".parse().ok();
            },
            "10.1.1.0/25 is not a part of 10.1.0.0/24",
        ),
        (
            |s| {
                s.pools = vec![pool("10.1.0.0/24")];
                s.pools[0].aux = [("a".into(), "10.9.0.1".parse().unwrap())].into();
            },
            "a=10.9.0.1 is not an address of",
        ),
    ];
    refused(table).await;
}

#[tokio::test]
async fn networks_stand_in_each_others_way() {
    let fixture = Fixture::new(1, 0).await;
    assert_eq!(
        made(
            &fixture,
            network("a", |s| s.pools = vec![pool("10.1.0.0/24")])
        )
        .await,
        "ok"
    );
    let overlap = made(
        &fixture,
        network("b", |s| s.pools = vec![pool("10.1.0.0/16")]),
    )
    .await;
    assert!(overlap.starts_with("subnet 10.1.0.0/16 overlaps with 10.1.0.0/24 of network a"));
    let same = made(&fixture, network("A", |_| {})).await;
    assert!(same.contains("network A already exists"), "{same}");
    assert_eq!(
        made(&fixture, network("in", |s| s.ingress = true)).await,
        "ok"
    );
    let second = made(&fixture, network("in2", |s| s.ingress = true)).await;
    assert!(
        second.contains("ingress network in is already present"),
        "{second}"
    );
    let lost = made(
        &fixture,
        network("c", |s| {
            s.driver = NetworkDriver::Bridge;
            s.config_from = Some("nothing".into());
        }),
    )
    .await;
    assert!(lost.contains("network nothing"), "{lost}");
    let parent = |s: &mut NetworkSpec| {
        s.driver = NetworkDriver::Macvlan;
        s.options.insert("parent".into(), "eth0".into());
        s.config_only = true;
    };
    assert_eq!(made(&fixture, network("wire", parent)).await, "ok");
    let other = |s: &mut NetworkSpec| s.config_from = Some("Wire".into());
    let bridge = network("lan", |s| {
        s.driver = NetworkDriver::Bridge;
        other(s);
    });
    let bridge = made(&fixture, bridge).await;
    assert!(bridge.contains("use -d macvlan"), "{bridge}");
    let lan = network("lan", |s| {
        s.driver = NetworkDriver::Macvlan;
        other(s);
    });
    assert_eq!(made(&fixture, lan).await, "ok");
    let used = fixture.api.remove_network("wire").await.unwrap_err();
    assert!(used.to_string().contains("in use by network lan"), "{used}");
    let gone = fixture.api.remove_network("in").await.unwrap();
    assert_eq!(gone.spec.name, "in");
    assert_eq!(
        made(&fixture, network("in2", |s| s.ingress = true)).await,
        "ok"
    );
    let predefined = fixture.api.remove_network("bridge").await.unwrap_err();
    assert!(
        predefined.to_string().contains("predefined network"),
        "{predefined}"
    );
    let unknown = fixture.api.remove_network("zzz").await.unwrap_err();
    assert_eq!(unknown.to_string(), "network zzz not found");
}

#[tokio::test]
async fn services_name_networks_that_are_there() {
    let fixture = Fixture::new(1, 0).await;
    made(&fixture, network("front", |_| {})).await;
    made(&fixture, network("ingress", |s| s.ingress = true)).await;
    made(
        &fixture,
        network("config", |s| {
            s.driver = NetworkDriver::Bridge;
            s.config_only = true;
        }),
    )
    .await;
    for (networks, expected) in [
        (&["back"][..], "network back not found"),
        (&["ingress"], "publish a port instead"),
        (&["config"], "make a network with --config-from config"),
        (&["front", "FRONT"], "is listed twice"),
        (&["front", "host"], "cannot be on another network as well"),
    ] {
        let outcome = served(&fixture, on(networks)).await;
        assert!(
            outcome.contains(expected),
            "{outcome:?} should say {expected:?}"
        );
    }
    assert_eq!(served(&fixture, on(&["Front"])).await, "ok");
    let service = fixture.api.get_service("web").unwrap().service;
    let front = fixture.api.get_network("front").unwrap();
    let id = front.view.network.id.to_string();
    assert_eq!(service.spec.task.networks[0].target, id, "names become ids");
    assert_eq!(front.services[0].name, "web");
    let refused = fixture.api.remove_network("front").await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "network front is in use by service web: remove it, or update it with --network-rm, first"
    );
    fixture.api.remove_service("web").await.unwrap();
    fixture.api.remove_network("front").await.unwrap();
}

#[tokio::test]
async fn ports_have_one_owner() {
    use PublishMode::{Host, Ingress};
    let fixture = Fixture::new(1, 0).await;
    let early = served(&fixture, publishing("web", 80, Ingress)).await;
    assert!(early.contains("no ingress network is present"), "{early}");
    made(&fixture, network("ingress", |s| s.ingress = true)).await;
    assert_eq!(served(&fixture, publishing("web", 80, Ingress)).await, "ok");
    for mode in [Ingress, Host] {
        let taken = served(&fixture, publishing("api", 80, mode)).await;
        assert!(
            taken.starts_with("port 80/tcp is already in use by service web"),
            "{taken}"
        );
    }
    assert_eq!(served(&fixture, publishing("host1", 81, Host)).await, "ok");
    assert_eq!(served(&fixture, publishing("host2", 81, Host)).await, "ok");
    let removal = fixture.api.remove_network("ingress").await.unwrap_err();
    assert!(
        removal.to_string().contains("in use by service web"),
        "{removal}"
    );
}

#[tokio::test]
async fn what_cannot_be_published_is_refused() {
    type Change = fn(&mut ServiceSpec);
    let table: [(Change, &str); 10] = [
        (
            |s| s.endpoint.mode = EndpointMode::Dnsrr,
            "can't be used with dnsrr mode: use mode=host",
        ),
        (
            |s| {
                s.endpoint.mode = EndpointMode::Dnsrr;
                s.endpoint.affinity = Affinity::SourceIp;
            },
            "affinity can't be used with dnsrr mode",
        ),
        (
            |s| s.endpoint.ports[0].target_port = 0,
            "must be given: 1 to 65535",
        ),
        (
            |s| {
                let port = s.endpoint.ports[0].clone();
                s.endpoint.ports.push(port);
            },
            "duplicate published ports: 80/tcp",
        ),
        (
            |s| s.endpoint.ports[0].host_ip = "0.0.0.0".parse().ok(),
            "leave it out to publish on all",
        ),
        (
            |s| s.endpoint.ports[0].interface = "a/b".into(),
            "cannot be an interface",
        ),
        (
            |s| {
                s.endpoint.ports[0].mode = PublishMode::Host;
                s.endpoint.ports[0].prefer_local = true;
            },
            "leave prefer-local out",
        ),
        (
            |s| Arc::make_mut(&mut s.task).networks = on(&["host"]).task.networks.clone(),
            "cannot publish ports through the routing mesh",
        ),
        (
            |s| s.endpoint.ports = vec![s.endpoint.ports[0].clone(); 1025],
            "1025 ports, at most 1024",
        ),
        (|_| {}, "ok"),
    ];
    for (change, expected) in table {
        let fixture = Fixture::new(1, 0).await;
        made(&fixture, network("ingress", |s| s.ingress = true)).await;
        let mut spec = publishing("web", 80, PublishMode::Ingress);
        change(&mut spec);
        let outcome = served(&fixture, spec).await;
        assert!(
            outcome.contains(expected),
            "{outcome:?} should say {expected:?}"
        );
    }
}

#[tokio::test]
async fn how_full_a_network_is_can_be_seen() {
    let fixture = Fixture::new(1, 0).await;
    made(&fixture, network("front", |_| {})).await;
    served(&fixture, on(&["front"])).await;
    // What the leader's allocator would do.
    let state = fixture.store.state();
    let stored = Network::clone(state.network_by_name("front").unwrap());
    let id = stored.id;
    fixture
        .act(Action::Update(
            Network {
                subnets: vec![Subnet {
                    subnet: "10.0.0.0/29".parse().unwrap(),
                    gateway: "10.0.0.1".parse().unwrap(),
                    vni: 4096,
                }],
                ..stored
            }
            .into(),
        ))
        .await;
    let service = fixture.api.get_service("web").unwrap().service.id;
    let endpoint = Endpoint {
        virtual_ips: vec![VirtualIp {
            network: id,
            address: "10.0.0.2/29".parse().unwrap(),
        }],
        ..Endpoint::default()
    };
    fixture
        .act(Action::ServiceEndpoint { service, endpoint })
        .await;
    let details = fixture.api.get_network("front").unwrap();
    let used = details.view.subnets[0];
    assert_eq!((used.addresses, used.free), (5, 4));
    assert_eq!(
        details.services[0].virtual_ips[0].to_string(),
        "10.0.0.2/29"
    );
    assert_eq!(details.view.problem, "");
    let all = (2..=6).map(|last| VirtualIp {
        network: id,
        address: format!("10.0.0.{last}/29").parse().unwrap(),
    });
    let endpoint = Endpoint {
        virtual_ips: all.collect(),
        ..Endpoint::default()
    };
    fixture
        .act(Action::ServiceEndpoint { service, endpoint })
        .await;
    let full = fixture.api.get_network("front").unwrap().view;
    assert_eq!(full.subnets[0].free, 0);
    assert!(full.problem.contains("no free address left in 10.0.0.0/29"));
    let list = fixture.api.list_networks();
    let names: Vec<_> = list
        .iter()
        .map(|view| view.network.spec.name.clone())
        .collect();
    assert_eq!(names, ["bridge", "host", "none", "front"]);
    assert!(fixture.api.get_network("none").unwrap().view.predefined);
    let error = fixture.api.get_network("nope").unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
}
