//! Programs that run in the container besides its own, for as long as somebody waits for them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::WaitStatus;

use super::clients::Clients;
use crate::cgroup::Cgroup;
use crate::control::{EXEC_OUTPUT_BYTES_MAX, EXECS_MAX, Reply};
use crate::error::{During, Fault, Result, Step};
use crate::init::{ADMITTED, join::Join};
use crate::state::Config;
use crate::syscall::{self, Forked};

/// Bytes read at once.
const READ_BYTES: usize = 4 << 10;

/// A program on its way.
struct Exec {
    client: u64,
    pid: i32,
    pipe: OwnedFd,
    /// The beginning of what it wrote.
    output: Vec<u8>,
    kill_at_ms: u64,
    timed_out: bool,
}

/// Every program on its way.
#[derive(Default)]
pub(super) struct Execs(Vec<Exec>);

impl Execs {
    /// Starts a program. Its end answers the client.
    pub(super) fn start(
        &mut self,
        client: u64,
        config: &Config,
        init: i32,
        cgroup: &Cgroup,
        args: &[String],
        timeout_ms: u64,
    ) -> Result<()> {
        if self.0.len() >= EXECS_MAX {
            let reason = format!("{EXECS_MAX} further programs run already");
            return Err(Fault::refuse(Step::Exec, "a further program", &reason));
        }
        let (pipe, output) = pipe_with(PipeFlags::CLOEXEC).during(Step::Stdio, "pipe")?;
        let (channel, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .during(Step::Shim, "channel")?;
        let join = Join {
            config,
            args,
            init,
            channel: theirs,
            output,
        };
        let helper = match syscall::clone3(0, cgroup.birthplace()) {
            Ok(Forked::Child) => join.run(),
            Ok(Forked::Parent(pid)) => pid,
            Err(errno) => return Err(errno).during(Step::Clone, "a further process"),
        };
        drop(join);
        let admitted = cgroup.admit(helper).and_then(|()| {
            rustix::io::write(&channel, &[ADMITTED])
                .during(Step::EnterCgroup, helper)
                .map(drop)
        });
        if let Err(fault) = admitted {
            // It is reaped with everyone else.
            let _ = syscall::kill(helper, libc::SIGKILL);
            return Err(fault);
        }
        let pid = read_pid(&channel).during(Step::Exec, "a further process")?;
        rustix::io::ioctl_fionbio(&pipe, true).during(Step::Stdio, "pipe")?;
        let Some(pid) = pid else {
            return Err(Fault::refuse(
                Step::Exec,
                "enter the container",
                said(&pipe),
            ));
        };
        self.0.push(Exec {
            client,
            pid,
            pipe,
            output: Vec::new(),
            kill_at_ms: syscall::monotonic_ms().saturating_add(timeout_ms),
            timed_out: false,
        });
        Ok(())
    }

    pub(super) fn pipes(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(|exec| exec.pipe.as_fd())
    }

    /// When the next one has had its time.
    pub(super) fn deadline_ms(&self) -> Option<u64> {
        let waiting = self.0.iter().filter(|exec| !exec.timed_out);
        waiting.map(|exec| exec.kill_at_ms).min()
    }

    /// Takes up output, and kills what has had its time.
    pub(super) fn pump(&mut self, now_ms: u64) {
        for exec in &mut self.0 {
            exec.read();
            if !exec.timed_out && exec.kill_at_ms <= now_ms {
                exec.timed_out = true;
                // All of its group; it may have ended at this moment.
                let _ = syscall::kill(-exec.pid, libc::SIGKILL);
                let _ = syscall::kill(exec.pid, libc::SIGKILL);
            }
        }
    }

    /// Answers whoever waits for the process that has ended.
    pub(super) fn ended(&mut self, pid: i32, status: WaitStatus, clients: &mut Clients) {
        let Some(at) = self.0.iter().position(|exec| exec.pid == pid) else {
            return;
        };
        let mut exec = self.0.swap_remove(at);
        exec.read();
        let code = match (status.terminating_signal(), status.exit_status()) {
            (Some(signal), _) => 128 + signal,
            (None, code) => code.unwrap_or(255),
        };
        let reply = Reply::Executed {
            code,
            output: String::from_utf8_lossy(&exec.output).into_owned(),
            timed_out: exec.timed_out,
        };
        clients.answer(exec.client, &reply);
    }

    /// Answers everyone that the container has ended.
    pub(super) fn tell_end(self, clients: &mut Clients, reply: &Reply) {
        for exec in self.0 {
            clients.answer(exec.client, reply);
        }
    }
}

impl Exec {
    /// Reads all there is. What is beyond the limit is read, too, so that nobody blocks on it.
    fn read(&mut self) {
        let mut buffer = [0; READ_BYTES];
        while let Ok(count @ 1..) = rustix::io::read(&self.pipe, &mut buffer) {
            let room = EXEC_OUTPUT_BYTES_MAX - self.output.len();
            self.output.extend_from_slice(&buffer[..count.min(room)]);
        }
    }
}

/// The number of the program's process; `None` when there will be none.
fn read_pid(channel: &OwnedFd) -> rustix::io::Result<Option<i32>> {
    let mut bytes = [0; 4];
    loop {
        match rustix::io::read(channel, &mut bytes) {
            Ok(4) => return Ok(Some(i32::from_ne_bytes(bytes))),
            Ok(_) | Err(Errno::CONNRESET) => return Ok(None),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// What was said instead of output.
fn said(pipe: &OwnedFd) -> String {
    let mut buffer = [0; READ_BYTES];
    let count = rustix::io::read(pipe, &mut buffer).unwrap_or(0);
    String::from_utf8_lossy(&buffer[..count]).into_owned()
}
