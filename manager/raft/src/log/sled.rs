//! The log in sled 0.34.7, with what has to be done around its faults.
//!
//! - `flush()` only asks for writeback of a range (`sync_file_range`), which makes neither the file's
//!   size nor the disk's own cache durable: a `fdatasync` of our own follows.
//! - `flush_async()` deadlocks with several callers: never used.
//! - A crash while sled writes its own snapshot leaves `snap.*.generating`, with which it never opens
//!   again: removed before open.
//! - Values or tree nodes above a quarter of a segment become separate files that are never synced.
//!   A node holds up to 16 values, so values are kept small enough for a whole node to stay below.

use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Backend, Durability, Each, Op, io_error, private_dir, sync_dir};
use crate::Error;

/// Both pages and their cache are small: the log is read only at start.
const CACHE_BYTES: u64 = 4 << 20;
/// sled's default, stated because the limit below depends on it.
const SEGMENT_BYTES: usize = 512 << 10;
/// 16 values, up to 10 more that are not merged yet, and their names stay below a quarter segment.
const VALUE_BYTES_MAX: usize = 4 << 10;
/// How long another owner of the files may still be closing them.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) struct SledLog {
    db: sled::Db,
    /// sled's own file, for a sync that sled does not do.
    file: File,
}

impl SledLog {
    pub(super) fn open(dir: &Path) -> Result<Self, Error> {
        private_dir(dir)?;
        remove_unfinished_snapshots(dir).map_err(io_error("clean", dir))?;
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(CACHE_BYTES)
            .segment_size(SEGMENT_BYTES)
            .flush_every_ms(None);
        let db = open_when_unlocked(&config).map_err(|e| match e {
            sled::Error::Io(source) => io_error("open log in", dir)(source),
            other => Error::Corrupt {
                dir: dir.to_owned(),
                record: "log".to_owned(),
                reason: other.to_string(),
            },
        })?;
        restrict_files(dir).map_err(io_error("restrict files of", dir))?;
        let path = dir.join("db");
        let file = File::open(&path).map_err(io_error("open", &path))?;
        file.sync_all().map_err(io_error("sync", &path))?;
        sync_dir(dir)?;
        Ok(Self { db, file })
    }
}

impl Backend for SledLog {
    fn commit(&mut self, ops: Vec<Op>, durability: Durability) -> io::Result<()> {
        let mut batch = sled::Batch::default();
        for op in ops {
            match op {
                Op::Put(key, value) => batch.insert(key, value),
                Op::Del(key) => batch.remove(key),
            }
        }
        self.db.apply_batch(batch)?;
        if durability == Durability::Now {
            self.db.flush()?;
            self.file.sync_data()?;
        }
        Ok(())
    }

    fn scan(&self, prefix: &[u8], each: &mut Each<'_>) -> io::Result<()> {
        for item in self.db.scan_prefix(prefix) {
            let (key, value) = item?;
            each(&key, &value)?;
        }
        Ok(())
    }

    fn value_bytes_max(&self) -> usize {
        VALUE_BYTES_MAX
    }
}

/// The threads of a database that was just closed hold its lock a little longer.
fn open_when_unlocked(config: &sled::Config) -> sled::Result<sled::Db> {
    let started = Instant::now();
    loop {
        match config.open() {
            Err(sled::Error::Io(e))
                if e.to_string().starts_with("could not acquire lock")
                    && started.elapsed() < LOCK_TIMEOUT =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            outcome => return outcome,
        }
    }
}

fn remove_unfinished_snapshots(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|n| n.to_str())
            .unwrap_or_default();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            tracing::warn!(path = %path.display(), "removing an unfinished snapshot of the log");
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// sled creates files by the process's mask; the directory's mode protects those that come later.
fn restrict_files(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            std::fs::set_permissions(entry.path(), std::fs::Permissions::from_mode(0o600))?;
        }
    }
    Ok(())
}
