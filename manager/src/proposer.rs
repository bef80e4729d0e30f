//! Proposing transactions through Raft.

use async_trait::async_trait;
use raft::{Committed, Error, Raft};
use store::{Action, Propose, ProposeError, TRANSACTION_BYTES_MAX, Transaction, codec};
use types::{Timestamp, Version};

/// Who may commit a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Through {
    /// Whoever leads: passed on if that is another manager.
    AnyLeader,
    /// Only this manager as leader: what a leader decided must not be written by its successor.
    OwnLeadership,
}

/// Proposes through a member of the group.
#[derive(Clone)]
pub struct RaftProposer {
    raft: Raft,
    through: Through,
}

impl RaftProposer {
    /// For what users and nodes ask: any manager takes it, the leader commits it.
    #[must_use]
    pub fn new(raft: Raft) -> Self {
        Self {
            raft,
            through: Through::AnyLeader,
        }
    }

    /// For what the leader decides by itself: refused once this manager does not lead.
    #[must_use]
    pub fn leading(raft: Raft) -> Self {
        Self {
            raft,
            through: Through::OwnLeadership,
        }
    }
}

#[async_trait]
impl Propose for RaftProposer {
    async fn propose(&self, actions: Vec<Action>) -> Result<Version, ProposeError> {
        let data = codec::encode_transaction(&Transaction {
            now: Timestamp::now(),
            actions,
        });
        if data.len() > TRANSACTION_BYTES_MAX {
            let (bytes, max) = (data.len(), TRANSACTION_BYTES_MAX);
            return Err(ProposeError::TooLarge { bytes, max });
        }
        let proposed = match self.through {
            Through::AnyLeader => self.raft.propose(data).await,
            Through::OwnLeadership => self.raft.propose_leading(data).await,
        };
        let Committed { index, response } = proposed.map_err(refused)?;
        match codec::decode_outcome(&response) {
            Ok(outcome) => Ok(outcome?),
            Err(error) => {
                tracing::error!(index, %error, "the answer to a proposal cannot be read");
                Err(ProposeError::Timeout)
            }
        }
    }
}

fn refused(error: Error) -> ProposeError {
    match error {
        Error::NoLeader => ProposeError::NoLeader,
        Error::Indeterminate { .. } | Error::Timeout { .. } => ProposeError::Timeout,
        Error::TooLarge {
            size_bytes,
            max_bytes,
        } => ProposeError::TooLarge {
            bytes: size_bytes,
            max: max_bytes,
        },
        Error::Stopped | Error::Failed { .. } | Error::MemberRemoved { .. } => {
            ProposeError::Shutdown
        }
        other => {
            tracing::warn!(error = %other, "a proposal failed in an unexpected way");
            ProposeError::Timeout
        }
    }
}
