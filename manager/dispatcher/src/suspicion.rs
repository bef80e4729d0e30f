//! Which nodes their peers hold for lost, and which of those are to be taken for it. No IO, no clock.
//!
//! Whoever is reported is called upon to send a heartbeat at once. Only who does not answer can be
//! given up, and only when most of the nodes that gossip with it report it: neither a hostile
//! worker nor one that is cut off takes down a node that is well.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;
use types::NodeId;

use crate::liveness::SessionKey;

/// Peers one report may name.
pub(crate) const PEERS_MAX: usize = 4096;
/// How long a node that is called upon may take to send a heartbeat.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(1);
/// How long an answer holds before a node that is still reported is called upon again.
const CALL_PERIOD: Duration = Duration::from_secs(1);
/// Reports it takes at least for a node that has no session and so cannot answer: its daemon may
/// just be restarted.
const WITHOUT_SESSION_MIN: usize = 2;

/// What nodes report, and who was called upon.
#[derive(Debug, Default)]
pub(crate) struct Suspicion {
    reports: BTreeMap<NodeId, (SessionKey, BTreeSet<NodeId>)>,
    calls: BTreeMap<NodeId, Call>,
}

#[derive(Clone, Copy, Debug)]
struct Call {
    at: Instant,
    is_answered: bool,
}

impl Call {
    fn new(at: Instant) -> Self {
        let is_answered = false;
        Self { at, is_answered }
    }

    /// When it is to be looked at again.
    fn due(&self) -> Instant {
        let after = if self.is_answered {
            CALL_PERIOD
        } else {
            ANSWER_MAX
        };
        self.at + after
    }
}

/// What is known of nodes beside the reports.
pub(crate) trait Acquaintance {
    /// Whether the node exists and is not known to be down.
    fn is_in_use(&self, node: NodeId) -> bool;
    /// Whether it has an open session.
    fn has_session(&self, node: NodeId) -> bool;
    /// Whether `by` was told of `node` as its peer.
    fn is_peer(&self, node: NodeId, by: NodeId) -> bool;
}

/// What follows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// These are to be called upon.
    pub(crate) to_call: Vec<NodeId>,
    /// These are lost.
    pub(crate) lost: Vec<NodeId>,
    /// When to look again at the latest.
    pub(crate) again_at: Option<Instant>,
}

impl Suspicion {
    /// Takes all that a node holds for lost.
    pub(crate) fn report(&mut self, by: NodeId, key: SessionKey, lost: BTreeSet<NodeId>) {
        self.reports.insert(by, (key, lost));
    }

    /// A session ended: what was reported in it counts no longer.
    pub(crate) fn forget(&mut self, by: NodeId, key: SessionKey) {
        if self.reports.get(&by).is_some_and(|(held, _)| *held == key) {
            self.reports.remove(&by);
        }
    }

    /// A node gave a sign of life.
    pub(crate) fn heard(&mut self, node: NodeId) {
        if let Some(call) = self.calls.get_mut(&node) {
            call.is_answered = true;
        }
    }

    /// Gives those who were called upon their time anew: this manager stood still.
    pub(crate) fn postpone(&mut self, now: Instant) {
        for call in self.calls.values_mut() {
            call.at = now;
        }
    }

    /// Who is to be called upon, and who is lost.
    pub(crate) fn look(&mut self, now: Instant, known: &impl Acquaintance) -> Findings {
        let mut findings = Findings::default();
        let named = self.reports.values().flat_map(|(_, lost)| lost).copied();
        let suspects: BTreeSet<NodeId> = named.filter(|node| known.is_in_use(*node)).collect();
        self.calls.retain(|node, _| suspects.contains(node));
        let mut silent = BTreeSet::new();
        for node in suspects {
            if !known.has_session(node) {
                silent.insert(node);
                continue;
            }
            let call = self.calls.entry(node).or_insert_with(|| {
                findings.to_call.push(node);
                Call::new(now)
            });
            if call.due() <= now {
                if !call.is_answered {
                    silent.insert(node);
                    continue;
                }
                findings.to_call.push(node);
                *call = Call::new(now);
            }
            let due = Some(call.due());
            findings.again_at = [findings.again_at, due].into_iter().flatten().min();
        }
        let lost = silent.iter().copied();
        findings.lost = lost
            .filter(|node| self.is_lost(*node, &silent, known))
            .collect();
        for node in &findings.lost {
            self.calls.remove(node);
        }
        findings
    }

