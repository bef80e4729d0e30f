//! What several parts of a member know together: how far it has applied, who was removed, and when
//! it last heard of a leader.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::Error;

/// Shared facts of one member.
pub(crate) struct Facts {
    member_id: u64,
    applied: watch::Sender<u64>,
    evicted: watch::Sender<bool>,
    removed: RwLock<BTreeSet<u64>>,
    addrs: RwLock<BTreeMap<u64, String>>,
    leader_contact: Mutex<Option<(u64, Instant)>>,
    fault: Mutex<Option<Error>>,
    log_bytes: Mutex<u64>,
    log_bytes_max: u64,
    compact: Notify,
}

impl Facts {
    pub(crate) fn new(member_id: u64, log_bytes_max: u64) -> Self {
        Self {
            member_id,
            applied: watch::Sender::new(0),
            evicted: watch::Sender::new(false),
            removed: RwLock::default(),
            addrs: RwLock::default(),
            leader_contact: Mutex::default(),
            fault: Mutex::default(),
            log_bytes: Mutex::default(),
            log_bytes_max,
            compact: Notify::new(),
        }
    }

    pub(crate) fn member_id(&self) -> u64 {
        self.member_id
    }

    /// Index of the last entry the local state includes.
    pub(crate) fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    pub(crate) fn set_applied(&self, index: u64) {
        self.applied.send_replace(index);
    }

    /// Whether this member was removed from its group.
    pub(crate) fn evicted(&self) -> watch::Receiver<bool> {
        self.evicted.subscribe()
    }

    /// Remembers that this member was removed.
    pub(crate) fn evict(&self) {
        let newly = self
            .evicted
            .send_if_modified(|evicted| !std::mem::replace(evicted, true));
        if newly {
            tracing::warn!(
                member = self.member_id,
                "this member was removed from its group"
            );
        }
    }

    /// Whether `id` was removed; its messages are refused and it is told so.
    pub(crate) fn is_removed(&self, id: u64) -> bool {
        self.removed
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&id)
    }

    pub(crate) fn set_removed(&self, removed: &BTreeSet<u64>) {
        self.removed
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(removed);
        if removed.contains(&self.member_id) {
            self.evict();
        }
    }

    /// Where member `id` answers, as far as known.
    pub(crate) fn addr(&self, id: u64) -> Option<String> {
        self.addrs
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&id)
            .cloned()
    }

    /// Remembers where member `id` answers. The library keeps using the address a member had when
    /// it was first spoken to.
    pub(crate) fn set_addr(&self, id: u64, addr: &str) {
        let mut addrs = self.addrs.write().unwrap_or_else(PoisonError::into_inner);
        if addrs.get(&id).is_none_or(|known| known != addr) {
            addrs.insert(id, addr.to_owned());
        }
    }

    /// Remembers a sign of life of a leader.
    pub(crate) fn heard_of_leader(&self, leader: u64, now: Instant) {
        let mut contact = self
            .leader_contact
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *contact = Some((leader, now));
    }

    /// Whether `leader` gave a sign of life within `window` before `now`.
    pub(crate) fn has_heard_of(&self, leader: u64, now: Instant, window: Duration) -> bool {
        let contact = self
            .leader_contact
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        contact.is_some_and(|(id, at)| id == leader && now.duration_since(at) <= window)
    }

    /// Keeps an error whose type would be lost on its way through the library.
    pub(crate) fn set_fault(&self, error: Error) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    pub(crate) fn take_fault(&self) -> Option<Error> {
        self.fault
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Counts applied bytes; when there are too many since the last snapshot, one is asked for.
    pub(crate) fn add_log_bytes(&self, bytes: usize) {
        let mut sum = self
            .log_bytes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *sum += bytes as u64;
        if *sum >= self.log_bytes_max {
            *sum = 0;
            self.compact.notify_one();
        }
    }

    pub(crate) fn reset_log_bytes(&self) {
        *self
            .log_bytes
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = 0;
    }

    /// Returns when a snapshot is due because of the size of the log.
    pub(crate) async fn compaction_due(&self) {
        self.compact.notified().await;
    }
}
