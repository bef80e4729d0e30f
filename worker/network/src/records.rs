//! What is remembered on disk of the containers' parts in networks.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use types::TaskId;

use crate::Error;
use crate::local::LocalSubnets;
use crate::sandbox::Sandbox;

const SUFFIX: &str = ".json";

/// A container's part in networks, and the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) sandbox: Sandbox,
    /// The container's first process; `None` until there is one.
    pub(crate) process: Option<Process>,
}

/// A process, told from a later one with its number by when it was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// In clock ticks since the machine was started.
    start_ticks: u64,
}

impl Process {
    /// The process that has this number now. `None` when there is none, or one that has ended.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may hold anything.
        let (_, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace();
        if matches!(fields.next()?, "Z" | "X") {
            return None;
        }
        // State is field 3, the start time field 22 (proc(5)).
        let start_ticks = fields.nth(18)?.parse().ok()?;
        Some(Self { pid, start_ticks })
    }

    pub(crate) fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }
}

/// The records. Each is a file; what is half written does not count.
#[derive(Debug)]
pub(crate) struct Records {
    dir: PathBuf,
    all: BTreeMap<TaskId, Record>,
    pub(crate) subnets: LocalSubnets,
}

impl Records {
    /// Reads the records in `dir`, which is made when missing.
    pub(crate) fn open(dir: &Path) -> Result<Self, Error> {
        let dir = dir.to_owned();
        let sandboxes = dir.join("sandboxes");
        make_private_dir(&sandboxes)?;
        let failed = || Error::file("read", &sandboxes);
        let mut all = BTreeMap::new();
        for entry in std::fs::read_dir(&sandboxes).map_err(failed())? {
            let path = entry.map_err(failed())?.path();
            match read::<Record>(&path) {
                Some(record) => {
                    all.insert(record.sandbox.task, record);
                }
                // Half written, or of another release: its container is cleared away by the executor.
                None => std::fs::remove_file(&path).map_err(Error::file("remove", &path))?,
            }
        }
        let subnets = read(&dir.join("subnets.json")).unwrap_or_default();
        Ok(Self { dir, all, subnets })
    }

    pub(crate) fn all(&self) -> &BTreeMap<TaskId, Record> {
        &self.all
    }

    pub(crate) fn put(&mut self, record: Record) -> Result<(), Error> {
        let task = record.sandbox.task;
        write(&self.path(task), &record)?;
        self.all.insert(task, record);
        Ok(())
    }

    /// Returns whether there was one.
    pub(crate) fn remove(&mut self, task: TaskId) -> Result<bool, Error> {
        let path = self.path(task);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::file("remove", &path)(error));
            }
            Ok(()) | Err(_) => {}
        }
        Ok(self.all.remove(&task).is_some())
    }

    pub(crate) fn save_subnets(&self) -> Result<(), Error> {
        write(&self.dir.join("subnets.json"), &self.subnets)
    }

    fn path(&self, task: TaskId) -> PathBuf {
        self.dir.join("sandboxes").join(format!("{task}{SUFFIX}"))
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let text = std::fs::read(path).ok()?;
    let read = serde_json::from_slice(&text);
    read.inspect_err(|error| tracing::warn!(path = %path.display(), %error, "unreadable record"))
        .ok()
}

/// Not durable: what a crash of the machine takes, it takes the containers of as well.
fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), Error> {
    let dir = path.parent().unwrap_or(path);
    let failed = || Error::file("write", path);
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(failed())?;
    let text = serde_json::to_vec(value)
        .map_err(std::io::Error::other)
        .map_err(failed())?;
    file.write_all(&text).map_err(failed())?;
    file.persist(path).map_err(|error| failed()(error.error))?;
    Ok(())
}

fn make_private_dir(dir: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(Error::file("make", dir))
}
