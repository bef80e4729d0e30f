//! The daemon's directory: where everything lies in it, and the lock that keeps a second daemon out.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

const LOCK: &str = "lock";
const SETTINGS: &str = "swarm.json";
const CERTIFICATES: &str = "certificates";
const RAFT: &str = "raft";
const WORKER: &str = "worker";
const TASKS: &str = "tasks";
const MANAGERS: &str = "managers";
const IMAGES: &str = "images";

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another daemon has it.
    #[error("{} is in use by another swarmd", .0.display())]
    InUse(PathBuf),
    /// The file system said no.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The settings are damaged.
    #[error("cannot read {}", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: serde_json::Error,
    },
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io {
        doing,
        path,
        source,
    }
}

/// How this node takes part in its swarm, besides its identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// `ip:port` a manager listens at.
    pub listen_addr: String,
    /// `ip:port` others reach it at.
    pub advertise_addr: String,
    /// `host:port` of managers known when it joined.
    pub managers: Vec<String>,
    /// Addresses that carry what containers send each other, at most one of each family, where the
    /// user chose them; empty means those of `advertise_addr`.
    #[serde(default)]
    pub data_path: Vec<IpAddr>,
}

/// The directory of one daemon, locked until [`StateDir::unlock`] or the end of this.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    run_dir: PathBuf,
    lock: Mutex<Option<File>>,
}

impl StateDir {
    /// Opens the directory, made with mode 0700 when missing, and locks it.
    ///
    /// # Errors
    /// [`Error::InUse`] while another process has it open, or what the file system says.
    pub fn open(path: &Path, run_dir: &Path) -> Result<Self, Error> {
        make_dir(path)?;
        make_open_dir(run_dir)?;
        if !is_in_memory(run_dir) {
            tracing::warn!(
                path = %run_dir.display(),
                "this directory is not in memory: what tasks are told can be read on its disk"
            );
        }
        let lock = path.join(LOCK);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock)
            .map_err(io_error("open", &lock))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                run_dir: run_dir.to_owned(),
                lock: Mutex::new(Some(file)),
            }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::InUse(path.to_owned())),
            Err(errno) => Err(io_error("lock", &lock)(errno.into())),
        }
    }

    /// Lets another daemon have the directory. Nothing may be written here after.
    pub fn unlock(&self) {
        self.lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Key, certificate and roots.
    #[must_use]
    pub fn certificates(&self) -> PathBuf {
        self.path.join(CERTIFICATES)
    }

    /// The manager's log and snapshot.
    #[must_use]
    pub fn raft(&self) -> PathBuf {
        self.path.join(RAFT)
    }

    /// What is kept in memory over restarts of the daemon.
    #[must_use]
    pub fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// What the agent keeps of each task, one file each.
    #[must_use]
    pub fn task_records(&self) -> PathBuf {
        self.run_dir.join(TASKS)
    }

    /// Images and their layers.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.path.join(IMAGES)
    }

    /// Reads the settings of the swarm this node is in.
    ///
    /// # Errors
    /// When the file is there but cannot be read.
    pub fn settings(&self) -> Result<Option<Settings>, Error> {
        let path = self.path.join(SETTINGS);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        let settings = serde_json::from_slice(&text);
        settings
            .map(Some)
            .map_err(|source| Error::Settings { path, source })
    }

    /// Writes the settings, durably and as a whole.
    ///
    /// # Errors
    /// What the file system says.
    pub fn save_settings(&self, settings: &Settings) -> Result<(), Error> {
        let path = self.path.join(SETTINGS);
        let temporary = self.path.join("swarm.json.tmp");
        let text = serde_json::to_vec_pretty(settings).map_err(|source| Error::Settings {
            path: path.clone(),
            source,
        })?;
        let write = || {
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(io_error("write", &path))
    }

    /// Forgets the manager's log and snapshot.
    ///
    /// # Errors
    /// What the file system says.
    pub fn remove_raft(&self) -> Result<(), Error> {
        remove_tree(&self.raft())
    }

    /// Forgets the swarm but for the identity, which goes first and elsewhere.
    ///
    /// Images stay, and so does what the executor keeps of containers: removing those is its part.
    ///
    /// # Errors
    /// What the file system says.
    pub fn remove_membership(&self) -> Result<(), Error> {
        self.remove_raft()?;
        let agent = self.path.join(WORKER);
        remove_tree(&self.task_records())?;
        remove_file(&agent.join(MANAGERS))?;
        remove_file(&self.path.join(SETTINGS))
    }
}

fn make_dir(path: &Path) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(io_error("make the directory", path))
}

/// Others may look up the socket in it; what is private in it has a directory of its own.
fn make_open_dir(path: &Path) -> Result<(), Error> {
    let made = fs::DirBuilder::new().recursive(true).create(path);
    made.map_err(io_error("make the directory", path))?;
    let mode = fs::metadata(path).map(|it| it.permissions().mode() | 0o755);
    mode.and_then(|mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .map_err(io_error("open to others the directory", path))
}

fn is_in_memory(path: &Path) -> bool {
    const TMPFS_MAGIC: i64 = 0x0102_1994;
    const RAMFS_MAGIC: i64 = 0x8584_58f6;
    rustix::fs::statfs(path).is_ok_and(|it| [TMPFS_MAGIC, RAMFS_MAGIC].contains(&it.f_type))
}

fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error("remove", path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn remove_tree(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error("remove", path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_daemon_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let first = StateDir::open(&path, &dir.path().join("run")).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o700
        );
        let second = StateDir::open(&path, &dir.path().join("run")).unwrap_err();
        assert!(matches!(&second, Error::InUse(it) if *it == path));
        assert!(second.to_string().contains("in use"), "{second}");
        first.unlock();
        let next = StateDir::open(&path, &dir.path().join("run")).unwrap();
        drop(next);
        StateDir::open(&path, &dir.path().join("run")).unwrap();
    }

    #[test]
    fn settings_come_back_until_the_swarm_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path(), &dir.path().join("run")).unwrap();
        assert_eq!(state.settings().unwrap(), None);
        let settings = Settings {
            listen_addr: "0.0.0.0:2377".to_owned(),
            advertise_addr: "10.0.0.1:2377".to_owned(),
            managers: vec!["10.0.0.2:2377".to_owned()],
            data_path: vec!["10.1.0.1".parse().unwrap()],
        };
        state.save_settings(&settings).unwrap();
        assert_eq!(state.settings().unwrap(), Some(settings));
        fs::create_dir_all(state.raft().join("log")).unwrap();
        fs::create_dir_all(state.images()).unwrap();
        state.remove_membership().unwrap();
        assert_eq!(state.settings().unwrap(), None);
        assert!(!state.raft().exists());
        assert!(
            state.images().exists(),
            "images are the machine's, not the swarm's"
        );
        // As written before there was a data path of its own.
        let former =
            r#"{"listen_addr":"0.0.0.0:2377","advertise_addr":"10.0.0.1:2377","managers":[]}"#;
        fs::write(dir.path().join(SETTINGS), former).unwrap();
        assert!(state.settings().unwrap().unwrap().data_path.is_empty());
        fs::write(dir.path().join(SETTINGS), "{").unwrap();
        assert!(matches!(state.settings(), Err(Error::Settings { .. })));
    }
}
