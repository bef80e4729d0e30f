//! What daemon and shim say to each other: one JSON value per line over the control socket.
//!
//! A connection carries any number of requests; each is answered by exactly one [`Reply`], in
//! order, and [`Request::Wait`] is answered when the container ends. A connection that closes
//! without the answer means that the shim is gone. The shim also writes one unasked reply, when the
//! container is created or could not be, to the socket it was given as standard input.

use crate::error::Fault;
use crate::state::ExitStatus;
use serde::{Deserialize, Serialize};

/// Longest line either side accepts, in bytes. Requests are tiny; a reply holds at most one fault.
pub const LINE_BYTES_MAX: usize = 64 << 10;

/// Further programs that may run in a container at once.
pub const EXECS_MAX: usize = 8;

/// Bytes kept of what a further program writes; Docker's number for health checks.
pub const EXEC_OUTPUT_BYTES_MAX: usize = 4096;

/// What the daemon asks of a shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "op")]
pub enum Request {
    /// Let the created container run its program. Answered once the program was executed.
    Start,
    /// Send a signal to the first process.
    Signal {
        /// The signal's number.
        signal: i32,
    },
    /// Send a signal, and SIGKILL if the container still runs after the grace period. Answered at
    /// once; a later stop can only shorten the time left.
    Stop {
        /// The signal's number.
        signal: i32,
        /// Milliseconds until SIGKILL.
        grace_ms: u64,
    },
    /// Run a further program in the container, as the same user, with the same variables and limits.
    /// Answered when it has ended.
    Exec {
        /// Program and arguments.
        args: Vec<String>,
        /// Milliseconds until it is killed.
        timeout_ms: u64,
    },
    /// How it is.
    State,
    /// Tell when it ends.
    Wait,
}

/// A shim's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "reply")]
pub enum Reply {
    /// How the container is.
    State {
        /// How far it has come.
        phase: Phase,
        /// The first process, in the machine's namespace.
        pid: i32,
    },
    /// It was done.
    Done,
    /// The container ended.
    Exited {
        /// How.
        status: ExitStatus,
    },
    /// A further program ended.
    Executed {
        /// Its exit code; 128 and the signal's number if one ended it.
        code: i32,
        /// The beginning of what it wrote.
        output: String,
        /// It was killed because its time was over.
        timed_out: bool,
    },
    /// It could not be done.
    Failed {
        /// Why.
        fault: Fault,
    },
}

/// How far a container has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Everything is set up; the program was not executed yet.
    Created,
    /// The program runs.
    Running,
    /// It ended.
    Exited,
}

/// A value as the line that is sent.
pub(crate) fn line<T: Serialize>(value: &T) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("these types hold nothing JSON cannot say");
    line.push(b'\n');
    line
}
