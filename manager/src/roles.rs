//! Takes managers that were demoted or removed out of the Raft group.
//!
//! A promoted node needs nothing from the leader: it fetches a manager certificate and asks to be
//! added by itself. A demoted one must leave the group before it gets a worker certificate.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use raft::Raft;
use store::{Action, Event, Object, Propose, State, Store};
use tokio_util::sync::CancellationToken;
use types::{Cluster, Node, NodeId, NodeRole, Timestamp};

/// Pause before trying again what could not be done (S19.03: SwarmKit's role manager, 5 s).
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// Runs until the token is cancelled.
pub(crate) async fn run(
    store: Store,
    raft: Raft,
    proposer: Arc<dyn Propose>,
    shutdown: CancellationToken,
) {
    let mut watch = store.watch();
    loop {
        let mut failed = false;
        for (node, member) in to_demote(&store.state()) {
            let demoted = tokio::select! {
                () = shutdown.cancelled() => return,
                demoted = demote(&store, &raft, &*proposer, node, member) => demoted,
            };
            if let Err(problem) = demoted {
                tracing::warn!(%node, problem, "could not take a manager out of the group");
                failed = true;
            }
        }
        let alarm = async {
            if failed {
                tokio::time::sleep(RETRY_PAUSE).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = alarm => {}
            () = node_changed(&mut watch) => {}
        }
    }
}

/// Nodes that are members of the group though they are to be workers, with their member ids.
fn to_demote(state: &State) -> BTreeMap<NodeId, u64> {
    let demoted = |node: &&Arc<Node>| node.spec.role == NodeRole::Worker;
    let member = |node: &Arc<Node>| Some((node.id, node.manager_status.as_ref()?.raft_id));
    state.nodes().filter(demoted).filter_map(member).collect()
}

async fn node_changed(watch: &mut store::Watch) {
    loop {
        match watch.next().await {
            Event::Resync => return,
            Event::Commit(commit) => {
                if commit
                    .changes
                    .iter()
                    .any(|c| matches!(c.object(), Object::Node(_)))
                {
                    return;
                }
            }
        }
    }
}

async fn demote(
    store: &Store,
    raft: &Raft,
    proposer: &dyn Propose,
    node: NodeId,
    member: u64,
) -> Result<(), String> {
    match raft.remove_member(member).await {
        Ok(()) | Err(raft::Error::UnknownMember { .. } | raft::Error::MemberRemoved { .. }) => {}
        Err(error) => return Err(error.to_string()),
    }
    // Removing itself, the leader has handed over: the next one finishes this.
    let state = store.state();
    let Some(mut stored) = state.node(node).map(|node| Node::clone(node)) else {
        return Ok(());
    };
    stored.manager_status = None;
    let mut actions = vec![Action::Update(stored.into())];
    if let Some(cluster) = state.cluster() {
        // From here on its manager certificate counts as a worker's, renewed or not.
        let mut cluster = Cluster::clone(cluster);
        cluster.access.demoted.insert(node, Timestamp::now());
        actions.push(Action::Update(cluster.into()));
    }
    proposer
        .propose(actions)
        .await
        .map(drop)
        .map_err(|error| error.to_string())
}
