//! The directory tree of a layer while it is unpacked: every change is made relative to an open
//! directory below the layer's root, one name at a time, and follows no symbolic link.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::Error;
use crate::archive::{Entry, ModifiedAt};
use crate::error::printable;

/// Memory spent on remembering directories until their times can be set, in bytes of path.
const DIRECTORY_PATHS_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Marks a directory that hides what lower layers have below it (kernel: overlayfs.rst).
pub(crate) const OPAQUE_XATTR: &str = "trusted.overlay.opaque";
/// Permissions of directories an archive uses without listing them.
const IMPLIED_DIRECTORY_MODE: u32 = 0o755;

const NO_FOLLOW: AtFlags = AtFlags::SYMLINK_NOFOLLOW;

/// A layer's root and the directory below it in which changes are made now.
pub(crate) struct Tree {
    path: PathBuf,
    what: String,
    root: OwnedFd,
    trash: OwnedFd,
    trashed: u64,
    /// From below the root to the current directory, with their names.
    open: Vec<(Vec<u8>, OwnedFd)>,
    /// What directories get once nothing is put into them any more, by path.
    directories: BTreeMap<Vec<u8>, Finish>,
    directories_bytes: usize,
}

/// Mode and time of a directory; no time for one that the archive does not list.
#[derive(Clone, Copy)]
struct Finish {
    mode: u32,
    modified_at: Option<ModifiedAt>,
}

/// What was in the way of a new entry and is gone now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cleared {
    Whiteout,
    Other,
}

impl Tree {
    /// A tree in the empty directory `path`; `trash`, on the same file system, takes directories
    /// that later entries replace.
    pub(crate) fn new(path: &Path, trash: &Path, what: &str) -> Result<Self, Error> {
        let open = |path: &Path| {
            rustix::fs::open(path, DIRECTORY, Mode::empty())
                .map_err(|e| Error::store("open", path, e))
        };
        let mut tree = Self {
            path: path.to_owned(),
            what: what.to_owned(),
            root: open(path)?,
            trash: open(trash)?,
            trashed: 0,
            open: Vec::new(),
            directories: BTreeMap::new(),
            directories_bytes: 0,
        };
        tree.finish_later(Vec::new(), IMPLIED_DIRECTORY_MODE, None)?;
        Ok(tree)
    }

    /// Makes the directory `names` current, creating what is missing of it.
    pub(crate) fn enter(&mut self, names: &[&[u8]]) -> Result<(), Error> {
        let common = self
            .open
            .iter()
            .zip(names)
            .take_while(|((open, _), name)| open == *name)
            .count();
        self.open.truncate(common);
        for &name in &names[common..] {
            let fd = match self.open_directory(name) {
                Err(Errno::NOENT) => self.make_directory(name, false)?,
                Err(Errno::NOTDIR | Errno::LOOP) => self.enter_obstacle(name)?,
                opened => opened.map_err(|e| self.failed("open a directory in", e))?,
            };
            self.open.push((name.to_vec(), fd));
        }
        Ok(())
    }

