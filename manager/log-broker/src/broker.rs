//! The handle, and what runs while this manager leads.

use std::sync::Arc;

use store::{Event, Object, Store};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::hub::{Hub, SUBSCRIPTIONS_MAX};
use crate::{LogOptions, Selector, Subscription};

/// A log broker's environment.
#[derive(Clone)]
pub struct Options {
    /// Which tasks there are, and where.
    pub store: Store,
}

/// Why nothing can be subscribed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Only the leader knows the nodes.
    #[error("this manager does not lead the swarm")]
    NotLeading,
    /// Too many at once.
    #[error("too many logs are being read at the same time: at most {SUBSCRIPTIONS_MAX}")]
    TooMany,
}

/// The log broker of one manager. Clones share it.
#[derive(Clone)]
pub struct LogBroker {
    pub(crate) options: Arc<Options>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) streams: TaskTracker,
}

impl LogBroker {
    /// A broker that does not lead yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            options: Arc::new(options),
            hub: Arc::default(),
            streams: TaskTracker::new(),
        }
    }

    /// Takes streams and subscriptions until `shutdown`: call it whenever this manager becomes the
    /// leader.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut watch = self.options.store.watch();
        self.hub.lock().open();
        let follow = async {
            loop {
                match watch.next().await {
                    Event::Commit(commit) => {
                        for change in &commit.changes {
                            if let Some(Object::Task(task)) = &change.new {
                                self.hub.lock().placed(task);
                            }
                        }
                    }
                    Event::Resync => {
                        for task in self.options.store.state().tasks() {
                            self.hub.lock().placed(task);
                        }
                    }
                }
            }
        };
        let stopped: Option<std::convert::Infallible> = shutdown.run_until_cancelled(follow).await;
        debug_assert!(stopped.is_none());
        self.hub.lock().close();
        self.streams.close();
        self.streams.wait().await;
        self.streams.reopen();
    }

    /// Asks the nodes that hold the selected tasks for their output.
    ///
    /// # Errors
    /// When this manager does not lead, or too much is being read already.
    pub fn subscribe(
        &self,
        selector: Selector,
        options: LogOptions,
    ) -> Result<Subscription, Error> {
        let wake = Arc::new(Notify::new());
        let state = self.options.store.state();
        let mut hub = self.hub.lock();
        if !hub.is_open() {
            return Err(Error::NotLeading);
        }
        let id = hub
            .subscribe(&state, selector, options, wake.clone())
            .ok_or(Error::TooMany)?;
        Ok(Subscription::new(self.hub.clone(), id, wake))
    }
}
