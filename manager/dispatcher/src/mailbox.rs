//! How a session learns that something of its node changed: what to look at again, never what to do.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use types::TaskId;

/// What has to be read again.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Dirty {
    /// These tasks.
    pub(crate) tasks: BTreeSet<TaskId>,
    /// The node itself, the managers or the roots.
    pub(crate) node: bool,
    /// Everything: commits were missed.
    pub(crate) all: bool,
}

/// One session's mailbox, and the way to end it.
#[derive(Debug)]
pub(crate) struct Mailbox {
    dirty: Mutex<Dirty>,
    wake: Notify,
    ended: Mutex<Option<tonic::Status>>,
    token: CancellationToken,
}

impl Mailbox {
    /// A mailbox whose session ends with the term at the latest.
    pub(crate) fn new(term: &CancellationToken) -> Self {
        Self {
            dirty: Mutex::default(),
            wake: Notify::new(),
            ended: Mutex::default(),
            token: term.child_token(),
        }
    }

    /// Marks something and wakes the session.
    pub(crate) fn mark(&self, mark: impl FnOnce(&mut Dirty)) {
        mark(&mut self.dirty.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_one();
    }

    /// Waits for marks and takes them all. Cancel-safe.
    pub(crate) async fn next(&self) -> Dirty {
        loop {
            let dirty = {
                let mut dirty = self.dirty.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::take(&mut *dirty)
            };
            if dirty != Dirty::default() {
                return dirty;
            }
            self.wake.notified().await;
        }
    }

    /// Ends the session; its agent is told `why`.
    pub(crate) fn end(&self, why: tonic::Status) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.get_or_insert(why);
        self.token.cancel();
    }

    /// Waits until the session is to end. Cancel-safe.
    pub(crate) async fn ended(&self) -> tonic::Status {
        self.token.cancelled().await;
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended
            .clone()
            .unwrap_or_else(|| tonic::Status::unavailable("the manager lost leadership"))
    }
}
