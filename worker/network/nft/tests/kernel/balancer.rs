//! Virtual addresses: spread, affinity, weights, hairpin, withdrawal, refusal, both families.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::IpAddr;

use anyhow::Result;
use swarm_nft::{Backend, Balancer, Frontend, Protocol, Service, Services};

use crate::lab::{Namespace, Network, Server, ask_udp, error_kind, is_possible};

const LABELS: [&str; 3] = ["one", "two", "three"];
const V4: &str = "10.77.0.200";
const V6: &str = "fd77::c8";

/// A client's namespace, and three that serve port 80.
struct Scene {
    client: Namespace,
    backends: Vec<(Namespace, Server)>,
    balancer: Balancer,
    _network: Network,
}

fn v4(number: u8) -> Backend {
    Backend::new(IpAddr::from([10, 77, 0, number]))
}

fn v6(number: u16) -> Backend {
    Backend::new(IpAddr::from([0xfd77, 0, 0, 0, 0, 0, 0, number]))
}

fn vip(address: &str) -> Frontend {
    Frontend::address(address.parse().expect("an address"))
}

impl Scene {
    fn new() -> Result<Option<Self>> {
        if !is_possible() {
            return Ok(None);
        }
        let network = Network::new()?;
        let client = network.attach("client", 10)?;
        let mut backends = Vec::new();
        for (label, number) in LABELS.iter().zip(1..) {
            let namespace = network.attach(label, number)?;
            let server = namespace.serve(label, 80)?;
            backends.push((namespace, server));
        }
        let mut balancer = Balancer::open(client.fd(), 1)?;
        balancer.replace(Services::from([
            (vip(V4), Service::new([v4(1), v4(2), v4(3)])),
            (vip(V6), Service::new([v6(1), v6(2), v6(3)])),
        ]))?;
        let _network = network;
        Ok(Some(Self {
            client,
            backends,
            balancer,
            _network,
        }))
    }

    fn set(&mut self, address: &str, service: Service) -> Result<swarm_nft::Applied> {
        let changed = BTreeMap::from([(vip(address), Some(service))]);
        Ok(self.balancer.change(changed)?)
    }

    /// How often each backend answered.
    fn counts(&self, to: &str, times: usize) -> Result<BTreeMap<String, usize>> {
        let mut counts = BTreeMap::new();
        for _ in 0..times {
            *counts.entry(self.client.ask(to)?.0).or_default() += 1;
        }
        Ok(counts)
    }
}

#[test]
fn connections_take_turns_in_both_families() -> Result<()> {
    let Some(scene) = Scene::new()? else {
        return Ok(());
    };
    for to in ["10.77.0.200:80", "[fd77::c8]:80"] {
        let counts = scene.counts(to, 30)?;
        assert_eq!(counts.values().copied().collect::<Vec<_>>(), [10, 10, 10]);
    }
    // The service sees the client itself.
    assert_eq!(
        scene.client.ask("10.77.0.200:80")?.1,
        IpAddr::from([10, 77, 0, 10])
    );
    // Every port is balanced, and ping too: what nobody serves is refused by the backend.
    let refused = scene
        .client
        .ask("10.77.0.200:81")
        .expect_err("nobody there");
    assert_eq!(error_kind(&refused), Some(ErrorKind::ConnectionRefused));
    if scene.client.exec("ping -V").is_ok() {
        scene.client.exec("ping -c1 -W3 10.77.0.200")?;
    }
    Ok(())
}

#[test]
fn udp_flows_leave_a_backend_that_is_gone() -> Result<()> {
    let Some(mut scene) = Scene::new()? else {
        return Ok(());
    };
    let socket = scene.client.udp("10.77.0.200:80")?;
    let (first, _) = ask_udp(&socket)?;
    for _ in 0..5 {
        assert_eq!(ask_udp(&socket)?.0, first, "a flow stays where it is");
    }
    let index = LABELS
        .iter()
        .position(|label| *label == first)
        .expect("one of ours");
    let mut service = scene.balancer.services()[&vip(V4)].clone();
    service.backends[index].weight = 0;
    let applied = scene.set(V4, service.clone())?;
    assert_eq!(applied.flows_forgotten, 0);
    assert_eq!(ask_udp(&socket)?.0, first, "draining: flows go on");
    service.backends.remove(index);
    let applied = scene.set(V4, service)?;
    assert_eq!(applied.flows_forgotten, 1);
    assert_ne!(ask_udp(&socket)?.0, first);
    Ok(())
}

#[test]
fn who_knocks_at_a_backend_that_is_gone_is_let_in_elsewhere() -> Result<()> {
    let Some(mut scene) = Scene::new()? else {
        return Ok(());
    };
    // It is there for all the client knows, and says nothing.
    let nobody = "neigh replace 10.77.0.99 lladdr 02:00:00:00:de:ad dev eth0 nud permanent";
    scene.client.ip(nobody)?;
    scene.set(V4, Service::new([v4(99)]))?;
    let mut knocking = scene.client.knock("10.77.0.200:80")?;
    let applied = scene.set(V4, Service::new([v4(2)]))?;
    assert_eq!(applied.flows_forgotten, 1);
    assert_eq!(knocking.ask()?.0, "two");
    Ok(())
}

