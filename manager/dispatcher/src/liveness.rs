//! Which nodes are alive: sessions, heartbeats and the grace each node has left. No IO, no clock.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;
use types::NodeId;

/// Heartbeats a node may miss (S8.04).
pub(crate) const PERIODS_MAX: u32 = 3;
/// Periods a node has to register after the leader changed (S8.04).
pub(crate) const PERIODS_UNKNOWN_MAX: u32 = 6;
/// How long a node that said goodbye may stay away: a daemon is being replaced.
pub(crate) const GOODBYE_GRACE: Duration = Duration::from_secs(15);
/// Registrations of one node allowed within [`RATE_SPAN`] (S8.03).
const RATE_MAX: usize = 3;
const RATE_SPAN: Duration = Duration::from_secs(8);
/// When a node that expired is looked at again, in case noting it failed.
const SETTLE_DELAY: Duration = Duration::from_secs(1);

/// Why a node expires, as users read it in the node's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Unregistered,
    Heartbeat,
    Broken,
    Goodbye,
    Left,
    Lost,
}

impl Reason {
    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::Unregistered => "node did not register after the leadership change",
            Self::Heartbeat => "heartbeat failure",
            Self::Broken => "connection lost",
            Self::Goodbye => "daemon was stopped",
            Self::Left => "node left the swarm",
            Self::Lost => "unreachable: most of its peers and this manager hear nothing of it",
        }
    }
}

/// More registrations than a sane agent needs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

/// Names one session among all of a term.
pub(crate) type SessionKey = u64;

/// The nodes a term has heard of, or waits for. `S` is what belongs to an open session.
#[derive(Debug)]
pub(crate) struct Liveness<S> {
    nodes: BTreeMap<NodeId, Entry<S>>,
    last_key: SessionKey,
}

#[derive(Debug)]
struct Entry<S> {
    session: Option<(SessionKey, S)>,
    expiry: Option<(Instant, Reason)>,
    /// It has expired and not registered since.
    is_overdue: bool,
    registrations: VecDeque<Instant>,
}

impl<S> Default for Entry<S> {
    fn default() -> Self {
        Self {
            session: None,
            expiry: None,
            is_overdue: false,
            registrations: VecDeque::new(),
        }
    }
}

/// A node whose time is up.
#[derive(Debug)]
pub(crate) struct Expired<S> {
    pub(crate) node: NodeId,
    pub(crate) reason: Reason,
    /// Its session, if one was open.
    pub(crate) session: Option<S>,
}

/// A node that was let in.
#[derive(Debug)]
pub(crate) struct Registered<S> {
    pub(crate) key: SessionKey,
    /// The session it had until now.
    pub(crate) superseded: Option<S>,
    /// It comes back within its grace: nobody has noticed that it was away.
    pub(crate) is_resumed: bool,
}

impl<S> Liveness<S> {
    pub(crate) fn new() -> Self {
        Self {
            nodes: BTreeMap::new(),
            last_key: 0,
        }
    }

    /// Waits for a node that has no session: it expires when it does not register in time.
    pub(crate) fn expect(&mut self, node: NodeId, until: Instant) {
        self.nodes.entry(node).or_insert_with(|| Entry {
            expiry: Some((until, Reason::Unregistered)),
            ..Entry::default()
        });
    }

    /// Opens a session for a node. Any older one of it ends.
    pub(crate) fn register(
        &mut self,
        node: NodeId,
        session: S,
        now: Instant,
        period: Duration,
    ) -> Result<Registered<S>, TooMany> {
        let entry = self.nodes.entry(node).or_default();
        entry
            .registrations
            .retain(|at| now.duration_since(*at) < RATE_SPAN);
        if entry.registrations.len() >= RATE_MAX {
            return Err(TooMany);
        }
        entry.registrations.push_back(now);
        self.last_key += 1;
        let superseded = entry
            .session
            .replace((self.last_key, session))
            .map(|(_, s)| s);
        let expiry = entry
            .expiry
            .replace((now + period * PERIODS_MAX, Reason::Heartbeat));
        let was_overdue = std::mem::take(&mut entry.is_overdue);
        let is_resumed =
            expiry.is_some_and(|(_, reason)| reason != Reason::Unregistered) && !was_overdue;
        Ok(Registered {
            key: self.last_key,
            superseded,
            is_resumed,
        })
    }

