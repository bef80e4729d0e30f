//! Fetches what drivers give for the tasks of one node, beside its session.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use seal::SealKey;
use tokio::task::{AbortHandle, JoinSet};
use types::TaskId;
use types::secret::ContentKey;

use crate::driver::{self, Request, SecretDrivers};
use crate::mailbox::Mailbox;

/// Pause before a driver that failed is asked again: doubles from the first to the second.
const RETRY_PAUSE_MIN: Duration = Duration::from_secs(1);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Content in an envelope for the agent, or why there is none yet.
pub(crate) type News = Result<Vec<u8>, String>;

/// What is being fetched, and what came.
#[derive(Debug)]
pub(crate) struct Fetches {
    drivers: Arc<SecretDrivers>,
    mailbox: Arc<Mailbox>,
    news: Arc<Mutex<BTreeMap<ContentKey, News>>>,
    asked: BTreeMap<ContentKey, AbortHandle>,
    running: JoinSet<()>,
}

/// One fetch.
pub(crate) struct Fetch {
    pub(crate) key: ContentKey,
    pub(crate) task: TaskId,
    pub(crate) driver: String,
    pub(crate) request: Request,
    pub(crate) seal_key: SealKey,
}

impl Fetches {
    pub(crate) fn new(drivers: Arc<SecretDrivers>, mailbox: Arc<Mailbox>) -> Self {
        Self {
            drivers,
            mailbox,
            news: Arc::default(),
            asked: BTreeMap::new(),
            running: JoinSet::new(),
        }
    }

    /// What came since the last call.
    pub(crate) fn take(&mut self, key: &ContentKey) -> Option<News> {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        news.remove(key)
    }

    /// Begins to fetch, unless it was begun already. News are told by marking the task.
    pub(crate) fn begin(&mut self, key: ContentKey, fetch: impl FnOnce() -> Fetch) {
        if self.asked.contains_key(&key) {
            return;
        }
        // Reaps those that ended.
        while self.running.try_join_next().is_some() {}
        let (drivers, mailbox) = (self.drivers.clone(), self.mailbox.clone());
        let (news, fetch) = (self.news.clone(), fetch());
        let handle = self.running.spawn(async move {
            let mut pause = RETRY_PAUSE_MIN;
            loop {
                let given = driver::ask(&drivers, &fetch.driver, &fetch.request).await;
                let sealed = given.and_then(|plain| {
                    let context = fetch.key.context();
                    let sealed = fetch.seal_key.seal(&context, plain);
                    sealed.map_err(|error| error.to_string())
                });
                let is_done = sealed.is_ok();
                if let Err(problem) = &sealed {
                    tracing::warn!(task = %fetch.task, problem, "a secret was not fetched");
                }
                news.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(fetch.key, sealed);
                mailbox.mark(|dirty| {
                    dirty.tasks.insert(fetch.task);
                });
                if is_done {
                    return;
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY_PAUSE_MAX);
            }
        });
        self.asked.insert(key, handle);
    }

    /// Gives up everything but these.
    pub(crate) fn retain(&mut self, wanted: &BTreeSet<ContentKey>) {
        self.asked.retain(|key, handle| {
            let is_wanted = wanted.contains(key);
            if !is_wanted {
                handle.abort();
            }
            is_wanted
        });
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        news.retain(|key, _| wanted.contains(key));
    }
}
