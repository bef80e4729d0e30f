//! Moves what the container writes from its pipes to its log.

use crate::log::{LineSplitter, Stream, Writer};
use crate::syscall;
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Bytes read at once.
const READ_BYTES: usize = 16 << 10;

/// One of the container's output streams.
pub(super) struct Output {
    /// `None` once every writer has closed it.
    pipe: Option<OwnedFd>,
    splitter: LineSplitter,
}

impl Output {
    pub(super) fn new(pipe: OwnedFd, stream: Stream) -> rustix::io::Result<Self> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        Ok(Self {
            pipe: Some(pipe),
            splitter: LineSplitter::new(stream),
        })
    }

    pub(super) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(|pipe| pipe.as_fd())
    }

    /// Logs what can be read at once. Returns whether there was anything.
    pub(super) fn pump(&mut self, writer: &mut Writer) -> bool {
        let Some(pipe) = &self.pipe else { return false };
        // Given back at once: most shims wait for most of their lives, and there are many.
        let mut buffer = Vec::with_capacity(READ_BYTES);
        match rustix::io::read(pipe, rustix::buffer::spare_capacity(&mut buffer)) {
            Ok(0) => self.pipe = None,
            Ok(_) => {
                let now = syscall::now_ns();
                self.splitter.take(now, &buffer, writer);
                writer.flush(now);
                return true;
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.pipe = None,
        }
        false
    }

    /// Logs all that is left after the container's end.
    pub(super) fn drain(&mut self, writer: &mut Writer) {
        while self.pump(writer) {}
        let now = syscall::now_ns();
        self.splitter.finish(now, writer);
        writer.flush(now);
    }
}