    /// Whether most of those who gossip with a silent node hold it for lost. Others that are silent
    /// themselves have no say.
    fn is_lost(&self, node: NodeId, silent: &BTreeSet<NodeId>, known: &impl Acquaintance) -> bool {
        let (mut votes, mut peers) = (0, 0);
        for (by, (_, lost)) in &self.reports {
            if *by != node && !silent.contains(by) && known.is_peer(node, *by) {
                peers += 1;
                votes += usize::from(lost.contains(&node));
            }
        }
        votes * 2 > peers && (votes >= WITHOUT_SESSION_MIN || known.has_session(node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes from 1 that are each other's peers, but for those that are no one's.
    struct Cluster {
        sessions: BTreeSet<u128>,
        down: BTreeSet<u128>,
        strangers: BTreeSet<u128>,
    }

    fn number(node: NodeId) -> u128 {
        (1..100)
            .find(|one| NodeId::from_number(*one) == node)
            .unwrap()
    }

    impl Acquaintance for Cluster {
        fn is_in_use(&self, node: NodeId) -> bool {
            !self.down.contains(&number(node))
        }
        fn has_session(&self, node: NodeId) -> bool {
            self.sessions.contains(&number(node))
        }
        fn is_peer(&self, node: NodeId, by: NodeId) -> bool {
            node != by && !self.strangers.contains(&number(by))
        }
    }

    fn cluster(size: u128) -> Cluster {
        Cluster {
            sessions: (1..=size).collect(),
            down: BTreeSet::new(),
            strangers: BTreeSet::new(),
        }
    }

    fn id(number: u128) -> NodeId {
        NodeId::from_number(number)
    }

    fn ids(numbers: &[u128]) -> Vec<NodeId> {
        numbers.iter().copied().map(id).collect()
    }

    /// Each of these reports these.
    fn reports(suspicion: &mut Suspicion, reports: &[(u128, &[u128])]) {
        for (by, lost) in reports {
            suspicion.report(id(*by), 1, ids(lost).into_iter().collect());
        }
    }

    fn later(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn who_is_silent_and_missed_by_most_is_lost() {
        let (start, five) = (Instant::now(), cluster(5));
        for (said, is_lost) in [
            (vec![(1, &[5][..]), (2, &[5]), (3, &[5]), (4, &[])], true),
            (vec![(1, &[5]), (2, &[5]), (3, &[]), (4, &[])], false),
            (vec![(1, &[5]), (2, &[]), (3, &[]), (4, &[])], false),
            (vec![(1, &[5])], true),
        ] {
            let mut suspicion = Suspicion::default();
            reports(&mut suspicion, &said);
            let first = suspicion.look(start, &five);
            assert_eq!((first.to_call, first.lost), (ids(&[5]), vec![]), "{said:?}");
            assert_eq!(first.again_at, Some(start + ANSWER_MAX));
            assert_eq!(suspicion.look(later(start, 999), &five).lost, []);
            let found = suspicion.look(later(start, 1000), &five);
            assert_eq!(
                found.lost,
                ids(if is_lost { &[5] } else { &[] }),
                "{said:?}"
            );
            assert_eq!(found.to_call, []);
        }
    }

    #[test]
    fn who_answers_is_never_lost_however_many_say_so() {
        let (start, five) = (Instant::now(), cluster(5));
        let mut suspicion = Suspicion::default();
        reports(
            &mut suspicion,
            &[(1, &[5]), (2, &[5]), (3, &[5]), (4, &[5])],
        );
        let mut calls = 0;
        for step in 0..200 {
            let found = suspicion.look(later(start, step * 50), &five);
            assert_eq!(found.lost, []);
            calls += found.to_call.len();
            if !found.to_call.is_empty() {
                suspicion.heard(id(5));
            }
        }
        assert_eq!(calls, 10, "called upon every second, not at each look");
        // Once it stops answering, the next call shows it.
        let at = later(start, 10_000);
        assert_eq!(suspicion.look(at, &five).to_call, ids(&[5]));
        assert_eq!(suspicion.look(at + ANSWER_MAX, &five).lost, ids(&[5]));
    }

    #[test]
    fn several_that_die_at_once_do_not_outvote_the_living() {
        let (start, five) = (Instant::now(), cluster(5));
        let mut suspicion = Suspicion::default();
        // Three died; each had reported that all was well.
        reports(
            &mut suspicion,
            &[
                (1, &[3, 4, 5]),
                (2, &[3, 4, 5]),
                (3, &[]),
                (4, &[]),
                (5, &[]),
            ],
        );
        assert_eq!(suspicion.look(start, &five).to_call, ids(&[3, 4, 5]));
        let found = suspicion.look(start + ANSWER_MAX, &five);
        assert_eq!(found.lost, ids(&[3, 4, 5]));
    }

    #[test]
    fn strangers_and_the_node_itself_have_no_say() {
        let (start, mut five) = (Instant::now(), cluster(5));
        five.strangers = [1, 2, 3].into();
        let mut suspicion = Suspicion::default();
        reports(
            &mut suspicion,
            &[(1, &[5]), (2, &[5]), (3, &[5]), (4, &[]), (5, &[5])],
        );
        suspicion.look(start, &five);
        assert_eq!(suspicion.look(start + ANSWER_MAX, &five).lost, []);
    }

    #[test]
    fn without_a_session_one_report_is_not_enough() {
        let (start, mut three) = (Instant::now(), cluster(3));
        three.sessions.remove(&3);
        let mut suspicion = Suspicion::default();
        reports(&mut suspicion, &[(1, &[3])]);
        assert_eq!(suspicion.look(start, &three), Findings::default());
        reports(&mut suspicion, &[(2, &[3])]);
        assert_eq!(suspicion.look(start, &three).lost, ids(&[3]), "at once");
        // Known by then.
        three.down.insert(3);
        assert_eq!(suspicion.look(start, &three), Findings::default());
    }

    #[test]
    fn what_was_said_in_a_session_ends_with_it() {
        let (start, three) = (Instant::now(), cluster(3));
        let mut suspicion = Suspicion::default();
        reports(&mut suspicion, &[(1, &[3])]);
        suspicion.forget(id(1), 7);
        assert_eq!(suspicion.look(start, &three).to_call, ids(&[3]));
        suspicion.forget(id(1), 1);
        assert_eq!(
            suspicion.look(start + ANSWER_MAX, &three),
            Findings::default()
        );
    }

    #[test]
    fn a_manager_that_stood_still_blames_nobody() {
        let (start, three) = (Instant::now(), cluster(3));
        let mut suspicion = Suspicion::default();
        reports(&mut suspicion, &[(1, &[3]), (2, &[3])]);
        suspicion.look(start, &three);
        let late = later(start, 5000);
        suspicion.postpone(late);
        assert_eq!(suspicion.look(late, &three).lost, []);
        assert_eq!(suspicion.look(late + ANSWER_MAX, &three).lost, ids(&[3]));
    }
}
