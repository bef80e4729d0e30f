//! Gossip on a real socket in real time.

use super::identity::Identity;
use super::seal::{KeyRing, ShortKeyError};
use super::swim::{Alarm, Effect, Swim};
use datapath_client::{GossipView, Peer, PeerStates};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use types::{NodeId, Timestamp};

/// Packets dealt with before something else has its turn.
const BATCH_MAX: usize = 32;

/// Bytes of a packet; longer ones are nobody's.
const BUFFER_BYTES: usize = 2048;

/// Changes that may wait; each replaces all before it.
const CHANGES_MAX: usize = 8;

/// Why gossip cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key is of no use.
    #[error(transparent)]
    Key(#[from] ShortKeyError),
    /// The socket cannot be had.
    #[error("await gossip at {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// Too many changes at once.
    #[error("gossip is busy with earlier changes")]
    Busy,
}

/// Gossip that runs until this is dropped.
pub struct Gossip {
    node: NodeId,
    listen: SocketAddr,
    advertise: SocketAddr,
    changes: mpsc::Sender<(Vec<Peer>, KeyRing)>,
    view: GossipView,
    socket: OwnedFd,
    _end: DropGuard,
}

/// What runs.
struct Service {
    swim: Swim,
    keys: KeyRing,
    socket: UdpSocket,
    random: StdRng,
    /// When to call back; the order tells equal moments apart.
    alarms: BinaryHeap<Reverse<(Instant, u64)>>,
    waiting: std::collections::HashMap<u64, Alarm>,
    order: u64,
    states: watch::Sender<PeerStates>,
}

impl Gossip {
    /// Begins to gossip as a view says. What is known about the peers goes to `states`.
    ///
    /// # Errors
    /// When a key is too short, or the address cannot be listened at.
    pub fn start(
        view: GossipView,
        socket: Option<OwnedFd>,
        seed: [u8; 32],
        states: watch::Sender<PeerStates>,
        tasks: &TaskTracker,
    ) -> Result<Self, Error> {
        let keys = KeyRing::new(&view.keys)?;
        let listen = |source| Error::Listen {
            address: view.listen,
            source,
        };
        let socket = match socket {
            Some(socket) => std::net::UdpSocket::from(socket),
            None => std::net::UdpSocket::bind(view.listen).map_err(listen)?,
        };
        socket.set_nonblocking(true).map_err(listen)?;
        let copy = socket.as_fd().try_clone_to_owned().map_err(listen)?;
        let socket = UdpSocket::from_std(socket).map_err(listen)?;
        // In milliseconds since 1970: ahead of every earlier process on this node.
        let since = Timestamp::now().since(Timestamp::default());
        let generation = u64::try_from(since.as_millis()).unwrap_or_default();
        let identity = Identity::new(view.node, generation, view.advertise);
        let mut random = StdRng::from_seed(seed);
        let mut swim = Swim::new(identity, random.random());
        swim.set_peers(&view.peers);
        let (changes, queue) = mpsc::channel(CHANGES_MAX);
        let end = CancellationToken::new();
        let service = Service {
            swim,
            keys,
            socket,
            random,
            alarms: BinaryHeap::new(),
            waiting: std::collections::HashMap::new(),
            order: 0,
            states,
        };
        let token = end.clone();
        tasks.spawn_local(async move {
            tokio::select! {
                () = token.cancelled() => {}
                () = service.run(queue) => {}
            }
        });
        Ok(Self {
            node: view.node,
            listen: view.listen,
            advertise: view.advertise,
            changes,
            view,
            socket: copy,
            _end: end.drop_guard(),
        })
    }

    /// Whether the view differs in peers and keys at most, so that gossip can go on.
    #[must_use]
    pub fn fits(&self, view: &GossipView) -> bool {
        (self.node, self.listen, self.advertise) == (view.node, view.listen, view.advertise)
    }

    /// Takes new peers and keys.
    ///
    /// # Errors
    /// When a key is too short.
    pub fn change(&mut self, view: GossipView) -> Result<(), Error> {
        let keys = KeyRing::new(&view.keys)?;
        let change = (view.peers.clone(), keys);
        self.changes.try_send(change).map_err(|_| Error::Busy)?;
        self.view = view;
        Ok(())
    }

    /// What it was told last.
    #[must_use]
    pub fn view(&self) -> &GossipView {
        &self.view
    }

    /// Its socket, for a successor.
    ///
    /// # Errors
    /// When it cannot be duplicated.
    pub fn socket(&self) -> std::io::Result<OwnedFd> {
        self.socket.try_clone()
    }
}

impl Service {
    async fn run(mut self, mut changes: mpsc::Receiver<(Vec<Peer>, KeyRing)>) {
        self.carry_out();
        loop {
            let next = self.alarms.peek().map(|Reverse((at, _))| *at);
            tokio::select! {
                change = changes.recv() => {
                    let Some((peers, keys)) = change else { return };
                    self.keys = keys;
                    self.swim.set_peers(&peers);
                }
                readable = self.socket.readable() => {
                    if readable.is_err() {
                        return;
                    }
                    self.take_packets();
                }
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                    self.call_back();
                }
            }
            self.carry_out();
        }
    }

    fn take_packets(&mut self) {
        let mut buffer = [0; BUFFER_BYTES];
        for _ in 0..BATCH_MAX {
            match self.socket.try_recv_from(&mut buffer) {
                Ok((length, _)) => {
                    if let Some(content) = self.keys.open(&buffer[..length]) {
                        self.swim.receive(&content);
                    }
                }
                // Told of an earlier packet that nobody was there for.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(_) => return,
            }
        }
    }

    fn call_back(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((at, order))) = self.alarms.peek().copied()
            && at <= now
        {
            self.alarms.pop();
            if let Some(alarm) = self.waiting.remove(&order) {
                self.swim.call_back(alarm);
            }
        }
    }

    fn carry_out(&mut self) {
        let now = Instant::now();
        for effect in self.swim.take_effects() {
            match effect {
                Effect::Send(to, content) => {
                    if let Some(packet) = self.keys.seal(&content, &mut self.random) {
                        // A packet that cannot be sent is one that is lost.
                        let _ = self.socket.try_send_to(&packet, to);
                    }
                }
                Effect::CallBack(after, alarm) => {
                    self.order += 1;
                    self.alarms.push(Reverse((now + after, self.order)));
                    self.waiting.insert(self.order, alarm);
                }
            }
        }
        if let Some(states) = self.swim.take_news() {
            self.states.send_if_modified(|known| {
                let is_new = *known != states;
                *known = states;
                is_new
            });
        }
    }
}
