//! Remote users: what a reader sees, what an operator may do, and how access ends.

use proto::control::control_client::ControlClient;
use proto::control::{
    CreateJoinTokenRequest, GetClusterRequest, ListJoinTokensRequest, ListNodesRequest,
    RemoveClientRequest, RotateJoinTokenRequest, WatchServiceRequest,
};
use swarm_tests::cluster::{Cluster, eventually};
use tonic::Code;
use types::access::ClientRole;

use crate::caller::{as_client, client};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_sees_no_token_and_an_operator_does() {
    let cluster = Cluster::new().managers(1).start().await.unwrap();
    let machine = &cluster.machines[0];
    let mut local = machine.control().await.unwrap();
    let made = CreateJoinTokenRequest {
        name: "batch".to_owned(),
        ..Default::default()
    };
    local.create_join_token(made).await.unwrap();
    for (role, sees) in [(ClientRole::Reader, false), (ClientRole::Operator, true)] {
        let credential = client(machine, &role.to_string(), role).await;
        let mut control = ControlClient::new(as_client(&credential, machine).await);
        let answer = control.get_cluster(GetClusterRequest {}).await.unwrap();
        let view = answer.into_inner().cluster.unwrap();
        assert_eq!(view.worker_token.is_empty(), !sees, "{role}");
        assert_eq!(view.manager_token.is_empty(), !sees, "{role}");
        let answer = control.list_join_tokens(ListJoinTokensRequest {}).await;
        let tokens = answer.unwrap().into_inner().tokens;
        assert_eq!(tokens.len(), 1);
        assert_eq!(tokens[0].token.is_empty(), !sees, "{role}");
        let rotated = control
            .rotate_join_token(RotateJoinTokenRequest::default())
            .await;
        assert_eq!(rotated.is_ok(), sees, "{role}");
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_client_loses_its_connection_and_its_streams() {
    let cluster = Cluster::new().managers(1).start().await.unwrap();
    let machine = &cluster.machines[0];
    machine.create_service("web", 1).await.unwrap();
    let credential = client(machine, "ci", ClientRole::Operator).await;
    let mut control = ControlClient::new(as_client(&credential, machine).await);
    let watch = WatchServiceRequest {
        key: "web".to_owned(),
    };
    let mut progress = control.watch_service(watch).await.unwrap().into_inner();
    progress.message().await.unwrap().unwrap();
    let key = "ci".to_owned();
    let mut local = machine.control().await.unwrap();
    local
        .remove_client(RemoveClientRequest { key })
        .await
        .unwrap();
    // The service may change a last time before the stream ends; it ends all the same.
    let ended = async { while let Ok(Some(_)) = progress.message().await {} };
    tokio::time::timeout(swarm_tests::cluster::PATIENCE, ended)
        .await
        .unwrap();
    eventually("the refusal", async || {
        let refused = control.clone().list_nodes(ListNodesRequest {}).await;
        let status = refused.expect_err("it is revoked");
        anyhow::ensure!(status.code() == Code::PermissionDenied, "{status}");
        anyhow::ensure!(status.message().contains("knows no client"), "{status}");
        Ok(())
    })
    .await
    .unwrap();
    cluster.shutdown().await;
}
