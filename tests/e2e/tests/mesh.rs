//! The routing mesh on real daemons: every node answers, and tasks see who asks.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::story::{MANAGERS, Silent, Story, WORKERS};
use harness::{Lab, Node, wait_for};
use swarm_e2e::calls::{self, Who};

const NODES: usize = MANAGERS + WORKERS;
const REPLICAS: usize = 5;

/// Calls of one client through one address of one node.
const CALLS: usize = 40;

/// How long anything may take that has to come about.
const PATIENCE: Duration = Duration::from_secs(20);

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

/// A swarm of all nodes with the example's images.
fn form(lab: &mut Lab) {
    let mut silent = Silent;
    let mut story = Story::new(lab, &mut silent, None);
    story.form().unwrap();
    story.load_images().unwrap();
}

fn create(lab: &mut Lab, name: &str, replicas: &str, flags: &str) {
    let line = format!(
        "service create -d --name {name} --env NAME={{{{.Node.Hostname}}}}/{{{{.Task.ID}}}} \
         {flags} web:1"
    );
    lab.node(0).ctl(&words(&line)).unwrap();
    let mut silent = Silent;
    Story::new(lab, &mut silent, None)
        .wait_replicas(name, replicas)
        .unwrap();
}

fn remove(lab: &Lab, names: &[&str]) {
    let line = [&["service", "rm"], names].concat();
    lab.node(0).ctl(&line).unwrap();
}

/// Both addresses of a node.
fn both(node: &Node) -> [IpAddr; 2] {
    [node.address(), node.address_v6()]
}

/// Waits until a call gets an answer, and returns that.
#[track_caller]
fn settled<T>(what: &str, call: impl Fn() -> Result<T>) -> T {
    wait_for(what, PATIENCE, || call().map(Ok)).unwrap()
}

/// Waits until this many tasks answer at an address, as seen from outside.
#[track_caller]
fn settled_at(lab: &Lab, at: SocketAddr, tasks: usize) {
    let what = format!("{tasks} tasks to answer at {at}");
    settled(&what, || {
        let answers = lab.outside(|| (0..tasks * 4).map(|_| calls::who(at)).collect());
        let answers: Vec<Who> = answers?;
        let hosts: BTreeSet<_> = answers.iter().map(|who| &who.host).collect();
        ensure!(hosts.len() == tasks, "{hosts:?}");
        Ok(())
    });
}

/// A port that a client calls in some way.
type Call = fn(SocketAddr) -> Result<Who>;

/// Calls every node at both addresses, by turns, and holds that each task sees the client and gets
/// about its share.
fn calls_from_outside(lab: &Lab, port: u16, tasks: usize, call: Call) {
    let clients = lab.outside_addresses();
    let mut all: BTreeMap<String, usize> = BTreeMap::new();
    for node in lab.nodes() {
        for (address, client) in both(node).into_iter().zip(clients) {
            let at = SocketAddr::new(address, port);
            let answers = lab.outside(|| (0..CALLS).map(|_| call(at)).collect::<Result<Vec<_>>>());
            let answers = answers.with_context(|| format!("calling {at}")).unwrap();
            let mut here: BTreeMap<String, usize> = BTreeMap::new();
            for who in answers {
                assert_eq!(who.client, client, "{} called at {at}", who.host);
                *here.entry(who.host.clone()).or_default() += 1;
                *all.entry(who.host).or_default() += 1;
            }
            // Each node lets tasks take turns; half and twice the share is generous.
            let share = CALLS / tasks;
            let fair = here.len() == tasks
                && here
                    .values()
                    .all(|count| (share / 2..=share * 2).contains(count));
            assert!(fair, "at {at}: {here:?}");
        }
    }
    println!("port {port}: {all:?}");
}

