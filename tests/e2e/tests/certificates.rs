//! Certificates and roots of real daemons change while everything runs on.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::story::{MANAGERS, Silent, Story, WORKERS};
use harness::{Lab, Node, wait_for};

const NODES: usize = MANAGERS + WORKERS;
const WAIT_MAX: Duration = Duration::from_secs(90);

/// Seconds that certificates live in the renewal test; `SWARM_TEST_CERT_LIFE` sets another number.
const LIFE_DEFAULT_S: u64 = 4;
/// Between two writes of the client that must notice nothing.
const WRITE_PAUSE: Duration = Duration::from_millis(20);
/// Renewals of each node in that test; `SWARM_TEST_RENEWALS` sets another number.
const RENEWALS_DEFAULT: u64 = 5;

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Waits until a check no longer fails.
fn until(what: &str, mut check: impl FnMut() -> Result<()>) {
    wait_for(what, WAIT_MAX, || {
        Ok(check().map_err(|error| format!("{error:#}")))
    })
    .unwrap();
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

/// The roots a node keeps on its disk.
fn roots(node: &Node) -> Result<Vec<String>> {
    let path = node.dir().join("state/certificates/swarm-root-ca.crt");
    let bundle = fs::read_to_string(path)?;
    let mut roots: Vec<_> = bundle
        .split_inclusive("-----END CERTIFICATE-----\n")
        .map(|root| root.trim().to_owned())
        .filter(|root| !root.is_empty())
        .collect();
    roots.sort_unstable();
    Ok(roots)
}

/// First processes of a service's containers, by node: they change only with a restart.
fn pids(lab: &Lab, count: usize) -> Vec<(String, Vec<u32>)> {
    let nodes = lab.nodes()[..count].iter();
    nodes
        .map(|node| (node.name().to_owned(), node.container_pids().unwrap()))
        .collect()
}

fn secret(node: &Node, verb: &str, text: &str) {
    use std::io::Write as _;
    let mut child = node
        .ctl_command(&["secret", verb, "pass", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success(), "secret {verb}");
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story, told in its order")]
fn the_root_is_replaced_twice_while_a_node_is_down_and_no_task_restarts() {
    let Some(mut lab) = swarm_e2e::lab() else {
        return;
    };
    lab.form_swarm(MANAGERS, WORKERS).unwrap();
    let mut silent = Silent;
    let mut story = Story::new(&mut lab, &mut silent, None);
    story.wait_nodes_ready(NODES).unwrap();
    story.load_images().unwrap();
    let first = roots(story.lab.node(0)).unwrap();
    assert_eq!(first.len(), 1);

    // Tasks that must not restart are everywhere but on the node that goes down.
    let keep = "service create -d --name keep --replicas 4 --replicas-max-per-node 1 \
                --constraint node.hostname!=n5 web:1";
    story.lab.node(0).ctl(&words(keep)).unwrap();
    story.wait_replicas("keep", "4/4").unwrap();
    let before = pids(story.lab, 4);
    story.lab.node_mut(4).power_off();
    until("the managers to notice", || {
        let states =
            story
                .lab
                .node(0)
                .ctl(&["node", "ls", "--format", "{{.Hostname}} {{.Status}}"])?;
        ensure!(states.lines().any(|line| line == "n5 Down"), "{states}");
        Ok(())
    });
    secret(story.lab.node(0), "create", "one");
    let roll = "service create -d --name roll --replicas 2 --secret pass --update-monitor 200ms \
                --constraint node.hostname!=n5 web:1";
    story.lab.node(0).ctl(&words(roll)).unwrap();
    story.wait_replicas("roll", "2/2").unwrap();

    for round in 1..=2 {
        // The first waits for the node that is down until told not to; the second is told at once.
        let detach = ["swarm", "ca", "--rotate", "--detach"];
        story.lab.node(round).ctl(&detach).unwrap();
        story
            .lab
            .node(0)
            .ctl(&[
                "service",
                "update",
                "-d",
                "--image",
                &format!("web:{}", 3 - round),
                "roll",
            ])
            .unwrap();
        secret(story.lab.node(0), "update", &format!("version {round}"));
        let root = story
            .lab
            .node(0)
            .ctl(&["swarm", "ca", "--skip-unreachable", "-q"])
            .unwrap();
        until("one root on every node that is up", || {
            for index in 0..4 {
                let roots = roots(story.lab.node(index))?;
                ensure!(
                    roots == [root.trim()],
                    "node {index} has {} roots",
                    roots.len()
                );
            }
            Ok(())
        });
    }
    let last = roots(story.lab.node(0)).unwrap();
    assert_ne!(last, first);

    // It trusts only a root that two others have replaced since.
    story.lab.node_mut(4).power_on().unwrap();
    story.lab.node(4).start_daemon().unwrap();
    story.wait_nodes_ready(NODES).unwrap();
    until("the node that was down to have the last root", || {
        let roots = roots(story.lab.node(4))?;
        ensure!(roots == last, "it has {} roots", roots.len());
        Ok(())
    });
    story.wait_replicas("roll", "2/2").unwrap();
    let kept: BTreeMap<_, BTreeSet<_>> = pids(story.lab, 4)
        .into_iter()
        .map(|(name, pids)| (name, pids.into_iter().collect()))
        .collect();
    for (name, pids) in before {
        assert!(
            pids.iter().all(|pid| kept[&name].contains(pid)),
            "{name}: {pids:?} of {kept:?}"
        );
    }
    let history = ["service", "ps", "keep", "--format", "{{.Name}}"];
    assert_eq!(
        story.lab.node(0).ctl(&history).unwrap().lines().count(),
        4,
        "no task was replaced"
    );
    // Joining goes on with the new token, and the old one names a root that is gone.
    let token = story
        .lab
        .node(0)
        .ctl(&["join-token", "-q", "worker"])
        .unwrap();
    let index = story.lab.add_node().unwrap();
    story.lab.node(index).start_daemon().unwrap();
    let remote = format!("{}:2377", story.lab.node(0).address());
    story
        .lab
        .node(index)
        .ctl(&["join", "--token", token.trim(), &remote])
        .unwrap();
    story.wait_nodes_ready(NODES + 1).unwrap();
}

#[test]
fn short_lived_certificates_are_renewed_without_a_writer_noticing() {
    let life_s = from_environment("SWARM_TEST_CERT_LIFE", LIFE_DEFAULT_S);
    let renewals = from_environment("SWARM_TEST_RENEWALS", RENEWALS_DEFAULT);
    let Some(mut lab) = swarm_e2e::lab_with(&["--cert-expiry-min", "1"]) else {
        return;
    };
    lab.form_swarm(MANAGERS, WORKERS).unwrap();
    let mut silent = Silent;
    let story = Story::new(&mut lab, &mut silent, None);
    story.wait_nodes_ready(NODES).unwrap();
    // A new root has every node renew, from then on with short lives.
    let life = format!("{life_s}s");
    story
        .lab
        .node(0)
        .ctl(&["swarm", "ca", "--rotate", "-q", "--cert-expiry", &life])
        .unwrap();
    story
        .lab
        .node(0)
        .ctl(&words("service create -d --name web --replicas 0 web:1"))
        .unwrap();

    let lab = &*story.lab;
    let stop = AtomicBool::new(false);
    let (writes, seen) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_until(lab, &stop));
        let mut seen: Vec<BTreeSet<String>> = vec![BTreeSet::new(); NODES];
        let deadline =
            std::time::Instant::now() + Duration::from_secs(life_s * (renewals + 5) + 60);
        let mut told = 0;
        // The first certificate of each is not a renewal.
        while seen
            .iter()
            .any(|of_node| (of_node.len() as u64) < renewals + 1)
        {
            if stop.load(Ordering::Relaxed) || std::time::Instant::now() > deadline {
                break;
            }
            for (node, of_node) in lab.nodes().iter().zip(&mut seen) {
                let path = node.dir().join("state/certificates/swarm-node.crt");
                // It may be replaced at this very moment.
                of_node.extend(
                    fs::read_to_string(path)
                        .ok()
                        .filter(|it| it.contains("END")),
                );
            }
            let least = seen.iter().map(BTreeSet::len).min().unwrap_or(0);
            if least > told {
                told = least;
                println!("renewals of every node: {}", told.saturating_sub(1));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        stop.store(true, Ordering::Relaxed);
        (writer.join().unwrap(), seen)
    });
    let counts: Vec<_> = seen.iter().map(|of_node| of_node.len() - 1).collect();
    println!("life {life_s} s: {writes} writes, renewals by node {counts:?}");
    assert!(
        counts.iter().all(|count| *count as u64 >= renewals),
        "{counts:?}"
    );
    story.wait_nodes_ready(NODES).unwrap();
}

/// Writes until told to stop, and tells to stop when a write fails. Returns how often it wrote.
fn write_until(lab: &Lab, stop: &AtomicBool) -> usize {
    let mut writes = 0;
    while !stop.load(Ordering::Relaxed) {
        let label = format!("n={writes}");
        let write = ["service", "update", "-d", "--label-add", &label, "web"];
        // By every manager in turn, so that two of three writes cross the network.
        if let Err(error) = lab.node(writes % MANAGERS).ctl(&write) {
            stop.store(true, Ordering::Relaxed);
            panic!("write {writes}: {error:#}");
        }
        writes += 1;
        // Enough to fall into every change, and not so much that nothing else runs.
        std::thread::sleep(WRITE_PAUSE);
    }
    writes
}
