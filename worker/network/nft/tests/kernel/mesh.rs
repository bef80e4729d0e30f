//! The routing mesh over two nodes: every way in keeps the client's address, in both families.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use rustix::net::{AddressFamily, SocketType};
use swarm_nft::mesh::{Node, Outbound, Subnet, Surroundings, WayBack};
use swarm_nft::{Backend, Frontend, Protocol, Service, Services};

use crate::lab::{Conversation, Namespace, Network, Server, ask_udp, error_kind, is_possible};

const CLIENT: &str = "10.77.0.100";

/// Two nodes with an ingress network between them, a client beside them, a task on each node.
struct Mesh {
    client: Namespace,
    nodes: [Namespace; 2],
    rules: [Node; 2],
    tasks: [Namespace; 2],
    ways_back: [WayBack; 2],
    _servers: [Server; 2],
    network: Network,
}

fn task_v4(task: u8) -> IpAddr {
    IpAddr::from([10, 255, 0, 5 + task])
}

fn task_v6(task: u8) -> IpAddr {
    IpAddr::from([0xfd55, 0, 0, 0, 0, 0, 0, 5 + u16::from(task)])
}

/// Backends on port 80 of these tasks.
fn service(tasks: &[u8], address: impl Fn(u8) -> IpAddr) -> Service {
    Service::new(
        tasks
            .iter()
            .map(|t| Backend::new(address(*t)).with_port(80)),
    )
}

/// Port 8080 of tcp and udp to these tasks, in both families.
fn published(tasks: &[u8]) -> Services {
    let mut ports = Services::new();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let [v4, v6] = Frontend::published(protocol, 8080);
        ports.insert(v4, service(tasks, task_v4));
        ports.insert(v6, service(tasks, task_v6));
    }
    ports
}

fn surroundings() -> Surroundings {
    Surroundings {
        ingress: Some("ingress".to_owned()),
        ..Surroundings::default()
    }
}

impl Mesh {
    fn new(tasks: &[u8]) -> Result<Option<Self>> {
        if !is_possible() {
            return Ok(None);
        }
        let network = Network::new()?;
        let client = network.attach("client", 100)?;
        let nodes = [network.attach("n1", 1)?, network.attach("n2", 2)?];
        for (index, node) in nodes.iter().enumerate() {
            ingress_network(node, index)?;
        }
        let tasks_on = [task(&nodes, 0)?, task(&nodes, 1)?];
        let mut ways_back = [
            WayBack::open(tasks_on[0].fd())?,
            WayBack::open(tasks_on[1].fd())?,
        ];
        for way_back in &mut ways_back {
            way_back.install("ing0", &["172.30.0.2".parse()?, "fd30::2".parse()?])?;
        }
        let mut rules = [Node::open(nodes[0].fd(), 1)?, Node::open(nodes[1].fd(), 2)?];
        for rules in &mut rules {
            rules.replace(surroundings(), published(tasks))?;
        }
        let servers = [
            tasks_on[0].serve("task0", 80)?,
            tasks_on[1].serve("task1", 80)?,
        ];
        Ok(Some(Self {
            client,
            nodes,
            rules,
            tasks: tasks_on,
            ways_back,
            _servers: servers,
            network,
        }))
    }
}

/// A node's bridge on the ingress network, and VXLAN to the other node.
fn ingress_network(node: &Namespace, index: usize) -> Result<()> {
    let (own, other) = (index + 1, 2 - index);
    node.set("net/ipv4/ip_forward", "1")?;
    node.set("net/ipv6/conf/all/forwarding", "1")?;
    node.ip(&format!(
        "link add ingress address 02:4e:00:00:00:0{own} type bridge nf_call_iptables 0 \
         nf_call_ip6tables 0"
    ))?;
    node.ip("link set ingress up mtu 1450")?;
    node.ip(&format!("addr add 10.255.0.24{own}/24 dev ingress"))?;
    node.ip(&format!("addr add fd55::24{own}/64 dev ingress nodad"))?;
    node.ip(&format!(
        "link add vx0 type vxlan id 4096 dstport 4789 local 10.77.0.{own} nolearning"
    ))?;
    node.ip("link set vx0 master ingress up mtu 1450")?;
    far(node, &format!("02:4e:00:00:00:0{other}"), other)?;
    node.ip(&format!(
        "neigh add 10.255.0.24{other} lladdr 02:4e:00:00:00:0{other} dev ingress"
    ))?;
    node.set("net/ipv4/conf/ingress/route_localnet", "1")?;
    Ok(())
}

