//! Bad input: one clear sentence, the right exit code, nothing half-done.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Output;
use std::time::Duration;

use harness::story::{Silent, Story};
use harness::{Lab, Node, eventually, wait_for};

/// Runs swarmctl and expects it to fail with this code, saying one of these words.
#[track_caller]
fn refused(node: &Node, args: &[&str], code: i32, words: &str) {
    let Output { status, stderr, .. } = node.ctl_command(args).output().unwrap();
    let stderr = String::from_utf8_lossy(&stderr);
    assert_eq!(status.code(), Some(code), "{args:?}: {stderr}");
    assert!(
        stderr.to_lowercase().contains(&words.to_lowercase()),
        "{args:?} should mention {words:?}: {stderr}"
    );
    assert!(!stderr.contains("panicked"), "{stderr}");
}

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

fn one_manager(lab: &mut Lab) {
    lab.form_swarm(1, 0).unwrap();
    let mut silent = Silent;
    let mut story = Story::new(lab, &mut silent, None);
    story.load_images().unwrap();
    story.wait_nodes_ready(1).unwrap();
}

#[test]
fn membership() {
    let Some(mut lab) = swarm_e2e::lab() else {
        return;
    };
    one_manager(&mut lab);
    let second = lab.add_node().unwrap();
    lab.node(second).start_daemon().unwrap();
    let (manager, other) = (lab.node(0), lab.node(second));
    let token = manager.ctl(&["join-token", "-q", "worker"]).unwrap();
    let token = token.trim();
    let remote = format!("{}:2377", manager.address());

    refused(manager, &["init"], 1, "already part of a swarm");
    refused(
        manager,
        &["join", "--token", token, &remote],
        1,
        "already part of a swarm",
    );
    refused(other, &["node", "ls"], 1, "not a swarm manager");
    refused(other, &["leave"], 1, "not part of a swarm");

    let join = |token: &str, words: &str| {
        refused(other, &["join", "--token", token, &remote], 1, words);
    };
    join("nonsense", "token");
    join(&token[..token.len() - 1], "token");
    // Right root, wrong secret.
    let wrong_secret = format!("{}{}", &token[..token.len() - 25], "0".repeat(25));
    join(&wrong_secret, "token");
    // A token of another cluster: its digest does not match this root.
    let foreign = format!("SWMTKN-1-{}-{}", "1".repeat(50), &token[token.len() - 25..]);
    join(&foreign, "root");
    let nobody = "10.77.0.200:2377";
    refused(other, &["join", "--token", token, nobody], 1, "10.77.0.200");
    let status = other
        .ctl(&["info", "--format", "{{.Swarm.LocalNodeState}}"])
        .unwrap();
    assert_eq!(status.trim(), "inactive", "nothing was half-joined");

    other.ctl(&["join", "--token", token, &remote]).unwrap();
    refused(manager, &["leave"], 1, "--force");
    refused(manager, &["node", "demote", "n1"], 1, "last manager");
    refused(manager, &["node", "rm", "n2"], 1, "not down");
    refused(manager, &["node", "rm", "n1"], 1, "manager");
    refused(manager, &["node", "inspect", "nobody"], 1, "not found");
}

#[test]
fn services() {
    let Some(mut lab) = swarm_e2e::lab() else {
        return;
    };
    one_manager(&mut lab);
    let node = lab.node(0);
    node.ctl(&words("service create -d --name taken --replicas 0 web:1"))
        .unwrap();
    let table = [
        ("service create -d --name taken web:1", 1, "name conflicts"),
        ("service create -d --name under_score! web:1", 1, "name"),
        ("service create -d --name UPPER/slash web:1", 1, "name"),
        (
            "service create -d --constraint node.role=worker web:1",
            1,
            "constraint",
        ),
        (
            "service create -d --constraint node.role~=worker web:1",
            1,
            "constraint",
        ),
        ("service create -d --replicas -1 web:1", 2, "replicas"),
        (
            "service create -d --replicas 99999999999999999999 web:1",
            2,
            "replicas",
        ),
        ("service create -d --limit-memory 1k web:1", 1, "memory"),
        (
            "service create -d --restart-condition sometimes web:1",
            2,
            "restart-condition",
        ),
        ("service create -d Not:A:Reference", 1, "reference"),
        (
            "service create -d --mount type=bind,target=/a web:1",
            1,
            "source",
        ),
        ("service scale nowhere=3", 1, "not found"),
        ("service scale taken=-3", 2, "replicas"),
        ("service inspect nowhere", 1, "not found"),
        ("service rm nowhere", 1, "not found"),
        ("service rollback taken", 1, "previous spec"),
        ("service logs nowhere", 1, "not found"),
        ("no-such-verb", 2, "no-such-verb"),
    ];
    for (line, code, expected) in table {
        refused(node, &words(line), code, expected);
    }
    let names = node
        .ctl(&["service", "ls", "--format", "{{.Name}}"])
        .unwrap();
    assert_eq!(
        names.trim(),
        "taken",
        "nothing was created by a refused command"
    );
}

