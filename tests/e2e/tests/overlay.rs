//! Overlay networks of real daemons: names, virtual addresses, connections between nodes, both
//! families, life without a daemon, and nothing left behind.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::story::{Silent, Story, WEB_PORT};
use harness::{Lab, Node, Probe, eventually, wait_for};
use swarm_e2e::Dice;

const WAIT_MAX: Duration = Duration::from_secs(30);

fn swarm(managers: usize, workers: usize) -> Option<Lab> {
    let mut lab = swarm_e2e::lab()?;
    lab.form_swarm(managers, workers).unwrap();
    let mut silent = Silent;
    let mut story = Story::new(&mut lab, &mut silent, None);
    story.wait_nodes_ready(managers + workers).unwrap();
    story.load_images().unwrap();
    Some(lab)
}

fn ctl(lab: &Lab, words: &str) -> String {
    let words: Vec<&str> = words.split_whitespace().collect();
    lab.node(0).ctl(&words).unwrap()
}

fn tasks(lab: &Lab, service: &str, count: usize) -> Vec<Probe> {
    Probe::of_service(lab, 0, service, count, WAIT_MAX).unwrap()
}

fn at(address: IpAddr) -> SocketAddr {
    SocketAddr::new(address, WEB_PORT)
}

/// Addresses of tasks in a subnet, sorted.
fn addresses(tasks: &[Probe], subnet: &str) -> Vec<IpAddr> {
    let addresses = tasks.iter().map(|task| task.address_in(subnet).unwrap());
    let mut addresses: Vec<IpAddr> = addresses.collect();
    addresses.sort();
    addresses
}

/// Waits until a name leads to these addresses.
fn leads_to(task: &Probe, name: &str, wanted: &[IpAddr]) {
    wait_for(&format!("{name} to lead to {wanted:?}"), WAIT_MAX, || {
        let found = task.addresses_of(name)?;
        Ok(if found == wanted {
            Ok(())
        } else {
            Err(format!("{} is told {found:?}", task.name))
        })
    })
    .unwrap();
}

/// Host names of those who answer at an address, asked until all of `wanted` have, by HTTP and UDP.
fn all_answer(task: &Probe, address: IpAddr, wanted: &[Probe]) {
    let wanted: BTreeSet<&str> = wanted.iter().map(|task| &task.task[..12]).collect();
    for by_datagram in [false, true] {
        let mut answered = BTreeSet::new();
        wait_for("all tasks to answer", WAIT_MAX, || {
            let who = if by_datagram {
                task.who_udp(at(address))?
            } else {
                task.who(at(address))?
            };
            answered.insert(who["host"].clone());
            let all: BTreeSet<&str> = answered.iter().map(String::as_str).collect();
            ensure!(all.is_subset(&wanted), "{all:?} answer for {wanted:?}");
            Ok(if all == wanted {
                Ok(())
            } else {
                Err(format!("{all:?} of {wanted:?}"))
            })
        })
        .unwrap();
    }
}

/// Nothing can be reached, and fails soon or is not answered.
fn is_unreachable(task: &Probe, address: IpAddr) {
    let answer = task.who(at(address));
    assert!(
        answer.is_err(),
        "{} reaches {address}: {answer:?}",
        task.name
    );
}

