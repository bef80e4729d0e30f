//! What a user of the replicated log implements: the state that committed bytes act on.

use crate::BoxError;

/// The state that the log is about. All members apply the same bytes at the same indexes.
pub trait StateMachine: Send + Sync + 'static {
    /// Applies the committed `data` of entry `index` and returns what its proposer is told.
    ///
    /// Must depend on nothing but the state and the arguments. Called by one task at a time, with
    /// increasing indexes; some indexes are never seen, because they belong to the log itself.
    fn apply(&self, index: u64, data: &[u8]) -> Vec<u8>;

    /// Captures the state in constant time. The returned closure encodes it later, elsewhere, while
    /// further entries are applied.
    fn snapshot(&self) -> Box<dyn FnOnce() -> Vec<u8> + Send>;

    /// Replaces the state by an encoded snapshot that includes everything up to entry `index`.
    ///
    /// # Errors
    /// The bytes are not a snapshot; the member stops, since it cannot follow the others any more.
    fn restore(&self, index: u64, data: &[u8]) -> Result<(), BoxError>;
}
