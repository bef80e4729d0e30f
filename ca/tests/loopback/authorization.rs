//! Each RPC is looked at: by role, by node, on connections that are open, through a follower.

use std::sync::Arc;

use ca::Tls;
use ca::authorize::{Authorize, DuplicateRule, FORWARD_KEY, Verdict};
use ca::tls::pinned_channel;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};
use types::NodeId;

use crate::echo::{ANYONE, LOCAL, MANAGERS, NO_RULE, NODES, RELAY, RULES, ask, send};
use crate::fixture::{Cluster, PATIENCE, Running, dial, tls};

#[tokio::test]
async fn roles_reach_their_rpcs_and_no_others() {
    let cluster = Cluster::new(1);
    let server = Running::start(cluster.manager(1)).await;
    let worker = dial(&tls(cluster.worker(2)), server.addr).await.unwrap();
    let manager = dial(&tls(cluster.manager(3)), server.addr).await.unwrap();
    for (channel, path, is_allowed) in [
        (&worker, ANYONE, true),
        (&worker, NODES, true),
        (&worker, MANAGERS, false),
        (&worker, LOCAL, false),
        (&worker, NO_RULE, false),
        (&manager, MANAGERS, true),
        (&manager, LOCAL, false),
        (&manager, NO_RULE, false),
    ] {
        let answer = ask(channel, path, "").await;
        assert_eq!(answer.is_ok(), is_allowed, "{path}: {answer:?}");
        if let Err(status) = answer {
            assert_eq!(status.code(), Code::PermissionDenied);
            assert!(status.message().contains(path), "{status}");
        }
    }
    let status = ask(&worker, MANAGERS, "").await.unwrap_err();
    assert_eq!(
        status.message(),
        "a worker may not call /test.Echo/Managers"
    );
}

#[tokio::test]
async fn a_removed_node_is_refused_on_its_open_connection() {
    let cluster = Cluster::new(1);
    let server = Running::start(cluster.manager(1)).await;
    let removed = dial(&tls(cluster.worker(2)), server.addr).await.unwrap();
    let other = dial(&tls(cluster.worker(3)), server.addr).await.unwrap();
    ask(&removed, NODES, "").await.unwrap();
    server.remove_node(2);
    for path in [NODES, ANYONE] {
        let status = ask(&removed, path, "").await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
        assert!(status.message().contains("has been removed"), "{status}");
    }
    ask(&other, NODES, "").await.unwrap();
}

#[tokio::test]
async fn a_removed_nodes_open_connection_is_closed() {
    let cluster = Cluster::new(1);
    let server = Running::start(cluster.manager(1)).await;
    let removed = dial(&tls(cluster.worker(2)), server.addr).await.unwrap();
    let other = dial(&tls(cluster.worker(3)), server.addr).await.unwrap();
    ask(&removed, NODES, "").await.unwrap();
    ask(&other, NODES, "").await.unwrap();
    assert_eq!(server.connections.count(), 2);
    server.remove_node(2);
    server.connections.recheck();
    let closed = async {
        while server.connections.count() > 1 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.unwrap();
    // It dials again by itself, and is told why not.
    let refused = async {
        loop {
            let status = ask(&removed, NODES, "").await.unwrap_err();
            if status.code() == Code::PermissionDenied {
                return status;
            }
        }
    };
    let status = tokio::time::timeout(PATIENCE, refused).await.unwrap();
    assert!(status.message().contains("has been removed"), "{status}");
    ask(&other, NODES, "").await.unwrap();
}

#[tokio::test]
async fn a_follower_passes_requests_on_for_others() {
    let cluster = Cluster::new(1);
    let leader = Running::start(cluster.manager(1)).await;
    let to_leader = dial(&tls(cluster.manager(2)), leader.addr).await.unwrap();
    let follower = Running::with(
        cluster.manager(2),
        "127.0.0.1:0",
        Arc::new(|_| None),
        Some(to_leader),
    )
    .await;
    let worker = dial(&tls(cluster.worker(3)), follower.addr).await.unwrap();
    let node = NodeId::from_number;
    assert_eq!(
        ask(&worker, RELAY, "").await.unwrap(),
        format!("worker {} via {}", node(3), node(2))
    );
    // Without a certificate one does not borrow the follower's.
    let anonymous = pinned_channel(&follower.addr.to_string(), &cluster.roots())
        .await
        .unwrap();
    let status = ask(&anonymous, RELAY, "").await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(
        status.message().contains("without a certificate"),
        "{status}"
    );
    // The leader knows of a removal that the follower has not heard of.
    leader.remove_node(3);
    let status = ask(&worker, RELAY, "").await.unwrap_err();
    assert!(status.message().contains("has been removed"), "{status}");
}

#[tokio::test]
async fn a_worker_cannot_speak_for_a_manager() {
    let cluster = Cluster::new(1);
    let server = Running::start(cluster.manager(1)).await;
    let forged = |path| {
        let mut request = Request::new(String::new());
        let words = format!(
            "node/{}/manager/{}/0/{}",
            cluster.id,
            NodeId::from_number(1),
            u64::MAX
        );
        request
            .metadata_mut()
            .insert(FORWARD_KEY, MetadataValue::try_from(words).unwrap());
        (path, request)
    };
    let worker = dial(&tls(cluster.worker(2)), server.addr).await.unwrap();
    let anonymous = pinned_channel(&server.addr.to_string(), &cluster.roots())
        .await
        .unwrap();
    for channel in [worker, anonymous] {
        for path in [MANAGERS, ANYONE] {
            let (path, request) = forged(path);
            let status = send(channel.clone(), path, request).await.unwrap_err();
            assert_eq!(status.code(), Code::PermissionDenied);
            assert!(status.message().contains("may not pass on"), "{status}");
        }
    }
}

#[test]
fn two_rules_for_one_rpc_are_a_mistake() {
    let tls = Tls::new(None).unwrap();
    let twice = RULES.iter().chain(&RULES[..1]).copied();
    let error = Authorize::new(twice, tls, Arc::new(|_| Verdict::Good)).err();
    assert_eq!(error, Some(DuplicateRule(ANYONE)));
}
