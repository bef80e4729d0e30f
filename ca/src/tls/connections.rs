//! The open connections of a server: how many each peer may have, how long an idle stranger stays,
//! and whose are closed when the cluster no longer wants them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use futures::task::AtomicWaker;
use tokio::time::Instant;
use types::{ClientId, NodeId, NodeRole, Timestamp};

use crate::Certified;
use crate::authorize::{Registry, Verdict};
use crate::limits::subscriber;

/// Connections without a certificate, from everywhere. Joining needs one for a second.
pub const ANONYMOUS_MAX: usize = 256;
/// Of which one address may have so many.
pub const ANONYMOUS_PER_ADDRESS_MAX: usize = 64;
/// Connections of one worker, or one client. An agent has one or two.
pub const PER_PEER_MAX: usize = 32;
/// Connections of one manager.
pub const PER_MANAGER_MAX: usize = 128;
/// How long a connection without a certificate may last: joining may take 20 s.
pub const ANONYMOUS_LIFE_MAX: Duration = Duration::from_secs(60);
/// How long any but a manager may take from the handshake to the head of its first request.
pub const FIRST_REQUEST_MAX: Duration = Duration::from_secs(10);

/// Clonable handle on a server's open connections.
#[derive(Clone)]
pub struct Connections {
    registry: Registry,
    open: Arc<Mutex<Open>>,
}

#[derive(Default)]
struct Open {
    last: u64,
    /// By age: a smaller number is older.
    by_age: BTreeMap<u64, Entry>,
}

struct Entry {
    who: Who,
    certified: Option<Certified>,
    /// What the cluster said of the certificate when the connection was made.
    verdict: Verdict,
    since: Instant,
    line: Arc<Line>,
}

/// Whose connections are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Anonymous(IpAddr),
    Worker(NodeId),
    Manager(NodeId),
    Client(ClientId),
}

/// What a connection and its server's list share.
#[derive(Debug, Default)]
pub(super) struct Line {
    is_closed: AtomicBool,
    has_asked: AtomicBool,
    reader: AtomicWaker,
}

impl Line {
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.reader.wake();
    }

    /// Whether the connection is to end. If not yet, `waker` is called when it is.
    pub(super) fn is_closed(&self, waker: &Waker) -> bool {
        self.reader.register(waker);
        self.is_closed.load(Ordering::Acquire)
    }

    /// The head of a request has come.
    pub(super) fn has_asked(&self) {
        self.has_asked.store(true, Ordering::Relaxed);
    }
}

/// A place in the list; given back when dropped.
pub(super) struct Place {
    number: u64,
    open: Arc<Mutex<Open>>,
    line: Arc<Line>,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Place").field(&self.number).finish()
    }
}

impl Place {
    pub(super) fn line(&self) -> &Arc<Line> {
        &self.line
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.open).by_age.remove(&self.number);
    }
}

fn lock(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connections {
    /// None yet. `registry` says of each certificate whether it counts.
    #[must_use]
    pub fn new(registry: Registry) -> Self {
        Self {
            registry,
            open: Arc::default(),
        }
    }

    /// How many are open.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.open).by_age.len()
    }

    /// Takes a connection in. Where its peer has too many, its oldest gives way.
    pub(super) fn enter(&self, certified: Option<Certified>, from: IpAddr, now: Instant) -> Place {
        let who = who(certified.as_ref(), from);
        // Those whose certificates do not count are let in to be told so, request by request.
        let verdict = certified
            .as_ref()
            .map_or(Verdict::Good, |it| (self.registry)(it));
        let line = Arc::<Line>::default();
        let mut open = lock(&self.open);
        open.make_room(who);
        open.last += 1;
        let number = open.last;
        let entry = Entry {
            who,
            certified,
            verdict,
            since: now,
            line: Arc::clone(&line),
        };
        open.by_age.insert(number, entry);
        Place {
            number,
            open: Arc::clone(&self.open),
            line,
        }
    }

    /// Closes the connections of those the cluster has turned away since they were made: removed
    /// nodes, demoted managers, revoked clients. Streams on them end at once.
    pub fn recheck(&self) {
        let open = lock(&self.open);
        for entry in open.by_age.values() {
            let Some(certified) = &entry.certified else {
                continue;
            };
            let verdict = (self.registry)(certified);
            if verdict != Verdict::Good && verdict != entry.verdict {
                tracing::info!(peer = ?entry.who, ?verdict, "closing a connection");
                entry.line.close();
            }
        }
    }

    /// Closes what has been open too long: strangers, those who ask nothing, and clients whose
    /// certificate has run out.
    pub(super) fn expire(&self, now: Instant, clock: Timestamp) {
        let open = lock(&self.open);
        for entry in open.by_age.values() {
            let age = now.saturating_duration_since(entry.since);
            let is_over = match entry.who {
                Who::Anonymous(_) => age >= ANONYMOUS_LIFE_MAX || entry.is_mute(age),
                Who::Worker(_) => entry.is_mute(age),
                Who::Client(_) => {
                    let end = entry.certified.as_ref().map(Certified::not_after);
                    entry.is_mute(age) || end.is_some_and(|end| clock >= end)
                }
                Who::Manager(_) => false,
            };
            if is_over {
                tracing::debug!(peer = ?entry.who, "closing a connection that was open too long");
                entry.line.close();
            }
        }
    }
}

impl Entry {
    fn is_mute(&self, age: Duration) -> bool {
        age >= FIRST_REQUEST_MAX && !self.line.has_asked.load(Ordering::Relaxed)
    }
}

impl Open {
    fn make_room(&mut self, who: Who) {
        let max = match who {
            Who::Anonymous(_) => ANONYMOUS_PER_ADDRESS_MAX,
            Who::Worker(_) | Who::Client(_) => PER_PEER_MAX,
            Who::Manager(_) => PER_MANAGER_MAX,
        };
        self.close_oldest(max, |other| other == who);
        if let Who::Anonymous(_) = who {
            self.close_oldest(ANONYMOUS_MAX, |other| matches!(other, Who::Anonymous(_)));
        }
    }

    /// Makes sure that another fits among those that `counts`.
    fn close_oldest(&mut self, max: usize, counts: impl Fn(Who) -> bool) {
        let counted = |entry: &Entry| counts(entry.who);
        if self.by_age.values().filter(|it| counted(it)).count() < max {
            return;
        }
        let oldest = self.by_age.iter().find(|(_, it)| counted(it));
        if let Some(number) = oldest.map(|(number, _)| *number)
            && let Some(entry) = self.by_age.remove(&number)
        {
            entry.line.close();
        }
    }
}

fn who(certified: Option<&Certified>, from: IpAddr) -> Who {
    match certified {
        None => Who::Anonymous(subscriber(from)),
        Some(Certified::Node(node)) => match node.role {
            NodeRole::Worker => Who::Worker(node.node_id),
            NodeRole::Manager => Who::Manager(node.node_id),
        },
        Some(Certified::Client(client)) => Who::Client(client.client_id),
    }
}

#[cfg(test)]
mod tests;