/// A MAC address that is on the other node.
fn far(node: &Namespace, mac: &str, other: usize) -> Result<()> {
    for words in [
        format!("bridge fdb replace {mac} dev vx0 dst 10.77.0.{other} self"),
        format!("bridge fdb replace {mac} dev vx0 master static"),
    ] {
        node.exec(&words)?;
    }
    Ok(())
}

/// A task's namespace on node 0 or 1, known to both.
fn task(nodes: &[Namespace; 2], index: u8) -> Result<Namespace> {
    let task = Namespace::new(&format!("task{index}"))?;
    let number = 5 + index;
    let mac = format!("02:42:0a:ff:00:0{number}");
    let (home, away) = if index == 0 { (0, 1) } else { (1, 0) };
    let name = &task.name;
    nodes[home].ip(&format!(
        "link add vt type veth peer name ing0 netns {name}"
    ))?;
    nodes[home].ip("link set vt master ingress up mtu 1450")?;
    far(&nodes[away], &mac, home + 1)?;
    for node in nodes {
        node.ip(&format!(
            "neigh add 10.255.0.{number} lladdr {mac} dev ingress"
        ))?;
        node.ip(&format!(
            "neigh add fd55::{number} lladdr {mac} dev ingress"
        ))?;
    }
    for words in [
        format!("link set ing0 address {mac} mtu 1450 up"),
        format!("addr add 10.255.0.{number}/24 dev ing0"),
        format!("addr add fd55::{number}/64 dev ing0 nodad"),
        // The way out, as a task has it; nothing of the mesh may take it.
        "link add out0 type bridge".to_owned(),
        "link set out0 up".to_owned(),
        "addr add 172.30.0.2/24 dev out0".to_owned(),
        "addr add fd30::2/64 dev out0 nodad".to_owned(),
        "route add default via 172.30.0.1 dev out0".to_owned(),
        "-6 route add default via fd30::1 dev out0".to_owned(),
        // The way back.
        "route add default via 10.255.0.254 dev ing0 table 100".to_owned(),
        "-6 route add default via fd55::fffe dev ing0 table 100".to_owned(),
        "neigh add 10.255.0.254 lladdr 02:4e:00:00:00:00 dev ing0".to_owned(),
        "neigh add fd55::fffe lladdr 02:4e:00:00:00:00 dev ing0".to_owned(),
        "rule add fwmark 0x80000000/0x80000000 table 100".to_owned(),
        "-6 rule add fwmark 0x80000000/0x80000000 table 100".to_owned(),
    ] {
        task.ip(&words)?;
    }
    task.set("net/ipv4/conf/all/rp_filter", "0")?;
    task.set("net/ipv4/conf/ing0/rp_filter", "0")?;
    Ok(task)
}

#[test]
fn the_client_is_seen_through_every_node_in_both_families() -> Result<()> {
    let Some(mesh) = Mesh::new(&[0, 1])? else {
        return Ok(());
    };
    for (address, client) in [
        ("10.77.0.1:8080", CLIENT),
        ("10.77.0.2:8080", CLIENT),
        ("[fd77::1]:8080", "fd77::64"),
        ("[fd77::2]:8080", "fd77::64"),
    ] {
        let mut tasks = BTreeSet::new();
        for _ in 0..4 {
            let (task, seen) = mesh.client.ask(address)?;
            assert_eq!(seen, client.parse::<IpAddr>()?, "{task} by {address}");
            tasks.insert(task);
        }
        assert_eq!(tasks.len(), 2, "both tasks serve {address}");
        let mut tasks = BTreeSet::new();
        for _ in 0..4 {
            let (task, seen) = ask_udp(&mesh.client.udp(address)?)?;
            assert_eq!(seen, client.parse::<IpAddr>()?, "{task} by udp {address}");
            tasks.insert(task);
        }
        assert_eq!(tasks.len(), 2, "both tasks serve udp {address}");
    }
    Ok(())
}

