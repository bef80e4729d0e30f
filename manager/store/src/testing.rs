//! A proposer that applies without Raft, for tests of anything that proposes.

use std::sync::Mutex;

use async_trait::async_trait;
use types::{Timestamp, Version};

use crate::{Action, Propose, ProposeError, Store, Transaction};

/// Applies proposals straight to a store, one after the other.
#[derive(Debug)]
pub struct LocalProposer {
    store: Store,
    version: Mutex<u64>,
}

impl LocalProposer {
    /// Proposes to `store`, from its current version on.
    #[must_use]
    pub fn new(store: Store) -> Self {
        let version = store.state().version().index;
        Self {
            store,
            version: Mutex::new(version),
        }
    }
}

#[async_trait]
impl Propose for LocalProposer {
    async fn propose(&self, actions: Vec<Action>) -> Result<Version, ProposeError> {
        let mut version = self.version.lock().expect("no test panics while proposing");
        *version += 1;
        let index = Version { index: *version };
        self.store.apply(
            index,
            &Transaction {
                now: Timestamp::now(),
                actions,
            },
        )?;
        Ok(index)
    }
}
