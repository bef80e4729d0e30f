//! Answers what arrives in the sandboxes.

use super::answer::{self, Outcome, Transport};
use super::forward::{Forwarder, Limits};
use super::{Sockets, Zone, tcp};
use crate::namespace::Identity;
use datapath_client::{BoundPorts, SandboxId, SandboxView};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Packets of one sandbox that are dealt with before others have their turn.
const BATCH_MAX: usize = 32;

/// Bytes of a packet with a question; longer ones are none.
const QUESTION_BYTES_MAX: usize = 4096;

/// DNS for all sandboxes of the node. Clones share everything.
#[derive(Clone)]
pub struct Server {
    shared: Rc<Shared>,
}

/// What all sandboxes share.
pub(super) struct Shared {
    pub(super) zone: RefCell<Zone>,
    random: RefCell<StdRng>,
    buffer: RefCell<Vec<u8>>,
    sandboxes: RefCell<BTreeMap<SandboxId, Rc<Sandbox>>>,
    limits: Limits,
    /// Everything that runs.
    tasks: TaskTracker,
    pub(super) counts: Counts,
}

/// Questions since the start.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) answered: Cell<u64>,
    pub(super) forwarded: Cell<u64>,
    pub(super) failed: Cell<u64>,
}

/// A sandbox in which questions are answered.
pub(super) struct Sandbox {
    view: RefCell<SandboxView>,
    forwarder: RefCell<Rc<Forwarder>>,
    namespace: Rc<OwnedFd>,
    identity: Identity,
    ports: BoundPorts,
    udp: UdpSocket,
    pub(super) tcp: TcpListener,
    pub(super) connections: Cell<usize>,
    /// Ends what listens; what was asked before is still answered.
    pub(super) end: CancellationToken,
}

/// What another process needs to go on in a sandbox.
pub struct HandedOver {
    /// Its id.
    pub id: SandboxId,
    /// Its view.
    pub view: SandboxView,
    /// Its namespace, its UDP socket and its TCP listener.
    pub descriptors: [OwnedFd; 3],
}

pub(super) fn count(counter: &Cell<u64>) {
    counter.set(counter.get().wrapping_add(1));
}

impl Server {
    /// A server without sandboxes. Its order of answers follows from the seed.
    #[must_use]
    pub fn new(seed: [u8; 32]) -> Self {
        Self {
            shared: Rc::new(Shared {
                zone: RefCell::default(),
                random: RefCell::new(StdRng::from_seed(seed)),
                buffer: RefCell::new(vec![0; QUESTION_BYTES_MAX]),
                sandboxes: RefCell::default(),
                limits: Limits::default(),
                tasks: TaskTracker::new(),
                counts: Counts::default(),
            }),
        }
    }

    /// The names that are answered.
    #[must_use]
    pub fn zone(&self) -> &RefCell<Zone> {
        &self.shared.zone
    }

    /// Answers in a sandbox as a view says. A known one keeps its sockets, unless it has another
    /// namespace or port now.
    ///
    /// # Errors
    /// When the namespace cannot be entered, or the port is taken in it.
    pub fn set(
        &self,
        id: SandboxId,
        view: SandboxView,
        namespace: OwnedFd,
    ) -> io::Result<BoundPorts> {
        let identity = Identity::of(&namespace)?;
        let known = self.shared.sandboxes.borrow().get(&id).cloned();
        if let Some(known) = known
            && known.identity == identity
            && (view.dns_port == 0 || known.has_port(view.dns_port))
        {
            known.set_view(view, &self.shared.limits);
            return Ok(known.ports);
        }
        // Lets go of its port first.
        self.remove(&id);
        let sockets = Sockets::open(&namespace, view.dns_port)?;
        self.add(id, view, namespace, sockets)
    }

    /// Answers in a sandbox on sockets that are there already.
    ///
    /// # Errors
    /// When the sockets are of no use.
    pub fn add(
        &self,
        id: SandboxId,
        view: SandboxView,
        namespace: OwnedFd,
        sockets: Sockets,
    ) -> io::Result<BoundPorts> {
        let namespace = Rc::new(namespace);
        let forwarder = Forwarder::new(&view.forwarding, &namespace, &self.shared.limits);
        let sandbox = Rc::new(Sandbox {
            identity: Identity::of(&namespace)?,
            forwarder: RefCell::new(Rc::new(forwarder)),
            view: RefCell::new(view),
            namespace,
            ports: sockets.ports()?,
            udp: UdpSocket::from_std(sockets.udp)?,
            tcp: TcpListener::from_std(sockets.tcp)?,
            connections: Cell::new(0),
            end: CancellationToken::new(),
        });
        let ports = sandbox.ports;
        for is_udp in [true, false] {
            let (shared, sandbox) = (Rc::clone(&self.shared), Rc::clone(&sandbox));
            self.shared.tasks.spawn_local(async move {
                let end = sandbox.end.clone();
                let serve = async {
                    if is_udp {
                        shared.serve_udp(&sandbox).await;
                    } else {
                        tcp::serve(&shared, &sandbox).await;
                    }
                };
                tokio::select! {
                    biased;
                    () = end.cancelled() => {}
                    () = serve => {}
                }
            });
        }
        let before = self.shared.sandboxes.borrow_mut().insert(id, sandbox);
        if let Some(before) = before {
            before.end.cancel();
        }
        Ok(ports)
    }