#[test]
fn tasks_on_different_nodes_reach_each_other_by_name() {
    const FRONT: &str = "10.50.0.0/24";
    let Some(lab) = swarm(1, 2) else {
        return;
    };
    ctl(
        &lab,
        "network create -d overlay --subnet 10.50.0.0/24 front",
    );
    ctl(&lab, "network create -d overlay --subnet 10.51.0.0/24 back");
    let create = "service create -d --replicas-max-per-node 1";
    ctl(
        &lab,
        &format!("{create} --name a --replicas 3 --network front web:1"),
    );
    let aliased = "--network name=front,alias=www,alias=site";
    ctl(
        &lab,
        &format!("{create} --name b --replicas 2 {aliased} web:1"),
    );
    let rr = "--replicas 3 --network front --endpoint-mode dnsrr";
    ctl(&lab, &format!("{create} --name rr {rr} web:1"));
    ctl(
        &lab,
        &format!("{create} --name other --replicas 3 --network back web:1"),
    );
    let (a, b) = (tasks(&lab, "a", 3), tasks(&lab, "b", 2));
    let (rr, other) = (tasks(&lab, "rr", 3), tasks(&lab, "other", 3));
    let nodes: BTreeSet<usize> = a.iter().map(|task| task.node).collect();
    assert_eq!(nodes.len(), 3, "one task on each node");
    let vip = |service: &str, subnet: &str| {
        let found = a[0].addresses_of(service).unwrap();
        assert_eq!(found.len(), 1, "{service}: {found:?}");
        assert!(found[0].to_string().starts_with(&subnet[..6]));
        found[0]
    };
    let vip_b = vip("b", FRONT);
    for task in &a {
        leads_to(task, "b", &[vip_b]);
        leads_to(task, "B.front.", &[vip_b]);
        leads_to(task, "www", &[vip_b]);
        leads_to(task, "site", &[vip_b]);
        leads_to(task, "tasks.b", &addresses(&b, FRONT));
        leads_to(task, "rr", &addresses(&rr, FRONT));
        assert_eq!(task.names_of(vip_b).unwrap(), ["b.front."]);
        let first = b[0].address_in(FRONT).unwrap();
        let named = task.names_of(first).unwrap();
        assert_eq!(named, [format!("{}.{}.front.", b[0].name, b[0].task)]);
        all_answer(task, vip_b, &b);
        for one in rr.iter().chain(&b) {
            let address = one.address_in(FRONT).unwrap();
            let who = task.who(at(address)).unwrap();
            assert_eq!(who["host"], one.task[..12]);
            let own = task.address_in(FRONT).unwrap().to_string();
            assert_eq!(who["client"], own, "addresses between tasks are their own");
        }
    }
    servers_of_names_have_their_port(&a[0]);
    networks_are_apart(&a[0], &other[0], vip_b);
    is_unreachable(&other[0], b[0].address_in(FRONT).unwrap());

    without_a_daemon(&lab, &a, &b, vip_b);
    ctl(&lab, "service rm a b rr other");
    remove_network(&lab, "front");
    remove_network(&lab, "back");
    nothing_is_left(&lab);
}

/// A program inside may answer names itself, at port 53 of all its addresses.
fn servers_of_names_have_their_port(task: &Probe) {
    let all = SocketAddr::new(IpAddr::from([0, 0, 0, 0]), 53);
    let answered = task.within(|| {
        let held = (UdpSocket::bind(all)?, TcpListener::bind(all)?);
        let answered = task.addresses_of("a");
        drop(held);
        answered
    });
    assert!(!answered.unwrap().is_empty(), "names are still answered");
}

/// Another network's names and addresses are out of reach, both ways.
fn networks_are_apart(a: &Probe, other: &Probe, vip_b: IpAddr) {
    let theirs = other.addresses_of("other").unwrap()[0];
    for (one, name, address) in [(a, "other", theirs), (other, "b", vip_b)] {
        for name in [name, &format!("tasks.{name}")] {
            assert_eq!(one.addresses_of(name).unwrap(), [] as [IpAddr; 0], "{name}");
        }
        assert_eq!(one.names_of(address).unwrap(), [] as [String; 0]);
        is_unreachable(one, address);
    }
    is_unreachable(a, other.address_in("10.51.0.0/24").unwrap());
}

/// Names are answered and connections go on while no daemon runs anywhere.
fn without_a_daemon(lab: &Lab, a: &[Probe], b: &[Probe], vip: IpAddr) {
    for node in lab.nodes() {
        node.stop_daemon(9).unwrap();
    }
    for task in a {
        assert_eq!(task.addresses_of("b").unwrap(), [vip]);
        all_answer(task, vip, b);
    }
    for node in lab.nodes() {
        node.start_daemon().unwrap();
    }
    for task in a {
        assert_eq!(task.addresses_of("b").unwrap(), [vip]);
        all_answer(task, vip, b);
    }
}

#[test]
fn both_families_carry_a_service() {
    const SUBNETS: [&str; 2] = ["10.60.0.0/24", "fd60::/64"];
    let Some(lab) = swarm(1, 1) else {
        return;
    };
    ctl(
        &lab,
        "network create -d overlay --ipv6 --subnet 10.60.0.0/24 --subnet fd60::/64 both",
    );
    let create = "service create -d --replicas 2 --replicas-max-per-node 1 --network both";
    ctl(&lab, &format!("{create} --name a web:1"));
    ctl(&lab, &format!("{create} --name b web:1"));
    let (a, b) = (tasks(&lab, "a", 2), tasks(&lab, "b", 2));
    for task in &a {
        let vips = task.addresses_of("b").unwrap();
        assert!(
            vips.len() == 2 && vips[0].is_ipv4() && vips[1].is_ipv6(),
            "{vips:?}"
        );
        let mut all: Vec<IpAddr> = SUBNETS.iter().flat_map(|of| addresses(&b, of)).collect();
        all.sort();
        leads_to(task, "tasks.b", &all);
        for (vip, subnet) in vips.into_iter().zip(SUBNETS) {
            all_answer(task, vip, &b);
            assert_eq!(task.names_of(vip).unwrap(), ["b.both."]);
            for one in &b {
                let who = task.who(at(one.address_in(subnet).unwrap())).unwrap();
                assert_eq!(who["host"], one.task[..12]);
                assert_eq!(who["client"], task.address_in(subnet).unwrap().to_string());
            }
        }
    }
    ctl(&lab, "service rm a b");
    remove_network(&lab, "both");
    nothing_is_left(&lab);
}

