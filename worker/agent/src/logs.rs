//! Publishes the output of the node's tasks to whoever subscribed at the leader's log broker.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use executor::{LogLine, LogOptions, LogStreamName};
use futures::StreamExt;
use proto::logs::broker_message::Message;
use proto::logs::log_broker_client::LogBrokerClient;
use proto::logs::{self as wire};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use types::{NodeId, TaskState, Timestamp};

use crate::tasks::{Selector, Source, Tasks};

/// What a line costs besides its bytes (as `logs.proto` says).
const LINE_COST: usize = 64;
/// Credit one message takes at most, but for a longer single line.
const MESSAGE_COST_MAX: usize = 32 << 10;
/// Messages that may wait for the connection, over all subscriptions.
const OUTGOING_MAX: usize = 16;
/// Pause before the stream is opened again after it broke while the session holds.
const REOPEN_DELAY: Duration = Duration::from_millis(250);

/// Publishes for as long as the session holds; the caller drops it with the session.
pub(crate) async fn publish(channel: Channel, tasks: Tasks, own: NodeId) -> Infallible {
    loop {
        if let Err(status) = publish_once(channel.clone(), &tasks, own).await {
            tracing::debug!(%status, "the stream of logs broke");
        }
        tokio::time::sleep(REOPEN_DELAY).await;
    }
}

async fn publish_once(channel: Channel, tasks: &Tasks, own: NodeId) -> Result<(), tonic::Status> {
    let (outgoing, queue) = mpsc::channel(OUTGOING_MAX);
    let mut client = LogBrokerClient::new(channel);
    let mut incoming = client
        .publish(ReceiverStream::new(queue))
        .await?
        .into_inner();
    let mut running = JoinSet::new();
    let mut subscriptions: BTreeMap<String, (AbortHandle, Arc<Semaphore>)> = BTreeMap::new();
    loop {
        let message = tokio::select! {
            message = incoming.message() => message?,
            Some(ended) = running.join_next() => {
                if let Ok(id) = ended {
                    subscriptions.remove::<String>(&id);
                }
                continue;
            }
        };
        let Some(message) = message else {
            return Ok(());
        };
        match message.message {
            Some(Message::Open(subscription)) => {
                let id = subscription.id.clone();
                let credit = Arc::new(Semaphore::new(permits(subscription.credit)));
                let publication = Publication {
                    id: id.clone(),
                    own,
                    outgoing: outgoing.clone(),
                    credit: credit.clone(),
                };
                let task = running.spawn(publication.run(subscription, tasks.clone()));
                subscriptions.insert(id, (task, credit));
            }
            Some(Message::Close(id)) => {
                if let Some((task, _)) = subscriptions.remove(&id) {
                    task.abort();
                }
            }
            Some(Message::Credit(more)) => {
                if let Some((_, credit)) = subscriptions.get(&more.subscription_id) {
                    let room = Semaphore::MAX_PERMITS - credit.available_permits();
                    credit.add_permits(permits(more.bytes).min(room));
                }
            }
            None => {}
        }
    }
}

fn permits(bytes: u64) -> usize {
    usize::try_from(bytes)
        .unwrap_or(usize::MAX)
        .min(Semaphore::MAX_PERMITS)
}

/// One subscription's way out.
#[derive(Clone)]
struct Publication {
    id: String,
    own: NodeId,
    outgoing: mpsc::Sender<wire::PublishMessage>,
    credit: Arc<Semaphore>,
}

