//! Container output for the control API: from the log broker when this manager leads, else through
//! the manager that does.

use async_trait::async_trait;
use ca::Tls;
use ca::tls::{DialOptions, ExpectRole};
use control_api::LogStreamName;
use control_api::{Error, LogBatch, LogLine, LogOptions, LogSelector, LogSource, LogStream};
use futures::StreamExt as _;
use log_broker::{Batch, LogBroker, Selector, Subscription};
use proto::control::control_client::ControlClient;
use proto::control::{ServiceLogsRequest, ServiceLogsResponse};
use proto::logs as wire;
use raft::Raft;
use tonic::Status;
use types::Timestamp;

/// Where the control API of one manager gets container output.
pub(crate) struct Logs {
    broker: LogBroker,
    raft: Raft,
    tls: Tls,
}

impl Logs {
    pub(crate) fn new(broker: LogBroker, raft: Raft, tls: Tls) -> Self {
        Self { broker, raft, tls }
    }

    /// Asks the leader what it would tell its own users.
    async fn ask_leader(
        &self,
        selector: LogSelector,
        options: LogOptions,
    ) -> Result<LogStream, Error> {
        let leader = {
            let status = self.raft.status();
            let status = status.borrow();
            // One that has just won has a broker within moments; asking oneself would not help.
            status
                .leader_addr()
                .filter(|_| !status.is_leader)
                .map(str::to_owned)
        };
        let leader = leader.ok_or_else(|| {
            Error::Logs("the swarm has no leader at the moment, try again".to_owned())
        })?;
        let channel = self
            .tls
            .connect(&leader, ExpectRole::Manager, &DialOptions::default())
            .await
            .map_err(|error| Error::Logs(crate::error::chain(&error)))?;
        let services = selector.services.iter().map(ToString::to_string);
        let tasks = selector.tasks.iter().map(ToString::to_string);
        let request = ServiceLogsRequest {
            keys: services.chain(tasks).collect(),
            options: Some(to_wire(&options)),
        };
        let answer = ControlClient::new(channel)
            .service_logs(request)
            .await
            .map_err(lost)?;
        let batches = answer
            .into_inner()
            .map(|batch| batch.map(from_wire).map_err(lost));
        Ok(batches.boxed())
    }
}

#[async_trait]
impl LogSource for Logs {
    async fn subscribe(
        &self,
        selector: LogSelector,
        options: LogOptions,
    ) -> Result<LogStream, Error> {
        match self
            .broker
            .subscribe(to_broker(&selector), broker_options(&options))
        {
            Ok(subscription) => Ok(batches(subscription)),
            Err(log_broker::Error::NotLeading) => self.ask_leader(selector, options).await,
            Err(error @ log_broker::Error::TooMany) => Err(Error::Logs(error.to_string())),
        }
    }
}

fn batches(subscription: Subscription) -> LogStream {
    futures::stream::unfold(subscription, |mut subscription| async {
        let batch = subscription.next().await?;
        Some((Ok(from_broker(batch)), subscription))
    })
    .boxed()
}

fn to_broker(selector: &LogSelector) -> Selector {
    Selector {
        services: selector.services.iter().copied().collect(),
        tasks: selector.tasks.iter().copied().collect(),
        nodes: [].into(),
    }
}

fn broker_options(options: &LogOptions) -> log_broker::LogOptions {
    log_broker::LogOptions {
        follow: options.follow,
        tail: options.tail,
        since: options.since,
        no_stdout: options.no_stdout,
        no_stderr: options.no_stderr,
    }
}

fn from_broker(batch: Batch) -> LogBatch {
    let line = |line: log_broker::LogLine| LogLine {
        service_id: line.service_id,
        task_id: line.task_id,
        node_id: line.node_id,
        timestamp: line.timestamp,
        stream: match line.stream {
            log_broker::LogStreamName::Stdout => LogStreamName::Stdout,
            log_broker::LogStreamName::Stderr => LogStreamName::Stderr,
        },
        line: line.line,
    };
    LogBatch {
        lines: batch.lines.into_iter().map(line).collect(),
        incomplete: batch.incomplete,
    }
}

fn to_wire(options: &LogOptions) -> wire::LogOptions {
    wire::LogOptions {
        follow: options.follow,
        tail: options.tail,
        since: options.since.0,
        no_stdout: options.no_stdout,
        no_stderr: options.no_stderr,
    }
}

/// What the leader sent; a line whose ids are none is left out.
fn from_wire(batch: ServiceLogsResponse) -> LogBatch {
    let line = |line: wire::LogLine| {
        let stream = match line.stream() {
            wire::LogStream::Stdout => LogStreamName::Stdout,
            wire::LogStream::Stderr => LogStreamName::Stderr,
        };
        Some(LogLine {
            service_id: line.service_id.parse().ok()?,
            task_id: line.task_id.parse().ok()?,
            node_id: line.node_id.parse().ok()?,
            timestamp: Timestamp(line.timestamp),
            stream,
            line: line.line.into(),
        })
    };
    LogBatch {
        lines: batch.lines.into_iter().filter_map(line).collect(),
        incomplete: batch.incomplete,
    }
}

fn lost(status: Status) -> Error {
    Error::Logs(status.message().to_owned())
}
