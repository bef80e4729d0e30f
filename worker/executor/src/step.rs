//! Moves one task by one state (S2.05-2.07).

use std::time::Duration;

use types::{Task, TaskState};

use crate::{Controller, Error, Exit};

/// Pause before a request that failed for a passing reason is made again (SwarmKit `exec.Do`).
pub const RETRY_DELAY: Duration = Duration::from_secs(1);

/// What has to be done next for a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing until the task changes.
    Rest,
    /// Note that the node has it.
    Accept,
    /// Note that preparing begins.
    BeginPrepare,
    /// Prepare.
    Prepare,
    /// Note that starting begins.
    BeginStart,
    /// Start.
    Start,
    /// Wait for its end.
    Wait,
    /// Stop it.
    Shutdown,
}

/// What has to be done next for a task in `state` that ought to come to `desired`.
#[must_use]
pub fn action(state: TaskState, desired: TaskState) -> Action {
    if state.is_terminal() {
        return Action::Rest;
    }
    if desired >= TaskState::Shutdown {
        return Action::Shutdown;
    }
    match state {
        // Not this node's to move yet.
        TaskState::New | TaskState::Pending => Action::Rest,
        TaskState::Assigned => Action::Accept,
        TaskState::Accepted => Action::BeginPrepare,
        TaskState::Preparing => Action::Prepare,
        TaskState::Ready if desired > TaskState::Ready => Action::BeginStart,
        TaskState::Ready => Action::Rest,
        TaskState::Starting => Action::Start,
        TaskState::Running => Action::Wait,
        TaskState::Complete
        | TaskState::Shutdown
        | TaskState::Failed
        | TaskState::Rejected
        | TaskState::Remove
        | TaskState::Orphaned => Action::Rest,
    }
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There is nothing to do until the task changes.
    Rest,
    /// The task moved.
    Moved {
        /// Its new state.
        state: TaskState,
        /// The step that was done, or that failed.
        message: &'static str,
        /// Why it failed; empty when it did not.
        err: String,
    },
    /// The step failed for a passing reason: do it again after [`RETRY_DELAY`].
    Retry {
        /// Why it failed.
        err: String,
    },
}

/// Does what comes next for `task`. Dropping the future is safe at any time (see [`Controller`]).
pub async fn step(task: &Task, controller: &dyn Controller) -> Outcome {
    let state = task.status.state;
    match action(state, task.desired_state) {
        Action::Rest => Outcome::Rest,
        Action::Accept => moved(TaskState::Accepted, "accepted"),
        Action::BeginPrepare => moved(TaskState::Preparing, "preparing"),
        Action::Prepare => settle(
            state,
            "preparing",
            controller.prepare().await,
            TaskState::Ready,
            "prepared",
        ),
        Action::BeginStart => moved(TaskState::Starting, "starting"),
        Action::Start => settle(
            state,
            "starting",
            controller.start().await,
            TaskState::Running,
            "started",
        ),
        Action::Wait => match controller.wait().await {
            Ok(exit) => ended(&exit),
            Err(error) => failed(state, "started", error),
        },
        Action::Shutdown => settle(
            state,
            "shutdown",
            controller.shutdown().await,
            TaskState::Shutdown,
            "shutdown",
        ),
    }
}

fn moved(state: TaskState, message: &'static str) -> Outcome {
    Outcome::Moved {
        state,
        message,
        err: String::new(),
    }
}

fn settle(
    from: TaskState,
    doing: &'static str,
    result: Result<(), Error>,
    to: TaskState,
    done: &'static str,
) -> Outcome {
    match result {
        Ok(()) => moved(to, done),
        Err(error) => failed(from, doing, error),
    }
}

fn failed(from: TaskState, doing: &'static str, error: Error) -> Outcome {
    match error {
        Error::Temporary(err) => Outcome::Retry { err },
        Error::Fatal(err) => {
            let state = if from < TaskState::Starting {
                TaskState::Rejected
            } else {
                TaskState::Failed
            };
            Outcome::Moved {
                state,
                message: doing,
                err,
            }
        }
    }
}

/// Judges an exit (S8.47).
fn ended(exit: &Exit) -> Outcome {
    if exit.code == 0 {
        return moved(TaskState::Complete, "finished");
    }
    let mut err = format!("task: non-zero exit ({})", exit.code);
    if !exit.reason.is_empty() {
        err.push_str(": ");
        err.push_str(&exit.reason);
    }
    Outcome::Moved {
        state: TaskState::Failed,
        message: "started",
        err,
    }
}

#[cfg(test)]
mod tests;