    /// A node lives. False when its session is not this one any more.
    pub(crate) fn heartbeat(
        &mut self,
        node: NodeId,
        key: SessionKey,
        now: Instant,
        period: Duration,
    ) -> bool {
        let Some(entry) = self.current(node, key) else {
            return false;
        };
        entry.expiry = Some((now + period * PERIODS_MAX, Reason::Heartbeat));
        true
    }

    /// A session ended without a goodbye: the node has `grace` to come back, unless its heartbeats
    /// run out sooner.
    pub(crate) fn broken(&mut self, node: NodeId, key: SessionKey, now: Instant, grace: Duration) {
        if let Some(entry) = self.current(node, key) {
            let at = now + grace;
            if entry.expiry.is_none_or(|(due, _)| at < due) {
                entry.expiry = Some((at, Reason::Broken));
            }
            entry.session = None;
        }
    }

    /// A session ended on purpose: the daemon is being replaced, or the node is `leaving` for good.
    pub(crate) fn goodbye(&mut self, node: NodeId, key: SessionKey, now: Instant, leaving: bool) {
        if let Some(entry) = self.current(node, key) {
            entry.expiry = Some(if leaving {
                (now, Reason::Left)
            } else {
                (now + GOODBYE_GRACE, Reason::Goodbye)
            });
            entry.session = None;
        }
    }

    /// A node is gone, whatever time it would have left.
    pub(crate) fn lose(&mut self, node: NodeId, now: Instant) {
        if let Some(entry) = self.nodes.get_mut(&node)
            && !entry.is_overdue
        {
            entry.expiry = Some((now, Reason::Lost));
        }
    }

    /// Nodes whose time is up at `now`. They stay due, every [`SETTLE_DELAY`], until they register
    /// or are [`Self::settled`]: noting it may fail.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Expired<S>> {
        let mut expired = vec![];
        for (node, entry) in &mut self.nodes {
            if let Some((at, reason)) = &mut entry.expiry
                && *at <= now
            {
                let session = entry.session.take().map(|(_, session)| session);
                expired.push(Expired {
                    node: *node,
                    reason: *reason,
                    session,
                });
                *at = now + SETTLE_DELAY;
                entry.is_overdue = true;
            }
        }
        expired
    }

    /// Puts off every expiry.
    pub(crate) fn postpone(&mut self, by: Duration) {
        for (at, _) in self
            .nodes
            .values_mut()
            .filter_map(|entry| entry.expiry.as_mut())
        {
            *at += by;
        }
    }

    /// The store knows that this node is down.
    pub(crate) fn settled(&mut self, node: NodeId) {
        if let Some(entry) = self.nodes.get_mut(&node)
            && entry.session.is_none()
        {
            entry.expiry = None;
        }
    }

    /// When the next node expires.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.nodes
            .values()
            .filter_map(|entry| entry.expiry.map(|(at, _)| at))
            .min()
    }

    /// The node does not exist any more.
    pub(crate) fn remove(&mut self, node: NodeId) -> Option<S> {
        self.nodes
            .remove(&node)?
            .session
            .map(|(_, session)| session)
    }

    /// The open session of a node.
    pub(crate) fn session(&self, node: NodeId) -> Option<&S> {
        self.nodes
            .get(&node)?
            .session
            .as_ref()
            .map(|(_, session)| session)
    }

    /// Every node that is known or waited for.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.nodes.keys().copied()
    }

    /// Every open session.
    pub(crate) fn sessions(&self) -> impl Iterator<Item = &S> {
        self.nodes
            .values()
            .filter_map(|entry| entry.session.as_ref().map(|(_, s)| s))
    }

    fn current(&mut self, node: NodeId, key: SessionKey) -> Option<&mut Entry<S>> {
        self.nodes
            .get_mut(&node)
            .filter(|entry| entry.session.as_ref().is_some_and(|(held, _)| *held == key))
    }
}

#[cfg(test)]
mod tests;