#[test]
fn a_node_reaches_its_own_published_ports() -> Result<()> {
    let Some(mesh) = Mesh::new(&[0, 1])? else {
        return Ok(());
    };
    for node in &mesh.nodes {
        let mut tasks = BTreeSet::new();
        for address in ["10.77.0.1:8080", "127.0.0.1:8080", "[fd77::1]:8080"] {
            for _ in 0..2 {
                let asked = node.ask(address).with_context(|| address.to_owned())?;
                tasks.insert(asked.0);
            }
        }
        assert_eq!(tasks.len(), 2);
    }
    let refused = mesh.nodes[0]
        .ask("[::1]:8080")
        .expect_err("nothing is translated");
    assert_eq!(error_kind(&refused), Some(ErrorKind::ConnectionRefused));
    // Its own address is seen, not one of the ingress network.
    assert_eq!(
        mesh.nodes[0].ask("10.77.0.1:8080")?.1,
        "10.77.0.1".parse::<IpAddr>()?
    );
    Ok(())
}

#[test]
fn local_tasks_first_when_asked() -> Result<()> {
    let Some(mut mesh) = Mesh::new(&[0, 1])? else {
        return Ok(());
    };
    let [frontend, _] = Frontend::published(Protocol::Tcp, 8080);
    let mut service = service(&[0, 1], task_v4);
    service.prefers_local = true;
    service.backends[0].is_local = true;
    let changed = BTreeMap::from([(frontend, Some(service))]);
    mesh.rules[0].change(changed)?;
    for _ in 0..4 {
        assert_eq!(mesh.client.ask("10.77.0.1:8080")?.0, "task0");
    }
    Ok(())
}

#[test]
fn ports_keep_to_their_address_and_interface() -> Result<()> {
    let Some(mut mesh) = Mesh::new(&[0])? else {
        return Ok(());
    };
    mesh.nodes[0].ip("addr add 10.77.0.51/24 dev eth0")?;
    let bound = Frontend::port("10.77.0.51".parse()?, Protocol::Tcp, 9000);
    let [limited, _] = Frontend::published(Protocol::Tcp, 9001);
    let [elsewhere, _] = Frontend::published(Protocol::Tcp, 9002);
    let only = |name: &str| Service {
        interfaces: vec![name.to_owned()],
        ..service(&[0], task_v4)
    };
    let node = &mut mesh.rules[0];
    node.change(BTreeMap::from([
        (bound, Some(service(&[0], task_v4))),
        (limited, Some(only("eth0"))),
        (elsewhere, Some(only("eth9"))),
    ]))?;
    let [everywhere, _] = Frontend::published(Protocol::Tcp, 9000);
    assert_eq!(node.conflict(&everywhere), Some(bound));
    assert_eq!(
        node.conflict(&Frontend::port(task_v4(0), Protocol::Tcp, 9000)),
        None
    );
    for (address, is_open) in [
        ("10.77.0.51:9000", true),
        ("10.77.0.1:9000", false),
        ("10.77.0.1:9001", true),
        ("10.77.0.1:9002", false),
    ] {
        let asked = mesh.client.ask(address);
        assert_eq!(asked.is_ok(), is_open, "{address}: {asked:?}");
    }
    Ok(())
}