#[test]
fn every_node_answers_and_tasks_see_the_client() {
    let Some(mut lab) = swarm_e2e::lab() else {
        return;
    };
    form(&mut lab);
    // The last node has no task.
    let idle = lab.node(NODES - 1).name().to_owned();
    create(
        &mut lab,
        "web",
        "5/5",
        &format!(
            "--replicas 5 --constraint node.hostname!={idle} --publish 8080:8080 \
             --publish 8080:8080/udp --publish 8080:8080/sctp"
        ),
    );
    for node in lab.nodes() {
        for address in both(node) {
            settled_at(&lab, SocketAddr::new(address, 8080), REPLICAS);
        }
    }
    calls_from_outside(&lab, 8080, REPLICAS, calls::who);
    calls_from_outside(&lab, 8080, REPLICAS, calls::who_by_udp);
    if calls::has_sctp() {
        calls_from_outside(&lab, 8080, REPLICAS, calls::who_by_sctp);
    } else {
        println!("skipped: sctp: this kernel does not have it");
    }
    from_nodes_themselves(&lab);
    from_containers_of_other_networks(&mut lab);
    remove(&lab, &["web", "caller"]);
    let gone = SocketAddr::new(lab.node(0).address(), 8080);
    settled("the port to be closed", || {
        ensure!(lab.outside(|| calls::is_refused(gone))?, "it is open");
        Ok(())
    });
}

/// A node calls its own ports and those of others.
fn from_nodes_themselves(lab: &Lab) {
    for node in lab.nodes() {
        let at = SocketAddr::new([127, 0, 0, 1].into(), 8080);
        let mut hosts = BTreeSet::new();
        for _ in 0..2 * REPLICAS {
            let who = node.inside(|| calls::who(at));
            let who = who.with_context(|| format!("{} calling {at}", node.name()));
            hosts.insert(who.unwrap().host);
        }
        assert_eq!(hosts.len(), REPLICAS, "{} at {at}", node.name());
        // So that a program that tries ::1 first goes on at once.
        let at = SocketAddr::new(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]), 8080);
        assert!(node.inside(|| calls::is_refused(at)).unwrap());
        for other in lab.nodes() {
            for (address, own) in both(other).into_iter().zip(both(node)) {
                let at = SocketAddr::new(address, 8080);
                let who = node.inside(|| calls::who(at));
                let who = who.with_context(|| format!("{} calling {at}", node.name()));
                assert_eq!(who.unwrap().client, own, "{} at {at}", node.name());
            }
        }
    }
}

/// A container that is on another network calls the port of its own node, and of others.
fn from_containers_of_other_networks(lab: &mut Lab) {
    lab.node(0)
        .ctl(&words("network create -d overlay --ipv6 apart"))
        .unwrap();
    let place = lab.node(1).name().to_owned();
    let flags = format!("--network apart --constraint node.hostname=={place}");
    let before = lab.node(1).pids_of("web").unwrap();
    create(lab, "caller", "1/1", &flags);
    let node = lab.node(1);
    let now = node.pids_of("web").unwrap();
    let pid = *now.iter().find(|pid| !before.contains(pid)).unwrap();
    for other in lab.nodes() {
        for address in both(other) {
            let at = SocketAddr::new(address, 8080);
            let mut hosts = BTreeSet::new();
            for _ in 0..2 * REPLICAS {
                let who = node.inside_of(pid, || calls::who(at));
                hosts.insert(who.with_context(|| at.to_string()).unwrap().host);
            }
            assert_eq!(hosts.len(), REPLICAS, "at {at}");
        }
    }
}

#[test]
fn ports_keep_to_what_was_asked() {
    let Some(mut lab) = swarm_e2e::lab() else {
        return;
    };
    lab.form_swarm(1, 2).unwrap();
    let mut silent = Silent;
    let mut story = Story::new(&mut lab, &mut silent, None);
    story.wait_nodes_ready(3).unwrap();
    story.load_images().unwrap();
    a_range_and_refusals(&mut lab);
    addresses_and_interfaces(&mut lab);
    ports_of_one_node(&mut lab);
    nearest_and_faithful(&mut lab);
}

