//! Lines of output on their way to a user.

use bytes::Bytes;
use proto::logs as wire;
use types::{NodeId, ServiceId, TaskId, Timestamp};

/// What a line costs of a node's credit besides its bytes (as `logs.proto` says).
const LINE_COST: u64 = 64;

/// Lines that arrived together, and what turned out to be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// In order per task.
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
    /// The node it runs, or ran, on.
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

impl LogLine {
    /// Reads a line a node sent; none when its ids are none.
    pub(crate) fn from_node(line: wire::LogLine, node_id: NodeId) -> Option<Self> {
        let stream = match line.stream() {
            wire::LogStream::Stdout => LogStreamName::Stdout,
            wire::LogStream::Stderr => LogStreamName::Stderr,
        };
        Some(Self {
            service_id: line.service_id.parse().ok()?,
            task_id: line.task_id.parse().ok()?,
            node_id,
            timestamp: Timestamp(line.timestamp),
            stream,
            line: line.line.into(),
        })
    }
}

/// What a line takes of its node's credit.
pub(crate) fn cost(line: &wire::LogLine) -> u64 {
    line.line.len() as u64 + LINE_COST
}