#[test]
fn without_tasks_a_port_is_refused() -> Result<()> {
    let Some(mesh) = Mesh::new(&[])? else {
        return Ok(());
    };
    for address in ["10.77.0.1:8080", "[fd77::2]:8080"] {
        for from in [&mesh.client, &mesh.nodes[0]] {
            let refused = from.ask(address).expect_err("nobody serves");
            assert_eq!(error_kind(&refused), Some(ErrorKind::ConnectionRefused));
        }
        let refused = ask_udp(&mesh.client.udp(address)?).expect_err("nobody serves");
        assert_eq!(error_kind(&refused), Some(ErrorKind::ConnectionRefused));
    }
    Ok(())
}

#[test]
fn udp_flows_leave_a_task_that_is_gone() -> Result<()> {
    let Some(mut mesh) = Mesh::new(&[0, 1])? else {
        return Ok(());
    };
    let socket = mesh.client.udp("10.77.0.1:8080")?;
    let (first, _) = ask_udp(&socket)?;
    let left = if first == "task0" { 1 } else { 0 };
    let applied = mesh.rules[0].replace(surroundings(), published(&[left]))?;
    assert_eq!(applied.flows_forgotten, 1);
    assert_ne!(ask_udp(&socket)?.0, first);
    Ok(())
}

/// A connection from this address and port, which another one may have too.
fn connect_from(namespace: &Namespace, from: &str, to: &str) -> Result<Conversation> {
    let (from, to): (SocketAddr, SocketAddr) = (from.parse()?, to.parse()?);
    let fd = namespace.inside(|| {
        let fd = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
        rustix::net::sockopt::set_socket_reuseaddr(&fd, true)?;
        rustix::net::bind(&fd, &from)?;
        rustix::net::connect(&fd, &to)?;
        Ok(fd)
    })?;
    let stream = std::net::TcpStream::from(fd);
    stream.set_read_timeout(Some(std::time::Duration::from_secs(3)))?;
    Ok(Conversation(stream))
}

#[test]
fn one_client_port_through_two_nodes_is_two_connections() -> Result<()> {
    let Some(mesh) = Mesh::new(&[0])? else {
        return Ok(());
    };
    // Else the node would keep them apart by itself, as it does all it bridges.
    for node in &mesh.nodes {
        node.set("net/bridge/bridge-nf-call-iptables", "0")?;
    }
    let from = "10.77.0.100:45000";
    let mut first = connect_from(&mesh.client, from, "10.77.0.1:8080")?;
    assert_eq!(first.ask()?.1, CLIENT.parse::<IpAddr>()?);
    let mut second = connect_from(&mesh.client, from, "10.77.0.2:8080")?;
    assert_eq!(second.ask()?.1, CLIENT.parse::<IpAddr>()?);
    assert_eq!(first.ask()?.1, CLIENT.parse::<IpAddr>()?);
    Ok(())
}

#[test]
fn a_udp_client_may_go_on_through_another_node() -> Result<()> {
    let Some(mesh) = Mesh::new(&[0])? else {
        return Ok(());
    };
    let socket = mesh
        .client
        .inside(|| Ok(std::net::UdpSocket::bind("10.77.0.100:45001")?))?;
    socket.set_read_timeout(Some(std::time::Duration::from_secs(1)))?;
    for to in ["10.77.0.1:8080", "10.77.0.2:8080", "10.77.0.1:8080"] {
        socket.connect(to)?;
        assert_eq!(ask_udp(&socket)?.1, CLIENT.parse::<IpAddr>()?, "{to}");
    }
    Ok(())
}

#[test]
fn refusals_of_the_task_itself_find_back() -> Result<()> {
    let Some(mut mesh) = Mesh::new(&[])? else {
        return Ok(());
    };
    // Nobody listens at this port of the task: its kernel says so, by a reset or by ICMP.
    let mut ports = Services::new();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let [v4, v6] = Frontend::published(protocol, 8081);
        let closed = |address| Service::new([Backend::new(address).with_port(99)]);
        ports.insert(v4, closed(task_v4(0)));
        ports.insert(v6, closed(task_v6(0)));
    }
    for rules in &mut mesh.rules {
        rules.replace(surroundings(), ports.clone())?;
    }
    for to in [
        "10.77.0.1:8081",
        "10.77.0.2:8081",
        "[fd77::1]:8081",
        "[fd77::2]:8081",
    ] {
        let refused = mesh.client.ask(to).expect_err("nobody listens");
        assert_eq!(
            error_kind(&refused),
            Some(ErrorKind::ConnectionRefused),
            "tcp {to}"
        );
        let refused = ask_udp(&mesh.client.udp(to)?).expect_err("nobody listens");
        assert_eq!(
            error_kind(&refused),
            Some(ErrorKind::ConnectionRefused),
            "udp {to}"
        );
    }
    Ok(())
}

