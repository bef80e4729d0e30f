//! What programs in sandboxes are answered.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use crate::machine::{
    Machine, PATIENCE, addresses, ask, ask_tcp, cannot_run, data, descriptor_path, new_namespace,
    query, records, skip, view,
};
use datapath_client::{Forwarding, Origin};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType, rdata::A};
use std::net::UdpSocket;
use std::process::Command;
use std::sync::Arc;

#[tokio::test]
async fn names_are_answered_in_the_sandbox() {
    if cannot_run() {
        return;
    }
    let machine = Machine::new();
    let daemon = machine.daemon();
    let namespace = Arc::new(new_namespace().unwrap());
    daemon
        .handle
        .set_network(records(1, "front", "web", 3))
        .await
        .unwrap();
    daemon.add("a", &[1], &namespace).await;
    assert_eq!(addresses(&namespace, "web"), ["10.1.0.1"]);
    assert_eq!(addresses(&namespace, "WEB.front."), ["10.1.0.1"]);
    assert_eq!(
        addresses(&namespace, "tasks.web"),
        ["10.1.1.1", "10.1.1.2", "10.1.1.3"]
    );
    assert_eq!(addresses(&namespace, "web.2"), ["10.1.1.2"]);
    let reply = ask(&namespace, &query("web", RecordType::AAAA));
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
    assert!(reply.answers.is_empty());
    assert_eq!(
        data(&ask(&namespace, &query("web.1", RecordType::AAAA))),
        ["fd00::1:1"]
    );
    let pointer = query("1.0.1.10.in-addr.arpa", RecordType::PTR);
    assert_eq!(data(&ask(&namespace, &pointer)), ["web.front."]);
    assert_eq!(data(&ask_tcp(&namespace, &pointer)), ["web.front."]);
    // Nobody to ask: it fails at once.
    let unknown = ask(&namespace, &query("example.org", RecordType::A));
    assert_eq!(unknown.metadata.response_code, ResponseCode::ServFail);
    let status = daemon.handle.status().await.unwrap().unwrap();
    assert_eq!(status.sandboxes.len(), 1);
    assert_eq!(status.networks[0].sets, [(String::from("owner-of-web"), 1)]);
    assert!(status.answered >= 7 && status.failed == 1, "{status:?}");
    daemon.handle.end().await.unwrap();
    daemon.stop().await;
}

#[tokio::test]
async fn many_addresses_are_told_over_tcp() {
    if cannot_run() {
        return;
    }
    let machine = Machine::new();
    let daemon = machine.daemon();
    let namespace = Arc::new(new_namespace().unwrap());
    daemon
        .handle
        .set_network(records(1, "front", "web", 200))
        .await
        .unwrap();
    daemon.add("a", &[1], &namespace).await;
    let all = query("tasks.web", RecordType::A);
    let cut = ask(&namespace, &all);
    assert!(cut.metadata.truncation && !cut.answers.is_empty());
    assert_eq!(ask_tcp(&namespace, &all).answers.len(), 200);
}

#[tokio::test]
async fn networks_keep_their_names_to_themselves() {
    if cannot_run() {
        return;
    }
    let machine = Machine::new();
    let daemon = machine.daemon();
    let (a, b) = (
        Arc::new(new_namespace().unwrap()),
        Arc::new(new_namespace().unwrap()),
    );
    daemon
        .handle
        .set_network(records(1, "front", "web", 1))
        .await
        .unwrap();
    daemon
        .handle
        .set_network(records(2, "back", "db", 1))
        .await
        .unwrap();
    daemon.add("a", &[1], &a).await;
    daemon.add("b", &[2], &b).await;
    let code = |namespace, name: &str, record_type| {
        ask(namespace, &query(name, record_type))
            .metadata
            .response_code
    };
    assert_eq!(addresses(&a, "web"), ["10.1.0.1"]);
    assert_eq!(addresses(&b, "db"), ["10.2.0.1"]);
    for (namespace, name) in [
        (&a, "db"),
        (&a, "db.back"),
        (&b, "web"),
        (&b, "tasks.web.front"),
    ] {
        assert_eq!(
            code(namespace, name, RecordType::A),
            ResponseCode::ServFail,
            "{name}"
        );
    }
    let pointer = "1.0.2.10.in-addr.arpa";
    assert_eq!(code(&a, pointer, RecordType::PTR), ResponseCode::ServFail);
    assert_eq!(code(&b, pointer, RecordType::PTR), ResponseCode::NoError);
    // A sandbox that joins a network sees it at once.
    daemon.add("a", &[1, 2], &a).await;
    assert_eq!(addresses(&a, "db"), ["10.2.0.1"]);
    daemon
        .handle
        .remove_network(types::NetworkId::from_number(2))
        .await
        .unwrap();
    assert_eq!(code(&a, "db", RecordType::A), ResponseCode::ServFail);
}

