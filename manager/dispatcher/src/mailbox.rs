//! How a session learns that something of its node changed: what to look at again, never what to do.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;
use types::{NetworkId, TaskId};

use crate::check;
use crate::reach::DirtyReach;

/// What has to be read again.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Dirty {
    /// These tasks.
    pub(crate) tasks: BTreeSet<TaskId>,
    /// The node itself, the managers or the roots.
    pub(crate) node: bool,
    /// Somebody wants to know how the node's networks are.
    pub(crate) check: bool,
    /// Everything: commits were missed.
    pub(crate) all: bool,
    /// The node is to send a heartbeat at once.
    pub(crate) call: bool,
    /// What the node knows of others.
    pub(crate) reach: DirtyReach,
}

/// One session's mailbox, and the way to end it.
#[derive(Debug)]
pub(crate) struct Mailbox {
    dirty: Mutex<Dirty>,
    wake: Notify,
    ended: Mutex<Option<tonic::Status>>,
    token: CancellationToken,
    /// Networks the node takes part in, as its session last saw them.
    on: Mutex<BTreeSet<NetworkId>>,
    /// Those who want to know how the node's networks are.
    checks: Mutex<Vec<check::Reply>>,
}

impl Mailbox {
    /// A mailbox whose session ends with the term at the latest.
    pub(crate) fn new(term: &CancellationToken) -> Self {
        Self {
            dirty: Mutex::default(),
            wake: Notify::new(),
            ended: Mutex::default(),
            token: term.child_token(),
            on: Mutex::default(),
            checks: Mutex::default(),
        }
    }

    /// Marks something and wakes the session.
    pub(crate) fn mark(&self, mark: impl FnOnce(&mut Dirty)) {
        mark(&mut self.dirty.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_one();
    }

    /// Asks for a check of the node's networks; `None` when too many wait for one.
    pub(crate) fn check(&self) -> Option<oneshot::Receiver<check::Verdict>> {
        let (reply, answer) = oneshot::channel();
        {
            let mut checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
            if checks.len() >= check::WAITING_MAX {
                return None;
            }
            checks.push(reply);
        }
        self.mark(|dirty| dirty.check = true);
        Some(answer)
    }

    /// Takes those who asked for a check.
    pub(crate) fn take_checks(&self) -> Vec<check::Reply> {
        std::mem::take(&mut *self.checks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Says which networks the node takes part in. Whoever says it reads the state afterwards: what
    /// was committed before is in there, and what comes later is marked.
    pub(crate) fn set_on(&self, on: &BTreeSet<NetworkId>) {
        self.on
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(on);
    }

    /// Whether the node takes part in one of these networks.
    pub(crate) fn is_on(&self, networks: &BTreeSet<NetworkId>) -> bool {
        let on = self.on.lock().unwrap_or_else(PoisonError::into_inner);
        networks.iter().any(|network| on.contains(network))
    }

    /// The networks the node takes part in.
    pub(crate) fn on(&self) -> BTreeSet<NetworkId> {
        let on = self.on.lock().unwrap_or_else(PoisonError::into_inner);
        on.clone()
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
