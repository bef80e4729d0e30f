//! The shim: one small process per container, its parent and the keeper of its output and exit.
//!
//! It has one thread and sleeps unless something happens. The daemon that started it may end, crash
//! and be replaced meanwhile; everything a later daemon needs is in the container's directory.

mod clients;
mod exec;
mod launch;
mod output;
mod supervise;

use crate::control::{Phase, Reply, line};
use crate::error::{During, Fault, Result, Step};
use crate::private::Private;
use crate::state::{CONFIG_BYTES_MAX, Config, SHIM_LOG_FILE};
use crate::syscall::{self, Forked};
use launch::Launched;
use rustix::io::FdFlags;
use rustix::process::{chdir, setsid};
use rustix::stdio::dup2_stdin;
use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;

/// Signals that are read rather than acted on. All but the first are ignored: a container is only
/// stopped by its daemon, not by a terminal or a service manager that means the daemon.
const SIGNALS: [i32; 7] = [
    libc::SIGCHLD,
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
];

/// A shim is among the last to go when memory runs out: without it its container is lost, too.
const OOM_SCORE_ADJ: &str = "-999";

/// Runs a shim for the container in `dir`. Standard input is a socket to whoever asked for it, who
/// is told over it that the container is created, or why not.
///
/// Returns at once in the process that was started; the shim goes on in a child of it, which nobody
/// waits for.
pub fn run(dir: &Path) -> ExitCode {
    // What a careless parent left open must not reach the container.
    if syscall::close_from(3).is_err() || chdir(dir).is_err() {
        return ExitCode::FAILURE;
    }
    match syscall::fork() {
        Err(_) => ExitCode::FAILURE,
        Ok(Forked::Parent(_)) => ExitCode::SUCCESS,
        Ok(Forked::Child) => {
            leave_last_words();
            match detach().and_then(serve) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            }
        }
    }
}

/// Cuts the ties to the process that started this one. Returns its socket.
fn detach() -> Result<OwnedFd> {
    let detach = || -> rustix::io::Result<OwnedFd> {
        setsid()?;
        let socket = rustix::io::fcntl_dupfd_cloexec(syscall::take_stdin(), 3)?;
        // Standard input is taken up again, so that nothing opened later becomes it.
        dup2_stdin(rustix::stdio::stdout())?;
        rustix::io::fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
        syscall::become_subreaper()?;
        syscall::block_signals(&SIGNALS)?;
        Ok(socket)
    };
    let socket = detach().during(Step::Shim, "detach")?;
    rustix::thread::set_name(c"swarm-shim").during(Step::Shim, "name")?;
    // Not allowed without the capability; then it is killed in its turn.
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJ);
    Ok(socket)
}

/// Makes the container, tells how that went, and looks after it until it ends.
fn serve(socket: OwnedFd) -> Result<()> {
    let mut socket = std::fs::File::from(socket);
    let (launched, config) = match launch(&socket) {
        Ok(launched) => launched,
        Err(fault) => {
            // If nobody listens any more, the failure is found by who attaches later.
            let _ = socket.write_all(&line(&Reply::Failed {
                fault: fault.clone(),
            }));
            return Err(fault);
        }
    };
    let pid = launched.pid;
    let _ = socket.write_all(&line(&Reply::State {
        phase: Phase::Created,
        pid,
    }));
    drop(socket);
    syscall::trim_heap();
    supervise::supervise(launched, config)
}

/// Makes what the daemon tells. What it gives besides the specification is forgotten again once the
/// container has it.
fn launch(socket: &std::fs::File) -> Result<(Launched, Config)> {
    let private = Private::receive(socket).during(Step::ReadSpec, "secrets")?;
    let config = hear(socket)?;
    let launched = launch::launch(&config, &private)?;
    Ok((launched, config))
}

/// What is to be made: one line from whoever asks for it.
fn hear(socket: &std::fs::File) -> Result<Config> {
    let mut line = Vec::new();
    BufReader::new(socket.take(CONFIG_BYTES_MAX))
        .read_until(b'\n', &mut line)
        .during(Step::ReadSpec, "the daemon")?;
    serde_json::from_slice(&line)
        .map_err(|error| Fault::refuse(Step::ReadSpec, "the daemon", error))
}

/// Has a panic written to a file, for the daemon to find.
fn leave_last_words() {
    std::panic::set_hook(Box::new(|panic| {
        // Where, but not what it says: that may be something the container was told. Nothing more
        // can be done about a failure here.
        let place = panic.location().map(ToString::to_string);
        let words = format!("panicked at {}", place.unwrap_or_default());
        let _ = std::fs::write(SHIM_LOG_FILE, words);
    }));
}