#[test]
fn a_node_can_stand_in_for_clients() -> Result<()> {
    let Some(mut mesh) = Mesh::new(&[1])? else {
        return Ok(());
    };
    // As where the way back cannot be set up.
    for way_back in &mut mesh.ways_back {
        way_back.clear()?;
    }
    mesh.tasks[1].ip("neigh add 10.255.0.241 lladdr 02:4e:00:00:00:01 dev ing0")?;
    let wanted = Surroundings {
        hides_clients: true,
        ..surroundings()
    };
    mesh.rules[0].replace(wanted, published(&[1]))?;
    let (label, seen) = mesh.client.ask("10.77.0.1:8080")?;
    assert_eq!((label.as_str(), seen), ("task1", "10.255.0.241".parse()?));
    let (label, seen) = ask_udp(&mesh.client.udp("10.77.0.1:8080")?)?;
    assert_eq!((label.as_str(), seen), ("task1", "10.255.0.241".parse()?));
    Ok(())
}

#[test]
fn a_narrow_path_to_the_client_is_found_out() -> Result<()> {
    let Some(mesh) = Mesh::new(&[0])? else {
        return Ok(());
    };
    // A client behind a router whose link to it is narrower than either end knows.
    let router = mesh.network.attach("router", 60)?;
    let client = Namespace::new("afar")?;
    let name = &client.name;
    router.ip(&format!(
        "link add inner type veth peer name eth0 netns {name}"
    ))?;
    router.set("net/ipv4/ip_forward", "1")?;
    router.set("net/ipv6/conf/all/forwarding", "1")?;
    for words in [
        "link set inner mtu 1300 up",
        "addr add 10.88.0.1/24 dev inner",
        "addr add fd88::1/64 dev inner nodad",
    ] {
        router.ip(words)?;
    }
    for words in [
        "link set eth0 up",
        "addr add 10.88.0.2/24 dev eth0",
        "addr add fd88::2/64 dev eth0 nodad",
        "route add default via 10.88.0.1",
        "-6 route add default via fd88::1",
    ] {
        client.ip(words)?;
    }
    for node in &mesh.nodes {
        node.ip("route add 10.88.0.0/24 via 10.77.0.60")?;
        node.ip("-6 route add fd88::/64 via fd77::3c")?;
    }
    for to in [
        "10.77.0.1:8080",
        "10.77.0.2:8080",
        "[fd77::1]:8080",
        "[fd77::2]:8080",
    ] {
        let mut conversation = client.connect(to)?;
        conversation.0.write_all(b"!")?;
        let mut received = Vec::new();
        conversation
            .0
            .read_to_end(&mut received)
            .with_context(|| format!("by {to}, after {} bytes", received.len()))?;
        assert_eq!(received.len(), crate::lab::BULK_BYTES, "{to}");
    }
    Ok(())
}

