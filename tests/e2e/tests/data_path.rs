//! `--data-path-addr`: what containers send each other takes the wire it was given, and no other.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;
use std::time::Duration;

use harness::story::{Silent, Story};
use harness::{Lab, Node, wait_for};

/// Long enough for everything here on a loaded machine.
const STEP_MAX: Duration = Duration::from_secs(30);

/// Port the service has on every node.
const PORT: u16 = 8099;

#[track_caller]
fn ip(node: &Node, args: &[&str]) -> String {
    let output = Command::new("ip")
        .args(["-n", node.namespace()])
        .args(args)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {args:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// A second wire between two nodes, with addresses of both families.
fn lay_wire(lab: &Lab) {
    let (one, two) = (lab.node(0), lab.node(1));
    let there = two.namespace();
    ip(
        one,
        &[
            "link", "add", "data0", "type", "veth", "peer", "data0", "netns", there,
        ],
    );
    for (number, node) in [(1, one), (2, two)] {
        let addresses = [format!("10.88.0.{number}/24"), format!("fd88::{number}/64")];
        for address in &addresses {
            ip(node, &["addr", "add", address, "dev", "data0", "nodad"]);
        }
        ip(node, &["link", "set", "data0", "up"]);
    }
}

fn refused(node: &Node, args: &[&str], words: &str) {
    let output = node.ctl_command(args).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {stderr}");
    assert!(stderr.contains("data path address"), "{args:?}: {stderr}");
    assert!(stderr.contains(words), "{args:?}: {stderr}");
}

/// The first node told an interface, the second an address.
fn form(lab: &Lab) {
    let (one, two) = (lab.node(0), lab.node(1));
    let address = one.address().to_string();
    let init = ["init", "--advertise-addr", &address, "--data-path-addr"];
    refused(one, &[&init[..], &["data9"]].concat(), "nor an interface");
    refused(one, &[&init[..], &["data0:4789"]].concat(), "has a port");
    refused(one, &[&init[..], &["10.88.0.7"]].concat(), "10.88.0.1, ");
    refused(one, &[&init[..], &["fd88::7"]].concat(), "fd88::1");
    one.ctl(&[&init[..], &["data0"]].concat()).unwrap();
    let token = one.ctl(&["join-token", "-q", "worker"]).unwrap();
    let join = ["join", "--token", token.trim(), "--data-path-addr"];
    refused(two, &[&join[..], &["0.0.0.0", &address]].concat(), "send");
    two.ctl(&[&join[..], &["10.88.0.2", &address]].concat())
        .unwrap();
}

fn data_path_of(lab: &Lab, name: &str) -> String {
    let format = "{{json .Description.DataPathAddrs}}";
    let inspect = ["node", "inspect", "--format", format, name];
    lab.node(0).ctl(&inspect).unwrap().trim().to_owned()
}

/// Fetches the page of the service from outside, through a node that does not run it.
fn fetch_through_first(lab: &Lab) -> Result<String, String> {
    let page = lab.fetch(lab.node(0).address(), PORT, "/");
    page.map_err(|error| format!("{error:#}"))
}

#[test]
fn traffic_between_containers_takes_the_wire_it_was_given() {
    let Some(mut lab) = swarm_e2e::lab() else {
        return;
    };
    for _ in 0..2 {
        let index = lab.add_node().unwrap();
        lab.node(index).start_daemon().unwrap();
    }
    lay_wire(&lab);
    form(&lab);
    let mut silent = Silent;
    let mut story = Story::new(&mut lab, &mut silent, None);
    story.load_images().unwrap();
    story.wait_nodes_ready(2).unwrap();
    let create = "service create -d --name web --constraint node.hostname==n2 \
                  --publish 8099:8080 web:1";
    let create: Vec<&str> = create.split_whitespace().collect();
    story.lab.node(0).ctl(&create).unwrap();
    story.wait_replicas("web", "1/1").unwrap();

    assert_eq!(data_path_of(&lab, "n1"), r#"["10.88.0.1","fd88::1"]"#);
    assert_eq!(data_path_of(&lab, "n2"), r#"["10.88.0.2"]"#);
    let page = wait_for("a page", STEP_MAX, || Ok(fetch_through_first(&lab))).unwrap();
    assert!(page.contains("version 1"), "{page}");
    for (number, node) in [(1, lab.node(0)), (2, lab.node(1))] {
        let tunnels = ip(node, &["-d", "link", "show", "type", "vxlan"]);
        let own = format!("local 10.88.0.{number} ");
        let locals = tunnels.matches(" local ").count();
        assert!(
            locals > 0 && tunnels.matches(&own).count() == locals,
            "{tunnels}"
        );
    }

    // Managers and nodes go on hearing of each other over the other wire meanwhile.
    ip(lab.node(0), &["link", "set", "data0", "down"]);
    wait_for("the page to be out of reach", STEP_MAX, || {
        Ok(fetch_through_first(&lab).map_or(Ok(()), Err))
    })
    .unwrap();
    let nodes = lab.node(0).ctl(&["node", "ls"]).unwrap();
    assert_eq!(nodes.matches("Ready").count(), 2, "{nodes}");
    ip(lab.node(0), &["link", "set", "data0", "up"]);
    wait_for("the page to be back", STEP_MAX, || {
        Ok(fetch_through_first(&lab))
    })
    .unwrap();

    // What was chosen outlives the daemon.
    lab.node(1).stop_daemon(15).unwrap();
    lab.node(1).start_daemon().unwrap();
    let story = Story::new(&mut lab, &mut silent, None);
    story.wait_nodes_ready(2).unwrap();
    wait_for("the page again", STEP_MAX, || Ok(fetch_through_first(&lab))).unwrap();
    assert_eq!(data_path_of(&lab, "n2"), r#"["10.88.0.2"]"#);
}
