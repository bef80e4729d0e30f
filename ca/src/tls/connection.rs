//! An accepted connection, and what is known of its other end.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;
use types::node::KeyDigest;

use super::connections::{Connections, Line, Place};
use crate::certificate::{key_digest, parse_certified};
use crate::{Certified, Error};

/// Where a connection comes from and whose certificate it showed; in the extensions of every request.
#[derive(Clone, Debug)]
pub struct ConnInfo {
    /// The other end's address.
    pub remote_addr: SocketAddr,
    /// Its verified certificate; `None` when it showed none.
    pub peer: Option<Certified>,
    /// What the key of that certificate is known by.
    pub key: Option<KeyDigest>,
    line: Arc<Line>,
}

impl ConnInfo {
    /// Notes that the head of a request has come: who never asks anything is closed.
    pub(crate) fn has_asked(&self) {
        self.line.has_asked();
    }
}

/// A TLS connection after its handshake.
#[derive(Debug)]
pub struct TlsConn {
    stream: TlsStream<TcpStream>,
    info: ConnInfo,
    /// Held for as long as the connection is open.
    _place: Place,
}

impl TlsConn {
    /// Reads the certificate, once for the whole connection. rustls has verified it.
    pub(super) fn new(
        stream: TlsStream<TcpStream>,
        remote_addr: SocketAddr,
        connections: &Connections,
    ) -> Result<Self, Error> {
        let leaf = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(<[_]>::first);
        let peer = leaf.map(|der| parse_certified(der)).transpose()?;
        let key = leaf.map(|der| key_digest(der)).transpose()?;
        let place = connections.enter(peer, remote_addr.ip(), Instant::now());
        let line = Arc::clone(place.line());
        Ok(Self {
            stream,
            info: ConnInfo {
                remote_addr,
                peer,
                key,
                line,
            },
            _place: place,
        })
    }

    /// What is known of the other end.
    #[must_use]
    pub fn info(&self) -> &ConnInfo {
        &self.info
    }
}

impl Connected for TlsConn {
    type ConnectInfo = ConnInfo;

    fn connect_info(&self) -> ConnInfo {
        self.info.clone()
    }
}

impl AsyncRead for TlsConn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.info.line.is_closed(cx.waker()) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for TlsConn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
