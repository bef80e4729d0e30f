//! The node's TLS: one handle that speaks for its identity, as server and as client, and that
//! swaps identity and roots without a restart.
//!
//! TLS 1.3 only, rustls with ring. A swap takes effect for every connection made after it;
//! connections that are open stay as they are, which is why [`crate::authorize`] looks at each RPC.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::Identity;

mod client;
mod config;
mod connection;
mod connections;
mod error;
mod https;
mod incoming;
mod socket;
mod waiting;

pub(crate) use client::client_channel;
pub use client::{CONNECT_TIMEOUT, DialOptions, ExpectRole, bootstrap_channel, pinned_channel};
pub(crate) use config::credential as credential_config;
pub use connection::{ConnInfo, TlsConn};
pub use connections::{
    ANONYMOUS_LIFE_MAX, ANONYMOUS_MAX, ANONYMOUS_PER_ADDRESS_MAX, Connections, FIRST_REQUEST_MAX,
    PER_MANAGER_MAX, PER_PEER_MAX,
};
pub use error::{Error, Refusal, refusal};
pub use incoming::{Admission, HANDSHAKE_TIMEOUT, HANDSHAKES_MAX, incoming};
pub use socket::{KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_PROBES, USER_TIMEOUT};

/// The one set of algorithms everything here uses; the process default is left alone.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// What one identity amounts to on the network.
struct Current {
    identity: Identity,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

/// Clonable handle on the node's TLS; all clones see a swap at once.
#[derive(Clone)]
pub struct Tls {
    current: Arc<ArcSwapOption<Current>>,
    /// Counts the identities it has spoken for.
    generation: Arc<AtomicU64>,
}

impl Tls {
    /// A handle for this identity. Without one, servers turn every connection away and dialling
    /// fails, until [`Tls::swap`] gives it one.
    ///
    /// # Errors
    /// When rustls refuses the key, the chain or the roots.
    pub fn new(identity: Option<Identity>) -> Result<Self, Error> {
        let tls = Self {
            current: Arc::default(),
            generation: Arc::default(),
        };
        if let Some(identity) = identity {
            tls.swap(identity)?;
        }
        Ok(tls)
    }

    /// Speaks for another identity from now on. On error the former one stays.
    ///
    /// # Errors
    /// When rustls refuses the key, the chain or the roots.
    pub fn swap(&self, identity: Identity) -> Result<(), Error> {
        let server = config::server(&identity).map_err(Error::Config)?;
        let client = config::client(&identity).map_err(Error::Config)?;
        self.current.store(Some(Arc::new(Current {
            identity,
            server,
            client,
        })));
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Grows with each swap: a connection made at a lower one shows a certificate that was replaced,
    /// and should be replaced as well before that one runs out.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Speaks for nobody from now on, as after leaving the cluster.
    pub fn clear(&self) {
        self.current.store(None);
    }

    /// The identity it speaks for.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        self.current
            .load()
            .as_ref()
            .map(|current| current.identity.clone())
    }

    /// For one server connection: asks for a client certificate and verifies it if one is given.
    #[must_use]
    pub fn acceptor(&self) -> Option<TlsAcceptor> {
        self.current
            .load()
            .as_ref()
            .map(|current| TlsAcceptor::from(Arc::clone(&current.server)))
    }

    /// For one client connection.
    fn client(&self) -> Option<(Arc<ClientConfig>, Identity)> {
        let current = self.current.load();
        current
            .as_ref()
            .map(|current| (Arc::clone(&current.client), current.identity.clone()))
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let peer = self.identity().map(|identity| identity.peer());
        f.debug_struct("Tls").field("identity", &peer).finish()
    }
}
