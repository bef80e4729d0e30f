//! Looks after a container from its creation to its end.

use super::SIGNALS;
use super::clients::Clients;
use super::exec::Execs;
use super::launch::{Launched, read_message};
use super::output::Output;
use crate::cgroup::Cgroup;
use crate::control::{Phase, Reply, Request};
use crate::error::{During, Fault, Result, Step};
use crate::init::{GO, Message};
use crate::log::{Stream, Writer};
use crate::signal::SIGNAL_MAX;
use crate::state::{self, Config, EXIT_FILE, ExitStatus, LOG_DIR, SOCKET_FILE};
use crate::syscall;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{WaitOptions, WaitStatus, wait};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// How long after a start or output the memory it took is given back.
const TRIM_AFTER_MS: u64 = 1000;

struct Supervisor {
    /// What was made, for further programs in it.
    config: Config,
    pid: i32,
    cgroup: Cgroup,
    phase: Phase,
    /// To the first process, until its program runs.
    channel: Option<OwnedFd>,
    /// Who asked for the start that is under way.
    starters: Vec<u64>,
    signals: OwnedFd,
    listener: UnixListener,
    clients: Clients,
    execs: Execs,
    outputs: [Output; 2],
    writer: Writer,
    /// Why the program could not be executed.
    fault: Option<Fault>,
    /// When the grace period of a stop ends.
    kill_at_ms: Option<u64>,
    /// When memory is given back.
    trim_at_ms: Option<u64>,
}

/// Looks after a created container; returns once it has ended and nothing of it is left but its
/// directory.
pub(super) fn supervise(launched: Launched, config: Config) -> Result<()> {
    let Launched {
        pid,
        cgroup,
        channel,
        stdout,
        stderr,
        listener,
        log,
    } = launched;
    let output = |pipe, stream| Output::new(pipe, stream).during(Step::Stdio, "pipes");
    let mut supervisor = Supervisor {
        config,
        pid,
        cgroup,
        phase: Phase::Created,
        channel: Some(channel),
        starters: Vec::new(),
        signals: syscall::signal_descriptor(&SIGNALS).during(Step::Shim, "signals")?,
        listener,
        clients: Clients::default(),
        execs: Execs::default(),
        outputs: [
            output(stdout, Stream::Stdout)?,
            output(stderr, Stream::Stderr)?,
        ],
        writer: Writer::new(PathBuf::from(LOG_DIR), log),
        fault: None,
        kill_at_ms: None,
        trim_at_ms: None,
    };
    loop {
        if let Some(status) = supervisor.turn()? {
            return supervisor.end(status);
        }
    }
}

impl Supervisor {
    /// Waits for something to happen and deals with it. Returns how the first process ended, once it
    /// has.
    fn turn(&mut self) -> Result<Option<WaitStatus>> {
        self.wait_for_events()?;
        let now_ms = syscall::monotonic_ms();
        if is_due(self.kill_at_ms, now_ms) {
            self.kill_at_ms = None;
            // It may have ended at this moment.
            let _ = syscall::kill(self.pid, libc::SIGKILL);
        }
        if is_due(self.trim_at_ms, now_ms) {
            self.trim_at_ms = None;
            syscall::trim_heap();
        }
        for output in &mut self.outputs {
            if output.pump(&mut self.writer) {
                self.trim_at_ms = Some(now_ms + TRIM_AFTER_MS);
            }
        }
        self.execs.pump(now_ms);
        self.listen_to_init();
        self.clients.accept(&self.listener);
        for (client, request) in self.clients.read() {
            self.serve(client, request);
        }
        drain(&self.signals);
        Ok(self.reap())
    }

    fn wait_for_events(&self) -> Result<()> {
        let mut watched = vec![self.signals.as_fd()];
        if self.clients.has_room() {
            watched.push(self.listener.as_fd());
        }
        watched.extend(self.outputs.iter().filter_map(Output::pipe));
        watched.extend(self.execs.pipes());
        // The channel only matters once the program is being executed; before, it is silent.
        watched.extend(self.channel.iter().map(|channel| channel.as_fd()));
        watched.extend(self.clients.streams());
        let mut watched: Vec<_> = watched
            .into_iter()
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        let deadline_ms = [self.kill_at_ms, self.trim_at_ms, self.execs.deadline_ms()]
            .into_iter()
            .flatten()
            .min();
        let timeout = deadline_ms.map(|deadline_ms| {
            let left_ms = deadline_ms.saturating_sub(syscall::monotonic_ms());
            Timespec {
                tv_sec: i64::try_from(left_ms / 1000).unwrap_or(i64::MAX),
                tv_nsec: i64::try_from(left_ms % 1000 * 1_000_000).unwrap_or(0),
            }
        });
        match poll(&mut watched, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(Fault::errno(Step::Shim, "wait for events", errno)),
        }
    }

    /// The channel says why the program could not be executed, or closes because it was.
    fn listen_to_init(&mut self) {
        let Some(channel) = &self.channel else { return };
        let mut ready = [PollFd::new(channel, PollFlags::IN)];
        let no_wait = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        if !poll(&mut ready, Some(&no_wait)).is_ok_and(|count| count > 0) {
            return;
        }
        match read_message(channel) {
            Ok(Some(Message::Failed(fault))) => self.fault = Some(fault),
            Ok(Some(Message::Ready)) => {}
            Ok(None) | Err(_) => {
                self.channel = None;
                // After a fault the process ends by itself, and its end answers the starters.
                if self.fault.is_none() && self.phase == Phase::Running {
                    for client in std::mem::take(&mut self.starters) {
                        self.clients.answer(client, &Reply::Done);
                    }
                }
            }
        }
    }

