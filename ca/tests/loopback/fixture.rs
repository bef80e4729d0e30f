//! A cluster of certificates, and servers that speak for them.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ca::authorize::{Authorize, Registry, Verdict};
use ca::tls::{Admission, Connections, DialOptions, ExpectRole};
use ca::{Certified, Identity, PrivateKey, RootBundle, RootCa, Subject, Tls};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Server};
use types::{ClusterId, NodeId, NodeRole, Timestamp};

use crate::echo::{Answer, Echo, RULES};

/// Longest wait for anything that has to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Cluster {
    pub(crate) root: RootCa,
    pub(crate) id: ClusterId,
}

impl Cluster {
    pub(crate) fn new(number: u128) -> Self {
        let root = RootCa::generate(Timestamp::now()).unwrap();
        Self {
            root,
            id: ClusterId::from_number(number),
        }
    }

    pub(crate) fn roots(&self) -> RootBundle {
        self.root.bundle().clone()
    }

    pub(crate) fn manager(&self, number: u128) -> Identity {
        self.issue(NodeRole::Manager, number, Timestamp::now())
    }

    pub(crate) fn worker(&self, number: u128) -> Identity {
        self.issue(NodeRole::Worker, number, Timestamp::now())
    }

    /// A certificate that ran out two hours ago.
    pub(crate) fn expired(&self, role: NodeRole, number: u128) -> Identity {
        self.issue(
            role,
            number,
            Timestamp(Timestamp::now().0 - 3 * 3_600_000_000_000),
        )
    }

    fn issue(&self, role: NodeRole, number: u128, now: Timestamp) -> Identity {
        let subject = Subject {
            cluster_id: self.id,
            role,
            node_id: NodeId::from_number(number),
        };
        let key = PrivateKey::generate().unwrap();
        let validity = ca::NODE_VALIDITY_MIN;
        let chain = self
            .root
            .issue(&key.csr_pem().unwrap(), &subject, validity, now)
            .unwrap();
        Identity::new(key, &chain, self.roots()).unwrap()
    }
}

/// One bundle out of several.
pub(crate) fn both(one: &Cluster, other: &Cluster) -> RootBundle {
    RootBundle::from_pem([one.roots().pem(), other.roots().pem()].concat()).unwrap()
}

pub(crate) fn tls(identity: Identity) -> Tls {
    Tls::new(Some(identity)).unwrap()
}

/// A server on a port of its own, gone when dropped.
pub(crate) struct Running {
    pub(crate) addr: SocketAddr,
    pub(crate) tls: Tls,
    pub(crate) connections: Connections,
    removed: Arc<Mutex<HashSet<NodeId>>>,
    stop: CancellationToken,
    serving: JoinSet<()>,
}

impl Running {
    pub(crate) async fn start(identity: Identity) -> Self {
        Self::with(identity, "127.0.0.1:0", Arc::new(|_| None), None).await
    }

    pub(crate) async fn with(
        identity: Identity,
        addr: &str,
        answer: Answer,
        leader: Option<Channel>,
    ) -> Self {
        let listener = TcpListener::bind(addr).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let tls = tls(identity);
        let removed = Arc::<Mutex<HashSet<NodeId>>>::default();
        let asked = Arc::clone(&removed);
        let registry: Registry = Arc::new(move |peer| match peer {
            Certified::Node(node) if asked.lock().unwrap().contains(&node.node_id) => {
                Verdict::Removed
            }
            Certified::Node(_) | Certified::Client(_) => Verdict::Good,
        });
        let connections = Connections::new(registry.clone());
        let layer = Authorize::new(RULES.iter().copied(), tls.clone(), registry).unwrap();
        let stop = CancellationToken::new();
        let admission = admission(connections.clone());
        let incoming = ca::tls::incoming(listener, tls.clone(), admission, stop.clone());
        let served = Server::builder()
            .layer(layer)
            .add_service(Echo { answer, leader });
        let stopped = stop.clone().cancelled_owned();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            served
                .serve_with_incoming_shutdown(incoming, stopped)
                .await
                .unwrap();
        });
        Self {
            addr,
            tls,
            connections,
            removed,
            stop,
            serving,
        }
    }

    pub(crate) fn remove_node(&self, number: u128) {
        self.removed
            .lock()
            .unwrap()
            .insert(NodeId::from_number(number));
    }

    /// Stops accepting, closes connections gracefully, waits for all of it.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.serving.join_next())
            .await
            .unwrap();
    }
}

/// Lets in whoever comes; no address is a manager's.
pub(crate) fn admission(connections: Connections) -> Admission {
    Admission {
        connections,
        is_manager: Arc::new(|_| false),
    }
}

/// Dials a server as this node would.
pub(crate) async fn dial(tls: &Tls, addr: SocketAddr) -> Result<Channel, ca::tls::Error> {
    tls.connect(
        &addr.to_string(),
        ExpectRole::Manager,
        &DialOptions::default(),
    )
    .await
}

/// An error with all its sources, as a log would show it.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}
