//! Certificates and roots of a whole swarm: short lives, coming back after them, replacing the root.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;
use control::{GetClusterRequest, RotateRootRequest, UpdateNodeRequest};
use proto::control;
use swarm_tests::cluster::{Cluster, Machine, eventually};
use types::ClusterSpec;

/// Seconds that certificates live in the renewal test; `SWARM_TEST_CERT_LIFE` sets another number.
const LIFE_DEFAULT_S: u64 = 4;
/// Renewals of each node in that test; `SWARM_TEST_RENEWALS` sets another number.
const RENEWALS_DEFAULT: usize = 5;

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

async fn view(machine: &Machine) -> anyhow::Result<control::ClusterView> {
    let answer = machine
        .control()
        .await?
        .get_cluster(GetClusterRequest {})
        .await?;
    Ok(answer.into_inner().cluster.unwrap_or_default())
}

async fn rotate(machine: &Machine, only_skip: bool) -> anyhow::Result<control::ClusterView> {
    let request = RotateRootRequest {
        only_skip,
        ..RotateRootRequest::default()
    };
    let answer = machine.control().await?.rotate_root(request).await?;
    Ok(answer.into_inner().cluster.unwrap_or_default())
}

/// Waits until there is one root, another than the former, and `count` nodes trust it alone.
async fn rotated(machine: &Machine, former: &str, count: usize) {
    eventually("one new root that every node trusts alone", async || {
        let cluster = view(machine).await?;
        ensure!(cluster.root_rotation.is_none(), "it is under way");
        ensure!(
            cluster.trust_root_digest != former,
            "the former root is back"
        );
        let trusting = machine.nodes().await?.into_iter().filter(|node| {
            let told = node.node.clone().unwrap_or_default().description;
            let tls = told.and_then(|told| told.tls).unwrap_or_default();
            tls.trust_root_digest == cluster.trust_root_digest
                && tls.cert_issuer_public_key == cluster.issuer_public_key
        });
        let trusting = trusting.count();
        ensure!(trusting == count, "{trusting} of {count} nodes trust it");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_root_is_replaced_twice_without_a_task_noticing() {
    let mut cluster = Cluster::new().managers(3).workers(2).start().await.unwrap();
    cluster.machines[0].create_service("web", 5).await.unwrap();
    let before = cluster.running("web", 5).await.unwrap();
    let first = view(&cluster.machines[0]).await.unwrap();
    rotate(&cluster.machines[0], false).await.unwrap();
    rotated(&cluster.machines[0], &first.trust_root_digest, 5).await;
    let second = view(&cluster.machines[1]).await.unwrap();
    assert_ne!(first.worker_token, second.worker_token);
    let mut after = cluster.running("web", 5).await.unwrap();
    let mut before: Vec<_> = before.into_iter().map(|task| task.id).collect();
    before.sort_unstable();
    after.sort_unstable_by_key(|task| task.id);
    assert_eq!(before, after.iter().map(|task| task.id).collect::<Vec<_>>());

    // With one node down, which is skipped, and comes back trusting only a root that is gone.
    cluster.machines[4].power_off().await;
    cluster.ready(4).await.unwrap();
    rotate(&cluster.machines[0], false).await.unwrap();
    rotate(&cluster.machines[0], true).await.unwrap();
    rotated(&cluster.machines[0], &second.trust_root_digest, 4).await;
    cluster.machines[4].power_on().await.unwrap();
    let back = cluster.ready(5).await;
    let view = cluster.machines[4].daemon.as_ref().unwrap().view();
    back.unwrap_or_else(|error| panic!("{error:#}; it says: {:?}", *view.borrow()));
    rotated(&cluster.machines[0], &second.trust_root_digest, 5).await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_come_back_after_their_certificates_have_run_out() {
    let life = Duration::from_secs(3);
    let spec = ClusterSpec {
        node_cert_expiry: life,
        ..ClusterSpec::default()
    };
    let mut cluster = Cluster::new()
        .managers(1)
        .workers(1)
        .spec(spec)
        .start()
        .await
        .unwrap();
    for down in [vec![1], vec![0], vec![0, 1]] {
        for index in &down {
            cluster.machines[*index].power_off().await;
        }
        // What is waited for is that certificates run out: only time does that.
        tokio::time::sleep(life + Duration::from_secs(2)).await;
        for index in &down {
            cluster.machines[*index].power_on().await.unwrap();
        }
        cluster.ready(2).await.unwrap();
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_replaced_without_a_writer_noticing() {
    let life = from_environment("SWARM_TEST_CERT_LIFE", LIFE_DEFAULT_S);
    let wanted = from_environment("SWARM_TEST_RENEWALS", RENEWALS_DEFAULT as u64) as usize;
    let spec = ClusterSpec {
        node_cert_expiry: Duration::from_secs(life),
        ..ClusterSpec::default()
    };
    let cluster = Cluster::new()
        .managers(3)
        .workers(2)
        .spec(spec)
        .start()
        .await
        .unwrap();
    let mut renewals: BTreeMap<String, (Vec<u8>, usize)> = BTreeMap::new();
    let mut writes = 0;
    // Every write has to succeed, through managers that lead and that do not.
    while renewals.len() < 5 || renewals.values().any(|(_, count)| *count < wanted) {
        let machine = &cluster.machines[writes % 3];
        let nodes = machine.nodes().await.unwrap();
        for view in &nodes {
            let node = view.node.clone().unwrap();
            let key = node.certificate.unwrap_or_default().keys.remove(0);
            let (last, count) = renewals.entry(node.id).or_default();
            if *last != key {
                *last = key;
                *count += 1;
            }
        }
        let mut node = nodes[writes % 5].node.clone().unwrap();
        let spec = node.spec.as_mut().unwrap();
        spec.labels.insert("writes".to_owned(), writes.to_string());
        let request = UpdateNodeRequest {
            version: node.meta.unwrap_or_default().version,
            id: node.id,
            spec: node.spec,
        };
        let written = machine.control().await.unwrap().update_node(request).await;
        // Its certificate may be renewed between reading and writing: that is an answer, no error
        // of a connection.
        if let Err(status) = written {
            assert_eq!(
                status.code(),
                tonic::Code::Aborted,
                "write {writes}: {status}"
            );
        }
        writes += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!(
        "{writes} writes, renewals: {:?}",
        renewals.values().map(|it| it.1).collect::<Vec<_>>()
    );
    cluster.shutdown().await;
}
