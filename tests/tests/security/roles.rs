//! Nodes whose place in the cluster has changed: the stored role counts, on open connections too.

use proto::control::RemoveNodeRequest;
use proto::raft::HealthRequest;
use proto::raft::raft_client::RaftClient;
use swarm_tests::cluster::{Cluster, eventually};
use tonic::Code;
use types::NodeRole;

use crate::caller::{NO_MESSAGE, as_node, call, join};

/// The certificate says manager for ninety days. The cluster says otherwise from one moment to the
/// next, and what the cluster says counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demoted_manager_that_keeps_its_certificate_is_a_worker() {
    let mut cluster = Cluster::new().managers(3).start().await.unwrap();
    // Its certificate is copied before it is demoted: it never renews.
    let dir = cluster.machines[2].options().state_dir;
    let stolen = ca::NodeFiles::open(dir.join("certificates"));
    let stolen = stolen.unwrap().load().unwrap().unwrap();
    assert_eq!(stolen.role(), NodeRole::Manager);
    let leader = cluster.leader().await.unwrap();
    let asked = if leader == 2 { 0 } else { leader };
    let channel = as_node(&stolen, &cluster.machines[asked]).await;
    let mut raft = RaftClient::new(channel.clone());
    raft.health(HealthRequest {}).await.unwrap();
    cluster.machines[asked]
        .set_role(stolen.node_id(), NodeRole::Worker)
        .await
        .unwrap();
    eventually("the refusal", async || {
        let refused = raft.clone().health(HealthRequest {}).await;
        let Err(status) = refused else {
            anyhow::bail!("it is still a manager");
        };
        anyhow::ensure!(status.code() == Code::PermissionDenied, "{status}");
        anyhow::ensure!(status.message().starts_with("a worker may not"), "{status}");
        Ok(())
    })
    .await
    .unwrap();
    // It is let do what workers do, so that an honest one can fetch its next certificate.
    let path = "/swarm.ca.v1.Ca/IssueNodeCertificate";
    let status = call(&channel, path, NO_MESSAGE).await.unwrap_err();
    assert_ne!(status.code(), Code::PermissionDenied, "{status}");

    // Promoted again, its old certificate stays what it was, and a new one counts.
    let id = stolen.node_id();
    let other = &cluster.machines[if asked == 0 { 1 } else { 0 }];
    other.set_role(id, NodeRole::Manager).await.unwrap();
    cluster.machines[2].power_off().await;
    cluster.machines[2].power_on().await.unwrap();
    eventually("the new certificate", async || {
        let files = ca::NodeFiles::open(dir.join("certificates"))?;
        let now = files.load()?.ok_or_else(|| anyhow::anyhow!("none"))?;
        anyhow::ensure!(now.role() == NodeRole::Manager, "still a worker's");
        let machine = &cluster.machines[asked];
        let mut raft = RaftClient::new(as_node(&now, machine).await);
        raft.health(HealthRequest {}).await?;
        Ok(())
    })
    .await
    .unwrap();
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_node_is_refused_at_once_and_told_why() {
    let cluster = Cluster::new().managers(1).start().await.unwrap();
    let machine = &cluster.machines[0];
    let identity = join(&cluster, NodeRole::Worker).await;
    let channel = as_node(&identity, machine).await;
    let path = "/swarm.dispatcher.v1.Dispatcher/Session";
    let status = call(&channel, path, NO_MESSAGE).await.unwrap_err();
    assert_ne!(status.code(), Code::PermissionDenied, "{status}");
    let request = RemoveNodeRequest {
        key: identity.node_id().to_string(),
        force: true,
    };
    let mut control = machine.control().await.unwrap();
    control.remove_node(request).await.unwrap();
    for path in [path, "/swarm.ca.v1.Ca/GetRootCertificate"] {
        eventually("the refusal", async || {
            let status = call(&channel, path, &[]).await.expect_err("it is removed");
            anyhow::ensure!(status.code() == Code::PermissionDenied, "{status}");
            anyhow::ensure!(status.message().contains("has been removed"), "{status}");
            Ok(())
        })
        .await
        .unwrap();
    }
    cluster.shutdown().await;
}
