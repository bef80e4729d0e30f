//! The agent's records of its tasks: one file a task, written by one thread.
//!
//! They hold all a task is told, so the daemon gives a directory that is in memory, not on a disk. It
//! outlives the daemon, as containers do, and a machine that reboots has lost both.
//!
//! A record is replaced by renaming a whole new file over it, so a crash of the daemon leaves the
//! old or the new one. It is not forced to the disk: a machine that lost power has lost its
//! containers too, and learns its tasks from the managers.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use prost::Message;
use proto::dispatcher as wire;
use tokio::sync::{mpsc, oneshot};
use types::{Task, TaskId};

use crate::Error;

/// Writes that wait for the thread at most.
const WRITES_MAX: usize = 256;

/// What is kept of a task.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    /// The task with the status last observed.
    pub(crate) task: Task,
    /// The managers withdrew it.
    pub(crate) is_withdrawn: bool,
}

enum Change {
    Save(Vec<Record>, Option<oneshot::Sender<()>>),
    Remove(TaskId),
}

/// Handle on the directory of records. Dropping it ends the thread once everything is written.
#[derive(Debug)]
pub(crate) struct Files {
    writes: Option<mpsc::Sender<Change>>,
    thread: Option<JoinHandle<()>>,
}

impl Files {
    /// Opens the directory, made with mode 0700 when missing, and reads what is there.
    ///
    /// A record that cannot be read is left out and removed: the managers know its task.
    pub(crate) fn open(dir: &Path) -> Result<(Self, BTreeMap<TaskId, Record>), Error> {
        make_private_dir(dir)?;
        let records = load(dir)?;
        let (writes, queue) = mpsc::channel(WRITES_MAX);
        let owned = dir.to_owned();
        let thread = std::thread::Builder::new()
            .name("task-files".to_owned())
            .stack_size(256 << 10)
            .spawn(move || write_all(&owned, queue))
            .map_err(Error::io("start the thread that writes", dir))?;
        Ok((
            Self {
                writes: Some(writes),
                thread: Some(thread),
            },
            records,
        ))
    }

    /// Writes new records and returns once they are there.
    pub(crate) async fn save_all(&self, records: Vec<Record>) {
        let (done, written) = oneshot::channel();
        self.send(Change::Save(records, Some(done))).await;
        // The thread answers unless it is gone, which `send` has then told.
        drop(written.await);
    }

    /// Writes one record soon.
    pub(crate) async fn save(&self, record: Record) {
        self.send(Change::Save(vec![record], None)).await;
    }

    /// Removes a record soon.
    pub(crate) async fn remove(&self, task: TaskId) {
        self.send(Change::Remove(task)).await;
    }

    async fn send(&self, write: Change) {
        let writes = self.writes.as_ref().expect("taken only while dropping");
        if writes.send(write).await.is_err() {
            tracing::error!("the thread that writes task records is gone");
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.writes = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes task records panicked");
        }
    }
}

/// Makes a directory and its parents, private to the daemon's user.
pub(crate) fn make_private_dir(dir: &Path) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(Error::io("make the directory", dir))
}

/// Replaces a file as a whole, private to the daemon's user.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut temporary = path.to_owned().into_os_string();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let write = || {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(bytes)?;
        fs::rename(&temporary, path)
    };
    write().map_err(Error::io("write", path))
}

fn write_all(dir: &Path, mut queue: mpsc::Receiver<Change>) {
    while let Some(write) = queue.blocking_recv() {
        let (result, done) = match write {
            Change::Save(records, done) => (
                records.iter().try_for_each(|record| save(dir, record)),
                done,
            ),
            Change::Remove(task) => (remove(dir, task), None),
        };
        if let Err(error) = result {
            // The task runs on; only a restart of the daemon would now forget or repeat it.
            tracing::error!(%error, source = ?std::error::Error::source(&error), "a task record was not written");
        }
        if let Some(done) = done {
            // Nobody waits any more when the agent is stopping.
            let _ = done.send(());
        }
    }
}

fn save(dir: &Path, record: &Record) -> Result<(), Error> {
    let message = wire::TaskRecord {
        task: Some((&record.task).into()),
        withdrawn: record.is_withdrawn,
    };
    replace(&dir.join(record.task.id.as_str()), &message.encode_to_vec())
}

fn remove(dir: &Path, task: TaskId) -> Result<(), Error> {
    let path = dir.join(task.as_str());
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("remove", path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn load(dir: &Path) -> Result<BTreeMap<TaskId, Record>, Error> {
    let mut records = BTreeMap::new();
    for entry in fs::read_dir(dir).map_err(Error::io("read the directory", dir))? {
        let path = entry.map_err(Error::io("read the directory", dir))?.path();
        match read(&path) {
            Ok(record) => {
                records.insert(record.task.id, record);
            }
            Err(problem) => {
                tracing::warn!(path = %path.display(), problem, "dropped an unreadable task record");
                fs::remove_file(&path).map_err(Error::io("remove", path))?;
            }
        }
    }
    Ok(records)
}

fn read(path: &Path) -> Result<Record, String> {
    let bytes = fs::read(path).map_err(|e| e.to_string())?;
    let record = wire::TaskRecord::decode(bytes.as_slice()).map_err(|e| e.to_string())?;
    let task = record.task.ok_or("it holds no task")?;
    let task = Task::try_from(task).map_err(|e| e.to_string())?;
    if path.file_name().is_none_or(|name| name != task.id.as_str()) {
        return Err(format!("it is of task {}", task.id));
    }
    Ok(Record {
        task,
        is_withdrawn: record.withdrawn,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::tests::task;

    #[tokio::test]
    async fn records_come_back_and_torn_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("worker/tasks");
        let (files, found) = Files::open(&dir).unwrap();
        assert!(found.is_empty());
        let kept = Record {
            task: task(1),
            is_withdrawn: true,
        };
        files
            .save_all(vec![
                kept.clone(),
                Record {
                    task: task(2),
                    is_withdrawn: false,
                },
            ])
            .await;
        files
            .save(Record {
                task: task(3),
                is_withdrawn: false,
            })
            .await;
        files.remove(task(2).id).await;
        files.remove(task(9).id).await;
        drop(files);

        let path = dir.join(task(1).id.as_str());
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            fs::metadata(&dir).unwrap().permissions().mode() & 0o777,
            0o700
        );
        let third = dir.join(task(3).id.as_str());
        let bytes = fs::read(&third).unwrap();
        fs::write(&third, &bytes[..bytes.len() / 2]).unwrap();
        fs::copy(&path, dir.join(task(4).id.as_str())).unwrap();
        fs::write(dir.join("left.tmp"), b"").unwrap();

        let (_files, found) = Files::open(&dir).unwrap();
        assert_eq!(found.into_values().collect::<Vec<_>>(), [kept]);
        assert_eq!(
            fs::read_dir(&dir).unwrap().count(),
            1,
            "what cannot be read is removed"
        );
    }
}
