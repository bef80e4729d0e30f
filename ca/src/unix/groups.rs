//! `SO_PEERGROUPS`: the groups of the process on the other end, which no safe wrapper offers.
#![allow(
    unsafe_code,
    reason = "one getsockopt that neither std nor rustix wraps"
)]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd};

/// Room for this many groups at first; the kernel says when it needs more (it allows 65536).
const GROUPS_LIKELY: usize = 64;

/// The supplementary groups that the peer had when it connected.
pub(super) fn of_peer(socket: impl AsFd) -> io::Result<Vec<u32>> {
    let mut gids: Vec<libc::gid_t> = vec![0; GROUPS_LIKELY];
    loop {
        let mut len = libc::socklen_t::try_from(gids.len() * size_of::<libc::gid_t>())
            .map_err(io::Error::other)?;
        // SAFETY: the descriptor is borrowed for the call; the kernel writes at most `len` bytes
        // into `gids`, which has that many, and the needed length into `len`.
        let result = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                gids.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        let needed = len as usize / size_of::<libc::gid_t>();
        if result == 0 {
            gids.truncate(needed);
            return Ok(gids);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || needed <= gids.len() {
            return Err(error);
        }
        gids.resize(needed, 0);
    }
}
