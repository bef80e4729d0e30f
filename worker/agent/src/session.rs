//! Holds one session with the leader: heartbeats and statuses out, assignments and notices in.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use executor::Executor;
use proto::dispatcher::{self as wire, agent_message, manager_message};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use types::NodeId;
use types::node::TlsInfo;

use crate::assignments::Cursor;
use crate::managers::Managers;
use crate::networks::Networks;
use crate::outbox::Batch;
use crate::search::Established;
use crate::tasks::Tasks;
use crate::{NodeNotice, logs};

/// A manager that said nothing for so many heartbeat periods is gone: it answers each heartbeat.
const SILENT_PERIODS_MAX: u32 = 2;
/// Shortest and longest heartbeat period that is taken from a manager.
const PERIOD_MIN: Duration = Duration::from_millis(10);
const PERIOD_MAX: Duration = Duration::from_secs(600);
/// How often the machine is looked at for changes (S8.21).
const DESCRIBE_PERIOD: Duration = Duration::from_secs(20);
/// Lost peers that are told; a node that lost so many is rather lost itself.
const LOST_PEERS_MAX: usize = 1024;
/// Comparisons of the networks that may be under way; a manager asks for one at a time.
const CHECKS_MAX: usize = 4;
/// How long a manager may take to confirm a goodbye.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(500);

/// What a session works on; it outlives the session.
pub(crate) struct Context {
    pub(crate) node_id: NodeId,
    pub(crate) executor: Arc<dyn Executor>,
    pub(crate) tasks: Tasks,
    pub(crate) managers: Managers,
    pub(crate) networks: Networks,
    pub(crate) notices: watch::Sender<Option<NodeNotice>>,
    /// Cancelled when the node leaves for good.
    pub(crate) leaving: CancellationToken,
    /// The machine as last told.
    pub(crate) description: proto::objects::NodeDescription,
    /// Whom the node trusts and who issued its certificate.
    pub(crate) tls: watch::Receiver<TlsInfo>,
    /// Peers that gossip holds for dead; `None` while the node does not gossip.
    pub(crate) lost_peers: watch::Receiver<Option<Arc<BTreeSet<NodeId>>>>,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error("the agent is stopping")]
    Stopped,
    #[error("the manager ended it: {0}")]
    Closed(String),
    #[error("the manager fell silent")]
    Silent,
    #[error(transparent)]
    Mismatch(#[from] crate::assignments::Mismatch),
}

/// Holds the session until it breaks or the agent stops.
pub(crate) async fn run(
    context: &mut Context,
    established: Established,
    shutdown: &CancellationToken,
) -> Ended {
    let publisher = logs::publish(established.channel, context.tasks.clone(), context.node_id);
    let mut session = Session {
        context,
        outgoing: established.outgoing,
        cursor: Cursor::default(),
        period: period(established.started.heartbeat_period),
        heard_at: Instant::now(),
        checks: JoinSet::new(),
    };
    session.context.tasks.shared.outbox.resend();
    // Whoever leads now has not heard it.
    session.context.lost_peers.mark_changed();
    tokio::select! {
        ended = session.hold(established.incoming, shutdown) => ended,
        never = publisher => match never {},
    }
}

struct Session<'a> {
    context: &'a mut Context,
    outgoing: tokio::sync::mpsc::Sender<wire::AgentMessage>,
    cursor: Cursor,
    period: Duration,
    heard_at: Instant,
    /// Comparisons of the machine's networks that were asked for.
    checks: JoinSet<wire::NetworksChecked>,
}

