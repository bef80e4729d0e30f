//! The log on disk: what a storage library must provide, and the files that build on it.

pub(crate) mod record;
pub(crate) mod recover;
mod redb;
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

    /// The largest value worth giving to this library; larger records are split.
    fn value_bytes_max(&self) -> usize;
}

/// Opens, or creates, the log in the member's directory `dir`, for one owner at a time.
pub(crate) fn open(kind: BackendKind, dir: &Path) -> Result<Box<dyn Backend>, Error> {
    private_dir(dir)?;
    let lock = lock(dir)?;
    let log: Box<dyn Backend> = match kind {
        BackendKind::Sled => Box::new(sled::SledLog::open(&dir.join("log"))?),
        BackendKind::Redb => Box::new(redb::RedbLog::open(&dir.join("log.redb"))?),
    };
    Ok(Box::new(Locked { log, _lock: lock }))
}

/// A log whose directory nobody else may work in. The lock ends with the process.
struct Locked {
    log: Box<dyn Backend>,
    _lock: File,
}

impl Backend for Locked {
    fn commit(&mut self, ops: Vec<Op>, durability: Durability) -> io::Result<()> {
        self.log.commit(ops, durability)
    }

    fn scan(&self, prefix: &[u8], each: &mut Each<'_>) -> io::Result<()> {
        self.log.scan(prefix, each)
    }

    fn value_bytes_max(&self) -> usize {
        self.log.value_bytes_max()
    }
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
