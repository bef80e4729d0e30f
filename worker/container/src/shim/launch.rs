//! Makes a container, up to the point where its program could be executed.

use crate::cgroup::{Cgroup, Hierarchies};
use crate::error::{During, Fault, Result, Step};
use crate::init::{self, ADMITTED, Init, MESSAGE_BYTES_MAX, Message};
use crate::private::Private;
use crate::rootfs;
use crate::spec::{LogOptions, Network};
use crate::state::{
    self, Config, ETC_DIR, EXIT_FILE, LOG_DIR, Process, ROOTFS_DIR, SOCKET_FILE, STATE_FILE, State,
    UPPER_DIR, WORK_DIR,
};
use crate::syscall::{self, Forked};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, umask, waitpid};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

/// A container that is ready to run its program, and all that is needed to look after it.
pub(super) struct Launched {
    pub(super) pid: i32,
    pub(super) cgroup: Cgroup,
    /// To the first process, until its program runs.
    pub(super) channel: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    pub(super) listener: UnixListener,
    pub(super) log: LogOptions,
}

/// Makes the container whose directory is the working directory. On failure nothing of it is left
/// but that directory.
pub(super) fn launch(config: &Config, private: &Private) -> Result<Launched> {
    umask(rustix::fs::Mode::from_raw_mode(0o022));
    make_dirs(config)?;
    rootfs::write_etc(&config.spec, &init::hostname(config))?;
    let hierarchies = Hierarchies::detect()?;
    let (parent, id) = (&config.cgroup_parent, &config.id);
    let cgroup = Cgroup::create(&hierarchies, parent, id, &config.spec.resources)?;
    match launch_in(config, private, &hierarchies, &cgroup) {
        Ok(Parts {
            pid,
            channel,
            stdout,
            stderr,
            listener,
        }) => {
            let log = config.spec.log;
            Ok(Launched {
                pid,
                cgroup,
                channel,
                stdout,
                stderr,
                listener,
                log,
            })
        }
        Err(fault) => {
            // The fault that matters is the first one; the daemon clears up what is left.
            let _ = cgroup.kill();
            let _ = cgroup.remove();
            Err(fault)
        }
    }
}

struct Parts {
    pid: i32,
    channel: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
    listener: UnixListener,
}

