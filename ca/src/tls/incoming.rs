//! The accept loop: each handshake on its own task, bounded in number and in time.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::Stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Error, Refusal, Tls, TlsConn, refusal, socket};

/// Longest time a handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Most handshakes going on at once. Beyond it the oldest gives way: an honest one is done in
/// milliseconds, so whoever opens connections and stays silent only pushes out themselves.
pub const HANDSHAKES_MAX: usize = 256;
/// Longest time to wait for a refused client to close its end.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);
/// Most bytes that are read from a refused client, to be thrown away.
const FAREWELL_LEN_MAX: u64 = 256 * 1024;
/// Pause after a failed `accept`, which mostly means that file descriptors have run out.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Accepts connections until `shutdown`; made for tonic's `serve_with_incoming`.
///
/// A connection appears in the stream once its handshake is done and its certificate, if any, is
/// verified and readable. Failed handshakes are logged and never end the stream. The identity is
/// read anew for each connection, so a [`Tls::swap`] needs no restart.
///
/// Closing the listener and aborting handshakes happens when the stream is dropped.
pub fn incoming(
    listener: TcpListener,
    tls: Tls,
    shutdown: CancellationToken,
) -> impl Stream<Item = io::Result<TlsConn>> + Send {
    let accepting = Accepting {
        listener,
        tls,
        shutdown,
        handshakes: JoinSet::new(),
        by_age: VecDeque::new(),
    };
    futures::stream::unfold(accepting, |mut accepting| async {
        accepting
            .next()
            .await
            .map(|connection| (Ok(connection), accepting))
    })
}

struct Accepting {
    listener: TcpListener,
    tls: Tls,
    shutdown: CancellationToken,
    handshakes: JoinSet<Option<TlsConn>>,
    /// One handle per handshake, oldest first; finished ones leave when they reach the front.
    by_age: VecDeque<AbortHandle>,
}

impl Accepting {
    async fn next(&mut self) -> Option<TlsConn> {
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => return None,
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(connection)) = done {
                        return Some(connection);
                    }
                }
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, remote_addr)) => self.begin(stream, remote_addr),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        sleep(ACCEPT_RETRY).await;
                    }
                },
            }
        }
    }

    fn begin(&mut self, stream: TcpStream, remote_addr: SocketAddr) {
        while self.by_age.front().is_some_and(AbortHandle::is_finished) {
            self.by_age.pop_front();
        }
        if self.handshakes.len() >= HANDSHAKES_MAX
            && let Some(oldest) = self.by_age.pop_front()
        {
            oldest.abort();
        }
        let tls = self.tls.clone();
        let handle = self.handshakes.spawn(async move {
            match handshake(stream, remote_addr, &tls).await {
                Ok(connection) => Some(connection),
                Err(error) => {
                    log_failure(remote_addr, &error);
                    None
                }
            }
        });
        self.by_age.push_back(handle);
    }
}

async fn handshake(
    stream: TcpStream,
    remote_addr: SocketAddr,
    tls: &Tls,
) -> Result<TlsConn, Error> {
    let addr = remote_addr.to_string();
    let acceptor = tls.acceptor().ok_or(Error::NoIdentity)?;
    if let Err(source) = socket::tune(&stream) {
        return Err(Error::Connect { addr, source });
    }
    match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream).into_fallible()).await {
        Ok(Ok(stream)) => {
            TlsConn::new(stream, remote_addr).map_err(|source| Error::Certificate { addr, source })
        }
        Ok(Err((source, stream))) => {
            // However the farewell ends, the handshake has failed for the reason given.
            let _ = timeout(FAREWELL_TIMEOUT, say_farewell(stream)).await;
            Err(Error::Handshake { addr, source })
        }
        Err(_) => Err(Error::Timeout {
            addr,
            after: HANDSHAKE_TIMEOUT,
        }),
    }
}

/// Lets the other end read the alert that says why it is refused.
///
/// Closing a socket with unread data in it makes the kernel send a reset, and a reset overtakes the
/// alert. A client has data under way here, as under TLS 1.3 it believes the handshake done.
async fn say_farewell(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut unread = stream.take(FAREWELL_LEN_MAX);
    tokio::io::copy(&mut unread, &mut tokio::io::sink()).await?;
    Ok(())
}

/// Someone without the right certificate is worth a line; a closed connection is not.
fn log_failure(remote_addr: SocketAddr, error: &Error) {
    let source = std::error::Error::source(error).map(ToString::to_string);
    if matches!(error, Error::Certificate { .. })
        || matches!(refusal(error), Some(Refusal::TheirCertificate(_)))
    {
        tracing::warn!(%remote_addr, %error, source, "refused a connection");
    } else {
        tracing::debug!(%remote_addr, %error, source, "a connection came to nothing");
    }
}
