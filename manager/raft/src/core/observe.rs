//! What the library says about itself, turned into a [`Status`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::{Instant as _, ServerState};
use tokio::time::Instant;

use super::Core;
use crate::{Condition, Member, Status};

/// The library's view of the member at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Observation {
    pub(crate) member_id: u64,
    pub(crate) term: u64,
    pub(crate) leads: bool,
    pub(crate) current_leader: Option<u64>,
    pub(crate) last_applied: u64,
    pub(crate) last_log: u64,
    pub(crate) voters: BTreeSet<u64>,
    pub(crate) addrs: BTreeMap<u64, String>,
    /// As leader, how long ago a quorum last answered.
    pub(crate) quorum_age: Option<Duration>,
    /// As leader, how long ago each other member last answered.
    pub(crate) ages: BTreeMap<u64, Duration>,
    /// As leader, the last entry each other member is known to hold.
    pub(crate) matched: BTreeMap<u64, u64>,
    pub(crate) failure: Option<String>,
}

impl Core {
    /// The library's view now.
    pub(crate) fn observation(&self) -> Observation {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let membership = metrics.membership_config.membership();
        Observation {
            member_id: metrics.id,
            term: metrics.current_term,
            leads: metrics.state == ServerState::Leader,
            current_leader: metrics.current_leader,
            last_applied: metrics.last_applied.map_or(0, |id| id.index),
            last_log: metrics.last_log_index.unwrap_or(0),
            voters: membership.voter_ids().collect(),
            addrs: membership
                .nodes()
                .map(|(id, node)| (*id, node.addr.clone()))
                .collect(),
            quorum_age: metrics.last_quorum_acked.map(|at| at.elapsed()),
            ages: metrics
                .heartbeat
                .unwrap_or_default()
                .into_iter()
                .filter_map(|(id, at)| Some((id, at?.elapsed())))
                .collect(),
            matched: metrics
                .replication
                .unwrap_or_default()
                .into_iter()
                .filter_map(|(id, last)| Some((id, last?.index)))
                .collect(),
            failure: metrics.running_state.err().map(|fatal| fatal.to_string()),
        }
    }

    /// The status now; signs of life count for `contact`.
    pub(crate) fn status(&self, contact: Duration) -> Status {
        let now = Instant::now();
        let observed = self.observation();
        let heard = |leader| self.facts.has_heard_of(leader, now, contact);
        let mut status = status(&observed, contact, heard);
        status.last_applied = status.last_applied.max(*self.facts.applied().borrow());
        if *self.facts.evicted().borrow() && status.condition == Condition::Running {
            status.condition = Condition::Removed;
        }
        status
    }

    /// Returns when leadership, membership or health may have changed.
    pub(crate) async fn changed(&self, seen: &mut Changes) {
        if seen.0.changed().await.is_err() {
            // Consensus has ended; the last status stands, and the caller's timer goes on.
            std::future::pending::<()>().await;
        }
    }

    pub(crate) fn changes(&self) -> Changes {
        Changes(self.raft.server_metrics())
    }

    /// Waits until the library's view satisfies `wanted`.
    pub(crate) async fn wait_for(
        &self,
        timeout: Duration,
        wanted: impl Fn(&Observation) -> bool,
    ) -> bool {
        let mut metrics = self.raft.metrics();
        let wait = async {
            while !wanted(&self.observation()) {
                if metrics.changed().await.is_err() {
                    return wanted(&self.observation());
                }
            }
            true
        };
        tokio::time::timeout(timeout, wait).await.unwrap_or(false)
    }
}

/// Wakes on changes of leadership, membership and health.
pub(crate) struct Changes(
    openraft::alias::WatchReceiverOf<
        super::TypeConfig,
        openraft::metrics::RaftServerMetrics<super::TypeConfig>,
    >,
);

