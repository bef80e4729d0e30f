//! Who publishes and who subscribed: all of the broker's memory, behind one lock. No IO.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::logs::broker_message::Message;
use proto::logs::{self as wire};
use store::State;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;
use types::{NodeId, Task, TaskState, Timestamp};

use crate::line::cost;
use crate::{Batch, LogLine, LogOptions, Selector};

/// Bytes of lines that one node may have under way, or waiting to be read, for one subscription.
pub(crate) const CREDIT: u64 = 256 << 10;
/// Orders that may wait for one node; more than this and its stream is stuck.
pub(crate) const ORDERS_MAX: usize = 1024;
/// Subscriptions at the same time.
pub(crate) const SUBSCRIPTIONS_MAX: usize = 256;

/// Where a node's orders go.
pub(crate) type Orders = mpsc::Sender<Result<wire::BrokerMessage, Status>>;

/// The nodes' streams.
type Publishers = BTreeMap<NodeId, Publisher>;

/// One node's stream. Dropping it ends the stream.
#[derive(Debug)]
struct Publisher {
    key: u64,
    orders: Orders,
    _alive: DropGuard,
}

/// Shared by streams and subscriptions.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    inner: Mutex<Inner>,
}

/// Everything, for one time of leading.
#[derive(Debug, Default)]
pub(crate) struct Inner {
    is_open: bool,
    last_key: u64,
    publishers: Publishers,
    subscriptions: BTreeMap<u64, Subscriber>,
}

/// One subscription.
#[derive(Debug)]
struct Subscriber {
    selector: Selector,
    options: LogOptions,
    nodes: BTreeMap<NodeId, Source>,
    queue: VecDeque<(NodeId, u64, Vec<LogLine>)>,
    incomplete: Vec<String>,
    is_over: bool,
    wake: Arc<Notify>,
}

/// One node's part in a subscription.
#[derive(Debug, Default)]
struct Source {
    /// The stream on which it was asked; none while the node has none.
    asked_on: Option<u64>,
    /// It said all it had to say.
    is_done: bool,
    /// What it may still send.
    credit: u64,
    /// What was read and not yet granted again.
    to_grant: u64,
    /// Time of its latest line, to go on from after a broken stream.
    latest: Timestamp,
}

impl Hub {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    pub(crate) fn open(&mut self) {
        self.is_open = true;
    }

    pub(crate) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Ends everything: this manager does not lead any more.
    pub(crate) fn close(&mut self) {
        self.is_open = false;
        for (_, publisher) in std::mem::take(&mut self.publishers) {
            drop(
                publisher
                    .orders
                    .try_send(Err(Status::unavailable("the manager lost leadership"))),
            );
        }
        for subscriber in self.subscriptions.values_mut() {
            subscriber
                .incomplete
                .push("the manager lost leadership".to_owned());
            subscriber.is_over = true;
            subscriber.wake.notify_one();
        }
    }

    /// A node's stream came; the older one, if any, ends. Whatever waited for the node is asked.
    ///
    /// `alive` is cancelled when the stream has to end.
    pub(crate) fn publisher(
        &mut self,
        node: NodeId,
        orders: Orders,
        alive: CancellationToken,
    ) -> u64 {
        self.last_key += 1;
        let key = self.last_key;
        let publisher = Publisher {
            key,
            orders,
            _alive: alive.drop_guard(),
        };
        self.publishers.insert(node, publisher);
        for (id, subscriber) in &mut self.subscriptions {
            if let Some(source) = subscriber.nodes.get_mut(&node)
                && !source.is_done
            {
                let again = subscriber.options.resumed(source);
                ask(
                    &mut self.publishers,
                    *id,
                    &subscriber.selector,
                    again,
                    node,
                    source,
                );
            }
        }
        key
    }

