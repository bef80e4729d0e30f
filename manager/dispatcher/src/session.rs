//! One agent's session: what it says is noted, what it has to know is sent.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use proto::dispatcher::{self as wire, AssignmentChange, agent_message, manager_message};
use seal::SealKey;
use store::{Action, State};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Status, Streaming};
use types::NodeId;
use types::id::{IdSource, RandomIds};

use crate::assignments::Assignments;
use crate::check::{Checks, Next};
use crate::content::Contents;
use crate::fetch::Fetches;
use crate::liveness::SessionKey;
use crate::mailbox::{Dirty, Mailbox};
use crate::notice::Told;
use crate::reach::{self, DirtyReach, SentReach};
use crate::reports;
use crate::service::{description_of, unwritten};
use crate::suspicion::PEERS_MAX;
use crate::term::Term;
use crate::wireguard_keys;
use crate::writer::Written;

/// A session that was let in.
pub(crate) struct Session {
    term: Arc<Term>,
    node: NodeId,
    key: SessionKey,
    mailbox: Arc<Mailbox>,
    outgoing: mpsc::Sender<Result<wire::ManagerMessage, Status>>,
    assignments: Assignments,
    reach: SentReach,
    contents: Contents,
    checks: Checks,
    told: Told,
    /// The batch that is being stored.
    batch: Option<(u64, Written)>,
    /// Reports on tasks of other nodes so far.
    foreign_reports: u64,
}

/// How a session ends.
enum End {
    /// The agent stops on purpose, perhaps for good.
    Goodbye { leaving: bool },
    /// The connection is gone.
    Gone,
    /// This side ends it.
    Told(Status),
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        Self::Told(status)
    }
}

impl Session {
    pub(crate) fn new(
        term: Arc<Term>,
        node: NodeId,
        key: SessionKey,
        mailbox: Arc<Mailbox>,
        outgoing: mpsc::Sender<Result<wire::ManagerMessage, Status>>,
        seal_key: Option<SealKey>,
    ) -> Self {
        let assignments = Assignments::new(node);
        let fetches = Fetches::new(term.secret_drivers.clone(), mailbox.clone());
        Self {
            term,
            node,
            key,
            mailbox,
            outgoing,
            assignments,
            reach: SentReach::default(),
            contents: Contents::new(node, seal_key, fetches),
            checks: Checks::default(),
            told: Told::default(),
            batch: None,
            foreign_reports: 0,
        }
    }

    /// Runs until the agent goes or is sent away, and notes which of the two.
    pub(crate) async fn run(mut self, mut incoming: Streaming<wire::AgentMessage>) {
        let mailbox = self.mailbox.clone();
        let end = tokio::select! {
            biased;
            status = mailbox.ended() => End::Told(status),
            end = self.hold(&mut incoming) => end,
        };
        let (now, grace) = (Instant::now(), self.term.disconnect_grace());
        match end {
            End::Goodbye { leaving } => {
                tracing::info!(node = %self.node, leaving, "node said goodbye");
                self.term
                    .liveness()
                    .goodbye(self.node, self.key, now, leaving);
            }
            End::Gone => {
                tracing::info!(node = %self.node, "connection to node lost");
                self.term.liveness().broken(self.node, self.key, now, grace);
            }
            End::Told(status) => {
                tracing::info!(node = %self.node, reason = status.message(), "session ended");
                self.term.liveness().broken(self.node, self.key, now, grace);
                // An agent that does not read learns it from the end of the stream.
                drop(self.outgoing.try_send(Err(status)));
            }
        }
        self.term.suspicion().forget(self.node, self.key);
        self.term.sooner.notify_one();
    }

    async fn hold(&mut self, incoming: &mut Streaming<wire::AgentMessage>) -> End {
        if let Err(end) = self.greet().await {
            return end;
        }
        let mailbox = self.mailbox.clone();
        loop {
            let result = tokio::select! {
                message = incoming.message() => match message {
                    Ok(Some(message)) => self.hear(message).await,
                    Ok(None) | Err(_) => Err(End::Gone),
                },
                dirty = mailbox.next() => self.tell(dirty).await,
                () = self.checks.due() => self.check().await,
                ack = stored(&mut self.batch) => self.acknowledge(ack).await,
            };
            if let Err(end) = result {
                return end;
            }
        }
    }

