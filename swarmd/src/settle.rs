//! Becoming a member of the managers' group, and writing into the store which member one is.

use std::sync::Arc;
use std::time::Duration;

use manager::Member;
use raft::Raft;
use store::{Action, Propose};
use tokio::sync::watch;
use types::node::ManagerStatus;
use types::{Node, NodeId, NodeRole};

/// Pauses between tries: doubles from the first to the second (S19.10).
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(50);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Tries until both are done, then sets `settled`.
pub(crate) async fn run(
    node_id: NodeId,
    addr: String,
    member: Member,
    proposer: Arc<dyn Propose>,
    remotes: Vec<String>,
    settled: watch::Sender<bool>,
) {
    let mut pause = RETRY_PAUSE_MIN;
    loop {
        let tried = match enter(member.raft(), &addr, &remotes).await {
            Ok(()) => announce(node_id, &addr, &member, &*proposer).await,
            Err(problem) => Err(problem),
        };
        match tried {
            Ok(()) => break,
            Err(problem) => tracing::info!(problem, "not settled among the managers yet"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_PAUSE_MAX);
    }
    tracing::info!(addr, "settled among the managers");
    settled.send_replace(true);
}

/// Makes sure that the group knows this member at its address.
async fn enter(raft: &Raft, addr: &str, remotes: &[String]) -> Result<(), String> {
    let (is_in, mut ways) = {
        let status = raft.status();
        let status = status.borrow();
        let own = status.members.iter().find(|it| it.id == status.member_id);
        let others = status.members.iter().filter(|it| it.id != status.member_id);
        (
            own.is_some_and(|it| it.voter && it.addr == addr),
            others.map(|it| it.addr.clone()).collect::<Vec<_>>(),
        )
    };
    if is_in {
        return Ok(());
    }
    ways.extend(remotes.iter().filter(|it| *it != addr).cloned());
    let mut problem = "no manager is known".to_owned();
    for remote in ways {
        match raft.join(&remote, addr).await {
            Ok(()) => return Ok(()),
            Err(error) => problem = format!("{remote}: {}", crate::error::chain(&error)),
        }
    }
    Err(problem)
}

/// Makes sure that the node's object names this member.
async fn announce(
    node_id: NodeId,
    addr: &str,
    member: &Member,
    proposer: &dyn Propose,
) -> Result<(), String> {
    let raft = member.raft();
    let own = ManagerStatus {
        raft_id: raft.member_id(),
        addr: addr.to_owned(),
    };
    let mut watch = member.store().watch();
    raft.read_barrier()
        .await
        .map_err(|error| error.to_string())?;
    loop {
        let state = member.store().state();
        let node = state
            .node(node_id)
            .ok_or("the cluster does not know this node")?;
        if node.spec.role == NodeRole::Manager {
            if node.manager_status.as_ref() == Some(&own) {
                return Ok(());
            }
            if let Some(former) = node.manager_status.as_ref().map(|it| it.raft_id)
                && former != own.raft_id
            {
                // It lost its log and came back: the group must not wait for the one it was.
                drop_former(raft, former).await?;
            }
            let mut changed = Node::clone(node);
            changed.manager_status = Some(own.clone());
            let action = Action::Update(changed.into());
            proposer
                .propose(vec![action])
                .await
                .map_err(|error| error.to_string())?;
            return Ok(());
        }
        // Demoted meanwhile: the daemon stops this manager soon, unless that is taken back.
        watch.next().await;
    }
}

async fn drop_former(raft: &Raft, former: u64) -> Result<(), String> {
    match raft.remove_member(former).await {
        Ok(()) | Err(raft::Error::UnknownMember { .. } | raft::Error::MemberRemoved { .. }) => {
            Ok(())
        }
        Err(error) => Err(error.to_string()),
    }
}
