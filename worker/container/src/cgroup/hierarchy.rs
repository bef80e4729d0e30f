//! Finds the machine's cgroup hierarchies, also where their usual mounts cannot be seen.
//!
//! A daemon started by something like `ip netns exec` has a fresh `/sys` over the one that held the
//! cgroup mounts. A hierarchy is then mounted once more, detached, so that it is visible to nobody
//! but the holder of its descriptor.

use super::{open_dir, read_file, write_file};
use crate::error::{During, Fault, Result, Step};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, unlinkat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsmount, fsopen, open_tree,
};
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

/// The version 1 controllers a container gets a cgroup of.
const V1_CONTROLLERS: [&str; 6] = ["cpu", "cpuacct", "memory", "pids", "freezer", "devices"];
/// `f_type` of a version 1 hierarchy, from `linux/magic.h`.
const CGROUP_MAGIC: u64 = 0x0027_e0eb;
/// `f_type` of the version 2 hierarchy, from `linux/magic.h`.
const CGROUP2_MAGIC: u64 = 0x6367_7270;

/// The hierarchies containers get cgroups in.
#[derive(Debug)]
pub(crate) struct Hierarchies {
    pub(super) version: Version,
    pub(super) hierarchies: Vec<Hierarchy>,
}

/// Which interface the kernel's controllers are reached through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

/// One hierarchy.
#[derive(Debug)]
pub(super) struct Hierarchy {
    /// What controls it; empty for version 2.
    pub(super) controllers: Vec<String>,
    root: Root,
}

/// How the root of a hierarchy is reached.
#[derive(Debug)]
enum Root {
    Mounted(PathBuf),
    Detached(OwnedFd),
}

impl Hierarchies {
    /// Looks at this process's mounts, and where they show nothing, at what the kernel has.
    pub(crate) fn detect() -> Result<Self> {
        let read = |path: &str| std::fs::read_to_string(path).during(Step::FindCgroups, path);
        let mounts = parse_mounts(&read("/proc/self/mountinfo")?);
        if let Some(found) = Self::of_mounts(&mounts, is_visible) {
            return Ok(found);
        }
        let known = parse_known(&read("/proc/self/cgroup")?);
        Self::detached(&known)
    }

    fn of_mounts(
        mounts: &[CgroupMount],
        is_visible: impl Fn(&CgroupMount) -> bool,
    ) -> Option<Self> {
        let mut v1: Vec<Hierarchy> = Vec::new();
        let mut v2 = None;
        for mount in mounts.iter().filter(|mount| is_visible(mount)) {
            let root = Root::Mounted(mount.point.clone());
            let controllers = mount.controllers.clone();
            match mount.version {
                Version::V2 => v2 = v2.or(Some(Hierarchy { controllers, root })),
                Version::V1 => {
                    let is_wanted = is_wanted(&controllers);
                    if is_wanted && v1.iter().all(|known| known.controllers != controllers) {
                        v1.push(Hierarchy { controllers, root });
                    }
                }
            }
        }
        if !v1.is_empty() {
            return Some(Self {
                version: Version::V1,
                hierarchies: v1,
            });
        }
        v2.map(|hierarchy| Self {
            version: Version::V2,
            hierarchies: vec![hierarchy],
        })
    }

    fn detached(known: &[Vec<String>]) -> Result<Self> {
        let mut hierarchies = Vec::new();
        for controllers in known.iter().filter(|controllers| is_wanted(controllers)) {
            let subject = controllers.join(",");
            let root = mount_detached("cgroup", controllers).during(Step::FindCgroups, subject)?;
            let controllers = controllers.clone();
            hierarchies.push(Hierarchy {
                controllers,
                root: Root::Detached(root),
            });
        }
        if !hierarchies.is_empty() {
            return Ok(Self {
                version: Version::V1,
                hierarchies,
            });
        }
        let root = mount_detached("cgroup2", &[]).during(Step::FindCgroups, "cgroup2")?;
        let hierarchy = Hierarchy {
            controllers: Vec::new(),
            root: Root::Detached(root),
        };
        Ok(Self {
            version: Version::V2,
            hierarchies: vec![hierarchy],
        })
    }

    /// A container's own cgroups, for mounting. Called in the container's mount namespace while the
    /// machine's tree is still the root.
    pub(crate) fn views(&self, parent: &str, id: &str) -> Result<Vec<View>> {
        let mut views = Vec::with_capacity(self.hierarchies.len());
        for hierarchy in &self.hierarchies {
            let mount = match &hierarchy.root {
                Root::Mounted(point) => {
                    let path = point.join(parent).join(id);
                    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
                    Some(open_tree(CWD, &path, flags).during(Step::Mount, path.display())?)
                }
                Root::Detached(_) => None,
            };
            let controllers = hierarchy.controllers.clone();
            views.push(View {
                version: self.version,
                controllers,
                mount,
            });
        }
        Ok(views)
    }

