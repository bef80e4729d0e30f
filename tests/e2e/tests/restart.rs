//! Restarting and replacing the daemon leaves every container running.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use harness::story::{MANAGERS, Silent, Story, WORKERS};
use harness::{Lab, wait_for};

/// Containers of every node by pid, which only change when a container was replaced.
fn containers(lab: &Lab) -> Result<BTreeMap<String, Vec<u32>>> {
    lab.nodes()
        .iter()
        .map(|node| {
            let mut pids = node.pids_of("web")?;
            pids.sort_unstable();
            Ok((node.name().to_owned(), pids))
        })
        .collect()
}

#[test]
fn containers_outlive_their_daemon_on_every_node() {
    let Some(mut lab) = swarm_e2e::lab() else {
        return;
    };
    let mut silent = Silent;
    let mut story = Story::new(&mut lab, &mut silent, None);
    story.form().unwrap();
    story.load_images().unwrap();
    story.create_web().unwrap();
    let before = containers(story.lab).unwrap();
    assert!(before.values().all(|pids| pids.len() == 1), "{before:?}");

    // Killed, then stopped politely: neither may touch a container.
    for signal in [9, 15] {
        for index in 0..MANAGERS + WORKERS {
            story.lab.node(index).stop_daemon(signal).unwrap();
            story.lab.node(index).start_daemon().unwrap();
            story.wait_nodes_ready(MANAGERS + WORKERS).unwrap();
        }
        story.wait_replicas("web", "5/5").unwrap();
        assert_eq!(
            containers(story.lab).unwrap(),
            before,
            "after signal {signal}"
        );
    }
    let history = [
        "service",
        "ps",
        "web",
        "--format",
        "{{.Name}} {{.CurrentState}}",
    ];
    let tasks = story.manager().unwrap().ctl(&history).unwrap();
    assert_eq!(tasks.lines().count(), 5, "no task was replaced:\n{tasks}");
}

#[test]
fn a_container_that_ended_while_the_daemon_was_away_is_noticed() {
    let Some(mut lab) = swarm_e2e::lab() else {
        return;
    };
    lab.form_swarm(1, 0).unwrap();
    let mut silent = Silent;
    let mut story = Story::new(&mut lab, &mut silent, None);
    story.load_images().unwrap();
    let create = "service create -d --name one --restart-delay 0s web:1";
    story
        .lab
        .node(0)
        .ctl(&create.split(' ').collect::<Vec<_>>())
        .unwrap();
    story.wait_replicas("one", "1/1").unwrap();

    let node = story.lab.node(0);
    let old = node.pids_of("web").unwrap();
    node.stop_daemon(9).unwrap();
    node.signal(old[0], 9).unwrap();
    node.start_daemon().unwrap();
    wait_for("the replacement", Duration::from_secs(20), || {
        let now = node.pids_of("web")?;
        Ok(if now.len() == 1 && now != old {
            Ok(())
        } else {
            Err(format!("{now:?}"))
        })
    })
    .unwrap();
}