/// Refusals about networks and ports: the command, its exit code, what to do instead.
const NETWORKS: &[(&str, i32, &str)] = &[
    ("network create taken", 1, "already exists"),
    ("network create host", 1, "already exists"),
    ("network create a/b", 1, "DNS name component"),
    (
        "network create -d weave x",
        2,
        "use overlay, bridge, macvlan",
    ),
    ("network create -d host x", 1, "choose the driver overlay"),
    ("network create --ipv4=false x", 1, "add IPv6 with --ipv6"),
    ("network create --subnet 10.0.0 x", 2, "subnet"),
    (
        "network create --subnet 10.0.0.0/31 x",
        1,
        "ipam configuration",
    ),
    (
        "network create --subnet 10.70.0.0/25 x",
        1,
        "choose another subnet",
    ),
    ("network create --subnet fd00:7::/64 x", 1, "--ipv6"),
    (
        "network create --subnet 10.71.0.0/24 --gateway 10.72.0.1 x",
        2,
        "add a --subnet that holds it",
    ),
    (
        "network create --subnet 10.71.0.0/24 --ip-range 10.72.0.0/25 x",
        2,
        "add a --subnet that holds it",
    ),
    ("network create --opt encrypt x", 1, "it knows encrypted"),
    ("network create --opt mtu=12 x", 1, "576 to 65535"),
    ("network create --ingress x", 1, "remove it first"),
    (
        "network create --ingress --attachable x",
        1,
        "cannot be attachable",
    ),
    ("network create -d macvlan x", 1, "--opt parent=NAME"),
    (
        "network create -d bridge --opt encrypted x",
        1,
        "use -d overlay",
    ),
    ("network create --config-only x", 1, "with -d"),
    (
        "network create -d bridge --config-from taken x",
        1,
        "--config-only",
    ),
    (
        "network create -d bridge --config-from wire x",
        1,
        "use -d macvlan",
    ),
    (
        "network create --label com.docker.swarm.predefined=1 x",
        1,
        "leave it out",
    ),
    ("network rm taken", 1, "--network-rm"),
    ("network rm wire", 1, "remove that first"),
    ("network rm bridge", 1, "predefined network"),
    ("network rm ingress", 1, "in use by service"),
    ("network inspect nowhere", 1, "not found"),
    (
        "network connect taken user.1",
        1,
        "network create --attachable",
    ),
    ("network disconnect taken user.1", 1, "--network-rm taken"),
    ("service create -d --network nowhere web:1", 1, "not found"),
    (
        "service create -d --network ingress web:1",
        1,
        "publish a port",
    ),
    (
        "service create -d --network wire web:1",
        1,
        "--config-from wire",
    ),
    (
        "service create -d --network taken --network taken web:1",
        1,
        "twice",
    ),
    (
        "service create -d --publish 8080:80 web:1",
        1,
        "service user",
    ),
    (
        "service create -d --publish 1:1 --publish 1:2 web:1",
        1,
        "duplicate",
    ),
    (
        "service create -d --publish published=90,target=80,host-ip=0.0.0.0 web:1",
        1,
        "leave it out",
    ),
    (
        "service create -d --publish 0.0.0.0:90:80 web:1",
        2,
        "host-ip=ADDRESS",
    ),
    ("service create -d --publish 99999:80 web:1", 2, "99999"),
    (
        "service create -d --endpoint-mode dnsrr --publish 81:80 web:1",
        1,
        "use mode=host",
    ),
    (
        "service create -d --network host --publish 82:80 web:1",
        1,
        "routing mesh",
    ),
    (
        "service create -d --dns 0.0.0.0 web:1",
        1,
        "address of one server",
    ),
    (
        "service create -d --dns-option a,b,c=\u{e9} web:1",
        1,
        "like ndots:2",
    ),
    ("service create -d --host db web:1", 2, "NAME:IP"),
    (
        "service update -d --publish-add 83:80 --endpoint-mode dnsrr user",
        1,
        "mode=host",
    ),
];

