//! Everything that can go wrong in this crate, and how it crosses from one manager to another.

use std::path::PathBuf;

use proto::raft as pb;

/// An error of the daemon's own parts (dialling, restoring state).
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What this crate refuses or fails to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No member leads, or the leader does not hear from a quorum. Nothing was written.
    #[error("the cluster does not have a leader")]
    NoLeader,
    /// No answer in time or the leader changed meanwhile: the proposal may or may not be committed.
    #[error("no answer about the proposal within {waited_ms} ms, it may be committed")]
    Indeterminate {
        /// How long the caller waited.
        waited_ms: u64,
    },
    /// No answer in time; nothing was written.
    #[error("{what} did not finish within {waited_ms} ms")]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// How long.
        waited_ms: u64,
    },
    /// The proposal is larger than [`Options::proposal_bytes_max`](crate::Options::proposal_bytes_max).
    #[error("proposal of {size_bytes} bytes is larger than the limit of {max_bytes}")]
    TooLarge {
        /// Size of the refused proposal.
        size_bytes: usize,
        /// The limit.
        max_bytes: usize,
    },
    /// This member, or the one named in a call, was removed from the group; its id is spent.
    #[error("member {id:x} was removed from the group")]
    MemberRemoved {
        /// The removed member.
        id: u64,
    },
    /// The only voter cannot be removed.
    #[error("member {id:x} is the last one")]
    LastMember {
        /// The member that was to be removed.
        id: u64,
    },
    /// Removing the member would leave fewer reachable voters than a quorum.
    #[error("removing member {id:x} leaves {reachable} reachable of {quorum} needed")]
    QuorumLoss {
        /// The member that was to be removed.
        id: u64,
        /// Voters that would remain and answer.
        reachable: usize,
        /// Voters that would be needed.
        quorum: usize,
    },
    /// Not a member of the group.
    #[error("member {id:x} is not known")]
    UnknownMember {
        /// The id asked for.
        id: u64,
    },
    /// The address given for a new member does not answer.
    #[error("no answer from {addr}: {reason}")]
    Unreachable {
        /// The address tried.
        addr: String,
        /// Why it failed.
        reason: String,
    },
    /// Another member answers at the address given for a new one.
    #[error("member {actual:x} answers at {addr}, not {expected:x}")]
    WrongMember {
        /// The address tried.
        addr: String,
        /// The member that was to be there.
        expected: u64,
        /// The member that is there.
        actual: u64,
    },
    /// The member has a log already.
    #[error("the member belongs to a group already")]
    AlreadyInitialized,
    /// Another process, or another member of this one, works in the directory.
    #[error("{dir} is in use by another process")]
    InUse {
        /// The member's directory.
        dir: PathBuf,
    },
    /// None of the given keys opens the log.
    #[error("the data key does not open the log in {dir}")]
    WrongKey {
        /// The member's directory.
        dir: PathBuf,
    },
    /// A record on disk cannot be read; see the crate's documentation for what to do.
    #[error("record {record} in {dir} is damaged: {reason}")]
    Corrupt {
        /// The member's directory.
        dir: PathBuf,
        /// Which record.
        record: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The disk refused an operation.
    #[error("{what} {path}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The options contradict each other.
    #[error("option {name}: {reason}")]
    Options {
        /// Which option.
        name: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The member has stopped for good; see [`Condition::Failed`](crate::Condition::Failed).
    #[error("the member has failed: {reason}")]
    Failed {
        /// Why.
        reason: String,
    },
    /// The member was shut down.
    #[error("the member is stopped")]
    Stopped,
    /// Another manager refused for a reason that has no variant of its own.
    #[error("refused by the leader: {reason}")]
    Refused {
        /// What it said.
        reason: String,
    },
}

impl Error {
    /// How this error is told to another manager. Numbers that only matter here are lost.
    pub(crate) fn to_refusal(&self) -> pb::Refusal {
        use pb::refusal::Reason;
        let reason = match self {
            Self::NoLeader => Reason::NoLeader,
            Self::Indeterminate { .. } => Reason::Indeterminate,
            Self::Timeout { .. } => Reason::Timeout,
            Self::TooLarge { .. } => Reason::TooLarge,
            Self::MemberRemoved { .. } => Reason::MemberRemoved,
            Self::LastMember { .. } => Reason::LastMember,
            Self::QuorumLoss { .. } => Reason::QuorumLoss,
            Self::UnknownMember { .. } => Reason::UnknownMember,
            Self::Unreachable { .. } => Reason::Unreachable,
            Self::WrongMember { .. } => Reason::WrongMember,
            Self::Failed { .. } | Self::Stopped => Reason::Stopped,
            Self::AlreadyInitialized
            | Self::InUse { .. }
            | Self::WrongKey { .. }
            | Self::Corrupt { .. }
            | Self::Io { .. }
            | Self::Options { .. }
            | Self::Refused { .. } => Reason::Unspecified,
        };
        pb::Refusal {
            reason: reason.into(),
            detail: self.to_string(),
            leader: None,
        }
    }

    /// The error another manager meant, about `subject` (a member id, or 0 where none is meant).
    pub(crate) fn from_refusal(refusal: pb::Refusal, subject: u64) -> Self {
        use pb::refusal::Reason;
        match refusal.reason() {
            Reason::NoLeader | Reason::NotLeader => Self::NoLeader,
            Reason::Indeterminate => Self::Indeterminate { waited_ms: 0 },
            Reason::Timeout => Self::Timeout {
                what: "the leader",
                waited_ms: 0,
            },
            Reason::MemberRemoved => Self::MemberRemoved { id: subject },
            Reason::LastMember => Self::LastMember { id: subject },
            Reason::QuorumLoss => Self::QuorumLoss {
                id: subject,
                reachable: 0,
                quorum: 0,
            },
            Reason::UnknownMember => Self::UnknownMember { id: subject },
            Reason::Unreachable => Self::Unreachable {
                addr: String::new(),
                reason: refusal.detail,
            },
            Reason::Unspecified | Reason::TooLarge | Reason::WrongMember | Reason::Stopped => {
                Self::Refused {
                    reason: refusal.detail,
                }
            }
        }
    }
}
