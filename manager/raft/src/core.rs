//! The consensus library behind our own types: the only place that names it.
//!
//! Everything outside speaks of bytes, of the messages in `proto::raft` and of [`Observation`], so
//! that a new release of the library, or another one, is a change to this directory.

pub(crate) mod codec;
mod facts;
mod log_store;
mod machine;
mod network;
mod observe;
mod serve;
#[cfg(test)]
mod suite;
mod types;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::error::{
    ChangeMembershipError, ClientWriteError, Fatal, ForwardReason, ForwardToLeader,
    InitializeError, LinearizableReadError, RaftError,
};
use openraft::{BasicNode, ChangeMembers, Config, ReadPolicy, SnapshotPolicy};

pub(crate) use facts::Facts;
pub(crate) use serve::AppendAnswers;

use self::log_store::LogStore;
use self::machine::Machine;
use self::network::Network;
use self::types::{Command, TypeConfig};
use crate::log::recover::Recovered;
use crate::log::wal::Wal;
use crate::snapshot::SnapshotFile;
use crate::transport::Peers;
use crate::{Error, Options, StateMachine};

/// A committed entry and what applying it returned.
pub(crate) struct Written {
    pub(crate) index: u64,
    pub(crate) response: Vec<u8>,
}

/// Why this member did not do what only a leader can.
#[derive(Debug)]
pub(crate) enum Declined {
    /// Another member leads, as far as known. Nothing was written.
    NotLeader(Option<crate::Member>),
    /// This member leads but no quorum answers. Nothing was written.
    NoQuorum,
    /// The leader changed before the entry was committed; it may be or not.
    Indeterminate,
    /// Another change of the membership is under way.
    InProgress,
    /// The library refused the request for what it is.
    Invalid(String),
    /// The member has stopped.
    Failed(String),
}

/// A change of the membership.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// Adds a member that only receives the log.
    AddLearner { id: u64, addr: String },
    /// Lets a learner vote.
    Promote { id: u64 },
    /// Changes where a member answers.
    Readdress { id: u64, addr: String },
    /// Removes a voter.
    RemoveVoter { id: u64 },
    /// Removes a learner.
    RemoveLearner { id: u64 },
}

/// The running consensus of one member.
#[derive(Clone)]
pub(crate) struct Core {
    raft: openraft::Raft<TypeConfig, Machine>,
    facts: Arc<Facts>,
}

impl Core {
    /// Starts consensus on what was read back from disk.
    pub(crate) async fn start(
        options: &Options,
        facts: Arc<Facts>,
        recovered: Recovered,
        wal: Wal,
        snapshots: SnapshotFile,
        app: Arc<dyn StateMachine>,
        peers: Peers,
    ) -> Result<Self, Error> {
        let config = config(options)?;
        let damaged = |reason: String| Error::Corrupt {
            dir: options.dir.clone(),
            record: "log".to_owned(),
            reason,
        };
        let member_id = recovered.member_id;
        let store = LogStore::new(recovered, wal).map_err(|e| damaged(e.to_string()))?;
        let machine = Machine::new(app, snapshots.clone(), Arc::clone(&facts));
        let network = Network::new(peers, snapshots, Arc::clone(&facts));
        let started = openraft::Raft::new(member_id, config, network, store, machine).await;
        let raft = started.map_err(|fatal| {
            // The library keeps only the text of an error; the machine kept the error itself.
            facts.take_fault().unwrap_or_else(|| Error::Failed {
                reason: fatal.to_string(),
            })
        })?;
        Ok(Self { raft, facts })
    }

    /// Whether the member has a log or was spoken to by a group.
    pub(crate) async fn is_initialized(&self) -> Result<bool, Error> {
        self.raft.is_initialized().await.map_err(|e| failed(&e))
    }

    /// Whether this member is the only voter of its group.
    pub(crate) async fn votes_alone(&self) -> Result<bool, Error> {
        let me = self.facts.member_id();
        let alone = move |state: &openraft::RaftState<TypeConfig>| {
            state.membership_state.effective().voter_ids().eq([me])
        };
        self.raft
            .with_raft_state(alone)
            .await
            .map_err(|e| failed(&e))
    }

    /// Makes this member a group of its own.
    pub(crate) async fn initialize(&self, addr: &str) -> Result<(), Error> {
        let members = BTreeMap::from([(self.facts.member_id(), BasicNode::new(addr))]);
        self.raft.initialize(members).await.map_err(|e| match e {
            RaftError::APIError(InitializeError::NotAllowed(_)) => Error::AlreadyInitialized,
            RaftError::APIError(InitializeError::NotInMembers(e)) => Error::Failed {
                reason: e.to_string(),
            },
            RaftError::Fatal(fatal) => failed(&fatal),
        })
    }

    /// Starts an election now. Only right for a member that votes alone.
    pub(crate) async fn elect(&self) -> Result<(), Error> {
        self.raft
            .trigger()
            .elect(false)
            .await
            .map_err(|e| failed(&e))
    }

    /// Lets the library's clock tick, or not. A leader without anybody else in its group has nothing
    /// to send and nothing to fear, so its clock only costs wake-ups.
    pub(crate) fn keep_time(&self, enabled: bool) {
        self.raft.runtime_config().tick(enabled);
    }

