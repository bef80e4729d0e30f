//! The one table of who may call what. What is not in it is refused to everybody.

use std::fmt::Write as _;
use std::sync::Arc;

use ca::authorize::{Caller, Registry, Rule, Verdict};
use ca::{BACKDATE, Certified};
use store::{State, Store};
use types::NodeRole;

/// Only processes on this machine, over the socket.
const LOCAL: &[Caller] = &[Caller::Local];
/// Only other managers.
const MANAGERS: &[Caller] = &[Caller::Manager];
/// Every node of the cluster: managers are workers too.
const NODES: &[Caller] = &[Caller::Worker, Caller::Manager];
/// Whoever may look at the cluster. Answers hold no secret; tokens are left out for readers.
const LOOK: &[Caller] = &[Caller::Local, Caller::Operator, Caller::Reader];
/// Whoever may look, and managers that pass a user's request on to the leader.
const LOOK_OR_FORWARDED: &[Caller] = &[
    Caller::Local,
    Caller::Operator,
    Caller::Reader,
    Caller::Manager,
];
/// Whoever may change what the cluster does.
const CHANGE: &[Caller] = &[Caller::Local, Caller::Operator];
/// Whoever may change it, and managers that pass a user's request on to the leader.
const CHANGE_OR_FORWARDED: &[Caller] = &[Caller::Local, Caller::Operator, Caller::Manager];
/// Whoever reaches the port: a machine that wants to join has no certificate yet.
const ANYONE: &[Caller] = &Caller::ALL;

/// Every RPC and its callers.
pub const RULES: &[Rule] = &[
    // The token, or the certificate presented, decides what is issued.
    ("/swarm.ca.v1.Ca/GetRootCertificate", ANYONE),
    ("/swarm.ca.v1.Ca/IssueNodeCertificate", ANYONE),
    // Signed by the key that the managers know the node by.
    ("/swarm.ca.v1.Ca/ReissueNodeCertificate", ANYONE),
    // Agents speak only for the node of their certificate.
    ("/swarm.dispatcher.v1.Dispatcher/Session", NODES),
    ("/swarm.logs.v1.LogBroker/Publish", NODES),
    ("/swarm.raft.v1.Raft/AppendEntries", MANAGERS),
    ("/swarm.raft.v1.Raft/Heartbeat", MANAGERS),
    ("/swarm.raft.v1.Raft/Vote", MANAGERS),
    ("/swarm.raft.v1.Raft/PreVote", MANAGERS),
    ("/swarm.raft.v1.Raft/InstallSnapshot", MANAGERS),
    ("/swarm.raft.v1.Raft/TransferLeader", MANAGERS),
    ("/swarm.raft.v1.Raft/Propose", MANAGERS),
    ("/swarm.raft.v1.Raft/ReadIndex", MANAGERS),
    ("/swarm.raft.v1.Raft/AddMember", MANAGERS),
    ("/swarm.raft.v1.Raft/RemoveMember", MANAGERS),
    ("/swarm.raft.v1.Raft/Health", MANAGERS),
    ("/swarm.raft.v1.Raft/NoticeRemoved", MANAGERS),
    ("/swarm.control.v1.Control/GetCluster", LOOK),
    ("/swarm.control.v1.Control/UpdateCluster", CHANGE),
    ("/swarm.control.v1.Control/GetUnlockKey", CHANGE),
    ("/swarm.control.v1.Control/RotateRoot", CHANGE),
    ("/swarm.control.v1.Control/RotateJoinToken", CHANGE),
    ("/swarm.control.v1.Control/CreateJoinToken", CHANGE),
    ("/swarm.control.v1.Control/ListJoinTokens", LOOK),
    ("/swarm.control.v1.Control/RemoveJoinToken", CHANGE),
    // Who may come from elsewhere is decided on a manager's own machine.
    ("/swarm.control.v1.Control/CreateClient", LOCAL),
    ("/swarm.control.v1.Control/ListClients", LOOK),
    ("/swarm.control.v1.Control/RemoveClient", CHANGE),
    ("/swarm.control.v1.Control/ListNodes", LOOK),
    ("/swarm.control.v1.Control/GetNode", LOOK),
    ("/swarm.control.v1.Control/UpdateNode", CHANGE),
    ("/swarm.control.v1.Control/RemoveNode", CHANGE),
    ("/swarm.control.v1.Control/CreateService", CHANGE),
    ("/swarm.control.v1.Control/ListServices", LOOK),
    ("/swarm.control.v1.Control/GetService", LOOK),
    ("/swarm.control.v1.Control/UpdateService", CHANGE),
    ("/swarm.control.v1.Control/RemoveService", CHANGE),
    ("/swarm.control.v1.Control/WatchService", LOOK),
    ("/swarm.control.v1.Control/ServiceLogs", LOOK_OR_FORWARDED),
    ("/swarm.control.v1.Control/ListTasks", LOOK),
    ("/swarm.control.v1.Control/GetTask", LOOK),
    // Content is sealed on its way in and never answered; readers see names and labels.
    ("/swarm.control.v1.Control/GetSealKey", CHANGE),
    ("/swarm.control.v1.Control/CreateSecret", CHANGE),
    ("/swarm.control.v1.Control/ListSecrets", LOOK),
    ("/swarm.control.v1.Control/GetSecret", LOOK),
    ("/swarm.control.v1.Control/UpdateSecret", CHANGE),
    ("/swarm.control.v1.Control/RemoveSecret", CHANGE),
    ("/swarm.control.v1.Control/CreateConfig", CHANGE),
    ("/swarm.control.v1.Control/ListConfigs", LOOK),
    ("/swarm.control.v1.Control/GetConfig", LOOK),
    ("/swarm.control.v1.Control/UpdateConfig", CHANGE),
    ("/swarm.control.v1.Control/RemoveConfig", CHANGE),
    ("/swarm.control.v1.Control/CreateNetwork", CHANGE),
    ("/swarm.control.v1.Control/ListNetworks", LOOK),
    ("/swarm.control.v1.Control/GetNetwork", LOOK),
    ("/swarm.control.v1.Control/RemoveNetwork", CHANGE),
    ("/swarm.control.v1.Control/ConnectNetwork", CHANGE),
    ("/swarm.control.v1.Control/DisconnectNetwork", CHANGE),
    // It repairs, and keeps every node busy for a moment.
    (
        "/swarm.control.v1.Control/VerifyNetworks",
        CHANGE_OR_FORWARDED,
    ),
    ("/swarm.daemon.v1.Daemon/GetStatus", LOCAL),
    ("/swarm.daemon.v1.Daemon/Init", LOCAL),
    ("/swarm.daemon.v1.Daemon/Join", LOCAL),
    ("/swarm.daemon.v1.Daemon/Leave", LOCAL),
    ("/swarm.daemon.v1.Daemon/Unlock", LOCAL),
    ("/swarm.daemon.v1.Images/Load", LOCAL),
    ("/swarm.daemon.v1.Images/Import", LOCAL),
    ("/swarm.daemon.v1.Images/List", LOCAL),
    ("/swarm.daemon.v1.Images/Inspect", LOCAL),
    ("/swarm.daemon.v1.Images/Remove", LOCAL),
];

