//! Published ports lead to tasks that work, and tasks that end finish what they began.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::image::{ImageRecipe, write_archive};
use harness::story::{Silent, Story};
use harness::{Lab, wait_for};
use swarm_e2e::calls::{self, Conversation};

const NODES: usize = 3;
const PATIENCE: Duration = Duration::from_secs(20);

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

/// One manager and two workers, and the example's image with a check of its health.
fn form(lab: &mut Lab) {
    lab.form_swarm(1, NODES - 1).unwrap();
    let mut silent = Silent;
    let mut story = Story::new(lab, &mut silent, None);
    story.wait_nodes_ready(NODES).unwrap();
    story.load_images().unwrap();
    let archive = lab.dir().join("checked.tar");
    let recipe = ImageRecipe {
        name: "checked:1",
        program: &lab.programs().web,
        command: &["/bin/web"],
        env: &[],
        check: &["/bin/web", "check"],
    };
    write_archive(&recipe, &archive).unwrap();
    for node in lab.nodes() {
        node.ctl(&["image", "load", &archive.to_string_lossy()])
            .unwrap();
    }
}

#[track_caller]
fn settled(what: &str, call: impl Fn() -> Result<()>) {
    wait_for(what, PATIENCE, || call().map(Ok)).unwrap();
}

fn at(lab: &Lab, port: u16) -> Vec<SocketAddr> {
    let nodes = lab.nodes().iter();
    let both = nodes.flat_map(|node| [node.address(), node.address_v6()]);
    both.map(|address| SocketAddr::new(address, port)).collect()
}

/// Nodes whose tasks answer, whichever node is called.
fn answering(lab: &Lab, port: u16) -> Result<BTreeSet<String>> {
    let mut answering = BTreeSet::new();
    for at in at(lab, port) {
        for _ in 0..2 * NODES {
            let host = lab.outside(|| calls::who(at))?.host;
            answering.extend(host.split('/').next().map(str::to_owned));
        }
    }
    Ok(answering)
}

/// Waits until these are the nodes whose tasks answer, and nobody calls in vain.
#[track_caller]
fn settled_on(lab: &Lab, port: u16, nodes: &[usize]) {
    let expected: BTreeSet<String> = nodes
        .iter()
        .map(|node| lab.node(*node).name().to_owned())
        .collect();
    settled(&format!("answers of {expected:?}"), || {
        for _ in 0..2 {
            let found = answering(lab, port)?;
            ensure!(found == expected, "{found:?}");
        }
        Ok(())
    });
}

#[track_caller]
fn settled_closed(lab: &Lab, port: u16) {
    settled("the port to be closed on every node", || {
        for at in at(lab, port) {
            ensure!(lab.outside(|| calls::is_refused(at))?, "{at} is open");
        }
        Ok(())
    });
}

#[test]
fn only_tasks_that_work_are_called() {
    let Some(mut lab) = swarm_e2e::lab() else {
        return;
    };
    form(&mut lab);
    let dir = lab.dir().join("ready");
    std::fs::create_dir(&dir).unwrap();
    let file = |node: usize| -> PathBuf { dir.join(lab.node(node).name()) };
    let create = format!(
        "service create -d --name web --mode global --restart-delay 0s --publish 8080:8080 \
         --mount type=bind,source={},target=/ready --env READY_FILE=/ready/{{{{.Node.Hostname}}}} \
         --env NAME={{{{.Node.Hostname}}}}/{{{{.Task.ID}}}} --health-start-period 60s \
         --health-start-interval 100ms --health-retries 1 --stop-grace-period 2s checked:1",
        dir.display()
    );
    lab.node(0).ctl(&words(&create)).unwrap();
    wait_for("all containers to run", PATIENCE, || {
        for node in lab.nodes() {
            ensure!(node.pids_of("web")?.len() == 1, "{} has none", node.name());
        }
        Ok(Ok(()))
    })
    .unwrap();
    // They run, but none says that it works.
    settled_closed(&lab, 8080);
    std::fs::write(file(0), "").unwrap();
    settled_on(&lab, 8080, &[0]);
    std::fs::write(file(1), "").unwrap();
    settled_on(&lab, 8080, &[0, 1]);
    // One that works no more is called no more, and neither is what takes its place.
    std::fs::remove_file(file(0)).unwrap();
    settled_on(&lab, 8080, &[1]);
    std::fs::write(file(0), "").unwrap();
    std::fs::write(file(2), "").unwrap();
    settled_on(&lab, 8080, &[0, 1, 2]);
    lab.node(0).ctl(&["service", "rm", "web"]).unwrap();
    settled_closed(&lab, 8080);
}

#[test]
fn what_was_begun_is_finished() {
    let Some(mut lab) = swarm_e2e::lab() else {
        return;
    };
    form(&mut lab);
    let create = "service create -d --name web --replicas 2 --constraint node.hostname!=n1 \
                  --replicas-max-per-node 1 --env NAME={{.Node.Hostname}}/{{.Task.ID}} \
                  --publish 8080:8080 web:1";
    lab.node(0).ctl(&words(create)).unwrap();
    settled_on(&lab, 8080, &[1, 2]);
    // Through every node, those without a task too, while the service shrinks and then goes.
    for (command, left) in [("service scale -d web=1", 1), ("service rm web", 0)] {
        let mut begun = Vec::new();
        for at in at(&lab, 8080) {
            for _ in 0..2 {
                let open = lab.outside(|| {
                    let mut open = Conversation::with(at)?;
                    open.ask("GET /who")?;
                    open.send("GET /slow/2500", "close", &[])?;
                    Ok(open)
                });
                begun.push((at, open.unwrap()));
            }
        }
        lab.node(0).ctl(&words(command)).unwrap();
        settled("the rest to be called alone", || {
            for at in at(&lab, 8080) {
                if left == 0 {
                    ensure!(lab.outside(|| calls::is_refused(at))?, "{at} is open");
                }
            }
            ensure!(left == 0 || answering(&lab, 8080)?.len() == left);
            Ok(())
        });
        for (at, mut open) in begun {
            let answer = open.answer();
            let answer = answer.unwrap_or_else(|error| panic!("{command}, by {at}: {error:#}"));
            assert!(answer.starts_with("hello from"), "{answer}");
        }
    }
    settled("the nodes to be empty", || {
        for node in lab.nodes() {
            let pids = node.pids_of("web")?;
            ensure!(pids.is_empty(), "{} runs {pids:?}", node.name());
        }
        Ok(())
    });
}
