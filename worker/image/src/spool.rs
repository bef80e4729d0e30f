//! The files of an image archive, received into the store's temporary space with their digests.
//!
//! Archives come as streams and name their contents in any order (`docker save` writes its
//! manifest last), so everything is received before anything is interpreted. Paths of the archive
//! are keys of a map and never touch the file system.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::archive::{Kind, TarReader};
use crate::compression::decompress;
use crate::digest::{Digest, Hasher, LimitedReader};
use crate::error::printable;
use crate::options::Limits;
use crate::progress::{Progress, REPORT_EVERY_BYTES};
use crate::{Error, entry_path};

/// How messages speak of the archive.
pub(crate) const ARCHIVE: &str = "the archive";
/// Symbolic links followed from one name to a file: `docker save` before 25 links layers shared
/// by several images, once.
const LINKS_MAX: usize = 8;

/// A file of the archive.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    pub(crate) file: PathBuf,
    pub(crate) digest: Digest,
    pub(crate) bytes: u64,
}

#[derive(Clone, Debug)]
enum Item {
    Blob(Blob),
    Link(Vec<u8>),
}

/// All files of an archive.
pub(crate) struct Spool {
    items: HashMap<Vec<u8>, Item>,
    document_bytes_max: u64,
}

impl Spool {
    /// Receives the archive into files of `dir`.
    pub(crate) fn receive(
        reader: impl Read,
        dir: &Path,
        limits: &Limits,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self, Error> {
        let bytes_max = limits.archive_bytes_max;
        let stream = decompress(reader).map_err(|e| Error::read(ARCHIVE, e, bytes_max))?;
        let stream = LimitedReader::new(stream, bytes_max);
        let mut receiver = Receiver {
            tar: TarReader::new(stream, ARCHIVE, bytes_max),
            dir,
            files: 0,
            bytes: 0,
            buffer: vec![0; 128 * 1024],
            progress,
        };
        let mut items = HashMap::new();
        let mut entries = 0;
        while let Some(entry) = receiver.tar.next_entry()? {
            entries += 1;
            if entries > limits.entries_max {
                return Err(Error::TooLarge {
                    what: ARCHIVE.to_owned(),
                    limit: format!("{} entries", limits.entries_max),
                });
            }
            let path = key(&entry.path, &[])?;
            let item = match &entry.kind {
                Kind::File => Item::Blob(receiver.blob()?),
                Kind::Symlink { target } => Item::Link(key(&entry.path, target)?),
                Kind::Hardlink { target } => Item::Link(key(target, &[])?),
                Kind::Directory
                | Kind::CharDevice { .. }
                | Kind::BlockDevice { .. }
                | Kind::Fifo => continue,
            };
            items.insert(path, item);
        }
        receiver.tar.require_end_marker()?;
        receiver.tar.drain()?;
        Ok(Self {
            items,
            document_bytes_max: limits.document_bytes_max,
        })
    }

    /// The file of this path, through links.
    pub(crate) fn by_path(&self, path: &str) -> Option<&Blob> {
        let mut path = key(path.as_bytes(), &[]).ok()?;
        for _link in 0..=LINKS_MAX {
            match self.items.get(&path)? {
                Item::Blob(blob) => return Some(blob),
                Item::Link(target) => path.clone_from(target),
            }
        }
        None
    }

    /// The blob of an OCI layout known by `digest`, verified.
    pub(crate) fn by_digest(&self, digest: Digest, what: &str) -> Result<&Blob, Error> {
        let path = format!("blobs/sha256/{}", digest.hex());
        let blob = self.by_path(&path).ok_or_else(|| Error::Missing {
            what: format!("{what} {digest}"),
        })?;
        if blob.digest != digest {
            return Err(Error::DigestMismatch {
                what: what.to_owned(),
                expected: digest,
                got: blob.digest,
            });
        }
        Ok(blob)
    }

    /// The contents of a document.
    pub(crate) fn read(&self, blob: &Blob, what: &str) -> Result<Vec<u8>, Error> {
        if blob.bytes > self.document_bytes_max {
            return Err(Error::TooLarge {
                what: what.to_owned(),
                limit: format!("{} bytes", self.document_bytes_max),
            });
        }
        std::fs::read(&blob.file).map_err(|e| Error::store("read", &blob.file, e))
    }

    /// A document, parsed.
    pub(crate) fn json<T: DeserializeOwned>(&self, blob: &Blob, what: &str) -> Result<T, Error> {
        parse(&self.read(blob, what)?, what)
    }
}

/// Parses a JSON document.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|source| Error::BadJson {
        what: what.to_owned(),
        source,
    })
}

/// Writes the current entry of an archive to a file of its own.
struct Receiver<'a, R> {
    tar: TarReader<R>,
    dir: &'a Path,
    files: u64,
    bytes: u64,
    buffer: Vec<u8>,
    progress: &'a mut dyn FnMut(Progress),
}

impl<R: Read> Receiver<'_, R> {
    fn blob(&mut self) -> Result<Blob, Error> {
        let path = self.dir.join(self.files.to_string());
        self.files += 1;
        let mut file = File::create_new(&path).map_err(|e| Error::store("create", &path, e))?;
        let mut hasher = Hasher::default();
        loop {
            let n = self.tar.read_contents(&mut self.buffer)?;
            if n == 0 {
                break;
            }
            hasher.update(&self.buffer[..n]);
            file.write_all(&self.buffer[..n])
                .map_err(|e| Error::store("write", &path, e))?;
            let before = self.bytes / REPORT_EVERY_BYTES;
            self.bytes += n as u64;
            if self.bytes / REPORT_EVERY_BYTES > before {
                (self.progress)(Progress::Receiving { bytes: self.bytes });
            }
        }
        let (digest, bytes) = hasher.finish();
        Ok(Blob {
            file: path,
            digest,
            bytes,
        })
    }
}

/// The normalized path of an entry or, with `target`, of what its symbolic link points to.
fn key(path: &[u8], target: &[u8]) -> Result<Vec<u8>, Error> {
    let escapes = |reason: &str| Error::Escapes {
        what: ARCHIVE.to_owned(),
        entry: printable(path),
        reason: reason.to_owned(),
    };
    let mut parts: Vec<&[u8]> = entry_path::components(path).map_err(|e| escapes(e.reason()))?;
    if !target.is_empty() {
        if target.starts_with(b"/") {
            return Err(escapes("links to an absolute path"));
        }
        parts.pop();
        for part in target.split(|&byte| byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => drop(
                    parts
                        .pop()
                        .ok_or_else(|| escapes("links out of the archive"))?,
                ),
                name => parts.push(name),
            }
        }
    }
    Ok(parts.join(&b'/'))
}