/// A server that knows one address for every name, and its port.
fn outside() -> (std::thread::JoinHandle<()>, u16) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let port = socket.local_addr().unwrap().port();
    let serve = move || {
        let mut packet = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            let query = Message::from_vec(&packet[..length]).unwrap();
            let name = query.queries[0].name().clone();
            let is_last = name.to_string() == "last.example.";
            let mut reply = query.into_response();
            let answer = RData::A(A::new(192, 0, 2, 7));
            reply.add_answer(Record::from_rdata(name, 60, answer));
            socket.send_to(&reply.to_vec().unwrap(), from).unwrap();
            if is_last {
                return;
            }
        }
    };
    (std::thread::spawn(serve), port)
}

#[tokio::test]
async fn other_names_are_asked_of_the_nodes_servers() {
    if cannot_run() {
        return;
    }
    let machine = Machine::new();
    let daemon = machine.daemon();
    let namespace = Arc::new(new_namespace().unwrap());
    let (server, port) = outside();
    // Nobody listens at the first one.
    let closed = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let servers = vec![closed, ([127, 0, 0, 1], port).into()];
    let forwarding = |origin| Forwarding {
        servers: servers.clone(),
        origin,
        keeps_single_labels: false,
    };
    let mut seen = view(&[1]);
    seen.forwarding = forwarding(Origin::Node);
    daemon.add_with("a", seen.clone(), &namespace).await;
    assert_eq!(addresses(&namespace, "example.org"), ["192.0.2.7"]);
    // A sandbox that stays inside does not reach the node's loopback.
    seen.forwarding = forwarding(Origin::Sandbox);
    daemon.add_with("a", seen.clone(), &namespace).await;
    let inside = ask(&namespace, &query("example.org", RecordType::A));
    assert_eq!(inside.metadata.response_code, ResponseCode::ServFail);
    seen.forwarding = forwarding(Origin::Node);
    daemon.add_with("a", seen, &namespace).await;
    assert_eq!(addresses(&namespace, "last.example"), ["192.0.2.7"]);
    server.join().unwrap();
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    if cannot_run() {
        return;
    }
    let machine = Machine::new();
    let daemon = machine.daemon();
    let namespace = Arc::new(new_namespace().unwrap());
    let taken = datapath::namespace::within(&namespace, || UdpSocket::bind("0.0.0.0:53"));
    let taken = taken.unwrap();
    let set = |port| {
        let mut view = view(&[1]);
        view.dns_port = port;
        daemon
            .handle
            .set_sandbox("a".parse().unwrap(), Arc::clone(&namespace), view)
    };
    let error = set(53).await.unwrap_err().to_string();
    assert!(
        error.contains("sandbox a") && error.contains("in use"),
        "{error}"
    );
    // One that translates port 53 has another.
    let ports = set(0).await.unwrap();
    assert!(ports.udp != 53 && ports.udp != 0);
    drop(taken);
    assert_eq!(set(53).await.unwrap().udp, 53);
}

#[tokio::test]
async fn dig_understands_the_answers() {
    if cannot_run() {
        return;
    }
    if Command::new("dig").arg("-v").output().is_err() {
        skip("dig is not installed");
        return;
    }
    let machine = Machine::new();
    let daemon = machine.daemon();
    let namespace = Arc::new(new_namespace().unwrap());
    daemon
        .handle
        .set_network(records(1, "front", "web", 2))
        .await
        .unwrap();
    daemon.add("a", &[1], &namespace).await;
    let path = descriptor_path(&namespace);
    let dig = move |arguments: &str| {
        let output = Command::new("nsenter")
            .arg(format!("--net={path}"))
            .args(["dig", "@127.0.0.11", "+short"])
            .args(arguments.split_whitespace())
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let asked = tokio::task::spawn_blocking(move || {
        [
            dig("web A"),
            dig("+tcp web A"),
            dig("-x 10.1.1.2"),
            dig("web AAAA"),
        ]
    });
    assert_eq!(
        asked.await.unwrap(),
        ["10.1.0.1\n", "10.1.0.1\n", "web.2.front.\n", ""]
    );
}
