//! Who may make which RPC: one tower layer in front of all services, deny by default.
//!
//! Every RPC is looked at, not every connection: HTTP/2 connections outlive the removal of a node
//! and the end of its certificate. The layer leaves an [`Origin`] in the request's extensions.

use std::collections::HashMap;
use std::fmt;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::Either;
use tokio::time::Instant;
use tonic::Status;
use tower::{Layer, Service};
use types::access::ClientRole;
use types::{NodeId, NodeRole, Timestamp};

use crate::limits::Rates;
use crate::tls::ConnInfo;
use crate::unix::UnixPeer;
use crate::{Certified, ClientIdentity, PeerIdentity, Tls};

mod decision;
mod forward;

pub use decision::Denial;
pub use forward::{FORWARD_KEY, forward};

/// Who a rule lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Caller {
    /// Everybody, with or without a certificate.
    Anyone,
    /// A node with a worker certificate of this cluster.
    Worker,
    /// A node with a manager certificate of this cluster.
    Manager,
    /// A process on this machine, over the local socket.
    Local,
    /// A user of another machine who may look.
    Reader,
    /// A user of another machine who may look and change.
    Operator,
}

impl Caller {
    /// Every kind there is, in the order of tables.
    pub const ALL: [Self; 6] = [
        Self::Worker,
        Self::Manager,
        Self::Local,
        Self::Operator,
        Self::Reader,
        Self::Anyone,
    ];
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anyone => "a caller without a certificate",
            Self::Worker => "a worker",
            Self::Manager => "a manager",
            Self::Local => "a local user",
            Self::Reader => "a remote reader",
            Self::Operator => "a remote operator",
        })
    }
}

/// An RPC's path (`/package.Service/Method`) and who may call it.
pub type Rule = (&'static str, &'static [Caller]);

/// What is known of whoever made a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// No certificate.
    Anonymous,
    /// A node, by its verified certificate. The role is the one that counts: a demoted manager is
    /// a worker, whatever its certificate says.
    Node(PeerIdentity),
    /// A user of another machine, by a verified certificate.
    Client(ClientIdentity),
    /// A process on the machine that took the request.
    Local(UnixPeer),
}

impl Peer {
    /// What a rule has to name for this one to be let in. [`Caller::Anyone`] is no certificate.
    #[must_use]
    pub fn caller(&self) -> Caller {
        match self {
            Self::Anonymous => Caller::Anyone,
            Self::Node(node) => match node.role {
                NodeRole::Worker => Caller::Worker,
                NodeRole::Manager => Caller::Manager,
            },
            Self::Local(_) => Caller::Local,
            Self::Client(client) => match client.role {
                ClientRole::Reader => Caller::Reader,
                ClientRole::Operator => Caller::Operator,
            },
        }
    }
}

/// Who made a request, and how it came here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Who made it. For a forwarded request this is the first caller, not the forwarding manager.
    pub peer: Peer,
    /// That caller's address, as the node saw it that the caller dialled.
    pub remote_addr: Option<SocketAddr>,
    /// The manager that passed the request on, if one did.
    pub forwarded_by: Option<NodeId>,
}

impl Origin {
    /// The node that made the request, if a node did.
    #[must_use]
    pub fn node(&self) -> Option<&PeerIdentity> {
        match &self.peer {
            Peer::Node(node) => Some(node),
            Peer::Anonymous | Peer::Local(_) | Peer::Client(_) => None,
        }
    }
}

/// Who made this request.
///
/// # Errors
/// `Internal` when the server runs without the [`Authorize`] layer.
pub fn origin<T>(request: &tonic::Request<T>) -> Result<&Origin, Status> {
    request
        .extensions()
        .get()
        .ok_or_else(|| Status::internal("the request has not passed the authorization layer"))
}

/// What kind of caller made this request.
///
/// # Errors
/// `Internal` when the server runs without the [`Authorize`] layer.
pub fn caller<T>(request: &tonic::Request<T>) -> Result<Caller, Status> {
    origin(request).map(|origin| origin.peer.caller())
}

/// The node that made this request.
///
/// # Errors
/// `PermissionDenied` when no node did, `Internal` when the server runs without [`Authorize`].
pub fn node<T>(request: &tonic::Request<T>) -> Result<&PeerIdentity, Status> {
    origin(request)?
        .node()
        .ok_or_else(|| Status::permission_denied("only a node of the cluster may call this"))
}