#[test]
fn daemons_killed_at_any_moment_leave_nothing_behind() {
    const ROUNDS: usize = 6;
    let Some(lab) = swarm(1, 1) else {
        return;
    };
    let mut dice = Dice::new(0x5eed);
    for round in 0..ROUNDS {
        ctl(&lab, "network create -d overlay --ipv6 net");
        let create = "service create -d --name web --restart-delay 0s --network net";
        ctl(&lab, &format!("{create} -p 8081:8080 --replicas 4 web:1"));
        let victim = lab.node(dice.below(2));
        // Anywhere between the assignment and the running task.
        std::thread::sleep(Duration::from_millis(dice.below(400) as u64));
        victim.stop_daemon(9).unwrap();
        victim.start_daemon().unwrap();
        tasks(&lab, "web", 4);
        ctl(&lab, "service rm web");
        std::thread::sleep(Duration::from_millis(dice.below(400) as u64));
        victim.stop_daemon(9).unwrap();
        victim.start_daemon().unwrap();
        println!("round {round}");
        remove_network(&lab, "net");
        nothing_is_left(&lab);
    }
    // A node that leaves takes everything with it, too.
    ctl(&lab, "network create -d overlay --ipv6 net");
    let create = "service create -d --name web --network net -p 8081:8080";
    ctl(&lab, &format!("{create} --replicas 4 web:1"));
    tasks(&lab, "web", 4);
    lab.node(1).ctl(&["leave"]).unwrap();
    is_clean(lab.node(1));
}

/// Removes a network as soon as its tasks are gone.
fn remove_network(lab: &Lab, name: &str) {
    wait_for("the network to be removed", WAIT_MAX, || {
        let removed = lab.node(0).ctl(&["network", "rm", name]);
        Ok(removed.map(drop).map_err(|error| format!("{error:#}")))
    })
    .unwrap();
}

/// Waits until no node holds anything that was made for networks or tasks.
fn nothing_is_left(lab: &Lab) {
    lab.nodes().iter().for_each(is_clean);
}

fn is_clean(node: &Node) {
    eventually(&format!("{} to be clean", node.name()), WAIT_MAX, || {
        let left = left(node)?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(true)
    })
    .unwrap();
}

/// Links, tables of the packet filter, containers and network namespaces of a node.
fn left(node: &Node) -> Result<Vec<String>> {
    let mut left = node.inside(|| {
        let links = said(Command::new("ip").args(["-o", "link"]))?;
        let names = links.lines().filter_map(|line| line.split(": ").nth(1));
        let ours = names.filter(|name| name.starts_with("sw-"));
        let mut left: Vec<String> = ours.map(|name| format!("link {name}")).collect();
        let tables = said(Command::new("nft").args(["list", "tables"]))?;
        left.extend(tables.lines().map(str::to_owned));
        Ok(left)
    })?;
    let pids = node.container_pids()?;
    left.extend(pids.iter().map(|pid| format!("container {pid}")));
    left.extend(namespaces(node)?);
    Ok(left)
}

fn said(command: &mut Command) -> Result<String> {
    let output = command.output().context("running it")?;
    ensure!(output.status.success(), "{command:?}: {output:?}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Network namespaces that processes of a node are in or hold on to, but its own.
fn namespaces(node: &Node) -> Result<Vec<String>> {
    let init = node.pid().context("it is on")?;
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net"));
    let own = namespace(&init.to_string())?;
    let processes = namespace_of_processes(init)?;
    let mut found = Vec::new();
    for pid in processes {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter();
        let files = files.flatten().flatten();
        let held = files.filter_map(|file| std::fs::read_link(file.path()).ok());
        let is_namespace = |path: &std::path::PathBuf| path.to_string_lossy().starts_with("net:[");
        let all = held.chain(namespace(&pid)).filter(is_namespace);
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let foreign = all.filter(|path| *path != own);
        found.extend(foreign.map(|path| format!("{} of {}", path.display(), name.trim())));
    }
    Ok(found)
}

/// Processes of the machine whose first process this is: those of its process namespace.
fn namespace_of_processes(init: u32) -> Result<Vec<String>> {
    let kind = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid_for_children"));
    let own = kind(&init.to_string())?;
    let all = std::fs::read_dir("/proc")?.flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str().map(str::to_owned));
    Ok(pids
        .filter(|pid| pid.bytes().all(|byte| byte.is_ascii_digit()))
        .filter(|pid| kind(pid).is_ok_and(|kind| kind == own))
        .collect())
}
