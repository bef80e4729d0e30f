//! Cuts the ties to the daemon that starts the process.

use anyhow::{Context, Result};
use rustix::process::{
    DumpableBehavior, Resource, getrlimit, set_dumpable_behavior, setrlimit, setsid,
};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use tokio::signal::unix::{SignalKind, signal};

/// Tells the process that serves from the one that starts it.
pub(super) const DETACHED: &str = "--detached";

/// Among the last to go when memory runs out: without it no name is answered on the node.
const OOM_SCORE_ADJ: &str = "-999";

/// Starts this program again with the same arguments and standard input, in a process whose parent
/// is about to end.
pub(super) fn start_again() -> Result<()> {
    Command::new("/proc/self/exe")
        .arg0("swarm-datapath")
        .args(std::env::args_os().skip(1))
        .arg(DETACHED)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("start again")?;
    Ok(())
}

/// Leaves the daemon's session. Returns the socket to it.
pub(super) fn detach(socket: &Path) -> Result<UnixStream> {
    leave_last_words(socket);
    setsid().context("leave the daemon's session")?;
    let first = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    // Standard input is taken up again, so that nothing opened later becomes it.
    rustix::stdio::dup2_stdin(rustix::stdio::stdout())?;
    rustix::thread::set_name(c"swarm-datapath")?;
    // Not allowed without the capability; then it is killed in its turn.
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJ);
    // It holds keys. Core dumps are forbidden by the daemon's limit already.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    // Each sandbox takes three descriptors, each question passed on another one.
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
    let first = UnixStream::from(first);
    first.set_nonblocking(true)?;
    Ok(first)
}

/// Signals mean the daemon, when a terminal or a service manager sends them: the process only ends
/// when it is told to, or killed.
pub(super) fn ignore_signals() -> Result<()> {
    for kind in [
        SignalKind::hangup(),
        SignalKind::interrupt(),
        SignalKind::quit(),
        SignalKind::terminate(),
        SignalKind::user_defined1(),
        SignalKind::user_defined2(),
    ] {
        // Taking the signal up replaces what it does by default, for good.
        drop(signal(kind).context("take up signals")?);
    }
    Ok(())
}

/// Has a panic written to a file, for people to find.
fn leave_last_words(socket: &Path) {
    let path = socket.with_extension("panic");
    std::panic::set_hook(Box::new(move |panic| {
        // Nothing more can be done about a failure here.
        let _ = std::fs::write(&path, panic.to_string());
    }));
}