    /// Makes a directory, or keeps one that is there, and gives it the entry's metadata.
    pub(crate) fn directory(&mut self, name: &[u8], entry: &Entry) -> Result<(), Error> {
        let fd = match self.open_directory(name) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => self.make_directory(name, false)?,
            Err(Errno::NOTDIR | Errno::LOOP) => {
                let hides_lower = self.clear(name)? == Cleared::Whiteout;
                self.make_directory(name, hides_lower)?
            }
            Err(error) => return Err(self.failed("open a directory in", error)),
        };
        self.finish_later(self.path_of(name), entry.mode, Some(entry.modified_at))?;
        self.own_directory(fd.as_fd(), entry)
    }

    /// Gives the root itself an entry's metadata.
    pub(crate) fn root_directory(&mut self, entry: &Entry) -> Result<(), Error> {
        self.finish_later(Vec::new(), entry.mode, Some(entry.modified_at))?;
        self.own_directory(self.root.as_fd(), entry)
    }

    /// An empty file, for [`Tree::finish_file`] to be called on when it is written.
    pub(crate) fn file(&mut self, name: &[u8]) -> Result<File, Error> {
        const NEW_FILE: OFlags = OFlags::CREATE
            .union(OFlags::EXCL)
            .union(OFlags::WRONLY)
            .union(OFlags::NOFOLLOW)
            .union(OFlags::CLOEXEC);
        self.create(name, "create a file in", |dir| {
            rustix::fs::openat(dir, name, NEW_FILE, Mode::RUSR | Mode::WUSR)
        })
        .map(File::from)
    }

    /// Gives a written file its metadata.
    pub(crate) fn finish_file(&mut self, file: &File, entry: &Entry) -> Result<(), Error> {
        // In this order: a change of owner takes away setuid bits and capabilities, and any
        // change the time.
        rustix::fs::fchown(file, Some(uid(entry)), Some(gid(entry)))
            .and_then(|()| rustix::fs::fchmod(file, Mode::from_raw_mode(entry.mode)))
            .map_err(|e| self.failed("set the owner of a file in", e))?;
        for (name, value) in &entry.xattrs {
            let set = rustix::fs::fsetxattr(file, &name[..], value, XattrFlags::empty());
            self.check_xattr(name, set, entry)?;
        }
        rustix::fs::futimens(file, &times(entry.modified_at))
            .map_err(|e| self.failed("set the time of a file in", e))
    }

    /// A symbolic link; its target is content and leads anywhere.
    pub(crate) fn symlink(
        &mut self,
        name: &[u8],
        target: &[u8],
        entry: &Entry,
    ) -> Result<(), Error> {
        self.create(name, "create a symbolic link in", |dir| {
            rustix::fs::symlinkat(target, dir, name)
        })?;
        self.finish_special(name, entry, false)
    }

    /// A device or named pipe.
    pub(crate) fn special(
        &mut self,
        name: &[u8],
        kind: FileType,
        device: rustix::fs::Dev,
        entry: &Entry,
    ) -> Result<(), Error> {
        let made = self.create(name, "create a device in", |dir| {
            rustix::fs::mknodat(dir, name, kind, Mode::RUSR | Mode::WUSR, device)
        });
        match made {
            Err(Error::Store { source, .. })
                if source.raw_os_error() == Some(Errno::PERM.raw_os_error()) =>
            {
                Err(self.bad_entry(&entry.path, "is a device, which only root may create"))
            }
            made => made.and_then(|()| self.finish_special(name, entry, true)),
        }
    }

    /// A hard link to an entry of the same layer.
    pub(crate) fn hardlink(
        &mut self,
        name: &[u8],
        target: &[&[u8]],
        entry: &Entry,
    ) -> Result<(), Error> {
        let missing = || {
            self.bad_entry(
                &entry.path,
                "is a hard link to something that is not in the layer",
            )
        };
        let (&target_name, parents) = target.split_last().ok_or_else(missing)?;
        let mut dir = self
            .root
            .try_clone()
            .map_err(|e| Error::store("open", &self.path, e))?;
        for &parent in parents {
            dir = rustix::fs::openat(&dir, parent, DIRECTORY, Mode::empty())
                .map_err(|_| missing())?;
        }
        let stat = rustix::fs::statat(&dir, target_name, NO_FOLLOW).map_err(|_| missing())?;
        if is_whiteout(&stat) {
            return Err(missing());
        }
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(self.bad_entry(&entry.path, "is a hard link to a directory"));
        }
        let existing = rustix::fs::statat(self.current(), name, NO_FOLLOW);
        if existing.is_ok_and(|e| e.st_ino == stat.st_ino && e.st_dev == stat.st_dev) {
            return Ok(());
        }
        self.create(name, "create a hard link in", |current| {
            rustix::fs::linkat(&dir, target_name, current, name, AtFlags::empty())
        })
    }

    /// Hides what lower layers have under `name`; what this layer has there stays.
    pub(crate) fn whiteout(&mut self, name: &[u8]) -> Result<(), Error> {
        let made = rustix::fs::mknodat(
            self.current(),
            name,
            FileType::CharacterDevice,
            Mode::empty(),
            0,
        );
        match made {
            // A directory of this layer would be merged with the lower one; anything else hides
            // it already.
            Err(Errno::EXIST) => match self.open_directory(name) {
                Ok(fd) => self.set_opaque(fd.as_fd()),
                Err(Errno::NOTDIR | Errno::LOOP) => Ok(()),
                Err(error) => Err(self.failed("open a directory in", error)),
            },
            made => made.map_err(|e| self.failed("create a whiteout in", e)),
        }
    }

    /// Hides what lower layers have below the current directory.
    pub(crate) fn opaque(&mut self) -> Result<(), Error> {
        self.set_opaque(self.current())
    }

    /// Sets modes and times of directories, which earlier would have been in the way of, or
    /// changed by, what was put into them.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        self.open.clear();
        let directories = std::mem::take(&mut self.directories);
        // Backwards, so that a directory comes after everything below it.
        for (path, finish) in directories.iter().rev() {
            let fd = if path.is_empty() {
                self.root.as_fd()
            } else {
                let names: Vec<&[u8]> = path.split(|&byte| byte == b'/').collect();
                self.enter(&names)?;
                self.current()
            };
            rustix::fs::fchmod(fd, Mode::from_raw_mode(finish.mode))
                .map_err(|e| self.failed("set the mode of a directory in", e))?;
            if let Some(at) = finish.modified_at {
                rustix::fs::futimens(fd, &times(at))
                    .map_err(|e| self.failed("set the time of a directory in", e))?;
            }
        }
        Ok(())
    }

    fn current(&self) -> BorrowedFd<'_> {
        self.open
            .last()
            .map_or(self.root.as_fd(), |(_, fd)| fd.as_fd())
    }

    fn path_of(&self, name: &[u8]) -> Vec<u8> {
        let mut path = Vec::new();
        for (parent, _) in &self.open {
            path.extend_from_slice(parent);
            path.push(b'/');
        }
        path.extend_from_slice(name);
        path
    }

    fn open_directory(&self, name: &[u8]) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(self.current(), name, DIRECTORY, Mode::empty())
    }

    fn make_directory(&mut self, name: &[u8], hides_lower: bool) -> Result<OwnedFd, Error> {
        let fd = rustix::fs::mkdirat(self.current(), name, Mode::RWXU)
            .and_then(|()| self.open_directory(name))
            .map_err(|e| self.failed("create a directory in", e))?;
        if hides_lower {
            self.set_opaque(fd.as_fd())?;
        }
        self.finish_later(self.path_of(name), IMPLIED_DIRECTORY_MODE, None)?;
        Ok(fd)
    }

    /// Something that is no directory stands where an entry's parent has to be.
    fn enter_obstacle(&mut self, name: &[u8]) -> Result<OwnedFd, Error> {
        let stat = rustix::fs::statat(self.current(), name, NO_FOLLOW)
            .map_err(|e| self.failed("look into", e))?;
        if is_whiteout(&stat) {
            self.clear(name)?;
            return self.make_directory(name, true);
        }
        let entry = self.path_of(name);
        Err(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => Error::Escapes {
                what: self.what.clone(),
                entry: printable(&entry),
                reason: "is a symbolic link and another entry lies below it".to_owned(),
            },
            _other => self.bad_entry(&entry, "is no directory and another entry lies below it"),
        })
    }

    /// Creates something under `name`, replacing what an earlier entry put there.
    fn create<T>(
        &mut self,
        name: &[u8],
        doing: &'static str,
        make: impl Fn(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> Result<T, Error> {
        match make(self.current()) {
            Err(Errno::EXIST) => {
                self.clear(name)?;
                make(self.current()).map_err(|e| self.failed(doing, e))
            }
            made => made.map_err(|e| self.failed(doing, e)),
        }
    }

    /// Takes away what an earlier entry put under `name`.
    fn clear(&mut self, name: &[u8]) -> Result<Cleared, Error> {
        let stat = rustix::fs::statat(self.current(), name, NO_FOLLOW)
            .map_err(|e| self.failed("look into", e))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            self.trashed += 1;
            let grave = self.trashed.to_string();
            rustix::fs::renameat(self.current(), name, &self.trash, grave.as_str())
                .map_err(|e| self.failed("replace a directory in", e))?;
            self.forget_directories(&self.path_of(name));
            return Ok(Cleared::Other);
        }
        rustix::fs::unlinkat(self.current(), name, AtFlags::empty())
            .map_err(|e| self.failed("replace a file in", e))?;
        Ok(if is_whiteout(&stat) {
            Cleared::Whiteout
        } else {
            Cleared::Other
        })
    }

    fn finish_later(
        &mut self,
        path: Vec<u8>,
        mode: u32,
        modified_at: Option<ModifiedAt>,
    ) -> Result<(), Error> {
        let bytes = path.len();
        let before = self.directories.insert(path, Finish { mode, modified_at });
        if before.is_none() {
            self.directories_bytes += bytes;
        }
        if self.directories_bytes > DIRECTORY_PATHS_BYTES_MAX {
            return Err(Error::TooLarge {
                what: self.what.clone(),
                limit: format!("{DIRECTORY_PATHS_BYTES_MAX} bytes of directory paths"),
            });
        }
        Ok(())
    }

    fn forget_directories(&mut self, path: &[u8]) {
        // `0` is the byte after `/`, so this range is all paths below.
        let below = [path, b"/"].concat()..[path, b"0"].concat();
        let mut gone: Vec<Vec<u8>> = self
            .directories
            .range(below)
            .map(|(p, _)| p.clone())
            .collect();
        gone.push(path.to_vec());
        for path in gone {
            if self.directories.remove(&path).is_some() {
                self.directories_bytes -= path.len();
            }
        }
    }

    fn own_directory(&self, fd: BorrowedFd<'_>, entry: &Entry) -> Result<(), Error> {
        rustix::fs::fchown(fd, Some(uid(entry)), Some(gid(entry)))
            .map_err(|e| self.failed("set the owner of a directory in", e))?;
        for (name, value) in &entry.xattrs {
            let set = rustix::fs::fsetxattr(fd, &name[..], value, XattrFlags::empty());
            self.check_xattr(name, set, entry)?;
        }
        Ok(())
    }

    /// Metadata of what cannot be opened.
    fn finish_special(&self, name: &[u8], entry: &Entry, has_mode: bool) -> Result<(), Error> {
        let dir = self.current();
        rustix::fs::chownat(dir, name, Some(uid(entry)), Some(gid(entry)), NO_FOLLOW)
            .map_err(|e| self.failed("set the owner of a file in", e))?;
        if has_mode {
            // Not a link, and nobody else can reach the tree to make it one.
            rustix::fs::chmodat(dir, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())
                .map_err(|e| self.failed("set the mode of a file in", e))?;
        }
        for (attribute, value) in &entry.xattrs {
            let through = [
                format!("/proc/self/fd/{}/", dir.as_raw_fd()).as_bytes(),
                name,
            ]
            .concat();
            let set = rustix::fs::lsetxattr(&through, &attribute[..], value, XattrFlags::empty());
            self.check_xattr(attribute, set, entry)?;
        }
        rustix::fs::utimensat(dir, name, &times(entry.modified_at), NO_FOLLOW)
            .map_err(|e| self.failed("set the time of a file in", e))
    }

    fn set_opaque(&self, fd: BorrowedFd<'_>) -> Result<(), Error> {
        rustix::fs::fsetxattr(fd, OPAQUE_XATTR, b"y", XattrFlags::empty())
            .map_err(|e| self.failed("hide lower layers in", e))
    }

    /// A file system without user attributes or ACLs loses those alone, as with Docker; a program
    /// without its capabilities would not work, so those must not be lost.
    fn check_xattr(&self, name: &[u8], set: Result<(), Errno>, entry: &Entry) -> Result<(), Error> {
        match set {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP) if name.starts_with(b"user.") || name.starts_with(b"system.") => {
                tracing::debug!(
                    attribute = printable(name),
                    entry = printable(&entry.path),
                    "the file system of the image store has no such attributes"
                );
                Ok(())
            }
            Err(error @ (Errno::NOSPC | Errno::DQUOT)) => {
                Err(self.failed("set an extended attribute in", error))
            }
            Err(error) => {
                let name = printable(name);
                let reason = format!("has the attribute {name}, which cannot be set: {error}");
                Err(self.bad_entry(&entry.path, &reason))
            }
        }
    }

    fn failed(&self, doing: &'static str, error: Errno) -> Error {
        Error::store(doing, &self.path, error)
    }

    fn bad_entry(&self, path: &[u8], reason: &str) -> Error {
        Error::BadEntry {
            what: self.what.clone(),
            entry: printable(path),
            reason: reason.to_owned(),
        }
    }
}

/// How directories are opened: never through a symbolic link.
const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

fn is_whiteout(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn uid(entry: &Entry) -> Uid {
    Uid::from_raw(entry.uid)
}

fn gid(entry: &Entry) -> Gid {
    Gid::from_raw(entry.gid)
}

fn times(at: ModifiedAt) -> Timestamps {
    let time = Timespec {
        tv_sec: at.secs,
        tv_nsec: at.nanos.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