impl Publication {
    /// Publishes the output of every task that is asked for, then says that it is done. While
    /// following it is done only when it is closed: more tasks may come.
    async fn run(self, subscription: wire::Subscription, tasks: Tasks) -> String {
        let options = options(subscription.options.unwrap_or_default());
        let selector = selector(subscription.selector.unwrap_or_default());
        let mut problems = BTreeSet::new();
        if options.follow {
            let mut added = tasks.added();
            let mut readers = JoinSet::new();
            let mut seen = BTreeSet::new();
            loop {
                added.mark_unchanged();
                for source in tasks.sources(&selector, self.own) {
                    if seen.insert(source.task.id) {
                        let publication = self.clone();
                        readers.spawn(async move { publication.read(source, options).await });
                    }
                }
                tokio::select! {
                    result = added.changed() => if result.is_err() { break },
                    Some(_ended) = readers.join_next() => {}
                }
            }
        } else {
            for source in tasks.sources(&selector, self.own) {
                if let Err(problem) = self.read(source, options).await {
                    problems.insert(problem);
                }
            }
        }
        let err = problems.into_iter().collect::<Vec<_>>().join("; ");
        self.send(wire::PublishMessage {
            done: true,
            err,
            ..self.message()
        })
        .await;
        self.id
    }

    /// Publishes one task's output.
    async fn read(&self, mut source: Source, options: LogOptions) -> Result<(), String> {
        if options.follow {
            // Before it starts there is nothing to follow. An error means that it was forgotten.
            let started = |status: &types::TaskStatus| status.state >= TaskState::Starting;
            drop(source.observed.wait_for(started).await);
        }
        let mut stream = source.controller.logs(options);
        while let Some(lines) = stream.next().await {
            let lines = lines.map_err(|error| format!("task {}: {error}", source.task.id))?;
            let mut lines = lines.into_iter().peekable();
            while lines.peek().is_some() {
                let mut message = self.message();
                let mut cost = 0;
                while let Some(line) = lines.next_if(|line| {
                    message.lines.is_empty() || cost + line_cost(line) <= MESSAGE_COST_MAX
                }) {
                    cost += line_cost(&line);
                    message.lines.push(self.line(&source, line));
                }
                self.pay(cost).await;
                self.send(message).await;
            }
        }
        Ok(())
    }

    /// Waits for credit. It is paid in parts, since a broker may grant less at once than a line costs.
    async fn pay(&self, mut cost: usize) {
        while cost > 0 {
            let part = cost.min(MESSAGE_COST_MAX);
            let permits = u32::try_from(part).unwrap_or(u32::MAX);
            match self.credit.acquire_many(permits).await {
                Ok(paid) => paid.forget(),
                // Never closed.
                Err(_) => return,
            }
            cost -= part;
        }
    }

    async fn send(&self, message: wire::PublishMessage) {
        // A broken stream ends this task soon.
        drop(self.outgoing.send(message).await);
    }

    fn message(&self) -> wire::PublishMessage {
        wire::PublishMessage {
            subscription_id: self.id.clone(),
            ..Default::default()
        }
    }

    fn line(&self, source: &Source, line: LogLine) -> wire::LogLine {
        let stream = match line.stream {
            LogStreamName::Stdout => wire::LogStream::Stdout,
            LogStreamName::Stderr => wire::LogStream::Stderr,
        };
        wire::LogLine {
            service_id: source.task.service_id.to_string(),
            task_id: source.task.id.to_string(),
            node_id: self.own.to_string(),
            timestamp: line.timestamp.0,
            stream: stream.into(),
            line: line.line.into(),
        }
    }
}

fn line_cost(line: &LogLine) -> usize {
    line.line.len() + LINE_COST
}

fn options(options: wire::LogOptions) -> LogOptions {
    LogOptions {
        follow: options.follow,
        tail: options.tail,
        since: Timestamp(options.since),
        stdout: !options.no_stdout,
        stderr: !options.no_stderr,
    }
}

/// Ids that are none select nothing.
fn selector(selector: wire::LogSelector) -> Selector {
    Selector {
        services: selector
            .service_ids
            .iter()
            .filter_map(|id| id.parse().ok())
            .collect(),
        tasks: selector
            .task_ids
            .iter()
            .filter_map(|id| id.parse().ok())
            .collect(),
        nodes: selector
            .node_ids
            .iter()
            .filter_map(|id| id.parse().ok())
            .collect(),
    }
}
