//! Makes mounts where nobody sees them, and attaches them by descriptor.

use super::walk::{Leaf, ensure_strictly, is_directory};
use crate::cgroup::View;
use crate::error::{During, Fault, Result, Step};
use crate::spec::{Mount, MountSource, Propagation};
use crate::syscall::{MountAttributes, mount_setattr};
use rustix::fs::{CWD, Mode, mkdirat, symlinkat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// A new instance of a file system.
pub(super) struct Fresh<'a> {
    fs_type: &'a str,
    options: &'a [(&'a str, &'a str)],
    attributes: MountAttrFlags,
}

impl<'a> Fresh<'a> {
    pub(super) fn new(fs_type: &'a str, attributes: MountAttrFlags) -> Self {
        Self {
            fs_type,
            options: &[],
            attributes,
        }
    }

    pub(super) fn with(self, options: &'a [(&'a str, &'a str)]) -> Self {
        Self { options, ..self }
    }

    /// Makes it, attached to nothing yet. An option with an empty value is a flag.
    pub(super) fn make(&self) -> rustix::io::Result<OwnedFd> {
        let context = fsopen(self.fs_type, FsOpenFlags::FSOPEN_CLOEXEC)?;
        if !self.options.iter().any(|(key, _)| *key == "source") {
            // Only a name, for those who list mounts.
            fsconfig_set_string(&context, "source", self.fs_type)?;
        }
        for (key, value) in self.options {
            if value.is_empty() {
                fsconfig_set_flag(&context, *key)?;
            } else {
                fsconfig_set_string(&context, *key, *value)?;
            }
        }
        fsconfig_create(&context)?;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, self.attributes)
    }

    /// Makes it and attaches it at a path of the image that must not lead through a symbolic link:
    /// what the runtime writes to below it is then sure to be the kernel's (CVE-2019-19921 and its
    /// like, CVE-2026-41579).
    pub(super) fn place_strictly(&self, root: &OwnedFd, target: &str) -> Result<OwnedFd> {
        let subject = || format!("{} on {target}", self.fs_type);
        let at = match ensure_strictly(root, target) {
            Err(Errno::LOOP) => {
                let reason = "the image has a symbolic link there";
                return Err(Fault::refuse(Step::Mount, subject(), reason));
            }
            at => at.during(Step::Mount, subject())?,
        };
        let mount = self.make().during(Step::Mount, subject())?;
        attach(&mount, &at).during(Step::Mount, subject())?;
        Ok(mount)
    }
}

/// A copy of the mount at a path, attached to nothing yet.
pub(super) fn detached(
    dir: impl AsFd,
    path: impl rustix::path::Arg,
) -> rustix::io::Result<OwnedFd> {
    open_tree(
        dir,
        path,
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
    )
}

/// A copy of the mount a descriptor is in, from there down, with what is mounted below it.
pub(super) fn detached_tree(fd: impl AsFd) -> rustix::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    open_tree(fd, "", flags)
}

/// Attaches a detached mount on a file or directory.
pub(super) fn attach(mount: impl AsFd, at: impl AsFd) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", at, "", flags)
}

/// Makes or opens what a user's mount mounts. Called while the machine's tree is still the root.
pub(super) fn open(mount: &Mount) -> Result<(OwnedFd, Leaf)> {
    let target = &mount.target;
    check_target(target)?;
    match &mount.source {
        MountSource::Tmpfs { size_bytes, mode } => {
            let size = size_bytes.map(|bytes| bytes.to_string());
            let mode = format!("{:o}", mode.unwrap_or(0o1777));
            let mut options = vec![("mode", mode.as_str())];
            options.extend(size.as_deref().map(|size| ("size", size)));
            let attributes = restricted(mount.readonly);
            let made = Fresh::new("tmpfs", attributes).with(&options).make();
            Ok((
                made.during(Step::Mount, format!("tmpfs on {target}"))?,
                Leaf::Directory,
            ))
        }
        MountSource::Bind {
            path,
            propagation,
            recursive,
        } => open_bind(mount, path, *propagation, *recursive),
        MountSource::Filesystem {
            fs_type,
            source,
            options,
        } => {
            let mut pairs: Vec<(&str, &str)> = options
                .iter()
                .map(|one| one.split_once('=').unwrap_or((one, "")))
                .collect();
            if !source.is_empty() {
                pairs.push(("source", source));
            }
            let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
                | MountAttrFlags::MOUNT_ATTR_NODEV
                | read_only(mount.readonly);
            let made = Fresh::new(fs_type, attributes).with(&pairs).make();
            Ok((
                made.during(Step::Mount, format!("{fs_type} on {target}"))?,
                Leaf::Directory,
            ))
        }
    }
}