fn launch_in(
    config: &Config,
    private: &Private,
    hierarchies: &Hierarchies,
    cgroup: &Cgroup,
) -> Result<Parts> {
    let stdout = pipe_with(PipeFlags::CLOEXEC).during(Step::Stdio, "pipe")?;
    let stderr = pipe_with(PipeFlags::CLOEXEC).during(Step::Stdio, "pipe")?;
    let (channel, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .during(Step::Shim, "channel")?;
    let mut flags =
        libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    if config.spec.network == Network::Own {
        flags |= libc::CLONE_NEWNET;
    }
    let forked =
        syscall::clone3(flags, cgroup.birthplace()).during(Step::Clone, "first process")?;
    let pid = match forked {
        Forked::Child => Init {
            config,
            private,
            hierarchies,
            channel: theirs,
            stdout: stdout.1,
            stderr: stderr.1,
        }
        .run(),
        Forked::Parent(pid) => pid,
    };
    drop((theirs, stdout.1, stderr.1));
    // The process sets up its file system meanwhile, and waits for the word before it goes on to
    // what the container can see.
    let published = cgroup
        .admit(pid)
        .and_then(|()| {
            rustix::io::write(&channel, &[ADMITTED])
                .during(Step::EnterCgroup, pid)
                .map(drop)
        })
        .or_else(|fault| first_fault(&channel, fault))
        .and_then(|()| wait_ready(&channel, pid))
        .and_then(|()| publish(pid));
    match published {
        Ok(listener) => Ok(Parts {
            pid,
            channel,
            stdout: stdout.0,
            stderr: stderr.0,
            listener,
        }),
        Err(fault) => {
            // It may have ended by itself; either way it is reaped.
            let _ = syscall::kill(pid, libc::SIGKILL);
            let _ = Pid::from_raw(pid).map(|pid| waitpid(Some(pid), WaitOptions::empty()));
            Err(fault)
        }
    }
}

/// A process that has failed cannot be admitted; its own reason is the better one.
fn first_fault(channel: &OwnedFd, fault: Fault) -> Result<()> {
    let no_wait = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let mut ready = [PollFd::new(channel, PollFlags::IN)];
    if poll(&mut ready, Some(&no_wait)).is_ok_and(|count| count > 0)
        && let Ok(Some(Message::Failed(earlier))) = read_message(channel)
    {
        return Err(earlier);
    }
    Err(fault)
}

/// Waits until the first process has set everything up.
fn wait_ready(channel: &OwnedFd, pid: i32) -> Result<()> {
    match read_message(channel).during(Step::Shim, "listen to the first process")? {
        Some(Message::Ready) => Ok(()),
        Some(Message::Failed(fault)) => Err(fault),
        None => Err(Fault::refuse(
            Step::InitDied,
            pid,
            "it ended while setting up, perhaps for memory",
        )),
    }
}

/// What the first process says next; `None` when it has nothing more to say.
pub(super) fn read_message(channel: &OwnedFd) -> rustix::io::Result<Option<Message>> {
    // Room that is not touched costs nothing.
    let mut bytes = Vec::with_capacity(MESSAGE_BYTES_MAX);
    let mut was_reset = false;
    loop {
        match rustix::io::read(channel, rustix::buffer::spare_capacity(&mut bytes)) {
            Ok(0) => return Ok(None),
            Ok(_) => {
                return serde_json::from_slice(&bytes)
                    .map(Some)
                    .or(Err(Errno::PROTO));
            }
            // It ended without having read all it was sent. The kernel tells that first, and what
            // it had said before only then.
            Err(Errno::CONNRESET) if !was_reset => was_reset = true,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Lets daemons find the container. The socket comes last: who can connect finds everything there.
fn publish(pid: i32) -> Result<UnixListener> {
    let here = Path::new(".");
    let own = rustix::process::getpid().as_raw_pid();
    let process = |pid: i32| Process::of_pid(pid).during(Step::Shim, format!("process {pid}"));
    let state = State {
        shim: process(own)?,
        init: process(pid)?,
    };
    state::write(here, STATE_FILE, &state, false)?;
    let before = umask(rustix::fs::Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(SOCKET_FILE).during(Step::Shim, SOCKET_FILE);
    umask(before);
    let listener = listener?;
    listener
        .set_nonblocking(true)
        .during(Step::Shim, SOCKET_FILE)?;
    // A daemon that took this shim for dead has written down the container's end already.
    if here.join(EXIT_FILE).exists() {
        return Err(Fault::refuse(
            Step::Shim,
            EXIT_FILE,
            "the container was given up meanwhile",
        ));
    }
    Ok(listener)
}

fn make_dirs(config: &Config) -> Result<()> {
    for (name, mode) in [
        (UPPER_DIR, 0o755),
        (WORK_DIR, 0o700),
        (ROOTFS_DIR, 0o700),
        (ETC_DIR, 0o755),
        (LOG_DIR, 0o700),
    ] {
        std::fs::DirBuilder::new()
            .mode(mode)
            .create(name)
            .during(Step::Shim, name)?;
    }
    // The container's root directory is the writable layer's; it should look like the image's.
    if let Some(layer) = config.spec.layers.first() {
        let like_image = || -> std::io::Result<()> {
            let image = std::fs::metadata(layer)?;
            let mode = std::fs::Permissions::from_mode(image.mode() & 0o7777);
            std::fs::set_permissions(UPPER_DIR, mode)?;
            std::os::unix::fs::chown(UPPER_DIR, Some(image.uid()), Some(image.gid()))
        };
        like_image().during(Step::Overlay, layer.display())?;
    }
    Ok(())
}
