//! Puts content into memory file systems that only a container will see.
//!
//! The daemon makes each file system attached to nothing, writes the files by descriptor, makes it
//! read-only and hands the descriptor to the shim, whose container attaches it. No path of the
//! machine ever leads to a file of it, and it is gone with its last mount. Where the kernel can
//! (6.4), its pages are never swapped; where it cannot, ramfs stands in, which never is.
#![cfg(feature = "client")]

use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Gid, Mode, OFlags, Uid, fchmod, fchown, mkdirat, openat};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use super::mount::Fresh;
use crate::error::{During, Result, Step};
use crate::syscall::{MountAttributes, mount_setattr};

const PAGE_BYTES: usize = 4096;

/// One file to be.
#[derive(Debug)]
pub struct ContentFile<'a> {
    /// Path in the file system, without `/` in front; directories on the way are made.
    pub path: String,
    /// Owner, by number.
    pub uid: u32,
    /// Group, by number.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
    /// Content.
    pub data: &'a [u8],
}

/// Makes a read-only file system in memory with these files.
///
/// # Errors
/// What could not be made, written or protected.
pub fn content_mount(files: &[ContentFile<'_>]) -> Result<OwnedFd> {
    let mount = make(files).during(Step::Mount, "secrets in memory")?;
    for file in files {
        write(&mount, file).during(Step::Mount, &file.path)?;
    }
    let attributes = MountAttributes {
        set: u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits()),
        ..MountAttributes::default()
    };
    mount_setattr(&mount, attributes, false).during(Step::Mount, "secrets read-only")?;
    Ok(mount)
}

fn make(files: &[ContentFile<'_>]) -> rustix::io::Result<OwnedFd> {
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    // Room for every file and, generously, the directories above it.
    let pages = |file: &ContentFile<'_>| {
        file.data.len().div_ceil(PAGE_BYTES) + file.path.split('/').count() + 1
    };
    let pages: usize = files.iter().map(pages).sum();
    let size = ((pages + 1) * PAGE_BYTES).to_string();
    let options = [("mode", "755"), ("size", size.as_str()), ("noswap", "")];
    match Fresh::new("tmpfs", attributes).with(&options).make() {
        Err(Errno::INVAL) => Fresh::new("ramfs", attributes).with(&options[..1]).make(),
        made => made,
    }
}

fn write(mount: &OwnedFd, file: &ContentFile<'_>) -> std::io::Result<()> {
    let (dirs, name) = match file.path.rsplit_once('/') {
        Some((dirs, name)) => (dirs, name),
        None => ("", file.path.as_str()),
    };
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut dir = openat(mount.as_fd(), ".", flags, Mode::empty())?;
    for part in dirs.split('/').filter(|part| !part.is_empty()) {
        match mkdirat(&dir, part, Mode::from_raw_mode(0o755)) {
            Ok(()) => {
                let made = openat(&dir, part, flags, Mode::empty())?;
                // Whatever the daemon's mask is.
                fchmod(&made, Mode::from_raw_mode(0o755))?;
            }
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        dir = openat(&dir, part, flags, Mode::empty())?;
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let made = openat(&dir, name, flags, Mode::from_raw_mode(0o600))?;
    let mut made = std::fs::File::from(made);
    made.write_all(file.data)?;
    fchown(
        &made,
        Some(Uid::from_raw(file.uid)),
        Some(Gid::from_raw(file.gid)),
    )?;
    fchmod(&made, Mode::from_raw_mode(file.mode))?;
    Ok(())
}
