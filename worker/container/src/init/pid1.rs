//! The minimal init of `--init`: runs the program as its child, reaps orphans, passes signals on.

use super::Message;
use super::exec::Program;
use crate::error::{During, Result, Step};
use crate::signal::SIGNAL_MAX;
use crate::syscall::{self, Forked};
use rustix::process::{WaitOptions, WaitStatus, wait};
use std::os::fd::{AsRawFd, OwnedFd};

/// Runs the program as a child of this process and ends as it ends.
pub(super) fn run_as_child(
    channel: &OwnedFd,
    program: &Program,
) -> Result<std::convert::Infallible> {
    let all: Vec<i32> = (1..=SIGNAL_MAX).collect();
    syscall::block_signals(&all).during(Step::Exec, "signals")?;
    let child = match syscall::clone3(0, None).or_else(|_| syscall::fork()) {
        Ok(Forked::Parent(pid)) => pid,
        Ok(Forked::Child) => {
            syscall::reset_signals().during(Step::Exec, "signals")?;
            let fault = program.execute();
            let code = fault.exit_code();
            let message = serde_json::to_vec(&Message::Failed(fault)).unwrap_or_default();
            let _ = rustix::io::write(channel, &message);
            syscall::exit_now(code)
        }
        Err(errno) => return Err(errno).during(Step::Clone, "the program's process"),
    };
    // The child's copy of the channel tells the shim when the program runs; output and the rest are
    // the program's alone.
    debug_assert!(
        channel.as_raw_fd() > 2,
        "standard streams were connected before"
    );
    syscall::close_from(0).during(Step::Exec, "descriptors")?;
    loop {
        if let Some(code) = reap(child) {
            syscall::exit_now(code);
        }
        let signal = syscall::next_signal(&all);
        if signal != libc::SIGCHLD {
            // The child may be gone; then the loop ends at its next turn.
            let _ = syscall::kill(child, signal);
        }
    }
}

/// Reaps whoever has ended; the program's exit code if it was it.
fn reap(program: i32) -> Option<i32> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid.as_raw_pid() == program => return Some(code(status)),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return None,
        }
    }
}

fn code(status: WaitStatus) -> i32 {
    status
        .exit_status()
        .or_else(|| status.terminating_signal().map(|signal| 128 + signal))
        .unwrap_or(255)
}
