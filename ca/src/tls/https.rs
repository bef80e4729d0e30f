//! A connection to a server outside the swarm, with this node's certificate.

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Error, Tls, provider, socket};
use crate::RootBundle;

impl Tls {
    /// Connects to `host`, which has to show a certificate for that name that leads to `roots`.
    /// TLS 1.2 is good enough here: the server is not ours.
    ///
    /// # Errors
    /// When nobody answers there, or not the right one.
    pub async fn connect_https(
        &self,
        host: &str,
        port: u16,
        roots: &RootBundle,
    ) -> Result<TlsStream<TcpStream>, Error> {
        let identity = self.identity().ok_or(Error::NoIdentity)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let addr = || format!("{host}:{port}");
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                builder
                    .with_root_certificates(roots.store()?)
                    .with_client_auth_cert(identity.chain().to_vec(), identity.key().to_rustls())
            })
            .map_err(Error::Config)?;
        let name = ServerName::try_from(host.to_owned()).map_err(|_| Error::Connect {
            addr: addr(),
            source: std::io::ErrorKind::InvalidInput.into(),
        })?;
        let connect = |source| Error::Connect {
            addr: addr(),
            source,
        };
        let stream = TcpStream::connect((host, port)).await.map_err(connect)?;
        socket::tune(&stream).map_err(connect)?;
        let connected = TlsConnector::from(Arc::new(config)).connect(name, stream);
        connected.await.map_err(|source| Error::Handshake {
            addr: addr(),
            source,
        })
    }
}
