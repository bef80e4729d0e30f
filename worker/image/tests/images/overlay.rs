//! Whiteouts and opaque directories as the kernel's overlayfs understands them.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use tar::EntryType;

use crate::archives::{Tar, layout};
use crate::{Fixture, is_root};

/// A read-only overlay attached nowhere, reached through its descriptor and gone with it.
struct Overlay(OwnedFd);

impl Overlay {
    /// `None`, with the reason printed, where the kernel has no overlayfs for us.
    fn mount(layers: &[PathBuf], test: &str) -> Option<Self> {
        // A parameter has at most 255 bytes, so layers are given by descriptor.
        let layers: Vec<OwnedFd> = layers
            .iter()
            .map(|dir| {
                rustix::fs::open(dir, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
            })
            .collect();
        let lower: Vec<String> = layers
            .iter()
            .map(|fd| format!("/proc/self/fd/{}", fd.as_raw_fd()))
            .collect();
        let mount = || -> rustix::io::Result<OwnedFd> {
            let fs = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
            rustix::mount::fsconfig_set_string(&fs, "lowerdir", lower.join(":"))?;
            rustix::mount::fsconfig_create(&fs)?;
            rustix::mount::fsmount(
                &fs,
                FsMountFlags::FSMOUNT_CLOEXEC,
                MountAttrFlags::MOUNT_ATTR_RDONLY,
            )
        };
        match mount() {
            Ok(fd) => Some(Self(fd)),
            Err(error @ (rustix::io::Errno::NODEV | rustix::io::Errno::PERM)) => {
                eprintln!("skipped {test}: no overlayfs here: {error}");
                None
            }
            Err(error) => panic!("could not mount {lower:?}: {error}"),
        }
    }

    /// All paths below the root, sorted, directories with a slash.
    fn paths(&self) -> Vec<String> {
        let root = PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()));
        let mut paths = Vec::new();
        walk(&root, &root, &mut paths);
        paths.sort();
        paths
    }
}

fn walk(root: &Path, dir: &Path, paths: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let path = entry.path();
        let shown = path.strip_prefix(root).unwrap().display().to_string();
        if entry.file_type().unwrap().is_dir() {
            paths.push(format!("{shown}/"));
            walk(root, &path, paths);
        } else {
            paths.push(shown);
        }
    }
}

fn merged(layers: &[Vec<u8>], test: &str) -> Option<Vec<String>> {
    let fixture = Fixture::new();
    let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
    let loaded = fixture.load(&layout("web", &layers)).unwrap();
    let directories = fixture.store.layers(&loaded[0].id).unwrap();
    Some(Overlay::mount(&directories, test)?.paths())
}

/// Puts each layer on the same base and compares what is seen.
fn compare(test: &str, table: Vec<(&str, Tar, &[&str])>) {
    if !is_root(test) {
        return;
    }
    for (hidden, top, expected) in table {
        let base = Tar::new()
            .dir("a/")
            .file("a/1", "")
            .file("a/2", "")
            .dir("b/")
            .file("b/1", "")
            .file("c", "");
        // A layer between shows that marks reach all the way down.
        let between = Tar::new().dir("b/");
        let Some(paths) = merged(&[base.build(), between.build(), top.build()], test) else {
            return;
        };
        assert_eq!(paths, expected, "{hidden}");
    }
}

#[test]
fn whiteouts_hide_what_lies_below_and_nothing_else() {
    let null_device = |h: &mut tar::Header| {
        h.set_device_major(0).unwrap();
        h.set_device_minor(0).unwrap();
    };
    let table: Vec<(&str, Tar, &[&str])> = vec![
        (
            "a file",
            Tar::new().file("a/.wh.1", ""),
            &["a/", "a/2", "b/", "b/1", "c"],
        ),
        ("a tree", Tar::new().file(".wh.a", ""), &["b/", "b/1", "c"]),
        (
            "what is not there",
            Tar::new().file("a/.wh.9", ""),
            &["a/", "a/1", "a/2", "b/", "b/1", "c"],
        ),
        (
            "a directory's contents",
            Tar::new().dir("a/").file("a/.wh..wh..opq", ""),
            &["a/", "b/", "b/1", "c"],
        ),
        (
            "bookkeeping of AUFS",
            Tar::new()
                .file(".wh..wh.aufs", "")
                .dir(".wh..wh.plnk/")
                .file(".wh..wh.plnk/1.2", ""),
            &["a/", "a/1", "a/2", "b/", "b/1", "c"],
        ),
        (
            "as overlayfs itself writes it",
            Tar::new().with("c", EntryType::Char, b"", null_device),
            &["a/", "a/1", "a/2", "b/", "b/1"],
        ),
        (
            "a directory replaced by a file",
            Tar::new().file("a", "now a file"),
            &["a", "b/", "b/1", "c"],
        ),
    ];
    compare("whiteouts_hide_what_lies_below_and_nothing_else", table);
}

#[test]
fn what_a_layer_brings_stays_beside_its_own_whiteouts_in_any_order() {
    let anew: &[&str] = &["a/", "a/3", "b/", "b/1", "c"];
    let table = vec![
        (
            "marked before",
            Tar::new().file("a/.wh..wh..opq", "").file("a/3", ""),
            anew,
        ),
        (
            "marked after",
            Tar::new().file("a/3", "").file("a/.wh..wh..opq", ""),
            anew,
        ),
        (
            "whiteout before",
            Tar::new().file(".wh.a", "").dir("a/").file("a/3", ""),
            anew,
        ),
        (
            "whiteout after",
            Tar::new().dir("a/").file("a/3", "").file(".wh.a", ""),
            anew,
        ),
        (
            "whiteout before, directory not listed",
            Tar::new().file(".wh.a", "").file("a/3", ""),
            anew,
        ),
        (
            "files, before and after",
            Tar::new()
                .file(".wh.c", "")
                .file("c", "new")
                .file("a/1", "")
                .file("a/.wh.1", ""),
            &["a/", "a/1", "a/2", "b/", "b/1", "c"],
        ),
    ];
    compare("what_a_layer_brings_stays_beside_its_own_whiteouts", table);
}

#[test]
fn an_opaque_root_hides_all_layers_below() {
    let test = "an_opaque_root_hides_all_layers_below";
    if !is_root(test) {
        return;
    }
    let layers = [
        Tar::new().file("old", "").build(),
        Tar::new().file(".wh..wh..opq", "").file("new", "").build(),
        Tar::new().file("newer", "").build(),
    ];
    if let Some(paths) = merged(&layers, test) {
        assert_eq!(paths, ["new", "newer"]);
    }
}
