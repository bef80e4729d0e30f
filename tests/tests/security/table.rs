//! Every RPC there is, by every kind of caller there is, against a real manager: the table in the
//! documentation is what happens.

use ca::authorize::Caller;
use swarm_tests::cluster::Cluster;
use swarmd::authorize::RULES;
use tonic::Code;
use tonic::transport::Channel;
use types::NodeRole;
use types::access::ClientRole;

use crate::caller::{NO_MESSAGE, as_client, as_node, call, client, join, stranger};

/// A request that is no message is refused as such only once its caller was let in. That way
/// nothing happens to the cluster, whatever the RPC.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_rpc_by_every_caller() {
    let cluster = Cluster::new().managers(1).start().await.unwrap();
    let machine = &cluster.machines[0];
    let worker = join(&cluster, NodeRole::Worker).await;
    let manager = join(&cluster, NodeRole::Manager).await;
    let reader = client(machine, "reader", ClientRole::Reader).await;
    let operator = client(machine, "operator", ClientRole::Operator).await;
    let callers = [
        (Caller::Anyone, stranger(machine).await),
        (Caller::Worker, as_node(&worker, machine).await),
        (Caller::Manager, as_node(&manager, machine).await),
        (Caller::Reader, as_client(&reader, machine).await),
        (Caller::Operator, as_client(&operator, machine).await),
        (Caller::Local, machine.channel().await.unwrap()),
    ];
    assert_eq!(callers.len(), Caller::ALL.len());
    let mut wrong = vec![];
    for path in proto::RPCS.iter().copied() {
        let (_, allowed) = RULES.iter().find(|(rule, _)| *rule == path).unwrap();
        for (caller, channel) in &callers {
            let is_let_in = is_let_in(channel, path).await;
            if is_let_in != allowed.contains(caller) {
                wrong.push(format!("{caller} on {path}: let in {is_let_in}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // What has no rule is nobody's.
    for (caller, channel) in &callers {
        for path in ["/swarm.control.v1.Control/Nothing", "/x/y"] {
            assert!(!is_let_in(channel, path).await, "{caller} on {path}");
        }
    }
    cluster.shutdown().await;
}

async fn is_let_in(channel: &Channel, path: &'static str) -> bool {
    match call(channel, path, NO_MESSAGE).await {
        Err(status) => {
            let is_refused = status.message().contains("may not call");
            assert_eq!(
                is_refused,
                status.code() == Code::PermissionDenied,
                "{status:?}"
            );
            !is_refused
        }
        Ok(()) => true,
    }
}
