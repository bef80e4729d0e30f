//! Nodes that fall silent: nobody is sent to their tasks, managers know soon, and all is as before
//! when they are back. Nodes whose gossip alone is cut keep their tasks.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use harness::story::{Silent, Story, WEB_PORT};
use harness::{Lab, Node, Probe, wait_for};

/// Long enough for everything here on a loaded machine.
const STEP_MAX: Duration = Duration::from_secs(40);

/// Nodes of the lab: a manager and workers.
const NODES: usize = 4;

/// Connections in a row after which the balancer has been round all tasks.
const ROUNDS: usize = 3 * NODES;

/// A service with a task on every node, in a cluster whose heartbeats alone would be slow to tell.
fn start(lab: &mut Lab) -> Vec<Probe> {
    lab.form_swarm(1, NODES - 1).unwrap();
    let mut silent = Silent;
    let mut story = Story::new(lab, &mut silent, None);
    story.load_images().unwrap();
    let manager = story.lab.node(0);
    for command in [
        "update --dispatcher-heartbeat 5s",
        "network create -d overlay net",
        "service create -d --name web --mode global --network net web:1",
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        manager.ctl(&words).unwrap();
    }
    let probes = Probe::of_service(lab, 0, "web", NODES, STEP_MAX).unwrap();
    for index in 0..NODES {
        gossip_says(lab.node(index), NODES - 1, 0);
    }
    probes
}

/// Waits until a node's gossip last said that so many peers live and so many do not.
fn gossip_says(node: &Node, up: usize, lost: usize) {
    let wanted = format!("up={up} lost={lost}");
    wait_for(&wanted, STEP_MAX, || {
        let said = said(node);
        let is_said = said.last().is_some_and(|line| line.contains(&wanted));
        Ok(if is_said {
            Ok(())
        } else {
            Err(said.join("\n"))
        })
    })
    .unwrap();
}

/// All that a node's gossip said so far.
fn said(node: &Node) -> Vec<String> {
    let log = std::fs::read_to_string(node.dir().join("swarmd.log")).unwrap();
    let lines = log.lines().filter(|line| line.contains("peers as gossip"));
    // Without colours, should there be any.
    lines
        .map(|line| line.replace("\u{1b}[3m", "").replace("\u{1b}[0m", ""))
        .map(|line| line.replace("\u{1b}[2m", ""))
        .collect()
}

/// The service's virtual address as a task sees it.
fn vip(probe: &Probe) -> SocketAddr {
    let addresses = probe.addresses_of("web").unwrap();
    assert_eq!(addresses.len(), 1, "one virtual address: {addresses:?}");
    SocketAddr::new(addresses[0], WEB_PORT)
}

/// Who answers a number of new connections in a row; an error when one of them is not answered.
fn answers(from: &Probe, vip: SocketAddr) -> Result<BTreeSet<String>, String> {
    let who = (0..ROUNDS).map(|_| {
        let who = from.who(vip).map_err(|error| format!("{error:#}"))?;
        Ok(who["host"].clone())
    });
    who.collect()
}

/// Waits until connections of one task are answered by exactly these tasks. Returns how long.
fn wait_answers(from: &Probe, vip: SocketAddr, by: &[&Probe]) -> Duration {
    let wanted: BTreeSet<String> = by.iter().map(|one| one.task[..12].to_owned()).collect();
    let start = Instant::now();
    wait_for("answers of the right tasks", STEP_MAX, || {
        Ok(match answers(from, vip) {
            Ok(hosts) if hosts == wanted => Ok(()),
            other => Err(format!("{other:?}, not {wanted:?}")),
        })
    })
    .unwrap();
    start.elapsed()
}

/// State and message of a node.
fn status(lab: &Lab, name: &str) -> String {
    let format = "{{.Status.State}} {{.Status.Message}}";
    let inspect = ["node", "inspect", "--format", format, name];
    lab.node(0).ctl(&inspect).unwrap().trim().to_lowercase()
}

fn on(probes: &[Probe], node: usize) -> &Probe {
    probes.iter().find(|one| one.node == node).unwrap()
}