/// What the cluster in `store` says of a certificate's holder.
pub(crate) fn registry(store: Store) -> Registry {
    Arc::new(move |peer| verdict(&store.state(), peer))
}

/// A node that this store does not know counts by its certificate: a manager that has been away
/// would otherwise refuse the very leader that brings it up to date.
pub(crate) fn verdict(state: &State, peer: &Certified) -> Verdict {
    let Some(cluster) = state.cluster() else {
        return match peer {
            Certified::Node(_) => Verdict::Good,
            Certified::Client(_) => Verdict::Removed,
        };
    };
    match peer {
        Certified::Node(node) if cluster.revoked.contains_key(&node.node_id) => Verdict::Removed,
        Certified::Node(node) if node.role == NodeRole::Manager => {
            let demoted = cluster.access.demoted.get(&node.node_id);
            let issued = node.cert_not_before.plus(BACKDATE);
            if demoted.is_some_and(|at| issued <= *at) {
                Verdict::Demoted
            } else {
                Verdict::Good
            }
        }
        Certified::Node(_) => Verdict::Good,
        Certified::Client(client) => match cluster.access.clients.get(&client.client_id) {
            Some(known) if known.role == client.role => Verdict::Good,
            Some(_) | None => Verdict::Removed,
        },
    }
}

/// The table as it stands in `docs/design/security.md`.
#[must_use]
pub fn rendered() -> String {
    let mut text = String::from("| RPC |");
    for caller in Caller::ALL {
        let name = caller.to_string();
        let name = name.strip_prefix("a ").unwrap_or(&name);
        write!(text, " {name} |").expect("a string takes everything");
    }
    text.push_str("\n|---|");
    text.push_str(&":-:|".repeat(Caller::ALL.len()));
    text.push('\n');
    for (path, callers) in RULES {
        // `/swarm.raft.v1.Raft/Vote` reads as `Raft.Vote`.
        let name = path.rsplit('.').next().unwrap_or(path).replace('/', ".");
        write!(text, "| `{name}` |").expect("a string takes everything");
        for caller in Caller::ALL {
            text.push_str(if callers.contains(&caller) {
                " yes |"
            } else {
                " · |"
            });
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests;
