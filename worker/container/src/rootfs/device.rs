//! The container's `/dev`: a small tmpfs with the devices every program expects.

use super::mount::Fresh;
use crate::error::{During, Result, Step};
use rustix::fs::{AtFlags, FileType, Mode, chmodat, makedev, mkdirat, mknodat, symlinkat};
use rustix::mount::MountAttrFlags;
use std::os::fd::OwnedFd;

/// Character devices by name, with their numbers; all are for everyone to read and write.
const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Links, with what they lead to.
const LINKS: [(&str, &str); 6] = [
    ("core", "/proc/kcore"),
    ("fd", "/proc/self/fd"),
    ("ptmx", "pts/ptmx"),
    ("stderr", "/proc/self/fd/2"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
];

/// Directories other file systems are mounted on.
const DIRECTORIES: [&str; 3] = ["pts", "shm", "mqueue"];

/// Mounts a new `/dev` and fills it before anything else can see it.
pub(super) fn mount(root: &OwnedFd) -> Result<()> {
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_STRICTATIME;
    let options = [("mode", "755"), ("size", "65536k")];
    let dev = Fresh::new("tmpfs", attributes)
        .with(&options)
        .place_strictly(root, "/dev")?;
    for (name, major, minor) in DEVICES {
        let make = || -> rustix::io::Result<()> {
            let mode = Mode::from_raw_mode(0o666);
            mknodat(
                &dev,
                name,
                FileType::CharacterDevice,
                mode,
                makedev(major, minor),
            )?;
            // The mask of this process has cut the mode.
            chmodat(&dev, name, mode, AtFlags::empty())
        };
        make().during(Step::Device, name)?;
    }
    // Kernels can be built without this one.
    let has_core = std::path::Path::new("/proc/kcore").exists();
    for (name, target) in LINKS
        .into_iter()
        .filter(|(name, _)| *name != "core" || has_core)
    {
        symlinkat(target, &dev, name).during(Step::Device, name)?;
    }
    for name in DIRECTORIES {
        mkdirat(&dev, name, Mode::from_raw_mode(0o755)).during(Step::Device, name)?;
    }
    Ok(())
}
