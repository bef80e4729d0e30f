//! The handle everything shares: the current state for readers, and the watch on its changes.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::broadcast;
use types::Version;

use crate::{Change, Refusal, State, Transaction};

/// Commits a slow watcher may lag behind before it has to re-read everything.
const WATCH_COMMITS_MAX: usize = 4096;

/// The store of one manager. Clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    state: Arc<ArcSwap<State>>,
    commits: broadcast::Sender<Arc<Commit>>,
}

/// One applied transaction, or a restored snapshot when it has no changes.
#[derive(Debug)]
pub struct Commit {
    /// Its version.
    pub version: Version,
    /// The state right after it.
    pub state: Arc<State>,
    /// What it changed, in order.
    pub changes: Vec<Change>,
    /// True when the whole state was replaced.
    pub(crate) replaced: bool,
}

/// What a watcher learns.
#[derive(Clone, Debug)]
pub enum Event {
    /// One transaction was applied.
    Commit(Arc<Commit>),
    /// Commits were missed or the state was replaced: read the whole state again.
    Resync,
}

/// A snapshot that could not be read. The store is unchanged.
#[derive(Debug, thiserror::Error)]
#[error("restoring the store from a snapshot: {0}")]
pub struct RestoreError(pub String);

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

impl Store {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        let (commits, _) = broadcast::channel(WATCH_COMMITS_MAX);
        Self {
            state: Arc::new(ArcSwap::from_pointee(State::default())),
            commits,
        }
    }

    /// The state as last applied.
    #[must_use]
    pub fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// Changes from now on. Take it before reading the state and nothing is missed.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch {
            commits: self.commits.subscribe(),
        }
    }

    /// Applies a transaction. Only the Raft apply loop calls this: one writer at a time.
    ///
    /// # Errors
    /// The refusal, when a check failed; nothing but the version changed then.
    pub fn apply(&self, version: Version, transaction: &Transaction) -> Result<(), Refusal> {
        let mut state = State::clone(&self.state.load());
        let result = state.apply(version, transaction);
        let state = Arc::new(state);
        self.state.store(state.clone());
        let changes = result?;
        if !changes.is_empty() {
            let commit = Commit {
                version,
                state,
                changes,
                replaced: false,
            };
            // Nobody watching is no error.
            drop(self.commits.send(Arc::new(commit)));
        }
        Ok(())
    }

    /// Replaces everything by a restored state.
    pub fn replace(&self, state: State) {
        let state = Arc::new(state);
        self.state.store(state.clone());
        let commit = Commit {
            version: state.version(),
            state,
            changes: vec![],
            replaced: true,
        };
        drop(self.commits.send(Arc::new(commit)));
    }
}

/// A watcher's place in the stream of commits.
#[derive(Debug)]
pub struct Watch {
    commits: broadcast::Receiver<Arc<Commit>>,
}

impl Watch {
    /// Waits for the next event. Cancel-safe. Never ends: a store outlives its watchers' need,
    /// so a dropped store simply stops telling.
    pub async fn next(&mut self) -> Event {
        match self.commits.recv().await {
            Ok(commit) => event(commit),
            Err(broadcast::error::RecvError::Lagged(_)) => Event::Resync,
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }

    /// The next event, if there is one already.
    pub fn try_next(&mut self) -> Option<Event> {
        match self.commits.try_recv() {
            Ok(commit) => Some(event(commit)),
            Err(broadcast::error::TryRecvError::Lagged(_)) => Some(Event::Resync),
            Err(broadcast::error::TryRecvError::Empty | broadcast::error::TryRecvError::Closed) => {
                None
            }
        }
    }
}

fn event(commit: Arc<Commit>) -> Event {
    if commit.replaced {
        Event::Resync
    } else {
        Event::Commit(commit)
    }
}
