//! Stacks the image's layers below a writable one.

use crate::error::{During, Fault, Result, Step};
use crate::state::{ROOTFS_DIR, UPPER_DIR, WORK_DIR};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount as mount_with_data, move_mount,
};
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The most layers overlayfs takes, from `fs/overlayfs/params.h`.
const LAYERS_MAX: usize = 500;
/// Longest value `fsconfig` takes in bytes, less its terminator.
const VALUE_BYTES_MAX: usize = 255;
/// Longest option string `mount` takes in bytes, less its terminator: a page.
const DATA_BYTES_MAX: usize = 4095;

/// Mounts the layers, topmost first, on [`ROOTFS_DIR`] of the working directory; what is written
/// goes to [`UPPER_DIR`] beside it.
///
/// The writable layer is `volatile`: the machine's file system is not synced for it. A task's
/// container never starts a second time, so after a crash of the machine nobody reads that layer.
pub(super) fn mount(layers: &[PathBuf]) -> Result<()> {
    if layers.is_empty() || layers.len() > LAYERS_MAX {
        let reason = format!("{} layers; there can be 1 to {LAYERS_MAX}", layers.len());
        return Err(Fault::refuse(Step::Overlay, ROOTFS_DIR, reason));
    }
    if let Some(relative) = layers.iter().find(|layer| !layer.is_absolute()) {
        let reason = "the layer is not an absolute path";
        return Err(Fault::refuse(Step::Overlay, relative.display(), reason));
    }
    match mount_one_by_one(layers) {
        // Kernels before 6.7 only take all layers in one string.
        Err(fault) if fault.errno == Some(libc::EINVAL) => mount_at_once(layers),
        result => result,
    }
}

fn mount_one_by_one(layers: &[PathBuf]) -> Result<()> {
    let context =
        fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).during(Step::Overlay, "overlay")?;
    // Descriptors that stand for paths too long to be passed; open until the mount exists.
    let mut open = Vec::new();
    for layer in layers {
        let path = short_path(layer, VALUE_BYTES_MAX, &mut open)?;
        fsconfig_set_string(&context, "lowerdir+", path).during(Step::Overlay, layer.display())?;
    }
    let rest = || -> rustix::io::Result<()> {
        fsconfig_set_string(&context, "source", "overlay")?;
        fsconfig_set_string(&context, "upperdir", UPPER_DIR)?;
        fsconfig_set_string(&context, "workdir", WORK_DIR)?;
        fsconfig_set_flag(&context, "volatile")?;
        fsconfig_create(&context)?;
        let flags = FsMountFlags::FSMOUNT_CLOEXEC;
        let mount = fsmount(&context, flags, MountAttrFlags::empty())?;
        move_mount(
            mount,
            "",
            CWD,
            ROOTFS_DIR,
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    rest().during(Step::Overlay, describe(layers))
}

fn mount_at_once(layers: &[PathBuf]) -> Result<()> {
    let mut open = Vec::new();
    let mut data = options(layers.iter().map(|layer| escape(layer)));
    if data.len() > DATA_BYTES_MAX {
        let short: Result<Vec<PathBuf>> = layers
            .iter()
            .map(|layer| short_path(layer, 0, &mut open))
            .collect();
        data = options(short?.iter().map(|layer| escape(layer)));
    }
    let data = CString::new(data)
        .map_err(|_| Fault::refuse(Step::Overlay, describe(layers), "a path has a zero byte"))?;
    mount_with_data(
        "overlay",
        ROOTFS_DIR,
        "overlay",
        MountFlags::empty(),
        data.as_c_str(),
    )
    .during(Step::Overlay, describe(layers))
}

fn options(layers: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut data = b"volatile,upperdir=".to_vec();
    data.extend_from_slice(UPPER_DIR.as_bytes());
    data.extend_from_slice(b",workdir=");
    data.extend_from_slice(WORK_DIR.as_bytes());
    data.extend_from_slice(b",lowerdir=");
    data.extend_from_slice(&layers.collect::<Vec<_>>().join(&b':'));
    data
}

/// Protects what separates layers and options.
fn escape(path: &Path) -> Vec<u8> {
    let mut escaped = Vec::new();
    for byte in path.as_os_str().as_bytes() {
        if b"\\:,".contains(byte) {
            escaped.push(b'\\');
        }
        escaped.push(*byte);
    }
    escaped
}

/// The path, or if it is longer than `bytes_max`, a short one by way of a descriptor of it.
fn short_path(layer: &Path, bytes_max: usize, open: &mut Vec<OwnedFd>) -> Result<PathBuf> {
    if layer.as_os_str().len() <= bytes_max {
        return Ok(layer.to_owned());
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = openat(CWD, layer, flags, Mode::empty()).during(Step::Overlay, layer.display())?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    open.push(fd);
    Ok(path)
}

/// The layers in words, with the one that is missing named if one is.
fn describe(layers: &[PathBuf]) -> String {
    match layers.iter().find(|layer| !layer.is_dir()) {
        Some(missing) => format!("layer {} (not a directory)", missing.display()),
        None => format!("{} layers on {}", layers.len(), layers[0].display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_in_paths_are_escaped() {
        assert_eq!(escape(Path::new(r"/a:b,c\d")), br"/a\:b\,c\\d");
        let data = options(["/a", "/b"].iter().map(|path| escape(Path::new(path))));
        assert_eq!(data, b"volatile,upperdir=upper,workdir=work,lowerdir=/a:/b");
    }

    /// Runs in a thread with its own mount namespace and working directory.
    fn mounted(layers: Vec<PathBuf>, way: fn(&[PathBuf]) -> Result<()>) -> Option<String> {
        use rustix::mount::{MountPropagationFlags, mount_change};
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root to mount");
            return None;
        }
        let work = move || -> Result<String> {
            let dir = tempfile::tempdir().during(Step::Overlay, "test")?;
            crate::syscall::unshare_thread_mounts().during(Step::Overlay, "test")?;
            mount_change(
                "/",
                MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
            )
            .during(Step::Overlay, "test")?;
            rustix::process::chdir(dir.path()).during(Step::Overlay, "test")?;
            for name in [UPPER_DIR, WORK_DIR, ROOTFS_DIR] {
                std::fs::create_dir(name).during(Step::Overlay, name)?;
            }
            way(&layers)?;
            std::fs::read_to_string("rootfs/which").during(Step::Overlay, "rootfs/which")
        };
        Some(std::thread::spawn(work).join().unwrap().unwrap())
    }

    fn layers(dir: &Path, count: usize, name: &str) -> Vec<PathBuf> {
        (0..count)
            .map(|number| {
                let layer = dir.join(format!("{name}{number}"));
                std::fs::create_dir_all(&layer).unwrap();
                std::fs::write(layer.join("which"), number.to_string()).unwrap();
                layer
            })
            .collect()
    }

    #[test]
    fn topmost_layer_is_seen_either_way_and_with_any_names() {
        let dir = tempfile::tempdir().unwrap();
        let long = format!("{}/l", ["y".repeat(200), "z".repeat(200)].join("/"));
        for (count, name) in [(1, "a"), (3, "with:colon,comma"), (40, long.as_str())] {
            for way in [mount_one_by_one, mount_at_once] {
                let layers = layers(dir.path(), count, name);
                if let Some(which) = mounted(layers, way) {
                    assert_eq!(which, "0", "{count} layers called {name}");
                }
            }
        }
    }
}
