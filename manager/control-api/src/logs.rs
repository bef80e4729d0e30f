//! Output of containers: who can be asked for it, and what a request and an answer hold.

use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use store::Kind;
use types::{NodeId, ServiceId, TaskId, Timestamp};

use crate::{ControlApi, Error, key};

/// Whoever can fetch container output from the nodes: the log broker, or a way to it.
#[async_trait]
pub trait LogSource: Send + Sync + 'static {
    /// Asks the nodes; ends by itself unless the options say to follow. Dropping it stops asking.
    ///
    /// # Errors
    /// [`Error::Logs`] when nobody can be asked.
    async fn subscribe(
        &self,
        selector: LogSelector,
        options: LogOptions,
    ) -> Result<LogStream, Error>;
}

/// Batches of lines, in order per task, until everything was said.
pub type LogStream = Pin<Box<dyn Stream<Item = Result<LogBatch, Error>> + Send>>;

/// Whose output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogSelector {
    /// Every task of these services.
    pub services: Vec<ServiceId>,
    /// These tasks.
    pub tasks: Vec<TaskId>,
}

/// Which part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Go on with what is written from now on.
    pub follow: bool,
    /// Lines from the end, per task; none means all.
    pub tail: Option<u64>,
    /// Only lines from this time on; zero means all.
    pub since: Timestamp,
    /// Leave out standard output.
    pub no_stdout: bool,
    /// Leave out standard error.
    pub no_stderr: bool,
}

/// Lines, and at the end what is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogBatch {
    /// Lines in order.
    pub lines: Vec<LogLine>,
    /// Tasks or nodes whose output is missing, one sentence each.
    pub incomplete: Vec<String>,
}

/// One line of a container's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// The service.
    pub service_id: ServiceId,
    /// The task.
    pub task_id: TaskId,
    /// The node it ran on.
    pub node_id: NodeId,
    /// When the node read the line.
    pub timestamp: Timestamp,
    /// Which output.
    pub stream: LogStreamName,
    /// The line without its end.
    pub line: Bytes,
}

/// Which output of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogStreamName {
    /// Standard output.
    #[default]
    Stdout,
    /// Standard error.
    Stderr,
}

impl ControlApi {
    /// Output of services or tasks; each key is looked for as a service first (C18).
    ///
    /// # Errors
    /// When a key names nothing, when nothing is named, when both outputs are left out (S13.08),
    /// or when nobody can be asked.
    pub async fn logs(&self, keys: &[String], options: LogOptions) -> Result<LogStream, Error> {
        if options.no_stdout && options.no_stderr {
            return Err(Error::Precondition(
                "bad parameters: you must choose at least one stream".to_owned(),
            ));
        }
        if keys.is_empty() {
            return Err(Error::NotFound {
                kind: Kind::Service,
                key: "\"\"".to_owned(),
            });
        }
        let state = self.state();
        let mut selector = LogSelector::default();
        for name in keys {
            match key::service(&state, name) {
                Ok(service) => selector.services.push(service.id),
                Err(Error::NotFound { .. }) => match key::task(&state, name) {
                    Ok(task) => selector.tasks.push(task.id),
                    Err(Error::NotFound { .. }) => return Err(no_such_source(name)),
                    Err(error) => return Err(error),
                },
                Err(error) => return Err(error),
            }
        }
        self.logs.subscribe(selector, options).await
    }
}

fn no_such_source(name: &str) -> Error {
    Error::NotFound {
        kind: Kind::Service,
        key: format!("or task {name}"),
    }
}