    /// Stops answering in a sandbox.
    pub fn remove(&self, id: &SandboxId) {
        if let Some(sandbox) = self.shared.sandboxes.borrow_mut().remove(id) {
            sandbox.end.cancel();
        }
    }

    /// The sandboxes, in order.
    #[must_use]
    pub fn sandboxes(&self) -> Vec<SandboxId> {
        self.shared.sandboxes.borrow().keys().cloned().collect()
    }

    /// Stops listening and gives away what another process needs to go on. Questions that wait in
    /// the sockets wait for it; those taken up already are answered by this process.
    ///
    /// # Errors
    /// When descriptors cannot be duplicated.
    pub fn hand_over(&self) -> io::Result<Vec<HandedOver>> {
        let sandboxes = self.shared.sandboxes.borrow();
        let hand_over = |(id, sandbox): (&SandboxId, &Rc<Sandbox>)| {
            sandbox.end.cancel();
            let copy = |fd: std::os::fd::BorrowedFd<'_>| fd.try_clone_to_owned();
            use std::os::fd::AsFd;
            Ok(HandedOver {
                id: id.clone(),
                view: sandbox.view.borrow().clone(),
                descriptors: [
                    copy(sandbox.namespace.as_fd())?,
                    copy(sandbox.udp.as_fd())?,
                    copy(sandbox.tcp.as_fd())?,
                ],
            })
        };
        sandboxes.iter().map(hand_over).collect()
    }

    /// Waits until everything taken up is answered, after [`Self::hand_over`].
    pub async fn finish(&self) {
        self.shared.sandboxes.borrow_mut().clear();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    /// Questions answered, forwarded and failed since the start.
    #[must_use]
    pub fn counts(&self) -> (u64, u64, u64) {
        let Counts {
            answered,
            forwarded,
            failed,
        } = &self.shared.counts;
        (answered.get(), forwarded.get(), failed.get())
    }
}

impl Sandbox {
    fn has_port(&self, port: u16) -> bool {
        self.ports.udp == port && self.ports.tcp == port
    }

    fn set_view(&self, view: SandboxView, limits: &Limits) {
        if self.view.borrow().forwarding != view.forwarding {
            let forwarder = Forwarder::new(&view.forwarding, &self.namespace, limits);
            self.forwarder.replace(Rc::new(forwarder));
        }
        self.view.replace(view);
    }
}

impl Shared {
    /// What is to be done about a packet of a sandbox.
    pub(super) fn answer(&self, sandbox: &Sandbox, packet: &[u8], transport: Transport) -> Outcome {
        let outcome = answer::answer(
            packet,
            transport,
            &sandbox.view.borrow(),
            &self.zone.borrow(),
            &mut *self.random.borrow_mut(),
        );
        match &outcome {
            Outcome::Reply(_) => count(&self.counts.answered),
            Outcome::Ignore => count(&self.counts.failed),
            Outcome::Forward => {}
        }
        outcome
    }

    /// The answer of another server, or a failure.
    pub(super) async fn forward(
        &self,
        forwarder: &Forwarder,
        packet: &[u8],
        transport: Transport,
    ) -> Outcome {
        if let Some(permit) = forwarder.admit() {
            // Forks the randomness, which cannot be borrowed while waiting.
            let mut random = StdRng::from_rng(&mut *self.random.borrow_mut());
            let asked = forwarder.ask(packet, transport, &mut random, &permit);
            if let Some(reply) = asked.await {
                count(&self.counts.forwarded);
                return Outcome::Reply(reply);
            }
        }
        count(&self.counts.failed);
        answer::failure(packet)
    }

    pub(super) fn forwarder(sandbox: &Sandbox) -> Rc<Forwarder> {
        Rc::clone(&sandbox.forwarder.borrow())
    }

    pub(super) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    async fn serve_udp(self: &Rc<Self>, sandbox: &Rc<Sandbox>) {
        while sandbox.udp.readable().await.is_ok() {
            for _ in 0..BATCH_MAX {
                if !self.take_packet(sandbox) {
                    break;
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// Deals with one packet. Returns whether there was any.
    fn take_packet(self: &Rc<Self>, sandbox: &Rc<Sandbox>) -> bool {
        let mut buffer = self.buffer.borrow_mut();
        let (length, from) = match sandbox.udp.try_recv_from(&mut buffer) {
            Ok(received) => received,
            // Told of an earlier answer that nobody was there for any more.
            Err(error) => return error.kind() == ErrorKind::ConnectionRefused,
        };
        match self.answer(sandbox, &buffer[..length], Transport::Udp) {
            // Who does not read its answers does without.
            Outcome::Reply(reply) => drop(sandbox.udp.try_send_to(&reply, from)),
            Outcome::Ignore => {}
            Outcome::Forward => {
                let packet = buffer[..length].to_vec();
                let (shared, sandbox) = (Rc::clone(self), Rc::clone(sandbox));
                let forwarder = Self::forwarder(&sandbox);
                self.tasks.spawn_local(async move {
                    let outcome = shared.forward(&forwarder, &packet, Transport::Udp).await;
                    if let Outcome::Reply(reply) = outcome {
                        let _ = sandbox.udp.try_send_to(&reply, from);
                    }
                });
            }
        }
        true
    }
}
