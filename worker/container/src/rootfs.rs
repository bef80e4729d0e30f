//! Builds the container's file system, in the container's own mount namespace.
//!
//! The order is what makes it safe. Everything that comes from the machine (layers, bind sources,
//! cgroup views) is opened first. Then the image becomes the root and the machine's tree is
//! detached, so that no link in the image leads out of it any more; only then is anything looked up
//! in the image. Targets are walked to component by component and mounted on by descriptor, so what
//! was checked is what is used.

#[cfg(feature = "client")]
mod content;
mod device;
mod etc;
mod mask;
mod mount;
mod overlay;
mod walk;

#[cfg(feature = "client")]
pub use content::{ContentFile, content_mount};
pub(crate) use etc::write as write_etc;
pub(crate) use walk::{Leaf, ensure};

use crate::cgroup::{Hierarchies, View};
use crate::error::{During, Result, Step};
use crate::private::{Place, Private};
use crate::spec::{ContainerSpec, Mount};
use crate::state::{Config, ROOTFS_DIR};
use mount::{Fresh, attach, detached};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{MountAttrFlags, MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::process::{chdir, pivot_root};
use std::os::fd::OwnedFd;

/// Everything of the machine that goes into the container, opened while it could still be seen.
struct Sources<'a> {
    mounts: Vec<(&'a Mount, OwnedFd, Leaf)>,
    etc: Vec<(&'static str, OwnedFd)>,
}

/// A container's file system once it is complete.
pub(crate) struct Rootfs {
    /// The root directory.
    pub(crate) root: OwnedFd,
    /// The container's own procfs, whatever its `/proc` shows.
    pub(crate) proc: OwnedFd,
    /// The container's cgroups, which are only mounted once it is in them.
    cgroups: Vec<View>,
}

/// Builds the file system and makes it this process's root. The working directory is the
/// container's directory before, and the new root after.
pub(crate) fn enter(
    config: &Config,
    hierarchies: &Hierarchies,
    private: &Private,
) -> Result<Rootfs> {
    let spec = &config.spec;
    let sources = open_sources(spec)?;
    let cgroups = hierarchies.views(&config.cgroup_parent, &config.id)?;
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .during(Step::PivotRoot, "make / private")?;
    let given = private_mounts(private)?;
    overlay::mount(&spec.layers)?;
    pivot()?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, "/", flags, Mode::empty()).during(Step::PivotRoot, "open /")?;
    let is_replaced = |target: &str| is_replaced(spec, target);
    let proc = mount_kernel(&root, spec, &is_replaced)?;
    for (target, source) in sources.etc {
        if !is_replaced(target) {
            let at = ensure(&root, target, Leaf::File).during(Step::Mount, target)?;
            attach(&source, &at).during(Step::Mount, target)?;
        }
    }
    for (mount, source, leaf) in sources.mounts {
        let at = ensure(&root, &mount.target, leaf).during(Step::Mount, &mount.target)?;
        attach(&source, &at).during(Step::Mount, &mount.target)?;
    }
    for (target, source, leaf) in given {
        let at = ensure(&root, &target, leaf).during(Step::Mount, &target)?;
        attach(&source, &at).during(Step::Mount, &target)?;
    }
    Ok(Rootfs {
        root,
        proc,
        cgroups,
    })
}

/// Mounts the container's cgroups into it. Called once this process is in them, and in a cgroup
/// namespace that has them as its roots.
pub(crate) fn show_cgroups(rootfs: &mut Rootfs, spec: &ContainerSpec) -> Result<()> {
    let views = std::mem::take(&mut rootfs.cgroups);
    if is_replaced(spec, "/sys") || is_replaced(spec, "/sys/fs/cgroup") {
        return Ok(());
    }
    mount::mount_cgroups(&rootfs.root, views)
}

/// Takes away what a container must not reach. The last thing done to the file system.
pub(crate) fn protect(rootfs: &Rootfs, spec: &ContainerSpec) -> Result<()> {
    mask::mask(&rootfs.root, &spec.masked_paths)?;
    mask::write_protect(&rootfs.root, &spec.readonly_paths)?;
    if spec.readonly_rootfs {
        mask::write_protect_root().during(Step::Mask, "/")?;
    }
    Ok(())
}

fn open_sources(spec: &ContainerSpec) -> Result<Sources<'_>> {
    let mut mounts = Vec::with_capacity(spec.mounts.len());
    for mount in &spec.mounts {
        let (source, leaf) = mount::open(mount)?;
        mounts.push((mount, source, leaf));
    }
    // What is mounted on a directory must come after what is mounted on one above it.
    mounts.sort_by_key(|(mount, ..)| {
        mount
            .target
            .split('/')
            .filter(|part| !part.is_empty())
            .count()
    });
    let mut etc = Vec::with_capacity(etc::FILES.len());
    for (target, file) in etc::FILES {
        etc.push((target, detached(CWD, file).during(Step::EtcFiles, target)?));
    }
    Ok(Sources { mounts, etc })
}

