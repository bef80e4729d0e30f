//! The contract between an agent and whatever runs its tasks, and the step function over it.
//!
//! An [`Executor`] stands for the machine, a [`Controller`] for one task on it. [`step`] moves one
//! task by one state; the agent calls it again and again and reports what came of it. Nothing in
//! here does IO, keeps time or knows containers.

mod content;
mod controller;
mod error;
mod executor;
mod logs;
mod step;

pub use content::{Content, ContentError, Contents, Data, Opened};
pub use controller::{Controller, Exit};
pub use error::Error;
pub use executor::Executor;
pub use logs::{LogLine, LogOptions, LogStream, LogStreamName};
pub use step::{Action, Outcome, RETRY_DELAY, action, step};
