//! The decision itself, without a clock, a network or a store.

use std::collections::HashMap;

use http::HeaderValue;
use tonic::Status;
use types::{ClientId, ClusterId, NodeId, NodeRole, Timestamp};

use super::{Caller, Origin, Peer, Verdict, forward};
use crate::{Certified, ClientIdentity, PeerIdentity};

/// Why an RPC is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// No rule lets this caller in.
    #[error("{caller} may not call {path}")]
    NotAllowed {
        /// The RPC.
        path: String,
        /// Who wanted to.
        caller: Caller,
    },
    /// The local socket is not for this user.
    #[error(
        "user {uid} (process {pid}) may not use the local socket: only root, the daemon's own user and its group may"
    )]
    LocalUser {
        /// The user.
        uid: u32,
        /// The process.
        pid: u32,
    },
    /// The certificate is of another cluster.
    #[error("node {node_id} belongs to another cluster")]
    OtherCluster {
        /// The caller.
        node_id: NodeId,
    },
    /// The node has been removed.
    #[error("node {node_id} has been removed from the cluster")]
    Removed {
        /// The caller.
        node_id: NodeId,
    },
    /// The certificate ran out while the connection stayed open.
    #[error("the certificate of node {node_id} has expired")]
    Expired {
        /// The caller.
        node_id: NodeId,
    },
    /// The client's certificate is of another cluster.
    #[error("client {client_id} belongs to another cluster")]
    ClientOfOtherCluster {
        /// The caller.
        client_id: ClientId,
    },
    /// The client was revoked, or never made.
    #[error("the cluster knows no client {client_id}, or no longer")]
    ClientRemoved {
        /// The caller.
        client_id: ClientId,
    },
    /// The client's certificate ran out while the connection stayed open.
    #[error("the certificate of client {client_id} has expired")]
    ClientExpired {
        /// The caller.
        client_id: ClientId,
    },
    /// Somebody who is not a manager says it speaks for another.
    #[error("{caller} may not pass on requests of others")]
    ForwardedBy {
        /// Who said so.
        caller: Caller,
    },
    /// A manager says it speaks for another, but not in words that are understood.
    #[error("the forwarded identity is malformed")]
    ForwardedMalformed,
    /// This peer makes more requests than any honest one has reason to.
    #[error("too many requests: try again in a few seconds")]
    TooMany,
    /// The server was started on a transport that tells nothing of its callers.
    #[error("the connection does not say who is calling")]
    UnknownTransport,
}

impl From<Denial> for Status {
    fn from(denial: Denial) -> Self {
        let text = denial.to_string();
        match denial {
            Denial::NotAllowed { .. }
            | Denial::LocalUser { .. }
            | Denial::OtherCluster { .. }
            | Denial::Removed { .. }
            | Denial::ClientOfOtherCluster { .. }
            | Denial::ClientRemoved { .. }
            | Denial::ForwardedBy { .. } => Self::permission_denied(text),
            Denial::Expired { .. } | Denial::ClientExpired { .. } => Self::unauthenticated(text),
            Denial::ForwardedMalformed => Self::invalid_argument(text),
            Denial::TooMany => Self::resource_exhausted(text),
            Denial::UnknownTransport => Self::internal(text),
        }
    }
}

/// All that a decision depends on, besides who is asking.
pub(super) struct Question<'a> {
    pub(super) path: &'a str,
    pub(super) rules: &'a HashMap<&'static str, &'static [Caller]>,
    pub(super) own_cluster: Option<ClusterId>,
    pub(super) now: Timestamp,
    pub(super) registry: &'a (dyn Fn(&Certified) -> Verdict + Send + Sync),
}

impl Question<'_> {
    /// Says who made the request, if they may make it. `direct` is the other end of the connection,
    /// `forwarded` what it says about having been asked by another.
    pub(super) fn decide(
        &self,
        direct: Origin,
        forwarded: Option<&HeaderValue>,
    ) -> Result<Origin, Denial> {
        let direct = self.check(direct)?;
        let origin = match forwarded {
            Some(header) => self.check(forward::restore(&direct, header)?)?,
            None => direct,
        };
        let caller = origin.peer.caller();
        let allowed = self.rules.get(self.path).copied().unwrap_or_default();
        if allowed.contains(&Caller::Anyone) || allowed.contains(&caller) {
            Ok(origin)
        } else {
            Err(Denial::NotAllowed {
                path: self.path.to_owned(),
                caller,
            })
        }
    }

    /// A certificate has to be good even where none is needed: whoever shows one is meant by it.
    fn check(&self, origin: Origin) -> Result<Origin, Denial> {
        let peer = match origin.peer {
            Peer::Anonymous => Peer::Anonymous,
            Peer::Node(node) => Peer::Node(self.check_node(node)?),
            Peer::Client(client) => Peer::Client(self.check_client(client)?),
            Peer::Local(local) if local.is_allowed => Peer::Local(local),
            Peer::Local(local) => {
                return Err(Denial::LocalUser {
                    uid: local.uid,
                    pid: local.pid,
                });
            }
        };
        Ok(Origin { peer, ..origin })
    }

    fn check_node(&self, node: PeerIdentity) -> Result<PeerIdentity, Denial> {
        let node_id = node.node_id;
        if self.own_cluster != Some(node.cluster_id) {
            return Err(Denial::OtherCluster { node_id });
        }
        let role = match (self.registry)(&Certified::Node(node)) {
            Verdict::Good => node.role,
            Verdict::Removed => return Err(Denial::Removed { node_id }),
            Verdict::Demoted => NodeRole::Worker,
        };
        if self.now >= node.cert_not_after {
            return Err(Denial::Expired { node_id });
        }
        Ok(PeerIdentity { role, ..node })
    }

    fn check_client(&self, client: ClientIdentity) -> Result<ClientIdentity, Denial> {
        let client_id = client.client_id;
        if self.own_cluster != Some(client.cluster_id) {
            return Err(Denial::ClientOfOtherCluster { client_id });
        }
        match (self.registry)(&Certified::Client(client)) {
            Verdict::Good => {}
            Verdict::Removed | Verdict::Demoted => {
                return Err(Denial::ClientRemoved { client_id });
            }
        }
        if self.now >= client.cert_not_after {
            return Err(Denial::ClientExpired { client_id });
        }
        Ok(client)
    }
}

#[cfg(test)]
mod tests;
