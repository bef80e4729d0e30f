//! Changing the membership, and who leads it. Any member may be asked; the leader does it.

use std::time::Duration;

use proto::raft as pb;
use tokio::time::Instant;

use crate::core::{Change, Declined, within};
use crate::handle::Inner;
use crate::membership::{self, Addition, Removal};
use crate::transport::{CallError, Lane};
use crate::{Error, Raft, Status};

/// Entries a learner may lack when it is given a vote.
const CATCH_UP_LAG_MAX: u64 = 100;
/// Pause before a change is tried again while another one is under way.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// How long a removed member is tried to be told so.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(2);

impl Raft {
    /// Adds member `id`, which answers at `addr`: as learner, and as voter once it holds the log.
    /// For a known member this changes its address.
    ///
    /// # Errors
    /// [`Error::Unreachable`] or [`Error::WrongMember`] when `addr` is not it,
    /// [`Error::MemberRemoved`] for a spent id, [`Error::Timeout`] when it does not catch up.
    pub async fn add_member(&self, id: u64, addr: &str) -> Result<(), Error> {
        self.inner.add_member(id, addr, false).await
    }

    /// Removes member `id`. A leader that removes itself hands over leadership first.
    ///
    /// # Errors
    /// [`Error::LastMember`] or [`Error::QuorumLoss`] when the group could not go on without it.
    pub async fn remove_member(&self, id: u64) -> Result<(), Error> {
        self.inner.remove_member(id, false).await
    }

    /// Asks the manager at `remote` to have this fresh member added, reachable at `own_addr`.
    ///
    /// The service of this member has to be running: the leader looks whether it answers.
    ///
    /// # Errors
    /// As for [`add_member`](Self::add_member), or nobody answers at `remote`.
    pub async fn join(&self, remote: &str, own_addr: &str) -> Result<(), Error> {
        let id = self.member_id();
        self.inner.forward_add(remote, id, own_addr, false).await
    }

    /// Hands leadership to member `to`, or to the voter that is furthest and answers.
    ///
    /// # Errors
    /// [`Error::NoLeader`] when this member does not lead, [`Error::UnknownMember`] when there is
    /// nobody to take over, [`Error::Timeout`] when it does not.
    pub async fn transfer_leadership(&self, to: Option<u64>) -> Result<(), Error> {
        self.inner.transfer_leadership(to, None).await
    }
}

