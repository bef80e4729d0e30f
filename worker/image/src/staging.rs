//! The working space of one load or import: everything it makes lies here until it is complete,
//! and goes away with it otherwise.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::archive::TarReader;
use crate::compression::decompress;
use crate::database::LayerRecord;
use crate::digest::{Digest, HashingReader, LimitedReader};
use crate::layout::ArchivedLayer;
use crate::options::Limits;
use crate::progress::Progress;
use crate::unpack::{Unpacked, unpack};

/// Directory of a layer that holds its files; beside it there is room for what may come.
pub(crate) const FILES: &str = "diff";
/// How messages speak of the archive being imported.
const IMPORTED: &str = "the root file system archive";

/// A temporary directory inside the store, on the file system of the finished layers.
pub(crate) struct Staging {
    dir: tempfile::TempDir,
}

/// A layer unpacked into the working space.
pub(crate) struct StagedLayer {
    pub(crate) digest: Digest,
    pub(crate) path: PathBuf,
    pub(crate) record: LayerRecord,
}

impl Staging {
    pub(crate) fn new(tmp: &Path) -> Result<Self, Error> {
        let dir = tempfile::Builder::new()
            .prefix("work-")
            .tempdir_in(tmp)
            .map_err(|e| Error::store("create a directory in", tmp, e))?;
        let staging = Self { dir };
        for part in [staging.spool(), staging.trash()] {
            create_directory(&part)?;
        }
        Ok(staging)
    }

    /// Where the files of an archive are received.
    pub(crate) fn spool(&self) -> PathBuf {
        self.dir.path().join("files")
    }

    fn trash(&self) -> PathBuf {
        self.dir.path().join("trash")
    }

    /// Unpacks a layer of an image archive and verifies its digest.
    pub(crate) fn unpack_archived(
        &self,
        layer: &ArchivedLayer,
        limits: &Limits,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<StagedLayer, Error> {
        let what = format!("the layer {}", layer.diff_id);
        let file = File::open(&layer.file).map_err(|e| Error::store("open", &layer.file, e))?;
        progress(Progress::Unpacking {
            layer: layer.diff_id,
            bytes: 0,
        });
        let mut report = |bytes| {
            progress(Progress::Unpacking {
                layer: layer.diff_id,
                bytes,
            });
        };
        let (staged, _) = self.unpack(file, &what, &layer.diff_id.hex(), limits, &mut report)?;
        if staged.digest != layer.diff_id {
            return Err(Error::DigestMismatch {
                what: "the uncompressed layer".to_owned(),
                expected: layer.diff_id,
                got: staged.digest,
            });
        }
        Ok(staged)
    }

    /// Unpacks a root file system archive, which no digest vouches for: it must end as an archive
    /// ends and hold something.
    pub(crate) fn unpack_imported(
        &self,
        reader: impl Read,
        limits: &Limits,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<StagedLayer, Error> {
        let mut report = |bytes| progress(Progress::Receiving { bytes });
        let (staged, is_complete) = self.unpack(reader, IMPORTED, "import", limits, &mut report)?;
        if !is_complete {
            return Err(Error::Truncated {
                what: IMPORTED.to_owned(),
            });
        }
        if staged.record.entries == 0 {
            return Err(Error::EmptyImport);
        }
        Ok(staged)
    }

    /// Unpacks a tar stream; also tells whether it had an end marker.
    fn unpack(
        &self,
        reader: impl Read,
        what: &str,
        name: &str,
        limits: &Limits,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(StagedLayer, bool), Error> {
        let bytes_max = limits.layer_bytes_max;
        let path = self.dir.path().join(name);
        let files = path.join(FILES);
        create_directory(&path)?;
        create_directory(&files)?;
        let stream = decompress(reader).map_err(|e| Error::read(what, e, bytes_max))?;
        let stream = HashingReader::new(LimitedReader::new(stream, bytes_max));
        let mut tar = TarReader::new(stream, what, bytes_max);
        let unpacked = unpack(&mut tar, &files, &self.trash(), what, limits, progress)?;
        let is_complete = tar.require_end_marker().is_ok();
        tar.drain()?;
        let Unpacked {
            bytes,
            entries,
            is_opaque,
        } = unpacked;
        let staged = StagedLayer {
            digest: tar.into_inner().digest(),
            path,
            record: LayerRecord {
                bytes,
                entries,
                is_opaque,
            },
        };
        Ok((staged, is_complete))
    }

    /// Puts everything on disk: after this, layers survive a crash that follows their renaming.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        let path = self.dir.path();
        let sync = || -> std::io::Result<()> {
            // One call for the file system costs less than one for each of a layer's files.
            rustix::fs::syncfs(File::open(path)?)?;
            Ok(())
        };
        sync().map_err(|e| Error::store("write", path, e))
    }
}

/// Creates a directory that only its owner can enter.
pub(crate) fn create_directory(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(path)
        .map_err(|e| Error::store("create the directory", path, e))
}