/// A socket address of a node.
fn at(lab: &Lab, node: usize, port: u16) -> SocketAddr {
    SocketAddr::new(lab.node(node).address(), port)
}

fn at_v6(lab: &Lab, node: usize, port: u16) -> SocketAddr {
    SocketAddr::new(lab.node(node).address_v6(), port)
}

/// Expects a command to fail, saying all of these words.
#[track_caller]
fn refused(node: &Node, line: &str, expected: &[&str]) {
    let output = node.ctl_command(&words(line)).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{line} is accepted");
    for word in expected {
        assert!(
            said.contains(word),
            "{line} should mention {word:?}: {said}"
        );
    }
}

fn a_range_and_refusals(lab: &mut Lab) {
    create(lab, "range", "1/1", "--publish 8100-8101:8080-8081");
    settled_at(lab, at(lab, 2, 8100), 1);
    // Nobody listens at the second port of the task.
    assert!(lab.outside(|| calls::is_refused(at(lab, 2, 8101))).unwrap());
    let node = lab.node(0);
    let taken = ["8101/tcp", "service range"];
    refused(node, "service create -d --publish 8101:80 web:1", &taken);
    refused(
        node,
        "service create -d --publish mode=host,published=8101,target=80 web:1",
        &taken,
    );
    for (port, purpose) in [
        ("2377", "managers"),
        ("7946", "gossip"),
        ("4789", "traffic"),
    ] {
        let protocol = if port == "2377" { "tcp" } else { "udp" };
        let line = format!("service create -d --publish {port}:80/{protocol} web:1");
        refused(node, &line, &["the swarm itself", purpose]);
    }
    remove(lab, &["range"]);
}

fn addresses_and_interfaces(lab: &mut Lab) {
    let address = lab.node(0).address();
    let bound = format!("--publish published=8110,target=8080,host-ip={address}");
    create(lab, "bound", "1/1", &bound);
    let by = |interface: &str, port: u16| {
        format!("--publish published={port},target=8080,interface={interface}")
    };
    create(lab, "limited", "1/1", &by("eth0", 8111));
    create(lab, "elsewhere", "1/1", &by("eth7", 8112));
    settled_at(lab, at(lab, 0, 8110), 1);
    for node in 0..3 {
        settled_at(lab, at(lab, node, 8111), 1);
        settled_at(lab, at_v6(lab, node, 8111), 1);
    }
    let closed = [
        at(lab, 1, 8110),
        at_v6(lab, 0, 8110),
        at(lab, 0, 8112),
        at_v6(lab, 1, 8112),
    ];
    for at in closed {
        assert!(lab.outside(|| calls::is_refused(at)).unwrap(), "{at}");
    }
    // Neither is wider inside: the node itself comes by no interface, and by another address.
    let loopback = |port| SocketAddr::new([127, 0, 0, 1].into(), port);
    for port in [8110, 8111] {
        let is_closed = lab.node(0).inside(|| calls::is_refused(loopback(port)));
        assert!(is_closed.unwrap(), "{port}");
    }
    let who = lab.node(2).inside(|| calls::who(at(lab, 0, 8110))).unwrap();
    assert_eq!(who.client, lab.node(2).address());
    remove(lab, &["bound", "limited", "elsewhere"]);
}