impl Session<'_> {
    async fn hold(
        &mut self,
        mut incoming: tonic::Streaming<wire::ManagerMessage>,
        shutdown: &CancellationToken,
    ) -> Ended {
        let tasks = self.context.tasks.clone();
        let executor = Arc::clone(&self.context.executor);
        let mut describe = tokio::time::interval(DESCRIBE_PERIOD);
        describe.set_missed_tick_behavior(MissedTickBehavior::Delay);
        describe.reset();
        let mut beat_at = Instant::now() + self.period;
        loop {
            let silent_at = self.heard_at + self.period * SILENT_PERIODS_MAX;
            let result = tokio::select! {
                biased;
                () = shutdown.cancelled() => return self.say_goodbye(incoming).await,
                message = incoming.message() => match message {
                    Ok(Some(message)) => self.hear(message).await,
                    Ok(None) => Err(Ended::Closed("end of stream".to_owned())),
                    Err(status) => Err(Ended::Closed(status.message().to_owned())),
                },
                batch = tasks.shared.outbox.next() => self.send(report(batch)),
                () = tokio::time::sleep_until(beat_at) => {
                    beat_at = Instant::now() + self.period;
                    self.send(agent_message::Message::Heartbeat(wire::Heartbeat {}))
                }
                () = tokio::time::sleep_until(silent_at) => Err(Ended::Silent),
                () = self.context.networks.unsaved() => {
                    self.context.networks.save();
                    Ok(())
                }
                Some(Ok(answer)) = self.checks.join_next() => {
                    self.send(agent_message::Message::NetworksChecked(answer))
                }
                _ = describe.tick() => self.describe().await,
                () = executor.described_anew() => self.describe().await,
                Ok(()) = self.context.tls.changed() => self.tell_tls(),
                Ok(()) = self.context.lost_peers.changed() => self.tell_lost_peers(),
            };
            if let Err(ended) = result {
                return ended;
            }
        }
    }

    /// Sends without waiting: a queue that is full means that the connection moves nothing.
    fn send(&self, message: agent_message::Message) -> Result<(), Ended> {
        self.outgoing
            .try_send(wire::AgentMessage {
                message: Some(message),
            })
            .map_err(|_| Ended::Silent)
    }

    async fn hear(&mut self, message: wire::ManagerMessage) -> Result<(), Ended> {
        self.heard_at = Instant::now();
        match message.message {
            Some(manager_message::Message::Started(started)) => {
                self.period = period(started.heartbeat_period);
            }
            Some(manager_message::Message::Heartbeat(ack)) => {
                self.period = period(ack.heartbeat_period);
            }
            Some(manager_message::Message::Assignments(set)) => {
                let mut changes = self.cursor.accept(set)?;
                let networks = std::mem::take(&mut changes.networks);
                self.context.networks.apply(networks, changes.is_complete);
                self.context.tasks.apply(changes).await;
            }
            Some(manager_message::Message::Ack(ack)) => {
                self.context.tasks.shared.outbox.acknowledge(ack.sequence);
            }
            Some(manager_message::Message::Node(notice)) => self.notice(notice),
            Some(manager_message::Message::CheckNetworks(order)) => self.check(&order),
            Some(manager_message::Message::Call(wire::HeartbeatCall {})) => {
                self.send(agent_message::Message::Heartbeat(wire::Heartbeat {}))?;
            }
            // A newer manager says more than this release knows.
            None => {}
        }
        Ok(())
    }

    /// Has the machine's networks compared with what was told up to now; others need not wait.
    fn check(&mut self, order: &wire::CheckNetworks) {
        if self.checks.len() >= CHECKS_MAX {
            return;
        }
        let executor = self.context.executor.clone();
        let mut answer = wire::NetworksChecked {
            id: order.id,
            fingerprint: self.context.networks.fingerprint(),
            ..wire::NetworksChecked::default()
        };
        self.checks.spawn(async move {
            match executor.check_networks().await {
                Ok(check) => answer.check = Some((&check).into()),
                Err(error) => answer.err = error.to_string(),
            }
            answer
        });
    }

    fn notice(&mut self, notice: wire::NodeNotice) {
        let notice = match NodeNotice::try_from(notice) {
            Ok(notice) => notice,
            Err(error) => {
                tracing::error!(%error, "did not understand what the manager said of this node");
                return;
            }
        };
        if let Err(error) = self.context.managers.replace(&notice.managers) {
            tracing::error!(%error, "the list of managers was not kept");
        }
        self.context.executor.set_node(notice.node.clone());
        self.context.notices.send_replace(Some(notice));
    }

    async fn describe(&mut self) -> Result<(), Ended> {
        match self.context.executor.describe().await {
            Ok(description) => {
                let mut description = proto::objects::NodeDescription::from(&description);
                description.tls.clone_from(&self.context.description.tls);
                if description != self.context.description {
                    self.context.description = description.clone();
                    self.send(agent_message::Message::Description(description))?;
                }
            }
            Err(error) => tracing::warn!(%error, "the machine was not described"),
        }
        Ok(())
    }

    /// Tells of another certificate or other roots at once: others wait for it.
    fn tell_tls(&mut self) -> Result<(), Ended> {
        let tls = (&*self.context.tls.borrow_and_update()).into();
        self.context.description.tls = Some(tls);
        let description = self.context.description.clone();
        self.send(agent_message::Message::Description(description))
    }

    fn tell_lost_peers(&mut self) -> Result<(), Ended> {
        let lost = self.context.lost_peers.borrow_and_update().clone();
        let Some(lost) = lost else { return Ok(()) };
        let lost = lost.iter().take(LOST_PEERS_MAX);
        let node_ids = lost.map(ToString::to_string).collect();
        self.send(agent_message::Message::LostPeers(wire::LostPeers {
            node_ids,
        }))
    }

    async fn say_goodbye(&mut self, mut incoming: tonic::Streaming<wire::ManagerMessage>) -> Ended {
        let leaving = self.context.leaving.is_cancelled();
        let goodbye = wire::Goodbye { leaving };
        let told = self.send(agent_message::Message::Goodbye(goodbye));
        if told.is_ok() {
            // The manager ends the stream once it has noted the goodbye.
            let drain = async { while let Ok(Some(_)) = incoming.message().await {} };
            drop(tokio::time::timeout(GOODBYE_TIMEOUT, drain).await);
        }
        Ended::Stopped
    }
}

fn report(batch: Batch) -> agent_message::Message {
    let report = |(task, status): (types::TaskId, types::TaskStatus)| wire::TaskReport {
        task_id: task.to_string(),
        status: Some((&status).into()),
    };
    agent_message::Message::Statuses(wire::StatusBatch {
        sequence: batch.sequence,
        reports: batch.reports.into_iter().map(report).collect(),
    })
}

fn period(nanos: u64) -> Duration {
    Duration::from_nanos(nanos).clamp(PERIOD_MIN, PERIOD_MAX)
}
