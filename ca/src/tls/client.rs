//! Dialling other nodes: tonic channels over the node's TLS, and the two that joining needs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};
use types::{ClusterId, NodeId, NodeRole};

use super::{Error, Tls, config, socket};
use crate::certificate::parse_leaf;
use crate::{RootBundle, organizational_unit};

/// Longest time for name lookup, TCP and TLS of one connection together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Who has to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectRole {
    /// Any manager of this node's cluster.
    Manager,
    /// This manager, and not another that took over its address.
    ManagerNode(NodeId),
}

impl ExpectRole {
    /// Whether this is the right one, once its certificate is verified.
    fn is_met_by(self, peer: &crate::PeerIdentity) -> bool {
        let is_meant = match self {
            Self::Manager => true,
            Self::ManagerNode(node_id) => peer.node_id == node_id,
        };
        is_meant && peer.role == NodeRole::Manager
    }
}

impl fmt::Display for ExpectRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manager => f.write_str("manager"),
            Self::ManagerNode(node_id) => write!(f, "manager {node_id}"),
        }
    }
}

/// How a channel looks after its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DialOptions {
    /// Time between HTTP/2 pings; `None` for no pings.
    pub keepalive_interval: Option<Duration>,
    /// Longest wait for the answer to a ping before the connection is given up.
    pub keepalive_timeout: Duration,
    /// Whether to ping while no RPC is running.
    pub keepalive_while_idle: bool,
    /// Longest time for name lookup, TCP and TLS together.
    pub connect_timeout: Duration,
}

impl Default for DialOptions {
    /// Notices a dead peer within six seconds, like the TCP options of every connection.
    fn default() -> Self {
        Self {
            keepalive_interval: Some(Duration::from_secs(3)),
            keepalive_timeout: Duration::from_secs(3),
            keepalive_while_idle: true,
            connect_timeout: CONNECT_TIMEOUT,
        }
    }
}

impl Tls {
    /// Dials `addr` (host:port) and returns a channel once the first connection stands.
    ///
    /// The channel connects again by itself, each time with the identity of that moment.
    ///
    /// # Errors
    /// When nobody answers, or not the right one. That the server refuses *our* certificate shows
    /// only in the first RPC, see [`super::refusal`].
    pub async fn connect(
        &self,
        addr: &str,
        expect: ExpectRole,
        options: &DialOptions,
    ) -> Result<Channel, Error> {
        if self.client().is_none() {
            return Err(Error::NoIdentity);
        }
        let dialler = self.dialler(addr, expect, options);
        connect(addr, options, dialler).await
    }

    /// Like [`Tls::connect`], but connects with the first RPC, which then carries any error.
    ///
    /// # Errors
    /// When `addr` is not an address. Must be called inside a tokio runtime.
    pub fn channel(
        &self,
        addr: &str,
        expect: ExpectRole,
        options: &DialOptions,
    ) -> Result<Channel, Error> {
        let dialler = self.dialler(addr, expect, options);
        let service = tower::service_fn(move |_: Uri| dialler.clone().dial());
        Ok(endpoint(addr, options)?.connect_with_connector_lazy(service))
    }

    fn dialler(&self, addr: &str, expect: ExpectRole, options: &DialOptions) -> Dialler {
        Dialler {
            addr: addr.into(),
            trust: Trust::Ours(self.clone(), expect),
            limit: options.connect_timeout,
        }
    }
}

/// Dials a manager that this node cannot verify yet, to fetch the cluster's root bundle from it.
///
/// Any certificate is taken, so nothing secret may be sent and nothing received believed: compare
/// the bundle with [`crate::JoinToken::matches_bundle`], then go on over [`pinned_channel`].
///
/// # Errors
/// When nobody answers or what answers does not speak TLS 1.3.
pub async fn bootstrap_channel(addr: &str) -> Result<Channel, Error> {
    let config = config::bootstrap_client().map_err(Error::Config)?;
    anonymous_channel(addr, config).await
}

/// Dials a manager of the cluster with these roots, without a certificate of one's own.
///
/// # Errors
/// When nobody answers or what answers is not a manager of that cluster.
pub async fn pinned_channel(addr: &str, roots: &RootBundle) -> Result<Channel, Error> {
    let config = config::pinned_client(roots).map_err(Error::Config)?;
    anonymous_channel(addr, config).await
}

/// Dials a manager of this cluster with fixed settings: those of a client.
pub(crate) async fn client_channel(
    addr: &str,
    config: Arc<ClientConfig>,
    cluster_id: ClusterId,
) -> Result<Channel, Error> {
    given(addr, config, Some(cluster_id)).await
}

