//! Brings the nodes from one root to the next: tells them to renew, some at a time, and drops the
//! former root once nobody needs it (S11.08).

use std::collections::BTreeMap;
use std::time::Duration;

use ca::{Issuer, JoinToken, LINEAGE_MAX, RootBundle};
use store::{Action, Change, Object, Plan, PlanContext, Planner, State};
use types::cluster::{RootCaState, RootRotation};
use types::node::NodeState;
use types::{Cluster, Node, NodeId, Timestamp};

/// Nodes that are told to renew at once (SwarmKit `IssuanceStateRotateMaxBatchSize`).
pub const BATCH_MAX: usize = 30;
/// After this time without an effect a node is told again, and holds up no other meanwhile.
const RETRY: Duration = Duration::from_secs(10);

/// The leader loop that replaces the root. Its memory only says whom it has just told.
#[derive(Debug, Default)]
pub struct RootRotator {
    told: BTreeMap<NodeId, Timestamp>,
    issuer: Option<(String, Issuer)>,
}

impl Planner for RootRotator {
    fn name(&self) -> &'static str {
        "root rotator"
    }

    fn observe(&mut self, change: &Change) {
        // What is told once is forgotten with the rotation it was told in.
        if let (Some(Object::Cluster(old)), Some(Object::Cluster(new))) = (&change.old, &change.new)
            && old.root_ca.rotation != new.root_ca.rotation
        {
            self.told.clear();
        }
    }

    fn resync(&mut self, _: &State) {
        self.told.clear();
    }

    fn plan(&mut self, context: &mut PlanContext<'_>) -> Plan {
        let mut plan = Plan::default();
        let Some(cluster) = context.state.cluster() else {
            return plan;
        };
        let Some(next) = &cluster.root_ca.rotation else {
            return plan;
        };
        let Some(issuer) = self.issuer(next) else {
            return plan;
        };
        let left: Vec<_> = context
            .state
            .nodes()
            .filter(|node| !is_issued_by(node, &issuer))
            .collect();
        let is_waited_for =
            |node: &&std::sync::Arc<Node>| !(next.skip_unreachable && is_away(node));
        if !left.iter().any(is_waited_for) {
            match finished(cluster, next) {
                Ok(cluster) => {
                    tracing::info!(
                        "every node has a certificate of the new root: it replaces the former"
                    );
                    plan.transactions.push(vec![Action::Update(cluster.into())]);
                }
                Err(error) => tracing::error!(%error, "the root cannot be replaced"),
            }
            return plan;
        }
        let due = |told: &BTreeMap<NodeId, Timestamp>, id| {
            told.get(&id)
                .is_none_or(|at| context.now.since(*at) >= RETRY)
        };
        let ready: Vec<_> = left
            .into_iter()
            .filter(|node| node.status.state == NodeState::Ready)
            .collect();
        let under_way = ready
            .iter()
            .filter(|node| !due(&self.told, node.id))
            .count();
        let mut actions = vec![];
        for node in ready.iter().filter(|node| due(&self.told, node.id)) {
            // One that was told by a former leader, or is slow, is only noted.
            if node.certificate.renew_now {
                continue;
            }
            if under_way + actions.len() >= BATCH_MAX {
                break;
            }
            let mut told = Node::clone(node);
            told.certificate.renew_now = true;
            actions.push(Action::Update(told.into()));
        }
        if actions.is_empty() {
            let told = ready.iter().filter_map(|node| self.told.get(&node.id));
            if let Some(at) = told.filter(|at| context.now.since(**at) < RETRY).min() {
                plan.wake_no_later_than(at.plus(RETRY));
            }
        }
        for action in &actions {
            if let Action::Update(Object::Node(node)) = action {
                self.told.insert(node.id, context.now);
            }
        }
        plan.add_independent(actions);
        plan
    }
}

impl RootRotator {
    fn issuer(&mut self, next: &RootRotation) -> Option<Issuer> {
        match &self.issuer {
            Some((pem, issuer)) if *pem == next.cert_pem => Some(issuer.clone()),
            Some(_) | None => match Issuer::of_root(&next.cert_pem) {
                Ok(issuer) => {
                    self.issuer = Some((next.cert_pem.clone(), issuer.clone()));
                    Some(issuer)
                }
                Err(error) => {
                    tracing::error!(%error, "the root that is to follow cannot be read");
                    None
                }
            },
        }
    }
}

/// Whether the node told that its certificate leads to this root.
fn is_issued_by(node: &Node, issuer: &Issuer) -> bool {
    let tls = node.description.as_ref().and_then(|told| told.tls.as_ref());
    tls.is_some_and(|tls| {
        tls.cert_issuer_subject == issuer.subject && tls.cert_issuer_public_key == issuer.public_key
    })
}

/// Whether the node is known to be gone. One that is unknown has only not come to a new leader yet.
fn is_away(node: &Node) -> bool {
    matches!(node.status.state, NodeState::Down | NodeState::Disconnected)
}

/// The cluster with the next root as its only one: tokens name it, and the former vouches for it.
fn finished(cluster: &Cluster, next: &RootRotation) -> Result<Cluster, ca::Error> {
    let mut cluster = cluster.clone();
    let bundle = RootBundle::from_pem(next.cert_pem.clone())?;
    // A text that is no token is left alone: it lets nobody in.
    let renamed = |token: &mut String| {
        if let Ok(read) = token.parse::<JoinToken>() {
            *token = read.with_bundle(&bundle).reveal().to_string();
        }
    };
    let root = &mut cluster.root_ca;
    renamed(&mut root.worker_token);
    renamed(&mut root.manager_token);
    let mut lineage = std::mem::take(&mut root.lineage);
    lineage.push(next.cross_signed_pem.clone());
    let forgotten = lineage.len().saturating_sub(LINEAGE_MAX);
    lineage.drain(..forgotten);
    *root = RootCaState {
        cert_pem: next.cert_pem.clone(),
        key_pem: next.key_pem.clone(),
        worker_token: std::mem::take(&mut root.worker_token),
        manager_token: std::mem::take(&mut root.manager_token),
        rotation: None,
        lineage,
    };
    for named in cluster.access.join_tokens.values_mut() {
        renamed(&mut named.token);
    }
    Ok(cluster)
}

#[cfg(test)]
mod tests;
