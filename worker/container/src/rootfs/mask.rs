//! Hides kernel paths, and protects others from writing.
//!
//! What is mounted over them is made here, not looked up in the container: an image that replaces
//! `/dev/null` must not decide what a masked file shows (CVE-2025-31133).

use super::mount::{Fresh, attach, detached_tree};
use super::walk::{find, is_directory};
use crate::error::{During, Fault, Result, Step};
use crate::syscall::{MountAttributes, mount_setattr};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, major, makedev, minor, openat};
use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};
use std::os::fd::OwnedFd;

/// Makes paths look empty. Those the kernel does not have are passed over.
pub(super) fn mask(root: &OwnedFd, paths: &[String]) -> Result<()> {
    let mut empty: Option<OwnedFd> = None;
    for path in paths {
        let Some(at) = find(root, path).during(Step::Mask, path)? else {
            continue;
        };
        let cover = if is_directory(&at).during(Step::Mask, path)? {
            match &empty {
                Some(first) => detached_tree(first).during(Step::Mask, path)?,
                None => {
                    let made = make_empty().during(Step::Mask, path)?;
                    attach(&made, &at).during(Step::Mask, path)?;
                    empty = Some(made);
                    continue;
                }
            }
        } else {
            null()?
        };
        attach(&cover, &at).during(Step::Mask, path)?;
    }
    Ok(())
}

/// Makes paths refuse writes, with all that is mounted below them.
pub(super) fn write_protect(root: &OwnedFd, paths: &[String]) -> Result<()> {
    for path in paths {
        let Some(at) = find(root, path).during(Step::Mask, path)? else {
            continue;
        };
        let protect = || -> rustix::io::Result<()> {
            let copy = detached_tree(&at)?;
            mount_setattr(&copy, read_only(), true)?;
            attach(&copy, &at)
        };
        protect().during(Step::Mask, path)?;
    }
    Ok(())
}

/// Makes the root file system refuse writes, but not what is mounted in it.
pub(super) fn write_protect_root() -> rustix::io::Result<()> {
    let root = open_tree(CWD, "/", OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    mount_setattr(&root, read_only(), false)
}

fn read_only() -> MountAttributes {
    let set = u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits());
    MountAttributes {
        set,
        ..MountAttributes::default()
    }
}

/// An empty directory nobody can write to.
fn make_empty() -> rustix::io::Result<OwnedFd> {
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    // One inode, its root; 0 would be no limit.
    Fresh::new("tmpfs", attributes)
        .with(&[("size", "4k"), ("nr_inodes", "1"), ("mode", "755")])
        .make()
}

/// A copy of the `/dev/null` this runtime made, once it is sure that it is that.
fn null() -> Result<OwnedFd> {
    const PATH: &str = "/dev/null";
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let null = openat(CWD, PATH, flags, Mode::empty()).during(Step::Mask, PATH)?;
    let stat = fstat(&null).during(Step::Mask, PATH)?;
    let device = (major(stat.st_rdev), minor(stat.st_rdev));
    let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if !is_device || makedev(device.0, device.1) != makedev(1, 3) {
        return Err(Fault::refuse(Step::Mask, PATH, "it is not the null device"));
    }
    let copy = open_tree(
        &null,
        "",
        OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH,
    );
    copy.during(Step::Mask, PATH)
}
