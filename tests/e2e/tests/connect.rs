//! What users change of a task's network life: further networks while it runs, and whom it asks
//! for names.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::Context as _;
use harness::story::{Silent, Story, WEB_PORT};
use harness::{Lab, Probe, wait_for};

const WAIT_MAX: Duration = Duration::from_secs(30);

/// The network tasks are connected to.
const SIDE: &str = "10.60.0.0/24";

fn swarm() -> Option<Lab> {
    let mut lab = swarm_e2e::lab()?;
    lab.form_swarm(1, 1).unwrap();
    let mut silent = Silent;
    let mut story = Story::new(&mut lab, &mut silent, None);
    story.wait_nodes_ready(2).unwrap();
    story.load_images().unwrap();
    Some(lab)
}

fn ctl(lab: &Lab, words: &str) -> String {
    let words: Vec<&str> = words.split_whitespace().collect();
    lab.node(0).ctl(&words).unwrap()
}

#[track_caller]
fn refused(lab: &Lab, words: &str, expected: &str) {
    let words: Vec<&str> = words.split_whitespace().collect();
    let output = lab.node(0).ctl_command(&words).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{words:?}: {stderr}");
    assert!(stderr.contains(expected), "{words:?}: {stderr}");
}

fn task(lab: &Lab, service: &str) -> Probe {
    let mut tasks = Probe::of_service(lab, 0, service, 1, WAIT_MAX).unwrap();
    tasks.pop().unwrap()
}

/// Waits until the task has an address in the network, and says which.
fn address_in(task: &Probe, subnet: &str) -> IpAddr {
    wait_for("an address on the network", WAIT_MAX, || {
        Ok(task
            .address_in(subnet)
            .map_err(|error| format!("{error:#}")))
    })
    .unwrap()
}

/// Waits until the one who answers at an address is this task.
fn reaches(task: &Probe, address: IpAddr, other: &Probe) {
    let at = SocketAddr::new(address, WEB_PORT);
    let who = wait_for("an answer over the network", WAIT_MAX, || {
        Ok(task.who(at).map_err(|error| format!("{error:#}")))
    });
    assert_eq!(who.unwrap()["host"], other.task[..12]);
}

/// Waits until a name means these addresses to a task.
fn means(task: &Probe, name: &str, wanted: &[IpAddr]) {
    wait_for(&format!("{name} to mean {wanted:?}"), WAIT_MAX, || {
        let found = task.addresses_of(name);
        Ok(match found {
            Ok(found) if found == wanted => Ok(()),
            other => Err(format!("{other:?}")),
        })
    })
    .unwrap();
}

fn refusals(lab: &Lab) {
    refused(lab, "network connect plain bare.1", "is not attachable");
    refused(lab, "network connect ingress bare.1", "is not attachable");
    refused(lab, "network connect bridge bare.1", "predefined network");
    refused(lab, "network connect nowhere bare.1", "nowhere not found");
    refused(lab, "network connect side nobody.1", "nobody.1 not found");
    refused(lab, "network connect side stack.1", "goes with no other");
    let ip = "network connect side bare.1 --ip";
    refused(
        lab,
        &format!("{ip} 10.61.0.9"),
        "in no subnet of network side",
    );
    refused(
        lab,
        &format!("{ip} 10.60.0.1"),
        "no address that network side gives",
    );
    let alias = "network connect side bare.1 --alias a.b";
    refused(lab, alias, "must be valid as a DNS name component");
    refused(
        lab,
        "network disconnect side bare.1",
        "is not on network side",
    );
    refused(
        lab,
        "network disconnect plain on.1",
        "update the service with",
    );
}

#[test]
fn running_tasks_are_connected_and_disconnected() {
    let Some(lab) = swarm() else {
        return;
    };
    ctl(
        &lab,
        &format!("network create --attachable --subnet {SIDE} side"),
    );
    ctl(&lab, "network create --subnet 10.61.0.0/24 plain");
    let create = "service create -d --constraint";
    ctl(
        &lab,
        &format!("{create} node.hostname==n1 --name bare web:1"),
    );
    let on = "--name on --network plain web:1";
    ctl(&lab, &format!("{create} node.hostname==n2 {on}"));
    let host = "--name stack --network host --env PORT=9999 web:1";
    ctl(&lab, &format!("{create} node.hostname==n1 {host}"));
    let (bare, on) = (task(&lab, "bare"), task(&lab, "on"));
    task(&lab, "stack");
    refusals(&lab);

    ctl(&lab, "network connect side on.1");
    ctl(
        &lab,
        "network connect --alias probe --ip 10.60.0.77 side bare.1",
    );
    refused(
        &lab,
        "network connect side bare.1",
        "is on network side already",
    );
    refused(&lab, "network rm side", "in use by task");
    let (own, other): (IpAddr, _) = ("10.60.0.77".parse().unwrap(), address_in(&on, SIDE));
    assert_eq!(address_in(&bare, SIDE), own);
    means(&on, "probe", &[own]);
    means(&on, "bare.1", &[own]);
    means(&bare, "on.1.side", &[other]);
    reaches(&on, own, &bare);
    reaches(&bare, other, &on);

    // Both outlive their daemons, killed at that, and so do the names.
    for node in [0, 1] {
        lab.node(node).stop_daemon(9).unwrap();
        lab.node(node).start_daemon().unwrap();
    }
    reaches(&on, own, &bare);
    means(&on, "probe", &[own]);
    assert_eq!(
        (bare.pid, on.pid),
        (task(&lab, "bare").pid, task(&lab, "on").pid)
    );

    ctl(&lab, "network disconnect side bare.1");
    wait_for("the interface to go", WAIT_MAX, || {
        let left = bare.address_in(SIDE);
        Ok(left.map_or(Ok(()), |address| Err(address.to_string())))
    })
    .unwrap();
    means(&on, "probe", &[]);
    // With the last task goes what holds the network.
    ctl(&lab, "service rm on");
    wait_for("the network to be free", WAIT_MAX, || {
        let removed = lab.node(0).ctl(&["network", "rm", "side"]);
        Ok(removed.map_err(|error| format!("{error:#}")))
    })
    .unwrap();
}