    async fn greet(&mut self) -> Result<(), End> {
        let started = wire::SessionStarted {
            session_id: session_id(&mut RandomIds),
            heartbeat_period: nanos(self.term.heartbeat_period()),
        };
        self.send(manager_message::Message::Started(started))
            .await?;
        self.tell(Dirty {
            all: true,
            ..Dirty::default()
        })
        .await
    }

    /// Goes on with checking the node's networks.
    async fn check(&mut self) -> Result<(), End> {
        let state = self.term.store.state();
        let mut next = self.checks.look(&self.reach, &state, self.node);
        if let Next::Tell(missed) = &next {
            let texts = missed.texts();
            tracing::error!(node = %self.node, ?texts, "a node was not told of changes");
            let mut dirty = Dirty::default();
            missed.mark(&mut dirty.reach);
            self.tell(dirty).await?;
            let Next::Tell(missed) = next else {
                return Ok(());
            };
            next = self.checks.ask(missed, &self.reach);
        }
        match next {
            Next::Ask(order) => {
                self.send(manager_message::Message::CheckNetworks(order))
                    .await
            }
            Next::Wait | Next::Tell(_) => Ok(()),
        }
    }

    async fn checked(&mut self, answer: wire::NetworksChecked) -> Result<(), End> {
        if self.checks.answer(answer) {
            return Ok(());
        }
        tracing::error!(node = %self.node, "a node holds other records than it was told");
        self.tell(Dirty {
            all: true,
            ..Dirty::default()
        })
        .await
    }

    /// Sends what the agent does not know yet. Everything is read from the state as it is now, so
    /// whatever happened meanwhile goes into the same message.
    async fn tell(&mut self, dirty: Dirty) -> Result<(), End> {
        if dirty.call {
            let call = wire::HeartbeatCall {};
            self.send(manager_message::Message::Call(call)).await?;
        }
        if dirty.check {
            self.checks.wait_for(self.mailbox.take_checks());
        }
        let state = self.term.store.state();
        if (dirty.node || dirty.all)
            && let Some(notice) = self.told.update(&state, self.node)
        {
            self.send(manager_message::Message::Node(notice)).await?;
        }
        let reach = self.reach(&state, dirty.all, dirty.reach);
        let set = if dirty.all {
            let mut around = self.contents.complete(&state);
            around.updates.extend(reach);
            Some(self.assignments.complete(&state, around))
        } else {
            let mut around = self.contents.incremental(&state, &dirty.tasks);
            around.updates.extend(reach);
            self.assignments.incremental(&state, &dirty.tasks, around)
        };
        match set {
            Some(set) => self.send(manager_message::Message::Assignments(set)).await,
            None => Ok(()),
        }
    }

    /// What has to be said of networks and whoever is on them.
    fn reach(&mut self, before: &State, all: bool, dirty: DirtyReach) -> Vec<AssignmentChange> {
        if all || dirty.interest {
            let on = reach::interest(before, self.node);
            self.mailbox.set_on(&on);
            // Read once more, see `set_on`.
            let state = self.term.store.state();
            if all {
                return self.reach.complete(&state, self.node, on);
            }
            return self.reach.incremental(&state, self.node, on, dirty);
        }
        let on = self.reach.on().clone();
        self.reach.incremental(before, self.node, on, dirty)
    }

    async fn hear(&mut self, message: wire::AgentMessage) -> Result<(), End> {
        match message.message {
            Some(agent_message::Message::Heartbeat(wire::Heartbeat {})) => self.heartbeat().await,
            Some(agent_message::Message::Statuses(batch)) => self.take(batch).await,
            Some(agent_message::Message::Description(description)) => {
                self.redescribe(description).await
            }
            Some(agent_message::Message::LostPeers(lost)) => self.suspect(&lost),
            Some(agent_message::Message::Goodbye(wire::Goodbye { leaving })) => {
                Err(End::Goodbye { leaving })
            }
            Some(agent_message::Message::NetworksChecked(answer)) => self.checked(answer).await,
            Some(agent_message::Message::Register(_)) => {
                Err(Status::invalid_argument("the session is registered already").into())
            }
            // A newer agent says more than this release knows.
            None => Ok(()),
        }
    }

