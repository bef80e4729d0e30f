//! Proposals and reads: answered here by the leader, passed on to it by everybody else.

use std::time::Duration;

use bytes::Bytes;
use proto::raft as pb;
use tokio::time::Instant;

use crate::core::{Declined, within};
use crate::handle::Inner;
use crate::transport::{CallError, Lane};
use crate::{Condition, Error, Member, Raft};

/// Pause before another try.
const RETRY_PAUSE: Duration = Duration::from_millis(10);
/// How long a change of leader is waited for before another try.
const RETRY_PAUSE_MAX: Duration = Duration::from_millis(100);
/// What a leader that has a successor is given to answer still.
const SUPERSEDED_GRACE: Duration = Duration::from_millis(500);
/// What the leader is given less than the member that passes a call on to it.
const FORWARD_MARGIN: Duration = Duration::from_millis(200);

/// A proposal that was committed and applied here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its place in the log.
    pub index: u64,
    /// What [`StateMachine::apply`](crate::StateMachine::apply) returned at the leader.
    pub response: Vec<u8>,
}

/// What became of one try.
enum Try<T> {
    Done(T),
    /// Nothing happened; another leader may take it. Says who did not.
    Again(Option<u64>),
    /// This member leads without a quorum.
    NoQuorum,
    Failed(Error),
}

impl Raft {
    /// Writes `data` to the log and returns when it is committed and applied here.
    ///
    /// Any member may be asked; a follower passes it on to the leader.
    ///
    /// # Errors
    /// After [`Error::NoLeader`] nothing was written; after [`Error::Indeterminate`] it may be.
    pub async fn propose(&self, data: Vec<u8>) -> Result<Committed, Error> {
        let max_bytes = self.inner.options.proposal_bytes_max;
        if data.len() > max_bytes {
            return Err(Error::TooLarge {
                size_bytes: data.len(),
                max_bytes,
            });
        }
        let data = Bytes::from(data);
        let inner = &self.inner;
        inner
            .try_until_led(Error::Indeterminate { waited_ms: 0 }, |left| {
                inner.try_propose(data.clone(), left)
            })
            .await
    }

    /// As [`propose`](Self::propose), but only while this member itself leads: what a leader
    /// decided by itself must not be written by its successor.
    ///
    /// # Errors
    /// [`Error::NoLeader`] when it does not lead; nothing was written then. The others as for
    /// [`propose`](Self::propose).
    pub async fn propose_leading(&self, data: Vec<u8>) -> Result<Committed, Error> {
        let inner = &self.inner;
        let max_bytes = inner.options.proposal_bytes_max;
        let size_bytes = data.len();
        if size_bytes > max_bytes {
            return Err(Error::TooLarge {
                size_bytes,
                max_bytes,
            });
        }
        inner.check_running()?;
        let total = Duration::from_millis(inner.options.proposal_timeout_ms);
        match within(total, inner.core.write(Bytes::from(data))).await {
            Ok(written) => Ok(Committed {
                index: written.index,
                response: written.response,
            }),
            Err(Declined::NotLeader(_) | Declined::NoQuorum | Declined::InProgress) => {
                Err(Error::NoLeader)
            }
            Err(Declined::Indeterminate) => {
                Err(with_waited(Error::Indeterminate { waited_ms: 0 }, total))
            }
            Err(Declined::Invalid(reason)) => Err(Error::Refused { reason }),
            Err(Declined::Failed(reason)) => Err(Error::Failed { reason }),
        }
    }

    /// Returns when this member has applied everything that was committed before the call, so that a
    /// read of the local state is as good as one at the leader.
    ///
    /// # Errors
    /// [`Error::NoLeader`], or [`Error::Timeout`].
    pub async fn read_barrier(&self) -> Result<(), Error> {
        let inner = &self.inner;
        let timeout = Error::Timeout {
            what: "the read barrier",
            waited_ms: 0,
        };
        inner
            .try_until_led(timeout, |left| inner.try_read(left))
            .await
    }
}

impl Inner {
    /// Repeats `attempt`, which is told how much time is left, until somebody leads.
    async fn try_until_led<T, F>(
        &self,
        on_timeout: Error,
        mut attempt: impl FnMut(Duration) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Try<T>>,
    {
        let started = Instant::now();
        let total = Duration::from_millis(self.options.proposal_timeout_ms);
        let leader_wait = Duration::from_millis(self.options.leader_wait_ms);
        // Somebody else leads, or will soon, but perhaps not within reach of a leader cut off.
        let quorum_wait = Duration::from_millis(self.options.contact_ms());
        // Since when there has been no leader to do it, and since when it is this one, cut off.
        let mut leaderless = None;
        let mut cut_off = None;
        loop {
            self.check_running()?;
            let left = total.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Err(with_waited(on_timeout, total));
            }
            let term = self.status.borrow().term;
            let outcome = attempt(left).await;
            let since = *leaderless.get_or_insert_with(Instant::now);
            let (not_by, patience) = match outcome {
                Try::Done(done) => return Ok(done),
                Try::Failed(error) => {
                    // A stopped member says so, whatever the library made of it.
                    self.check_running()?;
                    return Err(with_waited(error, started.elapsed()));
                }
                Try::Again(not_by) => {
                    cut_off = None;
                    (not_by, leader_wait.saturating_sub(since.elapsed()))
                }
                // Also how a leader begins: nobody has answered it yet.
                Try::NoQuorum => {
                    let since = *cut_off.get_or_insert_with(Instant::now);
                    let patience = quorum_wait.saturating_sub(since.elapsed());
                    (Some(self.facts.member_id()), patience)
                }
            };
            let patience = patience.min(left);
            if patience.is_zero() {
                return Err(Error::NoLeader);
            }
            self.wait_for_leader(not_by, term, patience).await;
        }
    }