/// Answers every question for IPv4 addresses with one, from outside of the swarm.
fn name_server(lab: &Lab) -> SocketAddr {
    let [address, _] = lab.outside_addresses();
    let socket = lab.outside(|| Ok(UdpSocket::bind((address, 53))?));
    let socket = socket.context("listening for questions").unwrap();
    let at = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            let question = &packet[12..length];
            let name = question.iter().position(|byte| *byte == 0).unwrap_or(0);
            let (question, of) = (&question[..name + 5], question[name + 2]);
            let answers = u8::from(of == 1);
            let mut reply = packet[..2].to_vec();
            reply.extend([0x81, 0x80, 0, 1, 0, answers, 0, 0, 0, 0]);
            reply.extend(question);
            if answers == 1 {
                // The name asked for, A, IN, a second, four bytes.
                reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 192, 0, 2, 53]);
            }
            drop(socket.send_to(&reply, from));
        }
    });
    at
}

#[test]
fn names_are_asked_of_whom_the_service_names() {
    let Some(lab) = swarm() else {
        return;
    };
    let server = name_server(&lab).ip();
    ctl(&lab, "network create plain");
    let names = format!(
        "--dns {server} --dns-search corp.example --dns-option ndots:2 --host db:192.0.2.9"
    );
    let create = "service create -d --constraint node.hostname==n2 --network plain --name";
    ctl(&lab, &format!("{create} asking {names} web:1"));
    let asking = task(&lab, "asking");
    let found: IpAddr = "192.0.2.53".parse().unwrap();
    means(&asking, "far.example", &[found]);
    let root = format!("/proc/{}/root/etc", asking.pid);
    let file = |name: &str| std::fs::read_to_string(format!("{root}/{name}")).unwrap();
    assert_eq!(
        file("resolv.conf"),
        "nameserver 127.0.0.11\nsearch corp.example\noptions ndots:2\n"
    );
    assert!(
        file("hosts").contains("192.0.2.9\tdb\n"),
        "{}",
        file("hosts")
    );
    // The next daemon knows as well whom to ask.
    lab.node(1).stop_daemon(9).unwrap();
    lab.node(1).start_daemon().unwrap();
    means(&asking, "farther.example", &[found]);
    let update = format!("service update -d --dns-rm {server} --host-rm db:192.0.2.9 asking");
    ctl(&lab, &update);
    let format = "{{json .Spec.TaskTemplate.ContainerSpec.Hosts}}";
    let inspect = ["service", "inspect", "--format", format, "asking"];
    assert_eq!(lab.node(0).ctl(&inspect).unwrap().trim(), "[]");
}

/// Waits until `service ps` shows a task of a service with these columns.
fn listed(lab: &Lab, service: &str, columns: &str, wanted: &str) -> String {
    let list = ["service", "ps", "--no-trunc", "--format", columns, service];
    wait_for(&format!("{service}: {wanted}"), WAIT_MAX, || {
        let tasks = lab.node(0).ctl(&list)?;
        let found = tasks.lines().find(|line| line.contains(wanted));
        Ok(found.map(str::to_owned).ok_or(tasks.clone()))
    })
    .unwrap()
}

#[test]
fn a_port_of_the_node_is_chosen_and_shown_and_taken_from_nobody() {
    let Some(lab) = swarm() else {
        return;
    };
    let create = "service create -d --constraint node.hostname==n1 --name";
    let publish = "--publish target=8080,mode=host web:1";
    ctl(&lab, &format!("{create} chosen {publish}"));
    let shown = listed(&lab, "chosen", "{{.CurrentState}} {{.Ports}}", "->8080/tcp");
    let port = shown
        .split("*:")
        .nth(1)
        .and_then(|rest| rest.split("->").next());
    let port: u16 = port.unwrap().parse().unwrap();
    let page = wait_for("a page at the port", WAIT_MAX, || {
        let page = lab.fetch(lab.node(0).address(), port, "/");
        Ok(page.map_err(|error| format!("{error:#}")))
    });
    assert!(page.unwrap().contains("version 1"));

    let program = "--network host --env PORT=9999 web:1";
    ctl(&lab, &format!("{create} program {program}"));
    task(&lab, "program");
    let publish = "--publish published=9999,target=8080,mode=host --restart-condition none web:1";
    ctl(&lab, &format!("{create} second {publish}"));
    let columns = "{{.CurrentState}} {{.Error}}";
    let rejected = listed(&lab, "second", columns, "Rejected");
    assert!(
        rejected.contains("port 9999/tcp of this node is in use by web (pid"),
        "{rejected}"
    );
}