/// A leader counts as one only while a quorum answers; a leader not heard of is none.
fn status(observed: &Observation, contact: Duration, heard: impl Fn(u64) -> bool) -> Status {
    let me = observed.member_id;
    let recent = |age: Duration| age <= contact;
    let alone = observed.voters.len() == 1 && observed.voters.contains(&me);
    let is_leader = observed.leads
        && observed.failure.is_none()
        && (alone || observed.quorum_age.is_some_and(recent));
    let leader = if observed.leads {
        is_leader.then_some(me)
    } else {
        observed
            .current_leader
            .filter(|leader| *leader != me && heard(*leader))
    };
    let reachable = |id: u64| {
        if id == me {
            return true;
        }
        if observed.leads {
            return observed.ages.get(&id).is_some_and(|age| recent(*age));
        }
        observed.current_leader != Some(id) || heard(id)
    };
    let member = |(id, addr): (&u64, &String)| Member {
        id: *id,
        addr: addr.clone(),
        voter: observed.voters.contains(id),
        reachable: reachable(*id),
    };
    Status {
        member_id: me,
        leader,
        is_leader,
        term: observed.term,
        last_applied: observed.last_applied,
        members: observed.addrs.iter().map(member).collect(),
        condition: match &observed.failure {
            None => Condition::Running,
            Some(reason) if reason == "raft stopped" => Condition::Stopped,
            Some(reason) => Condition::Failed {
                reason: reason.clone(),
            },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTACT: Duration = Duration::from_millis(800);

    fn three(leads: bool) -> Observation {
        Observation {
            member_id: 1,
            term: 4,
            leads,
            current_leader: Some(if leads { 1 } else { 2 }),
            last_applied: 9,
            last_log: 9,
            voters: BTreeSet::from([1, 2]),
            addrs: [1, 2, 3].map(|id| (id, format!("m{id}"))).into(),
            quorum_age: leads.then_some(Duration::ZERO),
            ages: BTreeMap::from([(2, CONTACT), (3, CONTACT * 2)]),
            matched: BTreeMap::new(),
            failure: None,
        }
    }

    #[test]
    fn a_leader_without_a_quorum_is_none() {
        let mut observed = three(true);
        let fresh = status(&observed, CONTACT, |_| false);
        assert!(fresh.is_leader);
        assert_eq!(fresh.leader, Some(1));
        assert_eq!(fresh.leader_addr(), Some("m1"));

        for age in [None, Some(CONTACT * 2)] {
            observed.quorum_age = age;
            let later = status(&observed, CONTACT, |_| false);
            assert!(!later.is_leader);
            assert_eq!(later.leader, None);
        }
    }

    #[test]
    fn a_voter_alone_needs_no_answers() {
        let mut observed = three(true);
        observed.voters = BTreeSet::from([1]);
        observed.quorum_age = None;
        assert!(status(&observed, CONTACT, |_| false).is_leader);
    }

    #[test]
    fn a_leader_not_heard_of_is_none() {
        let observed = three(false);
        assert_eq!(status(&observed, CONTACT, |id| id == 2).leader, Some(2));
        assert_eq!(status(&observed, CONTACT, |_| false).leader, None);
    }

    #[test]
    fn the_leader_knows_who_answers() {
        let seen = |status: Status| -> Vec<(u64, bool, bool)> {
            status
                .members
                .iter()
                .map(|m| (m.id, m.voter, m.reachable))
                .collect()
        };
        let leader = status(&three(true), CONTACT, |_| false);
        assert_eq!(
            seen(leader),
            [(1, true, true), (2, true, true), (3, false, false)]
        );
        let follower = status(&three(false), CONTACT, |_| false);
        assert_eq!(
            seen(follower),
            [(1, true, true), (2, true, false), (3, false, true)]
        );
    }

    #[test]
    fn a_failure_is_told() {
        let mut observed = three(true);
        observed.failure = Some("disk full".to_owned());
        let status = status(&observed, CONTACT, |_| false);
        assert!(!status.is_leader);
        assert_eq!(
            status.condition,
            Condition::Failed {
                reason: "disk full".to_owned()
            }
        );
    }
}
