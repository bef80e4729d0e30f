//! The one table of who may call what. What is not in it is refused to everybody.

use ca::authorize::{Caller, Rule};

/// Only processes on this machine, over the socket.
const LOCAL: &[Caller] = &[Caller::Local];
/// Only other managers.
const MANAGERS: &[Caller] = &[Caller::Manager];
/// Every node of the cluster: managers are workers too.
const NODES: &[Caller] = &[Caller::Worker, Caller::Manager];
/// Users of this machine, and managers that pass a local user's request on to the leader.
const LOCAL_OR_FORWARDED: &[Caller] = &[Caller::Local, Caller::Manager];
/// Whoever reaches the port: a machine that wants to join has no certificate yet.
const ANYONE: &[Caller] = &[Caller::Anyone, Caller::Worker, Caller::Manager];

/// Every RPC and its callers.
pub const RULES: &[Rule] = &[
    // The token, or the certificate presented, decides what is issued.
    ("/swarm.ca.v1.Ca/GetRootCertificate", ANYONE),
    ("/swarm.ca.v1.Ca/IssueNodeCertificate", ANYONE),
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
    ("/swarm.control.v1.Control/GetCluster", LOCAL),
    ("/swarm.control.v1.Control/RotateJoinToken", LOCAL),
    ("/swarm.control.v1.Control/ListNodes", LOCAL),
    ("/swarm.control.v1.Control/GetNode", LOCAL),
    ("/swarm.control.v1.Control/UpdateNode", LOCAL),
    ("/swarm.control.v1.Control/RemoveNode", LOCAL),
    ("/swarm.control.v1.Control/CreateService", LOCAL),
    ("/swarm.control.v1.Control/ListServices", LOCAL),
    ("/swarm.control.v1.Control/GetService", LOCAL),
    ("/swarm.control.v1.Control/UpdateService", LOCAL),
    ("/swarm.control.v1.Control/RemoveService", LOCAL),
    ("/swarm.control.v1.Control/WatchService", LOCAL),
    ("/swarm.control.v1.Control/ServiceLogs", LOCAL_OR_FORWARDED),
    ("/swarm.control.v1.Control/ListTasks", LOCAL),
    ("/swarm.control.v1.Control/GetTask", LOCAL),
    ("/swarm.daemon.v1.Daemon/GetStatus", LOCAL),
    ("/swarm.daemon.v1.Daemon/Init", LOCAL),
    ("/swarm.daemon.v1.Daemon/Join", LOCAL),
    ("/swarm.daemon.v1.Daemon/Leave", LOCAL),
    ("/swarm.daemon.v1.Images/Load", LOCAL),
    ("/swarm.daemon.v1.Images/Import", LOCAL),
    ("/swarm.daemon.v1.Images/List", LOCAL),
    ("/swarm.daemon.v1.Images/Inspect", LOCAL),
    ("/swarm.daemon.v1.Images/Remove", LOCAL),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_rpc_has_one_rule_and_every_rule_an_rpc() {
        let rules: BTreeSet<&str> = RULES.iter().map(|(path, _)| *path).collect();
        let rpcs: BTreeSet<&str> = proto::RPCS.iter().copied().collect();
        assert_eq!(rules, rpcs);
        assert_eq!(RULES.len(), rules.len(), "two rules for one RPC");
    }

    #[test]
    fn only_issuing_identity_is_open_to_strangers() {
        for (path, callers) in RULES {
            let open = callers.contains(&Caller::Anyone);
            assert_eq!(open, path.starts_with("/swarm.ca.v1.Ca/"), "{path}");
        }
    }

    #[test]
    fn nothing_local_is_reachable_by_workers() {
        for (path, callers) in RULES {
            if callers.contains(&Caller::Local) {
                assert!(!callers.contains(&Caller::Worker), "{path}");
            }
        }
    }
}
