//! The accept loop: each handshake on its own task, bounded in number and in time.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, Interval, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use types::Timestamp;

use super::connections::Connections;
use super::waiting::Waiting;
use super::{Error, Refusal, Tls, TlsConn, refusal, socket};
use crate::limits::{Bucket, subscriber};

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

/// Handshakes that may begin at once, and then each second. One costs the processor half a
/// millisecond, and what is under way must not keep a heartbeat waiting (measured: 1100 a second
/// fill one processor).
const BURST: u32 = 64;
const PER_SECOND: u32 = 400;
/// Of the handshakes going on, one address may have so many: beyond it, its own oldest gives way.
const HANDSHAKES_PER_ADDRESS_MAX: usize = 64;
/// How often connections that are open too long are looked for.
const EXPIRE_PERIOD: Duration = Duration::from_secs(1);

/// What a listener must know of the cluster.
#[derive(Clone)]
pub struct Admission {
    /// The list that every connection is entered in.
    pub connections: Connections,
    /// Whether a manager answers at this address: it need not wait behind strangers.
    pub is_manager: Arc<dyn Fn(IpAddr) -> bool + Send + Sync>,
}

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
    admission: Admission,
    shutdown: CancellationToken,
) -> impl Stream<Item = io::Result<TlsConn>> + Send {
    let accepting = Accepting {
        listener,
        tls,
        admission,
        shutdown,
        waiting: Waiting::default(),
        bucket: Bucket::new(BURST, PER_SECOND, Instant::now()),
        handshakes: JoinSet::new(),
        by_age: VecDeque::new(),
        expiry: interval(EXPIRE_PERIOD),
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
    admission: Admission,
    shutdown: CancellationToken,
    waiting: Waiting<(TcpStream, SocketAddr)>,
    bucket: Bucket,
    handshakes: JoinSet<Option<TlsConn>>,
    /// One handle per handshake, oldest first; finished ones leave when they reach the front.
    by_age: VecDeque<(IpAddr, AbortHandle)>,
    expiry: Interval,
}

impl Accepting {
    async fn next(&mut self) -> Option<TlsConn> {
        loop {
            self.begin_those_whose_turn_it_is();
            let turn = self.bucket.wait(Instant::now());
            tokio::select! {
                () = self.shutdown.cancelled() => return None,
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(connection)) = done {
                        return Some(connection);
                    }
                }
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, remote_addr)) => self.line_up(stream, remote_addr),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        sleep(ACCEPT_RETRY).await;
                    }
                },
                () = sleep(turn), if !self.waiting.is_empty() => {}
                _ = self.expiry.tick() => {
                    let connections = &self.admission.connections;
                    connections.expire(Instant::now(), Timestamp::now());
                }
            }
        }
    }

    fn line_up(&mut self, stream: TcpStream, remote_addr: SocketAddr) {
        let addr = subscriber(remote_addr.ip());
        let is_preferred = (self.admission.is_manager)(remote_addr.ip().to_canonical());
        self.waiting.push(addr, is_preferred, (stream, remote_addr));
    }

    fn begin_those_whose_turn_it_is(&mut self) {
        while !self.waiting.is_empty() && self.bucket.take(Instant::now()) {
            if let Some((stream, remote_addr)) = self.waiting.pop() {
                self.begin(stream, remote_addr);
            }
        }
    }

    fn begin(&mut self, stream: TcpStream, remote_addr: SocketAddr) {
        let addr = subscriber(remote_addr.ip());
        self.by_age.retain(|(_, handle)| !handle.is_finished());
        let own = self.by_age.iter().filter(|(other, _)| *other == addr);
        if own.count() >= HANDSHAKES_PER_ADDRESS_MAX {
            self.abort_oldest(|other| other == addr);
        } else if self.by_age.len() >= HANDSHAKES_MAX {
            self.abort_oldest(|_| true);
        }
        let (tls, connections) = (self.tls.clone(), self.admission.connections.clone());
        let handle = self.handshakes.spawn(async move {
            match handshake(stream, remote_addr, &tls, &connections).await {
                Ok(connection) => Some(connection),
                Err(error) => {
                    log_failure(remote_addr, &error);
                    None
                }
            }
        });
        self.by_age.push_back((addr, handle));
    }

    fn abort_oldest(&mut self, is_meant: impl Fn(IpAddr) -> bool) {
        let oldest = self.by_age.iter().position(|(addr, _)| is_meant(*addr));
        if let Some((_, handle)) = oldest.and_then(|index| self.by_age.remove(index)) {
            handle.abort();
        }
    }
}

async fn handshake(
    stream: TcpStream,
    remote_addr: SocketAddr,
    tls: &Tls,
    connections: &Connections,
) -> Result<TlsConn, Error> {
    let addr = remote_addr.to_string();
    let acceptor = tls.acceptor().ok_or(Error::NoIdentity)?;
    if let Err(source) = socket::tune(&stream) {
        return Err(Error::Connect { addr, source });
    }
    match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream).into_fallible()).await {
        Ok(Ok(stream)) => TlsConn::new(stream, remote_addr, connections)
            .map_err(|source| Error::Certificate { addr, source }),
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