fn open_bind(
    mount: &Mount,
    path: &Path,
    propagation: Propagation,
    recursive: bool,
) -> Result<(OwnedFd, Leaf)> {
    let subject = || format!("{} on {}", path.display(), mount.target);
    if !path.is_absolute() {
        return Err(Fault::refuse(
            Step::Mount,
            subject(),
            "the source is not an absolute path",
        ));
    }
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let source = open_tree(CWD, path, flags).during(Step::Mount, subject())?;
    let propagation = match propagation {
        Propagation::Private => Some(libc::MS_PRIVATE),
        Propagation::Slave => Some(libc::MS_SLAVE),
        // The copy is a peer of the machine's mount if that is shared; nothing to change.
        Propagation::Shared => None,
    };
    let attributes = MountAttributes {
        set: u64::from(read_only(mount.readonly).bits()),
        propagation: propagation.unwrap_or(0),
        ..MountAttributes::default()
    };
    mount_setattr(&source, attributes, true).during(Step::Mount, subject())?;
    let leaf = if is_directory(&source).during(Step::Mount, subject())? {
        Leaf::Directory
    } else {
        Leaf::File
    };
    Ok((source, leaf))
}

/// The root is the image, and `/proc` must stay the container's own.
fn check_target(target: &str) -> Result<()> {
    let refuse = |reason: &str| Err(Fault::refuse(Step::Mount, target, reason));
    if !target.starts_with('/') {
        return refuse("the target is not an absolute path");
    }
    let mut parts = target
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".");
    match parts.next() {
        None => refuse("nothing can be mounted over the root directory"),
        Some("proc") => refuse("nothing can be mounted over /proc"),
        Some(_) if target.split('/').any(|part| part == "..") => refuse("the target has a `..`"),
        Some(_) => Ok(()),
    }
}

/// Shows the container its own cgroups, read-only.
pub(super) fn mount_cgroups(root: &OwnedFd, views: Vec<View>) -> Result<()> {
    const TARGET: &str = "/sys/fs/cgroup";
    let attributes = MountAttributes {
        set: u64::from(restricted(true).bits()),
        ..MountAttributes::default()
    };
    let mut mounts = Vec::with_capacity(views.len());
    for view in views {
        let name = view.controllers.join(",");
        let controllers = view.controllers.clone();
        let mount = view
            .into_mount()
            .during(Step::Mount, format!("{TARGET}/{name}"))?;
        mount_setattr(&mount, attributes, false).during(Step::Mount, TARGET)?;
        mounts.push((name, controllers, mount));
    }
    // Version 2 is one view without controllers of its own, and is the directory itself.
    if let [(_, controllers, mount)] = mounts.as_slice()
        && controllers.is_empty()
    {
        let at = ensure_strictly(root, TARGET).during(Step::Mount, TARGET)?;
        return attach(mount, &at).during(Step::Mount, TARGET);
    }
    let dir = Fresh::new("tmpfs", restricted(false)).with(&[("mode", "755")]);
    let dir = dir.place_strictly(root, TARGET)?;
    for (name, controllers, mount) in &mounts {
        let place = || -> rustix::io::Result<()> {
            mkdirat(&dir, name.as_str(), Mode::from_raw_mode(0o755))?;
            attach(mount, super::walk::find(&dir, name)?.ok_or(Errno::NOENT)?)?;
            for controller in controllers.iter().filter(|controller| *controller != name) {
                symlinkat(name.as_str(), &dir, controller.as_str())?;
            }
            Ok(())
        };
        place().during(Step::Mount, format!("{TARGET}/{name}"))?;
    }
    mount_setattr(&dir, attributes, false).during(Step::Mount, TARGET)
}

fn restricted(readonly: bool) -> MountAttrFlags {
    MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC
        | read_only(readonly)
}

fn read_only(readonly: bool) -> MountAttrFlags {
    if readonly {
        MountAttrFlags::MOUNT_ATTR_RDONLY
    } else {
        MountAttrFlags::empty()
    }
}

#[cfg(test)]
mod tests {
    use super::check_target;

    #[test]
    fn targets_that_would_replace_the_root_or_proc_are_refused() {
        for (target, fine) in [
            ("/data", true),
            ("/dev/shm", true),
            ("/sys", true),
            ("/processes", true),
            ("/", false),
            ("//", false),
            ("/./", false),
            ("/proc", false),
            ("//proc/self", false),
            ("/./proc", false),
            ("/data/../proc", false),
            ("data", false),
            ("", false),
        ] {
            assert_eq!(check_target(target).is_ok(), fine, "{target}");
        }
    }
}
