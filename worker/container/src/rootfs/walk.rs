//! Walks to a path inside a root directory, making what is missing, without ever leaving the root.

use rustix::fs::{FileType, Mode, OFlags, fstat, mkdirat, openat, readlinkat};
use rustix::io::{Errno, Result};
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Symbolic links followed before a walk counts as a loop; the kernel's number.
const LINKS_MAX: u32 = 40;

/// What the last component of a path has to be made as, if it is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaf {
    Directory,
    File,
}

/// Walks to `path` inside `root`, making directories and the leaf where they are missing. Links are
/// followed inside the root, also such as lead to nothing yet.
pub(crate) fn ensure(root: impl AsFd, path: &str, leaf: Leaf) -> Result<OwnedFd> {
    Walk::new(root.as_fd(), path, LINKS_MAX).run(Some(leaf))
}

/// Like [`ensure`] for directories, but a symbolic link on the way is an error.
pub(super) fn ensure_strictly(root: impl AsFd, path: &str) -> Result<OwnedFd> {
    Walk::new(root.as_fd(), path, 0).run(Some(Leaf::Directory))
}

/// Walks to `path` inside `root`; `None` if there is nothing.
pub(super) fn find(root: impl AsFd, path: &str) -> Result<Option<OwnedFd>> {
    match Walk::new(root.as_fd(), path, LINKS_MAX).run(None) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Whether a descriptor is of a directory.
pub(super) fn is_directory(fd: impl AsFd) -> Result<bool> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode) == FileType::Directory)
}

struct Walk<'a> {
    root: BorrowedFd<'a>,
    /// The directories from below the root to where the walk is; `..` goes back along it.
    path: Vec<OwnedFd>,
    ahead: VecDeque<String>,
    links_left: u32,
}

impl<'a> Walk<'a> {
    fn new(root: BorrowedFd<'a>, path: &str, links_left: u32) -> Self {
        let ahead = path.split('/').map(String::from).collect();
        Self {
            root,
            path: Vec::new(),
            ahead,
            links_left,
        }
    }

    fn run(mut self, make: Option<Leaf>) -> Result<OwnedFd> {
        while let Some(name) = self.ahead.pop_front() {
            match name.as_str() {
                "" | "." => {}
                ".." => drop(self.path.pop()),
                name => self.step(name, make)?,
            }
        }
        match self.path.pop() {
            Some(found) => Ok(found),
            None => open(self.root, "."),
        }
    }

    fn step(&mut self, name: &str, make: Option<Leaf>) -> Result<()> {
        let here = self.path.last().map_or(self.root, |fd| fd.as_fd());
        let next = match (open(here, name), make) {
            (Err(Errno::NOENT), Some(leaf)) => {
                let is_last = self
                    .ahead
                    .iter()
                    .all(|name| matches!(name.as_str(), "" | "."));
                make_missing(here, name, if is_last { leaf } else { Leaf::Directory })?;
                open(here, name)?
            }
            (next, _) => next?,
        };
        if FileType::from_raw_mode(fstat(&next)?.st_mode) != FileType::Symlink {
            self.path.push(next);
            return Ok(());
        }
        if self.links_left == 0 {
            return Err(Errno::LOOP);
        }
        self.links_left -= 1;
        // The text of a link is read, never followed: one of procfs leads only where its text says.
        let target = readlinkat(&next, "", Vec::new())?;
        let target = target.to_str().map_err(|_| Errno::ILSEQ)?;
        if target.starts_with('/') {
            self.path.clear();
        }
        for part in target.rsplit('/') {
            self.ahead.push_front(part.to_owned());
        }
        Ok(())
    }
}

fn open(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    openat(
        dir,
        name,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

fn make_missing(dir: BorrowedFd<'_>, name: &str, leaf: Leaf) -> Result<()> {
    let made = match leaf {
        Leaf::Directory => mkdirat(dir, name, Mode::from_raw_mode(0o755)),
        Leaf::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(
                dir,
                name,
                flags | OFlags::WRONLY,
                Mode::from_raw_mode(0o644),
            )
            .map(drop)
        }
    };
    match made {
        // Someone else made it meanwhile, in a volume that is shared; it is looked at next.
        Err(Errno::EXIST) => Ok(()),
        made => made,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};

    fn root_with(links: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::write(root.join("file"), "").unwrap();
        std::fs::create_dir(dir.path().join("outside")).unwrap();
        for (from, to) in links {
            symlink(to, root.join(from)).unwrap();
        }
        let fd = open(rustix::fs::CWD, root.to_str().unwrap()).unwrap();
        (dir, root, fd)
    }

    /// The path a descriptor is of, relative to the root.
    fn place(fd: &OwnedFd, root: &Path) -> String {
        use std::os::fd::AsRawFd;
        let path = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
        path.strip_prefix(root.canonicalize().unwrap())
            .expect("inside")
            .display()
            .to_string()
    }

    #[test]
    fn paths_and_links_stay_inside() {
        let (_dir, root, fd) = root_with(&[
            ("etc", "../../../../etc"),
            ("up", ".."),
            ("outside", "../outside"),
            ("abs", "/a/b"),
            ("chain", "abs/../c"),
            ("dangling", "/run/deep/er"),
            ("a/self", "."),
        ]);
        for (path, place_inside) in [
            ("/", ""),
            ("/a/b", "a/b"),
            ("a//./b/", "a/b"),
            ("/../../a", "a"),
            ("/up/up/a", "a"),
            ("/abs", "a/b"),
            ("/a/self/self/b", "a/b"),
            ("/etc/new", ""),
            ("/outside/x", ""),
            ("/chain", "a/c"),
            ("/dangling/z", "run/deep/er/z"),
            ("/new/../newer", "newer"),
        ] {
            match ensure(&fd, path, Leaf::Directory) {
                // `etc -> ../../../../etc` is itself, inside the root; so is `outside`.
                Err(Errno::LOOP) => assert!(place_inside.is_empty(), "{path}"),
                Err(errno) => panic!("{path}: {errno}"),
                Ok(found) => assert_eq!(place(&found, &root), place_inside, "{path}"),
            }
        }
        assert_eq!(
            std::fs::read_dir(root.join("../outside")).unwrap().count(),
            0
        );
    }

    #[test]
    fn strict_walk_refuses_any_link() {
        let (_dir, _root, fd) = root_with(&[("proc", "/a"), ("a/l", "b")]);
        assert_eq!(ensure_strictly(&fd, "/proc").unwrap_err(), Errno::LOOP);
        assert_eq!(ensure_strictly(&fd, "/a/l").unwrap_err(), Errno::LOOP);
        assert!(ensure_strictly(&fd, "/a/b/c").is_ok());
        assert_eq!(ensure_strictly(&fd, "/file/c").unwrap_err(), Errno::NOTDIR);
    }

    #[test]
    fn finding_makes_nothing() {
        let (_dir, root, fd) = root_with(&[("dangling", "/nowhere")]);
        assert!(find(&fd, "/a/b").unwrap().is_some());
        for path in ["/a/x", "/file/x", "/dangling"] {
            assert!(find(&fd, path).unwrap().is_none(), "{path}");
        }
        assert!(!root.join("nowhere").exists());
    }

    #[test]
    fn file_is_made_as_one() {
        let (_dir, root, fd) = root_with(&[("resolv", "run/systemd/resolv.conf")]);
        ensure(&fd, "/resolv", Leaf::File).unwrap();
        assert!(root.join("run/systemd/resolv.conf").is_file());
    }
}
