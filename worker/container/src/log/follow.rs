//! Waits for more output without polling.

use super::reader::Reader;
use super::record::Record;
use rustix::fs::inotify;
use rustix::io::Errno;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use tokio::io::unix::AsyncFd;

/// Reads a log and waits at its end for more.
#[derive(Debug)]
pub struct Follower {
    reader: Reader,
    watch: AsyncFd<OwnedFd>,
}

impl Follower {
    /// Follows the log in `dir`, which must be the directory `reader` reads.
    pub fn new(dir: &Path, reader: Reader) -> io::Result<Self> {
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let events = inotify::WatchFlags::MODIFY
            | inotify::WatchFlags::CREATE
            | inotify::WatchFlags::DELETE_SELF;
        inotify::add_watch(&watch, dir, events)?;
        Ok(Self {
            reader,
            watch: crate::syscall::watch(watch)?,
        })
    }

    /// The next record; waits for one if need be. Cancelling the wait loses nothing. It waits for
    /// ever after the container's last record: stop following once the container has ended and
    /// [`Self::try_next`] has nothing.
    pub async fn next(&mut self) -> io::Result<Record> {
        loop {
            if let Some(record) = self.reader.next()? {
                return Ok(record);
            }
            // Anything written since the watch began has left an event, also between the two.
            let mut ready = self.watch.readable().await?;
            let mut events = [0; 4096];
            match rustix::io::read(self.watch.get_ref(), &mut events) {
                Ok(_) => {}
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// The next record if there is one.
    pub fn try_next(&mut self) -> io::Result<Option<Record>> {
        self.reader.next()
    }

    /// The reader, at the place the following came to.
    #[must_use]
    pub fn into_reader(self) -> Reader {
        self.reader
    }
}
