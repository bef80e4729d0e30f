//! The files of the log, and their replacement when its key changes.
//!
//! A library that appends keeps overwritten values in its files for long. So a new key gets new
//! files: they are filled under `.new` and made durable, then the former ones step aside to `.old`,
//! the new ones take their name, and the former ones are removed. Whoever opens the log after a crash
//! knows by the names that are there how far that had come.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Backend, Durability, Each, Op, Seal, Told, io_error, open_at, sync_dir};
use crate::{BackendKind, Error};

/// Records are copied in batches of about this size.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// How long the files of a closed log may stay in use, and the pause between two looks.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
const CLOSE_PAUSE: Duration = Duration::from_millis(2);

/// The log's files, locked against a second process.
pub(super) struct LogFiles {
    kind: BackendKind,
    dir: PathBuf,
    /// Absent only after a replacement failed half-way, when nothing can be written any more.
    log: Option<Box<dyn Backend>>,
    _lock: File,
}

/// Changes in batches that are not too large.
#[derive(Default)]
pub(super) struct Batches(pub(super) Vec<Vec<Op>>, usize);

impl Batches {
    pub(super) fn push(&mut self, name: &[u8], value: Vec<u8>) -> io::Result<()> {
        if self.0.is_empty() || self.1 + value.len() > BATCH_BYTES_MAX {
            self.0.push(Vec::new());
            self.1 = 0;
        }
        self.1 += value.len();
        if let Some(batch) = self.0.last_mut() {
            batch.push(Op::Put(name.to_vec(), value));
        }
        Ok(())
    }
}

impl LogFiles {
    /// Opens the log in `dir`, and completes or undoes a replacement that a crash interrupted.
    pub(super) fn open(kind: BackendKind, dir: &Path, lock: File) -> Result<Self, Error> {
        let mut this = Self {
            kind,
            dir: dir.to_owned(),
            log: None,
            _lock: lock,
        };
        this.recover()
            .map_err(io_error("take up the log in", dir))?;
        this.log = Some(open_at(kind, &this.path(""))?);
        Ok(this)
    }

    fn path(&self, suffix: &str) -> PathBuf {
        let name = match self.kind {
            BackendKind::Sled => "log",
            BackendKind::Redb => "log.redb",
        };
        self.dir.join(format!("{name}{suffix}"))
    }

    fn recover(&self) -> io::Result<()> {
        let (current, new, old) = (self.path(""), self.path(".new"), self.path(".old"));
        if !current.exists() && new.exists() && old.exists() {
            // The former files only step aside once the new ones are whole.
            tracing::info!("completing a replacement of the log's files");
            self.rename(&new, &current)?;
        }
        remove(&new)?;
        remove(&old)?;
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)?;
        File::open(&self.dir)?.sync_all()
    }

    fn log(&mut self) -> io::Result<&mut Box<dyn Backend>> {
        self.log
            .as_mut()
            .ok_or_else(|| io::Error::other("the log's files could not be replaced"))
    }

    /// Fills new files and makes them durable.
    fn copy(&mut self, seal: &mut Seal<'_>, told: &Told) -> io::Result<()> {
        let new = self.path(".new");
        remove(&new)?;
        let mut copies = Batches::default();
        self.log()?.scan(b"", &mut |name, value| {
            copies.push(name, seal(name, value)?)
        })?;
        let mut target = open_at(self.kind, &new).map_err(io::Error::other)?;
        told("the new log was made");
        for ops in copies.0 {
            target.commit(ops, Durability::Now)?;
            told("a batch of the new log was written");
        }
        drop(target);
        wait_closed(&new);
        sync_tree(&new)?;
        sync_dir(&self.dir).map_err(io::Error::other)?;
        told("the new log was synced");
        Ok(())
    }
}

impl Backend for LogFiles {
    fn commit(&mut self, ops: Vec<Op>, durability: Durability) -> io::Result<()> {
        self.log()?.commit(ops, durability)
    }

    fn scan(&self, prefix: &[u8], each: &mut Each<'_>) -> io::Result<()> {
        match &self.log {
            Some(log) => log.scan(prefix, each),
            None => Err(io::Error::other("the log's files could not be replaced")),
        }
    }

    fn rewrite(&mut self, seal: &mut Seal<'_>, told: &Told) -> io::Result<()> {
        let (current, new, old) = (self.path(""), self.path(".new"), self.path(".old"));
        self.copy(seal, told)?;
        // Closed first: a library may write by name, and the names change.
        self.log = None;
        wait_closed(&current);
        self.rename(&current, &old)?;
        told("the former log stepped aside");
        self.rename(&new, &current)?;
        told("the new log took its place");
        self.log = Some(open_at(self.kind, &current).map_err(io::Error::other)?);
        remove(&old)?;
        File::open(&self.dir)?.sync_all()?;
        told("the former log was removed");
        Ok(())
    }

    fn value_bytes_max(&self) -> usize {
        self.log.as_ref().map_or(0, |log| log.value_bytes_max())
    }
}

/// Waits until the threads of a library that was just closed have let go of their files.
fn wait_closed(path: &Path) {
    let started = Instant::now();
    while path.is_dir()
        && File::open(path.join("db")).is_ok_and(|file| file.try_lock().is_err())
        && started.elapsed() < CLOSE_TIMEOUT
    {
        std::thread::sleep(CLOSE_PAUSE);
    }
}

/// Removes a file or a directory, if it is there.
fn remove(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() {
        std::fs::remove_dir_all(path)
    } else {
        std::fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Makes a file, or a directory with all in it, durable.
fn sync_tree(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        for entry in std::fs::read_dir(path)? {
            sync_tree(&entry?.path())?;
        }
    }
    File::open(path)?.sync_all()
}