#[test]
fn containers_reach_out_and_nobody_reaches_in() -> Result<()> {
    let Some(mut mesh) = Mesh::new(&[0])? else {
        return Ok(());
    };
    let node = &mesh.nodes[0];
    let boxes = [
        container(node, "outbound", 30)?,
        container(node, "inner", 31)?,
    ];
    let _outside = mesh.client.serve("outside", 7000)?;
    let _inside = boxes[0].serve("inside", 80)?;
    let mut ports = published(&[0]);
    let [v4, _] = Frontend::published(Protocol::Tcp, 9100);
    let here = Backend::new([172, 30, 0, 5].into()).with_port(80).local();
    ports.insert(v4, Service::new([here]));
    let subnet = |address: &str, prefix_bits| Subnet {
        address: address.parse().expect("an address"),
        prefix_bits,
    };
    let wanted = Surroundings {
        outbound: vec![Outbound {
            bridge: "outbound".to_owned(),
            subnets: vec![subnet("172.30.0.0", 24), subnet("fd30:1e::", 64)],
            isolated: true,
        }],
        internal: vec!["inner".to_owned()],
        ..surroundings()
    };
    mesh.rules[0].replace(wanted, ports)?;
    // Out, under the node's address.
    let (label, seen) = boxes[0].ask("10.77.0.100:7000")?;
    assert_eq!((label.as_str(), seen), ("outside", "10.77.0.1".parse()?));
    let (_, seen) = boxes[0].ask("[fd77::64]:7000")?;
    assert_eq!(seen, "fd77::1".parse::<IpAddr>()?);
    assert!(
        boxes[1].ask("10.77.0.100:7000").is_err(),
        "internal: no way out"
    );
    // In: only what is published, under the client's address; also from the container itself.
    let (label, seen) = mesh.client.ask("10.77.0.1:9100")?;
    assert_eq!((label.as_str(), seen), ("inside", CLIENT.parse()?));
    assert_eq!(boxes[0].ask("10.77.0.1:9100")?.0, "inside");
    assert_eq!(mesh.nodes[0].ask("127.0.0.1:9100")?.0, "inside");
    assert_eq!(boxes[0].ask("10.77.0.1:8080")?.0, "task0");
    mesh.client.ip("route add 172.30.0.0/24 via 10.77.0.1")?;
    mesh.client.ip("route add 10.255.0.0/24 via 10.77.0.1")?;
    for direct in ["172.30.0.5:80", "10.255.0.5:80"] {
        assert!(
            mesh.client.ask(direct).is_err(),
            "{direct} is not published"
        );
    }
    Ok(())
}

/// A container on a bridge of this name, at 172.N.0.5.
fn container(node: &Namespace, bridge: &str, number: u8) -> Result<Namespace> {
    let inside = Namespace::new(bridge)?;
    let name = &inside.name;
    for words in [
        format!("link add {bridge} type bridge nf_call_iptables 0 nf_call_ip6tables 0"),
        format!("link set {bridge} up"),
        format!("addr add 172.{number}.0.1/24 dev {bridge}"),
        format!("addr add fd30:{number:x}::1/64 dev {bridge} nodad"),
        format!("link add v{number} type veth peer name eth0 netns {name}"),
        format!("link set v{number} master {bridge} up"),
    ] {
        node.ip(&words)?;
    }
    node.exec(&format!("bridge link set dev v{number} hairpin on"))?;
    node.set(&format!("net/ipv4/conf/{bridge}/route_localnet"), "1")?;
    for words in [
        "link set eth0 up".to_owned(),
        format!("addr add 172.{number}.0.5/24 dev eth0"),
        format!("addr add fd30:{number:x}::5/64 dev eth0 nodad"),
        format!("route add default via 172.{number}.0.1"),
        format!("-6 route add default via fd30:{number:x}::1"),
    ] {
        inside.ip(&words)?;
    }
    Ok(inside)
}

#[test]
fn what_was_set_up_is_what_is_there() -> Result<()> {
    let Some(mut mesh) = Mesh::new(&[0, 1])? else {
        return Ok(());
    };
    for way_back in &mut mesh.ways_back {
        assert!(way_back.verify()?.is_empty(), "{:?}", way_back.verify()?);
    }
    for rules in &mut mesh.rules {
        assert!(rules.verify()?.is_empty(), "{:?}", rules.verify()?);
    }
    mesh.ways_back[0].clear()?;
    mesh.tasks[0].ip("link del ing0")?;
    Ok(())
}
