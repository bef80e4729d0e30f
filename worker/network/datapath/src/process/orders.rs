//! What the process was told to do.

use crate::dns::{Server, Sockets};
use crate::encryption::Encryption;
use crate::gossip::Gossip;
use anyhow::{Context, Result, bail};
use datapath_client::message::{
    Ask, Bound, Empty, Network, Owners, Peers, Request, Retain, Sandbox, Set, Status, Tell, Tunnel,
};
use datapath_client::{GossipView, Liveness, NetworkRecords, PeerStates, SandboxId};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::os::fd::OwnedFd;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use types::NetworkId;

/// Everything the process does, and who may change it.
pub(super) struct Orders {
    dns: Server,
    gossip: RefCell<Option<Gossip>>,
    encryption: Encryption,
    /// What gossip runs in.
    tasks: TaskTracker,
    release: String,
    peers: watch::Sender<PeerStates>,
    /// Rank of the connection that came last: the one that is obeyed.
    first: Cell<u64>,
    is_replaced: Cell<bool>,
    end: CancellationToken,
}

impl Orders {
    pub(super) fn new(dns: Server, release: String) -> Self {
        Self {
            dns,
            gossip: RefCell::default(),
            encryption: Encryption::default(),
            tasks: TaskTracker::new(),
            release,
            peers: watch::Sender::new(PeerStates::new()),
            first: Cell::new(0),
            is_replaced: Cell::new(false),
            end: CancellationToken::new(),
        }
    }

    pub(super) fn release(&self) -> &str {
        &self.release
    }

    /// Makes the caller the one that is obeyed, whoever was before.
    pub(super) fn come_first(&self) -> u64 {
        self.first.set(self.first.get() + 1);
        self.first.get()
    }

    pub(super) fn is_first(&self, rank: u64) -> bool {
        self.first.get() == rank
    }

    pub(super) fn peers(&self) -> watch::Receiver<PeerStates> {
        self.peers.subscribe()
    }

    /// Whether containers need the process.
    pub(super) fn is_needed(&self) -> bool {
        !self.dns.sandboxes().is_empty() || self.encryption.is_running()
    }

    /// Ends the process, leaving everything to a successor or to nobody.
    pub(super) fn end(&self) {
        self.end.cancel();
    }

    pub(super) fn be_replaced(&self) {
        self.is_replaced.set(true);
        self.end();
    }

    pub(super) fn is_replaced(&self) -> bool {
        self.is_replaced.get()
    }

    pub(super) async fn ended(&self) {
        self.end.cancelled().await;
    }

    /// Keeps the names in step with who lives.
    pub(super) async fn watch_peers(&self) {
        let mut peers = self.peers.subscribe();
        while peers.changed().await.is_ok() {
            let states = peers.borrow_and_update();
            let down = states.iter().filter(|(_, state)| **state == Liveness::Down);
            let down = down.map(|(node, _)| *node).collect();
            self.dns.zone().borrow_mut().set_down(down);
        }
    }

    /// Waits for what was taken up before the end.
    pub(super) async fn finish(&self) {
        drop(self.gossip.take());
        drop(self.encryption.take());
        for id in self.dns.sandboxes() {
            self.dns.remove(&id);
        }
        self.dns.finish().await;
    }

    /// Does what is asked.
    pub(super) fn obey(&self, ask: Ask, descriptors: Vec<OwnedFd>) -> Result<Tell> {
        let done = Ok(Tell::Done(Empty {}));
        match ask {
            Ask::SetSandbox(sandbox) => return self.set_sandbox(&sandbox, descriptors),
            Ask::RemoveSandbox(id) => self.dns.remove(&id.parse()?),
            Ask::SetNetwork(network) => self.set_network(network)?,
            Ask::RemoveNetwork(network) => {
                let network = network.parse()?;
                self.dns.zone().borrow_mut().remove_network(network);
            }
            Ask::SetGossip(gossip) => {
                self.set_gossip((&gossip).try_into()?, descriptors.into_iter().next())?;
            }
            Ask::SetTunnel(tunnel) => self.encryption.set(tunnel.parse()?)?,
            Ask::AdoptDevice(name) => {
                let device = descriptors.into_iter().next();
                let device = device.context("the device's descriptor is missing")?;
                self.encryption.adopt(name, device);
            }
            Ask::Retain(retain) => self.retain(&retain)?,
            Ask::Status(_) => return Ok(Tell::Status(self.status())),
            Ask::End(_) => self.end(),
            Ask::Hello(_) | Ask::HandOver(_) | Ask::TakenOver(_) => {
                bail!("this comes at the beginning of a connection")
            }
        }
        done
    }

