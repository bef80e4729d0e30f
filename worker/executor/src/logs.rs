//! Output of a task's container, as a controller hands it out.

use std::pin::Pin;

use bytes::Bytes;
use futures::Stream;
use types::Timestamp;

use crate::Error;

/// Batches of lines in the order they were written.
pub type LogStream = Pin<Box<dyn Stream<Item = Result<Vec<LogLine>, Error>> + Send>>;

/// Which part of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Go on with what is written from now on, until the container ends.
    pub follow: bool,
    /// Lines from the end; none means all.
    pub tail: Option<u64>,
    /// Only lines from this time on; zero means all.
    pub since: Timestamp,
    /// With standard output.
    pub stdout: bool,
    /// With standard error.
    pub stderr: bool,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When the line was read from the container.
    pub timestamp: Timestamp,
    /// Which output.
    pub stream: LogStreamName,
    /// The line without its end.
    pub line: Bytes,
}

/// Which output of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStreamName {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}