    /// A node's stream is gone.
    pub(crate) fn publisher_gone(&mut self, node: NodeId, key: u64) {
        if self
            .publishers
            .get(&node)
            .is_none_or(|held| held.key != key)
        {
            return;
        }
        self.publishers.remove(&node);
        for subscriber in self.subscriptions.values_mut() {
            let Some(source) = subscriber.nodes.get_mut(&node) else {
                continue;
            };
            source.asked_on = None;
            if !subscriber.options.follow && !source.is_done {
                source.is_done = true;
                subscriber
                    .incomplete
                    .push(format!("node {node}: the connection was lost"));
                subscriber.finish_if_done();
            }
        }
    }

    /// A new subscription, asked of all nodes that are there.
    pub(crate) fn subscribe(
        &mut self,
        state: &State,
        selector: Selector,
        options: LogOptions,
        wake: Arc<Notify>,
    ) -> Option<u64> {
        if self.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            return None;
        }
        self.last_key += 1;
        let id = self.last_key;
        let (nodes, nowhere) = selector.places(state);
        let mut subscriber = Subscriber {
            selector,
            options,
            nodes: BTreeMap::new(),
            queue: VecDeque::new(),
            incomplete: vec![],
            is_over: false,
            wake,
        };
        if !options.follow {
            let tell = |task| format!("task {task} has not been scheduled");
            subscriber.incomplete.extend(nowhere.into_iter().map(tell));
        }
        for node in nodes {
            let source = subscriber.nodes.entry(node).or_default();
            ask(
                &mut self.publishers,
                id,
                &subscriber.selector,
                options,
                node,
                source,
            );
        }
        subscriber.finish_if_done();
        self.subscriptions.insert(id, subscriber);
        Some(id)
    }

    /// Nobody reads this subscription any more.
    pub(crate) fn unsubscribe(&mut self, id: u64) {
        let Some(subscriber) = self.subscriptions.remove(&id) else {
            return;
        };
        for (node, source) in subscriber.nodes {
            if !source.is_done && source.asked_on.is_some() {
                order(&mut self.publishers, node, Message::Close(id.to_string()));
            }
        }
    }

    /// A task came to a node: subscriptions that follow it are asked there too.
    pub(crate) fn placed(&mut self, task: &Task) {
        let Some(node) = task.node_id else { return };
        if task.status.state < TaskState::Assigned {
            return;
        }
        for (id, subscriber) in &mut self.subscriptions {
            if subscriber.options.follow
                && subscriber.selector.selects(task)
                && !subscriber.nodes.contains_key(&node)
            {
                let source = subscriber.nodes.entry(node).or_default();
                let options = subscriber.options;
                ask(
                    &mut self.publishers,
                    *id,
                    &subscriber.selector,
                    options,
                    node,
                    source,
                );
            }
        }
    }

    /// Gives up on nodes that have no stream. Called a moment after subscribing: right after a
    /// change of leaders nodes are still on their way.
    pub(crate) fn give_up_absent(&mut self, id: u64) {
        let Some(subscriber) = self.subscriptions.get_mut(&id) else {
            return;
        };
        for (node, source) in &mut subscriber.nodes {
            if source.asked_on.is_none() && !source.is_done && !subscriber.options.follow {
                source.is_done = true;
                subscriber
                    .incomplete
                    .push(format!("node {node} is not available"));
            }
        }
        subscriber.finish_if_done();
    }

    /// What a node sent for a subscription. Lines of tasks that are not its own are left out.
    pub(crate) fn receive(
        &mut self,
        state: &State,
        node: NodeId,
        message: wire::PublishMessage,
    ) -> Result<(), Status> {
        let id = message.subscription_id.parse().unwrap_or(0);
        // Closed while the message was on its way.
        let Some(subscriber) = self.subscriptions.get_mut(&id) else {
            return Ok(());
        };
        let Some(source) = subscriber.nodes.get_mut(&node) else {
            return Ok(());
        };
        let spent = message.lines.iter().map(cost).sum();
        source.credit = source.credit.checked_sub(spent).ok_or_else(|| {
            Status::resource_exhausted("more lines were sent than there was credit for")
        })?;
        let mut lines = Vec::with_capacity(message.lines.len());
        for line in message.lines {
            let Some(line) = LogLine::from_node(line, node) else {
                continue;
            };
            let task = state.task(line.task_id);
            let is_own = task.is_some_and(|t| {
                t.node_id == Some(node)
                    && t.service_id == line.service_id
                    && subscriber.selector.selects(t)
            });
            if is_own {
                source.latest = source.latest.max(line.timestamp);
                lines.push(line);
            }
        }
        if spent > 0 {
            subscriber.queue.push_back((node, spent, lines));
            subscriber.wake.notify_one();
        }
        if message.done {
            source.is_done = true;
            if !message.err.is_empty() {
                subscriber
                    .incomplete
                    .push(format!("node {node}: {}", message.err));
            }
            subscriber.finish_if_done();
        }
        Ok(())
    }

    /// What a subscription's reader gets next.
    pub(crate) fn take(&mut self, id: u64) -> Taken {
        let Some(subscriber) = self.subscriptions.get_mut(&id) else {
            return Taken::End;
        };
        if let Some((node, spent, lines)) = subscriber.queue.pop_front() {
            if let Some(source) = subscriber.nodes.get_mut(&node) {
                source.to_grant += spent;
                // In halves: a grant for each message would double the messages.
                if source.to_grant >= CREDIT / 2 && !source.is_done && source.asked_on.is_some() {
                    let bytes = std::mem::take(&mut source.to_grant);
                    source.credit += bytes;
                    let credit = wire::Credit {
                        subscription_id: id.to_string(),
                        bytes,
                    };
                    order(&mut self.publishers, node, Message::Credit(credit));
                }
            }
            return Taken::Batch(Batch {
                lines,
                incomplete: vec![],
            });
        }
        if !subscriber.is_over {
            return Taken::Nothing;
        }
        if subscriber.incomplete.is_empty() {
            return Taken::End;
        }
        let incomplete = std::mem::take(&mut subscriber.incomplete);
        Taken::Batch(Batch {
            lines: vec![],
            incomplete,
        })
    }
}