    async fn heartbeat(&mut self) -> Result<(), End> {
        let period = self.term.heartbeat_period();
        let is_current =
            self.term
                .liveness()
                .heartbeat(self.node, self.key, Instant::now(), period);
        if !is_current {
            return Err(Status::invalid_argument("session invalid").into());
        }
        self.term.suspicion().heard(self.node);
        let ack = wire::HeartbeatAck {
            heartbeat_period: nanos(period),
        };
        self.send(manager_message::Message::Heartbeat(ack)).await
    }

    /// Notes whom the node's gossip holds for lost. Nodes nobody knows are no harm: they are passed
    /// over when the reports are looked at.
    fn suspect(&self, lost: &wire::LostPeers) -> Result<(), End> {
        if lost.node_ids.len() > PEERS_MAX {
            return Err(Status::invalid_argument("too many lost peers in one report").into());
        }
        let ids = lost.node_ids.iter().map(|id| id.parse::<NodeId>());
        let ids: Result<BTreeSet<NodeId>, _> = ids.collect();
        let ids = ids.map_err(|e| Status::invalid_argument(format!("the id of a lost peer: {e}")));
        self.term.suspicion().report(self.node, self.key, ids?);
        self.term.sooner.notify_one();
        Ok(())
    }

    async fn take(&mut self, batch: wire::StatusBatch) -> Result<(), End> {
        if self.batch.is_some() {
            let why = "a batch came before the one before was acknowledged";
            return Err(Status::invalid_argument(why).into());
        }
        let reports::Checked { actions, foreign } =
            reports::check(&self.term.store.state(), self.node, batch.reports)?;
        self.count_foreign(foreign);
        if actions.is_empty() {
            return self.acknowledge(Ok(batch.sequence)).await;
        }
        self.batch = Some((batch.sequence, self.term.writer.write(actions).await));
        Ok(())
    }

    /// A node that reports on tasks of others is broken or hostile: worth a line, not one for each.
    fn count_foreign(&mut self, foreign: u64) {
        let before = self.foreign_reports;
        self.foreign_reports += foreign;
        if before.checked_ilog2() != self.foreign_reports.checked_ilog2() {
            tracing::warn!(
                node = %self.node,
                dropped = self.foreign_reports,
                "a node reports on tasks that are not its own"
            );
        }
    }

    async fn acknowledge(&mut self, ack: Result<u64, Status>) -> Result<(), End> {
        let sequence = ack?;
        self.send(manager_message::Message::Ack(wire::StatusAck { sequence }))
            .await
    }

    async fn redescribe(
        &mut self,
        description: proto::objects::NodeDescription,
    ) -> Result<(), End> {
        let mut description = description_of(description)?;
        let state = self.term.store.state();
        wireguard_keys::keep_own(&mut description, self.node, &state);
        if let Some(node) = state.node(self.node)
            && node.description.as_ref() != Some(&description)
        {
            let status = node.status.clone();
            let action = Action::NodeStatus {
                node: self.node,
                status,
                description: Some(description),
            };
            // Should it fail, leadership is going and the node registers elsewhere.
            drop(self.term.writer.write(vec![action]).await);
        }
        Ok(())
    }

    /// Sends one message. While the agent does not read this waits, and no heartbeat is taken: a
    /// node whose connection moves nothing expires.
    async fn send(&self, message: manager_message::Message) -> Result<(), End> {
        let message = wire::ManagerMessage {
            message: Some(message),
        };
        self.outgoing.send(Ok(message)).await.map_err(|_| End::Gone)
    }
}

/// Waits until the batch is stored; for ever when there is none. Cancel-safe.
async fn stored(batch: &mut Option<(u64, Written)>) -> Result<u64, Status> {
    let Some((sequence, written)) = batch else {
        return std::future::pending().await;
    };
    let result = written.await;
    let sequence = *sequence;
    *batch = None;
    match result {
        Ok(Ok(())) => Ok(sequence),
        Ok(Err(error)) => Err(unwritten(error)),
        Err(_) => Err(Status::unavailable("the manager lost leadership")),
    }
}

/// A name for people who compare logs of both sides.
fn session_id(ids: &mut dyn IdSource) -> String {
    format!("{:032x}", u128::from_be_bytes(ids.bytes()))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