    /// Serves a sandbox: with its namespace only, or with the sockets another process had, too.
    fn set_sandbox(&self, sandbox: &Sandbox, descriptors: Vec<OwnedFd>) -> Result<Tell> {
        let (id, view) = sandbox.parse()?;
        let mut descriptors = descriptors.into_iter();
        let namespace = descriptors
            .next()
            .context("the sandbox's namespace is missing")?;
        let bound = match (descriptors.next(), descriptors.next()) {
            (Some(udp), Some(tcp)) => {
                let sockets = Sockets {
                    udp: udp.into(),
                    tcp: tcp.into(),
                };
                self.dns.add(id.clone(), view, namespace, sockets)
            }
            (None, _) | (_, None) => self.dns.set(id.clone(), view, namespace),
        };
        let ports = bound.with_context(|| format!("answer names in sandbox {id}"))?;
        Ok(Tell::Bound(Bound {
            udp: u32::from(ports.udp),
            tcp: u32::from(ports.tcp),
        }))
    }

    fn set_network(&self, mut message: Network) -> Result<()> {
        let removed = std::mem::take(&mut message.removed);
        let retain = message.retain.take();
        let records = message.parse()?;
        let network = records.network;
        let mut zone = self.dns.zone().borrow_mut();
        zone.set(records);
        zone.remove_owners(network, &removed);
        if let Some(Owners { owners }) = retain {
            zone.retain_owners(network, &owners.into_iter().collect());
        }
        Ok(())
    }

    /// Gossips as a view says, on a socket that was another process's, if one is given.
    fn set_gossip(&self, view: GossipView, socket: Option<OwnedFd>) -> Result<()> {
        let mut gossip = self.gossip.borrow_mut();
        if let Some(running) = &mut *gossip
            && running.fits(&view)
        {
            return Ok(running.change(view)?);
        }
        // The socket is kept if only what is said of this node has changed.
        let kept = match &*gossip {
            Some(running) if running.view().listen == view.listen => Some(running.socket()?),
            Some(_) | None => None,
        };
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)?;
        let states = self.peers.clone();
        let started = Gossip::start(view, socket.or(kept), seed, states, &self.tasks)?;
        *gossip = Some(started);
        Ok(())
    }

    fn retain(&self, retain: &Retain) -> Result<()> {
        let sandboxes: HashSet<SandboxId> = parse_all(&retain.sandboxes)?;
        let networks: HashSet<NetworkId> = parse_all(&retain.networks)?;
        for id in self.dns.sandboxes() {
            if !sandboxes.contains(&id) {
                self.dns.remove(&id);
            }
        }
        if !retain.gossip {
            drop(self.gossip.take());
            self.peers.send_replace(PeerStates::new());
        }
        let mut zone = self.dns.zone().borrow_mut();
        zone.retain_networks(|network| networks.contains(&network));
        Ok(())
    }

    fn status(&self) -> Status {
        let (answered, forwarded, failed) = self.dns.counts();
        let networks = self.dns.zone().borrow().status();
        let network = |network: datapath_client::NetworkStatus| Network {
            id: network.network.to_string(),
            sets: network
                .sets
                .into_iter()
                .map(|(owner, version)| Set {
                    fingerprint: network.fingerprints.get(&owner).copied().unwrap_or(0),
                    owner,
                    version,
                    ..Set::default()
                })
                .collect(),
            ..Network::default()
        };
        Status {
            sandboxes: self
                .dns
                .sandboxes()
                .iter()
                .map(ToString::to_string)
                .collect(),
            networks: networks.into_iter().map(network).collect(),
            peers: Some(Peers::from(&*self.peers.borrow())),
            answered,
            forwarded,
            failed,
            tunnel: self.encryption.status(),
        }
    }

    /// Stops serving and gives away everything another process needs to go on.
    pub(super) fn hand_over(&self) -> Result<Vec<(Request, Vec<OwnedFd>)>> {
        let request = |ask| Request {
            id: 0,
            ask: Some(ask),
        };
        let mut items = Vec::new();
        for records in self.dns.zone().borrow().records() {
            // A message has its limit; a set alone stays below it.
            let NetworkRecords {
                network,
                name,
                sets,
            } = records;
            let message = |sets| Network {
                id: network.to_string(),
                name: name.clone(),
                sets,
                ..Network::default()
            };
            items.push((request(Ask::SetNetwork(message(Vec::new()))), Vec::new()));
            for set in &sets {
                let ask = Ask::SetNetwork(message(vec![Set::from(set)]));
                items.push((request(ask), Vec::new()));
            }
        }
        for sandbox in self.dns.hand_over()? {
            let ask = Ask::SetSandbox(Sandbox::new(&sandbox.id, &sandbox.view));
            items.push((request(ask), sandbox.descriptors.into()));
        }
        if let Some((desired, devices)) = self.encryption.take() {
            for (name, device) in devices {
                items.push((request(Ask::AdoptDevice(name)), vec![device]));
            }
            let ask = Ask::SetTunnel(Tunnel::from(&desired));
            items.push((request(ask), Vec::new()));
        }
        if let Some(gossip) = self.gossip.take() {
            let ask = Ask::SetGossip(gossip.view().into());
            items.push((request(ask), vec![gossip.socket()?]));
        }
        Ok(items)
    }
}

fn parse_all<T: std::str::FromStr + Eq + std::hash::Hash>(texts: &[String]) -> Result<HashSet<T>>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let parsed: Result<_, _> = texts.iter().map(|text| text.parse()).collect();
    Ok(parsed?)
}
