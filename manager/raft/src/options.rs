//! The settings of a member, their defaults, and what makes them inconsistent.

use std::path::PathBuf;

use crate::{DataKey, Error};

/// Which library keeps the log on disk. Both pass the same tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendKind {
    /// sled 0.34, in `log/`.
    #[default]
    Sled,
    /// redb 4, in `log.redb`.
    Redb,
}

/// The settings of a member.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where log and snapshot live. Created with mode 0700.
    pub dir: PathBuf,
    /// Random 64-bit id for a fresh directory; a directory that has a log keeps the id it was made
    /// with, see [`Raft::member_id`](crate::Raft::member_id). Never reused after removal.
    pub member_id: u64,
    /// Pause between two heartbeats of a leader.
    pub heartbeat_ms: u64,
    /// Lower end of the random wait before an election.
    pub election_min_ms: u64,
    /// Upper end, and how long a leader counts as alive after its last sign: an election starts at
    /// most twice this long after it.
    pub election_max_ms: u64,
    /// Entries after which a snapshot is taken (SwarmKit's 10,000).
    pub snapshot_interval: u64,
    /// Bytes of entries after which a snapshot is taken, so that large entries do not fill memory.
    pub snapshot_interval_bytes: u64,
    /// Entries kept behind a snapshot for slow followers (SwarmKit's 500).
    pub snapshot_keep_entries: u64,
    /// Largest proposal (SwarmKit's 1.5 MiB).
    pub proposal_bytes_max: usize,
    /// How long a call waits for its answer.
    pub proposal_timeout_ms: u64,
    /// How long a call waits for somebody to lead before it fails with [`Error::NoLeader`].
    pub leader_wait_ms: u64,
    /// How long [`Raft::add_member`](crate::Raft::add_member) waits for the new member's address to
    /// answer (SwarmKit's 5 s).
    pub health_check_ms: u64,
    /// How long [`Raft::add_member`](crate::Raft::add_member) waits for the new member to hold the
    /// log. After that it stays a learner; asking again goes on from there.
    pub catch_up_timeout_ms: u64,
    /// What keeps the log.
    pub backend: BackendKind,
    /// Opens what is on disk, and seals what is written unless there is a pending key.
    pub key: DataKey,
    /// The key of a rotation that has begun: seals what is written, and opens what it sealed before.
    pub pending_key: Option<DataKey>,
}

impl Options {
    /// The defaults, for the given place, id and key.
    #[must_use]
    pub fn new(dir: PathBuf, member_id: u64, key: DataKey) -> Self {
        Self {
            dir,
            member_id,
            heartbeat_ms: 100,
            election_min_ms: 250,
            election_max_ms: 400,
            snapshot_interval: 10_000,
            snapshot_interval_bytes: 64 << 20,
            snapshot_keep_entries: 500,
            proposal_bytes_max: 3 << 19,
            proposal_timeout_ms: 20_000,
            leader_wait_ms: 3_000,
            health_check_ms: 5_000,
            catch_up_timeout_ms: 60_000,
            backend: BackendKind::default(),
            key,
            pending_key: None,
        }
    }

    /// # Errors
    /// [`Error::Options`] names the first option that does not make sense.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let refuse = |name, reason: &str| {
            Err(Error::Options {
                name,
                reason: reason.to_owned(),
            })
        };
        if self.member_id == 0 {
            return refuse("member_id", "zero is not an id");
        }
        if self.heartbeat_ms == 0 || self.heartbeat_ms >= self.election_min_ms {
            return refuse("heartbeat_ms", "must be positive and below election_min_ms");
        }
        if self.election_min_ms >= self.election_max_ms {
            return refuse("election_min_ms", "must be below election_max_ms");
        }
        if self.snapshot_interval == 0 {
            return refuse("snapshot_interval", "must be positive");
        }
        if self.proposal_bytes_max > 3 << 20 {
            return refuse("proposal_bytes_max", "must fit a message of 4 MiB");
        }
        Ok(())
    }

    /// For how long a sign of life counts: twice the upper election timeout.
    pub(crate) fn contact_ms(&self) -> u64 {
        self.election_max_ms * 2
    }
}
