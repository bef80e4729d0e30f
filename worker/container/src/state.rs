//! The files of a container's directory: what they are called, who writes them, how.
//!
//! | file          | written by             | says                                              |
//! |---------------|------------------------|---------------------------------------------------|
//! | `made`        | daemon                 | nothing: the directory is a container's           |
//! | `state.json`  | shim, once created     | [`State`]                                         |
//! | `exit.json`   | shim, or daemon if the shim died | [`ExitStatus`]                          |
//! | `shim.sock`   | shim, mode 0600        | takes [`crate::control::Request`]s                |
//! | `shim.log`    | shim, only on a panic  | why                                               |
//! | `log/`        | shim                   | the container's output, see [`crate::log`]        |
//! | `upper/`, `work/`, `rootfs/`, `etc/` | shim | the writable layer and what it needs          |

use crate::error::{During, Fault, Result, Step};
use crate::spec::ContainerSpec;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Name of the file that marks a directory as a container's.
pub const MADE_FILE: &str = "made";
/// Name of the file that holds the [`State`].
pub const STATE_FILE: &str = "state.json";
/// Name of the file that holds the [`ExitStatus`].
pub const EXIT_FILE: &str = "exit.json";
/// Name of the shim's control socket.
pub const SOCKET_FILE: &str = "shim.sock";
/// Name of the file a shim leaves its last words in.
pub const SHIM_LOG_FILE: &str = "shim.log";
/// Name of the directory that holds the container's output.
pub const LOG_DIR: &str = "log";
/// Directory of the container's own changes to its file system.
pub const UPPER_DIR: &str = "upper";
/// Directory overlayfs works in.
pub const WORK_DIR: &str = "work";
/// Where the root file system is mounted, seen only in the container's mount namespace.
pub const ROOTFS_DIR: &str = "rootfs";
/// Directory of the generated `/etc` files.
pub const ETC_DIR: &str = "etc";

/// Largest of these files that is read, in bytes; a specification is some kilobytes.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Largest [`Config`] a shim takes, in bytes.
pub const CONFIG_BYTES_MAX: u64 = 4 << 20;

/// What a shim is told when it is started. Never written to disk: it holds what the task was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The container's id, unique on the machine within its cgroup parent.
    pub id: String,
    /// The cgroup, relative to the root of each hierarchy, below which containers get theirs.
    pub cgroup_parent: String,
    /// The container.
    pub spec: ContainerSpec,
}

/// Who the processes are, so that a later daemon can tell them from others with the same number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The shim.
    pub shim: Process,
    /// The container's first process.
    pub init: Process,
}

/// A process, named so that a reused number is not mistaken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number in the machine's namespace.
    pub pid: i32,
    /// When it started, in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start_ticks: u64,
}

impl Process {
    /// The process with this number, as it is now.
    pub fn of_pid(pid: i32) -> std::io::Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let start_ticks = start_ticks(&stat)
            .ok_or_else(|| std::io::Error::other(format!("/proc/{pid}/stat is not understood")))?;
        Ok(Self { pid, start_ticks })
    }

    /// Whether it still exists (a zombie does).
    #[must_use]
    pub fn exists(&self) -> bool {
        Self::of_pid(self.pid).is_ok_and(|now| now == *self)
    }
}

