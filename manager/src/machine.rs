//! The store as the state machine that the Raft log acts on.

use raft::{BoxError, StateMachine};
use store::{Refusal, RefusalReason, Store, codec};
use types::Version;

/// Applies committed transactions to a store.
#[derive(Clone, Debug)]
pub struct StoreMachine {
    store: Store,
}

impl StoreMachine {
    /// Applies to `store`; nobody else may.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}

impl StateMachine for StoreMachine {
    fn apply(&self, index: u64, data: &[u8]) -> Vec<u8> {
        let version = Version { index };
        let outcome = match codec::decode_transaction(data) {
            Ok(transaction) => self.store.apply(version, &transaction),
            Err(error) => {
                // Every manager refuses it alike, so the stores stay equal.
                tracing::error!(index, %error, "a log entry is not a transaction");
                Err(Refusal {
                    action: 0,
                    reason: RefusalReason::Malformed,
                    object: error.to_string(),
                })
            }
        };
        codec::encode_outcome(version, &outcome)
    }

    fn snapshot(&self) -> Box<dyn FnOnce() -> Vec<u8> + Send> {
        let state = self.store.state();
        Box::new(move || codec::encode_snapshot(&state))
    }

    fn restore(&self, _index: u64, data: &[u8]) -> Result<(), BoxError> {
        self.store.replace(codec::decode_snapshot(data)?);
        Ok(())
    }
}
