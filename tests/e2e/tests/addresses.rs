//! Addresses of networks: several subnets in one, none left, and back again, over a change of
//! leaders.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use harness::story::{Silent, Story, WEB_PORT};
use harness::{Lab, Probe, eventually, wait_for};

const WAIT_MAX: Duration = Duration::from_secs(30);

/// Two subnets with five addresses each that can be given out.
const SUBNETS: [&str; 2] = ["10.61.0.0/29", "10.62.0.0/29"];

fn ctl(lab: &Lab, node: usize, words: &str) -> String {
    let words: Vec<&str> = words.split_whitespace().collect();
    lab.node(node).ctl(&words).unwrap()
}

/// Addresses of each subnet that are free, as `network inspect` has them.
fn free(lab: &Lab, node: usize) -> Vec<u64> {
    let object = lab.node(node).ctl_json(&["network", "inspect", "tight"]);
    let object = object.unwrap();
    let subnets = object[0]["IPAM"]["Config"].as_array().unwrap();
    let free = subnets.iter().map(|one| one["Free"].as_u64().unwrap());
    free.collect()
}

/// Address of each task on the network, in whichever subnet it is.
fn addresses(tasks: &[Probe]) -> BTreeMap<String, IpAddr> {
    let address = |task: &Probe| {
        let found = SUBNETS.iter().find_map(|one| task.address_in(one).ok());
        found.unwrap_or_else(|| panic!("{} is on the network", task.name))
    };
    tasks
        .iter()
        .map(|task| (task.task.clone(), address(task)))
        .collect()
}

#[test]
fn subnets_reach_each_other_and_what_lacks_an_address_says_so_until_there_is_one() {
    let Some(mut lab) = swarm_e2e::lab() else {
        return;
    };
    lab.form_swarm(3, 0).unwrap();
    let mut silent = Silent;
    let mut story = Story::new(&mut lab, &mut silent, None);
    story.wait_nodes_ready(3).unwrap();
    story.load_images().unwrap();
    let leader = story.leader().unwrap();
    let create = format!(
        "network create -d overlay --subnet {} --subnet {} tight",
        SUBNETS[0], SUBNETS[1]
    );
    ctl(&lab, 0, &create);
    // Nine addresses: the tasks', and the service's own.
    ctl(
        &lab,
        0,
        "service create -d --name wide --network tight --replicas 8 web:1",
    );
    let tasks = Probe::of_service(&lab, 0, "wide", 8, WAIT_MAX).unwrap();
    let placed = addresses(&tasks);
    for subnet in ["10.61.", "10.62."] {
        let inside = |address: &&IpAddr| address.to_string().starts_with(subnet);
        let there = placed.values().filter(inside).count();
        assert!(there > 0, "nobody is in {subnet}: {placed:?}");
    }
    all_reach_all(&tasks, &placed);
    assert_eq!(
        free(&lab, 0).iter().sum::<u64>(),
        1,
        "nine of ten are given"
    );

    // One address is left, and that is the next service's own.
    ctl(
        &lab,
        0,
        "service create -d --name late --network tight --replicas 2 web:1",
    );
    says_that_none_is_left(&lab);

    // The next leader goes on where the last one was: nobody gets another's address.
    let asked = (leader + 1) % 3;
    // (Demoted and not switched off: what runs on a lost node keeps its address.)
    ctl(&lab, asked, &format!("node demote n{}", leader + 1));
    another_leads(&lab, asked, lab.node(leader).name());
    // Two addresses come back.
    ctl(&lab, asked, "service scale -d wide=6");
    let late = Probe::of_service(&lab, asked, "late", 2, WAIT_MAX).unwrap();
    let wide = Probe::of_service(&lab, asked, "wide", 6, WAIT_MAX).unwrap();
    let (late, wide) = (addresses(&late), addresses(&wide));
    let distinct: BTreeSet<IpAddr> = late.values().chain(wide.values()).copied().collect();
    assert_eq!(distinct.len(), 8, "{late:?} {wide:?}");
    for (task, address) in &wide {
        let before = placed.get(task);
        assert!(before.is_none_or(|it| it == address), "{task} kept its own");
    }
}

/// From each task to each other one, within its subnet and beyond.
fn all_reach_all(tasks: &[Probe], placed: &BTreeMap<String, IpAddr>) {
    for task in tasks {
        for (other, address) in placed {
            let at = SocketAddr::new(*address, WEB_PORT);
            eventually("every subnet to be reached", WAIT_MAX, || {
                Ok(task.who(at)?["host"] == other[..12])
            })
            .unwrap();
        }
    }
}

/// At the tasks that wait, and at the network.
fn says_that_none_is_left(lab: &Lab) {
    let node = lab.node(0);
    wait_for("the lack to be seen", WAIT_MAX, || {
        let format = "{{.CurrentState}} {{.Error}}";
        let seen = node.ctl(&["service", "ps", "--no-trunc", "--format", format, "late"])?;
        let says = |line: &str| {
            !line.starts_with("Running") && line.contains("network tight has no free address left")
        };
        let lines: Vec<&str> = seen.lines().collect();
        Ok(if lines.len() == 2 && lines.iter().all(|line| says(line)) {
            Ok(())
        } else {
            Err(seen)
        })
    })
    .unwrap();
    let network = node.ctl_json(&["network", "inspect", "tight"]).unwrap();
    let problem = network[0]["Problem"].to_string();
    assert!(problem.contains("no free address"), "{problem}");
}

fn another_leads(lab: &Lab, asked: usize, former: &str) {
    eventually("another leader", WAIT_MAX, || {
        let format = "{{.Hostname}} {{.ManagerStatus}}";
        let list = lab.node(asked).ctl(&["node", "ls", "--format", format])?;
        let mut leaders = list.lines().filter(|line| line.ends_with(" Leader"));
        Ok(leaders.any(|line| !line.starts_with(former)))
    })
    .unwrap();
}