/// What a reader finds.
#[derive(Debug)]
pub(crate) enum Taken {
    /// Something.
    Batch(Batch),
    /// Nothing yet.
    Nothing,
    /// Nothing ever again.
    End,
}

impl Subscriber {
    fn finish_if_done(&mut self) {
        if !self.options.follow && self.nodes.values().all(|source| source.is_done) {
            self.is_over = true;
            self.wake.notify_one();
        }
    }
}

impl LogOptions {
    /// The options for a node that is asked again after its stream broke: from where it was.
    fn resumed(self, source: &Source) -> Self {
        if source.latest.is_set() {
            Self {
                tail: None,
                since: Timestamp(source.latest.0 + 1),
                ..self
            }
        } else {
            self
        }
    }
}

/// Asks a node, if it has a stream, to publish for a subscription.
fn ask(
    publishers: &mut Publishers,
    id: u64,
    selector: &Selector,
    options: LogOptions,
    node: NodeId,
    source: &mut Source,
) {
    let subscription = wire::Subscription {
        id: id.to_string(),
        selector: Some(selector.to_wire()),
        options: Some(options.to_wire()),
        credit: CREDIT,
    };
    source.credit = CREDIT;
    source.to_grant = 0;
    source.asked_on = order(publishers, node, Message::Open(subscription));
}

/// Sends an order. A node whose stream is stuck loses it; it opens another when it moves again.
fn order(publishers: &mut Publishers, node: NodeId, message: Message) -> Option<u64> {
    let publisher = publishers.get(&node)?;
    let key = publisher.key;
    if publisher
        .orders
        .try_send(Ok(wire::BrokerMessage {
            message: Some(message),
        }))
        .is_err()
    {
        publishers.remove(&node);
        return None;
    }
    Some(key)
}

#[cfg(test)]
impl Inner {
    pub(crate) fn publishers_count(&self) -> usize {
        self.publishers.len()
    }

    pub(crate) fn subscriptions_count(&self) -> usize {
        self.subscriptions.len()
    }
}