#[test]
fn networks() {
    let Some(mut lab) = swarm_e2e::lab() else {
        return;
    };
    one_manager(&mut lab);
    let node = lab.node(0);
    for line in [
        "network create --subnet 10.70.0.0/24 taken",
        "network create -d macvlan --config-only --opt parent=eth0 wire",
        "network create -d macvlan --config-from wire lan",
        "service create -d --name user --network taken --publish 8080:8080 web:1",
    ] {
        node.ctl(&words(line)).unwrap();
    }
    wait_for("the task to run", Duration::from_secs(20), || {
        let tasks = node.ctl(&["service", "ps", "user", "--format", "{{.CurrentState}}"])?;
        Ok(if tasks.starts_with("Running") {
            Ok(())
        } else {
            Err(tasks)
        })
    })
    .unwrap();
    let names = |kind| node.ctl(&[kind, "ls", "--format", "{{.Name}}"]).unwrap();
    let before = (names("network"), names("service"));
    let mut wrong = vec![];
    for (line, code, expected) in NETWORKS {
        let output = node.ctl_command(&words(line)).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let is_said = stderr.to_lowercase().contains(&expected.to_lowercase());
        if output.status.code() != Some(*code) || !is_said || stderr.contains("panicked") {
            wrong.push(format!("{line}: {:?} {stderr}", output.status.code()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!((names("network"), names("service")), before);
}

#[test]
fn an_image_that_is_missing_rejects_the_task_and_says_so() {
    let Some(mut lab) = swarm_e2e::lab() else {
        return;
    };
    one_manager(&mut lab);
    let node = lab.node(0);
    node.ctl(&words(
        "service create -d --name ghost --restart-condition none nowhere:9",
    ))
    .unwrap();
    wait_for("the task to be rejected", Duration::from_secs(20), || {
        let tasks = ["service", "ps", "--no-trunc", "ghost", "--format"];
        let tasks = node.ctl(&[&tasks[..], &["{{.CurrentState}} {{.Error}}"]].concat())?;
        let rejected = tasks.starts_with("Rejected") && tasks.contains("nowhere:9");
        Ok(if rejected { Ok(()) } else { Err(tasks) })
    })
    .unwrap();
}

#[test]
fn images() {
    let Some(mut lab) = swarm_e2e::lab() else {
        return;
    };
    one_manager(&mut lab);
    let node = lab.node(0);
    let good = std::fs::read(lab.dir().join("web-1.tar")).unwrap();
    let before = node.ctl(&["image", "ls", "-q", "--no-trunc"]).unwrap();
    let load = |name: &str, bytes: &[u8], expected: &str| {
        let path = lab.dir().join(name);
        std::fs::write(&path, bytes).unwrap();
        refused(
            node,
            &["image", "load", &path.to_string_lossy()],
            1,
            expected,
        );
    };
    load("truncated.tar", &good[..good.len() / 2], "");
    load("empty.tar", b"", "");
    load("noise.tar", &[7; 4096], "");
    // Flip a byte in the middle of the layer: its digest no longer holds.
    let mut lying = good.clone();
    let middle = lying.len() / 2;
    lying[middle] ^= 0xff;
    load("lying.tar", &lying, "digest");
    refused(
        node,
        &["image", "load", "/no/such/file"],
        1,
        "/no/such/file",
    );
    refused(node, &["image", "inspect", "nowhere"], 1, "nowhere");
    let create = words("service create -d --name user web:1");
    node.ctl(&create).unwrap();
    eventually("a container made from it", Duration::from_secs(20), || {
        Ok(!node.pids_of("web")?.is_empty())
    })
    .unwrap();
    refused(node, &["image", "rm", "web:1"], 1, "use");
    assert_eq!(
        node.ctl(&["image", "ls", "-q", "--no-trunc"]).unwrap(),
        before
    );
}

#[test]
fn a_second_daemon_on_one_directory_is_refused() {
    let Some(mut lab) = swarm_e2e::lab() else {
        return;
    };
    let index = lab.add_node().unwrap();
    let node = lab.node(index);
    node.start_daemon().unwrap();
    let output = std::process::Command::new(&lab.programs().swarmd)
        .args(["--state-dir", &node.dir().join("state").to_string_lossy()])
        .args(["--socket", &node.dir().join("other.sock").to_string_lossy()])
        .arg("--shim")
        .arg(&lab.programs().shim)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("in use") || stderr.contains("already"),
        "{stderr}"
    );
    node.ctl(&["info"]).unwrap();
}