/// What the daemon gave, each to be attached at one place. Files are taken out of their file system
/// one by one, for which it has to be somewhere in this namespace: at a place that the container's
/// root will cover.
fn private_mounts(private: &Private) -> Result<Vec<(String, OwnedFd, Leaf)>> {
    let mut mounts = vec![];
    for given in &private.mounts {
        match &given.place {
            Place::Directory(target) => {
                let whole = rustix::io::fcntl_dupfd_cloexec(&given.mount, 3);
                let whole = whole.during(Step::Mount, target)?;
                mounts.push((target.clone(), whole, Leaf::Directory));
            }
            Place::Files(files) => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let aside = openat(CWD, ROOTFS_DIR, flags, Mode::empty());
                let aside = aside.during(Step::Mount, ROOTFS_DIR)?;
                attach(&given.mount, &aside).during(Step::Mount, ROOTFS_DIR)?;
                for (path, target) in files {
                    let file = detached(&given.mount, path).during(Step::Mount, target)?;
                    mounts.push((target.clone(), file, Leaf::File));
                }
                unmount(ROOTFS_DIR, UnmountFlags::DETACH).during(Step::Mount, ROOTFS_DIR)?;
            }
        }
    }
    Ok(mounts)
}

fn pivot() -> Result<()> {
    let pivot = || -> rustix::io::Result<()> {
        chdir(ROOTFS_DIR)?;
        // The old root ends up over the new one, at the same place, and is taken off from there.
        pivot_root(".", ".")?;
        unmount(".", UnmountFlags::DETACH)?;
        chdir("/")
    };
    pivot().during(Step::PivotRoot, ROOTFS_DIR)
}

/// Mounts `/proc`, `/dev`, `/sys` and what belongs below them. Returns the procfs.
fn mount_kernel(
    root: &OwnedFd,
    spec: &ContainerSpec,
    is_replaced: &dyn Fn(&str) -> bool,
) -> Result<OwnedFd> {
    let restricted = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let no_exec = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let proc = Fresh::new("proc", restricted).place_strictly(root, "/proc")?;
    device::mount(root)?;
    let fresh = |target: &str, fresh: &Fresh| -> Result<()> {
        if !is_replaced(target) {
            fresh.place_strictly(root, target)?;
        }
        Ok(())
    };
    let pts = [("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")];
    fresh("/dev/pts", &Fresh::new("devpts", no_exec).with(&pts))?;
    let size = spec.shm_size_bytes.to_string();
    let shm = [("mode", "1777"), ("size", size.as_str())];
    fresh("/dev/shm", &Fresh::new("tmpfs", restricted).with(&shm))?;
    fresh("/dev/mqueue", &Fresh::new("mqueue", restricted))?;
    let read_only = restricted | MountAttrFlags::MOUNT_ATTR_RDONLY;
    if !is_replaced("/sys") {
        Fresh::new("sysfs", read_only).place_strictly(root, "/sys")?;
    }
    Ok(proc)
}

/// Whether the user mounts something of their own at a place where something usual would be.
fn is_replaced(spec: &ContainerSpec, target: &str) -> bool {
    spec.mounts
        .iter()
        .any(|mount| mount.target.trim_end_matches('/') == target)
}