#[test]
fn connections_of_a_withdrawn_backend_go_on() -> Result<()> {
    let Some(mut scene) = Scene::new()? else {
        return Ok(());
    };
    let mut conversation = scene.client.connect("10.77.0.200:80")?;
    let (label, _) = conversation.ask()?;
    let index = LABELS
        .iter()
        .position(|known| *known == label)
        .expect("one of ours");
    let mut service = scene.balancer.services()[&vip(V4)].clone();
    service.backends[index].weight = 0;
    scene.set(V4, service.clone())?;
    assert_eq!(conversation.ask()?.0, label);
    assert!(!scene.counts("10.77.0.200:80", 12)?.contains_key(&label));
    service.backends.remove(index);
    scene.set(V4, service)?;
    assert_eq!(conversation.ask()?.0, label);
    let counts = scene.counts("10.77.0.200:80", 12)?;
    assert_eq!(counts.values().copied().collect::<Vec<_>>(), [6, 6]);
    // Once it is dead its clients learn so at once, instead of waiting for an answer.
    let address = IpAddr::from([10, 77, 0, u8::try_from(index + 1)?]);
    assert!(scene.balancer.forget_backend(address)? >= 1);
    conversation
        .ask()
        .expect_err("another backend knows nothing of it");
    Ok(())
}

#[test]
fn without_backends_it_is_refused_at_once() -> Result<()> {
    let Some(mut scene) = Scene::new()? else {
        return Ok(());
    };
    scene.set(V4, Service::default())?;
    scene.set(V6, Service::new([v6(1).with_weight(0)]))?;
    for (tcp, udp) in [
        ("10.77.0.200:80", "10.77.0.200:9"),
        ("[fd77::c8]:80", "[fd77::c8]:9"),
    ] {
        let refused = scene.client.ask(tcp).expect_err("no backend");
        assert_eq!(error_kind(&refused), Some(ErrorKind::ConnectionRefused));
        // The kernel tells a local sender in its own way.
        let refused = ask_udp(&scene.client.udp(udp)?).expect_err("no backend");
        assert_eq!(error_kind(&refused), Some(ErrorKind::PermissionDenied));
    }
    scene.set(V4, Service::new([v4(2)]))?;
    assert_eq!(scene.client.ask("10.77.0.200:80")?.0, "two");
    Ok(())
}

#[test]
fn sticky_clients_come_back() -> Result<()> {
    let Some(mut scene) = Scene::new()? else {
        return Ok(());
    };
    scene.set(V4, Service::new([v4(1), v4(2), v4(3)]).sticky())?;
    scene.set(V6, Service::new([v6(1), v6(2), v6(3)]).sticky())?;
    assert_eq!(scene.counts("10.77.0.200:80", 10)?.len(), 1);
    assert_eq!(scene.counts("[fd77::c8]:80", 10)?.len(), 1);
    // Other clients go elsewhere: give this one other addresses.
    let mut seen = std::collections::BTreeSet::new();
    for number in 100..130 {
        scene.client.ip("addr flush dev eth0 scope global")?;
        scene
            .client
            .ip(&format!("addr add 10.77.0.{number}/24 dev eth0"))?;
        seen.insert(scene.client.ask("10.77.0.200:80")?.0);
    }
    assert_eq!(seen.len(), 3);
    Ok(())
}

#[test]
fn weights_are_shares() -> Result<()> {
    let Some(mut scene) = Scene::new()? else {
        return Ok(());
    };
    scene.set(
        V4,
        Service::new([v4(1).with_weight(30), v4(2).with_weight(10)]),
    )?;
    let counts = scene.counts("10.77.0.200:80", 40)?;
    assert_eq!(counts.get("one"), Some(&30), "{counts:?}");
    assert_eq!(counts.get("two"), Some(&10), "{counts:?}");
    Ok(())
}

#[test]
fn a_task_reaches_itself_by_its_own_address() -> Result<()> {
    let Some(scene) = Scene::new()? else {
        return Ok(());
    };
    let (one, _) = &scene.backends[0];
    let mut own = Balancer::open(one.fd(), 2)?;
    own.replace(Services::from([
        (vip(V4), Service::new([v4(1)])),
        (vip(V6), Service::new([v6(1)])),
    ]))?;
    assert_eq!(
        one.ask("10.77.0.200:80")?,
        ("one".to_owned(), IpAddr::from([10, 77, 0, 1]))
    );
    assert_eq!(one.ask("[fd77::c8]:80")?.0, "one");
    Ok(())
}

#[test]
fn a_port_alone_can_be_balanced_to_another_port() -> Result<()> {
    let Some(mut scene) = Scene::new()? else {
        return Ok(());
    };
    let address: IpAddr = V4.parse()?;
    let tcp = Frontend::port(address, Protocol::Tcp, 8080);
    let service = Service::new([v4(3).with_port(80)]);
    scene
        .balancer
        .change(BTreeMap::from([(tcp, Some(service))]))?;
    assert_eq!(scene.client.ask("10.77.0.200:8080")?.0, "three");
    // The same number of another protocol is not it.
    let refused = ask_udp(&scene.client.udp("10.77.0.200:8080")?).expect_err("only tcp");
    assert_eq!(error_kind(&refused), Some(ErrorKind::ConnectionRefused));
    Ok(())
}
