//! The log on disk: what a storage library must provide, and the files that build on it.

pub(crate) mod record;
pub(crate) mod recover;
mod redb;
mod rewrite;
pub(crate) mod seal;
mod sled;
#[cfg(test)]
mod tests;
pub(crate) mod wal;

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::{BackendKind, Error};

/// Is shown names and values, and may stop a scan by an error.
pub(crate) type Each<'a> = dyn FnMut(&[u8], &[u8]) -> io::Result<()> + 'a;

/// Makes a new value of a record's name and value.
pub(crate) type Seal<'a> = dyn FnMut(&[u8], &[u8]) -> io::Result<Vec<u8>> + 'a;

/// Is told what has just changed on disk, while a key is rotated.
pub(crate) type Told = std::sync::Arc<dyn Fn(&'static str) + Send + Sync>;

/// One change of a batch.
pub(crate) enum Op {
    /// Sets a key.
    Put(Vec<u8>, Vec<u8>),
    /// Removes a key, which need not exist.
    Del(Vec<u8>),
}

/// When a batch has to be on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// When `commit` returns, together with every batch before it.
    Now,
    /// With the next batch that is.
    Later,
}

/// All that a storage library must provide. One thread owns it.
pub(crate) trait Backend: Send {
    /// Applies all changes or, after a crash, none.
    fn commit(&mut self, ops: Vec<Op>, durability: Durability) -> io::Result<()>;

    /// Calls `each` with every key that starts with `prefix`, in order, and its value.
    fn scan(&self, prefix: &[u8], each: &mut Each<'_>) -> io::Result<()>;

    /// Replaces every value by what `seal` makes of it, as a whole or, after a crash, not at all.
    /// Where the library keeps its files, nothing of the former values is left in them.
    fn rewrite(&mut self, seal: &mut Seal<'_>, _told: &Told) -> io::Result<()> {
        let mut copies = rewrite::Batches::default();
        self.scan(b"", &mut |name, value| {
            copies.push(name, seal(name, value)?)
        })?;
        for ops in copies.0 {
            self.commit(ops, Durability::Now)?;
        }
        Ok(())
    }

    /// The largest value worth giving to this library; larger records are split.
    fn value_bytes_max(&self) -> usize;
}

/// Opens, or creates, the log in the member's directory `dir`, for one owner at a time.
pub(crate) fn open(kind: BackendKind, dir: &Path) -> Result<Box<dyn Backend>, Error> {
    private_dir(dir)?;
    let lock = lock(dir)?;
    Ok(Box::new(rewrite::LogFiles::open(kind, dir, lock)?))
}

fn open_at(kind: BackendKind, path: &Path) -> Result<Box<dyn Backend>, Error> {
    Ok(match kind {
        BackendKind::Sled => Box::new(sled::SledLog::open(path)?),
        BackendKind::Redb => Box::new(redb::RedbLog::open(path)?),
    })
}

fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(io_error("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse {
            dir: dir.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(io_error("lock", &path)(source)),
    }
}

/// Creates `dir` with mode 0700, or gives it that mode.
pub(crate) fn private_dir(dir: &Path) -> Result<(), Error> {
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir);
    made.map_err(io_error("create directory", dir))?;
    let mode = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(dir, mode).map_err(io_error("restrict directory", dir))
}

/// Makes the names in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(io_error("make durable the directory", dir))
}

pub(crate) fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path: PathBuf = path.to_owned();
    move |source| Error::Io { what, path, source }
}