    /// Removes the cgroup that holds all containers, unless there is one in it.
    #[cfg_attr(
        not(feature = "client"),
        expect(dead_code, reason = "the daemon's side removes it")
    )]
    pub(crate) fn remove_parent(&self, parent: &str) -> Result<()> {
        for hierarchy in &self.hierarchies {
            let root = hierarchy.root()?;
            // Ancestors go too once they are empty, like the directories they were made as.
            let mut path = parent;
            loop {
                match unlinkat(&root, path, AtFlags::REMOVEDIR) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(Errno::BUSY) => break,
                    Err(errno) => {
                        let subject = format!("{path} of {hierarchy}");
                        return Err(Fault::errno(Step::Cgroup, subject, errno));
                    }
                }
                let Some((ancestor, _)) = path.rsplit_once('/') else {
                    break;
                };
                path = ancestor;
            }
        }
        Ok(())
    }
}

/// A container's cgroup in one hierarchy, as the container is to see it.
#[derive(Debug)]
pub(crate) struct View {
    version: Version,
    /// What controls the hierarchy; empty for version 2.
    pub(crate) controllers: Vec<String>,
    /// The cgroup's directory as a mount attached to nothing yet.
    mount: Option<OwnedFd>,
}

impl View {
    /// The mount. Called in the container's cgroup namespace: where there was no directory to take
    /// it from, it is made anew and shows that namespace's root.
    pub(crate) fn into_mount(self) -> rustix::io::Result<OwnedFd> {
        match (self.mount, self.version) {
            (Some(mount), _) => Ok(mount),
            (None, Version::V1) => mount_detached("cgroup", &self.controllers),
            (None, Version::V2) => mount_detached("cgroup2", &[]),
        }
    }
}

impl Hierarchy {
    fn root(&self) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match &self.root {
            Root::Mounted(path) => openat(CWD, path, flags, Mode::empty()),
            Root::Detached(mount) => openat(mount, ".", flags, Mode::empty()),
        }
        .during(Step::Cgroup, format!("the root of {self}"))
    }

    /// Opens the cgroup that holds the containers, making it first if need be.
    pub(super) fn make_parent(&self, parent: &str) -> Result<OwnedFd> {
        let mut dir = self.root()?;
        for name in parent.split('/') {
            let subject = || format!("{parent} of {self}");
            match mkdirat(&dir, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(Fault::errno(Step::Cgroup, subject(), errno)),
            }
            dir = open_dir(&dir, name).during(Step::Cgroup, subject())?;
        }
        Ok(dir)
    }

    /// Opens the cgroup that holds the containers, if there is one.
    #[cfg(feature = "client")]
    pub(super) fn open_parent(&self, parent: &str) -> Result<Option<OwnedFd>> {
        match open_dir(self.root()?, parent) {
            Ok(dir) => Ok(Some(dir)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Fault::errno(
                Step::Cgroup,
                format!("{parent} of {self}"),
                errno,
            )),
        }
    }

    /// Hands controllers down from the root to the containers' cgroups. Version 2 only; returns
    /// which of `wanted` are missing in the end.
    pub(super) fn hand_down(
        &self,
        parent: &str,
        wanted: &[&'static str],
    ) -> Result<Vec<&'static str>> {
        let mut dir = self.root()?;
        let mut missing = enable(&dir, wanted);
        for name in parent.split('/') {
            dir = open_dir(&dir, name).during(Step::Cgroup, format!("{parent} of {self}"))?;
            missing = enable(&dir, wanted);
        }
        Ok(missing)
    }
}

/// Enables controllers for the children of a version 2 cgroup; returns those that are not.
fn enable(dir: impl AsFd, wanted: &[&'static str]) -> Vec<&'static str> {
    let dir = dir.as_fd();
    let enabled = read_file(dir, "cgroup.subtree_control").unwrap_or_default();
    let is_enabled = |name: &&str| enabled.split_ascii_whitespace().any(|known| known == *name);
    let mut missing = Vec::new();
    for name in wanted {
        if !is_enabled(name)
            && write_file(dir, "cgroup.subtree_control", &format!("+{name}")).is_err()
        {
            missing.push(*name);
        }
    }
    missing
}

impl fmt::Display for Hierarchy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.controllers.is_empty() {
            return f.write_str("the unified hierarchy");
        }
        write!(f, "the {} hierarchy", self.controllers.join(","))
    }
}

fn is_wanted(controllers: &[String]) -> bool {
    controllers
        .iter()
        .any(|name| V1_CONTROLLERS.contains(&name.as_str()))
}

/// Mounts a hierarchy that exists once more, where nobody sees it.
fn mount_detached(fs_type: &str, controllers: &[String]) -> rustix::io::Result<OwnedFd> {
    let context = fsopen(fs_type, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for controller in controllers {
        fsconfig_set_flag(&context, controller.as_str())?;
    }
    fsconfig_create(&context)?;
    fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )
}