async fn anonymous_channel(addr: &str, config: Arc<ClientConfig>) -> Result<Channel, Error> {
    given(addr, config, None).await
}

async fn given(
    addr: &str,
    config: Arc<ClientConfig>,
    cluster_id: Option<ClusterId>,
) -> Result<Channel, Error> {
    let options = DialOptions::default();
    let limit = options.connect_timeout;
    let dialler = Dialler {
        addr: addr.into(),
        trust: Trust::Given(config, cluster_id),
        limit,
    };
    connect(addr, &options, dialler).await
}

async fn connect(addr: &str, options: &DialOptions, dialler: Dialler) -> Result<Channel, Error> {
    let service = tower::service_fn(move |_: Uri| dialler.clone().dial());
    endpoint(addr, options)?
        .connect_with_connector(service)
        .await
        .map_err(|source| Error::Unreachable {
            addr: addr.to_owned(),
            source,
        })
}

/// The scheme is `http` because TLS happens in the connector, not in tonic.
fn endpoint(addr: &str, options: &DialOptions) -> Result<Endpoint, Error> {
    let mut endpoint = Endpoint::from_shared(format!("http://{addr}"))
        .map_err(|source| Error::Address {
            addr: addr.to_owned(),
            source,
        })?
        .connect_timeout(options.connect_timeout)
        .keep_alive_timeout(options.keepalive_timeout)
        .keep_alive_while_idle(options.keepalive_while_idle);
    if let Some(interval) = options.keepalive_interval {
        endpoint = endpoint.http2_keep_alive_interval(interval);
    }
    Ok(endpoint)
}

/// Makes one connection, each time a channel needs one.
#[derive(Clone)]
struct Dialler {
    addr: Arc<str>,
    trust: Trust,
    limit: Duration,
}

#[derive(Clone)]
enum Trust {
    /// The node's own identity and roots at the moment of dialling.
    Ours(Tls, ExpectRole),
    /// Fixed settings, and the cluster that has to answer, where it is known.
    Given(Arc<ClientConfig>, Option<ClusterId>),
}

impl Dialler {
    async fn dial(self) -> Result<TokioIo<TlsStream<TcpStream>>, Error> {
        let after = self.limit;
        match timeout(after, self.handshake()).await {
            Ok(done) => done.map(TokioIo::new),
            Err(_) => Err(Error::Timeout {
                addr: self.addr.to_string(),
                after,
            }),
        }
    }

    async fn handshake(&self) -> Result<TlsStream<TcpStream>, Error> {
        let addr = || self.addr.to_string();
        let (config, ours) = match &self.trust {
            Trust::Ours(tls, expect) => {
                let (config, identity) = tls.client().ok_or(Error::NoIdentity)?;
                (config, Some((*expect, identity.cluster_id())))
            }
            Trust::Given(config, cluster_id) => {
                let meant = cluster_id.map(|cluster_id| (ExpectRole::Manager, cluster_id));
                (Arc::clone(config), meant)
            }
        };
        let connect = |source| Error::Connect {
            addr: addr(),
            source,
        };
        let stream = TcpStream::connect(&*self.addr).await.map_err(connect)?;
        socket::tune(&stream).map_err(connect)?;
        // The role is a name in the certificate: asking for that name is checking the role.
        let name = ServerName::try_from(organizational_unit(NodeRole::Manager))
            .expect("an OU is a DNS label");
        let stream = TlsConnector::from(config)
            .connect(name, stream)
            .await
            .map_err(|source| Error::Handshake {
                addr: addr(),
                source,
            })?;
        if let Some((expect, cluster_id)) = ours {
            let leaf = stream
                .get_ref()
                .1
                .peer_certificates()
                .and_then(<[_]>::first);
            self.check(leaf, expect, cluster_id)?;
        }
        Ok(stream)
    }

    /// What the name check of TLS does not cover: cluster and node.
    fn check(
        &self,
        leaf: Option<&CertificateDer<'_>>,
        expected: ExpectRole,
        cluster_id: ClusterId,
    ) -> Result<(), Error> {
        let addr = || self.addr.to_string();
        let der = leaf.map_or(&[][..], |der| der.as_ref());
        let leaf = parse_leaf(der).map_err(|source| Error::Certificate {
            addr: addr(),
            source,
        })?;
        let found = leaf.peer();
        if expected.is_met_by(&found) && found.cluster_id == cluster_id {
            Ok(())
        } else {
            Err(Error::WrongPeer {
                addr: addr(),
                found: Box::new(found),
                expected,
            })
        }
    }
}
