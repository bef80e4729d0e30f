//! Where the process is found: a unix socket in a directory of the node.

use rustix::fs::{CWD, Mode, OFlags, openat};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Connects to the process that listens at `socket`.
///
/// # Errors
/// The system's: nobody there, above all.
pub fn connect(socket: &Path) -> io::Result<UnixStream> {
    let (_dir, short) = short_path(socket)?;
    let stream = UnixStream::connect(short)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// Listens at `socket` in the place of whoever did before. Only its owner can connect.
///
/// # Errors
/// The system's.
pub fn bind(socket: &Path) -> io::Result<UnixListener> {
    let (_dir, short) = short_path(socket)?;
    // Made aside and moved, so that who connects finds the old one or the new one.
    let aside = short.with_extension("new");
    match std::fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&aside)?;
    std::fs::set_permissions(&aside, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    std::fs::rename(&aside, &short)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The same place by a path short enough for a socket's address, which holds 107 bytes. It is good
/// while the descriptor is held.
fn short_path(socket: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let (Some(dir), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    let dir = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = openat(CWD, dir, flags, Mode::empty())?;
    let path = Path::new("/proc/self/fd")
        .join(dir.as_raw_fd().to_string())
        .join(name);
    Ok((dir, path))
}
