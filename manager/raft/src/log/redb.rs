//! The log in redb 4.

use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use redb::ReadableDatabase as _;

use super::{Backend, Durability, Each, Op, io_error, sync_dir};
use crate::Error;

const RECORDS: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("records");

/// The log is read only at start.
const CACHE_BYTES: usize = 4 << 20;
/// redb has no limit worth a split below the largest proposal.
const VALUE_BYTES_MAX: usize = 8 << 20;

pub(super) struct RedbLog {
    db: redb::Database,
}

impl RedbLog {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        // Created here only for its mode; redb takes an empty file for a new database.
        std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)
            .map_err(io_error("create", path))?;
        let open = || -> Result<redb::Database, redb::Error> {
            let db = redb::Builder::new()
                .set_cache_size(CACHE_BYTES)
                .create(path)?;
            let write = db.begin_write()?;
            write.open_table(RECORDS)?;
            write.commit()?;
            Ok(db)
        };
        let db = open().map_err(|e| match e {
            redb::Error::Io(source) => io_error("open log", path)(source),
            other => Error::Corrupt {
                dir: path.to_owned(),
                record: "log".to_owned(),
                reason: other.to_string(),
            },
        })?;
        if let Some(dir) = path.parent() {
            sync_dir(dir)?;
        }
        Ok(Self { db })
    }
}

impl Backend for RedbLog {
    fn commit(&mut self, ops: Vec<Op>, durability: Durability) -> io::Result<()> {
        let mut write = self.db.begin_write().map_err(to_io)?;
        write
            .set_durability(match durability {
                Durability::Now => redb::Durability::Immediate,
                Durability::Later => redb::Durability::None,
            })
            .map_err(to_io)?;
        {
            let mut table = write.open_table(RECORDS).map_err(to_io)?;
            for op in ops {
                match op {
                    Op::Put(key, value) => {
                        table
                            .insert(key.as_slice(), value.as_slice())
                            .map_err(to_io)?;
                    }
                    Op::Del(key) => {
                        table.remove(key.as_slice()).map_err(to_io)?;
                    }
                }
            }
        }
        write.commit().map_err(to_io)
    }

    fn scan(&self, prefix: &[u8], each: &mut Each<'_>) -> io::Result<()> {
        let read = self.db.begin_read().map_err(to_io)?;
        let table = read.open_table(RECORDS).map_err(to_io)?;
        for item in table.range(prefix..).map_err(to_io)? {
            let (key, value) = item.map_err(to_io)?;
            if !key.value().starts_with(prefix) {
                break;
            }
            each(key.value(), value.value())?;
        }
        Ok(())
    }

    fn value_bytes_max(&self) -> usize {
        VALUE_BYTES_MAX
    }
}

fn to_io(error: impl Into<redb::Error>) -> io::Error {
    match error.into() {
        redb::Error::Io(source) => source,
        other => io::Error::other(other),
    }
}