/// The start time in a `/proc/PID/stat` line. The command name may hold spaces and parentheses, so
/// fields are counted from its last `)`.
fn start_ticks(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?
        .1
        .split_ascii_whitespace()
        .nth(19)?
        .parse()
        .ok()
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitStatus {
    /// What a shell would report: the program's exit code, or 128 + the signal that killed it.
    pub code: i32,
    /// The signal that killed the first process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Whether the kernel killed any process of the container for want of memory.
    #[serde(default)]
    pub oom_killed: bool,
    /// Nanoseconds since the epoch.
    pub finished_at_ns: u64,
    /// Why the program never ran, or why its real exit is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Fault>,
}

impl ExitStatus {
    /// Whether the shim died before the container did, so that its processes had to be killed.
    #[must_use]
    pub fn is_of_dead_shim(&self) -> bool {
        self.error
            .as_ref()
            .is_some_and(|fault| fault.step == Step::ShimDied)
    }

    /// The status of a container that ended for a reason of the runtime's.
    #[must_use]
    pub fn of_fault(fault: Fault, finished_at_ns: u64) -> Self {
        Self {
            code: fault.exit_code(),
            signal: None,
            oom_killed: false,
            finished_at_ns,
            error: Some(fault),
        }
    }
}

/// Reads one of the files; `None` when it is not there.
pub fn read<T: DeserializeOwned>(dir: &Path, name: &str) -> Result<Option<T>> {
    let path = dir.join(name);
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).during(Step::Shim, path.display()),
    };
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX)
        .read_to_end(&mut text)
        .during(Step::Shim, path.display())?;
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|error| Fault::refuse(Step::ReadSpec, path.display(), error))
}

/// Writes one of the files so that it is there whole or not at all, also after a crash of the
/// machine when `durable`.
pub fn write<T: Serialize>(dir: &Path, name: &str, value: &T, durable: bool) -> Result<()> {
    let temporary = write_temporary(dir, name, value, durable)?;
    let path = dir.join(name);
    std::fs::rename(&temporary, &path).during(Step::Shim, path.display())
}

/// Like a durable [`write`], but an existing file wins. Returns whether ours was written.
pub fn write_first<T: Serialize>(dir: &Path, name: &str, value: &T) -> Result<bool> {
    let temporary = write_temporary(dir, name, value, true)?;
    let path = dir.join(name);
    let linked = std::fs::hard_link(&temporary, &path);
    std::fs::remove_file(&temporary).during(Step::Shim, temporary.display())?;
    match linked {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error).during(Step::Shim, path.display()),
    }
}

fn write_temporary<T: Serialize>(
    dir: &Path,
    name: &str,
    value: &T,
    durable: bool,
) -> Result<std::path::PathBuf> {
    // Keeps a daemon and a shim, and callers within one daemon, that all settle an exit out of each
    // other's way.
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let unique = WRITES.fetch_add(1, Ordering::Relaxed);
    let path = dir.join(format!(".{name}.{}-{unique}", std::process::id()));
    let text = serde_json::to_vec(value)
        .map_err(|error| Fault::refuse(Step::Shim, path.display(), error))?;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .during(Step::Shim, path.display())?;
    file.write_all(&text).during(Step::Shim, path.display())?;
    if durable {
        file.sync_data().during(Step::Shim, path.display())?;
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_time_is_found_behind_any_command_name() {
        let fields = "S 1 2 3 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 999";
        for name in ["sh", "a b", "x) S 9 (y", ")"] {
            assert_eq!(
                start_ticks(&format!("17 ({name}) {fields}")),
                Some(4242),
                "{name}"
            );
        }
        assert_eq!(start_ticks("17 sh"), None);
    }

    #[test]
    fn this_process_exists_and_one_that_started_at_another_time_does_not() {
        let own = Process::of_pid(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(own.exists());
        assert!(
            !Process {
                start_ticks: own.start_ticks + 1,
                ..own
            }
            .exists()
        );
    }

    #[test]
    fn first_exit_status_wins() {
        let dir = tempfile::tempdir().unwrap();
        let status = |code| ExitStatus {
            code,
            signal: None,
            oom_killed: false,
            finished_at_ns: 1,
            error: None,
        };
        assert!(write_first(dir.path(), EXIT_FILE, &status(3)).unwrap());
        assert!(!write_first(dir.path(), EXIT_FILE, &status(137)).unwrap());
        let read: ExitStatus = read(dir.path(), EXIT_FILE).unwrap().unwrap();
        assert_eq!(read.code, 3);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
