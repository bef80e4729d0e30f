//! Nothing is lost while daemons are restarted and a service is updated, one after the other.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::time::Duration;

use harness::image::{ImageRecipe, write_archive};
use harness::story::{MANAGERS, Silent, Story, WORKERS};
use harness::{Lab, eventually, wait_for};
use swarm_e2e::calls;
use swarm_e2e::load::{Load, Outcome};

const NODES: usize = MANAGERS + WORKERS;
const PORT: u16 = 8080;
const PATIENCE: Duration = Duration::from_secs(30);

/// Requests that are to be answered between two disturbances.
const ANSWERS_BETWEEN: u64 = 100;

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

/// Images of the example that are checked for health, in two versions.
fn load_images(lab: &Lab) {
    for version in ["1", "2"] {
        let archive = lab.dir().join(format!("checked-{version}.tar"));
        let recipe = ImageRecipe {
            name: &format!("checked:{version}"),
            program: &lab.programs().web,
            command: &["/bin/web"],
            env: &[&format!("VERSION={version}")],
            check: &["/bin/web", "check"],
        };
        write_archive(&recipe, &archive).unwrap();
        for node in lab.nodes() {
            node.ctl(&["image", "load", &archive.to_string_lossy()])
                .unwrap();
        }
    }
}

/// Five nodes, a service of five replicas on them, and all its addresses.
fn serve(lab: &mut Lab) -> Vec<SocketAddr> {
    let mut silent = Silent;
    let mut story = Story::new(lab, &mut silent, None);
    story.form().unwrap();
    load_images(story.lab);
    let create = "service create -d --name web --replicas 5 --publish 8080:8080 \
                  --update-order start-first --update-monitor 500ms --restart-delay 0s checked:1";
    story.lab.node(0).ctl(&words(create)).unwrap();
    story.wait_replicas("web", "5/5").unwrap();
    let nodes = lab.nodes().iter();
    let addresses = nodes.flat_map(|node| [node.address(), node.address_v6()]);
    let at: Vec<_> = addresses.map(|one| SocketAddr::new(one, PORT)).collect();
    for at in &at {
        wait_for("an answer", PATIENCE, || {
            lab.outside(|| calls::who(*at)).map(Ok)
        })
        .unwrap();
    }
    at
}

fn breathe(load: &Load) {
    let enough = load.answers() + ANSWERS_BETWEEN;
    eventually("more answers", PATIENCE, || Ok(load.answers() >= enough)).unwrap();
}

fn nothing_lost(what: &str, outcome: &Outcome) {
    let Outcome {
        answers,
        lasted,
        reconnects,
        lost,
    } = outcome;
    println!("{what}: {answers} answers in {lasted:.1?}, {reconnects} connections moved");
    assert!(lost.is_empty(), "{what}: {} lost: {lost:#?}", lost.len());
}

#[test]
fn restarts_and_updates_lose_no_request() {
    let Some(mut lab) = swarm_e2e::lab() else {
        return;
    };
    let at = serve(&mut lab);

    let load = Load::start(&lab, &at);
    breathe(&load);
    for signal in [15, 9] {
        for index in 0..NODES {
            lab.node(index).stop_daemon(signal).unwrap();
            breathe(&load);
            lab.node(index).start_daemon().unwrap();
            let mut silent = Silent;
            let story = Story::new(&mut lab, &mut silent, None);
            story.wait_nodes_ready(NODES).unwrap();
            breathe(&load);
        }
    }
    nothing_lost("restarts", &load.stop().unwrap());

    let load = Load::start(&lab, &at);
    breathe(&load);
    lab.node(0)
        .ctl(&words("service update -d --image checked:2 web"))
        .unwrap();
    wait_for("the update", 2 * PATIENCE, || {
        let status = lab.node(0).ctl_json(&["service", "inspect", "web"])?;
        let state = status[0]["UpdateStatus"]["State"].clone();
        Ok(if state == "completed" {
            Ok(())
        } else {
            Err(state.to_string())
        })
    })
    .unwrap();
    breathe(&load);
    let outcome = load.stop().unwrap();
    nothing_lost("an update", &outcome);
    assert!(
        outcome.reconnects > 0,
        "connections stayed with tasks that ended"
    );
    for at in at {
        assert_eq!(lab.outside(|| calls::who(at)).unwrap().version, "2");
    }
}
