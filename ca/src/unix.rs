//! The local socket: who is on the other end, by the kernel's word, and whether they may use it.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use rustix::fs::{Gid, Mode, chmod, chown};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

mod groups;

/// Pause after a failed `accept`, which mostly means that file descriptors have run out.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Who may use the socket: root, the daemon's own user, and the members of one group if given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    own_uid: u32,
    gid: Option<u32>,
}

impl Access {
    /// For a daemon that runs as `own_uid`.
    #[must_use]
    pub fn new(own_uid: u32, gid: Option<u32>) -> Self {
        Self { own_uid, gid }
    }

    /// For this process.
    #[must_use]
    pub fn of_this_process(gid: Option<u32>) -> Self {
        Self::new(rustix::process::geteuid().as_raw(), gid)
    }

    fn allows(self, uid: u32, gids: &[u32]) -> bool {
        uid == 0 || uid == self.own_uid || self.gid.is_some_and(|gid| gids.contains(&gid))
    }
}

/// The process on the other end of the socket; in the extensions of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnixPeer {
    /// Its user.
    pub uid: u32,
    /// Its first group.
    pub gid: u32,
    /// Its process id, 0 when it lives in a namespace that this one cannot see.
    pub pid: u32,
    /// Whether [`Access`] lets it in. Refused callers are answered, so that they learn why.
    pub is_allowed: bool,
}

/// A connection on the local socket.
#[derive(Debug)]
pub struct UnixConn {
    stream: UnixStream,
    peer: UnixPeer,
}

impl UnixConn {
    /// Asks the kernel who is there.
    ///
    /// # Errors
    /// When the kernel does not know, because the other end is gone.
    pub fn new(stream: UnixStream, access: Access) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        let (uid, gid) = (credentials.uid(), credentials.gid());
        let pid = credentials
            .pid()
            .and_then(|pid| u32::try_from(pid).ok())
            .unwrap_or(0);
        let mut gids = groups::of_peer(&stream)?;
        gids.push(gid);
        let is_allowed = access.allows(uid, &gids);
        Ok(Self {
            stream,
            peer: UnixPeer {
                uid,
                gid,
                pid,
                is_allowed,
            },
        })
    }

    /// Who is there.
    #[must_use]
    pub fn peer(&self) -> UnixPeer {
        self.peer
    }
}

/// Makes the socket, 0600 or 0660 with the group, in place of one that a dead daemon left.
///
/// It appears under its name only once its mode is right. Whether another daemon is alive is not
/// checked here: that is the lock on the state directory.
///
/// # Errors
/// When the socket cannot be made or the group cannot be set.
pub fn bind(path: &Path, gid: Option<u32>) -> io::Result<UnixListener> {
    let mut tmp = path.as_os_str().to_owned();
    tmp.push(".tmp");
    let tmp = PathBuf::from(tmp);
    match std::fs::remove_file(&tmp) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&tmp)?;
    let mut mode = Mode::RUSR | Mode::WUSR;
    if let Some(gid) = gid {
        chown(&tmp, None, Some(Gid::from_raw(gid)))?;
        mode |= Mode::RGRP | Mode::WGRP;
    }
    chmod(&tmp, mode)?;
    std::fs::rename(&tmp, path)?;
    Ok(listener)
}

/// Accepts connections until `shutdown`; made for tonic's `serve_with_incoming`.
pub fn incoming(
    listener: UnixListener,
    access: Access,
    shutdown: CancellationToken,
) -> impl Stream<Item = io::Result<UnixConn>> + Send {
    futures::stream::unfold(
        (listener, shutdown),
        move |(listener, shutdown)| async move {
            let connection = tokio::select! {
                () = shutdown.cancelled() => return None,
                connection = next(&listener, access) => connection,
            };
            Some((Ok(connection), (listener, shutdown)))
        },
    )
}

async fn next(listener: &UnixListener, access: Access) -> UnixConn {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => match UnixConn::new(stream, access) {
                Ok(connection) => return connection,
                Err(error) => tracing::debug!(%error, "a local connection came to nothing"),
            },
            Err(error) => {
                tracing::warn!(%error, "cannot accept a local connection");
                sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

impl Connected for UnixConn {
    type ConnectInfo = UnixPeer;

    fn connect_info(&self) -> UnixPeer {
        self.peer
    }
}

impl AsyncRead for UnixConn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for UnixConn {
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

#[cfg(test)]
mod tests;