/// `mode=host`: on the nodes of its tasks, once on each.
fn ports_of_one_node(lab: &mut Lab) {
    let flags = "--mode global --constraint node.hostname!=n1 --publish mode=host,published=8120,\
                 target=8080 --publish mode=host,published=8120,target=8080,protocol=udp";
    create(lab, "hosted", "2/2", flags);
    let [client, client_v6] = lab.outside_addresses();
    for node in [1, 2] {
        let name = lab.node(node).name().to_owned();
        settled_at(lab, at(lab, node, 8120), 1);
        for (at, client) in [
            (at(lab, node, 8120), client),
            (at_v6(lab, node, 8120), client_v6),
        ] {
            for call in [calls::who as Call, calls::who_by_udp] {
                let who = lab.outside(|| call(at));
                let who = who.with_context(|| at.to_string()).unwrap();
                assert_eq!(who.client, client, "at {at}");
                assert!(who.host.starts_with(&format!("{name}/")), "{who:?}");
            }
        }
        let own = SocketAddr::new([127, 0, 0, 1].into(), 8120);
        lab.node(node).inside(|| calls::who(own)).unwrap();
        // From its own container, which comes back to itself, and from the other node.
        let pid = lab.node(node).pids_of("web").unwrap()[0];
        let itself = at(lab, node, 8120);
        let who = lab.node(node).inside_of(pid, || calls::who(itself));
        who.context("a container calling its own port").unwrap();
    }
    assert!(lab.outside(|| calls::is_refused(at(lab, 0, 8120))).unwrap());
    // Where a task has the port, there is no room for another service's.
    let flags = "--constraint node.hostname==n2 --publish mode=host,published=8120,target=8080";
    let line = format!("service create -d --name second {flags} web:1");
    lab.node(0).ctl(&words(&line)).unwrap();
    settled("the second service to wait for the port", || {
        let tasks = ["service", "ps", "--no-trunc", "second"];
        let text = lab.node(0).ctl(&tasks)?;
        ensure!(text.contains("Pending") && text.contains("port"), "{text}");
        Ok(())
    });
    // Nor where a program of the node has it, here one in a container on the node's own network.
    let flags = "--network host --constraint node.hostname==n3 --env PORT=8122";
    create(lab, "program", "1/1", flags);
    let flags = "--constraint node.hostname==n3 --publish mode=host,published=8122,target=8080";
    let line = format!("service create -d --name third --restart-condition none {flags} web:1");
    lab.node(0).ctl(&words(&line)).unwrap();
    settled("the third service to be rejected", || {
        let tasks = ["service", "ps", "--no-trunc", "third"];
        let text = lab.node(0).ctl(&tasks)?;
        let expected = "port 8122/tcp of this node is in use by web (pid";
        ensure!(text.contains(expected), "{text}");
        Ok(())
    });
    remove(lab, &["program", "third"]);
    // A neighbour of the same node is called at the node, and nowhere else.
    let flags = "--constraint node.hostname==n2 --publish mode=host,published=8121,target=8080";
    let before = lab.node(1).pids_of("web").unwrap();
    create(lab, "neighbour", "1/1", flags);
    let (node, pid) = (lab.node(1), before[0]);
    for at in [at(lab, 1, 8121), at_v6(lab, 1, 8121)] {
        let who = node.inside_of(pid, || calls::who(at));
        who.with_context(|| format!("a neighbour at {at}")).unwrap();
    }
    let now = node.pids_of("web").unwrap();
    let other = *now.iter().find(|pid| !before.contains(pid)).unwrap();
    let direct = SocketAddr::new(outer_address(node, other), 8080);
    let reached = node.inside_of(pid, || {
        let limit = Duration::from_millis(500);
        Ok(std::net::TcpStream::connect_timeout(&direct, limit).is_ok())
    });
    assert!(!reached.unwrap(), "{direct} is open to neighbours");
    remove(lab, &["hosted", "second", "neighbour"]);
    settled("the port to be closed", || {
        ensure!(lab.outside(|| calls::is_refused(at(lab, 1, 8120)))?, "open");
        Ok(())
    });
}

/// A container's address on the bridge it reaches the world by.
fn outer_address(node: &Node, pid: u32) -> IpAddr {
    let address = node.inside_of(pid, || {
        let probe = std::net::UdpSocket::bind("0.0.0.0:0")?;
        // Nothing is sent: the kernel only chooses where it would be sent from.
        probe.connect("192.0.2.1:9")?;
        Ok(probe.local_addr()?.ip())
    });
    address.unwrap()
}