/// A cgroup file system in the mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct CgroupMount {
    version: Version,
    point: PathBuf,
    controllers: Vec<String>,
}

/// The cgroup file systems in a `/proc/PID/mountinfo`. Format: proc(5).
fn parse_mounts(mountinfo: &str) -> Vec<CgroupMount> {
    let parse_line = |line: &str| -> Option<CgroupMount> {
        let (mount, file_system) = line.split_once(" - ")?;
        let point = unescape(mount.split(' ').nth(4)?);
        let mut fields = file_system.split(' ');
        let version = match fields.next()? {
            "cgroup" => Version::V1,
            "cgroup2" => Version::V2,
            _ => return None,
        };
        let options = fields.nth(1)?;
        let controllers = match version {
            Version::V1 => controllers_in(options),
            Version::V2 => Vec::new(),
        };
        Some(CgroupMount {
            version,
            point: point.into(),
            controllers,
        })
    };
    mountinfo.lines().filter_map(parse_line).collect()
}

/// The controllers among a version 1 mount's options, or of a line in `/proc/PID/cgroup`.
fn controllers_in(options: &str) -> Vec<String> {
    const OTHER: [&str; 8] = [
        "rw",
        "ro",
        "xattr",
        "noprefix",
        "clone_children",
        "cpuset_v2_mode",
        "favordynmods",
        "",
    ];
    options
        .split(',')
        .filter(|option| !OTHER.contains(option) && !option.contains('='))
        .map(String::from)
        .collect()
}

/// The version 1 hierarchies in a `/proc/PID/cgroup`. Format: cgroups(7).
fn parse_known(cgroup: &str) -> Vec<Vec<String>> {
    cgroup
        .lines()
        .filter_map(|line| Some(controllers_in(line.split(':').nth(1)?)))
        .filter(|controllers| !controllers.is_empty())
        .collect()
}

/// Undoes the octal escapes of `mountinfo`.
fn unescape(field: &str) -> String {
    let mut text = String::with_capacity(field.len());
    let mut rest = field;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let code = rest
            .get(at + 1..at + 4)
            .and_then(|octal| u8::from_str_radix(octal, 8).ok());
        match code {
            Some(code) if code.is_ascii() => {
                text.push(char::from(code));
                rest = &rest[at + 4..];
            }
            _ => {
                text.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    text + rest
}

/// Whether the path of a mount leads to a cgroup file system, that is: nothing was mounted over it.
fn is_visible(mount: &CgroupMount) -> bool {
    let magic = match mount.version {
        Version::V1 => CGROUP_MAGIC,
        Version::V2 => CGROUP2_MAGIC,
    };
    rustix::fs::statfs(&mount.point).is_ok_and(|found| u64::try_from(found.f_type) == Ok(magic))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:3 - cgroup cgroup rw,cpu,cpuacct
33 31 0:30 / /sys/fs/cgroup/my\\040memory rw - cgroup cgroup rw,memory
34 31 0:31 / /sys/fs/cgroup/net_cls rw - cgroup cgroup rw,net_cls
35 31 0:32 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
36 31 0:33 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
";

    #[test]
    fn hybrid_machine_counts_as_version_1() {
        let found = Hierarchies::of_mounts(&parse_mounts(HYBRID), |_| true).unwrap();
        assert_eq!(found.version, Version::V1);
        let names: Vec<_> = found
            .hierarchies
            .iter()
            .map(|one| one.controllers.join("+"))
            .collect();
        assert_eq!(names, ["cpu+cpuacct", "memory"]);
        assert!(matches!(&found.hierarchies[1].root,
            Root::Mounted(path) if path.to_str() == Some("/sys/fs/cgroup/my memory")));
    }

    #[test]
    fn version_2_is_used_where_version_1_cannot_be_seen() {
        let only_v2 = |mount: &CgroupMount| mount.version == Version::V2;
        let found = Hierarchies::of_mounts(&parse_mounts(HYBRID), only_v2).unwrap();
        assert_eq!(found.version, Version::V2);
        assert_eq!(found.hierarchies.len(), 1);
        assert!(Hierarchies::of_mounts(&parse_mounts(HYBRID), |_| false).is_none());
    }

    #[test]
    fn known_hierarchies_leave_out_named_and_unified() {
        let known = parse_known("9:name=systemd:/\n4:memory:/x\n1:cpu,cpuacct:/\n0::/\n");
        assert_eq!(
            known,
            [
                vec!["memory".to_owned()],
                vec!["cpu".to_owned(), "cpuacct".to_owned()]
            ]
        );
    }

    #[test]
    fn escapes_of_mountinfo() {
        for (field, text) in [
            (r"/a\040b", "/a b"),
            (r"/a\134b", r"/a\b"),
            (r"/a\", r"/a\"),
            (r"/ä\9", r"/ä\9"),
        ] {
            assert_eq!(unescape(field), text);
        }
    }
}
