//! Has nodes compare their networks with what they were told, and compares what they were told with
//! the store.
//!
//! A session first looks whether its node was told everything as the store has it; what was just
//! committed may still be under way, so what differs counts only when a second look finds it
//! unchanged. Then the node is asked. It answers with a sum of all records it held at that moment,
//! which has to be that of the records it was sent.

use std::time::Duration;

use proto::dispatcher as wire;
use store::State;
use tokio::sync::oneshot;
use tokio::time::Instant;
use types::NodeId;
use types::check::{NetworkCheck, NodeCheck};
use types::node::NodeState;

use crate::Dispatcher;
use crate::reach::{SentReach, Stale};

/// How long a node may take to look at everything.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// How long a commit may take to be told.
const SECOND_LOOK: Duration = Duration::from_millis(300);
/// Requests that may wait for one node.
pub(crate) const WAITING_MAX: usize = 16;

/// Where the answer for one node goes.
pub(crate) type Reply = oneshot::Sender<Verdict>;

/// What comes of one node's check.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    problem: String,
    stale: Vec<String>,
    records: u64,
    fingerprint: u64,
    check: NetworkCheck,
}

impl Dispatcher {
    /// Has every node check its networks. One that does not answer is named with the reason. `None`
    /// when this manager does not lead, so that no node talks to it.
    pub async fn check_networks(&self) -> Option<Vec<NodeCheck>> {
        let term = self.term()?;
        let until = Instant::now() + ANSWER_MAX;
        let state = term.store.state();
        let mut asked = Vec::new();
        for node in state.nodes() {
            let session = term.liveness().session(node.id).cloned();
            let answer = match (session, node.status.state) {
                (Some(session), _) => session.check().ok_or("too many wait for this node"),
                (None, NodeState::Down) => Err("the node is down"),
                (None, NodeState::Ready | NodeState::Unknown | NodeState::Disconnected) => {
                    Err("the node is not connected")
                }
            };
            asked.push((node.id, node.hostname(), answer));
        }
        let mut checks = Vec::new();
        for (node, hostname, answer) in asked {
            let verdict = match answer {
                Ok(answer) => wait(answer, until).await,
                Err(problem) => Verdict::problem(problem),
            };
            checks.push(verdict.of(node, hostname));
        }
        checks.sort_by(|a, b| (&a.hostname, a.node).cmp(&(&b.hostname, b.node)));
        Some(checks)
    }
}

async fn wait(answer: oneshot::Receiver<Verdict>, until: Instant) -> Verdict {
    match tokio::time::timeout_at(until, answer).await {
        Ok(Ok(verdict)) => verdict,
        Ok(Err(_)) => Verdict::problem("the connection to the node was lost"),
        Err(_) => Verdict::problem("the node did not answer in time"),
    }
}

impl Verdict {
    fn problem(why: &str) -> Self {
        Self {
            problem: why.to_owned(),
            ..Self::default()
        }
    }

    fn of(self, node: NodeId, hostname: String) -> NodeCheck {
        NodeCheck {
            node,
            hostname,
            problem: self.problem,
            stale: self.stale,
            records: self.records,
            fingerprint: self.fingerprint,
            check: self.check,
        }
    }
}

/// One session's checks: those who wait, and how far the present one is.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    waiting: Vec<Reply>,
    stage: Stage,
    last_id: u64,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Idle,
    /// Some records were not told yet: looked at again then.
    Looking { again_at: Instant, first: Stale },
    /// The node was asked for `waiting[..asked]`.
    Asked {
        id: u64,
        asked: usize,
        verdict: Verdict,
    },
}

/// What a session has to do next.
#[derive(Debug)]
pub(crate) enum Next {
    /// Nothing for now.
    Wait,
    /// Tell these records, which were missed.
    Tell(Stale),
    /// Ask the node.
    Ask(wire::CheckNetworks),
}

impl Checks {
    /// Takes those who ask.
    pub(crate) fn wait_for(&mut self, replies: Vec<Reply>) {
        self.waiting.extend(replies);
    }

    /// When to go on by itself; for ever when nothing is to be done. Cancel-safe.
    pub(crate) async fn due(&self) {
        match &self.stage {
            Stage::Looking { again_at, .. } => tokio::time::sleep_until(*again_at).await,
            Stage::Idle if !self.waiting.is_empty() => {}
            Stage::Idle | Stage::Asked { .. } => std::future::pending().await,
        }
    }

    /// Looks whether the node was told everything.
    pub(crate) fn look(&mut self, sent: &SentReach, state: &State, node: NodeId) -> Next {
        let found = Stale::find(sent, state, node);
        match std::mem::take(&mut self.stage) {
            Stage::Idle if found.is_empty() => self.ask(Stale::default(), sent),
            Stage::Idle => {
                let again_at = Instant::now() + SECOND_LOOK;
                self.stage = Stage::Looking {
                    again_at,
                    first: found,
                };
                Next::Wait
            }
            Stage::Looking { first, .. } => {
                let missed = found.persisting(&first);
                if missed.is_empty() {
                    return self.ask(missed, sent);
                }
                // Told first, then the node is asked.
                self.stage = Stage::Idle;
                Next::Tell(missed)
            }
            asked @ Stage::Asked { .. } => {
                self.stage = asked;
                Next::Wait
            }
        }
    }

    /// Asks the node, after it was told what was missed.
    pub(crate) fn ask(&mut self, missed: Stale, sent: &SentReach) -> Next {
        let (records, fingerprint) = sent.sum();
        self.last_id += 1;
        self.stage = Stage::Asked {
            id: self.last_id,
            asked: self.waiting.len(),
            verdict: Verdict {
                stale: missed.texts(),
                records,
                fingerprint,
                ..Verdict::default()
            },
        };
        Next::Ask(wire::CheckNetworks { id: self.last_id })
    }

    /// Takes the node's answer. Returns whether it holds what it was sent.
    pub(crate) fn answer(&mut self, answer: wire::NetworksChecked) -> bool {
        let (asked, mut verdict) = match std::mem::take(&mut self.stage) {
            Stage::Asked { id, asked, verdict } if id == answer.id => (asked, verdict),
            // An answer to nothing that was asked.
            other => {
                self.stage = other;
                return true;
            }
        };
        let holds = answer.fingerprint == verdict.fingerprint;
        if !holds {
            let what = "it holds other records than it was told: all are told anew";
            verdict.stale.push(what.to_owned());
        }
        verdict.problem = answer.err;
        match answer.check.unwrap_or_default().try_into() {
            Ok(check) => verdict.check = check,
            Err(error) => verdict.problem = format!("the node's answer: {error}"),
        }
        for reply in self.waiting.drain(..asked) {
            // Whoever asked may have gone.
            drop(reply.send(verdict.clone()));
        }
        holds
    }
}
