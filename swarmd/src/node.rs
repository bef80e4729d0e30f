//! One node's part in a swarm, from joining to leaving: its agent, its manager side, its certificate.
//!
//! One actor owns all of it and does one thing at a time, so a role change cannot meet a leave. The
//! agent is never restarted for a role change: tasks run on.

mod actor;

pub(crate) use actor::listen;

use std::sync::Arc;
use std::time::Duration;

use agent::NodeNotice;
use ca::{Identity, NodeFiles, Tls};
use executor::Executor;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::TaskTracker;

use crate::manager_side::Begin;
use crate::options::RaftTiming;
use crate::state_dir::{Settings, StateDir};
use crate::switch::ControlSwitch;
use crate::{Error, View};

/// Orders that may wait for the actor.
const COMMANDS_MAX: usize = 4;

/// What every node of this daemon works with.
pub(crate) struct Environment {
    pub(crate) state_dir: StateDir,
    pub(crate) files: NodeFiles,
    pub(crate) executor: Arc<dyn Executor>,
    pub(crate) control: ControlSwitch,
    pub(crate) view: watch::Sender<View>,
    pub(crate) timing: RaftTiming,
    pub(crate) cert_expiry_min: Duration,
    pub(crate) secret_drivers: Arc<dispatcher::SecretDrivers>,
    pub(crate) tasks: TaskTracker,
}

/// How a node begins.
pub(crate) struct Start {
    pub(crate) identity: Identity,
    pub(crate) settings: Settings,
    /// For a manager: how, and the listener, bound beforehand where that is to be told to the user.
    pub(crate) manager: Option<(Begin, TcpListener)>,
}

enum Command {
    Leave {
        force: bool,
        answer: oneshot::Sender<Result<(), Error>>,
    },
    Stop {
        answer: oneshot::Sender<()>,
    },
}

/// Handle on the actor.
pub(crate) struct Node {
    commands: mpsc::Sender<Command>,
}

impl Node {
    /// Starts a node that has just got its identity.
    ///
    /// # Errors
    /// When the manager cannot be started. Nothing runs then.
    pub(crate) async fn start(environment: Arc<Environment>, start: Start) -> Result<Self, Error> {
        let Start {
            identity,
            settings,
            manager,
        } = start;
        let mut actor = actor::Actor::new(environment, identity, settings)?;
        if let Some((begin, listener)) = manager {
            actor.start_manager(begin, listener).await?;
        }
        Ok(Self::run(actor))
    }

    /// Starts a node that was in a swarm before. What does not work is tried again and again.
    ///
    /// # Errors
    /// When the identity does not work for TLS.
    pub(crate) async fn resume(
        environment: Arc<Environment>,
        identity: Identity,
        settings: Settings,
    ) -> Result<Self, Error> {
        let mut actor = actor::Actor::new(environment, identity, settings)?;
        actor.set_known();
        // Boxed: what joining, resuming and renewing hold at once is deep enough without it.
        Box::pin(actor.renew_if_expired()).await;
        actor.adjust().await;
        Ok(Self::run(actor))
    }

    fn run(mut actor: actor::Actor) -> Self {
        let (commands, orders) = mpsc::channel(COMMANDS_MAX);
        actor.publish();
        actor.start_agent();
        let tasks = actor.environment().tasks.clone();
        tasks.spawn(actor.run(orders));
        Self { commands }
    }

    /// Whether the node has left, by order or because it was removed.
    pub(crate) fn is_over(&self) -> bool {
        self.commands.is_closed()
    }

    /// Leaves the swarm and forgets it.
    ///
    /// # Errors
    /// When a manager should not leave without force, or what could not be removed.
    pub(crate) async fn leave(&self, force: bool) -> Result<(), Error> {
        let (answer, answered) = oneshot::channel();
        if self
            .commands
            .send(Command::Leave { force, answer })
            .await
            .is_err()
        {
            return Err(Error::NotMember);
        }
        answered.await.map_err(|_| Error::Stopping)?
    }

    /// Stops everything; containers run on.
    pub(crate) async fn stop(&self) {
        let (answer, answered) = oneshot::channel();
        if self.commands.send(Command::Stop { answer }).await.is_ok() {
            // Without an answer it is gone as well.
            drop(answered.await);
        }
    }
}

/// What the managers said of this node last.
type Notices = watch::Receiver<Option<NodeNotice>>;

/// The node's TLS, made of its identity.
fn tls_of(identity: Identity) -> Result<Tls, Error> {
    Ok(Tls::new(Some(identity))?)
}
