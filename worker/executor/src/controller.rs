//! What drives one task on a machine.

use std::sync::Arc;

use async_trait::async_trait;
use types::Task;
use types::task::ContainerStatus;

use crate::{Error, LogOptions, LogStream};

/// How a container ended by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// Exit code, or 128 + signal number.
    pub code: i32,
    /// What is known beyond the code, as "out of memory"; empty when nothing is.
    pub reason: String,
}

/// Drives one task. Requests come one at a time, but for `status` and `logs`.
///
/// Every request may find its work done already, by itself before a crash or by an earlier
/// controller of the same task: that is success. The future of a request may be dropped at any
/// await when the task is to be shut down; `shutdown` and `remove` must then find and clear
/// whatever there is.
#[async_trait]
pub trait Controller: Send + Sync + 'static {
    /// Takes note of a changed task. Only what can change on a running task matters.
    ///
    /// # Errors
    /// When the change cannot be taken over.
    async fn update(&self, task: Arc<Task>) -> Result<(), Error>;

    /// Makes everything ready so that `start` is quick: image, mounts, container.
    ///
    /// # Errors
    /// A fatal one rejects the task.
    async fn prepare(&self) -> Result<(), Error>;

    /// Starts the prepared container.
    ///
    /// # Errors
    /// A fatal one fails the task.
    async fn start(&self) -> Result<(), Error>;

    /// Waits until the started container ends. Dropping the future changes nothing.
    ///
    /// # Errors
    /// A fatal one, as when the container is gone, fails the task.
    async fn wait(&self) -> Result<Exit, Error>;

    /// Stops the container gently, then firmly. Nothing to stop is success.
    ///
    /// # Errors
    /// When it could not be stopped.
    async fn shutdown(&self) -> Result<(), Error>;

    /// Stops the container at once. Nothing to stop is success.
    ///
    /// # Errors
    /// When it could not be stopped.
    async fn terminate(&self) -> Result<(), Error>;

    /// Removes the container and all that was made for the task. Nothing to remove is success.
    ///
    /// # Errors
    /// When something could not be removed.
    async fn remove(&self) -> Result<(), Error>;

    /// What is known of the container now.
    fn status(&self) -> Option<ContainerStatus>;

    /// The container's output. Of a task that has none yet the stream ends at once.
    fn logs(&self, options: LogOptions) -> LogStream;
}
