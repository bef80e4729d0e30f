//! Sockets made inside a network namespace.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Stack of the thread that enters a namespace; it only makes system calls.
const STACK_BYTES: usize = 64 << 10;

/// What tells two namespaces apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// The identity of the namespace behind a descriptor.
    ///
    /// # Errors
    /// The system's.
    pub fn of(namespace: &OwnedFd) -> io::Result<Self> {
        let stat = rustix::fs::fstat(namespace)?;
        Ok(Self {
            device: stat.st_dev,
            inode: stat.st_ino,
        })
    }
}

/// Runs `make` in a network namespace. What it opens belongs to that namespace and can be used from
/// anywhere.
///
/// A thread of its own enters: this one never leaves the node's namespace, whatever fails.
///
/// # Errors
/// When the namespace cannot be entered, or `make` fails.
pub fn within<T: Send>(
    namespace: &OwnedFd,
    make: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    std::thread::scope(|scope| {
        let inside = || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            make()
        };
        let thread = std::thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, inside)?;
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