#[test]
fn a_node_that_falls_silent_is_passed_over_reported_and_used_again() {
    let Some(mut lab) = swarm_e2e::lab() else {
        return;
    };
    let probes = start(&mut lab);
    let client = on(&probes, 1);
    let web = vip(client);
    let all: Vec<&Probe> = probes.iter().collect();
    wait_answers(client, web, &all);

    // The cable of the last one: nobody is told.
    let lost = lab.node(NODES - 1);
    lost.plug(false).unwrap();
    let others: Vec<&Probe> = probes.iter().filter(|one| one.node != NODES - 1).collect();
    let took = wait_answers(client, web, &others);
    println!("no more connections to the silent node after {took:?}");
    wait_for("the managers to know", STEP_MAX, || {
        let status = status(&lab, lost.name());
        Ok(if status.starts_with("down") {
            Ok(())
        } else {
            Err(status)
        })
    })
    .unwrap();
    let reason = status(&lab, lost.name());
    assert!(reason.contains("peers"), "before its heartbeats: {reason}");

    lost.plug(true).unwrap();
    let back = Probe::of_service(&lab, 0, "web", NODES, STEP_MAX).unwrap();
    let all: Vec<&Probe> = back.iter().collect();
    wait_answers(on(&back, 1), web, &all);
    gossip_says(lab.node(1), NODES - 1, 0);

    // The same with the power: what ran there is gone, and nothing is left to answer.
    lab.node_mut(NODES - 1).power_off();
    let others: Vec<&Probe> = back.iter().filter(|one| one.node != NODES - 1).collect();
    wait_answers(on(&back, 1), web, &others);
    lab.node_mut(NODES - 1).power_on().unwrap();
    lab.node(NODES - 1).start_daemon().unwrap();
    let back = Probe::of_service(&lab, 0, "web", NODES, STEP_MAX).unwrap();
    let all: Vec<&Probe> = back.iter().collect();
    wait_answers(on(&back, 1), web, &all);
}

/// Drops gossip that reaches a node, or no longer.
fn mute(node: &Node, is_muted: bool) {
    let rules = if is_muted {
        "table inet mute { chain in { type filter hook input priority 0; udp dport 7946 drop; }; }"
    } else {
        "delete table inet mute"
    };
    let status = Command::new("ip")
        .args(["netns", "exec", node.namespace(), "nft", rules])
        .status()
        .unwrap();
    assert!(status.success(), "nft {rules}");
}

#[test]
fn a_node_cut_off_from_gossip_alone_keeps_its_tasks() {
    if Command::new("nft").arg("--version").output().is_err() {
        println!("skipped: needs the nft program (package nftables)");
        return;
    }
    let Some(mut lab) = swarm_e2e::lab() else {
        return;
    };
    let probes = start(&mut lab);
    let only = "service create -d --name only --network net --constraint node.hostname==n4 web:1";
    let only: Vec<&str> = only.split(' ').collect();
    lab.node(0).ctl(&only).unwrap();
    Probe::of_service(&lab, 0, "only", 1, STEP_MAX).unwrap();
    let (client, far) = (on(&probes, 1), on(&probes, NODES - 1));
    let (web, all) = (vip(client), probes.iter().collect::<Vec<_>>());

    // A daemon that is replaced is not missed: gossip goes on without it.
    let last = lab.node(NODES - 1);
    for signal in [9, 15] {
        last.stop_daemon(signal).unwrap();
        last.start_daemon().unwrap();
        gossip_says(last, NODES - 1, 0);
        wait_answers(far, web, &all);
        let missed = said(lab.node(1)).into_iter();
        let missed: Vec<String> = missed.filter(|line| !line.contains("lost=0")).collect();
        assert!(missed.is_empty(), "after signal {signal}: {missed:?}");
    }

    mute(lab.node(NODES - 1), true);
    gossip_says(lab.node(1), NODES - 2, 1);
    gossip_says(lab.node(NODES - 1), 0, NODES - 1);
    let others: Vec<&Probe> = probes.iter().filter(|one| one.node != NODES - 1).collect();
    wait_answers(client, web, &others);
    // It goes to its own task, and to others where it has none.
    wait_answers(far, web, &[far]);
    // Nobody else serves this one: it is reached as before.
    let only = client.addresses_of("only").unwrap();
    answers(client, SocketAddr::new(only[0], WEB_PORT)).unwrap();
    assert!(
        status(&lab, "n4").starts_with("ready"),
        "it answers managers"
    );

    mute(lab.node(NODES - 1), false);
    let took = wait_answers(client, web, &all);
    println!("all again {took:?} after gossip was let through");
    wait_answers(far, web, &all);
    let tasks = Probe::of_service(&lab, 0, "web", NODES, STEP_MAX).unwrap();
    let ids = |probes: &[Probe]| -> BTreeSet<String> {
        probes.iter().map(|one| one.task.clone()).collect()
    };
    assert_eq!(ids(&tasks), ids(&probes), "no task was replaced");
}