impl Inner {
    pub(crate) async fn add_member(
        &self,
        id: u64,
        addr: &str,
        forwarded: bool,
    ) -> Result<(), Error> {
        let budget = self.options.health_check_ms + self.options.catch_up_timeout_ms;
        let deadline = Instant::now() + Duration::from_millis(budget);
        loop {
            let tried = match self.leader_or_wait().await? {
                Leader::Me => self.add_here(id, addr, deadline).await,
                Leader::Other { .. } if forwarded => return Err(Error::NoLeader),
                Leader::Other { addr: leader } => self.forward_add(&leader, id, addr, true).await,
            };
            if !again(&tried, deadline) {
                return tried;
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    pub(crate) async fn remove_member(&self, id: u64, forwarded: bool) -> Result<(), Error> {
        let deadline = Instant::now() + Duration::from_millis(self.options.proposal_timeout_ms);
        loop {
            let tried = match self.leader_or_wait().await? {
                Leader::Me => self.remove_here(id, deadline).await,
                Leader::Other { .. } if forwarded => return Err(Error::NoLeader),
                Leader::Other { addr } => self.forward_remove(&addr, id).await,
            };
            if !again(&tried, deadline) {
                return tried;
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn add_here(&self, id: u64, addr: &str, deadline: Instant) -> Result<(), Error> {
        if self.facts.is_removed(id) {
            return Err(Error::MemberRemoved { id });
        }
        let plan = membership::plan_addition(&self.fresh_status().members, id, addr);
        if plan == Addition::Nothing {
            return Ok(());
        }
        self.health_check(id, addr).await?;
        let promote = match plan {
            Addition::Nothing | Addition::Promote => true,
            Addition::Readdress { promote } => {
                // At once: the group may need its vote to commit the change.
                self.facts.set_addr(id, addr);
                let change = Change::Readdress {
                    id,
                    addr: addr.to_owned(),
                };
                self.change(change, deadline).await?;
                promote
            }
            Addition::Learner => {
                let change = Change::AddLearner {
                    id,
                    addr: addr.to_owned(),
                };
                self.change(change, deadline).await?;
                true
            }
        };
        if promote {
            self.await_catch_up(id, deadline).await?;
            self.change(Change::Promote { id }, deadline).await?;
        }
        tracing::info!(member = id, addr, "member added");
        Ok(())
    }

    async fn remove_here(&self, id: u64, deadline: Instant) -> Result<(), Error> {
        let members = self.fresh_status().members;
        let removal = membership::plan_removal(&members, id, self.facts.is_removed(id))?;
        let change = match removal {
            Removal::Nothing => return Ok(()),
            Removal::Voter if id == self.facts.member_id() => {
                self.transfer_leadership(None, Some(id)).await?;
                // The new leader removes this member.
                return Err(Error::NoLeader);
            }
            Removal::Learner => Change::RemoveLearner { id },
            Removal::Voter => Change::RemoveVoter { id },
        };
        self.change(change, deadline).await?;
        tracing::info!(member = id, "member removed");
        if let Some(member) = members.into_iter().find(|m| m.id == id) {
            self.notice_removed(id, member.addr);
        }
        Ok(())
    }

    /// The status at this moment rather than the one last published.
    fn fresh_status(&self) -> Status {
        self.core
            .status(Duration::from_millis(self.options.contact_ms()))
    }

    /// Commits a change, after those that are under way.
    async fn change(&self, change: Change, deadline: Instant) -> Result<(), Error> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match within(left, self.core.change(change.clone())).await {
                Ok(()) => return Ok(()),
                Err(Declined::InProgress) => tokio::time::sleep(RETRY_PAUSE.min(left)).await,
                Err(Declined::NotLeader(_) | Declined::NoQuorum) => return Err(Error::NoLeader),
                Err(Declined::Indeterminate) => {
                    return Err(Error::Timeout {
                        what: "the change of membership",
                        waited_ms: 0,
                    });
                }
                Err(Declined::Invalid(reason)) => return Err(Error::Refused { reason }),
                Err(Declined::Failed(reason)) => {
                    self.check_running()?;
                    return Err(Error::Failed { reason });
                }
            }
            if Instant::now() >= deadline {
                return Err(Error::Timeout {
                    what: "another change of membership",
                    waited_ms: 0,
                });
            }
        }
    }

    /// The right member has to answer at the address, or the group would wait for it in vain.
    async fn health_check(&self, id: u64, addr: &str) -> Result<(), Error> {
        let timeout = Duration::from_millis(self.options.health_check_ms);
        let answered = self
            .peers
            .call(addr, Lane::Control, timeout, |mut client| async move {
                client.health(pb::HealthRequest {}).await
            })
            .await;
        let health = answered.map_err(|e| Error::Unreachable {
            addr: addr.to_owned(),
            reason: e.to_string(),
        })?;
        if health.member_id != id {
            return Err(Error::WrongMember {
                addr: addr.to_owned(),
                expected: id,
                actual: health.member_id,
            });
        }
        Ok(())
    }

    async fn await_catch_up(&self, id: u64, deadline: Instant) -> Result<(), Error> {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut leads = true;
        let caught_up = self.core.wait_for(left, |observed| {
            let matched = observed.matched.get(&id).copied();
            !observed.leads
                || observed.failure.is_some()
                || matched.is_some_and(|matched| matched + CATCH_UP_LAG_MAX >= observed.last_log)
        });
        let caught_up = caught_up.await;
        leads &= self.core.observation().leads;
        match (caught_up, leads) {
            (true, true) => Ok(()),
            (_, false) => Err(Error::NoLeader),
            (false, true) => Err(Error::Timeout {
                what: "the new member's copy of the log",
                waited_ms: self.options.catch_up_timeout_ms,
            }),
        }
    }

    /// Once removed a member hears nothing from the group any more: tell it.
    fn notice_removed(&self, id: u64, addr: String) {
        let (peers, token) = (self.peers.clone(), self.token.clone());
        self.tasks.spawn(async move {
            let call =
                peers.call(
                    &addr,
                    Lane::Control,
                    NOTICE_TIMEOUT,
                    |mut client| async move {
                        client.notice_removed(pb::NoticeRemovedRequest { id }).await
                    },
                );
            let told = tokio::select! {
                () = token.cancelled() => return,
                told = call => told,
            };
            if let Err(error) = told {
                // It learns so as well when it next asks for votes.
                tracing::debug!(member = id, %error, "the removed member was not told");
            }
        });
    }

    pub(crate) async fn transfer_leadership(
        &self,
        to: Option<u64>,
        except: Option<u64>,
    ) -> Result<(), Error> {
        let observed = self.core.observation();
        if !observed.leads {
            return Err(Error::NoLeader);
        }
        let me = observed.member_id;
        if to == Some(me) {
            return Ok(());
        }
        let answers = |id: u64| {
            self.fresh_status()
                .members
                .iter()
                .any(|m| m.id == id && m.voter && m.reachable)
        };
        let furthest = || {
            let candidates = observed.voters.iter().copied();
            candidates
                .filter(|id| *id != me && Some(*id) != except && answers(*id))
                .max_by_key(|id| observed.matched.get(id).copied())
        };
        let successor = to.or_else(furthest).ok_or(Error::UnknownMember { id: 0 })?;
        if !observed.voters.contains(&successor) {
            return Err(Error::UnknownMember { id: successor });
        }
        self.core.transfer_leader(successor).await?;
        let waited_ms = self.options.contact_ms() * 2;
        let moved = self
            .core
            .wait_for(Duration::from_millis(waited_ms), |o| {
                o.failure.is_some() || o.current_leader.is_some_and(|leader| leader != me)
            })
            .await;
        if !moved {
            return Err(Error::Timeout {
                what: "the transfer of leadership",
                waited_ms,
            });
        }
        Ok(())
    }

    /// Who leads, waiting a while for somebody to.
    async fn leader_or_wait(&self) -> Result<Leader, Error> {
        self.check_running()?;
        let patience = Duration::from_millis(self.options.leader_wait_ms);
        self.wait_status(patience, |s| s.leader.is_some()).await;
        self.check_running()?;
        let status = self.fresh_status();
        if status.is_leader {
            return Ok(Leader::Me);
        }
        match status.leader_addr() {
            Some(addr) => Ok(Leader::Other {
                addr: addr.to_owned(),
            }),
            None => Err(Error::NoLeader),
        }
    }

    async fn forward_add(
        &self,
        remote: &str,
        id: u64,
        addr: &str,
        forwarded: bool,
    ) -> Result<(), Error> {
        let request = pb::AddMemberRequest {
            member: Some(crate::transport::member(id, addr)),
            forwarded,
        };
        let budget = self.options.health_check_ms + self.options.catch_up_timeout_ms;
        let answered = self
            .peers
            .call(
                remote,
                Lane::Entries,
                Duration::from_millis(budget),
                |mut client| async move { client.add_member(request).await },
            )
            .await;
        self.membership_answer(answered, remote, id)
    }

    async fn forward_remove(&self, remote: &str, id: u64) -> Result<(), Error> {
        let request = pb::RemoveMemberRequest {
            id,
            forwarded: true,
        };
        let timeout = Duration::from_millis(self.options.proposal_timeout_ms);
        let answered = self
            .peers
            .call(remote, Lane::Entries, timeout, |mut client| async move {
                client.remove_member(request).await
            })
            .await;
        self.membership_answer(answered, remote, id)
    }

    fn membership_answer(
        &self,
        answered: Result<pb::MembershipResponse, CallError>,
        remote: &str,
        id: u64,
    ) -> Result<(), Error> {
        match answered {
            Ok(pb::MembershipResponse { refusal: None, .. }) => Ok(()),
            Ok(pb::MembershipResponse {
                refusal: Some(refusal),
                ..
            }) => Err(Error::from_refusal(refusal, id)),
            Err(CallError::Removed { .. }) => {
                self.facts.evict();
                Err(Error::MemberRemoved {
                    id: self.facts.member_id(),
                })
            }
            Err(error) => Err(Error::Unreachable {
                addr: remote.to_owned(),
                reason: error.to_string(),
            }),
        }
    }
}

enum Leader {
    Me,
    Other { addr: String },
}

/// Changes can be repeated, so a change of leader in between is no reason to give up.
fn again(tried: &Result<(), Error>, deadline: Instant) -> bool {
    matches!(tried, Err(Error::NoLeader)) && Instant::now() < deadline
}
