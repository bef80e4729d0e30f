//! What is remembered of each container beside the runtime's own files, and which images are in use.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use image::ImageId;
use serde::{Deserialize, Serialize};
use types::container_spec::DnsConfig;
use types::{Labels, TaskId};

use crate::Error;

/// Ending of a record's file name.
const SUFFIX: &str = ".json";

/// What is remembered of one container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The image it was made from.
    pub(crate) image: ImageId,
    /// Number of the signal that asks it to stop: the image that may have named it can be gone.
    pub(crate) stop_signal: i32,
    /// Its labels.
    pub(crate) labels: Labels,
    /// Whether its program was about to be run. Until then, what is lost can be made again.
    pub(crate) is_started: bool,
    /// How names are found that its networks do not know: asked again by the next daemon.
    #[serde(default)]
    pub(crate) dns: DnsConfig,
}

/// The records, and which images they hold on to.
#[derive(Debug)]
pub(crate) struct Records {
    dir: PathBuf,
    images: Mutex<BTreeMap<TaskId, ImageId>>,
}

impl Records {
    /// Opens the records in `dir`, which is made when missing. Blocks.
    pub(crate) fn open(dir: &Path) -> Result<Self, Error> {
        let failed = || Error::io("read the container records in", dir);
        make_private_dir(dir)?;
        let records = Self {
            dir: dir.to_owned(),
            images: Mutex::default(),
        };
        for entry in std::fs::read_dir(dir).map_err(failed())? {
            let name = entry.map_err(failed())?.file_name();
            let Some(task) = name.to_str().and_then(task_of) else {
                continue;
            };
            if let Some(record) = records.get(task) {
                records.images().insert(task, record.image);
            }
        }
        Ok(records)
    }

    /// Holds on to an image for a container that is about to be made. From then on the image store
    /// does not remove it: see [`crate::ContainerExecutor::image_in_use`].
    pub(crate) fn claim(&self, task: TaskId, image: ImageId) {
        self.images().insert(task, image);
    }

    /// Remembers a container. Blocks.
    ///
    /// Not durable: what a crash of the machine takes, it takes the container of as well.
    pub(crate) fn put(&self, task: TaskId, record: &Record) -> io::Result<()> {
        self.claim(task, record.image);
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        file.write_all(&serde_json::to_vec(record)?)?;
        file.persist(self.path(task))?;
        Ok(())
    }

    /// What is remembered of a container. Blocks. A record that cannot be read is as good as none:
    /// all in it has a default.
    pub(crate) fn get(&self, task: TaskId) -> Option<Record> {
        let path = self.path(task);
        let read = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            read => read,
        };
        let record = read.and_then(|text| Ok(serde_json::from_slice(&text)?));
        record
            .inspect_err(|error| {
                tracing::warn!(path = %path.display(), %error, "a container's record is unreadable");
            })
            .ok()
    }

    /// Forgets a container. Blocks.
    pub(crate) fn remove(&self, task: TaskId) -> io::Result<()> {
        match std::fs::remove_file(self.path(task)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        self.images().remove(&task);
        Ok(())
    }

    /// Forgets all but the tasks for which `is_known` holds, and half-written files. Blocks.
    pub(crate) fn retain(&self, is_known: impl Fn(TaskId) -> bool) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            match entry.file_name().to_str().and_then(task_of) {
                Some(task) if is_known(task) => {}
                Some(task) => self.remove(task)?,
                None => std::fs::remove_file(entry.path())?,
            }
        }
        Ok(())
    }

    /// Whether any container is made from `image`, or is about to be.
    pub(crate) fn uses(&self, image: &ImageId) -> bool {
        self.images().values().any(|used| used == image)
    }

    fn images(&self) -> MutexGuard<'_, BTreeMap<TaskId, ImageId>> {
        // Nothing panics while it holds the lock; each change is a single one.
        self.images.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, task: TaskId) -> PathBuf {
        self.dir.join(format!("{task}{SUFFIX}"))
    }
}

fn task_of(name: &str) -> Option<TaskId> {
    name.strip_suffix(SUFFIX)?.parse().ok()
}

/// Makes a directory, and those above it, that only this user can look into.
pub(crate) fn make_private_dir(dir: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(Error::io("make", dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(image: &[u8]) -> Record {
        Record {
            image: ImageId(image::Digest::of(image)),
            stop_signal: 15,
            labels: Labels::from([("a".to_owned(), "b".to_owned())]),
            is_started: false,
            dns: DnsConfig::default(),
        }
    }

    #[test]
    fn records_and_their_images_survive_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (TaskId::from_number(1), TaskId::from_number(2));
        let records = Records::open(dir.path()).unwrap();
        records.put(one, &record(b"x")).unwrap();
        records.put(two, &record(b"y")).unwrap();
        assert!(records.uses(&record(b"x").image));
        drop(records);

        let records = Records::open(dir.path()).unwrap();
        assert_eq!(records.get(one), Some(record(b"x")));
        assert!(records.uses(&record(b"x").image) && records.uses(&record(b"y").image));
        records.remove(one).unwrap();
        records.remove(one).unwrap();
        assert_eq!(records.get(one), None);
        assert!(!records.uses(&record(b"x").image));
        assert!(records.uses(&record(b"y").image));
    }

    #[test]
    fn what_is_unknown_or_broken_goes() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (TaskId::from_number(1), TaskId::from_number(2));
        let records = Records::open(dir.path()).unwrap();
        records.put(one, &record(b"x")).unwrap();
        records.put(two, &record(b"y")).unwrap();
        std::fs::write(dir.path().join(".tmp123"), "half").unwrap();
        std::fs::write(records.path(TaskId::from_number(3)), "{").unwrap();
        assert_eq!(
            Records::open(dir.path())
                .unwrap()
                .get(TaskId::from_number(3)),
            None
        );
        records.retain(|task| task == two).unwrap();
        assert!(!records.uses(&record(b"x").image) && records.uses(&record(b"y").image));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
