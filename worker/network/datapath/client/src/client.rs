//! The handle the daemon's other parts hold.

use crate::service::{Command, Service};
use crate::{
    BoundPorts, Error, GossipView, NetworkRecords, PeerStates, ProgramSource, RecordSet, SandboxId,
    SandboxView, Status,
};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};
use types::NetworkId;

/// Commands that may wait for the service.
const COMMANDS_MAX: usize = 256;

/// Settings of a [`Datapath`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The program of the process.
    pub program: ProgramSource,
    /// Where the process is found: a path in a directory that exists, one per node.
    pub socket: PathBuf,
}

/// Says what the datapath process is to do. Clones share everything.
///
/// What was said once holds until it is changed, whichever of the two processes is replaced
/// meanwhile. Each method returns once the process has done it; dropping the future takes nothing
/// back.
#[derive(Debug, Clone)]
pub struct Datapath {
    commands: mpsc::Sender<Command>,
    peers: watch::Receiver<PeerStates>,
    connections: watch::Receiver<u64>,
}

impl Datapath {
    /// A handle, and the service behind it, which is to be run.
    ///
    /// The process is looked for at once, and started with the first sandbox, gossip or tunnel. One of
    /// another release than the given program is replaced by it; its questions are not lost.
    #[must_use]
    pub fn new(options: Options) -> (Self, Service) {
        let (commands, queue) = mpsc::channel(COMMANDS_MAX);
        let (events, peers) = watch::channel(PeerStates::new());
        let (made, connections) = watch::channel(0);
        let service = Service::new(options, queue, events, made);
        let handle = Self {
            commands,
            peers,
            connections,
        };
        (handle, service)
    }

    /// Has names answered in a sandbox, at [`crate::DNS_ADDRESS`], as its view says. A sandbox that
    /// is known is given a new view; if its namespace is another one, it is answered there.
    ///
    /// # Errors
    /// When the process cannot be reached, or cannot listen in the namespace.
    pub async fn set_sandbox(
        &self,
        id: SandboxId,
        namespace: Arc<OwnedFd>,
        view: SandboxView,
    ) -> Result<BoundPorts, Error> {
        self.ask(|reply| Command::SetSandbox {
            id,
            namespace,
            view,
            reply,
        })
        .await
    }

    /// Stops answering in a sandbox, and lets go of its namespace. One that is not known is fine.
    ///
    /// # Errors
    /// When the process cannot be told; it is told later.
    pub async fn remove_sandbox(&self, id: SandboxId) -> Result<(), Error> {
        self.ask(|reply| Command::RemoveSandbox { id, reply }).await
    }

    /// Says what all names of a network are. Only the differences are passed on.
    ///
    /// # Errors
    /// When the process cannot be told; it is told later.
    pub async fn set_network(&self, records: NetworkRecords) -> Result<(), Error> {
        self.ask(|reply| Command::SetNetwork { records, reply })
            .await
    }

    /// Changes some record sets of a network that was set before.
    ///
    /// # Errors
    /// When the process cannot be told; it is told later.
    pub async fn update_network(
        &self,
        network: NetworkId,
        sets: Vec<RecordSet>,
        removed: Vec<String>,
    ) -> Result<(), Error> {
        self.ask(|reply| Command::UpdateNetwork {
            network,
            sets,
            removed,
            reply,
        })
        .await
    }

    /// Forgets a network's names.
    ///
    /// # Errors
    /// When the process cannot be told; it is told later.
    pub async fn remove_network(&self, network: NetworkId) -> Result<(), Error> {
        self.ask(|reply| Command::RemoveNetwork { network, reply })
            .await
    }

    /// Says whom to gossip with and with which keys.
    ///
    /// # Errors
    /// When the process cannot be reached or cannot listen at the address.
    pub async fn set_gossip(&self, view: GossipView) -> Result<(), Error> {
        self.ask(|reply| Command::SetGossip { view, reply }).await
    }

    /// Ends gossip: the node leaves its cluster.
    ///
    /// # Errors
    /// When the process cannot be told; it is told later.
    pub async fn clear_gossip(&self) -> Result<(), Error> {
        self.ask(Command::ClearGossip).await
    }

    /// Says which encrypted networks to carry, with whom and with which keys; without networks
    /// nothing is carried. What was said before holds until then, also what another daemon said.
    ///
    /// # Errors
    /// When the process cannot be reached, cannot have the port, or cannot make a device; what it
    /// can carry it carries.
    pub async fn set_tunnel(&self, desired: Arc<tunnel::Desired>) -> Result<(), Error> {
        self.ask(|reply| Command::SetTunnel { desired, reply })
            .await
    }

    /// Says that everything that is to be has been said: sandboxes and networks of a daemon before
    /// this one that were not named again end now. Its gossip goes on until it is set or cleared:
    /// whom to gossip with is known only once managers were reached, and whoever falls silent until
    /// then is held for dead.
    ///
    /// # Errors
    /// When the process cannot be told; it is told later.
    pub async fn complete(&self) -> Result<(), Error> {
        self.ask(Command::Complete).await
    }

    /// Says everything again, to a process that was found to serve something else.
    ///
    /// # Errors
    /// When the process cannot be told; it is told later.
    pub async fn repeat(&self) -> Result<(), Error> {
        self.ask(Command::Repeat).await
    }

    /// What the process serves. `None` when there is none, as nothing is to be served.
    ///
    /// # Errors
    /// When the process cannot be asked.
    pub async fn status(&self) -> Result<Option<Status>, Error> {
        self.ask(Command::Status).await
    }

    /// Ends the process and forgets everything that was said: for a node that leaves.
    ///
    /// # Errors
    /// When the process cannot be told.
    pub async fn end(&self) -> Result<(), Error> {
        self.ask(Command::End).await
    }

    /// What gossip knows about the peers of the view that was set, as it changes.
    #[must_use]
    pub fn peers(&self) -> watch::Receiver<PeerStates> {
        self.peers.clone()
    }

    /// How often a process was found or started: another one begins anew with what is not handed
    /// over to it.
    #[must_use]
    pub fn connections(&self) -> watch::Receiver<u64> {
        self.connections.clone()
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Command,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let sent = self.commands.send(command(reply)).await;
        sent.map_err(|_| Error::Ended)?;
        answer.await.map_err(|_| Error::Ended)?
    }
}
