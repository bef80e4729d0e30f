//! The decision: which certificate a caller gets, and what that changes in the store.

use std::net::IpAddr;

use ca::{JoinToken, PeerIdentity, Subject, TokenError};
use store::{Action, State};
use types::node::{Availability, NodeState, NodeStatus};
use types::{Cluster, Meta, Node, NodeId, NodeRole, NodeSpec};

/// Why no certificate is issued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Not a token at all.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A token that is not, or no longer, one of this cluster.
    #[error(
        "not a valid join token of this cluster, it may have been rotated: a valid join token reads \
         SWMTKN-1-<50 characters>-<25 characters>, `swarmctl join-token worker` on a manager shows it"
    )]
    UnknownToken,
    /// Too many wrong tokens from one address.
    #[error("too many wrong join tokens from this address, try again in a minute")]
    TooManyTokens,
    /// Neither token nor certificate.
    #[error("a join token, or the certificate of a node, is needed to get a certificate")]
    Stranger,
    /// The node's object is gone.
    #[error("node {0} has been removed from the cluster")]
    Removed(NodeId),
    /// A demoted manager has to leave the Raft group before it becomes a worker.
    #[error("node {0} gets a worker certificate once it has left the managers' group")]
    StillMember(NodeId),
}

/// What to sign, and what to write before it is handed out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Grant {
    /// Whom the certificate speaks of.
    pub(crate) subject: Subject,
    /// The node's object, where it is new or changes.
    pub(crate) write: Option<Action>,
}

/// A new node that shows a token.
#[derive(Clone, Debug)]
pub(crate) struct Newcomer<'a> {
    pub(crate) token: &'a str,
    pub(crate) availability: Availability,
    pub(crate) addr: Option<IpAddr>,
    /// The id it gets when it is let in.
    pub(crate) id: NodeId,
}

/// Lets a new node in by its token.
pub(crate) fn admit(cluster: &Cluster, newcomer: &Newcomer<'_>) -> Result<Grant, Denied> {
    let role = role_of(cluster, &newcomer.token.parse()?)?;
    let node = Node {
        id: newcomer.id,
        meta: Meta::default(),
        spec: NodeSpec {
            role,
            availability: newcomer.availability,
            ..NodeSpec::default()
        },
        role,
        description: None,
        status: NodeStatus {
            state: NodeState::Unknown,
            message: String::new(),
            addr: newcomer.addr,
        },
        manager_status: None,
    };
    let subject = Subject {
        cluster_id: cluster.id,
        role,
        node_id: node.id,
    };
    Ok(Grant {
        subject,
        write: Some(Action::Create(node.into())),
    })
}

/// The role a token stands for. Compares with both tokens whatever the first comparison says.
fn role_of(cluster: &Cluster, token: &JoinToken) -> Result<NodeRole, Denied> {
    let is = |text: &str| text.parse::<JoinToken>().is_ok_and(|known| known == *token);
    let is_worker = is(&cluster.root_ca.worker_token);
    let is_manager = is(&cluster.root_ca.manager_token);
    match (is_worker, is_manager) {
        (_, true) => Ok(NodeRole::Manager),
        (true, false) => Ok(NodeRole::Worker),
        (false, false) => Err(Denied::UnknownToken),
    }
}

/// Renews a node's certificate, with the role its object asks for.
pub(crate) fn renew(
    state: &State,
    cluster: &Cluster,
    caller: Option<&PeerIdentity>,
) -> Result<Grant, Denied> {
    let node_id = caller.ok_or(Denied::Stranger)?.node_id;
    let node = state.node(node_id).ok_or(Denied::Removed(node_id))?;
    let role = node.spec.role;
    // A member without a manager's certificate could vote but not be reached.
    if role == NodeRole::Worker && node.manager_status.is_some() {
        return Err(Denied::StillMember(node_id));
    }
    let write = (node.role != role).then(|| {
        let mut changed = Node::clone(node);
        changed.role = role;
        Action::Update(changed.into())
    });
    Ok(Grant {
        subject: Subject {
            cluster_id: cluster.id,
            role,
            node_id,
        },
        write,
    })
}