/// Tasks of the same node first, and clients that keep to their task.
fn nearest_and_faithful(lab: &mut Lab) {
    let flags = "--mode global --publish published=8130,target=8080,prefer-local";
    create(lab, "near", "3/3", flags);
    create(
        lab,
        "faithful",
        "4/4",
        "--replicas 4 --affinity source-ip --publish 8131:8080",
    );
    for node in 0..3 {
        let name = format!("{}/", lab.node(node).name());
        for at in [at(lab, node, 8130), at_v6(lab, node, 8130)] {
            settled_at(lab, at, 1);
            let who = lab.outside(|| calls::who(at)).unwrap();
            assert!(who.host.starts_with(&name), "{who:?} answers at {at}");
        }
    }
    let clients = lab.more_outside_addresses(12).unwrap();
    let mut tasks = BTreeSet::new();
    for client in clients {
        // A node that has not heard of all tasks yet may choose another one.
        let task = settled("one task for one client", || {
            let mut hosts = BTreeSet::new();
            for at in (0..3).map(|node| at(lab, node, 8131)) {
                for _ in 0..2 {
                    hosts.insert(lab.outside(|| calls::who_from(client, at))?.host);
                }
            }
            ensure!(hosts.len() == 1, "{client}: {hosts:?}");
            Ok(hosts.pop_first().unwrap())
        });
        tasks.insert(task);
    }
    assert!(tasks.len() > 1, "all clients have one task");
    remove(lab, &["near", "faithful"]);
}

/// Bytes of a transfer that does not fit into any buffer on the way.
const BULK_BYTES: usize = 2_000_000;

#[test]
fn bulk_gets_through_where_one_link_is_narrower() {
    let Some(mut lab) = swarm_e2e::lab() else {
        return;
    };
    lab.form_swarm(1, 2).unwrap();
    lab.node(1).set_mtu(1400).unwrap();
    let mut silent = Silent;
    let mut story = Story::new(&mut lab, &mut silent, None);
    story.wait_nodes_ready(3).unwrap();
    story.load_images().unwrap();
    lab.node(0)
        .ctl(&words("network create -d overlay --ipv6 inner"))
        .unwrap();
    let flags = "--mode global --network inner --publish 8080:8080";
    create(&mut lab, "web", "3/3", flags);
    let get = format!("GET /bytes/{BULK_BYTES}");
    let both_ways = |at: SocketAddr| -> Result<()> {
        // As many as there are tasks, which take turns.
        for _ in 0..3 {
            let body = calls::Conversation::with(at)?.last(&get)?;
            ensure!(body.len() == BULK_BYTES, "{} bytes of {at}", body.len());
            let told = calls::Conversation::with(at)?.put(&vec![b'.'; BULK_BYTES])?;
            ensure!(told.contains(&format!(" {BULK_BYTES} ")), "{told} of {at}");
        }
        Ok(())
    };
    for node in 0..3 {
        for at in [at(&lab, node, 8080), at_v6(&lab, node, 8080)] {
            settled_at(&lab, at, 3);
            let outside = lab.outside(|| both_ways(at));
            outside.with_context(|| at.to_string()).unwrap();
        }
    }
    let service = lab
        .node(0)
        .ctl_json(&["service", "inspect", "web"])
        .unwrap();
    let network = lab
        .node(0)
        .ctl_json(&["network", "inspect", "inner"])
        .unwrap();
    let addresses = service[0]["Endpoint"]["VirtualIPs"].as_array().unwrap();
    let is_inner = |address: &&serde_json::Value| address["NetworkID"] == network[0]["Id"];
    let address = addresses.iter().find(is_inner).unwrap();
    let address = address["Addr"].as_str().unwrap();
    let address: IpAddr = address.split('/').next().unwrap().parse().unwrap();
    for node in lab.nodes() {
        let pid = node.pids_of("web").unwrap()[0];
        let inside = node.inside_of(pid, || both_ways(SocketAddr::new(address, 8080)));
        inside.with_context(|| node.name().to_owned()).unwrap();
    }
}