    fn serve(&mut self, client: u64, request: Request) {
        let reply = match request {
            Request::Start => match self.start() {
                Ok(()) => return self.starters.push(client),
                Err(fault) => Reply::Failed { fault },
            },
            Request::Signal { signal } => self.send(signal),
            Request::Stop { signal, grace_ms } => self.stop(signal, grace_ms),
            Request::Exec { args, timeout_ms } => match self.exec(client, &args, timeout_ms) {
                Ok(()) => return,
                Err(fault) => Reply::Failed { fault },
            },
            Request::State => Reply::State {
                phase: self.phase,
                pid: self.pid,
            },
            Request::Wait => return self.clients.wait(client),
        };
        self.clients.answer(client, &reply);
    }

    fn start(&mut self) -> Result<()> {
        let (Phase::Created, Some(channel)) = (self.phase, &self.channel) else {
            return Err(Fault::refuse(
                Step::Exec,
                "the program",
                "it was started before",
            ));
        };
        rustix::io::write(channel, &[GO]).during(Step::Exec, "the program")?;
        self.phase = Phase::Running;
        self.trim_at_ms = Some(syscall::monotonic_ms() + TRIM_AFTER_MS);
        Ok(())
    }

    fn exec(&mut self, client: u64, args: &[String], timeout_ms: u64) -> Result<()> {
        if self.phase != Phase::Running {
            let reason = "the container does not run";
            return Err(Fault::refuse(Step::Exec, "a further program", reason));
        }
        self.trim_at_ms = Some(syscall::monotonic_ms() + TRIM_AFTER_MS);
        self.execs.start(
            client,
            &self.config,
            self.pid,
            &self.cgroup,
            args,
            timeout_ms,
        )
    }

    fn send(&self, signal: i32) -> Reply {
        if !(1..=SIGNAL_MAX).contains(&signal) {
            let fault = Fault::refuse(Step::Signal, signal, "there is no such signal");
            return Reply::Failed { fault };
        }
        match syscall::kill(self.pid, signal) {
            Ok(()) => Reply::Done,
            Err(errno) => Reply::Failed {
                fault: Fault::errno(Step::Signal, signal, errno),
            },
        }
    }

    fn stop(&mut self, signal: i32, grace_ms: u64) -> Reply {
        // Before its program runs, the first process would not hear the signal: the kernel keeps
        // from it all that it has no handler for.
        if self.phase == Phase::Created || grace_ms == 0 {
            return self.send(libc::SIGKILL);
        }
        let kill_at_ms = syscall::monotonic_ms().saturating_add(grace_ms);
        self.kill_at_ms = Some(self.kill_at_ms.map_or(kill_at_ms, |at| at.min(kill_at_ms)));
        self.send(signal)
    }

    /// Reaps whoever has ended: the first process, further programs, and orphans of processes that
    /// entered the container from outside.
    fn reap(&mut self) -> Option<WaitStatus> {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid.as_raw_pid() == self.pid => return Some(status),
                Ok(Some((pid, status))) => {
                    self.execs
                        .ended(pid.as_raw_pid(), status, &mut self.clients);
                }
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// Writes down and tells the container's end, and clears up.
    fn end(mut self, status: WaitStatus) -> Result<()> {
        for output in &mut self.outputs {
            output.drain(&mut self.writer);
        }
        // A fault may have been sent just before the end.
        while self.fault.is_none() && self.channel.is_some() {
            self.listen_to_init();
        }
        let status = self.exit_status(status);
        // On a full disk it cannot be kept, but still be told to who is there.
        let written = state::write_first(Path::new("."), EXIT_FILE, &status);
        for client in std::mem::take(&mut self.starters) {
            let reply = match &status.error {
                Some(fault) => Reply::Failed {
                    fault: fault.clone(),
                },
                // The program ran, if only for a moment.
                None => Reply::Done,
            };
            self.clients.answer(client, &reply);
        }
        let exited = Reply::Exited { status };
        self.execs.tell_end(&mut self.clients, &exited);
        self.clients.tell_end(&exited);
        // Who connects from now on is turned away and looks into the directory.
        let _ = std::fs::remove_file(SOCKET_FILE);
        self.cgroup.remove().and(written.map(drop))
    }

    fn exit_status(&self, status: WaitStatus) -> ExitStatus {
        let signal = status.terminating_signal();
        let code = match (&self.fault, signal) {
            (Some(fault), _) => fault.exit_code(),
            (None, Some(signal)) => 128 + signal,
            (None, None) => status.exit_status().unwrap_or(255),
        };
        ExitStatus {
            code,
            signal,
            oom_killed: self.cgroup.oom_kills() > 0,
            finished_at_ns: syscall::now_ns(),
            error: self.fault.clone(),
        }
    }
}

fn is_due(at_ms: Option<u64>, now_ms: u64) -> bool {
    at_ms.is_some_and(|at_ms| at_ms <= now_ms)
}

/// Takes the signals that have arrived; what they announce is looked at anyway.
fn drain(signals: &OwnedFd) {
    let mut buffer = [0; 1024];
    while rustix::io::read(signals, &mut buffer).is_ok_and(|count| count > 0) {}
}
