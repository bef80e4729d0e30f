//! `swarmctl network verify` on real daemons: what is damaged is found, named, repaired and counted;
//! a node that is down is named.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::story::{Silent, Story};
use harness::{Lab, Probe, wait_for};
use serde_json::Value;

const WAIT_MAX: Duration = Duration::from_secs(30);

fn ctl(lab: &Lab, words: &str) -> Result<String> {
    let words: Vec<&str> = words.split_whitespace().collect();
    lab.node(0).ctl(&words)
}

/// What each node says, in order; and whether the command was content.
fn verify(lab: &Lab, asked: usize, words: &[&str]) -> (Vec<Value>, bool) {
    let words = [&["network", "verify", "--format", "json"], words].concat();
    let output = lab.node(asked).ctl_command(&words).output().unwrap();
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let nodes = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    (nodes.collect(), output.status.success())
}

/// Waits until every node says that nothing differs.
fn is_good(lab: &Lab) {
    wait_for("all nodes to be as they should be", WAIT_MAX, || {
        let (nodes, good) = verify(lab, 0, &[]);
        ensure!(nodes.len() == lab.nodes().len(), "{nodes:?}");
        Ok(if good {
            Ok(())
        } else {
            Err(format!("{nodes:?}"))
        })
    })
    .unwrap();
}

fn shell(lab: &Lab, node: usize, words: &str) -> Result<()> {
    lab.node(node).inside(|| run(words))
}

fn run(words: &str) -> Result<()> {
    let mut words = words.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(())
}

#[test]
fn damage_is_found_named_repaired_and_counted() {
    let Some(mut lab) = swarm_e2e::lab() else {
        return;
    };
    lab.form_swarm(2, 1).unwrap();
    let mut silent = Silent;
    let mut story = Story::new(&mut lab, &mut silent, None);
    story.wait_nodes_ready(3).unwrap();
    story.load_images().unwrap();
    ctl(
        &lab,
        "network create -d overlay --subnet 10.70.0.0/24 front",
    )
    .unwrap();
    ctl(&lab, "network create -d overlay back").unwrap();
    let create = "service create -d --replicas 3 --replicas-max-per-node 1 --network front";
    ctl(&lab, &format!("{create} --name web web:1")).unwrap();
    let web = Probe::of_service(&lab, 0, "web", 3, WAIT_MAX).unwrap();
    is_good(&lab);

    let network = ctl(&lab, "network inspect --format {{.Id}} front").unwrap();
    let bridge = format!("sw-o{}", &network.trim()[15..]);
    let on_second = web.iter().find(|task| task.node == 1).unwrap();
    let address = on_second.address_in("10.70.0.0/24").unwrap();
    // Nobody is told of what happens inside of a container.
    on_second
        .ip(&["addr", "del", &format!("{address}/24"), "dev", "eth0"])
        .unwrap();
    shell(&lab, 2, &format!("ip link del {bridge}")).unwrap();
    let (nodes, good) = verify(&lab, 1, &[]);
    assert!(!good);
    let text = |node: usize| nodes[node]["Details"]["Found"].to_string();
    assert_eq!(nodes[0]["State"], "good", "{nodes:?}");
    assert_eq!(nodes[1]["State"], "repaired", "{nodes:?}");
    assert!(
        text(1).contains(&format!("add {address}/24 to eth0")),
        "{}",
        text(1)
    );
    assert_eq!(nodes[1]["Details"]["Repairs"]["inside"], 1);
    is_good(&lab);
    // What happens to links the kernel tells; the pass it causes may have been first.
    let (nodes, _) = verify(&lab, 0, &[]);
    assert_ne!(nodes[2]["Details"]["Repairs"]["link"], 0, "{nodes:?}");
    assert_eq!(nodes[0]["Records"], nodes[1]["Records"]);
    for task in &web {
        let who = task.who(std::net::SocketAddr::new(address, 8080)).unwrap();
        assert_eq!(who["host"], on_second.task[..12]);
    }

    // Only nodes with tasks on it are asked about a network.
    assert_eq!(verify(&lab, 0, &["front"]).0.len(), 3);
    assert_eq!(verify(&lab, 0, &["back"]).0.len(), 0);
    let refused = ctl(&lab, "network verify nope").unwrap_err().to_string();
    assert!(refused.contains("network nope not found"), "{refused}");

    lab.node_mut(2).power_off();
    wait_for("the node to be held for down", WAIT_MAX, || {
        let (nodes, good) = verify(&lab, 0, &[]);
        ensure!(!good, "{nodes:?}");
        let problem = nodes[2]["Problem"].as_str().unwrap_or("");
        Ok(if problem == "the node is down" {
            Ok(())
        } else {
            Err(format!("{nodes:?}"))
        })
    })
    .unwrap();
    let said = ctl(&lab, "network verify").unwrap_err().to_string();
    assert!(
        said.contains("1 of 3 nodes were not as they should be: n3"),
        "{said}"
    );
}
