//! What a join token is good for: the cluster's two permanent ones, and those made for a purpose.

use ca::{JoinToken, RootBundle};
use types::{Cluster, NodeRole, Timestamp};

use crate::Refusal;

/// What a token lets its bearer do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// What it becomes.
    pub(crate) role: NodeRole,
    /// The named token whose uses have to be counted along, in the same transaction.
    pub(crate) counted: Option<String>,
}

/// What the token in `text` is good for at `now`.
///
/// # Errors
/// When it is none of the cluster's, or has ended.
pub(crate) fn entry(cluster: &Cluster, text: &str, now: Timestamp) -> Result<Entry, Refusal> {
    let token: JoinToken = text
        .parse()
        .map_err(|e: ca::TokenError| Refusal::Token(e.to_string()))?;
    let stored = |text: &str| -> Result<JoinToken, Refusal> {
        text.parse()
            .map_err(|e: ca::TokenError| Refusal::Authority(e.to_string()))
    };
    let bundle = RootBundle::from_pem(cluster.root_ca.cert_pem.clone())
        .map_err(|error| Refusal::Authority(error.to_string()))?;
    // Each is compared in constant time, and all of them whatever the first ones say.
    let is_worker = token == stored(&cluster.root_ca.worker_token)?;
    let is_manager = token == stored(&cluster.root_ca.manager_token)?;
    let mut named = None;
    for (name, known) in &cluster.access.join_tokens {
        // Its digest is that of the roots of the day it was made.
        if token == stored(&known.token)?.with_bundle(&bundle) {
            named = Some((name, known));
        }
    }
    let permanent = |role| Entry {
        role,
        counted: None,
    };
    match (is_manager, is_worker, named) {
        (true, _, _) => Ok(permanent(NodeRole::Manager)),
        (false, true, _) => Ok(permanent(NodeRole::Worker)),
        (false, false, Some((name, known))) => match known.ended(now) {
            None => Ok(Entry {
                role: known.role,
                counted: known.uses_max.map(|_| name.clone()),
            }),
            Some(why) => Err(Refusal::Token(format!("this one, {name}, is {why}"))),
        },
        (false, false, None) => Err(Refusal::Token(
            "this one is not, or no longer, one".to_owned(),
        )),
    }
}

/// The cluster with one more use of a named token.
pub(crate) fn count_use(cluster: &Cluster, name: &str) -> Cluster {
    let mut cluster = cluster.clone();
    if let Some(token) = cluster.access.join_tokens.get_mut(name) {
        token.uses += 1;
    }
    cluster
}
