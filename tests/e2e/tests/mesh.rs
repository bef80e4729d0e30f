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
