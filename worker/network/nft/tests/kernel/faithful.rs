//! The kernel holds what was asked, after any changes, any damage and any failure.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use swarm_nft::mesh::Node;
use swarm_nft::{Backend, Balancer, Error, Frontend, Protocol, Service, Services};

use crate::lab::{Namespace, is_possible};

fn frontend() -> impl Strategy<Value = Frontend> {
    let address = (any::<bool>(), 1u8..6).prop_map(|(is_v4, last)| -> IpAddr {
        if is_v4 {
            Ipv4Addr::new(10, 96, 0, last).into()
        } else {
            Ipv6Addr::new(0xfd96, 0, 0, 0, 0, 0, 0, last.into()).into()
        }
    });
    let protocol = prop_oneof![
        Just(Protocol::Tcp),
        Just(Protocol::Udp),
        Just(Protocol::Sctp)
    ];
    (address, proptest::option::of((protocol, 1u16..4))).prop_map(|(address, port)| match port {
        Some((protocol, number)) => Frontend::port(address, protocol, number),
        None => Frontend::address(address),
    })
}

/// A service that suits the frontend; zero backends, zero weights and doubles among them.
fn service(frontend: Frontend) -> impl Strategy<Value = Service> {
    let backend = (1u8..12, 0u32..4, any::<bool>()).prop_map(move |(last, weight, is_local)| {
        let address: IpAddr = match frontend.address {
            IpAddr::V4(_) => Ipv4Addr::new(10, 97, 0, last).into(),
            IpAddr::V6(_) => Ipv6Addr::new(0xfd97, 0, 0, 0, 0, 0, 0, last.into()).into(),
        };
        Backend {
            address,
            port: frontend.port.map(|_| 8000 + u16::from(last)),
            weight,
            is_local,
        }
    });
    let backends = proptest::collection::vec(backend, 0..6);
    (backends, any::<bool>(), any::<bool>()).prop_map(|(backends, is_sticky, prefers_local)| {
        let service = Service {
            prefers_local,
            ..Service::new(backends)
        };
        if is_sticky { service.sticky() } else { service }
    })
}

fn change() -> impl Strategy<Value = (Frontend, Option<Service>)> {
    frontend().prop_flat_map(|frontend| {
        proptest::option::weighted(0.7, service(frontend))
            .prop_map(move |service| (frontend, service))
    })
}

/// One thing done to a balancer.
#[derive(Debug, Clone)]
enum Step {
    Change(BTreeMap<Frontend, Option<Service>>),
    Replace(Services),
    /// Another process takes over.
    Restart,
    /// Somebody removes or changes our tables.
    Damage(Services),
}

fn step() -> impl Strategy<Value = Step> {
    let changes = || proptest::collection::vec(change(), 0..5);
    let services = move || {
        changes().prop_map(|changes| {
            let present = changes.into_iter().filter_map(|(f, s)| Some((f, s?)));
            present.collect::<Services>()
        })
    };
    prop_oneof![
        4 => changes().prop_map(|changes| Step::Change(changes.into_iter().collect())),
        2 => services().prop_map(Step::Replace),
        1 => Just(Step::Restart),
        1 => services().prop_map(Step::Damage),
    ]
}

#[test]
fn the_kernel_holds_what_was_asked_after_any_changes() -> Result<()> {
    if !is_possible() {
        return Ok(());
    }
    let namespace = Namespace::new("any")?;
    let config = Config {
        cases: 40,
        failure_persistence: None,
        ..Config::default()
    };
    let steps = proptest::collection::vec(step(), 1..12);
    TestRunner::new(config).run(&steps, |steps| {
        follow(&namespace, steps).map_err(|error| TestCaseError::fail(format!("{error:#}")))
    })?;
    Ok(())
}