    /// Waits a little for a leader other than `not_by`, or a later term.
    async fn wait_for_leader(&self, not_by: Option<u64>, term: u64, patience: Duration) {
        tokio::time::sleep(RETRY_PAUSE.min(patience)).await;
        if self.status.borrow().leader.is_none() {
            // Whoever it will be, also the one that was not ready a moment ago.
            self.wait_status(patience, |status| {
                status.leader.is_some() || status.condition != Condition::Running
            })
            .await;
            return;
        }
        // With a leader known it is only a matter of its being ready, or of its successor.
        self.wait_status(patience.min(RETRY_PAUSE_MAX), |status| {
            let other = status.leader.is_some_and(|leader| Some(leader) != not_by);
            let later = status.leader.is_some() && status.term > term;
            other || later || status.condition != Condition::Running
        })
        .await;
    }

    /// Returns a while after somebody else than `leader` leads.
    async fn superseded(&self, leader: u64) {
        let mut status = self.status.clone();
        let other = status
            .wait_for(|s| s.leader.is_some_and(|id| id != leader))
            .await
            .is_ok();
        if !other {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(SUPERSEDED_GRACE).await;
    }

    async fn try_propose(&self, data: Bytes, left: Duration) -> Try<Committed> {
        match within(left, self.core.write(data.clone())).await {
            Ok(written) => Try::Done(Committed {
                index: written.index,
                response: written.response,
            }),
            Err(Declined::NotLeader(Some(leader))) if leader.id != self.facts.member_id() => {
                self.forward_proposal(&leader, data, left).await
            }
            Err(declined) => declined_try(declined),
        }
    }

    async fn forward_proposal(
        &self,
        leader: &Member,
        data: Bytes,
        left: Duration,
    ) -> Try<Committed> {
        let deadline = Instant::now() + left;
        let request = pb::ProposeRequest {
            data: data.into(),
            timeout_ms: forward_ms(left),
        };
        // Connected first: what fails before anything was sent may be repeated.
        if let Err(error) = self.peers.client(&leader.addr, Lane::Entries).await {
            return self.call_failed(error, leader.id);
        }
        let call = self
            .peers
            .call(&leader.addr, Lane::Entries, left, |mut client| async move {
                client.propose(request).await
            });
        let answered = tokio::select! {
            answered = call => answered,
            () = self.superseded(leader.id) => {
                return Try::Failed(Error::Indeterminate { waited_ms: 0 });
            }
        };
        let committed = match answered.map(|answer| answer.outcome) {
            Ok(Some(pb::propose_response::Outcome::Committed(committed))) => committed,
            Ok(Some(pb::propose_response::Outcome::Refusal(refusal))) => {
                return refused_try(refusal, leader.id);
            }
            Ok(None) => return Try::Failed(Error::Indeterminate { waited_ms: 0 }),
            Err(error) => return self.call_failed(error, leader.id),
        };
        if !self.wait_applied(committed.index, deadline).await {
            return Try::Failed(Error::Indeterminate { waited_ms: 0 });
        }
        Try::Done(Committed {
            index: committed.index,
            response: committed.response,
        })
    }

    async fn try_read(&self, left: Duration) -> Try<()> {
        let deadline = Instant::now() + left;
        let leader = match within(left, self.core.read_index()).await {
            Ok(_) => return Try::Done(()),
            Err(Declined::NotLeader(Some(leader))) if leader.id != self.facts.member_id() => leader,
            // A read has no effect, so that an unknown outcome is none.
            Err(Declined::Indeterminate) => return Try::Again(None),
            Err(declined) => return declined_try(declined),
        };
        let request = pb::ReadIndexRequest {
            timeout_ms: forward_ms(left),
        };
        let answered = self
            .peers
            .call(&leader.addr, Lane::Control, left, |mut client| async move {
                client.read_index(request).await
            })
            .await;
        match answered.map(|answer| answer.outcome) {
            Ok(Some(pb::read_index_response::Outcome::Index(index))) => {
                if self.wait_applied(index, deadline).await {
                    return Try::Done(());
                }
                Try::Failed(Error::Timeout {
                    what: "applying what was committed",
                    waited_ms: 0,
                })
            }
            Ok(Some(pb::read_index_response::Outcome::Refusal(refusal))) => {
                refused_try(refusal, leader.id)
            }
            Ok(None) | Err(CallError::Broken { .. } | CallError::Timeout { .. }) => {
                Try::Again(Some(leader.id))
            }
            Err(error) => self.call_failed(error, leader.id),
        }
    }

    /// Whether the local state includes `index` before `deadline`.
    async fn wait_applied(&self, index: u64, deadline: Instant) -> bool {
        let mut applied = self.facts.applied();
        let wait = applied.wait_for(|applied| *applied >= index);
        matches!(tokio::time::timeout_at(deadline, wait).await, Ok(Ok(_)))
    }

    fn call_failed<T>(&self, error: CallError, leader: u64) -> Try<T> {
        match error {
            CallError::Connect { .. } => Try::Again(Some(leader)),
            CallError::Removed { .. } => {
                self.facts.evict();
                Try::Failed(Error::MemberRemoved {
                    id: self.facts.member_id(),
                })
            }
            CallError::Timeout { .. } | CallError::Broken { .. } => {
                tracing::debug!(%error, "a proposal passed on to the leader has no answer");
                Try::Failed(Error::Indeterminate { waited_ms: 0 })
            }
        }
    }

    /// As leader for another member: writes `data`.
    pub(crate) async fn propose_here(
        &self,
        data: Bytes,
        timeout: Duration,
    ) -> Result<Committed, pb::Refusal> {
        let size_bytes = data.len();
        let max_bytes = self.options.proposal_bytes_max;
        if size_bytes > max_bytes {
            return Err(Error::TooLarge {
                size_bytes,
                max_bytes,
            }
            .to_refusal());
        }
        match within(self.bounded(timeout), self.core.write(data)).await {
            Ok(written) => Ok(Committed {
                index: written.index,
                response: written.response,
            }),
            Err(declined) => Err(declined_refusal(declined)),
        }
    }

    /// As leader for another member: an index to read at.
    pub(crate) async fn read_here(&self, timeout: Duration) -> Result<u64, pb::Refusal> {
        let read = within(self.bounded(timeout), self.core.read_index()).await;
        read.map_err(declined_refusal)
    }

    /// A time given by another member, but not more than ours.
    fn bounded(&self, timeout: Duration) -> Duration {
        timeout.min(Duration::from_millis(self.options.proposal_timeout_ms))
    }
}

fn forward_ms(left: Duration) -> u32 {
    let left = left.saturating_sub(FORWARD_MARGIN).max(FORWARD_MARGIN / 2);
    u32::try_from(left.as_millis()).unwrap_or(u32::MAX)
}

fn declined_try<T>(declined: Declined) -> Try<T> {
    match declined {
        Declined::NotLeader(leader) => Try::Again(leader.map(|l| l.id)),
        Declined::NoQuorum => Try::NoQuorum,
        Declined::Indeterminate => Try::Failed(Error::Indeterminate { waited_ms: 0 }),
        Declined::InProgress => Try::Again(None),
        Declined::Invalid(reason) => Try::Failed(Error::Refused { reason }),
        Declined::Failed(reason) => Try::Failed(Error::Failed { reason }),
    }
}

fn refused_try<T>(refusal: pb::Refusal, leader: u64) -> Try<T> {
    use pb::refusal::Reason;
    match refusal.reason() {
        Reason::NotLeader | Reason::NoLeader => Try::Again(Some(leader)),
        Reason::Stopped => Try::Again(Some(leader)),
        _ => Try::Failed(Error::from_refusal(refusal, 0)),
    }
}

fn declined_refusal(declined: Declined) -> pb::Refusal {
    use pb::refusal::Reason;
    let refusal = |reason: Reason, detail: &str, leader: Option<Member>| pb::Refusal {
        reason: reason.into(),
        detail: detail.to_owned(),
        leader: leader.map(|l| crate::transport::member(l.id, &l.addr)),
    };
    match declined {
        Declined::NotLeader(leader) => refusal(Reason::NotLeader, "another member leads", leader),
        Declined::NoQuorum => refusal(Reason::NoLeader, "no quorum answers the leader", None),
        Declined::Indeterminate => refusal(Reason::Indeterminate, "no answer in time", None),
        Declined::InProgress => refusal(Reason::NotLeader, "the membership is changing", None),
        Declined::Invalid(reason) => refusal(Reason::Unspecified, &reason, None),
        // An entry may have been written before the member failed.
        Declined::Failed(reason) => refusal(Reason::Indeterminate, &reason, None),
    }
}

fn with_waited(error: Error, waited: Duration) -> Error {
    let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
    match error {
        Error::Indeterminate { .. } => Error::Indeterminate { waited_ms },
        Error::Timeout { what, .. } => Error::Timeout { what, waited_ms },
        other => other,
    }
}