/// A rule stands twice, so that it is unclear which one counts.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are two rules for {0}")]
pub struct DuplicateRule(pub &'static str);

/// What the cluster says of somebody whose certificate is in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The certificate counts.
    Good,
    /// It must no longer be honoured: the node was removed, the client revoked.
    Removed,
    /// A manager's certificate from before its node became a worker: it counts as a worker's.
    Demoted,
}

/// Asks the cluster about whoever showed a certificate.
pub type Registry = Arc<dyn Fn(&Certified) -> Verdict + Send + Sync>;

/// The layer, for `tonic::transport::Server::layer`.
#[derive(Clone)]
pub struct Authorize {
    policy: Arc<Policy>,
}

struct Policy {
    rules: HashMap<&'static str, &'static [Caller]>,
    tls: Tls,
    registry: Registry,
    rates: Rates,
}

impl Authorize {
    /// A layer for these rules. An RPC without a rule is refused to everybody.
    ///
    /// `tls` says which cluster this node is in; `registry` is asked for each RPC that comes with a
    /// certificate.
    ///
    /// # Errors
    /// When two rules speak of the same RPC.
    pub fn new(
        rules: impl IntoIterator<Item = Rule>,
        tls: Tls,
        registry: Registry,
    ) -> Result<Self, DuplicateRule> {
        let mut by_path = HashMap::new();
        for (path, callers) in rules {
            if by_path.insert(path, callers).is_some() {
                return Err(DuplicateRule(path));
            }
        }
        Ok(Self {
            policy: Arc::new(Policy {
                rules: by_path,
                tls,
                registry,
                rates: Rates::default(),
            }),
        })
    }
}

impl Policy {
    fn admit<B>(&self, request: &mut http::Request<B>) -> Result<(), Denial> {
        let direct = origin_of(request.extensions())?;
        if !self.rates.allow(&direct, Instant::now()) {
            return Err(Denial::TooMany);
        }
        let forwarded = request.headers_mut().remove(FORWARD_KEY);
        let question = decision::Question {
            path: request.uri().path(),
            rules: &self.rules,
            own_cluster: self.tls.identity().map(|identity| identity.cluster_id()),
            now: Timestamp::now(),
            registry: &*self.registry,
        };
        let origin = question.decide(direct, forwarded.as_ref())?;
        request.extensions_mut().insert(origin);
        Ok(())
    }
}

/// What the connection says, before any header is believed.
fn origin_of(extensions: &http::Extensions) -> Result<Origin, Denial> {
    let direct = |peer, remote_addr| Origin {
        peer,
        remote_addr,
        forwarded_by: None,
    };
    if let Some(conn) = extensions.get::<ConnInfo>() {
        conn.has_asked();
        let peer = match conn.peer {
            None => Peer::Anonymous,
            Some(Certified::Node(node)) => Peer::Node(node),
            Some(Certified::Client(client)) => Peer::Client(client),
        };
        Ok(direct(peer, Some(conn.remote_addr)))
    } else if let Some(local) = extensions.get::<UnixPeer>() {
        Ok(direct(Peer::Local(*local), None))
    } else {
        Err(Denial::UnknownTransport)
    }
}

impl<S> Layer<S> for Authorize {
    type Service = Authorized<S>;

    fn layer(&self, inner: S) -> Authorized<S> {
        Authorized {
            inner,
            policy: Arc::clone(&self.policy),
        }
    }
}

/// A service behind [`Authorize`].
#[derive(Clone)]
pub struct Authorized<S> {
    inner: S,
    policy: Arc<Policy>,
}

impl<S, B, R> Service<http::Request<B>> for Authorized<S>
where
    S: Service<http::Request<B>, Response = http::Response<R>>,
    R: Default,
{
    type Response = http::Response<R>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Self::Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        match self.policy.admit(&mut request) {
            Ok(()) => Either::Left(self.inner.call(request)),
            Err(Denial::TooMany) => {
                tracing::debug!(path = request.uri().path(), "refused one RPC of too many");
                Either::Right(ready(Ok(Status::from(Denial::TooMany).into_http())))
            }
            Err(denial) => {
                tracing::info!(path = request.uri().path(), %denial, "refused an RPC");
                Either::Right(ready(Ok(Status::from(denial).into_http())))
            }
        }
    }
}