    /// Keeps this member from starting elections.
    pub(crate) fn forbid_elections(&self) {
        self.raft.runtime_config().elect(false);
    }

    /// Writes `data` as leader; returns when it has been applied here.
    pub(crate) async fn write(&self, data: Bytes) -> Result<Written, Declined> {
        match self.raft.client_write(Command(data)).await {
            Ok(written) => Ok(Written {
                index: written.log_id.index,
                response: written.data.into_bytes(),
            }),
            Err(e) => Err(declined_write(e)),
        }
    }

    /// As leader, an index that includes everything committed before the call.
    pub(crate) async fn read_index(&self) -> Result<u64, Declined> {
        match self.raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
            Ok(read) => Ok(read.index()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(f))) => Err(forward(f)),
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                Err(Declined::NoQuorum)
            }
            Err(RaftError::Fatal(fatal)) => Err(Declined::Failed(fatal.to_string())),
        }
    }

    /// Changes the membership as leader; returns when the change is committed.
    pub(crate) async fn change(&self, change: Change) -> Result<(), Declined> {
        let one = |id| BTreeSet::from([id]);
        let node = |id, addr: &str| BTreeMap::from([(id, BasicNode::new(addr))]);
        let members = match change {
            Change::AddLearner { id, addr } => ChangeMembers::AddNodes(node(id, &addr)),
            Change::Promote { id } => ChangeMembers::AddVoterIds(one(id)),
            Change::Readdress { id, addr } => ChangeMembers::SetNodes(node(id, &addr)),
            Change::RemoveVoter { id } => ChangeMembers::RemoveVoters(one(id)),
            Change::RemoveLearner { id } => ChangeMembers::RemoveNodes(one(id)),
        };
        match self.raft.change_membership(members, false).await {
            Ok(_) => Ok(()),
            Err(e) => Err(declined_write(e)),
        }
    }

    /// Asks member `to` to take over.
    pub(crate) async fn transfer_leader(&self, to: u64) -> Result<(), Error> {
        self.raft
            .trigger()
            .transfer_leader(to)
            .await
            .map_err(|e| failed(&e))
    }

    /// Starts taking a snapshot, unless one is being taken.
    pub(crate) async fn snapshot(&self) -> Result<(), Error> {
        self.raft.trigger().snapshot().await.map_err(|e| failed(&e))
    }

    /// Stops everything the library runs.
    pub(crate) async fn shutdown(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "consensus did not stop cleanly");
        }
    }
}

fn config(options: &Options) -> Result<Arc<Config>, Error> {
    let config = Config {
        cluster_name: "swarm".to_owned(),
        heartbeat_interval: options.heartbeat_ms,
        election_timeout_min: options.election_min_ms,
        election_timeout_max: options.election_max_ms,
        // Keeps a member that was cut off from disturbing the others when it comes back.
        enable_pre_vote: Some(true),
        // A restarted leader has to be elected again: only an entry of its new term proves which of
        // the entries on its disk are committed.
        enable_leader_restore: Some(false),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(options.snapshot_interval),
        max_in_snapshot_log_to_keep: options.snapshot_keep_entries,
        replication_lag_threshold: options.snapshot_interval * 2,
        // The first retries are quick, for a peer that has restarted.
        backoff: "20ms 50ms 100ms ...500ms".to_owned(),
        ..Config::default()
    };
    let config = config.validate().map_err(|e| Error::Options {
        name: "election_min_ms",
        reason: e.to_string(),
    })?;
    Ok(Arc::new(config))
}

fn failed(fatal: &Fatal<TypeConfig>) -> Error {
    match fatal {
        Fatal::Stopped => Error::Stopped,
        Fatal::Panicked | Fatal::StorageError(_) => Error::Failed {
            reason: fatal.to_string(),
        },
    }
}

fn forward(forward: ForwardToLeader<TypeConfig>) -> Declined {
    match forward.reason {
        ForwardReason::LeaseExpired => Declined::NoQuorum,
        // While leadership is being transferred the successor is not known yet.
        ForwardReason::NotLeader | ForwardReason::LeadershipTransfer => Declined::NotLeader(
            forward
                .leader_id
                .zip(forward.leader_node)
                .map(|(id, node)| crate::Member {
                    id,
                    addr: node.addr,
                    voter: true,
                    reachable: true,
                }),
        ),
    }
}

fn declined_write(error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> Declined {
    let error = match error {
        RaftError::APIError(error) => error,
        RaftError::Fatal(fatal) => return Declined::Failed(fatal.to_string()),
    };
    match error {
        ClientWriteError::ForwardToLeader(f) => forward(f),
        ClientWriteError::LogEntryDiscarded(_) => Declined::Indeterminate,
        ClientWriteError::ChangeMembershipError(
            ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_),
        ) => Declined::InProgress,
        ClientWriteError::ChangeMembershipError(e) => Declined::Invalid(e.to_string()),
        ClientWriteError::PreconditionFailed(e) => Declined::Invalid(e.to_string()),
    }
}

/// How long a write may take before the caller is told that its outcome is unknown.
pub(crate) async fn within<T>(
    timeout: Duration,
    work: impl Future<Output = Result<T, Declined>>,
) -> Result<T, Declined> {
    tokio::time::timeout(timeout, work)
        .await
        .unwrap_or(Err(Declined::Indeterminate))
}
