//! One manager: its store, its part in the Raft group, and what it runs while it leads.

use std::sync::Arc;

use raft::{Dialer, Error, Options, Raft};
use store::Store;
use tokio_util::sync::CancellationToken;

use crate::leader::{self, LeaderPart};
use crate::{RaftProposer, StoreMachine};

/// A manager. Clones are the same one.
#[derive(Clone)]
pub struct Member {
    store: Store,
    raft: Raft,
}

impl Member {
    /// Opens the manager's state and takes part in the group it belongs to, if any.
    ///
    /// # Errors
    /// What opening the log or the snapshot met.
    pub async fn start(options: Options, dialer: Arc<dyn Dialer>) -> Result<Self, Error> {
        let store = Store::new();
        let machine = Arc::new(StoreMachine::new(store.clone()));
        let raft = Raft::start(options, machine, dialer).await?;
        Ok(Self { store, raft })
    }

    /// What is true, as far as this manager knows.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Its part in the group.
    #[must_use]
    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    /// Proposes what users and nodes ask.
    #[must_use]
    pub fn proposer(&self) -> RaftProposer {
        RaftProposer::new(self.raft.clone())
    }

    /// Leads whenever the group says so, until the token is cancelled. `parts` run along with the
    /// planners.
    pub async fn run(&self, parts: Vec<Arc<dyn LeaderPart>>, shutdown: CancellationToken) {
        let mut status = self.raft.status();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                won = status.wait_for(|status| status.is_leader) => {
                    if won.is_err() {
                        return;
                    }
                }
            }
            // What former leaders committed has to be here before anything is decided on it.
            if let Err(error) = self.raft.read_barrier().await {
                tracing::info!(%error, "leadership went before it was used");
                continue;
            }
            let term = status.borrow().term;
            let leading = shutdown.child_token();
            let lost = async {
                // A closed channel means that the member has stopped.
                drop(status.wait_for(|s| !s.is_leader || s.term != term).await);
                leading.cancel();
            };
            let lead = leader::lead(&self.store, &self.raft, &parts, leading.clone());
            let by_itself = {
                tokio::pin!(lead);
                tokio::select! {
                    () = &mut lead => !shutdown.is_cancelled(),
                    () = lost => {
                        lead.await;
                        false
                    }
                }
            };
            if by_itself {
                // A loop ended: let another manager lead, or start over.
                drop(self.raft.transfer_leadership(None).await);
            }
        }
    }

    /// Stops taking part; a leader hands over first.
    pub async fn shutdown(self) {
        let has_successor = {
            let status = self.raft.status();
            let status = status.borrow();
            status.is_leader && status.members.iter().filter(|it| it.voter).count() > 1
        };
        if has_successor {
            // With nobody to take over there is nothing to do but go.
            if let Err(error) = self.raft.transfer_leadership(None).await {
                tracing::info!(%error, "leadership could not be handed over");
            }
        }
        self.raft.shutdown().await;
    }
}
