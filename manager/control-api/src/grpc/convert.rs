//! Views as messages; the objects themselves are converted in the `proto` crate.

use proto::ConvertError;
use proto::control as wire;
use proto::logs as wire_logs;
use types::{NodeRole, Timestamp};

use crate::{
    ClusterView, Error, Invalid, LogBatch, LogLine, LogOptions, LogStreamName, NodeView,
    RootRotationView, ServiceProgress, ServiceView, TaskProgress,
};

/// A message whose parts contradict the format is the caller's mistake.
pub(super) fn malformed(error: ConvertError) -> Error {
    Error::Invalid(Invalid::new(error.field, error.problem))
}

pub(super) fn role(number: i32) -> Result<NodeRole, Error> {
    proto::objects::NodeRole::try_from(number)
        .map(NodeRole::from)
        .map_err(|_| Error::Invalid(Invalid::new("role", format!("{number} is not a role"))))
}

impl From<&ClusterView> for wire::ClusterView {
    fn from(view: &ClusterView) -> Self {
        let issuer = view.issuer.clone().unwrap_or_else(|| ca::Issuer {
            subject: String::new(),
            public_key: String::new(),
        });
        Self {
            id: view.id.to_string(),
            meta: Some((&view.meta).into()),
            spec: Some((&view.spec).into()),
            root_cert_pem: view.root_cert_pem.clone(),
            worker_token: view.worker_token.clone(),
            manager_token: view.manager_token.clone(),
            managers: view.managers.clone(),
            root_rotation: view.root_rotation.as_ref().map(Into::into),
            trust_root_digest: view.trust_root_digest.clone(),
            issuer_subject: issuer.subject,
            issuer_public_key: issuer.public_key,
        }
    }
}

impl From<&RootRotationView> for wire::RootRotationView {
    fn from(rotation: &RootRotationView) -> Self {
        Self {
            cert_pem: rotation.cert_pem.clone(),
            skip_unreachable: rotation.skip_unreachable,
            started_at: rotation.started_at.0,
            issuer_subject: rotation.issuer.subject.clone(),
            issuer_public_key: rotation.issuer.public_key.clone(),
            trust_root_digest: rotation.trust_root_digest.clone(),
        }
    }
}

impl From<&NodeView> for wire::NodeView {
    fn from(view: &NodeView) -> Self {
        Self {
            node: Some((&*view.node).into()),
            leader: view.leader,
            reachable: view.reachable,
        }
    }
}

impl From<&ServiceView> for wire::ServiceView {
    fn from(view: &ServiceView) -> Self {
        Self {
            service: Some((&*view.service).into()),
            running_tasks: view.running_tasks,
            desired_tasks: view.desired_tasks,
        }
    }
}

impl From<&ServiceProgress> for wire::ServiceProgress {
    fn from(progress: &ServiceProgress) -> Self {
        Self {
            service: progress.service.as_ref().map(Into::into),
            tasks: progress.tasks.iter().map(Into::into).collect(),
        }
    }
}

impl From<&TaskProgress> for wire::TaskProgress {
    fn from(task: &TaskProgress) -> Self {
        Self {
            id: task.id.to_string(),
            slot: task.slot,
            node_id: task.node_id.map(|id| id.to_string()).unwrap_or_default(),
            state: task.state.number().into(),
            desired_state: task.desired_state.number().into(),
            message: task.message.clone(),
            err: task.err.clone(),
            current: task.current,
        }
    }
}

impl From<wire_logs::LogOptions> for LogOptions {
    fn from(options: wire_logs::LogOptions) -> Self {
        Self {
            follow: options.follow,
            tail: options.tail,
            since: Timestamp(options.since),
            no_stdout: options.no_stdout,
            no_stderr: options.no_stderr,
        }
    }
}

impl From<LogBatch> for wire::ServiceLogsResponse {
    fn from(batch: LogBatch) -> Self {
        Self {
            lines: batch.lines.into_iter().map(line).collect(),
            incomplete: batch.incomplete,
        }
    }
}

fn line(line: LogLine) -> wire_logs::LogLine {
    let stream = match line.stream {
        LogStreamName::Stdout => wire_logs::LogStream::Stdout,
        LogStreamName::Stderr => wire_logs::LogStream::Stderr,
    };
    wire_logs::LogLine {
        service_id: line.service_id.to_string(),
        task_id: line.task_id.to_string(),
        node_id: line.node_id.to_string(),
        timestamp: line.timestamp.0,
        stream: stream.into(),
        line: line.line.into(),
    }
}
