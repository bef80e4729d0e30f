//! How anything asks for a change: by proposing a transaction to the group.

use async_trait::async_trait;
use types::Version;

use crate::{Action, Refusal};

/// Proposes transactions; any manager can, the leader commits.
#[async_trait]
pub trait Propose: Send + Sync + 'static {
    /// Commits the actions as one transaction and returns once this manager's own store holds it.
    ///
    /// # Errors
    /// [`ProposeError::Refused`] when a check failed and nothing changed; the others when it is
    /// not known to be committed.
    async fn propose(&self, actions: Vec<Action>) -> Result<Version, ProposeError>;
}

/// Why a proposal has no known result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// A check failed; nothing changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Nobody leads, so nothing can be written.
    #[error("the swarm does not have a leader: too few managers are online to agree on a change")]
    NoLeader,
    /// No answer in time; the change may still happen.
    #[error("the change was not confirmed in time and may still be applied")]
    Timeout,
    /// More than one transaction can hold.
    #[error("the request is too large: {bytes} bytes, at most {max} are allowed")]
    TooLarge {
        /// Encoded size.
        bytes: usize,
        /// Largest allowed.
        max: usize,
    },
    /// This manager is stopping.
    #[error("this manager is shutting down")]
    Shutdown,
}