fn follow(namespace: &Namespace, steps: Vec<Step>) -> Result<()> {
    let mut balancer = Balancer::open(namespace.fd(), 7)?;
    balancer.replace(Services::new())?;
    let mut wanted = Services::new();
    for step in steps {
        match step {
            Step::Change(changed) => {
                for (frontend, service) in &changed {
                    match service {
                        Some(service) => wanted.insert(*frontend, service.clone()),
                        None => wanted.remove(frontend),
                    };
                }
                balancer.change(changed)?;
            }
            Step::Replace(services) => {
                wanted = services.clone();
                balancer.replace(services)?;
            }
            Step::Restart => {
                balancer = Balancer::open(namespace.fd(), 7)?;
                let applied = balancer.replace(wanted.clone())?;
                anyhow::ensure!(applied.changes == 0, "a restart changed {applied:?}");
            }
            Step::Damage(services) => {
                let mut somebody = Balancer::open(namespace.fd(), 9)?;
                somebody.replace(services)?;
                balancer.repair()?;
            }
        }
        anyhow::ensure!(
            *balancer.services() == wanted,
            "it remembers something else"
        );
        let difference = balancer.verify()?;
        anyhow::ensure!(difference.is_empty(), "{difference:?}");
    }
    balancer.clear()?;
    let size = balancer.size()?;
    anyhow::ensure!(size == swarm_nft::Size::default(), "{size:?} left over");
    Ok(())
}

/// The same on a node, whose ports can be limited to interfaces.
#[test]
fn the_kernel_holds_a_nodes_ports_after_any_changes() -> Result<()> {
    if !is_possible() {
        return Ok(());
    }
    let namespace = Namespace::new("ports")?;
    let published = change().prop_map(|(mut frontend, service)| {
        if frontend.port.is_none() {
            let any: IpAddr = match frontend.address {
                IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            frontend = Frontend::port(any, Protocol::Tcp, 80);
        }
        (frontend, service)
    });
    let limited = (published, 0usize..3).prop_map(|((frontend, service), count)| {
        let interfaces = ["eth0", "eth1"].map(str::to_owned)[..count.min(2)].to_vec();
        let limit = |service| Service {
            interfaces,
            ..service
        };
        (frontend, service.map(limit))
    });
    let config = Config {
        cases: 30,
        failure_persistence: None,
        ..Config::default()
    };
    let changes = proptest::collection::vec(limited, 1..20);
    TestRunner::new(config).run(&changes, |changes| {
        let run = || -> Result<()> {
            let mut node = Node::open(namespace.fd(), 3)?;
            for (frontend, service) in changes {
                node.change(BTreeMap::from([(frontend, service)]))?;
                let difference = node.verify()?;
                anyhow::ensure!(difference.is_empty(), "{difference:?}");
            }
            node.clear()?;
            Ok(())
        };
        run().map_err(|error| TestCaseError::fail(format!("{error:#}")))
    })?;
    Ok(())
}

#[test]
fn a_change_repairs_what_it_finds_broken() -> Result<()> {
    if !is_possible() {
        return Ok(());
    }
    let namespace = Namespace::new("broken")?;
    let frontend = |last| Frontend::address([10, 96, 0, last].into());
    let one = || Service::new([Backend::new([10, 97, 0, 1].into())]);
    let mut balancer = Balancer::open(namespace.fd(), 1)?;
    balancer.replace(Services::from([(frontend(1), one()), (frontend(2), one())]))?;
    Balancer::open(namespace.fd(), 1)?.clear()?;
    assert!(!balancer.verify()?.is_empty());
    let applied = balancer.change(BTreeMap::from([(frontend(1), None)]))?;
    assert!(applied.was_compared);
    assert!(balancer.verify()?.is_empty());
    assert_eq!(balancer.services().len(), 1);
    // What is as it should be is left alone.
    assert_eq!(balancer.replace(balancer.services().clone())?.changes, 0);
    assert!(balancer.repair()?.is_empty());
    Ok(())
}

#[test]
fn what_cannot_be_is_refused_before_the_kernel_sees_it() -> Result<()> {
    if !is_possible() {
        return Ok(());
    }
    let namespace = Namespace::new("refused")?;
    let mut balancer = Balancer::open(namespace.fd(), 1)?;
    let vip = Frontend::address([10, 96, 0, 1].into());
    let other_family = Service::new([Backend::new(Ipv6Addr::LOCALHOST.into())]);
    let moved = Service::new([Backend::new([10, 97, 0, 1].into()).with_port(80)]);
    let limited = Service {
        interfaces: vec!["eth0".to_owned()],
        ..Service::default()
    };
    for service in [other_family, moved, limited] {
        let error = balancer
            .replace(Services::from([(vip, service)]))
            .expect_err("it cannot be");
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
    }
    let [published, _] = Frontend::published(Protocol::Tcp, 80);
    let services = Services::from([(published, Service::default())]);
    assert!(balancer.replace(services).is_err());
    assert_eq!(balancer.size()?, swarm_nft::Size::default());
    Ok(())
}
