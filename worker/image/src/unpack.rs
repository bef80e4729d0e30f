//! Unpacking one layer into a directory that overlayfs can use as a lower one.
//!
//! Whiteouts become what overlayfs knows: `.wh.name` a character device 0:0 called `name`,
//! `.wh..wh..opq` an attribute of its directory. Devices are created as the archive has them, as
//! Docker does: nobody but root reaches the tree, and containers reach devices through their
//! cgroup's rules alone.

use std::io::{Read, Write};
use std::path::Path;

use rustix::fs::{FileType, makedev};

use crate::Error;
use crate::archive::{Entry, Kind, TarReader};
use crate::entry_path;
use crate::error::printable;
use crate::options::Limits;
use crate::progress::REPORT_EVERY_BYTES;
use crate::tree::Tree;

/// Begins the name of an entry that hides the rest of the name (OCI image specification, layers).
const WHITEOUT: &[u8] = b".wh.";
/// Begins the names of AUFS's own bookkeeping, which is not part of a layer.
const AUFS: &[u8] = b".wh..wh.";
/// An entry that hides everything lower layers have in its directory.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What a layer came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unpacked {
    /// Contents of its files, in bytes.
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
    /// Hides all layers below it, which overlayfs does not read from a root directory.
    pub(crate) is_opaque: bool,
}

/// Unpacks all entries of `tar` into the empty directory `into`; the rest of the stream is left
/// for the caller to read. `progress` gets bytes so far.
pub(crate) fn unpack<R: Read>(
    tar: &mut TarReader<R>,
    into: &Path,
    trash: &Path,
    what: &str,
    limits: &Limits,
    progress: &mut dyn FnMut(u64),
) -> Result<Unpacked, Error> {
    let mut unpacker = Unpacker {
        tree: Tree::new(into, trash, what)?,
        what,
        into,
        buffer: vec![0; 128 * 1024],
        unpacked: Unpacked::default(),
        progress,
    };
    while let Some(mut entry) = tar.next_entry()? {
        drop_foreign_attributes(&mut entry);
        unpacker.unpacked.entries += 1;
        if unpacker.unpacked.entries > limits.entries_max {
            return Err(Error::TooLarge {
                what: what.to_owned(),
                limit: format!("{} entries", limits.entries_max),
            });
        }
        unpacker.entry(&entry, tar)?;
    }
    let unpacked = unpacker.unpacked;
    unpacker.tree.finish()?;
    Ok(unpacked)
}

struct Unpacker<'a> {
    tree: Tree,
    what: &'a str,
    into: &'a Path,
    buffer: Vec<u8>,
    unpacked: Unpacked,
    progress: &'a mut dyn FnMut(u64),
}

impl Unpacker<'_> {
    fn entry<R: Read>(&mut self, entry: &Entry, tar: &mut TarReader<R>) -> Result<(), Error> {
        let names = self.names(&entry.path, entry)?;
        let Some((&name, parents)) = names.split_last() else {
            return match entry.kind {
                Kind::Directory => self.tree.root_directory(entry),
                Kind::File
                | Kind::Symlink { .. }
                | Kind::Hardlink { .. }
                | Kind::CharDevice { .. }
                | Kind::BlockDevice { .. }
                | Kind::Fifo => Err(self.bad(entry, "is the root itself and no directory")),
            };
        };
        if names.iter().any(|name| name.starts_with(AUFS)) {
            return self.marker(name, parents);
        }
        if parents.iter().any(|name| name.starts_with(WHITEOUT)) {
            return Err(self.bad(entry, "lies below a whiteout"));
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            if matches!(hidden, b"" | b"." | b"..") {
                return Err(self.bad(entry, "is a whiteout without a name"));
            }
            self.tree.enter(parents)?;
            return self.tree.whiteout(hidden);
        }
        self.tree.enter(parents)?;
        self.make(name, entry, tar)
    }

    /// An entry of AUFS's bookkeeping; the opaque marker alone means something elsewhere.
    fn marker(&mut self, name: &[u8], parents: &[&[u8]]) -> Result<(), Error> {
        let is_bookkeeping = parents.iter().any(|name| name.starts_with(AUFS));
        if name != OPAQUE || is_bookkeeping {
            return Ok(());
        }
        if parents.is_empty() {
            self.unpacked.is_opaque = true;
            return Ok(());
        }
        self.tree.enter(parents)?;
        self.tree.opaque()
    }

    fn make<R: Read>(
        &mut self,
        name: &[u8],
        entry: &Entry,
        tar: &mut TarReader<R>,
    ) -> Result<(), Error> {
        match &entry.kind {
            Kind::File => {
                let file = self.tree.file(name)?;
                self.write(&file, tar)?;
                self.tree.finish_file(&file, entry)
            }
            Kind::Directory => self.tree.directory(name, entry),
            Kind::Symlink { target } if target.is_empty() => {
                Err(self.bad(entry, "is a symbolic link without a target"))
            }
            Kind::Symlink { target } => self.tree.symlink(name, target, entry),
            Kind::Hardlink { target } => {
                let names = entry_path::components(target).map_err(|e| Error::Escapes {
                    what: self.what.to_owned(),
                    entry: printable(&entry.path),
                    reason: format!("is a hard link whose target {}", e.reason()),
                })?;
                self.tree.hardlink(name, &names, entry)
            }
            // What overlayfs itself would take for a whiteout.
            Kind::CharDevice { major: 0, minor: 0 } => self.tree.whiteout(name),
            &Kind::CharDevice { major, minor } => {
                let device = makedev(major, minor);
                self.tree
                    .special(name, FileType::CharacterDevice, device, entry)
            }
            &Kind::BlockDevice { major, minor } => {
                let device = makedev(major, minor);
                self.tree
                    .special(name, FileType::BlockDevice, device, entry)
            }
            Kind::Fifo => self.tree.special(name, FileType::Fifo, 0, entry),
        }
    }

    fn write<R: Read>(
        &mut self,
        mut file: &std::fs::File,
        tar: &mut TarReader<R>,
    ) -> Result<(), Error> {
        loop {
            let n = tar.read_contents(&mut self.buffer)?;
            if n == 0 {
                return Ok(());
            }
            file.write_all(&self.buffer[..n])
                .map_err(|e| Error::store("write a file in", self.into, e))?;
            let before = self.unpacked.bytes / REPORT_EVERY_BYTES;
            self.unpacked.bytes += n as u64;
            if self.unpacked.bytes / REPORT_EVERY_BYTES > before {
                (self.progress)(self.unpacked.bytes);
            }
        }
    }

    fn names<'e>(&self, path: &'e [u8], entry: &Entry) -> Result<Vec<&'e [u8]>, Error> {
        entry_path::components(path).map_err(|e| Error::Escapes {
            what: self.what.to_owned(),
            entry: printable(&entry.path),
            reason: e.reason().to_owned(),
        })
    }

    fn bad(&self, entry: &Entry, reason: &str) -> Error {
        Error::BadEntry {
            what: self.what.to_owned(),
            entry: printable(&entry.path),
            reason: reason.to_owned(),
        }
    }
}

/// Drops attributes that belong to the machine the archive was made on: marks of overlayfs would
/// redirect or hide files here, labels of security modules name another machine's policy.
fn drop_foreign_attributes(entry: &mut Entry) {
    entry.xattrs.retain(|name, _| {
        let is_overlay =
            name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
        let is_label = name.starts_with(b"security.") && name != b"security.capability";
        !is_overlay && !is_label
    });
}
