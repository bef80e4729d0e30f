//! One connection to a shim.

use crate::control::{LINE_BYTES_MAX, Reply, Request, line};
use crate::state::SOCKET_FILE;
use rustix::fs::{CWD, Mode, OFlags, openat};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// One connection to a shim.
pub(super) struct Connection {
    stream: BufReader<UnixStream>,
}

impl Connection {
    pub(super) fn new(stream: UnixStream) -> Self {
        // Answers are short; a kilobyte is enough and there may be a thousand waiting connections.
        Self {
            stream: BufReader::with_capacity(1024, stream),
        }
    }

    /// Connects to the shim of a container's directory. The path goes through a descriptor of the
    /// directory, since a socket address holds only 107 bytes.
    pub(super) async fn open(dir: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(CWD, dir, flags, Mode::empty())?;
        let path = format!("/proc/self/fd/{}/{SOCKET_FILE}", dir.as_raw_fd());
        Ok(Self::new(UnixStream::connect(path).await?))
    }

    /// Asks, and waits for the answer. `UnexpectedEof`, `BrokenPipe` and `ConnectionReset` mean that
    /// the shim is gone.
    pub(super) async fn ask(&mut self, request: Request) -> io::Result<Reply> {
        self.stream.get_mut().write_all(&line(&request)).await?;
        self.answer().await
    }

    /// The next answer.
    pub(super) async fn answer(&mut self) -> io::Result<Reply> {
        let mut text = Vec::new();
        (&mut self.stream)
            .take(LINE_BYTES_MAX as u64)
            .read_until(b'\n', &mut text)
            .await?;
        if text.last() != Some(&b'\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        serde_json::from_slice(&text).map_err(|error| {
            let text = String::from_utf8_lossy(&text);
            io::Error::new(io::ErrorKind::InvalidData, format!("{error} in {text:?}"))
        })
    }

    /// Waits until the other side has closed the connection.
    pub(super) async fn closed(&mut self) {
        let mut rest = [0; 256];
        while self
            .stream
            .read(&mut rest)
            .await
            .is_ok_and(|count| count > 0)
        {}
    }
}
