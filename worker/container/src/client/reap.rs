//! Clears up what a shim could not, and finds out how its container ended. Blocking.

use super::Error;
use super::runtime::Shared;
use crate::cgroup::Cgroup;
use crate::error::{Fault, Step};
use crate::state::{self, EXIT_FILE, ExitStatus, Process, SHIM_LOG_FILE, STATE_FILE, State};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// The most of a dead shim's last words that is repeated, in bytes.
const LAST_WORDS_BYTES_MAX: usize = 2000;

/// How long a process has to end: a killed one, and a shim, which closes its socket first.
const END_MAX: Timespec = Timespec {
    tv_sec: 2,
    tv_nsec: 0,
};

/// How the container of a shim that is gone ended. If the shim did not write it down, its processes
/// and cgroups are cleared away and the exit is written down as [`Step::ShimDied`].
///
/// A shim that lives and only would not talk is an error: its container must not die of that.
pub(super) fn settle(shared: &Shared, id: &str, dir: &Path) -> Result<ExitStatus, Error> {
    let failed = |fault| Error::Fault {
        id: id.to_owned(),
        fault,
    };
    if let Some(status) = state::read::<ExitStatus>(dir, EXIT_FILE).map_err(failed)? {
        if status.is_of_dead_shim() {
            // Whoever wrote that may still be busy clearing; the container has ended once it is done.
            clear_processes(shared, id, dir).map_err(failed)?;
        }
        return Ok(status);
    }
    // An unreadable state names no shim; then there is only the closed socket to go by.
    if let Ok(Some(state)) = state::read::<State>(dir, STATE_FILE)
        && let Some(shim) = open(state.shim)
        && !ends_soon(&shim)
    {
        let error = io::Error::new(
            io::ErrorKind::ConnectionReset,
            "it lives but does not answer",
        );
        return Err(Error::io("talk to the shim of", dir)(error));
    }
    // It may have written the exit last of all.
    if let Some(status) = state::read(dir, EXIT_FILE).map_err(failed)? {
        return Ok(status);
    }
    let lost = io::Error::other("it is gone, and its container with it");
    let fault = Fault::refuse(Step::ShimDied, id, last_words(dir, &lost));
    let status = ExitStatus::of_fault(fault, crate::syscall::now_ns());
    // Written before the clearing, so that a shim that is only just starting sees that it is too
    // late (it looks once it has made its container).
    let first = state::write_first(dir, EXIT_FILE, &status).map_err(failed)?;
    clear_processes(shared, id, dir).map_err(failed)?;
    if first {
        return Ok(status);
    }
    let written = state::read(dir, EXIT_FILE).map_err(failed)?;
    Ok(written.unwrap_or(status))
}

/// Removes all of a container whose shim is gone.
pub(super) fn clear(shared: &Shared, id: &str, dir: &Path) -> Result<(), Error> {
    clear_processes(shared, id, dir).map_err(|fault| Error::Fault {
        id: id.to_owned(),
        fault,
    })?;
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove", dir)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn clear_processes(shared: &Shared, id: &str, dir: &Path) -> Result<(), Fault> {
    // An unreadable state file must not keep the cgroup's processes alive.
    if let Ok(Some(state)) = state::read::<State>(dir, STATE_FILE) {
        kill(state.shim);
        kill(state.init);
    }
    if let Some(cgroup) = Cgroup::open(&shared.hierarchies, shared.cgroup_parent(), id)? {
        cgroup.kill()?;
        cgroup.remove()?;
    }
    Ok(())
}

/// A descriptor of a process, if it is still the one that was written down. The descriptor is taken
/// first, so that the one that was checked is the one that is dealt with.
fn open(process: Process) -> Option<OwnedFd> {
    let pid = Pid::from_raw(process.pid)?;
    let descriptor = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    process.exists().then_some(descriptor)
}

/// Kills a process and waits for its end.
fn kill(process: Process) {
    if let Some(descriptor) = open(process) {
        // It may end in between; and one that cannot end at all is its cgroup's to report.
        let _ = pidfd_send_signal(&descriptor, Signal::KILL);
        ends_soon(&descriptor);
    }
}

/// Whether a process has ended, or does so within [`END_MAX`]. One that nobody has reaped yet has.
fn ends_soon(descriptor: &OwnedFd) -> bool {
    let mut watched = [PollFd::new(descriptor, PollFlags::IN)];
    poll(&mut watched, Some(&END_MAX)).is_ok_and(|count| count > 0)
}

/// What the shim said before it died, or the error its silence caused.
pub(super) fn last_words(dir: &Path, error: &io::Error) -> String {
    match std::fs::read(dir.join(SHIM_LOG_FILE)) {
        Ok(words) if !words.is_empty() => {
            let words = &words[..words.len().min(LAST_WORDS_BYTES_MAX)];
            String::from_utf8_lossy(words).trim_end().to_owned()
        }
        Ok(_) | Err(_) => error.to_string(),
    }
}
